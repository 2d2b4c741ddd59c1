//! Webhooks and feeds, as the controller of EventSources tells them what there is.

use super::Intake;
use crate::{
    api::{EventSourceKind, EventSourceSpec},
    sources::{
        Figures,
        feeds::{Feeds, Link},
        webhook::Hooks,
    },
    status::{ObjectId, SourceFigures},
};

/// All that take events of EventSources: an EventSource is known to one of them.
#[derive(Clone, Debug)]
pub struct Intakes {
    /// Those that are sent events.
    pub hooks: Hooks,
    /// Those that connect.
    pub feeds: Feeds,
}

impl Intake for Intakes {
    fn set(&self, source: &ObjectId, generation: i64, spec: &EventSourceSpec) -> Result<(), Vec<String>> {
        let ObjectId { namespace, name, uid } = source;
        // Known to the new one before it is unknown to the other, so that what is remembered of it is not forgotten.
        if spec.kind().as_ref().is_some_and(EventSourceKind::connects) {
            self.feeds.set(namespace, name, uid, spec)?;
            self.hooks.remove(namespace, name);
        } else {
            self.hooks.set(namespace, name, uid, generation, spec).map_err(|error| error.0)?;
            self.feeds.remove(namespace, name);
        }
        Ok(())
    }

    fn remove(&self, namespace: &str, name: &str) {
        self.hooks.remove(namespace, name);
        self.feeds.remove(namespace, name);
    }

    fn hold(&self, namespace: &str, name: &str, why: Option<String>) {
        self.hooks.hold(namespace, name, why.clone());
        self.feeds.hold(namespace, name, why);
    }

    fn fault(&self, namespace: &str, name: &str) -> Option<String> {
        self.hooks.closed(namespace, name)
    }

    fn link(&self, namespace: &str, name: &str) -> Option<Link> {
        self.feeds.link(namespace, name)
    }

    fn figures(&self, namespace: &str, name: &str) -> Option<SourceFigures> {
        let of_hook = || self.hooks.get(namespace, name).map(|hook| hook.figures());
        let figures = self.feeds.figures(namespace, name).or_else(of_hook)?;
        let Figures { received, duplicates, rejected, last_event: last, last_ping: ping, lag } = figures;
        Some(SourceFigures { received, duplicates, rejected, last, ping, lag })
    }
}
