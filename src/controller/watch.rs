//! The loop that every controller runs in: a watch of raw objects, and a clock.

use std::{collections::HashSet, future::Future, time::Duration};

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource,
    core::ApiResource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Object;
use crate::bus::BusError;

/// How often a controller looks whether something is to be tried again.
const TICK: Duration = Duration::from_secs(1);

/// A watch in which nothing came for so long is begun anew, by a list: an API server whose versions have gone back, as after a restore of etcd, takes
/// a watch from a version that it has not reached and keeps silent until it has. Of a few thousand rules a list is some MB.
const SILENT: Duration = Duration::from_secs(300);

/// What a controller does about its objects.
pub trait Reconcile: Send {
    /// The kind.
    type Kind: Resource<DynamicType = ()>;

    /// The object is as given.
    fn apply(&mut self, object: Object) -> impl Future<Output = Result<(), BusError>> + Send;
    /// The object of this uid is gone.
    fn gone(&mut self, uid: &str) -> impl Future<Output = Result<(), BusError>> + Send;
    /// Exactly the objects of these uids exist; each was given to `apply` before.
    fn listed(&mut self, uids: &HashSet<String>) -> impl Future<Output = Result<(), BusError>> + Send;
    /// A second has passed.
    fn tick(&mut self) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// Watches all objects of the kind until `shutdown`. Objects that exist are given one by one before their list is complete.
///
/// # Errors
/// When the log takes nothing any more.
pub async fn run<R: Reconcile>(reconciler: R, client: Client, shutdown: CancellationToken) -> Result<(), BusError> {
    // Also while a reconciler waits for room in the log, which at the end nobody makes any more.
    shutdown.run_until_cancelled(watch(reconciler, client)).await.unwrap_or(Ok(()))
}

async fn watch<R: Reconcile>(mut reconciler: R, client: Client) -> Result<(), BusError> {
    let kind = ApiResource::erase::<R::Kind>(&());
    // A typed watch fails as a whole when one object cannot be decoded.
    let objects: Api<Object> = Api::all_with(client, &kind);
    let begin = || watcher(objects.clone(), watcher::Config::default()).default_backoff().boxed();
    let (mut events, mut heard) = (begin(), Instant::now());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tick.tick() => {
                reconciler.tick().await?;
                if heard.elapsed() >= SILENT {
                    (events, heard) = (begin(), Instant::now());
                }
                continue;
            }
        };
        heard = Instant::now();
        match event {
            Some(Ok(watcher::Event::Init)) => listed.clear(),
            Some(Ok(watcher::Event::InitApply(object))) => {
                listed.extend(object.meta().uid.clone());
                reconciler.apply(object).await?;
            }
            Some(Ok(watcher::Event::InitDone)) => reconciler.listed(&std::mem::take(&mut listed)).await?,
            Some(Ok(watcher::Event::Apply(object))) => reconciler.apply(object).await?,
            Some(Ok(watcher::Event::Delete(object))) => {
                if let Some(uid) = &object.meta().uid {
                    reconciler.gone(uid).await?;
                }
            }
            Some(Err(error)) => {
                tracing::warn!(kind = %kind.kind, %error, "the watch of our own kind failed, it will be repeated");
            }
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::api::EventSink;

    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>, CancellationToken);

    impl Reconcile for Notes {
        type Kind = EventSink;

        async fn apply(&mut self, object: Object) -> Result<(), BusError> {
            self.0.lock().push(format!("apply {}", object.meta().uid.clone().unwrap_or_default()));
            Ok(())
        }

        async fn gone(&mut self, uid: &str) -> Result<(), BusError> {
            self.0.lock().push(format!("gone {uid}"));
            self.1.cancel();
            // As a log without room.
            std::future::pending().await
        }

        async fn listed(&mut self, uids: &HashSet<String>) -> Result<(), BusError> {
            self.0.lock().push(format!("listed {}", uids.len()));
            Ok(())
        }

        async fn tick(&mut self) -> Result<(), BusError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn objects_that_cannot_be_decoded_come_like_others_and_the_end_waits_for_nobody() {
        let object = |uid: &str, spec: serde_json::Value| {
            json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventSink", "spec": spec,
                "metadata": {"namespace": "shop", "name": uid, "uid": uid, "resourceVersion": "7"}})
        };
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let body = if watches {
                // In the order of the API server, which the kind of event goes first in.
                let line = |type_: &str, object: &str| format!("{{\"type\": \"{type_}\", \"object\": {object}}}\n");
                let changed = object("c", json!("deep")).to_string().replace("\"deep\"", &deep);
                [line("ADDED", &changed), line("DELETED", &object("b", json!({})).to_string())].concat().into_bytes()
            } else {
                let items = [object("a", json!({"slack": 7})), object("b", json!("no object at all"))];
                let list = json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventSinkList",
                    "metadata": {"resourceVersion": "7"}, "items": items});
                list.to_string().replace("\"no object at all\"", &deep).into_bytes()
            };
            Ok::<_, kube::Error>(http::Response::new(Body::from(body)))
        });
        let notes = Notes::default();
        run(notes.clone(), Client::new(service, "default"), notes.1.clone()).await.expect("a clean end");
        assert_eq!(*notes.0.lock(), ["apply a", "apply b", "listed 2", "apply c", "gone b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_in_which_nothing_comes_is_begun_anew_by_a_list_after_five_minutes() {
        let lists = Arc::new(Mutex::new(Vec::new()));
        let (times, began) = (lists.clone(), Instant::now());
        let service = tower::service_fn(move |request: Request<Body>| {
            let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            if !watches {
                times.lock().push(began.elapsed().as_secs());
            }
            async move {
                if watches {
                    std::future::pending::<()>().await;
                }
                let list = json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventSinkList",
                    "metadata": {"resourceVersion": "7"}, "items": []});
                Ok::<_, kube::Error>(http::Response::new(Body::from(list.to_string().into_bytes())))
            }
        });
        let notes = Notes::default();
        let running = run(notes.clone(), Client::new(service, "default"), notes.1.clone());
        assert!(tokio::time::timeout(Duration::from_secs(650), running).await.is_err());
        assert_eq!((lists.lock().clone(), notes.0.lock().clone()), (vec![0, 300, 600], vec!["listed 0".to_owned(); 3]));
    }
}
