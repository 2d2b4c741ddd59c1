//! A word that stands in Secrets only, and all that an operator writes while its rules use them: it is nowhere but where the rules send it.

use std::{fs, path::Path};

use http::Method;
use serde_json::{Value, json};

use super::{
    Shop, Sink, Site, ask,
    support::{PATIENCE, eventually, http::get, operator::Setup, sink::Answer, site::condition},
    token,
};

const GROUP: &str = "signalbox.dev/v1alpha1";
const CANARY: &str = "canary-7f3a91";
/// The beginning of what a Secret holds of it in base64.
const ENCODED: &str = "Y2FuYXJ5LTdmM2E5";

/// Sinks of every kind that leads to this server: addresses, headers, tokens and passwords are in the Secret `keys`.
fn sinks(server: &Sink) -> Vec<(&'static str, Value)> {
    let (at, key) = (server.address().to_string(), |key: &str| json!({"name": "keys", "key": key}));
    let login = json!({"username": "u", "passwordSecretRef": key("token")});
    let header = json!([{"name": "Authorization", "valueSecretRef": key("token")}]);
    let url = |path: &str| server.url(path);
    vec![
        ("slack", json!({"slack": {"urlSecretRef": key("url")}})),
        ("bot", json!({"slack": {"tokenSecretRef": key("token"), "channel": "C0123456789", "apiUrl": url("/api")}})),
        ("teams", json!({"teams": {"urlSecretRef": key("url")}})),
        ("discord", json!({"discord": {"urlSecretRef": key("url")}})),
        ("pagerduty", json!({"pagerduty": {"routingKeySecretRef": key("token"), "url": url("/v2")}})),
        ("alertmanager", json!({"alertmanager": {"url": url("/"), "headers": header}})),
        ("webhook", json!({"webhook": {"url": url("/"), "headers": header, "signing": {"secretRef": key("token")}}})),
        ("cloudevents", json!({"cloudEvents": {"urlSecretRef": key("url")}})),
        ("email", json!({"email": {"server": at, "from": "a@example.com", "to": ["b@example.com"], "login": login}})),
        ("nats", json!({"nats": {"servers": [at], "subject": "a", "auth": {"login": login}}})),
        ("mqtt", json!({"mqtt": {"address": at, "topic": "a", "login": login}})),
        ("amqp", json!({"amqp": {"address": at, "routingKey": "a", "login": login}})),
        ("redis", json!({"redis": {"server": at, "stream": "a", "auth": {"passwordSecretRef": key("token")}}})),
    ]
}

/// Tells all of them, and calls the server by itself.
fn rule(sinks: &[(&str, Value)], server: &Sink) -> Value {
    let tell = |name: &str| {
        json!({"name": name, "onError": "Continue", "timeout": "3s", "retry": {"limit": 1, "backoff": "10ms"},
            "notify": {"sinkRef": {"name": name}, "text": "${event.data.message}"}})
    };
    let mut actions: Vec<Value> = sinks.iter().map(|(name, _)| tell(name)).collect();
    let call = json!({"url": server.url("/call"), "authSecretRef": {"name": "keys", "key": "token"}});
    actions
        .push(json!({"name": "call", "onError": "Continue", "retry": {"limit": 1, "backoff": "10ms"}, "http": call}));
    json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}], "actions": actions})
}

