//! What an expression sees: the event and what belongs to it, borrowed for one evaluation or several.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::{
    Program,
    eval::Answer,
    failure::Failure,
    fields::Fields,
    meter::Meter,
    node::Root,
    value::{Map, Value},
};
use crate::{
    event::Event,
    record::{FiringId, GroupValues, OpenFiring, Results, RuleRef},
    rule::{compile::Rule, fault::EvalError},
};

/// Names and their values for the expressions of one rule about one event.
///
/// All expressions evaluated with one scope share its values of variables, each evaluated once, and its budget of steps.
pub struct Scope<'a> {
    event: Option<&'a Event>,
    source: &'a str,
    rule: Option<&'a RuleRef>,
    now: Option<Timestamp>,
    programs: &'a [(String, Program)],
    results: Option<&'a Results>,
    firing: Option<&'a str>,
    group: Option<&'a GroupValues>,
    count: Option<u64>,
    values: Vec<(&'a str, Value<'a>)>,
    variables: Mutex<BTreeMap<&'a str, Result<Value<'a>, EvalError>>>,
    meter: Meter,
}

impl<'a> Scope<'a> {
    /// What conditions see, but for variables.
    pub fn new(event: &'a Event, source: &'a str, rule: &'a RuleRef, now: Timestamp) -> Self {
        Self { event: Some(event), source, rule: Some(rule), now: Some(now), ..Self::empty() }
    }

    /// Nothing but what [`Scope::with_value`] adds.
    pub fn empty() -> Self {
        Self {
            event: None,
            source: "",
            rule: None,
            now: None,
            programs: &[],
            results: None,
            firing: None,
            group: None,
            count: None,
            values: Vec::new(),
            variables: Mutex::default(),
            meter: Meter::default(),
        }
    }

    /// What the actions of a firing see: `named` is [`OpenFiring::named`], `results` those of the actions before.
    pub fn of_firing(
        rule: &'a Rule,
        open: &'a OpenFiring,
        results: &'a Results,
        named: &'a [(&'static str, Json)],
    ) -> Self {
        let firing = &open.firing;
        let scope = Self::new(&open.event, &firing.source, &firing.rule, firing.stamp.timestamp())
            .with_variables(rule)
            .with_results(results)
            .with_firing(&firing.id)
            .with_group(&firing.group_values, firing.count);
        named.iter().fold(scope, |scope, (name, value)| scope.with_value(name, value))
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
        self.firing = Some(&firing.0);
        self
    }

    /// Adds `group`, and `count` where the rule counts.
    pub fn with_group(mut self, values: &'a GroupValues, count: Option<u64>) -> Self {
        self.group = Some(values);
        self.count = count;
        self
    }

    /// Adds a name with any value.
    pub fn with_value(mut self, name: &'a str, value: &'a Json) -> Self {
        self.values.push((name, Value::from(value)));
        self
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) fn root(&self, root: &Root) -> Option<Value<'a>> {
        let fields = |fields| Value::Map(Map::Fields(fields));
        match root {
            Root::Event => self.event.map(|event| fields(Fields::Event(event))),
            Root::Object => self.event.map(|event| of_change(event, "object")),
            Root::OldObject => self.event.map(|event| of_change(event, "oldObject")),
            Root::Source => self.event.map(|_| fields(Fields::Text("name", self.source))),
            Root::Rule => self.rule.map(|rule| fields(Fields::Rule(rule))),
            Root::Now => self.now.map(|now| Value::Timestamp(to_micros(now).into())),
            Root::Actions => self.results.map(|results| fields(Fields::Results(results))),
            Root::Firing => self.firing.map(|id| fields(Fields::Text("id", id))),
            Root::Group => self.group.map(|values| fields(Fields::Results(values))),
            Root::Count => self.count.map(|count| Value::Int(i64::try_from(count).unwrap_or(i64::MAX))),
            Root::Other(_) => None,
        }
        .or_else(|| self.values.iter().find(|(known, _)| *known == root.name()).map(|(_, value)| value.clone()))
    }

    /// The value of a variable, which is evaluated when it is first asked for.
    pub(super) fn variable(&self, name: &str) -> Answer<'a> {
        let programs: &'a [(String, Program)] = self.programs;
        let Some((name, program)) = programs.iter().find(|(known, _)| known == name) else {
            return Err(Failure::Missing(format!("variables.{name}")));
        };
        if let Some(known) = self.variables.lock().get(name.as_str()) {
            return known.clone().map_err(Failure::Variable);
        }
        // Not under the lock: the variable may use earlier ones.
        let value = program.value(self);
        if let Err(Failure::Cost(_)) = value {
            return value;
        }
        let value = value.map_err(|failure| failure.told().at(&format!("variables[{name}]")));
        self.variables.lock().entry(name).or_insert(value).clone().map_err(Failure::Variable)
    }
}

fn of_change<'e>(event: &'e Event, field: &str) -> Value<'e> {
    event.is_change().then(|| event.data.get(field)).flatten().map_or(Value::Null, Value::from)
}

/// Instants of the log are told to the microsecond.
fn to_micros(now: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
