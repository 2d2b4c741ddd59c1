//! How fast rules may fire, and who is told when one is slowed down.

use std::time::Duration;

use crate::{record::RuleRef, status::Whose};

/// Is told when a group of a rule is slowed down, and until when; and when no group of the rule is any more.
pub type Slowed = dyn Fn(&RuleRef, Option<Slow>) + Send + Sync;

/// How fast one group of a rule may fire.
pub struct Limit {
    /// How many firings a group may begin in any minute; those beyond wait, in order. 0: any number.
    pub firings_per_minute: u32,
    /// How many firings the rules of one namespace, and all rules, may begin in any hour; those beyond wait.
    pub per_hour: PerHour,
    /// Who is told.
    pub slowed: Box<Slowed>,
}

impl Limit {
    /// No limit.
    pub fn none() -> Self {
        Self { firings_per_minute: 0, per_hour: PerHour::default(), slowed: Box::new(|_, _| ()) }
    }
}

/// How many firings may begin in any hour; 0: any number. After a restart it is counted anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerHour {
    /// Of the rules of one namespace.
    pub namespace: u32,
    /// Of all rules.
    pub everybody: u32,
}

/// A group of a rule that fires faster than the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Whose limit it is.
    pub whose: Whose,
    /// The group.
    pub group: String,
    /// How many firings may begin in that time.
    pub limit: usize,
    /// How long until it goes on.
    pub wait: Duration,
}
