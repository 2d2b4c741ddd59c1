//! What a group has come to so far, for people who try a rule.

use k8s_openapi::jiff::Timestamp;

use super::Engine;
use crate::{api::Duration, record::RuleUid, rule::trigger::Kept};

impl Engine {
    /// How far the trigger of the rule has come with the group at `now`, on the line of stamps: `3 of 5 within 10m`, or when something is due.
    pub fn so_far(&self, uid: &RuleUid, group: &str, now: i64) -> Option<String> {
        let (_, state) = self.rules.get(uid)?;
        let spec = &state.in_force.as_ref()?.rule.spec;
        if let (Some(Kept::Count(counted)), Some(count)) =
            (state.groups.kept(group), spec.trigger.as_ref()?.count.as_ref())
        {
            let since = now.saturating_sub(crate::rule::groups::micros(count.within.get()));
            let times: u64 = counted.times.iter().filter(|one| one.at >= since).map(|one| u64::from(one.times)).sum();
            return Some(format!("{times} of {} within {}", count.at_least, count.within));
        }
        let due = state.deadline(group).filter(|due| *due < i64::MAX)?;
        let left = Duration::from_secs(u64::try_from(due.saturating_sub(now) / 1_000_000).unwrap_or(0));
        let at = Timestamp::from_microsecond(due).ok()?;
        Some(format!("something is due in {left}, at {at}"))
    }
}
