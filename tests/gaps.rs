//! Gaps on a real API server: what happened while nobody listened is told once, and what did not happen is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use support::proxy::{Fate, Proxy, Seen};
use support::sink::{Request, Sink};
use support::site::{Shop, Site, condition};
use support::{PATIENCE, eventually};

mod support;

/// A rule on ConfigMaps of the tier `front`, that tells what happened to which. All are one group, so they are told in the order they came.
fn on_maps(more: Value) -> Value {
    let mut resource = json!({"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"tier": "front"}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        resource[key] = value.clone();
    }
    let gap = "${event.data.gap ? 'in a gap' : 'live'}";
    let text = format!("${{event.data.operation}} ${{object.metadata.name}} {gap}");
    json!({
        "sources": [{"name": "maps", "resource": resource}],
        "groupBy": [{"name": "all", "expression": "'all'"}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}}],
    })
}

/// A rule on Warnings, that tells a sink the name of the Pod.
fn on_events(sink: &str) -> Value {
    json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"types": ["Warning"]}}],
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": sink}, "text": "${event.data.regarding.name}"}}],
    })
}

async fn map(shop: &Shop, name: &str, tier: &str) {
    let rest = json!({"metadata": {"name": name, "labels": {"tier": tier}}, "data": {"a": "0"}});
    shop.create("v1", "ConfigMap", name, rest).await;
}

async fn change(shop: &Shop, name: &str, value: &str) {
    let patch = Patch::Merge(json!({"data": {"a": value}}));
    shop.api("v1", "ConfigMap").patch(name, &PatchParams::default(), &patch).await.expect("change a ConfigMap");
}

async fn delete(shop: &Shop, name: &str) {
    shop.api("v1", "ConfigMap").delete(name, &DeleteParams::default()).await.expect("delete a ConfigMap");
}

/// What the sink was told, and about how many firings: what is sent again has the same key.
fn told(sink: &Sink) -> BTreeMap<String, usize> {
    let text = |request: &Request| request.json()["text"].as_str().expect("a text").to_owned();
    let key = |request: &Request| request.header("idempotency-key").expect("a key").to_owned();
    let firings: BTreeSet<_> = sink.requests().iter().map(|request| (text(request), key(request))).collect();
    firings.into_iter().fold(BTreeMap::new(), |mut told, (text, _)| {
        *told.entry(text).or_default() += 1;
        told
    })
}

/// Each of these once.
fn once(texts: &[&str]) -> BTreeMap<String, usize> {
    texts.iter().map(|text| ((*text).to_owned(), 1)).collect()
}

/// Waits until the sink was told of a creation that is made now, behind which nothing that happened before can hide; gives what it was told else.
async fn told_until(name: &str, shop: &Shop, sink: &Sink) -> BTreeMap<String, usize> {
    map(shop, name, "front").await;
    let texts = [format!("Create {name} live"), format!("Create {name} in a gap")];
    let mut told = eventually(&texts[0], PATIENCE, async || {
        let told = told(sink);
        texts.iter().any(|text| told.contains_key(text)).then_some(told)
    })
    .await;
    told.retain(|text, _| !texts.contains(text));
    told
}

/// Waits until the sink was told each of these; then that it was told nothing else.
async fn told_once(texts: &[&str], shop: &Shop, sink: &Sink) {
    let expected = once(texts);
    let all = async || {
        let told = told(sink);
        expected.keys().all(|text| told.contains_key(text)).then_some(())
    };
    let came = tokio::time::timeout(PATIENCE, eventually("all is told", PATIENCE * 2, all)).await;
    assert!(came.is_ok(), "{expected:?} not within {PATIENCE:?}, but {:?}", told(sink));
    let mut told = told_until("until-then", shop, sink).await;
    told.retain(|text, _| !text.ends_with("before live"));
    assert_eq!(told, expected);
    delete(shop, "until-then").await;
    eventually("the end is told", PATIENCE, async || {
        self::told(sink).contains_key("Delete until-then live").then_some(())
    })
    .await;
}

/// All that can happen to objects while nobody listens.
async fn happen(shop: &Shop) {
    for name in ["changed", "changed"] {
        change(shop, name, name).await;
        change(shop, name, "again").await;
    }
    for name in ["gone", "gone-other", "again"] {
        delete(shop, name).await;
    }
    map(shop, "again", "front").await;
    map(shop, "new", "front").await;
    map(shop, "new-other", "back").await;
    map(shop, "came-and-went", "front").await;
    delete(shop, "came-and-went").await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": "back"}}}));
    shop.api("v1", "ConfigMap").patch("left", &PatchParams::default(), &patch).await.expect("change labels");
    delete(shop, "left").await;
}

const HAPPENED: [&str; 6] = [
    "Create again in a gap",
    "Create new in a gap",
    "Delete again in a gap",
    "Delete gone in a gap",
    "Delete left in a gap",
    "Update changed in a gap",
];

