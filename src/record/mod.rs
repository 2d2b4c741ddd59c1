//! What the log holds: inputs, decisions, intents of steps and their outcomes, in one order.
//!
//! Everything that a decision depends on is a record. This module knows no I/O.

mod approve;
mod change;
mod control;
mod decision;
mod emit;
mod encoding;
mod failure;
mod ledger;
mod letter;
mod shelf;
mod step;
mod view;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::clock::Stamp;
pub use approve::{Asked, approve_command};
pub use change::{Change, Release, Remember, Standing, without_nulls};
pub use control::{Control, Stopped};
pub use decision::{Deadline, Decision, Firing, Judgement, Mark, Number, Occurrence, SuppressedReason};
pub use emit::Emitted;
pub use encoding::{DecodeError, EncodeError, FORMAT, decode, encode, is_event};
pub use failure::FailureReason;
pub use ledger::{Brief, Ledger, OpenFiring, Step, part, undo_of, undone, whole};
pub use letter::{DeadLetter, Replay};
pub use shelf::Shelf;
pub use step::{Beside, Effect, Finished, Intent, Outcome, Writes, Written};
pub use view::{Delta, TABLES, Table};

use crate::{
    api::EventRuleSpec,
    event::{Event, FIELD_MANAGER, Labels, Named, Origin, WatchKey},
};

/// Where a record stands in the log: 1 for the first, then without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where and when a record was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its place in the order.
    pub position: Position,
    /// Its time.
    pub stamp: Stamp,
}

/// A record with its place.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Place and time.
    pub head: Head,
    /// The record.
    pub record: Arc<Record>,
}

/// Identity of a log: made once, when the log is. Firing ids contain it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogId(pub String);

/// `metadata.uid` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleUid(pub Arc<str>);

impl fmt::Display for RuleUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule by its three names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// `metadata.uid`
    pub uid: RuleUid,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// An event that some rule may be concerned with.
    Event(Box<EventInput>),
    /// What watches saw and no rule is concerned with: only remembered.
    Seen(Vec<Origin>),
    /// A watch that nobody needs any more: what it remembered is dropped.
    Forget(WatchKey),
    /// A rule's spec, put in force as soon as each of its sources has a `Baseline` or a `Deaf` of this generation.
    RulePut(RulePut),
    /// A rule is gone.
    RuleRemove(RuleUid),
    /// The source of the rule has taken its list: what exists is known, what comes from here on is judged.
    Baseline(SourceRef),
    /// The source of the rule may not be, or cannot be, listened to: its events are not judged until a `Baseline`.
    Deaf(SourceRef),
    /// Something is due: what is, is judged before it.
    Tick,
    /// A process has begun. What happened before it may not be known yet: sources say so with their next `Baseline`.
    Started,
    /// What the engine decided about the input at `input`. All inputs before it have been judged as well.
    Judgement(Judgement),
    /// A step is about to act: written before it does.
    Intent(Intent),
    /// A step has written its object and goes on, waiting for what comes of it.
    Written(Written),
    /// A step that takes several objects away begins or ends with one of them.
    Beside(Beside),
    /// What became of a step.
    Outcome(Outcome),
    /// A firing has ended.
    Finished(Finished),
    /// A dead letter is run again.
    Replay(Replay),
    /// A firing that is about to begin is only observed, for the breaker of its rule is tripped.
    Observe(FiringId),
    /// What people say to the operator as a whole.
    Control(Control),
}

impl Record {
    /// The open firing that a record of its way is about.
    pub fn firing(&self) -> Option<&FiringId> {
        match self {
            Self::Intent(intent) => Some(&intent.firing),
            Self::Written(written) => Some(&written.firing),
            Self::Beside(beside) => Some(&beside.firing),
            Self::Outcome(outcome) => Some(&outcome.firing),
            Self::Finished(finished) => Some(&finished.firing),
            Self::Observe(firing) => Some(firing),
            _ => None,
        }
    }
}

/// An event and what was looked up for it before it was appended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventInput {
    /// The event.
    pub event: Arc<Event>,
    /// The watched object it is about.
    pub origin: Origin,
    /// Set when the event is for one rule's source only: `existing: Fire`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<SourceRef>,
    /// What only I/O can tell.
    #[serde(default, skip_serializing_if = "Lookups::is_empty")]
    pub lookups: Lookups,
}

/// What conditions need and only I/O can tell, looked up before the event was appended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lookups {
    /// Labels of the namespace the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_labels: Option<Labels>,
    /// Labels of the object that a Kubernetes Event regards, per account that may read it. Accounts that may not, or found nothing, are absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regarding_labels: Vec<(Account, Labels)>,
    /// The controller at the top of the object that a Kubernetes Event regards, per account, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regarding_owner: Vec<(Account, Named)>,
}

impl Lookups {
    /// Whether nothing was looked up.
    pub fn is_empty(&self) -> bool {
        self.namespace_labels.is_none() && self.regarding_labels.is_empty() && self.regarding_owner.is_empty()
    }

    /// The labels of the regarded object, as `account` sees them.
    pub fn regarding(&self, account: &Account) -> Option<&Labels> {
        self.regarding_labels.iter().find(|(who, _)| who == account).map(|(_, labels)| labels)
    }

    /// The controller at the top of the regarded object, as `account` sees it.
    pub fn owner(&self, account: &Account) -> Option<&Named> {
        self.regarding_owner.iter().find(|(who, _)| who == account).map(|(_, owner)| owner)
    }
}

/// A rule's spec as it was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulePut {
    /// The rule.
    pub rule: RuleRef,
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// The spec.
    #[serde(deserialize_with = "EventRuleSpec::read_to_keep")]
    pub spec: Arc<EventRuleSpec>,
}

/// One source of one version of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceRef {
    /// The rule.
    pub rule: RuleUid,
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// `sources[].name`
    pub source: String,
}

/// Identity of a firing: 20 hexadecimal digits, a hash of log, input, rule and group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FiringId(pub Arc<str>);

impl FiringId {
    /// Whether a text can be one.
    pub fn is(text: &str) -> bool {
        text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// The id that the rule's firing for `group`, made by the input at `input`, has in every replay.
    pub fn derive(log: &LogId, input: Position, rule: &RuleUid, group: &str) -> Self {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        // Lengths first, so that no two lists of parts run together to the same bytes.
        for part in [log.0.as_bytes(), &input.0.to_be_bytes(), rule.0.as_bytes(), group.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self::of(hash)
    }

    /// The id of what the rule does for `group` when something is due.
    pub fn derive_due(log: &LogId, deadline: &Deadline, kind: &str) -> Self {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        let at = deadline.at.to_be_bytes();
        let parts: [&[u8]; 6] =
            [log.0.as_bytes(), b"due", &at, deadline.rule.0.as_bytes(), deadline.group.as_bytes(), kind.as_bytes()];
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self::of(hash)
    }

    fn of(hash: sha2::Sha256) -> Self {
        use sha2::Digest;
        let digest = hash.finalize();
        Self(digest[..10].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// The field manager by which what the action of this firing writes is known: 10 + 20 + 1 + 63 of 128 characters allowed.
    pub fn manager(&self, action: &str) -> String {
        format!("{FIELD_MANAGER}{self}-{action}")
    }
}

impl fmt::Display for FiringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The values that make a group, by name.
pub type GroupValues = BTreeMap<String, Value>;

/// The results of a firing's earlier actions, by name.
pub type Results = BTreeMap<String, Value>;
