//! What a user finds out from `kubectl describe eventrule` alone, on a real API server: each story ends with a rule that works.

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    sink::Sink,
    site::{Shop, condition, shared as site, shop},
};

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// The lines of `kubectl describe` of a rule, once one of them has all the parts: that one.
async fn line(shop: &Shop, rule: &str, parts: &[&str]) -> String {
    eventually(&format!("{parts:?} are in a line of the description"), PATIENCE, async || {
        let output = site().await.plane.kubectl(&["describe", "eventrule", rule, "-n", &shop.name]).await;
        let said = String::from_utf8(output.stdout).ok()?;
        said.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(|line| line.trim().to_owned())
    })
    .await
}

/// Runs the commands at the end of a line, each as it stands there.
async fn follow(line: &str) {
    let told: Vec<&str> = line.split("; ").filter_map(|part| part.strip_prefix("grant it with: ")).collect();
    assert!(!told.is_empty(), "{line}");
    for command in told.into_iter().flat_map(|part| part.split(" && ")) {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "kubectl", "{command}");
        let output = site().await.plane.kubectl(&words[1..]).await;
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn on_events() -> Value {
    json!([{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}])
}

fn tell() -> Value {
    json!({"name": "tell", "retry": {"limit": 1, "backoff": "100ms"},
        "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.message}"}})
}

/// A sink whose address is in a Secret.
async fn secret_sink(shop: &Shop, secret: &str) {
    let spec = json!({"spec": {"webhook": {"urlSecretRef": {"name": secret, "key": "url"}}}});
    shop.create(GROUP, "EventSink", "oncall", spec).await;
    let plane = &site().await.plane;
    let role = ["create", "role", "secrets", "-n", &shop.name, "--verb=get", "--resource=secrets"];
    assert!(plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", "secrets", "-n", &shop.name, "--role=secrets", &account];
    assert!(plane.kubectl(&binding).await.status.success());
}

#[tokio::test]
async fn a_missing_right_is_found_and_the_lines_that_are_told_grant_it() {
    let shop = shop("right").await;
    shop.create("v1", "ServiceAccount", "plain", json!({})).await;
    shop.deployment("web", 1).await;
    let grow = json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}});
    let spec = json!({"serviceAccountName": "plain", "sources": on_events(), "actions": [grow]});
    shop.create(GROUP, "EventRule", "grows", json!({"spec": spec})).await;
    let lacks = ["may not list, watch events", "may not get, patch deployments.apps/scale web", "kubectl create role"];
    follow(&line(&shop, "grows", &lacks).await).await;
    shop.rule_ready("grows").await;
    shop.event("p.1", "p", "BackOff").await;
    shop.await_replicas("web", 2).await;
}

#[tokio::test]
async fn a_manifest_that_the_api_server_would_refuse_is_found_before_anything_happens() {
    let shop = shop("rehearsed").await;
    let run = |pod: Value| {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"template": {"spec": pod}}});
        json!({"sources": on_events(), "actions": [{"name": "run", "create": {"manifest": job}}]})
    };
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/tools:1"}]});
    let mut bad = pod.clone();
    bad["containers"][0]["image"] = Value::Null;
    shop.create("signalbox.dev/v1alpha1", "EventRule", "odd", json!({"spec": run(bad)})).await;
    let acting = |status: &Value, wanted: &str| condition(status, "Acting")["status"] == wanted;
    let status = shop.rule_status("odd", "it would be refused", |status| acting(status, "False")).await;
    let told = condition(&status, "Acting");
    assert_eq!(told["reason"], "ManifestRefused");
    assert!(
        told["message"].to_string().contains("action run: create Job") && told["message"].to_string().contains("image"),
        "{told}"
    );
    assert_eq!(condition(&status, "Ready")["status"], "True", "nothing waits for it");
    let jobs = shop.api("batch/v1", "Job");
    assert!(jobs.list(&ListParams::default()).await.expect("list Jobs").items.is_empty());
    let mended = Patch::Merge(json!({"spec": run(pod)}));
    shop.api("signalbox.dev/v1alpha1", "EventRule")
        .patch("odd", &PatchParams::default(), &mended)
        .await
        .expect("mend it");
    shop.rule_status("odd", "it would be taken", |status| acting(status, "True")).await;
    assert!(jobs.list(&ListParams::default()).await.expect("list Jobs").items.is_empty());
}

