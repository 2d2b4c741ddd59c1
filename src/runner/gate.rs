//! Which firings are carried out while a breaker is tripped. Pure: what the breaker says comes from the engine.

use std::collections::HashMap;

use crate::{
    record::{FiringId, RuleUid},
    rule::Gate,
};

/// The gates of rules that are tripped.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<RuleUid, Gated>);

#[derive(Debug)]
struct Gated {
    gate: Gate,
    /// The firing that is on trial.
    trial: Option<FiringId>,
}

impl Gates {
    /// The engine says so.
    pub(super) fn set(&mut self, rule: RuleUid, gate: Gate) {
        if gate == Gate::Open {
            self.0.remove(&rule);
            return;
        }
        let gated = self.0.entry(rule).or_insert_with(|| Gated { gate: gate.clone(), trial: None });
        if !matches!((&gated.gate, &gate), (Gate::Trial(_), Gate::Trial(_))) {
            gated.trial = None;
        }
        gated.gate = gate;
    }

    /// Whether a firing that has not begun is carried out. The first one that asks after the time has come is on trial.
    pub(super) fn lets(&mut self, rule: &RuleUid, firing: &FiringId) -> bool {
        let Some(Gated { gate, trial }) = self.0.get_mut(rule) else { return true };
        match gate {
            Gate::Open => true,
            Gate::Shut(asked) => asked.contains(firing),
            Gate::Trial(asked) => asked.contains(firing) || trial.get_or_insert_with(|| firing.clone()) == firing,
        }
    }

    /// Whether the firing would be carried out if it asked now.
    pub(super) fn would_let(&self, rule: &RuleUid, firing: &FiringId) -> bool {
        self.0.get(rule).is_none_or(|Gated { gate, trial }| match gate {
            Gate::Open => true,
            Gate::Shut(asked) => asked.contains(firing),
            Gate::Trial(asked) => asked.contains(firing) || trial.as_ref().is_none_or(|trial| trial == firing),
        })
    }

    /// The firing has told nothing: if it was on trial, another one is.
    pub(super) fn release(&mut self, rule: &RuleUid, firing: &FiringId) {
        if let Some(gated) = self.0.get_mut(rule) {
            gated.trial = gated.trial.take().filter(|trial| trial != firing);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_trial_is_one_firing_and_what_somebody_asked_for_is_always_let_through() {
        let (rule, id) = (RuleUid("r".into()), |id: &str| FiringId(id.into()));
        let mut gates = Gates::default();
        assert!(gates.lets(&rule, &id("a")));
        let asked = BTreeSet::from([id("hand")]);
        gates.set(rule.clone(), Gate::Shut(asked.clone()));
        assert_eq!((gates.lets(&rule, &id("a")), gates.lets(&rule, &id("hand"))), (false, true));
        assert_eq!([id("a"), id("hand")].map(|id| gates.would_let(&rule, &id)), [false, true]);
        gates.set(rule.clone(), Gate::Trial(asked));
        assert!(gates.would_let(&rule, &id("c")), "who only asks is not on trial");
        assert_eq!(
            (gates.lets(&rule, &id("hand")), gates.lets(&rule, &id("b")), gates.lets(&rule, &id("c"))),
            (true, true, false)
        );
        assert_eq!([id("b"), id("c")].map(|id| gates.would_let(&rule, &id)), [true, false]);
        gates.set(rule.clone(), Gate::Trial(BTreeSet::new()));
        assert!(!gates.lets(&rule, &id("c")), "b is still on trial");
        gates.release(&rule, &id("c"));
        assert!(!gates.lets(&rule, &id("c")));
        gates.release(&rule, &id("b"));
        assert_eq!((gates.lets(&rule, &id("c")), gates.lets(&rule, &id("d"))), (true, false));
        gates.set(rule.clone(), Gate::Shut(BTreeSet::new()));
        assert!(!gates.lets(&rule, &id("c")), "it has failed");
        gates.set(rule.clone(), Gate::Open);
        assert!(gates.lets(&rule, &id("d")));
    }
}
