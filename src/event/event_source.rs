//! Events of EventSources: where they come from, as the log keeps it.
//!
//! An accepted event is remembered as if it were a watched object whose version is the time of acceptance. `data` and all attributes are the sender's,
//! so nothing here is read from them.

use super::{Origin, Seen, WatchKey};

/// API version of EventSources.
pub const API_VERSION: &str = "signalbox.dev/v1alpha1";
/// Kind under which their events are remembered.
pub const KIND: &str = "EventSource";

/// Where the log remembers the events of a namespace's EventSources.
pub fn watch(namespace: &str) -> WatchKey {
    WatchKey { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), namespace: Some(namespace.to_owned()) }
}

/// Whether events of EventSources are remembered there.
pub fn is_watch(watch: &WatchKey) -> bool {
    watch.api_version == API_VERSION && watch.kind == KIND
}

/// The CloudEvents `source` of events that have none of their own.
pub fn event_source(namespace: &str, name: &str) -> String {
    format!("/apis/{API_VERSION}/namespaces/{namespace}/eventsources/{name}")
}

/// The origin of an event that the EventSource accepted at `at`, in microseconds since 1970. `uid` is what it is remembered by: that of the EventSource
/// and a hash of the event's source and id.
pub fn origin(namespace: &str, name: &str, uid: String, at: u64) -> Origin {
    Origin::new(watch(namespace), uid, Some(Seen::new(at, 0, format!("{namespace}/{name}"))))
}

/// The name of the EventSource that the event came by; nothing when it came by none.
pub fn name(origin: &Origin) -> Option<&str> {
    let namespace = origin.watch.namespace.as_deref().filter(|_| is_watch(&origin.watch))?;
    origin.seen.as_ref()?.name.strip_prefix(namespace)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_tells_the_event_source_and_no_other_origin_tells_one() {
        let here = origin("shop", "github", "u/1".to_owned(), 7);
        assert_eq!(name(&here), Some("github"));
        assert_eq!(here.seen.as_ref().map(|seen| seen.version), Some(7));
        let gone = Origin { seen: None, ..here.clone() };
        let pod = WatchKey { api_version: "v1".to_owned(), kind: "Pod".to_owned(), namespace: Some("shop".to_owned()) };
        for other in [gone, Origin { watch: pod, ..here.clone() }, Origin { watch: watch("sho"), ..here }] {
            assert_eq!(name(&other), None, "{other:?}");
        }
    }
}
