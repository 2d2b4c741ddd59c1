//! The controller of EventSources: decode → build → account → Secrets and rights → status.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Object, Synced, decode, link,
    secrets::{self, pending},
    watch::Reconcile,
};
use crate::{
    api::{ConditionStatus, EventSource, EventSourceSpec, Reason},
    bus::BusError,
    kubernetes::Cluster,
    record::Account,
    sources::{
        EventSources,
        feeds::{self, Link},
        webhook,
    },
    status::{Finding, ObjectId, SourceFigures, SourcePart, StatusQueue},
    text,
};

/// A source that can be used is looked at again after so long.
const READY: Duration = Duration::from_secs(30);
/// One that cannot be used is looked at again after so long.
const NOT_READY: Duration = Duration::from_secs(5);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Counts of one source are told at most so often: a source may have many events all the time.
const FIGURES: Duration = Duration::from_secs(10);

/// Who takes the events of EventSources.
pub trait Intake: Send + Sync {
    /// Takes events as this version of the source says, or says what is wrong with it; then the version before, if any, goes on.
    fn set(&self, source: &ObjectId, generation: i64, spec: &EventSourceSpec) -> Result<(), Vec<String>>;
    /// Takes no more events of the source of this name.
    fn remove(&self, namespace: &str, name: &str);
    /// Takes none for the source of this name as long as there is a reason, whichever version of it is set.
    fn hold(&self, namespace: &str, name: &str, why: Option<String>);
    /// Why it takes none for the moment.
    fn fault(&self, namespace: &str, name: &str) -> Option<String>;
    /// How the connection of the source of this name is; nothing for one that does not connect.
    fn link(&self, namespace: &str, name: &str) -> Option<Link>;
    /// What became of requests and messages since this process started.
    fn figures(&self, namespace: &str, name: &str) -> Option<SourceFigures>;
}

/// The controller of EventSources.
pub struct Sources {
    cluster: Cluster,
    intake: Arc<dyn Intake>,
    names: EventSources,
    status: StatusQueue,
    synced: Synced,
    sources: HashMap<String, Tracked>,
}

/// One source.
struct Tracked {
    source: ObjectId,
    /// The generation that was looked at last.
    generation: i64,
    /// What is wrong with it; then the version before, if any, goes on.
    faults: Vec<String>,
    /// The newest spec without faults.
    spec: Option<EventSourceSpec>,
    /// The account that may be used, as far as is known.
    allowed: Option<Account>,
    check_at: Instant,
    /// How the connection was when it was last told.
    link: Option<Link>,
    figures: SourceFigures,
    tell_at: Instant,
}

impl Sources {
    /// Run it with [`super::run`]. The supervisor is told by `names` which there are.
    pub fn new(
        cluster: Cluster,
        intake: Arc<dyn Intake>,
        names: EventSources,
        status: StatusQueue,
        synced: Synced,
    ) -> Self {
        Self { cluster, intake, names, status, synced, sources: HashMap::new() }
    }

