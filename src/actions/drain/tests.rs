use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::*;
use crate::{
    actions::{
        Side,
        testing::{action, common, context},
    },
    kubernetes::fake::{Fake, failure as status},
};

const NODE: &str = "/api/v1/nodes/n1";
const EVICTION: &str = "/api/v1/namespaces/shop/pods/";

fn owned(kind: &str, version: &str) -> Value {
    json!({"ownerReferences": [{"apiVersion": version, "kind": kind, "name": "o", "uid": "o", "controller": true}]})
}

fn metadata(name: &str, more: Value) -> Value {
    let mut whole = json!({"namespace": "shop", "name": name, "uid": name});
    whole.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
    whole
}

fn movable(more: Value) -> Option<Movable> {
    Movable::of(serde_json::from_value(metadata("web-1", more)).expect("metadata"))
}

#[test]
fn what_belongs_to_the_node_stays() {
    assert!(movable(owned("DaemonSet", "apps/v1")).is_none());
    assert!(movable(json!({"annotations": {MIRROR: "0"}})).is_none());
    assert!(movable(owned("DaemonSet", "example.com/v1")).is_some_and(|one| !one.alone));
    assert!(movable(owned("ReplicaSet", "apps/v1")).is_some_and(|one| !one.alone && !one.leaves));
    assert!(movable(json!({})).is_some_and(|one| one.alone));
    assert!(movable(json!({"deletionTimestamp": "2026-11-25T10:00:00Z"})).is_some_and(|one| !one.alone && one.leaves));
}

/// A Node with these Pods; the names of managed ones begin with `web`, those of ended ones with `ended`. A Pod goes when it is evicted, unless this is
/// answered.
#[derive(Clone)]
struct Site {
    fake: Fake,
    pods: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn new(pods: &[&str], refused: &'static str, answer: (u16, Value)) -> Self {
        Self::of(pods, move |name| (name == refused).then(|| (answer.clone(), false)))
    }

    /// The first answer to an eviction is lost. Whether it was carried out all the same.
    fn losing(pods: &[&str], carried: bool) -> Self {
        let lost = AtomicBool::new(false);
        let answer = move || (status(504, "Timeout", "too slow"), carried);
        Self::of(pods, move |_| (!lost.swap(true, Ordering::Relaxed)).then(answer))
    }

