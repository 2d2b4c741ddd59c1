//! Two operators on a real API server: one log acts, the other waits, and what one has done the other does not do again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::Instant;

use support::{
    PATIENCE, eventually,
    http::post,
    operator::{Operator, Setup},
    proxy::{Fate, Proxy, Seen},
    sink::{Answer, Sink},
    site::{Shop, Site},
};

mod support;

const LEASE: &str = "--lease=signalbox-system/signalbox";

fn leased(setup: Setup) -> Setup {
    setup.args(&[LEASE, "--lease-duration=3s"])
}

fn on_events() -> Value {
    json!([{"name": "crash", "kubernetesEvent": {"types": ["Warning"], "reasons": ["BackOff"]}}])
}

/// Adds a replica and tells of it: what is done twice is seen.
fn rule() -> Value {
    let grow = json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}});
    json!({"sources": on_events(), "actions": [grow, tell()]})
}

fn tell() -> Value {
    json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.regarding.name}"}})
}

/// How often each text was told; what is told again with the same key counts once.
fn told(sink: &Sink) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::<String, Vec<String>>::new();
    for request in sink.requests() {
        let key = request.header("idempotency-key").expect("every alert has a key").to_owned();
        let known = keys.entry(request.json()["text"].as_str().unwrap_or_default().to_owned()).or_default();
        if !known.contains(&key) {
            known.push(key);
        }
    }
    keys.into_iter().map(|(text, keys)| (text, keys.len())).collect()
}

async fn events(shop: &Shop, prefix: &str, count: usize) {
    for number in 0..count {
        shop.event(&format!("{prefix}{number}.1"), &format!("{prefix}{number}"), "BackOff").await;
    }
}

/// Waits until so many things were told, and so many replicas were added, each once.
async fn all_done_once(shop: &Shop, sink: &Sink, count: usize) {
    let wanted = i64::try_from(count).expect("small");
    eventually(&format!("{count} things are done"), PATIENCE, async || {
        let done = told(sink).len() >= count && shop.replicas("web").await >= wanted;
        done.then_some(())
    })
    .await;
    let told = told(sink);
    assert!(told.len() == count && told.values().all(|times| *times == 1), "{told:?}");
    assert_eq!(shop.replicas("web").await, wanted);
}

async fn lease(site: &Site) -> Value {
    let system = Shop { name: "signalbox-system".to_owned(), client: site.client.clone() };
    let lease = system.api("coordination.k8s.io/v1", "Lease").get("signalbox").await.expect("the Lease");
    serde_json::to_value(lease).expect("JSON")
}

async fn metric(operator: &Operator, line: &str) {
    eventually(line, PATIENCE, async || operator.metrics().await.lines().any(|one| one == line).then_some(())).await;
}

/// Waits until the operator acts and listens. What the status says may be of the other one.
async fn listens(operator: &mut Operator) {
    operator.ready().await;
    metric(operator, "signalbox_watches{state=\"Established\"} 1").await;
}

#[tokio::test]
async fn of_two_logs_one_acts_and_the_other_takes_over_without_doing_anything_again() {
    let site = Site::start().await;
    let shop = site.namespace("two").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let (one, other) = (leased(site.another()), leased(site.another()));
    let first = one.start_ready().await;
    let second = other.start();
    second.waits_for("on another volume").await;
    shop.rule("two", rule()).await;
    events(&shop, "first", 10).await;
    all_done_once(&shop, &sink, 10).await;
    metric(&first, "signalbox_may_act 1").await;
    metric(&second, "signalbox_may_act 0").await;

    // The other log is new: what the first has done is history to it.
    first.kill();
    let mut second = second;
    listens(&mut second).await;
    events(&shop, "second", 10).await;
    all_done_once(&shop, &sink, 20).await;
    metric(&second, "signalbox_bus_lost 1").await;
    let system = Shop { name: "signalbox-system".to_owned(), client: site.client.clone() };
    eventually("the loss is told on the Lease", PATIENCE, async || {
        let events = system.api("events.k8s.io/v1", "Event").list(&ListParams::default()).await.ok()?;
        events
            .items
            .iter()
            .any(|event| event.data["reason"] == "BusLost" && event.data["regarding"]["kind"] == "Lease")
            .then_some(())
    })
    .await;

    // The first remembers a world from before: what the second has done is no news to it either.
    let mut first = one.start();
    first.waits_for("on another volume").await;
    second.kill();
    listens(&mut first).await;
    events(&shop, "third", 10).await;
    all_done_once(&shop, &sink, 30).await;
}

