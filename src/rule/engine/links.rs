//! How changes of objects come of each other by way of rules: which rule wrote a version of an object, and because of which event.
//!
//! The ledger tells it. A watch can be faster than the answer to a write: then the change is taken for that of a step which is writing and whose mark the
//! object bears. A mark alone says nothing.
//!
//! An Event object of Kubernetes names the version of the object that its reporter acted upon. Where a rule has written that version a moment ago, the Event
//! comes of the rule as well: a controller tells of what it does about the write.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Engine;
use crate::{
    event::{Event, Origin, TYPE_KUBERNETES_EVENT, TYPE_RESOURCE_DELETED, trail},
    record::{Delta, Effect, FiringId, Head, OpenFiring, RuleUid, Table},
};

/// The row that holds the links.
const KEY: &[u8] = b"links";
/// Writes that are remembered: about 200 bytes each. Rules that set each other off come round within a few of them.
const MOST: usize = 512;
/// An Event object comes of a write for so long, in microseconds: a minute. Controllers act upon a change within seconds, and an object that nobody else changes
/// keeps its version for days.
const ECHO: i64 = 60_000_000;
/// So many times a rule may have led to an Event object for which it fires: it answers what its own write made a controller say once, and not for ever.
const ECHOES: usize = 1;

/// What rules wrote last.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_event: HashMap<String, Link>,
    /// Oldest first.
    order: VecDeque<String>,
    /// Steps that are writing, by their marks.
    writing: BTreeMap<String, Link>,
    changed: bool,
}

/// An event that comes of what a rule did.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Link {
    /// The event's id, or what stands for it.
    event: String,
    rule: RuleUid,
    /// That of the event that made the rule fire, if that may have come of a rule as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// When it was written, by the record that says so; 0 where nobody asks.
    #[serde(default, skip_serializing_if = "is_zero")]
    at: i64,
}

impl Links {
    fn add(&mut self, link: Link) {
        if self.by_event.contains_key(&link.event) || self.is_circle(&link) {
            return;
        }
        if self.order.len() >= MOST {
            self.order.pop_front().map(|oldest| self.by_event.remove(&oldest));
        }
        self.order.push_back(link.event.clone());
        self.by_event.insert(link.event.clone(), link);
        self.changed = true;
    }

    /// Whether the event led to itself: the answer to a write that leaves an object as it was names the version that was there already.
    fn is_circle(&self, link: &Link) -> bool {
        let mut causes =
            std::iter::successors(link.cause.as_ref(), |event| self.by_event.get(event.as_str())?.cause.as_ref());
        causes.any(|event| *event == link.event)
    }
}

impl Engine {
    /// A step is about to write an object.
    pub fn writes(&mut self, open: &OpenFiring, action: &str) {
        let mark = open.firing.id.manager(action);
        self.links.writing.insert(mark, link(open, String::new()));
    }

    /// A step writes no more, or only waits.
    pub(super) fn writes_no_more(&mut self, firing: &FiringId, action: &str) {
        self.links.writing.remove(&firing.manager(action));
    }

    /// No step of the firing writes any more.
    pub(super) fn none_writes(&mut self, firing: &FiringId) {
        let of_firing = firing.manager("");
        let marks = self.links.writing.range(of_firing.clone()..).map(|(mark, _)| mark);
        let marks: Vec<String> = marks.take_while(|mark| mark.starts_with(&of_firing)).cloned().collect();
        marks.iter().for_each(|mark| drop(self.links.writing.remove(mark)));
    }

    /// A step has written an object: the change that will be heard of comes of the firing. What was found written may be an older version, and is left out.
    /// `head` is of the record that tells of it.
    pub fn wrote(&mut self, head: &Head, open: &OpenFiring, effect: &Effect) {
        if effect.found {
            return;
        }
        let version = effect.resource_version.as_deref().filter(|_| !effect.gone);
        self.links.add(Link { at: head.stamp.at, ..link(open, key(&effect.uid, version)) });
    }

    /// A step has emitted an event, or an event tells how the firing fares.
    pub fn told(&mut self, open: &OpenFiring, event: &Event) {
        self.links.add(link(open, event.id.clone()));
    }

