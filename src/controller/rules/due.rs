//! Whose turn it is, of rules that something is asked about again and again.

use tokio::time::Instant;

use super::{Rules, Tracked, Version};
use crate::record::RuleRef;

impl Rules {
    /// The rules whose time has come, by what `at` says of each: so many at the most, those first that have waited longest, with the version that should
    /// judge.
    pub(super) fn due(
        &self,
        now: Instant,
        most: usize,
        at: impl Fn(&Tracked) -> Option<Instant>,
    ) -> Vec<(String, RuleRef, Version)> {
        let mut due: Vec<(Instant, &String)> = self
            .rules
            .iter()
            .filter_map(|(uid, tracked)| at(tracked).filter(|at| *at <= now).map(|at| (at, uid)))
            .collect();
        due.sort();
        due.truncate(most);
        due.into_iter()
            .filter_map(|(_, uid)| {
                let tracked = self.rules.get(uid)?;
                Some((uid.clone(), tracked.rule.clone(), tracked.wanted.clone()?))
            })
            .collect()
    }
}
