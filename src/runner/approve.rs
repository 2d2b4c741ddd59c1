//! A step that waits for a person: `approve`. Until when is recorded first, so that a restart goes on waiting to the same end; meanwhile it holds up
//! nobody.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    halt::{Halt, record},
    step::{GONE, Step},
    wait::rest,
};
use crate::{
    actions::Done,
    api::{self, ActionOutcome},
    kubernetes::{Approval, Authors},
    record::{Asked, FailureReason, Intent, Outcome, Record, approve_command},
};

/// How long it takes until the API server is asked again whether it checks who approves.
const AGAIN: Duration = Duration::from_secs(2);

/// How long it takes after a start, at most, until the annotations of all rules are known.
const HEARS: Duration = Duration::from_secs(15);

type Ended = Result<(Outcome, Option<Value>), Halt>;

impl Step<'_> {
    /// Waits until somebody approves or denies. `intent` is that of an earlier process.
    pub(super) async fn approve(&self, spec: &api::Approve, intent: Option<(u32, Value)>) -> Ended {
        if self.observes() {
            return Ok((self.bare(ActionOutcome::Observed, "would wait for an approval"), None));
        }
        let is_known = intent.is_some();
        let asked = match intent.and_then(|(_, request)| Asked::read(&request)) {
            Some(asked) => asked,
            None => match self.ask(spec).await? {
                Ok(asked) => asked,
                Err(why) => return Ok((self.failed(FailureReason::Refused, why), None)),
            },
        };
        let _resting = rest(self.inner, &self.rule.rule.uid);
        let now = self.cx.services.clock.now().wall;
        let left = Duration::from_micros(u64::try_from(asked.approve_until.saturating_sub(now)).unwrap_or(0));
        // What was approved in time while nobody listened is heard of soon after the start.
        let left = if is_known { left.max(HEARS) } else { left };
        let outcome = tokio::select! {
            biased;
            () = self.cx.stop.cancelled() => return Err(Halt::Interrupted),
            () = self.gone.cancelled() => self.bare(ActionOutcome::Failed, GONE),
            outcome = self.decided() => outcome,
            () = tokio::time::sleep(left) => {
                let command = approve_command(&self.rule.rule.namespace, &self.rule.rule.name, &self.cx.firing);
                self.failed(FailureReason::TimedOut, format!("not approved within {}: {command} was waited for", spec.timeout))
            }
        };
        Ok((outcome, None))
    }

    /// Records until when is waited, unless nobody could be believed.
    async fn ask(&self, spec: &api::Approve) -> Result<Result<Asked, String>, Halt> {
        // What cannot be told now is looked at again before anything is believed.
        if let Ok(Authors::Unchecked(why)) = self.cx.services.cluster.approvers().await {
            return Ok(Err(unchecked(&why)));
        }
        let limit = i64::try_from(spec.timeout.get().as_micros()).unwrap_or(i64::MAX);
        let asked = Asked { approve_until: self.cx.services.clock.now().wall.saturating_add(limit) };
        let intent = Intent {
            firing: self.cx.firing.clone(),
            action: self.cx.action.clone(),
            rendering: 0,
            request: json!(asked),
            writes: None,
            // It has an end of its own.
            deadline: None,
            remember: None,
        };
        record(self.inner, Record::Intent(intent)).await?;
        Ok(Ok(asked))
    }

    /// What was decided, once the API server has checked by whom.
    async fn decided(&self) -> Outcome {
        let cluster = &self.cx.services.cluster;
        let Approval { approved, by, .. } = cluster.approvals().of(&self.rule.rule.uid.0, &self.cx.key()).await;
        loop {
            match cluster.approvers().await {
                Ok(Authors::Checked) if approved => {
                    let (message, result) = (format!("approved by {by}"), json!({"by": by}));
                    return self.done(Done {
                        outcome: ActionOutcome::Succeeded,
                        message,
                        result,
                        effect: None,
                        reason: None,
                    });
                }
                Ok(Authors::Checked) => return self.failed(FailureReason::Refused, format!("denied by {by}")),
                Ok(Authors::Unchecked(why)) => return self.failed(FailureReason::Refused, unchecked(&why)),
                Err(error) => {
                    tracing::warn!(rule = %self.rule.rule, firing = %self.cx.firing, %error, "it is not known whether an approval may be believed");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

fn unchecked(why: &str) -> String {
    format!(
        "nobody checks who approves, so nothing is approved: {why}; install the chart's ValidatingAdmissionPolicy (value admissionPolicy.enabled)"
    )
}
