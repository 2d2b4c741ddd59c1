//! What somebody who may write rules tries with them, on a real API server: he gets no further than the rule's account.

use kube::api::ListParams;
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    sink::Sink,
    site::{Shop, condition, shared as site, shop},
};

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

fn on_events() -> Value {
    json!([{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}])
}

fn scale(target: Value) -> Value {
    json!({"name": "act", "scale": {"target": target, "to": 7}})
}

/// What kubectl says when it is to apply an object, without storing it.
async fn tried(kind: &str, spec: &Value) -> String {
    let object =
        json!({"apiVersion": GROUP, "kind": kind, "metadata": {"name": "tried", "namespace": "default"}, "spec": spec});
    let output = site().await.plane.try_apply(&object.to_string()).await;
    assert!(!output.status.success(), "it is taken: {spec}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until a rule's only firing has failed; gives the message of its last error.
async fn failure(shop: &Shop, rule: &str) -> String {
    let status = shop.rule_status(rule, "a failed firing", |status| status["counts"]["failed"] == 1).await;
    assert_eq!(condition(&status, "Acting")["reason"], "ActionFailed");
    status["lastError"]["message"].as_str().unwrap_or_default().to_owned()
}

/// Makes a rule whose account lacks a right for its action, waits until its events arrive, and gives what `Authorized` says.
async fn lacking(shop: &Shop, rule: &str, spec: Value) -> String {
    shop.create(GROUP, "EventRule", rule, json!({"spec": spec})).await;
    let told = |status: &Value| {
        condition(status, "Listening")["status"] == "True" && condition(status, "Authorized")["status"] == "False"
    };
    let status = shop.rule_status(rule, "a missing right", told).await;
    condition(&status, "Authorized")["message"].as_str().unwrap_or_default().to_owned()
}

/// Gives `signalbox-rules` a right by a Role of its own.
async fn grant(shop: &Shop, name: &str, resource: &str, verbs: &str) {
    let plane = &site().await.plane;
    let (resource, verbs) = (format!("--resource={resource}"), format!("--verb={verbs}"));
    let role = ["create", "role", name, "-n", &shop.name, &resource, &verbs];
    assert!(plane.kubectl(&role).await.status.success());
    let (role, account) = (format!("--role={name}"), format!("--serviceaccount={}:signalbox-rules", shop.name));
    let binding = ["create", "rolebinding", name, "-n", &shop.name, &role, &account];
    assert!(plane.kubectl(&binding).await.status.success());
}

#[tokio::test]
async fn a_secret_of_another_namespace_cannot_be_named_and_is_not_read() {
    let (shop, vault) = (shop("thief").await, shop("vault").await);
    let sink = Sink::start().await;
    let data = |url: String| json!({"stringData": {"url": url}});
    vault.create("v1", "Secret", "hook", data(sink.url("/stolen"))).await;
    let elsewhere = json!({"name": "hook", "key": "url", "namespace": vault.name});
    let said = tried("EventSink", &json!({"webhook": {"urlSecretRef": elsewhere}})).await;
    assert!(said.contains("namespace"), "{said}");
    for name in [format!("{}/hook", vault.name), "../hook".to_owned()] {
        let said = tried("EventSink", &json!({"webhook": {"urlSecretRef": {"name": name, "key": "url"}}})).await;
        assert!(said.contains("spec.webhook.urlSecretRef.name"), "{said}");
    }
    let notify =
        json!({"name": "tell", "notify": {"text": "t", "sinkRef": {"name": "oncall", "namespace": vault.name}}});
    let said = tried("EventRule", &json!({"sources": on_events(), "actions": [notify]})).await;
    assert!(said.contains("namespace"), "{said}");

    // A name means this namespace, also for who may read the other.
    let plane = &site().await.plane;
    let view = [
        "create",
        "clusterrolebinding",
        &shop.name,
        "--clusterrole=edit",
        &format!("--serviceaccount={}:signalbox-rules", shop.name),
    ];
    assert!(plane.kubectl(&view).await.status.success());
    shop.create(
        GROUP,
        "EventSink",
        "oncall",
        json!({"spec": {"webhook": {"urlSecretRef": {"name": "hook", "key": "url"}}}}),
    )
    .await;
    let sinks = shop.api(GROUP, "EventSink");
    let message = eventually("the Secret is missed", PATIENCE, async || {
        let ready = condition(&sinks.get("oncall").await.ok()?.data["status"], "Ready");
        (ready["reason"] == "SecretNotFound").then(|| ready["message"].to_string())
    })
    .await;
    assert!(message.contains(&format!("Secret {}/hook does not exist", shop.name)), "{message}");
    assert!(sink.requests().is_empty());
}

#[tokio::test]
async fn a_target_in_another_namespace_is_refused_once_with_the_accounts_own_rights() {
    let (shop, other) = (shop("reach").await, shop("reached").await);
    other.deployment("web", 1).await;
    let target = json!({"kind": "Deployment", "name": "web", "namespace": other.name});
    let mut act = scale(target);
    act["retry"] = json!({"limit": 100, "backoff": "100ms", "maxBackoff": "1s"});
    let told = lacking(&shop, "reach", json!({"sources": on_events(), "actions": [act]})).await;
    assert!(
        told.contains(&format!("may not get, patch deployments.apps/scale web in namespace {}", other.name)),
        "{told}"
    );
    shop.event("p.1", "p", "BackOff").await;
    let message = failure(&shop, "reach").await;
    let lacks = format!("ServiceAccount {}/signalbox-rules may not get deployments.apps/scale", shop.name);
    for part in [lacks.as_str(), &format!("in namespace {}", other.name), &format!("-n {}", other.name)] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert!(!message.contains("attempts"), "it was tried once: {message}");
    assert_eq!(other.replicas("web").await, 1);
}

#[tokio::test]
async fn a_rule_that_names_no_account_never_acts_as_the_operator() {
    let shop = shop("nobody").await;
    let plane = &site().await.plane;
    let gone = ["delete", "serviceaccount", "signalbox-rules", "-n", &shop.name];
    assert!(plane.kubectl(&gone).await.status.success());
    shop.deployment("web", 1).await;
    let spec = json!({"sources": on_events(), "actions": [scale(json!({"kind": "Deployment", "name": "web"}))]});
    shop.create(GROUP, "EventRule", "bare", json!({"spec": spec})).await;
    let authorized = |status: &Value| condition(status, "Authorized");
    let status =
        shop.rule_status("bare", "no account", |status| authorized(status)["reason"] == "AccountNotFound").await;
    let message = authorized(&status)["message"].to_string();
    assert!(message.contains(&format!("kubectl create serviceaccount signalbox-rules -n {}", shop.name)), "{message}");

    // The operator may list Events; an account of this name without a right may not, and so the rule may not.
    let unbound = ["delete", "rolebinding", "signalbox-rules", "-n", &shop.name];
    assert!(plane.kubectl(&unbound).await.status.success());
    let account = ["create", "serviceaccount", "signalbox-rules", "-n", &shop.name];
    assert!(plane.kubectl(&account).await.status.success());
    let status = shop.rule_status("bare", "no right", |status| authorized(status)["reason"] == "RightMissing").await;
    let message = authorized(&status)["message"].to_string();
    assert!(message.contains("signalbox-rules may not list, watch events"), "{message}");
    shop.event("p.1", "p", "BackOff").await;
    assert_eq!((shop.replicas("web").await, &status["counts"]["seen"]), (1, &json!(0)));
}

#[tokio::test]
async fn an_account_of_another_namespace_cannot_be_named() {
    for account in ["kube-system/admin", "../admin", "system:serviceaccount:kube-system:admin", ""] {
        let rule = json!({"serviceAccountName": account, "sources": on_events(), "actions": [scale(json!({"kind": "Deployment", "name": "web"}))]});
        let sink = json!({"serviceAccountName": account, "webhook": {"url": "https://example.com/"}});
        for (kind, spec) in [("EventRule", rule), ("EventSink", sink)] {
            let said = tried(kind, &spec).await;
            assert!(said.contains("spec.serviceAccountName"), "{account}: {said}");
        }
    }
}

#[tokio::test]
async fn an_object_without_a_namespace_takes_a_right_that_the_account_has_in_the_whole_cluster() {
    let shop = shop("wide").await;
    site().await.plane.apply("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: dials.wide.example.com}, \
        spec: {group: wide.example.com, scope: Cluster, names: {plural: dials, singular: dial, kind: Dial}, versions: [{name: v1, served: true, storage: true, \
        subresources: {scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}, \
        schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {spec: {type: object, properties: {replicas: {type: integer}}}}}}}]}}").await;
    let dial = "{apiVersion: wide.example.com/v1, kind: Dial, metadata: {name: main}, spec: {replicas: 1}}";
    eventually("the kind is served", PATIENCE, async || {
        site().await.plane.try_apply(dial).await.status.success().then_some(())
    })
    .await;
    site().await.plane.apply(dial).await;
    // A Role of the namespace with every right there is gives none on it.
    grant(&shop, "everything", "dials.wide.example.com,dials.wide.example.com/scale", "*").await;
    let target = json!({"apiVersion": "wide.example.com/v1", "kind": "Dial", "name": "main"});
    let told = lacking(&shop, "wide", json!({"sources": on_events(), "actions": [scale(target)]})).await;
    assert!(told.contains("may not get, patch dials.wide.example.com/scale main in the whole cluster"), "{told}");
    for command in ["kubectl create clusterrole ", "kubectl create clusterrolebinding "] {
        assert!(told.contains(command), "{command:?} is not in {told}");
    }
    shop.event("p.1", "p", "BackOff").await;
    let message = failure(&shop, "wide").await;
    for part in ["may not get dials.wide.example.com/scale in the whole cluster", "kubectl create clusterrole "] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    for kind in [
        json!({"kind": "Node", "name": "a"}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "cluster-admin"}),
    ] {
        let name = kind["kind"].as_str().expect("a kind").to_lowercase();
        shop.rule(&name, json!({"sources": on_events(), "actions": [scale(kind)]})).await;
        shop.event(&format!("{name}.1"), &name, "BackOff").await;
        assert!(failure(&shop, &name).await.contains("has no scale subresource"));
    }
}

/// A Job's action with this pod.
fn job(pod: Value) -> Value {
    json!({"name": "run", "timeout": "1s", "job": {"wait": "Completed", "template": {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}}})
}

fn container(security: Value) -> Value {
    json!([{"name": "c", "image": "example.invalid/c:1", "securityContext": security}])
}

#[tokio::test]
async fn a_job_that_breaks_out_of_its_pod_is_refused_where_pod_security_is_restricted() {
    let shop = shop("breakout").await;
    let plane = &site().await.plane;
    let restricted = ["label", "namespace", &shop.name, "pod-security.kubernetes.io/enforce=restricted"];
    assert!(plane.kubectl(&restricted).await.status.success());
    let root = json!([{"name": "root", "hostPath": {"path": "/"}}]);
    for (name, pod) in [
        ("privileged", json!({"containers": container(json!({"privileged": true}))})),
        ("hostpath", json!({"containers": container(json!({})), "volumes": root})),
        ("hostnetwork", json!({"hostNetwork": true, "containers": container(json!({}))})),
        ("hostpid", json!({"hostPID": true, "containers": container(json!({}))})),
    ] {
        shop.rule(
            name,
            json!({"sources": [{"name": "s", "kubernetesEvent": {"reasons": [name]}}], "actions": [job(pod)]}),
        )
        .await;
        shop.event(&format!("{name}.1"), "p", name).await;
    }
    let script = json!({"name": "run", "job": {"script": {"image": "example.invalid/c:1", "run": "true"}}});
    shop.rule("modest", json!({"sources": on_events(), "actions": [script]})).await;
    shop.event("p.1", "p", "BackOff").await;

    let events = shop.api("events.k8s.io/v1", "Event");
    eventually("four Jobs get no pod", PATIENCE, async || {
        let events = events.list(&ListParams::default()).await.ok()?.items;
        let refused = events.iter().filter(|event| {
            event.data["reason"] == "FailedCreate" && event.data["note"].to_string().contains("violates PodSecurity")
        });
        (refused
            .map(|event| event.data["regarding"]["name"].to_string())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            == 4)
            .then_some(())
    })
    .await;
    // What scripts run in keeps the strictest rules by itself.
    let pods = shop.api("v1", "Pod");
    let pod =
        eventually("the script's pod", PATIENCE, async || pods.list(&ListParams::default()).await.ok()?.items.pop())
            .await;
    assert_eq!(pods.list(&ListParams::default()).await.expect("list pods").items.len(), 1);
    assert!(pod.metadata.name.expect("a name").contains("modest"));
    for name in ["privileged", "hostpath", "hostnetwork", "hostpid"] {
        failure(&shop, name).await;
    }
}

#[tokio::test]
async fn a_job_runs_as_no_other_account_than_the_rules_unless_that_has_opted_in() {
    let shop = shop("borrowed").await;
    let admin = |labels: Value| json!({"metadata": {"name": "admin", "labels": labels}});
    shop.create("v1", "ServiceAccount", "admin", admin(json!({}))).await;
    let pod = |field: &str| json!({field: "admin", "containers": container(json!({}))});
    for (name, pod) in [("new", pod("serviceAccountName")), ("old", pod("serviceAccount"))] {
        let source = json!([{"name": "s", "kubernetesEvent": {"reasons": [name]}}]);
        shop.rule(name, json!({"sources": source, "actions": [job(pod)]})).await;
        shop.event(&format!("{name}.1"), "p", name).await;
        let message = failure(&shop, name).await;
        for part in [
            "run pods as another account than the rule's",
            "admin is not labelled",
            "kubectl label serviceaccount admin",
        ] {
            assert!(message.contains(part), "{part:?} is not in {message}");
        }
    }
    let jobs = shop.api("batch/v1", "Job");
    assert_eq!(jobs.list(&ListParams::default()).await.expect("list Jobs").items.len(), 0);

    let label = ["label", "serviceaccount", "admin", "-n", &shop.name, "signalbox.dev/usable-by-rules=true"];
    assert!(site().await.plane.kubectl(&label).await.status.success());
    let mut attempt = 1;
    eventually("a Job runs as the account that opted in", PATIENCE, async || {
        attempt += 1;
        shop.event(&format!("new.{attempt}"), "p", "new").await;
        let job = jobs.list(&ListParams::default()).await.ok()?.items.pop()?;
        (job.data["spec"]["template"]["spec"]["serviceAccountName"] == "admin").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_patch_in_another_namespace_needs_a_right_there_that_is_told_before_it_fires() {
    let (shop, other) = (shop("patcher").await, shop("patched").await);
    other.deployment("web", 1).await;
    let act = json!({"name": "act", "patch": {"target": {"kind": "Deployment", "name": "web", "namespace": other.name},
        "patch": {"metadata": {"annotations": {"x": "1"}}}}});
    let told = lacking(&shop, "reach", json!({"sources": on_events(), "actions": [act]})).await;
    assert!(told.contains(&format!("may not get, patch deployments.apps web in namespace {}", other.name)), "{told}");
    shop.event("p.1", "p", "BackOff").await;
    let message = failure(&shop, "reach").await;
    assert!(message.contains("may not get deployments.apps in namespace"), "{message}");
    let untouched = other.api("apps/v1", "Deployment").get("web").await.expect("get");
    assert!(!untouched.metadata.annotations.unwrap_or_default().contains_key("x"));
}

#[tokio::test]
async fn logs_are_read_by_an_account_that_may_and_by_no_other() {
    let shop = shop("logs").await;
    let unbound = ["delete", "rolebinding", "signalbox-rules", "-n", &shop.name];
    assert!(site().await.plane.kubectl(&unbound).await.status.success());
    let source = json!({"podLogs": {"selector": {"matchLabels": {"app": "web"}}, "pattern": "ERROR"}});
    shop.create(GROUP, "EventSource", "talk", json!({"spec": source})).await;
    let rule = json!({"sources": [{"name": "line", "ref": {"name": "talk"}}], "actions": [{"name": "say", "emit": {"type": "com.example.said"}}]});
    shop.create(GROUP, "EventRule", "talk", json!({"spec": rule})).await;
    let lacks = |status: &Value| condition(status, "Ready")["reason"] == "RightMissing";
    let status = shop.status("EventSource", "talk", "no right", lacks).await;
    let message = condition(&status, "Ready")["message"].to_string();
    for part in ["may not list, watch pods in", "--verb=list,watch --resource=pods ", "--verb=get --resource=pods/log "]
    {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    for (name, resource, verbs) in
        [("pods", "pods", "list,watch"), ("logs", "pods/log", "get"), ("source", "eventsources.signalbox.dev", "get")]
    {
        grant(&shop, name, resource, verbs).await;
    }
    let follows = |status: &Value| {
        let connected = condition(status, "Connected");
        connected["status"] == "True" && connected["message"].to_string().contains("no Pod")
    };
    shop.status("EventSource", "talk", "the Pods are watched", follows).await;
}
