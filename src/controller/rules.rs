//! The controller of EventRules: decode → compile → account → `RulePut` → watches → status.

mod due;
mod rehearsal;
mod rights;
mod silences;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::Instant;

pub(super) use rights::missing;

use super::{Object, Synced, decode, watch::Reconcile};
use crate::{
    actions::Services,
    api::{EventRule, EventRuleSpec, Silence},
    bus::{Bus, BusError},
    kubernetes::{Authors, Cluster, Unusable},
    record::{Account, Record, RulePut, RuleRef, RuleUid, SourceRef},
    rule,
    sources::{Handle, Wanted},
    status::{Part, StatusQueue},
};
use silences::{Silences, hush};

/// An account that may not be used is looked at again after so long.
const UNUSABLE: Duration = Duration::from_secs(10);
/// An account that may be used is looked at again after so long: its label may be taken away.
const USABLE: Duration = Duration::from_secs(60);
/// It is looked again so often whether the API server checks who writes rules. When that changes, all accounts are looked at.
const AUTHORS: Duration = Duration::from_secs(5);
/// How many times the engine is told that nobody listens. Once more than once: a `Baseline` that was on its way when the listening ended may come
/// after the first time.
const DEAFEN: u8 = 2;
/// How long the API server may take to say whether an account may be used.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who listens to the sources of rules; see [`Handle`].
pub trait Listeners: Send + Sync {
    /// Listens to the sources of this version. Called after its `RulePut` was appended.
    fn set(&self, wanted: Wanted) -> BoxFuture<'_, ()>;
    /// Listens no more.
    fn remove(&self, rule: RuleUid) -> BoxFuture<'_, ()>;
    /// All rules that exist at the start were set.
    fn settled(&self) -> BoxFuture<'_, ()>;
}

impl Listeners for Handle {
    fn set(&self, wanted: Wanted) -> BoxFuture<'_, ()> {
        Box::pin(Handle::set(self, wanted))
    }

    fn remove(&self, rule: RuleUid) -> BoxFuture<'_, ()> {
        Box::pin(Handle::remove(self, rule))
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(Handle::settled(self))
    }
}

/// A version of a rule that the engine knows at the start.
#[derive(Clone, Debug)]
pub struct Known {
    /// The rule.
    pub rule: RuleRef,
    /// The generation that was put last.
    pub generation: i64,
    /// Whether it was in force already; otherwise its sources begin as those of a new rule.
    pub in_force: bool,
    /// Its spec.
    pub spec: Arc<EventRuleSpec>,
    /// The silences that are in force.
    pub silences: Vec<Silence>,
}

/// The controller of EventRules.
pub struct Rules {
    services: Arc<Services>,
    cluster: Cluster,
    bus: Arc<dyn Bus>,
    sources: Arc<dyn Listeners>,
    status: StatusQueue,
    synced: Synced,
    rules: HashMap<String, Box<Tracked>>,
    /// Whether authors, and those who silence, were checked when that was looked at last, and when it is looked at again.
    authors: (Option<[Authors; 2]>, Instant),
}

/// One rule.
struct Tracked {
    rule: RuleRef,
    /// The generation that was looked at last; nothing before the object was seen.
    examined: Option<i64>,
    /// The version that the engine knows: the last that was put.
    put: Option<Version>,
    /// The generation whose sources were begun, by this process or by one before it that saw it in force.
    begun: Option<i64>,
    /// The version that should judge: the newest without faults.
    wanted: Option<Version>,
    /// The generation that is listened to.
    listening: Option<i64>,
    /// How many times more the engine is told that nobody listens.
    deafen: u8,
    /// When the account is looked at again.
    check_at: Option<Instant>,
    /// When it is looked again whether the account may do what the actions do; nothing while it may not be used.
    rights_at: Option<Instant>,
    /// Whether it may, as was seen last.
    granted: bool,
    /// When the API server is asked whether it would take what the actions write; nothing once it would.
    rehearse_at: Option<Instant>,
    silences: Silences,
}

#[derive(Clone)]
struct Version {
    generation: i64,
    spec: Arc<EventRuleSpec>,
}

impl Rules {
    /// `known` are the rules that the engine has from before. Run it with [`super::run`].
    pub fn new(
        services: Arc<Services>,
        bus: Arc<dyn Bus>,
        sources: Arc<dyn Listeners>,
        status: StatusQueue,
        known: impl IntoIterator<Item = Known>,
        synced: Synced,
    ) -> Self {
        let tracked = |Known { rule, generation, in_force, spec, silences }| {
            let put = Some(Version { generation, spec });
            let uid = rule.uid.to_string();
            let begun = in_force.then_some(generation);
            let tracked = Tracked {
                rule,
                examined: None,
                put,
                begun,
                wanted: None,
                listening: None,
                deafen: DEAFEN,
                check_at: None,
                rights_at: None,
                granted: false,
                rehearse_at: None,
                silences: Silences::known(silences),
            };
            (uid, Box::new(tracked))
        };
        let rules = known.into_iter().map(tracked).collect();
        let cluster = services.cluster.clone();
        Self { services, cluster, bus, sources, status, synced, rules, authors: (None, Instant::now()) }
    }

