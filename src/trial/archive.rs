//! A rule on what the archive of an operator holds: the events as they were judged there, each when it was recorded.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Backtest, MOST_OF_DUMP, Trial, TrialError, instant};
use crate::{
    api::Counts,
    event::{Event, Kept, Old, Origin, Seen, Values, WatchKey, event_source, rule_event},
    record::EventInput,
    rule::{Followed, Rule, values},
    sources::{Plan, plan},
};

/// What a rule listens to, as the operator's archive is asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Kinds, each in a namespace or everywhere.
    pub watches: BTreeSet<WatchKey>,
    /// EventSources of its namespace.
    pub sources: BTreeSet<String>,
    /// Whether it listens to rules of its namespace.
    pub rules: bool,
}

impl Wants {
    /// Of this rule.
    pub fn of(rule: &Rule) -> Self {
        let mut wants = Self::default();
        for plan in plan(&rule.spec, &rule.rule.namespace) {
            match plan {
                Plan::Watch(plan) => {
                    let key = |namespace: &Option<String>| WatchKey {
                        api_version: plan.api_version.clone(),
                        kind: plan.kind.clone(),
                        namespace: namespace.clone(),
                    };
                    wants.watches.extend(plan.scopes.iter().map(key));
                }
                Plan::Reference { name, .. } => drop(wants.sources.insert(name)),
                Plan::Rules { .. } => wants.rules = true,
                // A timetable needs nobody.
                Plan::Schedule { .. } => {}
            }
        }
        wants
    }
}

/// A rule that an archive's events happen to, one after another.
pub struct Rerun {
    trial: Trial,
    wants: Wants,
    start: Timestamp,
    span: Option<(Timestamp, Timestamp)>,
    events: usize,
    /// The events that came: the same one may have come by a wider and by a narrower watch.
    came: HashSet<u64>,
    /// What was seen last of each object of which the rule follows a value.
    seen: HashMap<(WatchKey, String), Seen>,
    unknown: Unknown,
}

/// What the archive does not tell, for nobody asked for it at the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Updates of objects of which it is not known what they had before: of `changedExpressions` they are none.
    pub changes: usize,
    /// Events without the labels or the owner that the rule asks for, of the namespace or of what they are about.
    pub lookups: usize,
}

impl Rerun {
    /// Puts the rule in force at `start`.
    ///
    /// # Errors
    /// When it fires too often at once.
    pub fn begin(rule: &Arc<Rule>, start: Timestamp) -> Result<Self, TrialError> {
        let mut trial = Trial::begin(rule, start, Vec::new(), Default::default())?;
        trial.most = MOST_OF_DUMP;
        let (came, seen) = (HashSet::new(), HashMap::new());
        let (wants, unknown) = (Wants::of(rule), Unknown::default());
        Ok(Self { trial, wants, start, span: None, events: 0, came, seen, unknown })
    }

    /// Lets an event happen that was recorded at this wall time, in microseconds since 1970.
    ///
    /// # Errors
    /// When the rule fires too often.
    pub fn happen(&mut self, wall: i64, input: EventInput) -> Result<(), TrialError> {
        let ways = self.ways(&input);
        let mut hash = DefaultHasher::new();
        (&input.event.source, &input.event.id, &input.event.type_).hash(&mut hash);
        if ways.is_empty() || !self.came.insert(hash.finish()) {
            return Ok(());
        }
        self.events += 1;
        let time = instant(wall);
        self.span = Some((self.span.map_or(time, |(first, _)| first), time));
        self.trial.advance(wall.saturating_sub(self.start.as_microsecond()))?;
        for watch in ways {
            let origin = Origin { watch, ..input.origin.clone() };
            let origin = self.followed(&input.event, origin);
            self.judge(EventInput { origin, only: None, ..input.clone() })?;
        }
        Ok(())
    }

    /// Lets time pass until then, and tells what came of it all.
    ///
    /// # Errors
    /// When too much is due.
    pub fn end(mut self, until: Timestamp) -> Result<(Backtest, Unknown), TrialError> {
        self.trial.advance(until.as_microsecond() - self.start.as_microsecond())?;
        let uid = &self.trial.rule.rule.uid;
        let counts: Counts = self.trial.engine.progress(uid).map(|progress| progress.counts).unwrap_or_default();
        let Trial { firings, said, .. } = self.trial;
        let errors = said.into_iter().filter(|said| said.error).collect();
        let (span, start, events) = (self.span, self.start, (self.events, 0));
        Ok((Backtest { span, start, events, firings, counts, errors }, self.unknown))
    }

