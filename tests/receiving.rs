//! Webhooks end to end, on a real API server: what is answered with 2xx acts, once, and what is missing is told.

use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use sha2::Sha256;

use support::{
    PATIENCE, eventually,
    http::post,
    monitoring::Monitoring,
    operator::Operator,
    sink::{Answer, Sink},
    site::{Shop, Site, condition},
};

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// `X-Hub-Signature-256` as GitHub makes it.
fn signature(key: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key will do");
    mac.update(body);
    format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

fn signed() -> Value {
    json!({"webhook": {"type": "com.github.event", "idHeader": "X-GitHub-Delivery", "rateLimit": {"events": 100}, "auth": {"hmac": {
        "header": "X-Hub-Signature-256", "prefix": "sha256=", "secretRefs": [{"name": "github", "key": "key"}]}}}})
}

/// A Secret, and the right of `signalbox-rules` on it.
async fn secret(site: &Site, shop: &Shop, name: &str, key: &str, value: &str) {
    shop.create("v1", "Secret", name, json!({"stringData": {key: value}})).await;
    let only = format!("--resource-name={name}");
    let role = ["create", "role", name, "-n", &shop.name, "--verb=get", "--resource=secrets", &only];
    assert!(site.plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", name, "-n", &shop.name, &format!("--role={name}"), &account];
    assert!(site.plane.kubectl(&binding).await.status.success());
}

/// A rule that launches a Job and tells, for each event of the EventSource `github`.
fn rule() -> Value {
    json!({
        "sources": [{"name": "push", "ref": {"name": "github", "types": ["com.github.*"]}}],
        "when": [{"name": "main", "expression": "event.data.?ref.orValue('') == 'refs/heads/main'"}],
        "groupBy": [{"name": "repository", "expression": "event.data.repository.full_name"}],
        "actions": [
            {"name": "deploy", "job": {"script": {"image": "example.invalid/tools:1", "run": "true"}}},
            {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "${group.repository} ${event.data.after}"}},
        ],
    })
}

fn push(commit: &str) -> String {
    json!({"ref": "refs/heads/main", "after": commit, "repository": {"full_name": "acme/shop"}}).to_string()
}

/// Sends a push as GitHub does, and gives the answer's status.
async fn deliver(operator: &Operator, shop: &Shop, delivery: &str, key: &str, body: &str) -> u16 {
    let signature = signature(key, body.as_bytes());
    let headers =
        [("X-Hub-Signature-256", &*signature), ("X-GitHub-Delivery", delivery), ("Content-Type", "application/json")];
    let path = format!("/hooks/{}/github", shop.name);
    post(operator.hooks(), &path, &headers, body.as_bytes()).await.expect("the operator answers").0
}

async fn jobs(shop: &Shop) -> usize {
    shop.api("batch/v1", "Job").list(&ListParams::default()).await.expect("list Jobs").items.len()
}

/// What the sink was told, each text once.
fn texts(sink: &Sink) -> Vec<String> {
    let text = |request: &support::sink::Request| request.json()["text"].as_str().unwrap_or_default().to_owned();
    let mut texts: Vec<String> = sink.requests().iter().map(text).collect();
    texts.sort();
    texts.dedup();
    texts
}

#[tokio::test]
async fn what_was_answered_with_2xx_acts_once_whatever_happens_to_the_operator_and_however_often_it_comes() {
    let site = Site::start().await;
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("hooks").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    secret(&site, &shop, "github", "key", "s3cret").await;
    shop.source("github", signed()).await;
    shop.rule("deploy", rule()).await;

    let first = push("c1");
    assert_eq!(deliver(&operator, &shop, "d1", "wrong", &first).await, 401);
    let status = deliver(&operator, &shop, "d1", "s3cret", &first).await;
    assert!((200..300).contains(&status), "{status}");
    sink.await_requests(1).await;
    let status = deliver(&operator, &shop, "d1", "s3cret", &first).await;
    assert!((200..300).contains(&status), "{status}");

    let told = |status: &Value| status["received"] == 1 && status["duplicates"] == 1;
    let status = shop.status("EventSource", "github", "what came is counted", told).await;
    let metrics = operator.metrics().await;
    assert!(
        metrics.contains("signalbox_events_total{type=\"other\"} 1") && !metrics.contains("com.github"),
        "{metrics}"
    );
    assert_eq!(status["rejected"]["unauthenticated"], 1);
    assert_eq!(status["path"], format!("/hooks/{}/github", shop.name));
    assert!(!status["lastEventTime"].is_null());

    // Killed as soon as it has answered.
    let status = deliver(&operator, &shop, "d2", "s3cret", &push("c2")).await;
    assert!((200..300).contains(&status), "{status}");
    operator.kill();
    let operator = site.setup.start_ready().await;
    eventually("what was answered acts", PATIENCE, async || (texts(&sink).len() == 2).then_some(())).await;
    let again = async || {
        // While the operator does not know the source yet, it says so.
        let status = deliver(&operator, &shop, "d2", "s3cret", &push("c2")).await;
        (200..300).contains(&status).then_some(())
    };
    eventually("the same delivery is taken after a restart", PATIENCE, again).await;
    let status = deliver(&operator, &shop, "d3", "s3cret", &push("c3")).await;
    assert!((200..300).contains(&status), "{status}");
    eventually("the third acts", PATIENCE, async || (texts(&sink).len() == 3).then_some(())).await;
    assert_eq!(texts(&sink), ["acme/shop c1", "acme/shop c2", "acme/shop c3"]);
    eventually("each has its Job", PATIENCE, async || (jobs(&shop).await == 3).then_some(())).await;
    let told = |status: &Value| status["counts"]["succeeded"] == 3;
    let status = shop.rule_status("deploy", "three firings", told).await;
    assert_eq!((&status["counts"]["fired"], &status["recent"][0]["group"]), (&json!(3), &json!("acme/shop")));
    assert_eq!(operator.terminate().await.code(), Some(0));
}

/// Runs the commands that a message gives, which are its end.
async fn follow(site: &Site, advice: &str) {
    for command in advice.split_once("with: ").expect("the message gives commands").1.split(" && ") {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = site.plane.kubectl(&words).await;
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn a_rule_tells_what_its_event_source_lacks_and_begins_by_itself_when_it_is_there() {
    let site = Site::start().await;
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("refs").await;
    let label = json!({"metadata": {"name": "weak", "labels": {"signalbox.dev/usable-by-rules": "true"}}});
    shop.create("v1", "ServiceAccount", "weak", label).await;
    let role = ["create", "role", "jobs", "-n", &shop.name, "--verb=create,get,list,patch", "--resource=jobs.batch"];
    assert!(site.plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:weak", shop.name);
    let binding = ["create", "rolebinding", "jobs", "-n", &shop.name, "--role=jobs", &account];
    assert!(site.plane.kubectl(&binding).await.status.success());
    let job = json!({"name": "run", "job": {"script": {"image": "example.invalid/tools:1", "run": "true"}}});
    let spec = json!({"serviceAccountName": "weak", "sources": [{"name": "in", "ref": {"name": "orders", "types": ["com.example.*"]}}], "actions": [job]});
    shop.create(GROUP, "EventRule", "orders", json!({"spec": spec})).await;

    // Who may not see it is not told whether it is there.
    let lacks = format!("weak may not get eventsources.signalbox.dev orders in namespace {}", shop.name);
    let denied = |status: &Value| condition(status, "Authorized")["message"].to_string().contains(&lacks);
    let status = shop.rule_status("orders", "the missing right", denied).await;
    assert_ne!(condition(&status, "Listening")["reason"], "EventSourceNotFound");
    assert_eq!(condition(&status, "Ready")["status"], "False");
    follow(&site, condition(&status, "Authorized")["message"].as_str().expect("a message")).await;

    let missing = |status: &Value| condition(status, "Listening")["reason"] == "EventSourceNotFound";
    let status = shop.rule_status("orders", "the missing EventSource", missing).await;
    let message = condition(&status, "Listening")["message"].as_str().expect("a message").to_owned();
    let said = format!("sources[in].ref: EventSource {}/orders does not exist: create it", shop.name);
    assert!(message.contains(&said), "{message}");

    shop.source("orders", json!({"webhook": {"preset": "CloudEvents", "auth": {"none": {}}}})).await;
    shop.rule_ready("orders").await;
    let path = format!("/hooks/{}/orders", shop.name);
    let send = async |id: &str, type_: &str| {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/orders"),
            ("ce-type", type_),
            ("Content-Type", "application/json"),
        ];
        post(operator.hooks(), &path, &headers, b"{}").await.expect("the operator answers").0
    };
    for (id, type_) in [("1", "com.example.failed"), ("2", "org.other"), ("1", "com.example.failed")] {
        let status = send(id, type_).await;
        assert!((200..300).contains(&status), "{status}");
    }
    assert_eq!(send("3", "dev.signalbox.resource.created").await, 400);
    let status = shop.rule_status("orders", "it acted", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!((&status["counts"]["seen"], jobs(&shop).await), (&json!(1), 1));

    shop.api(GROUP, "EventSource").delete("orders", &DeleteParams::default()).await.expect("delete it");
    let status = shop.rule_status("orders", "it is gone again", missing).await;
    assert_eq!(condition(&status, "Ready")["status"], "False");
    eventually("nothing is taken for it", PATIENCE, async || {
        (send("4", "com.example.failed").await == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_its_secret_a_source_takes_nothing_says_which_and_heals() {
    let site = Site::start().await;
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("secrets").await;
    let auth = json!({"bearer": {"secretRefs": [{"name": "token", "key": "now"}]}});
    let spec = json!({"spec": {"webhook": {"auth": auth}}});
    shop.create(GROUP, "EventSource", "open", spec).await;
    let path = format!("/hooks/{}/open", shop.name);
    let send = async |token: &str| {
        let authorization = format!("Bearer {token}");
        post(operator.hooks(), &path, &[("Authorization", &authorization)], b"{}").await.map(|(status, _)| status)
    };
    let reason = |wanted: &'static str| move |status: &Value| condition(status, "Ready")["reason"] == wanted;
    let status = shop.status("EventSource", "open", "the missing right", reason("RightMissing")).await;
    assert!(condition(&status, "Ready")["message"].to_string().contains("secrets token"), "{status}");
    assert!(!matches!(send("t0ken").await, Some(200..300)));
    let refers = json!([{"name": "in", "ref": {"name": "open"}}]);
    let tell = json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "x"}}]);
    let spec = json!({"spec": {"sources": refers, "actions": tell}});
    shop.create(GROUP, "EventRule", "listener", spec).await;
    let closed = |status: &Value| condition(status, "Listening")["reason"] == "EventSourceNotReady";
    let status = shop.rule_status("listener", "its EventSource accepts nothing", closed).await;
    assert!(condition(&status, "Listening")["message"].to_string().contains("secrets token"), "{status}");

    secret(&site, &shop, "token", "later", "t0ken").await;
    let status = shop.status("EventSource", "open", "the missing key", reason("SecretNotFound")).await;
    let message = condition(&status, "Ready")["message"].to_string();
    assert!(message.contains(&format!("Secret {}/token has no value under the key now", shop.name)), "{message}");
    assert!(!message.contains("t0ken"), "{message}");
    assert_eq!(send("").await, Some(401));

    let secrets = shop.api("v1", "Secret");
    for token in ["t0ken", "an0ther"] {
        let patch = Patch::Merge(json!({"stringData": {"now": token}}));
        secrets.patch("token", &PatchParams::default(), &patch).await.expect("change the Secret");
        let taken = async || send(token).await.filter(|status| (200..300).contains(status));
        eventually("the token is taken", Duration::from_secs(60), taken).await;
        shop.status("EventSource", "open", "Ready", reason("InForce")).await;
    }
    assert_eq!(send("t0ken").await, Some(401), "the old one is no good any more");
    shop.rule_ready("listener").await;
    assert!(!operator.log().contains("an0ther") && !operator.log().contains("t0ken"));
}

/// Prometheus' own alerts, through Alertmanager, and samples of the same, each to a rule that scales; both sides are the real servers.
#[tokio::test]
async fn what_a_real_prometheus_and_alertmanager_tell_scales_up_and_back_and_without_data_nothing_moves() {
    let site = Site::start().await;
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("load").await;
    for name in ["worker-eu", "alerted"] {
        shop.deployment(name, 1).await;
    }
    secret(&site, &shop, "alertmanager", "token", "t0ken").await;
    let auth = json!({"bearer": {"secretRefs": [{"name": "alertmanager", "key": "token"}]}});
    shop.source("alertmanager", json!({"webhook": {"preset": "Alertmanager", "auth": auth}})).await;
    let grow = json!({"target": {"kind": "Deployment", "name": "alerted"}, "by": "1", "max": 9, "restore": {"when": "Resolved"}});
    let firing = "event.data.labels.alertname == 'QueueBacklog' && event.data.status == 'firing'";
    let rule = json!({
        "sources": [{"name": "alert", "ref": {"name": "alertmanager", "types": ["io.prometheus.alert.*"]}}],
        "when": [{"name": "firing", "expression": firing}],
        "trigger": {"held": {"for": "0s"}},
        "actions": [{"name": "grow", "scale": grow}],
    });
    shop.rule("alerted", rule).await;
    let hook = format!("http://{}/hooks/{}/alertmanager", operator.hooks(), shop.name);
    let monitoring = Monitoring::start(&hook, "t0ken").await;
    monitoring.depth("50");

    // The sample, with another address and in a hurry.
    let sample =
        std::fs::read_to_string("deploy/samples/use-cases/scale-on-load/scale-on-load.yaml").expect("the sample");
    let here = sample.replace("http://prometheus.shop.svc:9090", &monitoring.url());
    let here = here.replace("interval: 15s", "interval: 5s").replace("for: 30s", "for: 1s");
    let here = here.replace("namespace: shop", &format!("namespace: {}", shop.name));
    let here = here.replace("metadata:", &format!("metadata:\n  namespace: {}", shop.name));
    site.plane.apply(&here).await;
    shop.rule_ready("scale-on-load").await;
    let sampled =
        |status: &Value| status["received"].as_u64() > Some(0) && condition(status, "Ready")["status"] == "True";
    let status = shop.status("EventSource", "queues", "samples come", sampled).await;
    assert!(condition(&status, "Connected")["message"].to_string().contains("the query gives samples"), "{status}");
    assert_eq!((shop.replicas("worker-eu").await, shop.replicas("alerted").await), (1, 1));

    monitoring.depth("500");
    shop.await_replicas("worker-eu", 3).await;
    shop.await_replicas("alerted", 2).await;
    // Alertmanager sends its group again each two seconds, which is nothing new.
    let again = |status: &Value| status["duplicates"].as_u64() >= Some(2);
    let status = shop.status("EventSource", "alertmanager", "the group comes again", again).await;
    assert_eq!((&status["received"], shop.replicas("alerted").await), (&json!(1), 2));

    // What is no number is no sample: the bound that was crossed stays so.
    let no_data = |words: &'static str| {
        move |status: &Value| {
            let ready = condition(status, "Ready");
            ready["reason"] == "NoData" && ready["message"].to_string().contains(words)
        }
    };
    monitoring.depth("NaN");
    shop.status("EventSource", "queues", "NaN is told", no_data("NaN")).await;
    monitoring.target.answer(Answer::status(500));
    shop.status("EventSource", "queues", "nothing is told", no_data("no series")).await;
    assert_eq!(shop.replicas("worker-eu").await, 3);

    monitoring.depth("3");
    shop.await_replicas("worker-eu", 1).await;
    shop.await_replicas("alerted", 1).await;
    shop.status("EventSource", "queues", "samples come again", sampled).await;
}

#[tokio::test]
async fn answers_that_are_no_samples_change_nothing_and_say_why() {
    let site = Site::start().await;
    let _operator = site.setup.start_ready().await;
    let shop = site.namespace("samples").await;
    shop.deployment("web", 7).await;
    secret(&site, &shop, "prometheus", "token", "t0ken").await;
    let answers = std::fs::read_to_string("tests/payloads/prometheus-responses.yaml").expect("the answers");
    let answers: Value = serde_saphyr::from_str(&answers).expect("YAML");
    let answer = |name: &str| {
        let one = answers.as_array().expect("a list").iter().find(|one| one["name"] == name).expect(name);
        let status = one["status"].as_u64().map_or(200, |status| u16::try_from(status).expect("a status"));
        Answer::status(status).body(one["body"].as_str().expect("a body"))
    };
    let server = Sink::start().await;
    server.answer(answer("empty vector"));
    let auth = json!({"tokenSecretRef": {"name": "prometheus", "key": "token"}});
    let spec =
        json!({"url": server.url("/prefix"), "query": "queue_depth", "interval": "5s", "series": "One", "auth": auth});
    shop.create(GROUP, "EventSource", "depth", json!({"spec": {"prometheus": spec}})).await;
    let bound = |bound: &str, at: &str| json!({"value": {"expression": "event.data.value", "aggregation": "Last", "within": "5m", bound: at}});
    let scale =
        |to: u64| json!([{"name": "scale", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": to}}]);
    for (name, trigger, to) in [("little", bound("below", "5"), 1), ("much", bound("above", "100"), 9)] {
        let sources = json!([{"name": "depth", "ref": {"name": "depth"}}]);
        let spec = json!({"spec": {"sources": sources, "trigger": trigger, "actions": scale(to)}});
        shop.create(GROUP, "EventRule", name, spec).await;
    }
    for (name, reason, words) in [
        ("empty vector", "NoData", "the query gives no series"),
        ("html from a proxy", "Refused", "the answer is not one of Prometheus"),
        ("NaN", "NoData", "none is a number"),
        ("error inside 422", "Refused", "found duplicate series for the match group"),
        ("plus infinity", "NoData", "none is a number"),
        ("two series where one is expected", "Refused", "gives 2 series, and series is One"),
    ] {
        server.answer(answer(name));
        let told = |status: &Value| {
            let ready = condition(status, "Ready");
            ready["status"] == "False" && ready["reason"] == reason && ready["message"].to_string().contains(words)
        };
        let what = format!("{name} is told");
        shop.status("EventSource", "depth", &what, told).await;
    }
    server.answer(Answer::status(401).body("no"));
    let denied = |status: &Value| condition(status, "Ready")["reason"] == "Unauthenticated";
    let status = shop.status("EventSource", "depth", "the token is not taken", denied).await;
    assert_eq!((&status["received"], shop.replicas("web").await), (&json!(0), 7));
    let asked = server.requests();
    assert!(asked.iter().all(|request| request.path == "/prefix/api/v1/query"));
    assert!(asked.iter().all(|request| request.header("authorization") == Some("Bearer t0ken")));

    // What the server itself has doubts about is a sample, and says so.
    server.answer(answer("warnings beside a result"));
    shop.await_replicas("web", 1).await;
    let warned =
        |status: &Value| condition(status, "Connected")["message"].to_string().contains("some store did not answer");
    shop.status("EventSource", "depth", "the warning is told", warned).await;
}
