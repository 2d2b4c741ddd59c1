//! Case 26: many rules ask little of the API server, and what becomes of most of them is no matter to the others.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, ListParams};
use tokio::time::Instant;

use super::*;
use crate::support::{
    PATIENCE,
    http::post,
    proxy::{Fate, Proxy},
    site::condition,
};

/// Half of them on Events, each with a selector of its own; the others on updates of Deployments.
const RULES: usize = 120;
/// From an event to its arrival at the sink; on a quiet machine it takes some milliseconds.
const SOON: Duration = Duration::from_secs(5);

fn crowd(number: usize) -> Value {
    let app = json!({"matchLabels": {"app": format!("app-{number}")}});
    let source = match number % 2 {
        0 => {
            json!({"name": "s", "kubernetesEvent": {"reasons": ["Crowd"], "regarding": {"kind": "Pod", "selector": app}}})
        }
        _ => {
            json!({"name": "s", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Update"], "selector": app}})
        }
    };
    json!({"sources": [source], "actions": tell("nobody hears this")})
}

fn steady(text: &str) -> Value {
    json!({"sources": [{"name": "s", "kubernetesEvent": {"reasons": ["Steady"]}}], "actions": tell(text)})
}

async fn create(shop: &Shop) {
    let one = async |number: usize| {
        let spec = json!({"spec": crowd(number)});
        shop.create("signalbox.dev/v1alpha1", "EventRule", &format!("crowd-{number}"), spec).await;
    };
    stream::iter(0..RULES).map(one).buffer_unordered(8).collect::<Vec<()>>().await;
}

async fn all_ready(shop: &Shop) {
    let ready = async || {
        let rules = shop.api("signalbox.dev/v1alpha1", "EventRule").list(&ListParams::default()).await.ok()?;
        let ready = rules.items.iter().filter(|rule| condition(&rule.data["status"], "Ready")["status"] == "True");
        (ready.count() > RULES).then_some(())
    };
    eventually("all rules are ready", 2 * PATIENCE, ready).await;
}

/// Makes an event every twentieth of a second until it is told to stop; gives when each was made.
async fn happen(shop: &Shop, stop: &AtomicBool) -> BTreeMap<String, Instant> {
    let (mut made, mut pace) = (BTreeMap::new(), tokio::time::interval(Duration::from_millis(50)));
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let pod = format!("p{}", made.len());
        made.insert(pod.clone(), Instant::now());
        shop.event(&format!("{pod}.1"), &pod, "Steady").await;
    }
    made
}

/// How often the operator has asked for all objects of a kind: for a list, and for a watch.
fn asked(proxy: &Proxy, plural: &str) -> usize {
    proxy.fates(|seen| seen.method == "GET" && seen.path.ends_with(&format!("/{plural}"))).len()
}

#[tokio::test]
async fn case_26_many_rules_share_few_watches_and_all_of_them_can_be_replaced_while_events_flow() {
    let site = Site::start().await;
    let proxy = Proxy::start(&site.plane, |_| async { Fate::Pass }).await;
    let setup = site.setup_behind(&proxy);
    let operator = setup.start_ready().await;
    let (shop, sink) = (site.namespace("crowds").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("steady", steady("${event.data.regarding.name}")).await;
    create(&shop).await;
    all_ready(&shop).await;
    // A watch ends every third of a minute and is opened again.
    let (events, deployments) = (asked(&proxy, "events"), asked(&proxy, "deployments"));
    assert!((2..=10).contains(&events) && (2..=10).contains(&deployments), "{events} and {deployments}");
    assert_eq!((asked(&proxy, "pods"), asked(&proxy, "secrets")), (0, 0), "nobody has asked for these");

    let stop = AtomicBool::new(false);
    let replace = async {
        let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
        for number in 0..RULES {
            rules.delete(&format!("crowd-{number}"), &DeleteParams::default()).await.expect("delete a rule");
        }
        create(&shop).await;
        all_ready(&shop).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (made, ()) = tokio::join!(happen(&shop, &stop), replace);
    let requests = sink.await_requests(made.len()).await;
    assert_eq!(texts(&requests), made.keys().cloned().collect(), "each event is told");
    assert_eq!(requests.len(), made.len(), "each is told once");
    let waited = |request: &Request| request.at - made[request.json()["text"].as_str().expect("a text")];
    let slowest = requests.iter().map(waited).max().expect("something was told");
    assert!(slowest < SOON, "{slowest:?}");
    drop(operator);
}

/// What one rule asks of a body of nearly a megabyte is bounded, and the rules beside it do not notice.
#[tokio::test]
async fn case_26_a_pattern_on_a_megabyte_delays_nobody_else() {
    let site = Site::start().await;
    let operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("large").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("steady", steady("${event.data.regarding.name}")).await;
    shop.source("floor", json!({"webhook": {"auth": {"none": {}}}})).await;
    let nested = "event.data.text.matches('(a+)+$')";
    let rule = json!({
        "sources": [{"name": "floor", "ref": {"name": "floor"}}],
        "when": [{"name": "pattern", "expression": nested}],
        "actions": tell("it matches"),
    });
    shop.rule("hungry", rule).await;
    let path = format!("/hooks/{}/floor", shop.name);
    let send = async |text: String| {
        let (headers, body) = ([("Content-Type", "application/json")], json!({"text": text}).to_string());
        assert_eq!(post(operator.hooks(), &path, &headers, body.as_bytes()).await.expect("an answer").0, 202);
    };
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        send(format!("{}b", "a".repeat(900_000))).await;
        let (pod, began) = (format!("p{number}"), Instant::now());
        shop.event(&format!("{pod}.1"), &pod, "Steady").await;
        sink.await_requests(number + 1).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < SOON, "{slowest:?}");
    send("aaa".to_owned()).await;
    let status = shop.rule_status("hungry", "the last has matched", |status| status["counts"]["matched"] == 1).await;
    assert_eq!((&status["counts"]["seen"], &status["counts"]["errors"]), (&json!(11), &json!(0)), "{status:#}");
}
