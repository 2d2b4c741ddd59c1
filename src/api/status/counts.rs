//! What became of events, in numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts of a rule, since it was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Events that passed a source's filter.
    pub seen: u64,
    /// Events that met every condition too.
    pub matched: u64,
    /// Matching events that did not fire, by reason.
    pub suppressed: Suppressed,
    /// Firings, of all kinds.
    pub fired: u64,
    /// Times that what the rule had fired for has ended.
    #[serde(skip_serializing_if = "is_zero")]
    pub resolved: u64,
    /// Firings of which every action succeeded or was skipped.
    pub succeeded: u64,
    /// Firings of which an action failed for good.
    pub failed: u64,
    /// Of the firings that failed, those that are kept now and can be run again: the last 1,000 of a rule.
    pub dead_lettered: u64,
    /// Firings of which every action would have been done or skipped, with `mode: Observe`.
    pub observed: u64,
    /// Firings that could not begin before `startingDeadline` and were not carried out.
    pub expired: u64,
    /// Expressions that could not be evaluated for an event.
    pub errors: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Matching events that did not fire, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Suppressed {
    /// Within `throttle.cooldown` of a firing for the same group.
    pub cooldown: u64,
    /// Of a group beyond `groups.max`.
    pub too_many_groups: u64,
    /// Of a new group, while what is kept of the groups of all rules of the namespace takes more than 64 MiB.
    pub too_much_state: u64,
    /// Beyond `throttle.budget`.
    pub budget: u64,
    /// Changes that the rule itself made: they never make it fire.
    pub own_write: u64,
    /// While a firing of the same group was open, with `concurrencyPolicy: Forbid`.
    pub concurrency: u64,
    /// The same as an event before, by `dedupe`.
    #[serde(skip_serializing_if = "is_zero")]
    pub dedupe: u64,
    /// Outside of `activeWindows`.
    #[serde(skip_serializing_if = "is_zero")]
    pub outside_active_window: u64,
    /// While a silence said so.
    #[serde(skip_serializing_if = "is_zero")]
    pub silence: u64,
    /// While the switch for all rules was set.
    #[serde(skip_serializing_if = "is_zero")]
    pub stopped: u64,
    /// Events of rules that the rule itself led to, through others or not, or that came by more than 8 steps of rules.
    #[serde(rename = "loop", skip_serializing_if = "is_zero")]
    pub looped: u64,
    /// All of them.
    pub total: u64,
}

impl Suppressed {
    /// The same with `total` as it must be.
    pub fn summed(mut self) -> Self {
        let Self { cooldown, too_many_groups, too_much_state, budget, own_write, concurrency, .. } = self;
        let Self { dedupe, outside_active_window, silence, stopped, looped, .. } = self;
        let of_groups = too_many_groups + too_much_state + own_write + concurrency;
        self.total = of_groups + cooldown + budget + dedupe + outside_active_window + silence + stopped + looped;
        self
    }
}
