//! Near misses: events that a rule nearly took, which of its parts said no, and what that part saw.
//!
//! Explaining costs more than judging, and everything is evaluated once more: whoever asks says how many rules may be looked at.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{
    cel::Scope,
    compile::Rule,
    engine::{Views, first_no},
    filter::{Kind, is_kubernetes_event},
    interest::Interest,
};
use crate::{
    api::{EventRef, LastNearMiss},
    event::{Event, WatchKey, event_source, rule_event, schedule},
    record::{EventInput, RuleRef},
    text::cut,
};

/// How near an event came that passed a filter; those that did not are below.
const PASSED_FILTER: u8 = 10;
/// Characters of `saw`, as its schema says.
const MAX_SAW: usize = 256;

/// What a rule did not take, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleRef,
    /// The generation of the spec that said no.
    pub generation: i64,
    /// How near it was: of two misses, the greater one passed more of the rule's parts.
    pub nearness: u8,
    /// What status tells.
    pub told: LastNearMiss,
}

impl NearMiss {
    /// Whether the event passed the filter of a source, so that a condition said no.
    pub fn passed_filter(&self) -> bool {
        self.nearness >= PASSED_FILTER
    }
}

/// Rules by the kind of event they look at and the scope of the watch that brings it: kind and API version of changed objects, or nothing for
/// Kubernetes Events.
type Key = (Option<(String, String)>, Option<String>);

/// A rule, and which of its sources look at the same things.
#[derive(Debug)]
struct Looker {
    rule: Arc<Rule>,
    sources: Vec<usize>,
}

/// The rules, filed for whoever explains.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookers(HashMap<Key, Vec<Arc<Looker>>>);

impl Lookers {
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) {
        for (key, sources) in keys(rule) {
            self.0.entry(key).or_default().push(Arc::new(Looker { rule: Arc::clone(rule), sources }));
        }
    }

    pub(super) fn remove(&mut self, rule: &Rule) {
        for key in keys(rule).into_keys() {
            let Some(lookers) = self.0.get_mut(&key) else { continue };
            let is_it =
                |one: &Arc<Looker>| one.rule.rule.uid == rule.rule.uid && one.rule.generation == rule.generation;
            if let Some(place) = lookers.iter().position(is_it) {
                lookers.remove(place);
            }
            if lookers.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    fn of(&self, watch: &WatchKey, event: &Event) -> &[Arc<Looker>] {
        let object = (!is_kubernetes_event(watch, event)).then(|| (watch.api_version.clone(), watch.kind.clone()));
        self.0.get(&(object, watch.namespace.clone())).map_or(&[], Vec::as_slice)
    }
}

/// What the sources of a rule look at.
fn keys(rule: &Rule) -> HashMap<Key, Vec<usize>> {
    let mut keys: HashMap<Key, Vec<usize>> = HashMap::new();
    for (index, source) in rule.sources.iter().enumerate() {
        let object = match source.filter.kind() {
            Kind::KubernetesEvent { .. } => None,
            Kind::Resource { api_version, kind, .. } => Some((api_version.clone(), kind.clone())),
            Kind::Reference { .. } => Some((event_source::API_VERSION.to_owned(), event_source::KIND.to_owned())),
            Kind::Schedule(_) => Some((schedule::API_VERSION.to_owned(), schedule::KIND.to_owned())),
            Kind::Rules { .. } => Some((rule_event::API_VERSION.to_owned(), rule_event::KIND.to_owned())),
        };
        for scope in &source.filter.namespaces().scopes {
            keys.entry((object.clone(), scope.clone())).or_default().push(index);
        }
    }
    keys
}

impl Interest {
    /// Whether some rule looks at things of this kind in this scope.
    pub fn looks_at(&self, watch: &WatchKey, event: &Event) -> bool {
        !self.lookers().of(watch, event).is_empty()
    }

    /// Why rules that look at things of this kind and in this scope do not take the event. The first to be looked at is the one whose turn it is;
    /// `more` says whether another may be looked at.
    pub fn near_misses(
        &self,
        now: Timestamp,
        input: &EventInput,
        turn: usize,
        mut more: impl FnMut() -> bool,
    ) -> Vec<NearMiss> {
        let rules = self.lookers().of(&input.origin.watch, &input.event);
        if input.only.is_some() {
            return Vec::new();
        }
        let mut views = Views::new(input);
        let mut misses = Vec::new();
        for step in 0..rules.len() {
            if step > 0 && !more() {
                break;
            }
            let Looker { rule, sources } = &*rules[(turn + step) % rules.len()];
            misses.extend(explain(now, &mut views, rule, sources));
        }
        misses
    }
}

/// The part of the rule that was passed last before another said no; nothing when the event matches or cannot be evaluated.
fn explain(now: Timestamp, views: &mut Views<'_>, rule: &Rule, sources: &[usize]) -> Option<NearMiss> {
    let input = views.input;
    let mut nearest: Option<(u8, String, String)> = None;
    for source in sources {
        let source = &rule.sources[*source];
        if !source.filter.looks_at(&input.origin, &input.event) {
            continue;
        }
        let lookups = &input.lookups;
        let refusal = source.filter.refusal(
            &input.event,
            &input.origin,
            lookups.namespace_labels.as_ref(),
            lookups.regarding(&rule.account),
        );
        let miss = match refusal {
            Some(refusal) => {
                (refusal.passed, format!("sources[{}].{}", source.name, refusal.field), cut(&refusal.saw, MAX_SAW))
            }
            None => {
                let event = views.of(rule, source);
                let scope = Scope::new(&event, &source.name, &rule.rule, now).with_variables(rule);
                let condition = first_no(rule, source, &scope).ok()??;
                (PASSED_FILTER, condition.place(), condition.program.saw(&scope))
            }
        };
        if nearest.as_ref().is_none_or(|nearest| nearest.0 < miss.0) {
            nearest = Some(miss);
        }
    }
    let (nearness, condition, saw) = nearest?;
    let told = LastNearMiss { time: Time(now), event: EventRef::from(&*input.event), condition, saw };
    Some(NearMiss { rule: rule.rule.clone(), generation: rule.generation, nearness, told })
}
