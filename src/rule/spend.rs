//! `throttle.budget`: how many firings within a time.

use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    groups::{MAX_TIMES, micros},
};
use crate::api::{BudgetScope, EventRuleSpec};

/// `throttle.budget`, compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spend {
    pub scope: BudgetScope,
    firings: usize,
    /// In microseconds.
    per: i64,
}

impl Spend {
    /// Compiles the budget of a rule; faults are added with their paths.
    pub(super) fn compile(spec: &EventRuleSpec, faults: &mut Vec<Fault>) -> Option<Self> {
        let throttle = spec.throttle.as_ref()?;
        if throttle.cooldown.is_none() && throttle.budget.is_none() {
            faults.push(Fault::new("spec.throttle", "cooldown or budget must be set"));
        }
        let budget = throttle.budget.as_ref()?;
        if budget.firings == 0 {
            faults.push(Fault::new("spec.throttle.budget.firings", "must be at least 1"));
        }
        if budget.per.get().is_zero() {
            faults.push(Fault::new("spec.throttle.budget.per", "must be longer than 0s"));
        }
        let groups = spec.groups.clone().unwrap_or_default().max();
        let times = u64::from(groups) * u64::from(budget.firings);
        if budget.scope == BudgetScope::Group && times > MAX_TIMES {
            let max = MAX_TIMES / u64::from(budget.firings);
            let message = format!(
                "times groups.max, which is {groups}, makes {times} times to keep; {MAX_TIMES} are allowed: set groups.max to {max} or less"
            );
            faults.push(Fault::new("spec.throttle.budget.firings", message));
        }
        Some(Self { scope: budget.scope, firings: budget.firings as usize, per: micros(budget.per.get()) })
    }
}

/// The times of firings that count, oldest first; at most as many as the budget allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Spent(Vec<i64>);

impl Spent {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the budget allows no firing at `now`.
    pub(super) fn is_spent(&self, budget: &Spend, now: i64) -> bool {
        self.0.iter().filter(|at| at.saturating_add(budget.per) > now).count() >= budget.firings
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// From when on the budget allows a firing.
    pub(super) fn free_at(&self, budget: &Spend) -> i64 {
        let too_many = self.0.len().saturating_sub(budget.firings.saturating_sub(1));
        too_many.checked_sub(1).and_then(|last| self.0.get(last)).map_or(0, |at| at.saturating_add(budget.per))
    }

    /// Notes a firing.
    pub(super) fn spend(&mut self, budget: &Spend, now: i64) {
        self.0.retain(|at| at.saturating_add(budget.per) > now);
        self.0.push(now);
        let too_many = self.0.len().saturating_sub(budget.firings);
        self.0.drain(..too_many);
    }

    /// When none of them counts any more.
    pub(super) fn end(&self, budget: &Spend) -> i64 {
        self.0.last().map_or(0, |last| last.saturating_add(budget.per))
    }
}
