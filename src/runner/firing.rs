//! One firing from beginning to end: fetched, begun as what it is, and its end recorded. What is done in between is in `way.rs`.

use std::{sync::Arc, time::Duration};

use super::{
    Inner, Job,
    begin::{compiled, expired, is_let, observing},
    halt::{self, Halt},
    step,
    way::Way,
};
use crate::{
    api::FiringOutcome,
    bus::{BusError, Missing},
    record::{Finished, FiringId, OpenFiring, Record, RuleUid},
    text,
};

/// How long the view is given until it can be read again.
const UNREAD: Duration = Duration::from_secs(1);

/// Fetches the firing whose turn has come. Nothing: it goes on after a restart, or it has ended because it cannot be read.
pub(super) async fn fetch(inner: &Inner, rule: &RuleUid, id: &FiringId) -> Option<Arc<OpenFiring>> {
    loop {
        let missing = match inner.firings.lend(id).await {
            Ok(open) => return Some(open),
            Err(missing) => missing,
        };
        tracing::error!(firing = %id, error = %missing, "a firing that waited cannot be read");
        match missing {
            Missing::Bus(BusError::Full) => tokio::select! {
                () = inner.stop.cancelled() => return None,
                () = tokio::time::sleep(UNREAD) => {}
            },
            Missing::Bus(error) => {
                inner.fail(error);
                return None;
            }
            Missing::Unreadable { .. } => {
                let ended = finish(inner, (id, rule), FiringOutcome::Failed, missing.to_string(), None).await;
                halted(inner, ended);
                return None;
            }
        }
    }
}

/// Carries the firing out, or as much of it as can be; says nothing, because the log says it all.
pub(super) async fn carry_out(inner: &Arc<Inner>, job: Job, open: Arc<OpenFiring>) {
    halted(inner, go(inner, job, &open).await);
}

fn halted(inner: &Inner, ended: Result<(), Halt>) {
    match ended {
        Ok(()) => {}
        Err(Halt::Interrupted) => tracing::debug!("a firing goes on after the restart"),
        Err(Halt::Bus(error)) => inner.fail(error),
    }
}

async fn go(inner: &Arc<Inner>, job: Job, open: &OpenFiring) -> Result<(), Halt> {
    let Job { rule, held, gone, .. } = job;
    let of = (&open.firing.id, &open.firing.rule.uid);
    // It was read just now.
    let put_off = inner.holds.ended();
    let rule = match rule.map_or_else(|| compiled(inner, open), Ok) {
        Ok(rule) => rule,
        Err(why) => {
            let message = format!("the rule cannot be read any more: {why}");
            return finish(inner, of, FiringOutcome::Failed, message, None).await;
        }
    };
    halt::may_act(inner).await?;
    if let Some(message) = expired(open, &rule, inner.services.clock.now()) {
        return finish(inner, of, FiringOutcome::Expired, message, None).await;
    }
    let observed;
    let (open, rule) = if is_let(inner, open, &rule) {
        (open, rule)
    } else {
        // On record before it begins: a start goes on with it in the same way.
        halt::record(inner, Record::Observe(open.firing.id.clone())).await?;
        observed = observing(open);
        match compiled(inner, &observed) {
            Ok(rule) => (&observed, rule),
            Err(why) => return finish(inner, of, FiringOutcome::Failed, why, None).await,
        }
    };
    let mut way = Way::new(inner, open, &rule, put_off, held, gone);
    if let Some(change) = &open.firing.restores {
        way.restore(change).await?;
        return way.end().await;
    }
    let compiled = rule.actions_of(open.firing.kind, open.firing.step);
    way.go(open.firing.actions(&rule.spec), compiled).await?;
    way.after_failure().await?;
    way.end().await
}

/// Records the end of the firing.
pub(super) async fn finish(
    inner: &Inner,
    (firing, rule): (&FiringId, &RuleUid),
    outcome: FiringOutcome,
    message: String,
    failed_at: Option<String>,
) -> Result<(), Halt> {
    let finished = Finished {
        firing: firing.clone(),
        rule: rule.clone(),
        outcome,
        message: text::cut(&message, step::MESSAGE),
        failed_at,
    };
    halt::record(inner, Record::Finished(finished)).await?;
    // Where the engine took it for the trial, it has said what becomes of the gate, or will; where it did not, as of another version, another one is on trial.
    inner.gates.lock().release(rule, firing);
    Ok(())
}