    /// Has all accounts and silences looked at now if authors, or those who silence, are checked no longer, or again.
    async fn look_at_authors(&mut self, now: Instant) {
        if self.authors.1 > now {
            return;
        }
        self.authors.1 = now + AUTHORS;
        let asked = async { Ok::<_, kube::Error>([self.cluster.authors().await?, self.cluster.silencers().await?]) };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let Ok(Ok(authors)) = answer else { return };
        if self.authors.0.replace(authors.clone()).is_none_or(|before| before == authors) {
            return;
        }
        for tracked in self.rules.values_mut() {
            tracked.check_at = tracked.check_at.map(|at| at.min(now));
        }
    }

    /// Says what is wrong with the object's spec, and settles which version should judge.
    fn examine(&mut self, names: &decode::Names, object: &Object) {
        let rule = RuleRef {
            uid: RuleUid(names.uid.as_str().into()),
            namespace: names.namespace.clone(),
            name: names.name.clone(),
        };
        let new = || Tracked {
            rule: rule.clone(),
            examined: None,
            put: None,
            begun: None,
            wanted: None,
            listening: None,
            deafen: DEAFEN,
            check_at: None,
            rights_at: None,
            granted: false,
            rehearse_at: None,
            silences: Silences::default(),
        };
        let tracked = self.rules.entry(names.uid.clone()).or_insert_with(|| Box::new(new()));
        tracked.examined = Some(names.generation);
        self.status.known(&rule, decode::status(object));
        let (faults, suspended) = match compiled(&rule, names.generation, object) {
            Ok(spec) => {
                let suspended = spec.suspend;
                // After a start the engine has most specs already, and one of each is enough.
                let known = tracked.put.as_ref().map(|put| &put.spec).filter(|known| **known == spec);
                let spec = known.map_or(spec, Arc::clone);
                tracked.wanted = Some(Version { generation: names.generation, spec });
                (tracked.rights_at, tracked.granted) = (None, false);
                tracked.rehearse_at = Some(Instant::now());
                (Vec::new(), suspended)
            }
            Err(faults) => {
                tracing::info!(%rule, generation = names.generation, faults = faults.len(), "a rule's spec has faults");
                // After a start the version before has to be set again: nobody listens for it yet.
                tracked.wanted = tracked.wanted.take().or_else(|| tracked.put.clone());
                (faults, false)
            }
        };
        let timetables =
            tracked.wanted.as_ref().map(|version| rule::timetables(&rule, &version.spec)).unwrap_or_default();
        self.status.publish(&rule, Part::Spec { generation: names.generation, faults, suspended, timetables });
    }

    /// Brings the rule's wanted version into force, or out of it, as its account allows.
    async fn establish(&mut self, uid: &str) -> Result<(), BusError> {
        let Some(tracked) = self.rules.get_mut(uid) else { return Ok(()) };
        let Some(wanted) = tracked.wanted.clone() else { return Ok(()) };
        let rule = tracked.rule.clone();
        let account = Account { namespace: rule.namespace.clone(), name: wanted.spec.service_account_name.clone() };
        let usable = usable(&self.cluster, &account).await;
        tracked.check_at = Some(Instant::now() + if usable.is_ok() { USABLE } else { UNUSABLE });
        match usable {
            Ok(()) => {
                tracked.rights_at.get_or_insert_with(Instant::now);
            }
            // Not known is no reason to stop what was allowed before.
            Err(Unusable::Unknown { .. }) if tracked.listening == Some(wanted.generation) => return Ok(()),
            Err(error) => {
                let usable = Err((error.reason(), error.to_string()));
                self.status.publish(&rule, Part::Account { generation: wanted.generation, usable });
                return if matches!(error, Unusable::Unknown { .. }) { Ok(()) } else { self.silence(uid).await };
            }
        }
        if tracked.put.as_ref().is_none_or(|put| put.generation != wanted.generation) {
            let put = RulePut { rule: rule.clone(), generation: wanted.generation, spec: wanted.spec.clone() };
            if !append(&self.bus, Record::RulePut(put)).await? {
                tracked.check_at = Some(Instant::now() + UNUSABLE);
                return Ok(());
            }
            tracked.put = Some(wanted.clone());
            tracing::info!(%rule, generation = wanted.generation, "a rule was put");
        }
        // Before anything is judged by it.
        if !hush(&self.cluster, &self.bus, &self.status, tracked).await? {
            tracked.check_at = Some(Instant::now() + UNUSABLE);
        }
        if tracked.listening != Some(wanted.generation) {
            (tracked.listening, tracked.deafen) = (Some(wanted.generation), DEAFEN);
            let (generation, spec) = (wanted.generation, wanted.spec);
            let fresh = tracked.begun.replace(generation) != Some(generation);
            self.sources.set(Wanted { rule: rule.clone(), generation, account, spec, fresh }).await;
        }
        self.status.publish(&rule, Part::Account { generation: wanted.generation, usable: Ok(()) });
        Ok(())
    }

