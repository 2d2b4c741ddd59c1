//! An EventSource's status out of its parts.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Finding, ObjectId, SourceLink, SourcePart, board::Subject, seconds};
use crate::{
    api::{ConditionType, EventSource, EventSourceStatus, Rejected},
    status::board::condition,
};

/// What is known about an EventSource.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The EventSource.
    pub source: ObjectId,
    /// The generation, whether events are accepted, and how the connection is; without it nothing is written.
    ready: Option<(i64, Finding, Option<SourceLink>)>,
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
    /// When a sender last asked whether somebody is there.
    pub ping: Option<Timestamp>,
    /// How many messages wait where they come from, as far as is known.
    pub lag: Option<u64>,
}

impl Parts {
    /// Nothing known yet.
    pub fn new(source: ObjectId) -> Self {
        Self { source, ready: None, figures: None, base: None }
    }

    /// Takes in a part, unless it is about an older generation than what is known.
    pub fn take(&mut self, part: SourcePart) {
        match part {
            SourcePart::Spec { generation, ready, link } => {
                if self.ready.as_ref().is_none_or(|known| known.0 <= generation) {
                    self.ready = Some((generation, ready, link));
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
    let (generation, ready, link) = parts.ready.as_ref()?;
    let mut status = previous.cloned().unwrap_or_default();
    let path = || format!("/hooks/{}/{}", parts.source.namespace, parts.source.name);
    status.path = link.is_none().then(path);
    if let Some(figures) = &parts.figures {
        let before = parts.base.clone().unwrap_or_default();
        status.received = before.received + figures.received;
        status.duplicates = before.duplicates + figures.duplicates;
        status.rejected = sum(&before.rejected, &figures.rejected);
        status.lag = figures.lag;
        if let Some(last) = figures.last {
            status.last_event_time = Some(Time(seconds(last)));
        }
        if let Some(ping) = figures.ping {
            status.last_ping_time = Some(Time(seconds(ping)));
        }
    }
    let mut findings = vec![(ConditionType::Ready, ready)];
    if let Some(SourceLink { connected, authenticated }) = link {
        findings.extend([(ConditionType::Connected, connected), (ConditionType::Authenticated, authenticated)]);
    }
    let before = |type_| previous.and_then(|status| status.conditions.iter().find(|one| one.type_ == type_));
    let condition =
        |(type_, finding): (_, &Finding)| condition(before(type_), type_, finding.clone(), *generation, now);
    status.conditions = findings.into_iter().map(condition).collect();
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
