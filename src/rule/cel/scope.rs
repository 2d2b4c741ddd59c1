//! What an expression sees: the event and what belongs to it, borrowed for one evaluation or several.

use std::collections::BTreeMap;

use cel::{
    ExecutionError,
    common::{
        traits::Indexer,
        types::{CelInt, CelNull, CelString, CelTimestamp, MAP_TYPE, Type},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    Program, convert,
    meter::{BUDGET, Budget},
    object::{Fields, Object, boxed},
};
use crate::{
    event::Event,
    record::{FiringId, GroupValues, Results, RuleRef},
    rule::{compile::Rule, fault::EvalError},
};

/// Names and their values for the expressions of one rule about one event.
///
/// All expressions evaluated with one scope share its values of variables, each evaluated once, and its budget of steps.
pub struct Scope<'a> {
    event: Option<&'a Event>,
    source: [(&'static str, &'a str); 1],
    rule: Option<&'a RuleRef>,
    now: Option<Timestamp>,
    programs: &'a [(String, Program)],
    results: Option<&'a Results>,
    firing: Option<[(&'static str, &'a str); 1]>,
    group: Option<&'a GroupValues>,
    count: Option<u64>,
    values: Vec<(&'a str, &'a Value)>,
    variables: Mutex<BTreeMap<String, Evaluated>>,
    budget: Budget,
}

type Evaluated = Result<Box<dyn Val>, EvalError>;

impl<'a> Scope<'a> {
    /// What conditions see, but for variables.
    pub fn new(event: &'a Event, source: &'a str, rule: &'a RuleRef, now: Timestamp) -> Self {
        Self { event: Some(event), source: [("name", source)], rule: Some(rule), now: Some(now), ..Self::empty() }
    }

    /// Nothing but what [`Scope::with_value`] adds.
    pub fn empty() -> Self {
        Self {
            event: None,
            source: [("name", "")],
            rule: None,
            now: None,
            programs: &[],
            results: None,
            firing: None,
            group: None,
            count: None,
            values: Vec::new(),
            variables: Mutex::default(),
            budget: Budget::default(),
        }
    }

    /// Adds the rule's variables, evaluated when an expression first uses them.
    pub fn with_variables(mut self, rule: &'a Rule) -> Self {
        self.programs = &rule.variables;
        self
    }

    /// Adds `actions`: the results of earlier actions.
    pub fn with_results(mut self, results: &'a Results) -> Self {
        self.results = Some(results);
        self
    }

    /// Adds `firing`.
    pub fn with_firing(mut self, firing: &'a FiringId) -> Self {
        self.firing = Some([("id", &firing.0)]);
        self
    }

    /// Adds `group`, and `count` where the rule counts.
    pub fn with_group(mut self, values: &'a GroupValues, count: Option<u64>) -> Self {
        self.group = Some(values);
        self.count = count;
        self
    }

    /// Adds a name with any value.
    pub fn with_value(mut self, name: &'a str, value: &'a Value) -> Self {
        self.values.push((name, value));
        self
    }

    /// What was added by this name.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(super) fn event(&self) -> Option<&'a Event> {
        self.event
    }

    pub(super) fn source_name(&self) -> &'a str {
        self.source[0].1
    }

    /// Whether `object` is one.
    pub(super) fn has_object(&self) -> bool {
        self.event.is_some_and(Event::is_change)
    }

    /// The value of a variable, if it has one that JSON can say.
    pub(super) fn variable_as_json(&self, name: &str) -> Option<Value> {
        let value = self.variable(name).ok()??;
        convert::to_json(&*value, &mut { convert::MAX_RENDERED }).ok()
    }

    fn variable(&self, name: &str) -> Result<Option<Box<dyn Val>>, EvalError> {
        let Some((_, program)) = self.programs.iter().find(|(known, _)| known == name) else {
            return Ok(None);
        };
        if let Some(known) = self.variables.lock().get(name) {
            return match known {
                Ok(value) => Ok(Some(value.clone())),
                Err(error) => Err(error.clone()),
            };
        }
        // Not under the lock: the variable may use earlier ones.
        let value = program
            .with_value(self, |value| convert::detach(&*value, &mut { convert::MAX_RENDERED }))
            .map_err(|error| error.at(&format!("variables[{name}]")));
        self.variables.lock().entry(name.to_owned()).or_insert(value.clone());
        value.map(Some)
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let object = |fields| Some(CowVal::owned(Object::new(fields)));
        match name {
            "event" => self.event.and_then(|event| object(Fields::Event(event))),
            "object" => self.event.map(|event| object_of(event).map_or_else(|| CowVal::owned(CelNull), CowVal::Owned)),
            "source" => self.event.and_then(|_| object(Fields::Texts(&self.source))),
            "rule" => self.rule.and_then(|rule| {
                object(Fields::Short([("name", &rule.name), ("namespace", &rule.namespace), ("uid", &rule.uid.0)]))
            }),
            "now" => self.now.and_then(instant).map(|now| CowVal::owned(CelTimestamp::from(now))),
            "variables" => Some(CowVal::owned(Variables(self))),
            "actions" => self.results.and_then(|results| object(Fields::Results(results))),
            "firing" => self.firing.as_ref().and_then(|firing| object(Fields::Texts(firing))),
            "group" => self.group.and_then(|values| object(Fields::Results(values))),
            "count" => self.count.map(|count| CowVal::owned(CelInt::from(i64::try_from(count).unwrap_or(i64::MAX)))),
            BUDGET => Some(CowVal::Borrowed(&self.budget)),
            _ => None,
        }
        .or_else(|| Some(CowVal::Owned(boxed(self.value(name)?))))
    }
}

fn object_of(event: &Event) -> Option<Box<dyn Val + '_>> {
    event.is_change().then(|| event.data.get("object")).flatten().map(boxed)
}

fn instant(now: Timestamp) -> Option<chrono::DateTime<chrono::FixedOffset>> {
    chrono::DateTime::from_timestamp_micros(now.as_microsecond()).map(|now| now.fixed_offset())
}

/// `variables`, evaluated field by field.
#[derive(Clone, Copy)]
struct Variables<'b, 'a>(&'b Scope<'a>);

impl std::fmt::Debug for Variables<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("variables")
    }
}

impl<'s, 'a> Val for Variables<'s, 'a> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl<'s, 'a> Indexer for Variables<'s, 'a> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = key.downcast_ref::<CelString>().map(|key| key.inner()).unwrap_or_default();
        match self.0.variable(key) {
            Ok(Some(value)) => Ok(CowVal::Owned(value)),
            Ok(None) => Err(ExecutionError::no_such_key(key)),
            Err(error) => Err(ExecutionError::function_error(&error.path, error.message)),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}