    /// Nobody listens for the rule any more, and the engine knows.
    async fn silence(&mut self, uid: &str) -> Result<(), BusError> {
        let Some(tracked) = self.rules.get_mut(uid) else { return Ok(()) };
        (tracked.listening, tracked.rights_at) = (None, None);
        self.sources.remove(tracked.rule.uid.clone()).await;
        if tracked.deafen == 0 {
            return Ok(());
        }
        tracked.deafen -= 1;
        let Some(put) = &tracked.put else { return Ok(()) };
        for source in &put.spec.sources {
            let (rule, source) = (tracked.rule.uid.clone(), source.name.clone());
            let deaf = Record::Deaf(SourceRef { rule, generation: put.generation, source });
            append(&self.bus, deaf).await?;
        }
        Ok(())
    }
}

impl Reconcile for Rules {
    type Kind = EventRule;

    async fn apply(&mut self, object: Object) -> Result<(), BusError> {
        let Some(names) = decode::names(&object) else { return Ok(()) };
        self.cluster.approvals().set(&names.uid, object.approval());
        let examined = self.rules.get(&names.uid).and_then(|tracked| tracked.examined);
        if examined == Some(names.generation) {
            // A change of status, such as our own, or of labels.
            return self.annotated(&names.uid, object.silences()).await;
        }
        self.examine(&names, &object);
        if let Some(tracked) = self.rules.get_mut(&names.uid) {
            tracked.silences.say(object.silences());
        }
        self.establish(&names.uid).await
    }

    async fn gone(&mut self, uid: &str) -> Result<(), BusError> {
        self.cluster.approvals().set(uid, None);
        let Some(tracked) = self.rules.get(uid) else { return Ok(()) };
        let rule = tracked.rule.clone();
        self.sources.remove(rule.uid.clone()).await;
        if tracked.put.is_some() && !append(&self.bus, Record::RuleRemove(rule.uid.clone())).await? {
            // The next tick tries again.
            if let Some(tracked) = self.rules.get_mut(uid) {
                (tracked.examined, tracked.wanted, tracked.check_at) = (Some(GONE), None, Some(Instant::now()));
            }
            return Ok(());
        }
        self.rules.remove(uid);
        self.status.publish(&rule, Part::Removed);
        tracing::info!(%rule, "a rule was removed");
        Ok(())
    }

    async fn listed(&mut self, uids: &HashSet<String>) -> Result<(), BusError> {
        let lost: Vec<String> = self.rules.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        for uid in lost {
            self.gone(&uid).await?;
        }
        if !self.synced.get() {
            self.sources.settled().await;
            self.synced.set();
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        self.look_at_authors(now).await;
        self.look_at_rights(now).await;
        self.rehearse(now).await;
        let due: Vec<(String, bool)> = self
            .rules
            .iter()
            .filter(|(_, tracked)| tracked.check_at.is_some_and(|at| at <= now))
            .map(|(uid, tracked)| (uid.clone(), tracked.examined == Some(GONE)))
            .collect();
        for (uid, gone) in due {
            if gone { self.gone(&uid).await? } else { self.establish(&uid).await? }
        }
        Ok(())
    }
}

/// The generation of a rule that is gone and whose removal is not in the log yet.
const GONE: i64 = -1;

/// The spec, or what is wrong with it.
pub(super) fn compiled(rule: &RuleRef, generation: i64, object: &Object) -> Result<Arc<EventRuleSpec>, Vec<String>> {
    let spec = Arc::new(decode::spec::<EventRuleSpec>(object)?);
    match rule::compile(rule, generation, &spec) {
        Ok(_) => Ok(spec),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

async fn usable(cluster: &Cluster, account: &Account) -> Result<(), Unusable> {
    match tokio::time::timeout(PATIENCE, cluster.usable(account)).await {
        Ok(answer) => answer,
        Err(elapsed) => {
            let source = kube::Error::Service(elapsed.into());
            Err(Unusable::Unknown { account: account.clone(), source })
        }
    }
}

/// Appends a record; gives false when the disk is full, for then it can be tried again.
async fn append(bus: &Arc<dyn Bus>, record: Record) -> Result<bool, BusError> {
    match bus.append(record).await {
        Ok(_) => Ok(true),
        Err(BusError::Full) => {
            tracing::warn!("rules wait: the log's disk is full");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