/// A site with a rule that listens, with objects that existed before it.
async fn listening(site: &Site, shop: &Shop, sink: &Sink) {
    let role = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: watch-maps, labels: \
                {signalbox.dev/aggregate-to-watch: \"true\"}}, rules: [{apiGroups: [\"\"], resources: [configmaps], verbs: [list, watch]}]}";
    site.plane.apply(role).await;
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "signalbox-rules", "namespace": shop.name}],
    });
    shop.create("rbac.authorization.k8s.io/v1", "RoleBinding", "viewer", binding).await;
    for account in ["signalbox-system:signalbox".to_owned(), format!("{}:signalbox-rules", shop.name)] {
        let account = format!("--as=system:serviceaccount:{account}");
        let may = ["auth", "can-i", "watch", "configmaps", "-n", &shop.name, &account];
        let what = format!("{account} may watch");
        eventually(&what, PATIENCE, async || site.plane.kubectl(&may).await.status.success().then_some(())).await;
    }
    shop.sink("oncall", &sink.url("/")).await;
    for name in ["same", "changed", "gone", "again", "left"] {
        map(shop, name, "front").await;
    }
    map(shop, "gone-other", "back").await;
    shop.rule("maps", on_maps(json!({}))).await;
    assert_eq!(told_until("before", shop, sink).await, once(&[]), "what existed is no news");
}

/// Lists of ConfigMaps in a namespace that are compared with what was seen before.
fn compared(proxy: &Proxy, shop: &Shop) -> usize {
    let path = format!("/api/v1/namespaces/{}/configmaps", shop.name);
    proxy.fates(|seen| seen.path == path && seen.query.contains("NotOlderThan")).len()
}

#[tokio::test]
async fn what_happened_while_the_operator_stood_still_and_history_was_compacted_is_told_once() {
    let site = Site::start().await;
    let proxy = Proxy::start(&site.plane, |_| async { Fate::Pass }).await;
    let shop = site.namespace("frozen").await;
    let sink = Sink::start().await;
    let setup = site.setup_behind(&proxy);
    let operator = setup.start_ready().await;
    listening(&site, &shop, &sink).await;
    // Events have no watch cache: their 410 comes from etcd.
    let of_events = Sink::start().await;
    shop.sink("events", &of_events.url("/")).await;
    shop.rule("events", on_events("events")).await;
    shop.event("live.1", "live", "BackOff").await;
    of_events.await_requests(1).await;
    assert_eq!(compared(&proxy, &shop), 0);

    operator.signal("STOP");
    // What is on its way to the operator would be no gap.
    site.plane.stop_api_server();
    site.plane.start_api_server().await;
    happen(&shop).await;
    shop.event("missed.1", "missed", "BackOff").await;
    site.plane.compact().await;
    operator.signal("CONT");
    told_once(&HAPPENED, &shop, &sink).await;
    assert!(compared(&proxy, &shop) > 0, "the watch could not go on from where it was");
    shop.event("last.1", "last", "BackOff").await;
    of_events.await_requests(3).await;
    assert_eq!(told(&of_events), once(&["live", "missed", "last"]));
    // With the creations before and after, and the deletion of the latter.
    let fired = HAPPENED.len() + 3;
    let status = shop.rule_status("maps", "all are done", |status| status["counts"]["succeeded"] == fired).await;
    assert_eq!(status["counts"]["fired"], fired);
    assert_eq!(condition(&status, "Listening")["reason"], "WatchEstablished");
}

#[tokio::test]
async fn what_happened_while_the_operator_was_dead_is_told_once_and_not_to_who_skips_gaps() {
    let site = Site::start().await;
    let shop = site.namespace("dead").await;
    let sink = Sink::start().await;
    let operator = site.setup.start_ready().await;
    listening(&site, &shop, &sink).await;
    let skipping = Sink::start().await;
    shop.sink("skipping", &skipping.url("/")).await;
    let mut skips = on_maps(json!({"onGap": "Skip"}));
    skips["actions"][0]["notify"]["sinkRef"]["name"] = "skipping".into();
    shop.rule("skips", skips).await;

    operator.kill();
    happen(&shop).await;
    site.plane.compact().await;
    let operator = site.setup.start_ready().await;
    told_once(&HAPPENED, &shop, &sink).await;
    let so_far = told(&sink);
    // Once more, without anything having happened.
    operator.kill();
    let _operator = site.setup.start_ready().await;
    let mut expected = so_far.clone();
    expected.retain(|text, _| !text.starts_with("Create until-then"));
    assert_eq!(told_until("until-then", &shop, &sink).await, expected);
    let known = ["Create until-then live", "Create until-then in a gap", "Delete until-then live"];
    assert!(told(&skipping).keys().all(|text| known.contains(&text.as_str())), "{:?}", told(&skipping));
    shop.rule_status("skips", "it listens", |status| status["counts"]["matched"].as_u64() > Some(0)).await;
}

