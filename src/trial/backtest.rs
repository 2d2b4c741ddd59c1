//! A rule on events that really happened, each at its own time.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::{Given, MOST_OF_DUMP, Said, Trial, TrialError, Tried};
use crate::{api::Counts, rule::Rule};

/// What a rule would have done.
#[derive(Clone, Debug)]
pub struct Backtest {
    /// Where the time begins that [`Tried::at`] counts from.
    pub start: Timestamp,
    /// The times of the first and the last event; nothing when there was none with a time.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The events that have a time, and those that have none and were left out.
    pub events: (usize, usize),
    /// The firings.
    pub firings: Vec<Tried>,
    /// What the rule counted: as its status would tell it.
    pub counts: Counts,
    /// Expressions that failed.
    pub errors: Vec<Said>,
}

/// Lets the events happen in the order of their times, the rule being in force from the first on.
///
/// # Errors
/// When something is no event, or the rule fires too often.
pub fn backtest(rule: &Arc<Rule>, events: Vec<Given>) -> Result<Backtest, TrialError> {
    let all = events.len();
    let mut timed: Vec<(Timestamp, Given)> =
        events.into_iter().filter_map(|given| Some((given.time()?, given))).collect();
    timed.sort_by_key(|(time, _)| *time);
    let span = timed.first().zip(timed.last()).map(|((first, _), (last, _))| (*first, *last));
    let start = span.map_or(Timestamp::UNIX_EPOCH, |(first, _)| first);
    let mut trial = Trial::begin(rule, start, Vec::new(), Default::default())?;
    trial.most = MOST_OF_DUMP;
    for (time, given) in &timed {
        trial.happen(time.as_microsecond() - start.as_microsecond(), given)?;
    }
    let counts = trial.engine.progress(&rule.rule.uid).map(|progress| progress.counts).unwrap_or_default();
    let Trial { firings, said, .. } = trial;
    let errors = said.into_iter().filter(|said| said.error).collect();
    Ok(Backtest { span, start, events: (timed.len(), all - timed.len()), firings, counts, errors })
}
