//! Cases: what happens to a rule, and what it is expected to do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{Difference, Given, Maker, Said, Trial, Tried, compare::differences};
use crate::{
    api::{Duration, FiringKind},
    manifest::{Place, YamlError},
    record::Number,
    rule::Rule,
    text,
};

/// Reads the documents of a file that a case names, or says why it cannot.
pub type Load<'l> = dyn Fn(&Path) -> Result<Vec<Value>, String> + 'l;

/// Repetitions of one event.
const MOST_TIMES: u32 = 1_000;
/// When a case begins that does not say so: 2026-01-01T00:00:00Z, a Thursday.
const START: i64 = 1_767_225_600;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cases {
    /// The cases.
    pub cases: Vec<Spanned<Case>>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The rule, as `name` or `namespace/name`; may be left out where there is only one.
    #[serde(default)]
    rule: Option<Spanned<String>>,
    /// When the rule comes into force; [`START`] without it.
    #[serde(default)]
    start: Option<Timestamp>,
    /// The objects that exist then.
    #[serde(default)]
    existing: Vec<Spanned<Existing>>,
    /// What happens.
    #[serde(default)]
    events: Vec<Spanned<Happening>>,
    /// How long after the start the case ends; at its last event without it.
    #[serde(default)]
    until: Option<Duration>,
    /// What actions give, for those after them.
    #[serde(default)]
    results: BTreeMap<String, Value>,
    /// Whether expressions may fail.
    #[serde(default)]
    errors: Errors,
    /// The firings, all of them, in their order.
    expect: Vec<Spanned<Expected>>,
}

/// Whether a case in which an expression cannot be evaluated may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Errors {
    /// It fails.
    #[default]
    Fail,
    /// It may pass.
    Allow,
}

/// An object that exists: exactly one of the two.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Existing {
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    file: Option<PathBuf>,
}

/// Something that happens: exactly one of `object`, `deleted`, `cloudEvent` and `file`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Happening {
    /// How long after the start; with the event before it without this.
    #[serde(default)]
    at: Option<Duration>,
    /// It is heard of so long after it happened.
    #[serde(default)]
    late: Option<Duration>,
    /// How often it happens.
    #[serde(default)]
    times: Option<u32>,
    /// How long after each other.
    #[serde(default)]
    every: Option<Duration>,
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    deleted: Option<Value>,
    #[serde(default)]
    cloud_event: Option<Value>,
    /// The EventSource by which the CloudEvent comes.
    #[serde(default)]
    event_source: Option<String>,
    /// The rule that makes the CloudEvent, of the same namespace.
    #[serde(default)]
    from_rule: Option<String>,
    #[serde(default)]
    file: Option<PathBuf>,
}

/// A firing, as far as it is compared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<FiringKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<Value>>,
}

/// A case cannot be run as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CaseError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl CaseError {
    fn at<T>(spanned: &Spanned<T>, message: impl Into<String>) -> Self {
        Self { place: spanned.into(), message: message.into() }
    }
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The case.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// What is not as expected; none: it passed.
    pub faults: Vec<Unlike>,
    /// What else happened, for whoever asks why.
    pub said: Vec<Said>,
}

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlike {
    /// A firing is another one.
    Differs {
        /// Which of them, from 1.
        number: usize,
        /// Where it is expected.
        place: Place,
        /// In what.
        differences: Vec<Difference>,
    },
    /// A firing was expected and did not come.
    Missing {
        /// Which of them, from 1.
        number: usize,
        /// Where it is expected.
        place: Place,
        /// What was expected, as JSON.
        expected: String,
    },
    /// A firing came that was not expected.
    Unexpected {
        /// Which of them, from 1.
        number: usize,
        /// What came, as JSON.
        was: String,
    },
    /// An expression could not be evaluated.
    Error(Said),
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// When it is none; unknown fields are refused.
    pub fn read(text: &str) -> Result<Self, YamlError> {
        Ok(serde_saphyr::from_str(text)?)
    }
}