#[tokio::test]
async fn a_process_that_was_stopped_for_longer_than_its_lease_does_nothing_more() {
    const QUEUED: usize = 100;
    /// Of one rule.
    const AT_ONCE: usize = 16;
    const SLOW: Duration = Duration::from_secs(10);
    let site = Site::start().await;
    let shop = site.namespace("woken").await;
    let sink = Sink::start().await;
    sink.answer(Answer::status(200).after(SLOW));
    shop.sink("oncall", &sink.url("/")).await;
    let (one, other) = (leased(site.another()), leased(site.another()));
    let mut first = one.start_ready().await;
    let mut second = other.start();
    let mut slowly = tell();
    slowly["retry"] = json!({"attemptTimeout": "60s"});
    shop.rule("woken", json!({"sources": on_events(), "actions": [slowly]})).await;
    events(&shop, "queued", QUEUED).await;
    metric(&first, &format!("signalbox_rule_decisions_total{{decision=\"Fired\"}} {QUEUED}")).await;
    // Stopped while all that it has sent is with the sink: what was on its way would arrive later, and be no news.
    sink.await_requests(AT_ONCE).await;
    first.signal("STOP");
    assert_eq!(sink.requests().len(), AT_ONCE, "the others are queued");
    let answered = Instant::now() + SLOW;
    sink.answer(Answer::status(200));

    listens(&mut second).await;
    events(&shop, "new", 3).await;
    let stopped = AT_ONCE + 3;
    sink.await_requests(stopped).await;
    // So it finds answers, and places for what is queued.
    tokio::time::sleep_until(answered).await;
    first.signal("CONT");
    assert!(!first.ended().await.success(), "it ends");
    assert!(first.log().contains("has taken over"), "{}", first.log());
    assert_eq!(sink.requests().len(), stopped, "the woken one does nothing more");

    // What it had accepted while it was the one that acts is still its own to do.
    let mut first = one.start();
    second.kill();
    first.ready().await;
    shop.rule_status("woken", "all are done", |status| status["counts"]["succeeded"] == QUEUED).await;
    let told = told(&sink);
    assert_eq!(told.len(), QUEUED + 3);
    assert!(told.values().all(|times| *times == 1), "{told:?}");
}

#[tokio::test]
async fn an_operator_that_cannot_renew_its_lease_accepts_events_and_acts_when_it_can_again() {
    let site = Site::start().await;
    let shop = site.namespace("cut").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let cut = Arc::new(AtomicBool::new(false));
    let refuses = cut.clone();
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let refused = seen.path.contains("/leases/") && refuses.load(Ordering::SeqCst);
        async move { if refused { Fate::Refuse(504) } else { Fate::Pass } }
    })
    .await;
    let setup = leased(site.setup_behind(&proxy));
    let operator = setup.start_ready().await;
    shop.rule("cut", rule()).await;
    events(&shop, "before", 3).await;
    all_done_once(&shop, &sink, 3).await;

    cut.store(true, Ordering::SeqCst);
    metric(&operator, "signalbox_may_act 0").await;
    events(&shop, "during", 5).await;
    metric(&operator, "signalbox_rule_decisions_total{decision=\"Fired\"} 8").await;
    assert_eq!((told(&sink).len(), shop.replicas("web").await), (3, 3), "nothing is done without the Lease");
    cut.store(false, Ordering::SeqCst);
    all_done_once(&shop, &sink, 8).await;
    metric(&operator, "signalbox_may_act 1").await;
}

#[tokio::test]
async fn a_second_process_on_the_same_volume_waits_and_then_acts_without_waiting_for_the_lease() {
    let site = Site::start().await;
    let setup = site.another().args(&[LEASE, "--lease-duration=120s"]);
    let first = setup.start_ready().await;
    let epoch = async || lease(&site).await["metadata"]["annotations"]["signalbox.dev/epoch"].clone();
    assert_eq!(epoch().await, "1");
    let mut second = setup.start();
    second.waits_for("waiting for the volume").await;
    first.kill();
    second.ready().await;
    assert_eq!(epoch().await, "2");
    let lease = lease(&site).await;
    assert_eq!(lease["spec"]["leaseTransitions"], 0, "the log is the same");
    assert!(lease["metadata"]["labels"]["app.kubernetes.io/name"].is_string(), "it is the chart's own");
}

/// B3 no. 11: what comes in while the API server is away waits for it, however long that takes.
#[tokio::test]
async fn what_webhooks_bring_while_the_api_server_is_away_is_done_once_and_in_order_when_it_is_back() {
    const EVENTS: usize = 30;
    let site = Site::start().await;
    let shop = site.namespace("outage").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    let setup = leased(site.another());
    let operator = setup.start_ready().await;
    shop.source("floor", json!({"webhook": {"auth": {"none": {}}}})).await;
    let mut outage = rule();
    outage["sources"] = json!([{"name": "floor", "ref": {"name": "floor"}}]);
    // One group: firings of a group are carried out in their order.
    outage["groupBy"] = json!([{"name": "all", "expression": "'all'"}]);
    outage["actions"][1]["notify"]["text"] = "${event.data.number}".into();
    shop.rule("outage", outage).await;

    site.plane.stop_api_server();
    metric(&operator, "signalbox_may_act 0").await;
    let path = format!("/hooks/{}/floor", shop.name);
    for number in 0..EVENTS {
        let (headers, body) = ([("Content-Type", "application/json")], json!({"number": number}).to_string());
        let answer = post(operator.hooks(), &path, &headers, body.as_bytes()).await;
        assert_eq!(answer.expect("an answer").0, 202, "{number}");
    }
    metric(&operator, &format!("signalbox_rule_decisions_total{{decision=\"Fired\"}} {EVENTS}")).await;
    assert!(sink.requests().is_empty(), "nothing is done while nobody can say who may act");
    site.plane.start_api_server().await;
    all_done_once(&shop, &sink, EVENTS).await;
    let mut order: Vec<usize> = Vec::new();
    for request in sink.requests() {
        let number = request.json()["text"].as_str().and_then(|text| text.parse().ok()).expect("a number");
        order.extend((order.last() != Some(&number)).then_some(number));
    }
    assert_eq!(order, (0..EVENTS).collect::<Vec<_>>(), "the oldest first");
}
