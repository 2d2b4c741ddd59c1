//! Samples of events are explained to the rules that nearly took them. Judging pays nothing for that.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::{
    clock::Quota,
    record::{EventInput, RuleUid},
    rule::{Interest, NearMiss},
};

/// How many rules are looked at, in all, and where it is told what they nearly took. A clone shares both.
#[derive(Clone)]
pub struct NearMisses {
    quota: Quota,
    tell: Arc<dyn Fn(NearMiss) + Send + Sync>,
}

impl NearMisses {
    /// `tell` must not wait for anybody.
    pub fn new(quota: Quota, tell: impl Fn(NearMiss) + Send + Sync + 'static) -> Self {
        Self { quota, tell: Arc::new(tell) }
    }

    /// Looks at the rules that may nearly have taken the event, one after the other, as far as the quota allows. `input` is made only when
    /// it is needed. Gives the rules of which a condition refused the event.
    pub fn look(
        &self,
        interest: &Interest,
        (watch, event): (&crate::event::WatchKey, &crate::event::Event),
        now: Timestamp,
        input: impl FnOnce() -> EventInput,
    ) -> Vec<RuleUid> {
        if !interest.looks_at(watch, event) {
            return Vec::new();
        }
        let Some(turn) = self.quota.take() else { return Vec::new() };
        let misses = interest.near_misses(now, &input(), turn, || self.quota.take().is_some());
        let seen = misses.iter().filter(|miss| miss.passed_filter()).map(|miss| miss.rule.uid.clone()).collect();
        misses.into_iter().for_each(|miss| (self.tell)(miss));
        seen
    }
}

impl std::fmt::Debug for NearMisses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NearMisses").field("quota", &self.quota).finish_non_exhaustive()
    }
}
