//! Why a rule did, or did not, make something of events: for `kubectl signalbox explain`.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Given, Said, Trial, TrialError, Tried};
use crate::rule::{OfSource, Rule};

/// What the sources of a rule said to one event.
#[derive(Clone, Debug)]
pub struct SourceSaid {
    /// The event's type.
    pub type_: String,
    /// Its subject.
    pub subject: String,
    /// What each source said.
    pub sources: Vec<OfSource>,
}

/// Why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What the sources said, event by event.
    pub events: Vec<SourceSaid>,
    /// What the rule made of it beside firing.
    pub said: Vec<Said>,
    /// Its firings.
    pub firings: Vec<Tried>,
}

/// Lets these things happen at one instant, and tells what the rule makes of them.
///
/// # Errors
/// When something is no event, or the rule fires too often.
pub fn explain(
    rule: &Arc<Rule>,
    now: Timestamp,
    existing: Vec<Value>,
    events: &[Given],
) -> Result<Explanation, TrialError> {
    let mut trial = Trial::begin(rule, now, existing, Default::default())?;
    trial.explained = Some(Vec::new());
    for given in events {
        trial.happen(0, given)?;
    }
    let Trial { explained, said, firings, .. } = trial;
    Ok(Explanation { events: explained.unwrap_or_default(), said, firings })
}
