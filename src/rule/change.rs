//! What is followed of objects: the values of `changedExpressions`, so that a source can take only the updates that change one of them, and
//! selectors, so that it can be told of an object that nobody saw go whether it had the labels.
//!
//! Of a value only a hash is kept, by a hash of its expression: rules that ask for the same value share it. Of selectors an object keeps those
//! that it matches.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    cel::{CelFault, Names, Program, Scope},
    compile::Rule,
    fault::{EvalError, Fault},
    filter::{Kind, Selector},
};
use crate::{
    api::{Operation, ResourceSource},
    event::{Values, WatchKey},
};

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
        }
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
    let mut values: Vec<(u64, u64)> = followed.iter().filter_map(|one| Some((one.id, one.kept(object)?))).collect();
    values.shrink_to_fit();
    (!values.is_empty()).then(|| Box::new(Values(values)))
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
    pub(super) fn insert(&mut self, rule: &Rule) {
        each(rule, |watch, followed| {
            let wanted = self.0.entry(watch).or_default();
            let filters = wanted.filters.entry(followed.id).or_default();
            *filters += 1;
            if *filters == 1 {
                let at = wanted.all.partition_point(|one| one.id < followed.id);
                let (before, behind) = wanted.all.split_at(at);
                wanted.all = before.iter().chain([followed]).chain(behind).cloned().collect();
            }
        });
    }

    pub(super) fn remove(&mut self, rule: &Rule) {
        each(rule, |watch, followed| {
            let Some(wanted) = self.0.get_mut(&watch) else { return };
            let Some(filters) = wanted.filters.get_mut(&followed.id) else { return };
            *filters -= 1;
            if *filters == 0 {
                wanted.filters.remove(&followed.id);
                wanted.all = wanted.all.iter().filter(|one| one.id != followed.id).cloned().collect();
            }
            if wanted.filters.is_empty() {
                self.0.remove(&watch);
            }
        });
    }

    /// What the watch has to follow.
    pub(super) fn of(&self, watch: &WatchKey) -> Arc<[Followed]> {
        self.0.get(watch).map(|wanted| Arc::clone(&wanted.all)).unwrap_or_default()
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