    /// An event tells that what the rule had fired for has ended, because of the other one.
    pub fn told_end(&mut self, rule: &RuleUid, event: &Event, because: &Event) {
        self.links.add(Link { event: event.id.clone(), rule: rule.clone(), cause: of(because), at: 0 });
    }

    /// The rules that led to the event by what they wrote, the last first; no more than tell that there are too many.
    pub fn led(&self, event: &Event, origin: &Origin) -> Vec<&RuleUid> {
        let known = |event: &String| self.links.by_event.get(event);
        let writing = || origin.marks.iter().find_map(|mark| self.links.writing.get(mark));
        let mut next = of(event).and_then(|event| known(&event).or_else(writing));
        let mut led = Vec::new();
        while let Some(link) = next
            && led.len() as u64 <= trail::MAX_HOPS
        {
            led.push(&link.rule);
            next = link.cause.as_ref().and_then(known);
        }
        led
    }

    /// Whether the event came by more steps of rules than may set each other off, or tells the rule again and again what came of its own writes.
    pub(super) fn is_loop(&self, head: &Head, event: &Event, origin: &Origin, rule: &RuleUid) -> bool {
        if self.links.order.is_empty() || (event.type_ == TYPE_KUBERNETES_EVENT && !self.is_echo(head, event)) {
            return false;
        }
        let led = self.led(event, origin);
        let echoes = || led.iter().filter(|one| **one == rule).count();
        led.len() as u64 > trail::MAX_HOPS || (event.type_ == TYPE_KUBERNETES_EVENT && echoes() > ECHOES)
    }

    /// Whether a rule has written the version that the Event object tells of, a moment ago.
    fn is_echo(&self, head: &Head, event: &Event) -> bool {
        let link = told_of(event).and_then(|version| self.links.by_event.get(&version));
        link.is_some_and(|link| head.stamp.at.saturating_sub(link.at) < ECHO)
    }

    pub(super) fn is_links(key: &[u8]) -> bool {
        key == KEY
    }

    pub(super) fn restore_links(&mut self, value: &[u8], damage: &mut Vec<String>) {
        match serde_json::from_slice::<Vec<Link>>(value) {
            Ok(links) => links.into_iter().for_each(|link| self.links.add(link)),
            Err(error) => damage.push(format!("what rules wrote last: {error}")),
        }
        self.links.changed = false;
    }

    /// Adds the row of the links, if they have changed.
    pub(super) fn dirty_links(&mut self, delta: &mut Delta) {
        if std::mem::take(&mut self.links.changed) {
            let links: Vec<&Link> =
                self.links.order.iter().filter_map(|event| self.links.by_event.get(event)).collect();
            let row = serde_json::to_vec(&links).expect("links have string keys only");
            delta.push((Table::Meta, KEY.to_vec(), Some(row)));
        }
    }
}

fn link(open: &OpenFiring, event: String) -> Link {
    Link { event, rule: open.firing.rule.uid.clone(), cause: of(&open.event), at: 0 }
}

/// What stands for an event that may come of what a rule did: a change of an object, what is told of one, or what a rule has emitted. The version that a
/// deletion makes is not told by its answer, and an object is deleted once.
fn of(event: &Event) -> Option<String> {
    if event.type_ == TYPE_KUBERNETES_EVENT {
        return told_of(event);
    }
    if event.type_ == TYPE_RESOURCE_DELETED {
        return event.id.rsplit_once('/').map(|(uid, _)| key(uid, None));
    }
    let own = event.is_change() || trail::rules(event).next().is_some();
    own.then(|| event.id.clone())
}

/// The version of the object that an Event object tells of. What is told again names that which was told of first, and so tells nothing of this one.
fn told_of(event: &Event) -> Option<String> {
    let once = event.data.get("count").and_then(Value::as_u64) == Some(1);
    let object = event.data.get("object").filter(|_| once)?;
    let regarding = object.get("involvedObject").or_else(|| object.get("regarding"))?;
    let text = |name: &str| regarding.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    Some(key(text("uid")?, Some(text("resourceVersion")?)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(at: &i64) -> bool {
    *at == 0
}

fn key(uid: &str, version: Option<&str>) -> String {
    format!("{uid}/{}", version.unwrap_or("deleted"))
}
