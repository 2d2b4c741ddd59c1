//! What is followed of objects: the values of `changedExpressions`, so that a source can take only the updates that change one of them,
//! selectors, so that it can be told of an object whether it had the labels, and the values that rules read of `oldObject`.
//!
//! Of a value only a hash is kept, by a hash of its expression: rules that ask for the same value share it. Of selectors an object keeps those
//! that it matches. Only values of `oldObject` are kept as they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    cel::{CelFault, Names, Place, Program, Scope, There},
    compile::Rule,
    fault::{EvalError, Fault},
    filter::{Kind, Selector},
};
use crate::{
    api::{Operation, ResourceSource},
    event::{Kept, Old, Values, WatchKey},
};

/// Bytes of one value of `oldObject` as JSON: a map of labels, some conditions.
const MAX_OLD: usize = 1 << 10;
/// Bytes of all of them of one object: 40 MiB of 10,000 objects at worst, and commonly a hundredth of that.
const MAX_OLD_OF_OBJECT: usize = 4 << 10;

/// What is followed of objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// What its values are kept by.
    pub id: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Value(Program),
    Match(Selector),
    Old(Place),
}

impl Followed {
    /// Compiles the expression; it sees `object` only.
    fn compile(expression: &str, source: &ResourceSource) -> Result<Self, Vec<CelFault>> {
        let kind = [(source.api_version.as_str(), source.kind.as_str())];
        let program = Program::compile_all(expression, &Names::of(&["object"]).with_object_of(kind.into_iter()))?;
        Ok(Self { id: hash(expression.as_bytes()), what: What::Value(program) })
    }

    fn of(selector: &Selector) -> Self {
        Self { id: selector.id(), what: What::Match(selector.clone()) }
    }

    /// What is at a place of objects, to be told when they change.
    pub(super) fn old(place: Place) -> Self {
        Self { id: hash(place.to_string().as_bytes()), what: What::Old(place) }
    }

    /// Whether the value is kept as it is, by [`Values::old`].
    pub fn is_old(&self) -> bool {
        matches!(self.what, What::Old(_))
    }

    /// Whether it is a selector: whoever remembers that all objects were asked takes those that do not have it for such that do not match.
    pub fn is_selector(&self) -> bool {
        matches!(self.what, What::Match(_))
    }

    /// A hash of the value that the object has; of a selector 1 if the object matches it, else 0.
    pub(super) fn value(&self, object: &Value) -> Result<u64, EvalError> {
        match &self.what {
            What::Value(program) => {
                let value = program.evaluate_optional(&Scope::empty().with_value("object", object))?;
                // That there is none is a value too, and another one than null.
                Ok(value.map_or(0, |value| hash(value.to_string().as_bytes())))
            }
            What::Match(selector) => Ok(selector.matches_json(object.pointer("/metadata/labels")).into()),
            What::Old(_) => Err(EvalError::new("it is kept as it is")),
        }
    }

    /// What is kept of the value itself, in at most so many bytes, and how many are left.
    fn kept_old(&self, object: &Value, room: &mut usize) -> Option<(u64, Kept)> {
        let What::Old(place) = &self.what else { return None };
        let kept = match place.of(object) {
            There::Nothing(depth) => Kept::Nothing(u8::try_from(depth).unwrap_or(u8::MAX)),
            There::Value(value) => match written(value, MAX_OLD.min(*room)) {
                Some(text) => {
                    *room -= text.len();
                    Kept::Json(text.into())
                }
                None => Kept::TooLarge(true),
            },
        };
        Some((self.id, kept))
    }

    /// What an object keeps: nothing of a selector that it does not match, and nothing of what cannot be evaluated.
    fn kept(&self, object: &Value) -> Option<u64> {
        self.value(object).ok().filter(|value| !self.is_selector() || *value == 1)
    }
}