    /// What is said to the eviction of the Pod of a name, and whether it goes all the same; nothing: it is accepted.
    fn of(pods: &[&str], said: impl Fn(&str) -> Option<((u16, Value), bool)> + Send + Sync + 'static) -> Self {
        let pods: Arc<Mutex<Vec<String>>> = Arc::new(Mutex::new(pods.iter().map(|one| (*one).to_owned()).collect()));
        let held = Arc::clone(&pods);
        let fake = Fake::new(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
            ("GET" | "PATCH", NODE) => (
                200,
                json!({"apiVersion": "v1", "kind": "Node", "spec": {}, "metadata": {"name": "n1", "uid": "u1",
                    "resourceVersion": if seen.method == "GET" { "7" } else { "8" }}}),
            ),
            ("GET", "/api/v1/pods" | "/api/v1/namespaces/shop/pods") => {
                let running = seen.query.contains("status.phase");
                let held = held.lock();
                let items = held.iter().filter(|name| !running || !name.starts_with("ended")).map(|name| {
                    let more = if name.starts_with("web") { owned("ReplicaSet", "apps/v1") } else { json!({}) };
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata(name, more)})
                });
                let items: Vec<Value> = items.collect();
                (
                    200,
                    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items}),
                )
            }
            ("POST", path) if path.starts_with(EVICTION) => {
                let name = path[EVICTION.len()..].trim_end_matches("/eviction");
                let accepted = || ((201, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})), true);
                let (answer, goes) = said(name).unwrap_or_else(accepted);
                held.lock().retain(|one| !goes || one != name);
                answer
            }
            _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
        });
        Self { fake, pods }
    }

    fn willing(pods: &[&str]) -> Self {
        Self::new(pods, "", (200, Value::Null))
    }

    /// What comes of the drain when these Pods have come by the time that it begins.
    async fn drained(&self, force: bool, later: &[&str]) -> Result<Done, Failure> {
        let drain = action(json!({"name": "act", "drain": {"node": "n1", "force": force}, "timeout": "20s"}));
        let cx = context(&self.fake);
        let request = drain.render(&cx, &json!({"node": "n1"})).await?;
        self.pods.lock().extend(later.iter().map(|one| (*one).to_owned()));
        drain.execute(&cx, &request, Attempt::First, Permit::for_test()).await
    }

    fn left(&self) -> Vec<String> {
        self.pods.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_refused_does_not_keep_the_others() {
    for said in [
        status(403, "Forbidden", "admission webhook \"guard.e.com\" denied the request: not web-1"),
        status(
            403,
            "Forbidden",
            "pods \"web-1\" is forbidden: unable to create new content because the namespace is being terminated",
        ),
        status(422, "Invalid", "it is not to be"),
    ] {
        let words = said.1["message"].as_str().expect("words").to_owned();
        let site = Site::new(&["web-1", "web-2", "web-3"], "web-1", said);
        let done = site.drained(false, &[]).await.expect("an end");
        assert_eq!((done.outcome, done.reason), (ActionOutcome::Failed, Some(FailureReason::TimedOut)));
        assert!(done.message.contains("1 Pod left") && done.message.contains(&words), "{}", done.message);
        assert_eq!(site.left(), ["web-1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_went_while_the_answer_was_lost_was_evicted_by_the_rule() {
    for (carried, evictions) in [(true, 1), (false, 2)] {
        let site = Site::losing(&["web-1"], carried);
        let told = Arc::new(Mutex::new(Vec::<(String, Option<bool>)>::new()));
        let heard = Arc::clone(&told);
        let mut cx = context(&site.fake);
        cx.beside = Arc::new(move |object, side| {
            let goes = match side {
                Side::Begins => None,
                Side::Over(effect) => Some(effect.is_some_and(|effect| effect.gone && effect.uid == "web-1")),
            };
            heard.lock().push((object.to_owned(), goes));
        });
        let drain = action(json!({"name": "act", "drain": {"node": "n1"}, "timeout": "20s"}));
        let request = drain.render(&cx, &json!({"node": "n1"})).await.expect("a request");
        let done = drain.execute(&cx, &request, Attempt::First, Permit::for_test()).await.expect("an end");
        assert_eq!((done.outcome, site.left().len()), (ActionOutcome::Succeeded, 0), "{}", done.message);
        let pod = || "shop/Pod/web-1".to_owned();
        assert_eq!(*told.lock(), [(pod(), None), (pod(), Some(true))], "nothing is said of it in between");
        let asked = site.fake.requests().into_iter().filter(|seen| seen.path.ends_with("/eviction")).count();
        assert_eq!(asked, evictions, "a budget is not charged for what has gone");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_ends_it() {
    let said = status(
        403,
        "Forbidden",
        "pods \"web-1\" is forbidden: User \"system:serviceaccount:shop:shop-ops\" cannot create",
    );
    let failure = Site::new(&["web-1", "web-2"], "web-1", said).drained(false, &[]).await.expect_err("no right");
    assert!(failure.message.contains("may not create pods/eviction"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_nothing_makes_anew_is_left_and_told() {
    let site = Site::willing(&["web-1", "bare"]);
    let failure = site.drained(false, &[]).await.expect_err("it is refused");
    assert!(failure.message.contains("such as Pod shop/bare; none was evicted"), "{}", failure.message);
    assert_eq!(site.left(), ["web-1", "bare"]);
    // One that has come since.
    let site = Site::willing(&["web-1"]);
    let done = site.drained(false, &["bare", "web-2"]).await.expect("an end");
    assert_eq!((done.outcome, done.reason), (ActionOutcome::Failed, None), "{}", done.message);
    for part in ["drained but for 1 Pod", "such as Pod shop/bare", "force: true", "stays cordoned"] {
        assert!(done.message.contains(part), "{part}: {}", done.message);
    }
    assert!(done.effect.is_some(), "it was cordoned");
    assert_eq!(site.left(), ["bare"]);

    let site = Site::willing(&["web-1", "bare"]);
    assert_eq!(site.drained(true, &[]).await.expect("an end").outcome, ActionOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_is_evicted_although_nothing_makes_it_anew() {
    let site = Site::willing(&["web-1", "ended"]);
    let done = site.drained(false, &[]).await.expect("an end");
    assert_eq!((done.outcome, &*done.message), (ActionOutcome::Succeeded, "cordoned Node n1; 2 Pods went"));
    assert_eq!(site.left(), Vec::<String>::new());
}