#[tokio::test]
async fn a_sink_that_is_not_there_is_found_before_anything_happens() {
    let shop = shop("sinkless").await;
    shop.rule("tells", json!({"sources": on_events(), "actions": [tell()]})).await;
    let acting = |status: &Value, wanted: &str| condition(status, "Acting")["status"] == wanted;
    let status = shop.rule_status("tells", "its sink is not there", |status| acting(status, "False")).await;
    assert_eq!(condition(&status, "Acting")["reason"], "SinkNotFound");
    assert_eq!(condition(&status, "Ready")["status"], "True", "it may come yet");
    let missing = format!("action tell: there is no EventSink oncall in namespace {}: make it", shop.name);
    line(&shop, "tells", &[&missing, &format!("kubectl get esk -n {}", shop.name)]).await;
    shop.sink("oncall", "http://127.0.0.1:9/").await;
    shop.rule_status("tells", "it is there", |status| acting(status, "True")).await;
}

#[tokio::test]
async fn a_wrong_name_of_a_sinks_secret_is_found() {
    let shop = shop("secret").await;
    let sink = Sink::start().await;
    shop.create("v1", "Secret", "oncall", json!({"stringData": {"url": sink.url("/alerts")}})).await;
    secret_sink(&shop, "oncal").await;
    shop.rule("tells", json!({"sources": on_events(), "actions": [tell()]})).await;
    shop.event("p.1", "p", "BackOff").await;
    let missing = format!("EventSink oncall: Secret {}/oncal does not exist", shop.name);
    let told = line(&shop, "tells", &[&missing, &format!("kubectl edit eventsink oncall -n {}", shop.name)]).await;
    assert!(told.contains("make it"), "{told}");

    let mend = json!({"spec": {"webhook": {"urlSecretRef": {"name": "oncall", "key": "url"}}}});
    let sinks = shop.api(GROUP, "EventSink");
    sinks.patch("oncall", &PatchParams::default(), &Patch::Merge(&mend)).await.expect("mend the sink");
    eventually("the mended sink is used", PATIENCE, async || {
        let status = sinks.get("oncall").await.ok()?.data["status"].clone();
        (condition(&status, "Ready")["status"] == "True").then_some(())
    })
    .await;
    shop.event("p.2", "p", "BackOff").await;
    assert_eq!(sink.await_requests(1).await[0].json()["text"], "BackOff of p");
    line(&shop, "tells", &["Message:", "was carried out"]).await;
}

#[tokio::test]
async fn a_wrong_expression_is_found_with_its_place_whether_it_cannot_be_compiled_or_not_be_evaluated() {
    let shop = shop("expression").await;
    let sink = Sink::start().await;
    shop.sink("oncall", &sink.url("/")).await;
    let spec = |expression: &str| json!({"sources": on_events(), "when": [{"name": "often", "expression": expression}], "actions": [tell()]});
    shop.create(GROUP, "EventRule", "often", json!({"spec": spec("evnt.data.count >= 1")})).await;
    let told = line(&shop, "often", &["spec.when[0].expression:1:1", "unknown name `evnt`"]).await;
    assert!(told.contains("known are event"), "{told}");
    shop.create(GROUP, "EventRule", "misspelt", json!({"spec": spec("event.data.cuont >= 1")})).await;
    line(&shop, "misspelt", &["a Kubernetes Event has no such field `cuont`: perhaps `count` is meant"]).await;

    let rules = shop.api(GROUP, "EventRule");
    let edit = async |expression: &str| {
        let patch = Patch::Merge(json!({"spec": spec(expression)}));
        rules.patch("often", &PatchParams::default(), &patch).await.expect("edit the rule");
        shop.rule_ready("often").await;
    };
    // Only an event shows that there is no such key.
    edit("event.data.object.cout >= 1").await;
    shop.event("p.1", "p", "BackOff").await;
    line(&shop, "often", &["Where:", "when[often]"]).await;
    line(&shop, "often", &["Message:", "cout"]).await;
    edit("event.data.count >= 1").await;
    shop.event("p.2", "p", "BackOff").await;
    sink.await_requests(1).await;
}

#[tokio::test]
async fn a_secret_that_changes_is_followed_within_a_minute() {
    let shop = shop("rotated").await;
    let sink = Sink::start().await;
    let url = |path: &str| json!({"stringData": {"url": sink.url(path)}});
    shop.create("v1", "Secret", "oncall", url("/before")).await;
    secret_sink(&shop, "oncall").await;
    shop.rule("tells", json!({"sources": on_events(), "actions": [tell()]})).await;
    shop.event("p.1", "p", "BackOff").await;
    assert_eq!(sink.await_requests(1).await[0].path, "/before");

    let secrets = shop.api("v1", "Secret");
    secrets.patch("oncall", &PatchParams::default(), &Patch::Merge(url("/after"))).await.expect("change the Secret");
    // Not at each look: a rule that fires without end is slowed down.
    let mut looks = 0;
    eventually("the new address is used", 2 * PATIENCE, async || {
        if looks % 25 == 0 {
            shop.event(&format!("again.{looks}"), "p", "BackOff").await;
        }
        looks += 1;
        sink.requests().iter().any(|request| request.path == "/after").then_some(())
    })
    .await;
}
