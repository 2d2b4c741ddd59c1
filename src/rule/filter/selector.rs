//! Label selectors, as Kubernetes has them everywhere.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::{
    event::Labels,
    rule::{change::hash, fault::Fault},
};

/// A label selector, compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::rule) struct Selector {
    id: u64,
    pub(super) requirements: Vec<(String, Requirement)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Requirement {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    pub(in crate::rule) fn compile(selector: &LabelSelector, path: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut requirements: Vec<(String, Requirement)> = selector
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), Requirement::In(vec![value.clone()])))
            .collect();
        let before = faults.len();
        for (index, one) in selector.match_expressions.iter().flatten().enumerate() {
            let path = format!("{path}.matchExpressions[{index}]");
            let values = one.values.clone().unwrap_or_default();
            let requirement = match (one.operator.as_str(), values.is_empty()) {
                ("In", false) => Requirement::In(values),
                ("NotIn", false) => Requirement::NotIn(values),
                ("Exists", true) => Requirement::Exists,
                ("DoesNotExist", true) => Requirement::DoesNotExist,
                ("In" | "NotIn", true) => {
                    faults.push(Fault::new(
                        format!("{path}.values"),
                        format!("must be set with operator {}", one.operator),
                    ));
                    continue;
                }
                ("Exists" | "DoesNotExist", false) => {
                    faults.push(Fault::new(
                        format!("{path}.values"),
                        format!("must be empty with operator {}", one.operator),
                    ));
                    continue;
                }
                (other, _) => {
                    let message = format!("unknown operator {other:?}: known are In, NotIn, Exists and DoesNotExist");
                    faults.push(Fault::new(format!("{path}.operator"), message));
                    continue;
                }
            };
            requirements.push((one.key.clone(), requirement));
        }
        if requirements.iter().any(|(key, _)| key.is_empty()) {
            faults.push(Fault::new(path, "a label's key must not be empty"));
        }
        let json = serde_json::to_vec(selector).expect("a selector has string keys only");
        let id = hash(&[b"selector ", &*json].concat());
        (faults.len() == before).then_some(Self { id, requirements })
    }

    /// What it is remembered by: the same for the same selector. No expression begins like what is hashed here.
    pub(in crate::rule) fn id(&self) -> u64 {
        self.id
    }

    fn check<'l>(&self, value_of: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements.iter().all(|(key, requirement)| holds(requirement, value_of(key)))
    }

    pub(in crate::rule) fn matches(&self, labels: &Labels) -> bool {
        self.check(|key| labels.get(key).map(String::as_str))
    }

    pub(in crate::rule) fn matches_json(&self, labels: Option<&Value>) -> bool {
        self.check(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }
}

/// Whether a label's value is as wanted.
pub(super) fn holds(requirement: &Requirement, value: Option<&str>) -> bool {
    match (requirement, value) {
        (Requirement::In(values), Some(value)) => values.iter().any(|wanted| wanted == value),
        (Requirement::In(_), None) => false,
        (Requirement::NotIn(values), Some(value)) => values.iter().all(|refused| refused != value),
        (Requirement::NotIn(_), None) => true,
        (Requirement::Exists, value) => value.is_some(),
        (Requirement::DoesNotExist, value) => value.is_none(),
    }
}
