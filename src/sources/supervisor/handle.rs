//! How the supervisor is told what is wanted. Knows no watch.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    api::EventRuleSpec,
    record::{Account, RuleRef, RuleUid},
};

/// A rule whose sources are to be listened to.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The rule.
    pub rule: RuleRef,
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// The account whose rights count.
    pub account: Account,
    /// The spec.
    pub spec: Arc<EventRuleSpec>,
    /// Whether this version is not in force yet: it was put just now, or still waited for its sources when the process ended. Only then
    /// `existing: Fire` fires, and only then a source that cannot be listened to is said to be `Deaf`.
    pub fresh: bool,
}

/// What the supervisor is told.
pub(super) enum Command {
    Set(Box<Wanted>),
    Remove(RuleUid),
    Settled,
}

/// Tells the supervisor what is wanted.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) mpsc::Sender<Command>);

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(wanted) => write!(f, "set {}", wanted.rule),
            Self::Remove(rule) => write!(f, "remove {rule}"),
            Self::Settled => f.write_str("settled"),
        }
    }
}

impl Handle {
    /// Listens to the sources of this version of the rule. The version before goes on being listened to until each source of this one has
    /// its `Baseline` or `Deaf`. Call it after the `RulePut`.
    pub async fn set(&self, wanted: Wanted) {
        self.send(Command::Set(Box::new(wanted))).await;
    }

    /// Listens no more for the rule.
    pub async fn remove(&self, rule: RuleUid) {
        self.send(Command::Remove(rule)).await;
    }

    /// Says that every rule that exists at the start has been set: what is remembered of watches that none of them needs is forgotten.
    pub async fn settled(&self) {
        self.send(Command::Settled).await;
    }

    async fn send(&self, command: Command) {
        // Fails when the supervisor has ended, and then the process is about to.
        let _ = self.0.send(command).await;
    }
}
