//! A sink's status out of its parts.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Finding, ObjectId, SinkPart, board::Subject, seconds};
use crate::api::{ConditionStatus, ConditionType, EventSink, EventSinkStatus, Reason};

/// What is known about a sink.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The sink.
    pub sink: ObjectId,
    /// The generation, and whether the sink can be used; without it nothing is written.
    pub ready: Option<(i64, Finding)>,
    /// What became of the notifications since this process started.
    pub deliveries: Option<Deliveries>,
    /// What the status counted before this process started.
    base: Option<(u64, u64)>,
}

/// What became of the notifications since this process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliveries {
    delivered: u64,
    failed: u64,
    last: Option<Timestamp>,
    error: Option<String>,
}

impl Parts {
    /// Nothing known yet.
    pub fn new(sink: ObjectId) -> Self {
        Self { sink, ready: None, deliveries: None, base: None }
    }

    /// Takes in a part, unless it is about an older generation than what is known.
    pub fn take(&mut self, part: SinkPart) {
        match part {
            SinkPart::Spec { generation, ready } => {
                if self.ready.as_ref().is_none_or(|known| known.0 <= generation) {
                    self.ready = Some((generation, ready));
                }
            }
            SinkPart::Deliveries { delivered, failed, last, error } => {
                self.deliveries = Some(Deliveries { delivered, failed, last, error });
            }
            SinkPart::Removed => {}
        }
    }
}

impl Subject for Parts {
    type Kind = EventSink;
    type Status = EventSinkStatus;

    fn names(&self) -> (&str, &str, &str) {
        (&self.sink.namespace, &self.sink.name, &self.sink.uid)
    }

    fn known(&mut self, status: &EventSinkStatus) {
        self.base.get_or_insert((status.delivered, status.failed));
    }

    fn merge(&self, previous: Option<&EventSinkStatus>, now: Timestamp) -> Option<EventSinkStatus> {
        merge(previous, self, now)
    }

    fn worth_writing(old: &EventSinkStatus, new: &EventSinkStatus) -> bool {
        old != new
    }
}

/// The sink's status: what was known before, and what the parts say now. Nothing as long as the controller has not seen the spec.
pub fn merge(previous: Option<&EventSinkStatus>, parts: &Parts, now: Timestamp) -> Option<EventSinkStatus> {
    let (generation, ready) = parts.ready.as_ref()?;
    let mut status = previous.cloned().unwrap_or_default();
    if let Some(deliveries) = &parts.deliveries {
        let (delivered, failed) = parts.base.unwrap_or_default();
        status.delivered = delivered + deliveries.delivered;
        status.failed = failed + deliveries.failed;
        if let Some(last) = deliveries.last {
            status.last_delivery_time = Some(Time(seconds(last)));
        }
    }
    let before = |type_| previous.and_then(|status| status.conditions.iter().find(|one| one.type_ == type_));
    let delivering =
        delivering(parts, before(ConditionType::Delivering).map(|one| (one.status, one.reason, one.message.clone())));
    status.conditions = [(ConditionType::Ready, ready.clone()), (ConditionType::Delivering, delivering)]
        .into_iter()
        .map(|(type_, finding)| super::board::condition(before(type_), type_, finding, *generation, now))
        .collect();
    status.observed_generation = Some(*generation);
    Some(status)
}

fn delivering(parts: &Parts, before: Option<Finding>) -> Finding {
    match &parts.deliveries {
        Some(Deliveries { error: Some(error), .. }) => (ConditionStatus::False, Reason::DeliveryFailed, error.clone()),
        Some(Deliveries { last: Some(_), .. }) => {
            (ConditionStatus::True, Reason::Delivered, "the last notification was delivered".to_owned())
        }
        // Nothing was sent since the start: what was known before still holds.
        _ => before.unwrap_or((ConditionStatus::Unknown, Reason::NothingSent, "nothing was sent yet".to_owned())),
    }
}
