//! Webhooks, as the controller of EventSources tells them what there is.

use super::Intake;
use crate::{
    api::EventSourceSpec,
    sources::webhook::Hooks,
    status::{ObjectId, SourceFigures},
};

impl Intake for Hooks {
    fn set(&self, source: &ObjectId, generation: i64, spec: &EventSourceSpec) -> Result<(), Vec<String>> {
        Hooks::set(self, &source.namespace, &source.name, &source.uid, generation, spec).map_err(|error| error.0)
    }

    fn remove(&self, namespace: &str, name: &str) {
        Hooks::remove(self, namespace, name);
    }

    fn hold(&self, namespace: &str, name: &str, why: Option<String>) {
        Hooks::hold(self, namespace, name, why);
    }

    fn fault(&self, namespace: &str, name: &str) -> Option<String> {
        self.closed(namespace, name)
    }

    fn figures(&self, namespace: &str, name: &str) -> Option<SourceFigures> {
        let figures = self.get(namespace, name)?.figures();
        Some(SourceFigures {
            received: figures.received,
            duplicates: figures.duplicates,
            rejected: figures.rejected,
            last: figures.last_event,
        })
    }
}
