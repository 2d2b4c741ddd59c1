//! Which EventSources there are, for rules that refer to them.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

/// The EventSources there are. Their controller says it, the supervisor asks. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct EventSources(Arc<watch::Sender<Known>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Namespace and name.
    names: BTreeSet<(String, String)>,
    /// Those that are not known do not exist.
    listed: bool,
}

impl EventSources {
    /// There is one of this name.
    pub fn add(&self, namespace: &str, name: &str) {
        self.0.send_if_modified(|known| known.names.insert((namespace.to_owned(), name.to_owned())));
    }

    /// There is none of this name any more.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.0.send_if_modified(|known| known.names.remove(&(namespace.to_owned(), name.to_owned())));
    }

    /// All there are have been added.
    pub fn listed(&self) {
        self.0.send_if_modified(|known| !std::mem::replace(&mut known.listed, true));
    }

    /// Whether there is one of this name; nothing while that is not known.
    pub(crate) fn has(&self, namespace: &str, name: &str) -> Option<bool> {
        let known = self.0.borrow();
        let has = known.names.contains(&(namespace.to_owned(), name.to_owned()));
        (has || known.listed).then_some(has)
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
        let changes = sources.changes();
        assert_eq!(sources.has("shop", "github"), None);
        sources.add("shop", "github");
        assert_eq!((sources.has("shop", "github"), sources.has("shop", "gitlab")), (Some(true), None));
        sources.listed();
        assert_eq!((sources.has("shop", "gitlab"), sources.has("other", "github")), (Some(false), Some(false)));
        assert!(changes.has_changed().expect("the sender lives"));
        sources.remove("shop", "github");
        assert_eq!(sources.has("shop", "github"), Some(false));
    }
}