    /// Looks whether the source can be used, and says so.
    async fn check(&mut self, uid: &str) {
        let Some(tracked) = self.sources.get_mut(uid) else { return };
        let usable = tracked.spec.clone().map(|spec| (account(&tracked.source, &spec), spec));
        let look = match &usable {
            Some((account, spec)) => {
                let looked = tokio::time::timeout(PATIENCE, look(&self.cluster, account, spec)).await;
                looked.unwrap_or_else(|_| Look::unknown("the API server did not answer in time"))
            }
            None => Look::unknown("the source is being set up"),
        };
        let ObjectId { namespace, name, .. } = &tracked.source.clone();
        if let Some((account, _)) = usable {
            tracked.allow(account, &look.usable);
            // Whoever may not use the account may not have events taken in its name, either.
            let why = look.usable.err().filter(|_| tracked.allowed.is_none()).map(|(_, _, message)| message);
            self.intake.hold(namespace, name, why);
        }
        tracked.link = self.intake.link(namespace, name);
        let link = tracked.link.as_ref().map(link::findings);
        let look_ready = match &link {
            Some(link) => link::summary(look.ready, link),
            None => look.ready,
        };
        let works = tracked.spec.as_ref().map(|_| look_ready.clone());
        let ready = match &tracked.faults[..] {
            [] => match self.intake.fault(namespace, name).filter(|_| look_ready.0 == ConditionStatus::True) {
                Some(fault) => pending(&fault),
                None => look_ready,
            },
            faults => {
                let meanwhile = if tracked.spec.is_some() { "; the version before is used until then" } else { "" };
                (ConditionStatus::False, Reason::InvalidSpec, format!("{}{meanwhile}", faults.join("; ")))
            }
        };
        // A version before that goes on is as good. While nothing is known, nobody has to do anything.
        let (works, _, message) = works.as_ref().unwrap_or(&ready);
        self.names.set(namespace, name, (*works == ConditionStatus::False).then(|| message.clone()));
        let wait = if ready.0 == ConditionStatus::True { READY } else { NOT_READY };
        tracked.check_at = Instant::now() + wait;
        let part = SourcePart::Spec { generation: tracked.generation, ready, link };
        self.status.publish_source(&tracked.source, part);
    }

    /// Says what became of requests since the last time.
    fn tell_figures(&mut self, now: Instant) {
        for tracked in self.sources.values_mut().filter(|tracked| tracked.tell_at <= now) {
            let figures = self.intake.figures(&tracked.source.namespace, &tracked.source.name);
            let Some(figures) = figures.filter(|figures| *figures != tracked.figures) else { continue };
            (tracked.figures, tracked.tell_at) = (figures.clone(), now + FIGURES);
            self.status.publish_source(&tracked.source, SourcePart::Figures(figures));
        }
    }
}

impl Reconcile for Sources {
    type Kind = EventSource;

    async fn apply(&mut self, object: Object) -> Result<(), BusError> {
        let Some(decode::Names { uid, namespace, name, generation }) = decode::names(&object) else { return Ok(()) };
        if self.sources.get(&uid).is_some_and(|tracked| tracked.generation == generation) {
            return Ok(());
        }
        let source = ObjectId { uid: uid.clone(), namespace, name };
        self.status.known_source(&source, decode::status(&object));
        let before = self.sources.remove(&uid);
        let now = Instant::now();
        let mut tracked = Tracked::new(source, generation, before, now);
        let ObjectId { namespace, name, .. } = &tracked.source;
        let built = decode::spec::<EventSourceSpec>(&object).and_then(|spec| {
            if tracked.allowed.as_ref() != Some(&account(&tracked.source, &spec)) {
                self.intake.hold(
                    namespace,
                    name,
                    Some("it is being looked whether the account may be used".to_owned()),
                );
            }
            self.intake.set(&tracked.source, generation, &spec).map(|()| spec)
        });
        match built {
            Ok(spec) => tracked.spec = Some(spec),
            Err(faults) => tracked.faults = faults,
        }
        self.sources.insert(uid.clone(), tracked);
        self.check(&uid).await;
        Ok(())
    }

    async fn gone(&mut self, uid: &str) -> Result<(), BusError> {
        let Some(tracked) = self.sources.remove(uid) else { return Ok(()) };
        let ObjectId { namespace, name, .. } = &tracked.source;
        // One of the same name may have come before this one was seen to go.
        if !self.sources.values().any(|other| other.source.namespace == *namespace && other.source.name == *name) {
            self.intake.remove(namespace, name);
            self.intake.hold(namespace, name, None);
            self.names.remove(namespace, name);
        }
        self.status.publish_source(&tracked.source, SourcePart::Removed);
        Ok(())
    }