/// Compiles the expressions of a source; faults are added with their paths.
pub(super) fn compile(source: &ResourceSource, path: &str, faults: &mut Vec<Fault>) -> Vec<Followed> {
    let path = format!("{path}.changedExpressions");
    let expressions = &source.changed_expressions;
    if !expressions.is_empty() && source.api_version == "v1" && source.kind == "Event" {
        faults.push(Fault::new(&path, "is not for Kubernetes Events"));
    }
    if !expressions.is_empty() && !source.operations.is_empty() && !source.operations.contains(&Operation::Update) {
        faults.push(Fault::new(&path, "is about updates, which operations leave out"));
    }
    let mut compiled = Vec::new();
    for (index, expression) in expressions.iter().enumerate() {
        match Followed::compile(expression, source) {
            Ok(followed) => compiled.push(followed),
            Err(found) => faults.extend(found.into_iter().map(|fault| fault.of(&format!("{path}[{index}]")))),
        }
    }
    compiled
}

/// 64 bits of SHA-256: the same for every build and every version.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// The values of an object. Those that cannot be evaluated are left out: whoever asks for them is told by the engine. So are selectors that it
/// does not match: mostly an object matches few.
pub fn values(followed: &[Followed], object: &Value) -> Option<Box<Values>> {
    let hashes: Box<[(u64, u64)]> = followed.iter().filter_map(|one| Some((one.id, one.kept(object)?))).collect();
    let mut room = MAX_OLD_OF_OBJECT;
    let mut old: Vec<(u64, Kept)> = followed.iter().filter_map(|one| one.kept_old(object, &mut room)).collect();
    old.shrink_to_fit();
    let old = (!old.is_empty()).then(|| Box::new(Old(old)));
    (!hashes.is_empty() || old.is_some()).then(|| Box::new(Values { hashes, old }))
}

/// The value as JSON, if it takes no more bytes than that.
fn written(value: &Value, most: usize) -> Option<String> {
    struct Room(Vec<u8>, usize);
    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut room = Room(Vec::new(), most);
    serde_json::to_writer(&mut room, value).ok()?;
    String::from_utf8(room.0).ok()
}

/// What rules read of `oldObject`: places of which none is within another.
pub(super) fn places<'p>(programs: impl Iterator<Item = &'p Place>) -> Vec<Place> {
    let all: BTreeSet<&Place> = programs.collect();
    let outer = |place: &&&Place| !all.iter().any(|other| other != *place && other.holds(place));
    all.iter().filter(outer).map(|place| (*place).clone()).collect()
}

/// What a rule is told of an object as it was: nothing of one that was not there.
///
/// # Errors
/// When a value that the rule reads was not kept.
pub(super) fn old_object(followed: &[Followed], old: &Old) -> Result<Value, EvalError> {
    let mut object = Value::Object(serde_json::Map::new());
    for one in followed {
        let What::Old(place) = &one.what else { continue };
        match old.get(one.id) {
            Some(Kept::Json(text)) => place.put(&mut object, serde_json::from_str(text).unwrap_or(Value::Null)),
            Some(Kept::Nothing(depth)) => place.make(&mut object, usize::from(*depth)),
            Some(Kept::TooLarge(_)) => {
                let message = format!(
                    "{place} was too large to be kept: 1 KiB of one value and 4 KiB of one object are, for all rules together; read a smaller part of it"
                );
                return Err(EvalError::new(message));
            }
            None => return Err(EvalError::new(format!("{place} is not known: it was not kept before this change"))),
        }
    }
    Ok(object)
}

/// What is followed for whom, by API version, kind and scope of the watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Following(HashMap<WatchKey, Wanted>);

/// What is followed of one watch.
#[derive(Clone, Debug, Default)]
struct Wanted {
    /// Each once, in the order of their ids.
    all: Arc<[Followed]>,
    /// By how many filters.
    filters: BTreeMap<u64, usize>,
}