/// Runs a case with the rule of these that it names. `load` reads the documents of a file that it names.
///
/// # Errors
/// When it cannot be run as it is written.
pub fn run(case: &Spanned<Case>, rules: &[Arc<Rule>], load: &Load<'_>) -> Result<Verdict, CaseError> {
    let rule = rule_of(case, rules)?;
    let start = case.value.start.unwrap_or(Timestamp::from_second(START).unwrap_or_default());
    let existing = existing(case, load)?;
    let results = case.value.results.clone();
    let mut trial =
        Trial::begin(rule, start, existing, results).map_err(|error| CaseError::at(case, error.to_string()))?;
    let mut last = 0;
    for (at, happening, given) in events(case, load)? {
        trial.happen(at, &given).map_err(|error| CaseError::at(happening, error.to_string()))?;
        last = at;
    }
    let until = case.value.until.map_or(last, micros);
    if until < last {
        return Err(CaseError::at(case, "until is before the last event"));
    }
    trial.advance(until).map_err(|error| CaseError::at(case, error.to_string()))?;
    Ok(judge(case, &trial))
}

fn rule_of<'r>(case: &Spanned<Case>, rules: &'r [Arc<Rule>]) -> Result<&'r Arc<Rule>, CaseError> {
    let known = || text::join(rules.iter().map(|rule| rule.rule.to_string()));
    match (&case.value.rule, rules) {
        (None, [only]) => Ok(only),
        (None, _) => Err(CaseError::at(case, format!("say which rule: there are {}", known()))),
        (Some(name), _) => {
            let is = |rule: &&Arc<Rule>| rule.rule.to_string() == name.value || rule.rule.name == name.value;
            let mut named = rules.iter().filter(is);
            match (named.next(), named.next()) {
                (Some(rule), None) => Ok(rule),
                (None, _) => {
                    Err(CaseError::at(name, format!("there is no rule {}: there are {}", name.value, known())))
                }
                (Some(_), Some(_)) => {
                    Err(CaseError::at(name, format!("{} is in several namespaces: write namespace/name", name.value)))
                }
            }
        }
    }
}

fn existing(case: &Spanned<Case>, load: &Load<'_>) -> Result<Vec<Value>, CaseError> {
    let mut objects = Vec::new();
    for spanned in &case.value.existing {
        match &spanned.value {
            Existing { object: Some(object), file: None } => objects.push(object.clone()),
            Existing { object: None, file: Some(file) } => {
                for given in loaded(spanned, file, load)? {
                    match given {
                        Given::Object { object, .. } => objects.push(object),
                        _ => return Err(CaseError::at(spanned, format!("{}: not an object", file.display()))),
                    }
                }
            }
            _ => return Err(CaseError::at(spanned, "exactly one of object and file must be set")),
        }
    }
    Ok(objects)
}

fn loaded<T>(spanned: &Spanned<T>, file: &Path, load: &Load<'_>) -> Result<Vec<Given>, CaseError> {
    let documents = load(file).map_err(|error| CaseError::at(spanned, error))?;
    let read = documents.into_iter().map(super::read).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| CaseError::at(spanned, format!("{}: {error}", file.display())))?;
    Ok(read.into_iter().flatten().collect())
}

type Timed<'c> = (i64, &'c Spanned<Happening>, Given);

/// What happens, in the order of time.
fn events<'c>(case: &'c Spanned<Case>, load: &Load<'_>) -> Result<Vec<Timed<'c>>, CaseError> {
    let (mut all, mut last) = (Vec::new(), 0);
    for spanned in &case.value.events {
        let happening = &spanned.value;
        let at = happening.at.map_or(last, micros);
        last = at;
        let times = happening.times.unwrap_or(1);
        if times == 0 || times > MOST_TIMES {
            return Err(CaseError::at(spanned, format!("times must be 1 to {MOST_TIMES}")));
        }
        if (times > 1) != happening.every.is_some() {
            return Err(CaseError::at(spanned, "times and every go together: times: 5, every: 1m"));
        }
        for given in given(spanned, load)? {
            for time in 0..times {
                let later = happening.every.map_or(0, micros).saturating_mul(i64::from(time));
                all.push((at.saturating_add(later), spanned, given.clone().ago(happening.late.map_or(0, micros))));
            }
        }
    }
    all.sort_by_key(|(at, ..)| *at);
    Ok(all)
}