    async fn listed(&mut self, uids: &HashSet<String>) -> Result<(), BusError> {
        let lost: Vec<String> = self.sources.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in lost {
            self.gone(&uid).await?;
        }
        self.names.listed();
        self.synced.set();
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let is_due = |tracked: &Tracked| {
            let ObjectId { namespace, name, .. } = &tracked.source;
            tracked.check_at <= now || tracked.link != self.intake.link(namespace, name)
        };
        let due: Vec<String> =
            self.sources.iter().filter(|(_, tracked)| is_due(tracked)).map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            self.check(&uid).await;
        }
        self.tell_figures(now);
        Ok(())
    }
}

impl Tracked {
    fn new(source: ObjectId, generation: i64, before: Option<Self>, now: Instant) -> Self {
        let (spec, allowed, figures, tell_at) = match before {
            Some(before) => (before.spec, before.allowed, before.figures, before.tell_at),
            None => (None, None, SourceFigures::default(), now),
        };
        Self { source, generation, faults: Vec::new(), spec, allowed, check_at: now, link: None, figures, tell_at }
    }

    /// Notes whether the account may be used. Not known is no reason to stop what was allowed before.
    fn allow(&mut self, account: Account, usable: &Result<(), Finding>) {
        match usable {
            Ok(()) => self.allowed = Some(account),
            Err((ConditionStatus::Unknown, ..)) => self.allowed = self.allowed.take().filter(|known| *known == account),
            Err(_) => self.allowed = None,
        }
    }
}

fn account(source: &ObjectId, spec: &EventSourceSpec) -> Account {
    Account { namespace: source.namespace.clone(), name: spec.service_account_name.clone() }
}

/// What was found out about a source.
struct Look {
    /// Whether the account may be used.
    usable: Result<(), Finding>,
    /// Whether events are accepted, as far as that is known here.
    ready: Finding,
}

impl Look {
    fn unknown(why: &str) -> Self {
        Self { usable: Err(pending(why)), ready: pending(why) }
    }
}

/// Looks whether the account may be used, and whether the Secrets are there: one key to check senders by, all that a connection needs.
async fn look(cluster: &Cluster, account: &Account, spec: &EventSourceSpec) -> Look {
    if let Err(finding) = secrets::usable(cluster, account).await {
        return Look { usable: Err(finding.clone()), ready: finding };
    }
    let keys = spec.secrets();
    let connects = spec.kind().is_some_and(|kind| kind.connects());
    let flaw = |value: &[u8]| spec.webhook.as_ref().and_then(|webhook| webhook::flaw(&webhook.auth, value));
    let ready = match secrets::lacking(cluster, account, &keys, flaw).await {
        Err(finding) => finding,
        Ok(lacking) if connects => match &lacking.what[..] {
            [] => rights(cluster, account, spec).await,
            what => (ConditionStatus::False, lacking.reason(), what.join("; ")),
        },
        Ok(lacking) if !keys.is_empty() && lacking.what.len() == keys.len() => {
            let message = format!("{}; until then nothing is accepted", lacking.what.join("; "));
            (ConditionStatus::False, lacking.reason(), message)
        }
        // Of two keys one is enough: that is how they are changed.
        Ok(lacking) => {
            let from = if keys.is_empty() { "events are accepted, whoever sends them" } else { "events are accepted" };
            let message = [vec![from.to_owned()], lacking.what].concat().join("; ");
            (ConditionStatus::True, Reason::InForce, message)
        }
    };
    Look { usable: Ok(()), ready }
}

/// Whether the account has the rights in the cluster that the kind needs.
async fn rights(cluster: &Cluster, account: &Account, spec: &EventSourceSpec) -> Finding {
    match feeds::missing_rights(cluster, account, spec).await {
        Ok(missing) if missing.is_empty() => (ConditionStatus::True, Reason::InForce, "events are taken".to_owned()),
        Ok(missing) => (ConditionStatus::False, Reason::RightMissing, text::join(missing)),
        Err(error) => pending(&format!("ask for the rights of {account}: {error}")),
    }
}

#[cfg(test)]
mod tests;