impl Following {
    /// Takes in what a class of rules that filter alike follows.
    pub(super) fn insert(&mut self, rule: &Rule) {
        each(rule, |watch, followed| self.add(watch, followed));
    }

    /// Takes in what the rule for itself reads of `oldObject`.
    pub(super) fn insert_old(&mut self, rule: &Rule) {
        each_old(rule, |watch, followed| self.add(watch, followed));
    }

    fn add(&mut self, watch: WatchKey, followed: &Followed) {
        {
            let wanted = self.0.entry(watch).or_default();
            let filters = wanted.filters.entry(followed.id).or_default();
            *filters += 1;
            if *filters == 1 {
                let at = wanted.all.partition_point(|one| one.id < followed.id);
                let (before, behind) = wanted.all.split_at(at);
                wanted.all = before.iter().chain([followed]).chain(behind).cloned().collect();
            }
        }
    }

    /// Takes out what a class of rules that filter alike follows.
    pub(super) fn remove(&mut self, rule: &Rule) {
        each(rule, |watch, followed| self.take(&watch, followed));
    }

    /// Takes out what the rule for itself reads of `oldObject`.
    pub(super) fn remove_old(&mut self, rule: &Rule) {
        each_old(rule, |watch, followed| self.take(&watch, followed));
    }

    fn take(&mut self, watch: &WatchKey, followed: &Followed) {
        {
            let Some(wanted) = self.0.get_mut(watch) else { return };
            let Some(filters) = wanted.filters.get_mut(&followed.id) else { return };
            *filters -= 1;
            if *filters == 0 {
                wanted.filters.remove(&followed.id);
                wanted.all = wanted.all.iter().filter(|one| one.id != followed.id).cloned().collect();
            }
            if wanted.filters.is_empty() {
                self.0.remove(watch);
            }
        }
    }

    /// What the watch has to follow.
    pub(super) fn of(&self, watch: &WatchKey) -> Arc<[Followed]> {
        self.0.get(watch).map(|wanted| Arc::clone(&wanted.all)).unwrap_or_default()
    }
}

/// What the rule reads of `oldObject`, and of which watch: of each that tells it of objects that were there before.
fn each_old(rule: &Rule, mut tell: impl FnMut(WatchKey, &Followed)) {
    if rule.old.is_empty() {
        return;
    }
    // Two sources may have the same watch.
    let mut watches = BTreeSet::new();
    for source in &rule.sources {
        let Kind::Resource { api_version, kind, operations, .. } = source.filter.kind() else { continue };
        if *operations != [Operation::Create] {
            let watch = |scope: &Option<String>| WatchKey {
                api_version: api_version.clone(),
                kind: kind.clone(),
                namespace: scope.clone(),
            };
            watches.extend(source.filter.namespaces().scopes.iter().map(watch));
        }
    }
    for (watch, followed) in watches.iter().flat_map(|watch| rule.old.iter().map(move |followed| (watch, followed))) {
        tell(watch.clone(), followed);
    }
}

/// What the sources of a rule follow, and of which watch.
fn each(rule: &Rule, mut tell: impl FnMut(WatchKey, &Followed)) {
    for source in &rule.sources {
        let Kind::Resource { api_version, kind, changes, .. } = source.filter.kind() else { continue };
        let selector = source.filter.remembered_selector().map(Followed::of);
        for followed in changes.iter().chain(&selector) {
            for scope in &source.filter.namespaces().scopes {
                let watch = WatchKey { api_version: api_version.clone(), kind: kind.clone(), namespace: scope.clone() };
                tell(watch, followed);
            }
        }
    }
}

/// What is remembered of an object says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing against it.
    Passes,
    /// An update that changes none of the values.
    Same,
    /// An update of which it cannot be told: the expression at this place cannot be evaluated.
    Untold(usize),
    /// A deletion that nobody saw, of an object of which it is not known whether it had the labels.
    Unselected,
}
