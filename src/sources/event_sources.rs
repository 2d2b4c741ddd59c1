//! Which EventSources there are and whether they accept events, for rules that refer to them.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// The EventSources there are. Their controller says it, the supervisor asks. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct EventSources(Arc<watch::Sender<Known>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// By namespace and name: why it accepts no events, if it does not.
    states: BTreeMap<(String, String), Option<String>>,
    /// Those that are not known do not exist.
    listed: bool,
}

/// How an EventSource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventSourceState {
    /// It is not known whether there is one.
    Unknown,
    /// There is none.
    Missing,
    /// There is one, and it accepts no events: why.
    Closed(String),
    /// It accepts events.
    Open,
}

impl EventSources {
    /// There is one of this name, and for this reason, if there is one, it accepts no events.
    pub fn set(&self, namespace: &str, name: &str, fault: Option<String>) {
        self.0.send_if_modified(|known| {
            let key = (namespace.to_owned(), name.to_owned());
            known.states.insert(key, fault.clone()).is_none_or(|before| before != fault)
        });
    }

    /// There is none of this name any more.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.0.send_if_modified(|known| known.states.remove(&(namespace.to_owned(), name.to_owned())).is_some());
    }

    /// All there are have been set.
    pub fn listed(&self) {
        self.0.send_if_modified(|known| !std::mem::replace(&mut known.listed, true));
    }

    /// How the one of this name is.
    pub(crate) fn state(&self, namespace: &str, name: &str) -> EventSourceState {
        let known = self.0.borrow();
        match known.states.get(&(namespace.to_owned(), name.to_owned())) {
            Some(None) => EventSourceState::Open,
            Some(Some(fault)) => EventSourceState::Closed(fault.clone()),
            None if known.listed => EventSourceState::Missing,
            None => EventSourceState::Unknown,
        }
    }

    pub(super) fn changes(&self) -> watch::Receiver<Known> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_not_known_does_not_exist_only_after_all_were_listed() {
        let sources = EventSources::default();
        let mut changes = sources.changes();
        let state = |namespace, name| sources.state(namespace, name);
        assert_eq!(state("shop", "github"), EventSourceState::Unknown);
        sources.set("shop", "github", None);
        assert_eq!((state("shop", "github"), state("shop", "x")), (EventSourceState::Open, EventSourceState::Unknown));
        sources.listed();
        assert_eq!(
            (state("shop", "x"), state("other", "github")),
            (EventSourceState::Missing, EventSourceState::Missing)
        );
        changes.mark_unchanged();
        sources.set("shop", "github", None);
        assert!(!changes.has_changed().expect("the sender lives"), "nothing new");
        sources.set("shop", "github", Some("no Secret".to_owned()));
        assert!(changes.has_changed().expect("the sender lives"));
        assert_eq!(state("shop", "github"), EventSourceState::Closed("no Secret".to_owned()));
        sources.remove("shop", "github");
        assert_eq!(state("shop", "github"), EventSourceState::Missing);
    }
}