    /// The watches of the rule by which the event would have come.
    fn ways(&self, input: &EventInput) -> Vec<WatchKey> {
        let watch = &input.origin.watch;
        let of_source = event_source::name(&input.origin).is_some_and(|name| self.wants.sources.contains(name));
        if of_source || (self.wants.rules && rule_event::is_watch(watch)) {
            return vec![watch.clone()];
        }
        let namespace = input.event.data.pointer("/object/metadata/namespace").and_then(Value::as_str);
        let namespace = namespace.or(watch.namespace.as_deref());
        let brings = |one: &&WatchKey| {
            one.api_version == watch.api_version
                && one.kind == watch.kind
                && one.namespace.as_deref().is_none_or(|scope| namespace == Some(scope))
        };
        self.wants.watches.iter().filter(brings).cloned().collect()
    }

    /// Notes the values that the rule follows, and which are others than before: the operator may have followed others, for other rules.
    fn followed(&mut self, event: &Event, mut origin: Origin) -> Origin {
        let followed = self.trial.engine.interest().followed(&origin.watch);
        if followed.is_empty() || !event.is_change() {
            return origin;
        }
        let key = (origin.watch.clone(), origin.uid.clone());
        let Some((seen, object)) = origin.seen.as_mut().zip(event.data.get("object")) else {
            if let Some(before) = self.seen.remove(&key) {
                recall(&mut origin, &before, &followed);
            }
            return origin;
        };
        // What the operator followed as well it knows from before the archive begins.
        let told = (seen.values.take(), std::mem::take(&mut origin.changed));
        seen.values = values(&followed, object);
        let before = self.seen.insert(key, seen.clone());
        for one in followed.iter().filter(|one| !one.is_old()) {
            let now = seen.value(one.id);
            let of_operator = told.0.as_ref().and_then(|values| values.get(one.id)).is_some();
            let changed = match &before {
                Some(before) => match (before.value(one.id), now) {
                    (Some(before), Some(now)) => before != now,
                    (before, None) => one.is_selector() && before.is_some(),
                    (None, Some(_)) => false,
                },
                None => told.1.contains(&one.id),
            };
            if changed {
                origin.changed.push(one.id);
            } else if before.is_none() && !of_operator && !one.is_selector() {
                self.unknown.changes += usize::from(event.data["operation"] == "Update");
            }
        }
        if let Some(before) = before {
            recall(&mut origin, &before, &followed);
        }
        origin
    }

    fn judge(&mut self, input: EventInput) -> Result<(), TrialError> {
        let concern = self.trial.engine.interest().concern(&input.origin, &input.event);
        let (account, lookups) = (&self.trial.rule.account, &input.lookups);
        let lacks = (concern.namespace_labels && lookups.namespace_labels.is_none())
            || (concern.regarding_labels_for.contains(account) && lookups.regarding(account).is_none())
            || (concern.regarding_owner_for.contains(account) && lookups.owner(account).is_none());
        self.unknown.lookups += usize::from(lacks);
        self.trial.judge(input, &concern)
    }
}

/// Tells what the object was like before, as far as the operator did not keep that for other rules.
fn recall(origin: &mut Origin, before: &Seen, followed: &[Followed]) {
    let told = origin.old.take().unwrap_or_default();
    let seen = before.values.as_deref();
    let old = followed.iter().filter_map(|one| {
        let kept = told.get(one.id).or_else(|| seen?.old(one.id))?;
        Some((one.id, kept.clone()))
    });
    let old: Vec<(u64, Kept)> = old.collect();
    origin.old = (!old.is_empty()).then(|| Box::new(Old(old)));
    // Of an object that nobody saw go.
    if let Some(last) = &mut origin.last {
        let selectors = followed.iter().filter(|one| one.is_selector()).map(|one| one.id);
        let matched = |id: u64| last.get(id).or_else(|| before.value(id)).unwrap_or(0);
        let known: Vec<(u64, u64)> = selectors.map(|id| (id, matched(id))).collect();
        **last = Values::of(known);
    }
}

#[cfg(test)]
mod tests;
