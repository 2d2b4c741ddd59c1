//! An EventSource's status out of its parts.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Finding, ObjectId, SourcePart, board::Subject, seconds};
use crate::{
    api::{ConditionType, EventSource, EventSourceStatus, Rejected},
    status::board::condition,
};

/// What is known about an EventSource.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The EventSource.
    pub source: ObjectId,
    /// The generation, and whether events are accepted; without it nothing is written.
    ready: Option<(i64, Finding)>,
    /// What became of requests since this process started.
    figures: Option<Figures>,
    /// What the status counted before this process started.
    base: Option<EventSourceStatus>,
}

/// What became of requests since this process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events accepted.
    pub received: u64,
    /// Events that had been accepted before.
    pub duplicates: u64,
    /// Requests that were not accepted.
    pub rejected: Rejected,
    /// When an event was last accepted.
    pub last: Option<Timestamp>,
}

impl Parts {
    /// Nothing known yet.
    pub fn new(source: ObjectId) -> Self {
        Self { source, ready: None, figures: None, base: None }
    }

    /// Takes in a part, unless it is about an older generation than what is known.
    pub fn take(&mut self, part: SourcePart) {
        match part {
            SourcePart::Spec { generation, ready } => {
                if self.ready.as_ref().is_none_or(|known| known.0 <= generation) {
                    self.ready = Some((generation, ready));
                }
            }
            SourcePart::Figures(figures) => self.figures = Some(figures),
            SourcePart::Removed => {}
        }
    }
}

impl Subject for Parts {
    type Kind = EventSource;
    type Status = EventSourceStatus;

    fn names(&self) -> (&str, &str, &str) {
        (&self.source.namespace, &self.source.name, &self.source.uid)
    }

    fn known(&mut self, status: &EventSourceStatus) {
        self.base.get_or_insert_with(|| status.clone());
    }

    fn merge(&self, previous: Option<&EventSourceStatus>, now: Timestamp) -> Option<EventSourceStatus> {
        merge(previous, self, now)
    }

    fn worth_writing(old: &EventSourceStatus, new: &EventSourceStatus) -> bool {
        old != new
    }
}

/// The EventSource's status: what was known before, and what the parts say now. Nothing as long as the controller has not seen the spec.
pub fn merge(previous: Option<&EventSourceStatus>, parts: &Parts, now: Timestamp) -> Option<EventSourceStatus> {
    let (generation, ready) = parts.ready.as_ref()?;
    let mut status = previous.cloned().unwrap_or_default();
    status.path = Some(format!("/hooks/{}/{}", parts.source.namespace, parts.source.name));
    if let Some(figures) = &parts.figures {
        let before = parts.base.clone().unwrap_or_default();
        status.received = before.received + figures.received;
        status.duplicates = before.duplicates + figures.duplicates;
        status.rejected = sum(&before.rejected, &figures.rejected);
        if let Some(last) = figures.last {
            status.last_event_time = Some(Time(seconds(last)));
        }
    }
    let before = previous.and_then(|status| status.conditions.iter().find(|one| one.type_ == ConditionType::Ready));
    status.conditions = vec![condition(before, ConditionType::Ready, ready.clone(), *generation, now)];
    status.observed_generation = Some(*generation);
    Some(status)
}

fn sum(before: &Rejected, since: &Rejected) -> Rejected {
    Rejected {
        unauthenticated: before.unauthenticated + since.unauthenticated,
        malformed: before.malformed + since.malformed,
        too_large: before.too_large + since.too_large,
        rate_limited: before.rate_limited + since.rate_limited,
        unavailable: before.unavailable + since.unavailable,
        total: 0,
    }
    .summed()
}
