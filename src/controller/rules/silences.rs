//! Silences of rules: what annotations tell, checked against the spec, as a record and in status.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{PATIENCE, Rules, Tracked, UNUSABLE, append};
use crate::{
    api::{MAX_SILENCES, Silence},
    bus::{Bus, BusError},
    kubernetes::{Authors, Cluster},
    record::{Control, Record},
    rule::{self, fault_of_silence},
    status::{Part, StatusQueue},
};

/// The silences of a rule.
#[derive(Default)]
pub(super) struct Silences {
    /// What the annotations tell; nothing before the object was seen.
    said: Option<Vec<Silence>>,
    /// What the engine knows.
    known: Vec<Silence>,
    /// What status was told.
    shown: Option<Vec<Silence>>,
}

impl Silences {
    pub(super) fn known(known: Vec<Silence>) -> Self {
        Self { known, ..Self::default() }
    }

    /// The annotations tell this. Says whether it is something else than before.
    pub(super) fn say(&mut self, said: Vec<Silence>) -> bool {
        let said = Some(said);
        let changed = self.said != said;
        self.said = said;
        changed
    }
}

impl Rules {
    /// The annotations of a rule may have changed.
    pub(super) async fn annotated(&mut self, uid: &str, said: Vec<Silence>) -> Result<(), BusError> {
        let Some(tracked) = self.rules.get_mut(uid) else { return Ok(()) };
        if tracked.silences.say(said) && !hush(&self.cluster, &self.bus, &self.status, tracked).await? {
            tracked.check_at = Some(Instant::now() + UNUSABLE);
        }
        Ok(())
    }
}

/// Tells the engine and status which silences are in force: none while nobody checks who writes them. Those that are over are told of no more. Gives false
/// when it is to be tried again: the log has no room for it, or it cannot be told who is checked, and those that are new wait.
pub(super) async fn hush(
    cluster: &Cluster,
    bus: &Arc<dyn Bus>,
    status: &StatusQueue,
    tracked: &mut Tracked,
) -> Result<bool, BusError> {
    let (Some(said), Some(put)) = (&tracked.silences.said, &tracked.put) else { return Ok(true) };
    let now = Timestamp::now();
    let mut all: Vec<Silence> = said.iter().filter(|one| one.message.is_some() || one.lasts(now)).cloned().collect();
    let mut known = true;
    if all.iter().any(|one| one.message.is_none()) {
        match tokio::time::timeout(PATIENCE, cluster.silencers()).await {
            Ok(Ok(Authors::Checked)) => {}
            Ok(Ok(Authors::Unchecked(why))) => {
                let refuse = |one: Silence| if one.message.is_none() { one.refused(unchecked(&why)) } else { one };
                all = all.into_iter().map(refuse).collect();
            }
            Ok(Err(_)) | Err(_) => {
                known = false;
                all.retain(|one| one.message.is_some() || tracked.silences.known.contains(one));
            }
        }
    }
    if all.iter().any(|one| one.expression.is_some())
        && let Ok(rule) = rule::compile(&tracked.rule, put.generation, &put.spec)
    {
        for silence in all.iter_mut().filter(|one| one.message.is_none()) {
            silence.message = fault_of_silence(&rule, silence);
        }
    }
    let beyond = all.iter_mut().filter(|one| one.message.is_none()).skip(MAX_SILENCES);
    beyond.for_each(|one| {
        one.message = Some(format!("{MAX_SILENCES} others are in force, which is as many as there may be"))
    });
    let good: Vec<Silence> = all.iter().filter(|one| one.message.is_none()).cloned().collect();
    if good != tracked.silences.known {
        let record = Control::Silences { rule: tracked.rule.uid.clone(), silences: good.clone() };
        if !append(bus, Record::Control(record)).await? {
            return Ok(false);
        }
        tracing::info!(rule = %tracked.rule, silences = good.len(), "the silences of a rule have changed");
        tracked.silences.known = good;
    }
    // Status has room for some only.
    all.sort_by_key(|one| one.message.is_some());
    if tracked.silences.shown.as_ref() != Some(&all) {
        status.publish(&tracked.rule, Part::Silences(all.clone()));
        tracked.silences.shown = Some(all);
    }
    Ok(known)
}

fn unchecked(why: &str) -> String {
    format!(
        "nobody checks who silences, so nothing is silenced: {why}; install the chart's ValidatingAdmissionPolicy (value admissionPolicy.enabled)"
    )
}