fn given(spanned: &Spanned<Happening>, load: &Load<'_>) -> Result<Vec<Given>, CaseError> {
    let Happening { object, deleted, cloud_event, event_source, from_rule, file, .. } = &spanned.value;
    let from = match (event_source, from_rule) {
        (None, None) => None,
        (Some(name), None) => Some(Maker::EventSource(name.clone())),
        (None, Some(rule)) => Some(Maker::Rule(rule.clone())),
        _ => return Err(CaseError::at(spanned, "eventSource and fromRule exclude each other")),
    };
    let given = match (object, deleted, cloud_event, file) {
        (Some(object), None, None, None) => vec![Given::Object { object: object.clone(), late: 0 }],
        (None, Some(object), None, None) => vec![Given::Deleted { object: object.clone() }],
        (None, None, Some(event), None) => {
            return Ok(vec![Given::CloudEvent { event: event.clone(), from, late: 0 }]);
        }
        (None, None, None, Some(file)) => loaded(spanned, file, load)?,
        _ => return Err(CaseError::at(spanned, "exactly one of object, deleted, cloudEvent and file must be set")),
    };
    let any = given.iter().any(|given| matches!(given, Given::CloudEvent { .. }));
    if from.is_some() && !any {
        return Err(CaseError::at(spanned, "eventSource and fromRule are for CloudEvents"));
    }
    let with_from = |given: Given| match given {
        Given::CloudEvent { event, late, .. } => Given::CloudEvent { event, from: from.clone(), late },
        other => other,
    };
    Ok(given.into_iter().map(with_from).collect())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.get().as_micros()).unwrap_or(i64::MAX)
}

fn judge(case: &Spanned<Case>, trial: &Trial) -> Verdict {
    let mut faults = Vec::new();
    let (expected, came) = (&case.value.expect, trial.firings());
    for number in 0..expected.len().max(came.len()) {
        let unlike = match (expected.get(number), came.get(number)) {
            (Some(expected), Some(came)) => {
                let differences = differences(&json(&expected.value), &told(came));
                (!differences.is_empty()).then(|| Unlike::Differs {
                    number: number + 1,
                    place: expected.into(),
                    differences,
                })
            }
            (Some(expected), None) => {
                let (place, expected) = (expected.into(), json(&expected.value).to_string());
                Some(Unlike::Missing { number: number + 1, place, expected })
            }
            (None, Some(came)) => Some(Unlike::Unexpected { number: number + 1, was: told(came).to_string() }),
            (None, None) => None,
        };
        faults.extend(unlike);
    }
    if case.value.errors == Errors::Fail {
        faults.extend(trial.said().iter().filter(|said| said.error).cloned().map(Unlike::Error));
    }
    Verdict { name: case.value.name.clone(), place: case.into(), faults, said: trial.said().to_vec() }
}

/// The firing in the shape of what is expected.
fn told(Tried { at, firing, actions }: &Tried) -> Value {
    let number = |number: Number| number.0;
    json(&Expected {
        at: Some(elapsed(*at)),
        kind: Some(firing.kind),
        step: firing.step,
        source: Some(firing.source.clone()),
        group: Some(firing.group.clone()),
        count: firing.count,
        value: firing.value.map(number),
        baseline: firing.baseline.map(number),
        actions: Some(actions.clone()),
    })
}

fn json(expected: &Expected) -> Value {
    serde_json::to_value(expected).unwrap_or_default()
}

/// Microseconds as people write them.
pub fn elapsed(micros: i64) -> Duration {
    format!("{}us", micros.max(0)).parse().unwrap_or(Duration::from_secs(0))
}