/// All texts in the files of a folder, whatever they are.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            all.extend(texts(&entry));
        } else if let Ok(bytes) = fs::read(&entry) {
            all.push((entry.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    all
}

/// All that the API shows of what the operator writes.
async fn shown(shop: &Shop, address: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (version, kind) in [(GROUP, "EventRule"), (GROUP, "EventSink"), ("v1", "Event")] {
        let objects = shop.api(version, kind).list(&Default::default()).await.expect("list").items;
        all.push((kind.to_owned(), serde_json::to_string(&objects).expect("JSON")));
    }
    let own = token(shop, "signalbox-rules", "signalbox").await;
    let of_rule = format!("/v1/namespaces/{}/rules/leaks", shop.name);
    let (_, letters) = ask(address, Method::GET, &format!("{of_rule}/deadletters"), Some(&own)).await;
    let (_, history) = ask(address, Method::GET, &format!("{of_rule}/history"), Some(&own)).await;
    let firings = history["recent"].as_array().expect("firings").iter().map(|one| one["id"].as_str().expect("an id"));
    for id in firings {
        let path = format!("/v1/namespaces/{}/firings/{id}", shop.name);
        let (_, trace) = ask(address, Method::GET, &path, Some(&own)).await;
        assert!(trace["actions"].as_array().is_some_and(|all| all.len() > 10), "{trace:#}");
        all.push((path, trace.to_string()));
    }
    all.extend([("letters".to_owned(), letters.to_string()), ("history".to_owned(), history.to_string())]);
    all.push(("metrics".to_owned(), get(address, "/metrics").await.expect("metrics").1));
    all
}

#[tokio::test]
async fn what_a_secret_holds_is_nowhere_but_where_the_rules_send_it() {
    let (site, server) = (Site::start().await, Sink::start().await);
    let account = site.plane.service_account_token("signalbox-system", "signalbox").await;
    let setup = Setup::new(&site.plane.kubeconfig_for_token(&account)).args(&[
        "--log=trace",
        "--allow-egress=127.0.0.0/8",
        "--access-recheck=2s",
    ]);
    let operator = setup.start_ready().await;
    let shop = site.namespace("leaks").await;
    let url = server.url(&format!("/hook/{CANARY}?key={CANARY}"));
    shop.create("v1", "Secret", "keys", json!({"stringData": {"url": url, "token": CANARY}})).await;
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    for args in [
        ["create", "role", "keys", "--verb=get", "--resource=secrets", "-n", &shop.name],
        ["create", "rolebinding", "keys", "--role=keys", &account, "-n", &shop.name],
    ] {
        assert!(site.plane.kubectl(&args).await.status.success(), "{args:?}");
    }
    let sinks = sinks(&server);
    for (name, spec) in &sinks {
        shop.create(GROUP, "EventSink", name, json!({"spec": spec})).await;
    }
    shop.rule("leaks", rule(&sinks, &server)).await;

    // Refused by somebody who repeats all that he was told; and taken.
    let echo = format!("you sent Bearer {CANARY} and {CANARY} to /hook/{CANARY}?key={CANARY}");
    server.answer(Answer::status(500).body(&echo));
    shop.event("a.1", "a", "BackOff").await;
    shop.rule_status("leaks", "it failed", |status| status["counts"]["failed"] == 1).await;
    server.answer(Answer::status(200).json(&json!({"ok": true, "ts": "1.2", "echo": echo})));
    shop.event("b.1", "b", "BackOff").await;
    let status = shop.rule_status("leaks", "it failed again", |status| status["counts"]["failed"] == 2).await;
    assert_eq!(condition(&status, "Acting")["status"], "False", "no broker is one");
    let told = |kind: &str| {
        let asked = server.requests().into_iter().filter(|request| format!("{request:?}").contains(CANARY));
        asked.filter(|request| request.path.starts_with(kind)).count()
    };
    for path in ["/hook/", "/api/", "/v2", "/", "/call"] {
        assert!(told(path) > 1, "{path} was told it");
    }

    let mut all = shown(&shop, operator.address()).await;
    assert_eq!(get(operator.address(), "/debug/pprof/").await.map(|(status, _)| status), Some(404));
    all.push(("the log".to_owned(), operator.log()));
    eventually("the state is on disk", PATIENCE, async || {
        let texts = texts(&setup.data_dir());
        texts.iter().any(|(_, text)| text.contains("leaks")).then_some(())
    })
    .await;
    operator.terminate().await;
    all.extend(texts(&setup.data_dir()));
    for (place, text) in &all {
        let found = [CANARY, ENCODED].iter().find_map(|word| text.find(word));
        let around = found.map(|at| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(200)..at]).into_owned());
        assert!(around.is_none(), "{place}: …{}", around.unwrap_or_default());
    }
    let log = all.iter().find(|(place, _)| place == "the log").map(|(_, text)| text.as_str());
    assert!(log.is_some_and(|log| log.contains("TRACE") && log.contains("leaks")), "it says something");
}
