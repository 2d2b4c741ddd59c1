//! Events that rules make: what actions `emit`, and what tells how rules fare. Only rules of the same namespace hear of them.
//!
//! `type`, `subject` and `data` of the first are the rule's; those of the second, by `type`:
//! - `dev.signalbox.rule.fired`: `rule.{namespace, name, uid}`, `group`, `firing.{id, kind}`, `event.{id, type, source, subject}`.
//! - `dev.signalbox.rule.failed`: the same, and `place` (`actions[grow]`) and `message`.
//! - `dev.signalbox.rule.resolved`: `rule`, `group`, and `since`, when the rule had fired for it.
//!
//! No field of the event that made the rule fire is in them but what status shows too.

use super::{OWN_TYPES, Origin, WatchKey};

/// API version of the watches under which they come. There is no such kind in any cluster.
pub const API_VERSION: &str = "signalbox.dev/v1alpha1";
/// Kind of the watches under which they come.
pub const KIND: &str = "RuleEvent";
/// The `type` of events that tell that a rule fired.
pub const TYPE_RULE_FIRED: &str = "dev.signalbox.rule.fired";
/// The `type` of events that tell that a firing failed for good.
pub const TYPE_RULE_FAILED: &str = "dev.signalbox.rule.failed";
/// The `type` of events that tell that what a rule had fired for has ended.
pub const TYPE_RULE_RESOLVED: &str = "dev.signalbox.rule.resolved";

/// Where the events of a namespace's rules come by.
pub fn watch(namespace: &str) -> WatchKey {
    WatchKey { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), namespace: Some(namespace.to_owned()) }
}

/// Whether events of rules come by this.
pub fn is_watch(watch: &WatchKey) -> bool {
    watch.api_version == API_VERSION && watch.kind == KIND
}

/// The origin of such an event. Nothing is remembered of it: each follows from one record of the log, and from no other.
pub fn origin(namespace: &str, id: &str) -> Origin {
    Origin::new(watch(namespace), id.to_owned(), None)
}

/// The CloudEvents `source` of the events of a rule.
pub fn event_source(namespace: &str, rule: &str) -> String {
    format!("/apis/{API_VERSION}/namespaces/{namespace}/eventrules/{rule}")
}

/// Whether a rule may emit events of this type, or why not.
pub fn emittable(type_: &str) -> Result<(), String> {
    if type_.starts_with(OWN_TYPES) {
        return Err(format!("must not begin with {OWN_TYPES}: those types are Signalbox's own"));
    }
    Ok(())
}
