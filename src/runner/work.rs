//! The workers of a rule: each carries out one firing after the other, until none is ready.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Inner, Job, Slow, begin, firing, lanes::is_lane};
use crate::record::{OpenFiring, RuleUid};

impl Inner {
    /// Carries out firings of the rule until none is ready.
    pub(super) async fn work(self: Arc<Self>, rule: RuleUid) {
        if self.stop.run_until_cancelled(self.go.cancelled()).await.is_none() {
            return;
        }
        while !self.stop.is_cancelled() {
            let Some((lane, job)) = self.next(&rule) else {
                // The rule may be gone for ever.
                if !self.lanes.lock().has(&rule, |_| true) {
                    self.compiled.lock().remove(&rule);
                }
                return;
            };
            let open = tokio::select! {
                () = self.kill.cancelled() => return,
                open = firing::fetch(&self, &rule, &job.id) => open,
            };
            let Some(open) = open else {
                self.lanes.lock().done(&rule, &lane);
                continue;
            };
            // What an earlier process began is finished at once. A dead letter that is run again has steps, and is begun here.
            let begun = job.held.is_some() || (job.rule.is_none() && !open.steps.is_empty());
            let slow = if begun || open.firing.restores.is_some() || open.firing.closes || job.gone.is_cancelled() {
                None
            } else {
                let (rule, group, now) = (&open.firing.rule, &open.firing.group, Instant::now());
                match begin::will_observe(&self, &open) {
                    true => self.pace.lock().begin_observed(rule, group, now),
                    false => self.pace.lock().begin(rule, group, now),
                }
            };
            if let Some(slow) = slow {
                self.park(lane, job, &open, slow);
                continue;
            }
            let (name, paced) = (open.firing.rule.clone(), open.firing.group.clone());
            tokio::select! {
                () = self.kill.cancelled() => return,
                () = firing::carry_out(&self, job, open) => {}
            }
            let mut lanes = self.lanes.lock();
            let rests = lanes.done(&rule, &lane) && !lanes.has(&rule, |lane| is_lane(lane, &paced));
            drop(lanes);
            if rests && self.pace.lock().rests(&rule, &paced) {
                (self.slowed)(&name, None);
            }
        }
    }

    fn next(&self, rule: &RuleUid) -> Option<(String, Job)> {
        self.lanes.lock().take(rule)
    }

    /// Lets the group rest for so long, or until its rule is gone, with the firing as its next.
    fn park(self: &Arc<Self>, lane: String, job: Job, open: &OpenFiring, slow: Slow) {
        let (rule, wait, gone) = (open.firing.rule.clone(), slow.wait, job.gone.clone());
        (self.slowed)(&rule, Some(slow));
        self.firings.give_back(&job.id);
        self.lanes.lock().park(&rule.uid, &lane, job);
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let rests = gone.run_until_cancelled(tokio::time::sleep(wait));
            if inner.stop.run_until_cancelled(rests).await.is_some() {
                let more = inner.lanes.lock().unpark(&rule.uid, lane);
                if more {
                    inner.work(rule.uid).await;
                }
            }
        });
    }
}
