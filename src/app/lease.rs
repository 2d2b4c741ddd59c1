//! The Lease at a start: asked for while the log is read, and what it means for the state that another log has acted meanwhile.
//!
//! What this log remembers of the cluster is dropped then: what it would find changed, the other has seen and acted upon. So are the firings of
//! events that came when the other may have acted already. What was accepted before is this log's to carry out.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::begin::Readiness;
use crate::{
    api::FiringOutcome,
    bus::{Bus, BusError, embedded::Embedded},
    config::{ObjectName, Settings},
    kubernetes::{Authority, Claim, Cluster, Displaced, Keeper, Taken},
    record::{Brief, Finished, FiringId, Record},
    shard::Recovered,
    status::{ObjectRef, StatusQueue, Story},
    telemetry::Metrics,
};
/// What comes of asking for the Lease.
pub(super) struct Asked {
    /// Takes and keeps it; to be run. Nothing where none is configured.
    pub(super) keeper: Option<BoxFuture<'static, anyhow::Result<()>>>,
    /// The gate before actions.
    pub(super) authority: Authority,
    /// How it was taken, once it is.
    pub(super) taken: Option<oneshot::Receiver<Taken>>,
}

/// Prepares to take the Lease for this log. It is given up when `stop` is cancelled.
pub(super) fn ask(
    settings: &Settings,
    cluster: &Cluster,
    bus: &Embedded,
    readiness: &Readiness,
    metrics: &Arc<Metrics>,
    stop: CancellationToken,
) -> Asked {
    let Some(name) = settings.lease.clone() else {
        metrics.may_act(true);
        return Asked { keeper: None, authority: Authority::sole(), taken: None };
    };
    let claim = Claim { log: bus.id().clone(), epoch: bus.epoch() };
    let readiness = readiness.clone();
    let waits = move |what| readiness.waits_for(what);
    let (keeper, authority, taken) = Keeper::new(cluster.own().clone(), name, claim, settings.lease_duration, waits);
    let (gate, metrics) = (authority.clone(), Arc::clone(metrics));
    let keeper = Box::pin(async move {
        tokio::select! {
            ended = keeper.run(stop) => Ok(ended?),
            () = gate.follow(|live| metrics.may_act(live)) => Ok(()),
        }
    });
    Asked { keeper: Some(keeper), authority, taken: Some(taken) }
}

/// Waits until the Lease is this log's. Gives nothing when told to stop meanwhile; without a Lease there is nothing to wait for.
pub(super) async fn taken(taken: Option<oneshot::Receiver<Taken>>, stop: &CancellationToken) -> Option<Option<Taken>> {
    let Some(taken) = taken else { return Some(None) };
    match stop.run_until_cancelled(taken).await? {
        Ok(taken) => Some(Some(taken)),
        // The keeper has ended, and with it the process.
        Err(_) => std::future::pending().await,
    }
}

/// Makes the state one that can be gone on with although another log has acted meanwhile.
///
/// # Errors
/// When the log fails.
pub(super) fn give_way(displaced: &Displaced, bus: &dyn Bus, recovered: &mut Recovered) -> Result<(), BusError> {
    // It may have waited long for the Lease: what is due waits for the sources again.
    bus.record(Record::Started)?;
    for (watch, _) in std::mem::take(&mut recovered.memory) {
        bus.record(Record::Forget(watch))?;
    }
    let ours =
        |(_, open): &(FiringId, Brief)| displaced.own_ended.is_some_and(|ended| open.since < ended.as_microsecond());
    let (ours, theirs): (Vec<_>, Vec<_>) = std::mem::take(&mut recovered.open).into_iter().partition(ours);
    recovered.open = ours;
    for (id, open) in &theirs {
        bus.record(Record::Finished(Finished {
            firing: id.clone(),
            rule: open.rule.clone(),
            outcome: FiringOutcome::Expired,
            message: format!("not carried out: it was accepted when log {} may have acted already", displaced.log),
            failed_at: None,
        }))?;
    }
    tracing::warn!(
        log = %bus.id().0,
        other = %displaced.log,
        resumed = recovered.open.len(),
        expired = theirs.len(),
        "another log acted before this one: its volume is lost, or it is not this operator's"
    );
    Ok(())
}

/// Tells on the Lease that a log is lost.
pub(super) fn tell(status: &StatusQueue, name: &ObjectName, taken: &Taken, own: &str) {
    let Some(Displaced { log, .. }) = &taken.from else { return };
    status.event(Story {
        object: ObjectRef {
            api_version: "coordination.k8s.io/v1".to_owned(),
            kind: "Lease".to_owned(),
            namespace: Some(name.namespace.clone()),
            name: name.name.clone(),
            uid: taken.uid.clone(),
        },
        warning: true,
        reason: "BusLost".to_owned(),
        action: "TakeOver".to_owned(),
        note: format!(
            "log {log} acted before log {own}, which cannot see it: what it had accepted and not carried out waits for its volume, \
             and what happened between the two is not acted upon"
        ),
        times: 1,
    });
}
