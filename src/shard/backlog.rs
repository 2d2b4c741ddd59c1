//! Tells that inputs wait because too many firings are open, and of which rule most of them are.

use std::collections::HashMap;

use crate::{
    record::{Ledger, RuleRef, RuleUid},
    rule::Engine,
    status::{ObjectRef, Part, StatusQueue, Story},
};

/// The rule that was told of last.
#[derive(Default)]
pub(super) struct Backlog(Option<RuleRef>);

impl Backlog {
    /// Tells what has changed. `held`: whether inputs wait.
    pub(super) fn tell(&mut self, held: bool, ledger: &Ledger, engine: &Engine, status: &StatusQueue) {
        let most = if held { most(ledger, engine) } else { None };
        if let Some(before) = self.0.take_if(|before| most.as_ref().is_none_or(|(rule, _)| rule != before)) {
            status.publish(&before, Part::Backlog(None));
        }
        let Some((rule, open)) = most else { return };
        if self.0.is_none() {
            let all = ledger.len();
            tracing::warn!(%rule, open, all, "too many firings are open: no inputs are taken until some have ended");
            status.event(Story {
                object: ObjectRef::rule(&rule),
                warning: true,
                reason: "Backlog".to_owned(),
                action: "Fire".to_owned(),
                note: format!("{open} of {all} open firings are of this rule: no more events are taken until some have ended; none is lost"),
                times: 1,
            });
            status.publish(&rule, Part::Backlog(Some(open)));
            self.0 = Some(rule);
        }
    }
}

/// The rule that has the most open firings, and how many.
fn most(ledger: &Ledger, engine: &Engine) -> Option<(RuleRef, usize)> {
    let mut of_rule = HashMap::<&RuleUid, usize>::new();
    for (_, brief) in ledger.open() {
        *of_rule.entry(&brief.rule).or_default() += 1;
    }
    let (uid, open) = of_rule.into_iter().max_by_key(|(uid, open)| (*open, *uid))?;
    Some((engine.rule(uid)?.rule.clone(), open))
}
