//! The engine's part in `dedupe`: whether an event is the same again, and what is noted when it is not.

use crate::{
    record::{Decision, RuleUid},
    rule::{cel::Scope, compile::Rule, fault::EvalError, state::State},
};

/// What `dedupe` says to an event.
pub(super) enum Sameness {
    /// The rule does not ask.
    Unasked,
    /// It has another key than those that are known.
    New(u64),
    /// The same again.
    Same,
}

impl Sameness {
    /// What `dedupe` of the rule says to an event of the group.
    ///
    /// # Errors
    /// When its key cannot be told.
    pub(super) fn of(rule: &Rule, state: &State, group: &str, scope: &Scope<'_>, now: i64) -> Result<Self, EvalError> {
        let Some(dedupe) = &rule.dedupe else { return Ok(Self::Unasked) };
        let key = dedupe.key(scope)?;
        Ok(if state.groups.knows_key(group, key, dedupe, now) { Self::Same } else { Self::New(key) })
    }

    /// Adds to what was decided about the event that its key is known from now on, if the rule fired or the trigger took it.
    pub(super) fn noted(self, rule: &RuleUid, group: &str, mut decisions: Vec<Decision>) -> Vec<Decision> {
        let takes = |decision: &Decision| {
            matches!(
                decision,
                Decision::Fired(_)
                    | Decision::Counted { .. }
                    | Decision::Noted { .. }
                    | Decision::Suppressed { occurrence: Some(_), .. }
            )
        };
        if let Self::New(key) = self
            && decisions.iter().any(takes)
        {
            decisions.insert(0, Decision::Passed { rule: rule.clone(), group: group.to_owned(), key });
        }
        decisions
    }
}