#[tokio::test]
async fn an_older_list_that_an_api_server_still_has_is_never_compared() {
    const REPLAYS: usize = 4;
    let site = Site::start().await;
    let shop = site.namespace("lagging").await;
    let path = format!("/api/v1/namespaces/{}/configmaps", shop.name);
    let (lists, of_maps) = (Arc::new(AtomicUsize::new(0)), path.clone());
    let proxy = Proxy::start(&site.plane, move |seen: Seen| {
        let list = (seen.path == of_maps && !seen.is_watch()).then(|| lists.fetch_add(1, Ordering::SeqCst));
        let fate = match list {
            Some(0) => Fate::Keep,
            Some(1..=REPLAYS) => Fate::Replay,
            _ => Fate::Pass,
        };
        async move { fate }
    })
    .await;
    let sink = Sink::start().await;
    let setup = site.setup_behind(&proxy);
    let operator = setup.start_ready().await;
    listening(&site, &shop, &sink).await;
    change(&shop, "changed", "live").await;
    delete(&shop, "gone").await;
    sink.await_requests(3).await;
    operator.kill();
    change(&shop, "same", "in a gap").await;
    let _operator = setup.start_ready().await;
    let texts = ["Delete gone live", "Update changed live", "Update same in a gap"];
    told_once(&texts, &shop, &sink).await;
    let fates = proxy.fates(|seen| seen.path == path && !seen.is_watch());
    assert!(fates.len() > REPLAYS + 1 && fates[1..=REPLAYS].iter().all(|fate| *fate == Fate::Replay), "{fates:?}");
}

#[tokio::test]
async fn of_five_thousand_events_of_the_last_hour_a_restart_acts_on_none() {
    const EVENTS: usize = 5000;
    let site = Site::start().await;
    let shop = &site.namespace("hour").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let write = async |number: usize| shop.event(&format!("p{number}.1"), &format!("p{number}"), "BackOff").await;
    stream::iter(0..EVENTS).map(write).buffer_unordered(32).collect::<Vec<()>>().await;
    let operator = site.setup.start_ready().await;
    shop.rule("events", on_events("oncall")).await;
    let act = async |name: &str, so_far: usize| {
        shop.event(&format!("{name}.1"), name, "BackOff").await;
        shop.rule_status("events", name, |status| status["counts"]["succeeded"] == so_far + 1).await
    };
    act("first", 0).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    let status = act("second", 1).await;
    assert_eq!((&status["counts"]["seen"], &status["counts"]["fired"]), (&json!(2), &json!(2)));
    assert_eq!(told(&sink), once(&["first", "second"]));
}

/// Takes more than a minute: so long versions may be behind before etcd itself is asked.
#[tokio::test]
async fn after_a_restore_of_etcd_what_exists_is_taken_as_known_and_the_rule_says_so() {
    let site = Site::start().await;
    let shop = site.namespace("restored").await;
    let sink = Sink::start().await;
    let _operator = site.setup.start_ready().await;
    listening(&site, &shop, &sink).await;
    site.plane.back_up().await;
    // So far back that the cluster cannot grow past it again before it is noticed.
    let grow = async |number: usize| change(&shop, "gone-other", &number.to_string()).await;
    stream::iter(0..1000).map(grow).buffer_unordered(16).collect::<Vec<()>>().await;
    change(&shop, "changed", "before the restore").await;
    delete(&shop, "gone").await;
    map(&shop, "young", "front").await;
    let before = told_until("last", &shop, &sink).await;

    site.plane.restore().await;
    let epoch = Duration::from_secs(120);
    let api = shop.api("signalbox.dev/v1alpha1", "EventRule");
    let why = eventually("the rule says so", epoch, async || {
        let status = api.get("maps").await.ok()?.data["status"].clone();
        let listening = condition(&status, "Listening");
        (listening["status"] == "True" && listening["reason"] == "MayHaveLostEvents").then_some(listening)
    })
    .await;
    let message = why["message"].as_str().unwrap_or_default();
    assert!(message.contains("v1/ConfigMap") && message.contains("had gone back from"), "{message}");
    change(&shop, "same", "after the restore").await;
    let mut told = told_until("very-last", &shop, &sink).await;
    assert_eq!(told.remove("Update same live"), Some(1), "{told:?}");
    told.retain(|text, _| !text.starts_with("Create last "));
    assert_eq!(told, before);
}

/// Takes about a minute: each watch stays open for a third of it.
#[tokio::test]
async fn a_quiet_watch_is_opened_again_and_again_and_takes_no_new_list() {
    let site = Site::start().await;
    let proxy = Proxy::start(&site.plane, |_| async { Fate::Pass }).await;
    let shop = site.namespace("quiet").await;
    let sink = Sink::start().await;
    let setup = site.setup_behind(&proxy);
    let _operator = setup.start_ready().await;
    listening(&site, &shop, &sink).await;
    let path = format!("/api/v1/namespaces/{}/configmaps", shop.name);
    let asked = |watches: bool| proxy.fates(|seen| seen.path == path && seen.is_watch() == watches).len();
    let long = Duration::from_secs(120);
    eventually("three watches of 20 to 25 s", long, async || (asked(true) >= 3).then_some(())).await;
    assert_eq!(asked(false), 1, "it goes on without a new list");
}
