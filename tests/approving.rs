//! What people say to rules beside their specs, on a real API server: who may approve and silence, in whose name, and what a restart and a missing policy
//! do.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    site::{Shop, Site},
};

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// A rule that scales when somebody has approved, and notes who.
fn rule(timeout: &str) -> Value {
    let web = json!({"kind": "Deployment", "name": "web"});
    let note = json!({"target": web, "patch": {"metadata": {"annotations": {"by": "${actions.sure.by}"}}}});
    json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}], "actions": [
        {"name": "sure", "approve": {"timeout": timeout}},
        {"name": "grow", "scale": {"target": web, "by": "1"}},
        {"name": "note", "patch": note},
    ]})
}

/// A person, as a ServiceAccount of the shop that has these verbs on its rules.
async fn person(site: &Site, shop: &Shop, name: &str, verbs: &[&str]) -> PathBuf {
    let (group, meta) = ("rbac.authorization.k8s.io", json!({"name": name, "namespace": shop.name}));
    let rules = json!([{"apiGroups": ["signalbox.dev"], "resources": ["eventrules"], "verbs": verbs}]);
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": shop.name});
    let role_ref = json!({"apiGroup": group, "kind": "Role", "name": name});
    let objects = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta, "rules": rules}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta, "roleRef": role_ref, "subjects": [subject]}),
    ];
    site.plane.apply(&objects.map(|object| object.to_string()).join("\n---\n")).await;
    site.plane.kubeconfig_for_token(&site.plane.service_account_token(&shop.name, name).await)
}

fn user(shop: &Shop, name: &str) -> String {
    format!("system:serviceaccount:{}:{name}", shop.name)
}

async fn plugin(kubeconfig: &Path, shop: &Shop, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-signalbox"));
    command.env("KUBECONFIG", kubeconfig).args(args).args(["-n", &shop.name]);
    command.output().await.expect("run the plug-in")
}

/// Runs it until it is done: the API server learns of Roles by watches of its own.
async fn done(kubeconfig: &Path, shop: &Shop, args: &[&str]) -> String {
    let last = std::sync::Mutex::new(String::new());
    let run = async || {
        let output = plugin(kubeconfig, shop, args).await;
        *last.lock().expect("not poisoned") = format!("{output:?}");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let ran = tokio::time::timeout(PATIENCE, eventually("it is done", PATIENCE * 2, run)).await;
    assert!(ran.is_ok(), "{}", last.lock().expect("not poisoned"));
    ran.unwrap_or_default()
}

/// Waits until the rule's newest firing waits for an approval, and gives its id and what status says of it.
async fn waits(shop: &Shop, rule: &str, than: &str) -> (String, String) {
    let waits = |status: &Value| {
        let newest = &status["recent"][0];
        newest["actions"][0]["outcome"] == "Running" && newest["id"] != than
    };
    let status = shop.rule_status(rule, "a firing that waits", waits).await;
    let newest = &status["recent"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&newest["id"]), text(&newest["actions"][0]["message"]))
}

async fn ended(shop: &Shop, rule: &str, firing: &str) -> (String, String) {
    let ended = |status: &Value| {
        let newest = &status["recent"][0];
        newest["id"] == firing && newest["outcome"] != "Running"
    };
    let status = shop.rule_status(rule, "it has ended", ended).await;
    let text = |field: &str| status["recent"][0][field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("message"))
}

/// The note of the rule's Kubernetes Event with this reason.
async fn note(shop: &Shop, reason: &str) -> String {
    eventually(&format!("the Event {reason}"), PATIENCE, async || {
        let events = shop.api("v1", "Event").list(&ListParams::default()).await.ok()?;
        let event = events.iter().find(|event| event.data["reason"] == reason)?;
        event.data["message"].as_str().map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn who_has_the_verb_approves_and_nobody_else_and_in_no_other_name() {
    let site = Site::start().await;
    let _operator = site.setup.start_ready().await;
    let shop = site.namespace("approve").await;
    shop.deployment("web", 1).await;
    let jane = person(&site, &shop, "jane", &["get", "patch", "approve"]).await;
    let kim = person(&site, &shop, "kim", &["get", "patch"]).await;
    shop.rule("asks", rule("1h")).await;
    shop.event("web.1", "web", "BackOff").await;
    let (firing, said) = waits(&shop, "asks", "").await;
    let command = format!("kubectl signalbox approve asks {firing} -n {}", shop.name);
    assert!(said.starts_with("waits until ") && said.ends_with(&command), "{said}");
    assert!(note(&shop, "ApprovalNeeded").await.contains(&command));

    // Kim may edit the rule's metadata, and that is not enough; Jane may approve, and not for Kim.
    let refused = async || {
        let output = plugin(&kim, &shop, &["approve", "asks", &firing]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success() && said.contains("signalbox.dev/approval")).then_some(said)
    };
    let said = eventually("it is refused", PATIENCE, refused).await;
    for part in [&user(&shop, "kim"), "the verb approve on eventrules.signalbox.dev", "deploy/samples/approve.yaml"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let annotate = async |who: &str, text: &str| {
        let client = site.plane.client_as(&user(&shop, who), &["system:serviceaccounts", "system:authenticated"]).await;
        let view = Shop { name: shop.name.clone(), client };
        let patch = json!({"metadata": {"annotations": {"signalbox.dev/approval": text}}});
        view.api(GROUP, "EventRule").patch("asks", &PatchParams::default(), &Patch::Merge(&patch)).await
    };
    let step = format!("approve {firing}-sure");
    let taken = async || annotate("jane", &format!("deny {}-sure {}", "0".repeat(20), user(&shop, "jane"))).await.ok();
    eventually("her Role is known", PATIENCE, taken).await;
    for (who, text) in [
        ("jane", format!("{step} {}", user(&shop, "kim"))),
        ("jane", format!("{step} kim {}", user(&shop, "jane"))),
        ("jane", format!("{step}x! {}", user(&shop, "jane"))),
        ("kim", format!("{step} {}", user(&shop, "kim"))),
        ("kim", format!("{step} {}", user(&shop, "jane"))),
    ] {
        let answer = annotate(who, &text).await;
        assert!(matches!(&answer, Err(kube::Error::Api(status)) if status.is_forbidden()), "{who} {text}: {answer:?}");
    }
    let labels = json!({"metadata": {"labels": {"team": "front"}}});
    let client = site.plane.client_as(&user(&shop, "kim"), &["system:authenticated"]).await;
    let view = Shop { name: shop.name.clone(), client };
    let labelled = view.api(GROUP, "EventRule").patch("asks", &PatchParams::default(), &Patch::Merge(&labels)).await;
    labelled.expect("what leaves the annotation alone passes");
    assert_eq!(shop.replicas("web").await, 1, "nothing was approved");

    let printed = done(&jane, &shop, &["approve", "asks", &firing]).await;
    assert!(printed.contains(&format!("as {}", user(&shop, "jane"))), "{printed}");
    let (outcome, message) = ended(&shop, "asks", &firing).await;
    assert_eq!(outcome, "Succeeded", "{message}");
    let approved = format!("approved by {}", user(&shop, "jane"));
    assert!(message.starts_with(&approved), "{message}");
    assert!(note(&shop, "Approved").await.contains(&approved));
    let web: DynamicObject = shop.api("apps/v1", "Deployment").get("web").await.expect("get the Deployment");
    assert_eq!(
        (&web.data["spec"]["replicas"], &web.metadata.annotations.unwrap_or_default()["by"]),
        (&json!(2), &user(&shop, "jane"))
    );

    shop.event("web.2", "web", "BackOff").await;
    let (second, _) = waits(&shop, "asks", &firing).await;
    done(&jane, &shop, &["approve", "asks", &second, "--deny"]).await;
    let (outcome, message) = ended(&shop, "asks", &second).await;
    assert_eq!((outcome.as_str(), message), ("Failed", format!("denied by {}", user(&shop, "jane"))));
    assert_eq!(shop.replicas("web").await, 2);
}

#[tokio::test]
async fn of_two_who_approve_at_once_both_are_heard() {
    let site = Site::start().await;
    let shop = site.namespace("both").await;
    let jane = person(&site, &shop, "jane", &["get", "patch", "approve"]).await;
    let mut rule = rule("1h");
    rule["actions"] = json!([rule["actions"][0], {"name": "note", "patch": {"target": {"kind": "Deployment", "name": "${event.data.regarding.name}"},
        "patch": {"metadata": {"annotations": {"by": "${actions.sure.by}"}}}}}]);
    let operator = site.setup.start_ready().await;
    shop.rule("asks", rule).await;
    for name in ["web", "db"] {
        shop.deployment(name, 1).await;
        shop.event(&format!("{name}.1"), name, "BackOff").await;
    }
    let both = |status: &Value| {
        let waits = |firing: &&Value| firing["actions"][0]["outcome"] == "Running";
        status["recent"].as_array().is_some_and(|recent| recent.iter().filter(waits).count() == 2)
    };
    let status = shop.rule_status("asks", "both wait", both).await;
    // Nobody takes the first before the second is said.
    operator.kill();
    for waits in status["recent"].as_array().expect("firings") {
        done(&jane, &shop, &["approve", "asks", waits["id"].as_str().expect("an id")]).await;
    }
    let _operator = site.setup.start_ready().await;
    for name in ["web", "db"] {
        let noted = async || {
            let deployment: DynamicObject = shop.api("apps/v1", "Deployment").get(name).await.ok()?;
            deployment.metadata.annotations.unwrap_or_default().get("by").cloned()
        };
        assert_eq!(eventually("it was approved", PATIENCE, noted).await, user(&shop, "jane"));
    }
}

#[tokio::test]
async fn who_has_the_verb_silences_and_nobody_else_and_in_no_other_name() {
    let site = Site::start().await;
    let _operator = site.setup.start_ready().await;
    let shop = site.namespace("silence").await;
    shop.deployment("web", 1).await;
    let jane = person(&site, &shop, "jane", &["get", "patch", "silence"]).await;
    let kim = person(&site, &shop, "kim", &["get", "patch"]).await;
    let grow = json!([{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}}]);
    let source = json!([{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}]);
    shop.rule("grows", json!({"sources": source, "actions": grow, "groupBy": [{"name": "pod", "expression": "event.data.regarding.name"}]})).await;
    let printed = done(
        &jane,
        &shop,
        &[
            "silence",
            "grows",
            "--for",
            "1h",
            "--comment",
            "a \"drill\"",
            "--name",
            "drill",
            "--expression",
            "group.pod == 'web'",
        ],
    )
    .await;
    assert!(printed.contains("silenced until ") && printed.contains(&user(&shop, "jane")), "{printed}");
    let status = shop.rule_status("grows", "it is told", |status| status["silences"][0]["name"] == "drill").await;
    let told = &status["silences"][0];
    assert_eq!((&told["author"], &told["comment"]), (&json!(user(&shop, "jane")), &json!("a \"drill\"")));

    shop.event("web.1", "web", "BackOff").await;
    shop.event("db.1", "db", "BackOff").await;
    let counted = |status: &Value| status["counts"]["suppressed"]["silence"] == 1 && status["counts"]["succeeded"] == 1;
    let status = shop.rule_status("grows", "one is silenced and one is not", counted).await;
    assert_eq!((&status["lastSuppressed"]["reason"], &status["recent"][0]["group"]), (&json!("silence"), &json!("db")));
    assert_eq!(shop.replicas("web").await, 2);

    let output = plugin(&kim, &shop, &["silence", "grows", "--for", "1h"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "Kim has not the verb");
    for part in [&user(&shop, "kim"), "the verb silence on eventrules.signalbox.dev", "deploy/samples/silence.yaml"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let annotate = async |who: &str, name: &str, text: Value| {
        let client = site.plane.client_as(&user(&shop, who), &["system:serviceaccounts", "system:authenticated"]).await;
        let view = Shop { name: shop.name.clone(), client };
        let patch = json!({"metadata": {"annotations": {format!("silence.signalbox.dev/{name}"): text}}});
        view.api(GROUP, "EventRule").patch("grows", &PatchParams::default(), &Patch::Merge(&patch)).await
    };
    let text = |author: &str| json!(format!(r#"{{"author":"{author}","until":"2099-01-01T00:00:00Z"}}"#));
    for (who, name, value) in [
        ("jane", "b", text(&user(&shop, "kim"))),
        ("jane", "b", json!(r#"{"until":"2099-01-01T00:00:00Z","author":"kim"}"#)),
        ("kim", "b", text(&user(&shop, "kim"))),
        ("kim", "empty", json!("")),
        ("kim", "drill", Value::Null),
        ("kim", "drill", text(&user(&shop, "kim"))),
    ] {
        let answer = annotate(who, name, value.clone()).await;
        assert!(matches!(&answer, Err(kube::Error::Api(status)) if status.is_forbidden()), "{who} {value}: {answer:?}");
    }
    // What the policy lets through and no silence is made of is told.
    let odd = format!(r#"{{"author":"{}","author":"kim","until":"2099-01-01T00:00:00Z"}}"#, user(&shop, "jane"));
    annotate("jane", "odd", json!(odd)).await.expect("it begins as it should");
    let status = shop.rule_status("grows", "it is told", |status| status["silences"][1]["name"] == "odd").await;
    assert!(status["silences"][1]["message"].as_str().expect("why").contains("duplicate field"), "{status}");

    done(&jane, &shop, &["silence", "grows", "--end"]).await;
    shop.rule_status("grows", "none is left", |status| status["silences"].is_null()).await;
    shop.event("web.2", "web", "BackOff").await;
    shop.rule_status("grows", "it fires again", |status| status["counts"]["succeeded"] == 2).await;
}

#[tokio::test]
async fn a_killed_operator_goes_on_waiting_and_takes_what_was_approved_meanwhile() {
    let site = Site::start().await;
    let shop = site.namespace("killed").await;
    let operator = site.setup.start_ready().await;
    shop.deployment("web", 1).await;
    let jane = person(&site, &shop, "jane", &["get", "patch", "approve"]).await;
    shop.rule("asks", rule("1h")).await;
    shop.rule(
        "late",
        json!({"sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["Late"]}}],
        "actions": [{"name": "sure", "approve": {"timeout": "3s"}}]}),
    )
    .await;
    shop.event("web.1", "web", "BackOff").await;
    shop.event("web.2", "web", "Late").await;
    let ((firing, _), (late, _)) = (waits(&shop, "asks", "").await, waits(&shop, "late", "").await);
    operator.kill();
    done(&jane, &shop, &["approve", "asks", &firing]).await;
    let operator = site.setup.start_ready().await;
    let (outcome, message) = ended(&shop, "asks", &firing).await;
    assert_eq!(outcome, "Succeeded", "{message}");
    let (outcome, message) = ended(&shop, "late", &late).await;
    assert_eq!(outcome, "Failed");
    assert!(message.starts_with("not approved within 3s: kubectl signalbox approve late "), "{message}");
    assert_eq!(shop.replicas("web").await, 2);

    // And once more, with nothing decided: it goes on waiting.
    shop.event("web.3", "web", "BackOff").await;
    let (second, said) = waits(&shop, "asks", &firing).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    let (still, again) = waits(&shop, "asks", &firing).await;
    assert_eq!((still, again), (second.clone(), said), "to the same end");
    done(&jane, &shop, &["approve", "asks", &second]).await;
    assert_eq!(ended(&shop, "asks", &second).await.0, "Succeeded");
}

#[tokio::test]
async fn without_the_policy_nothing_is_approved_and_nothing_silenced() {
    let site = Site::start().await;
    let _operator = site.setup.start_ready().await;
    let shop = site.namespace("unbound").await;
    let binding = ["delete", "validatingadmissionpolicybinding", "signalbox-accounts"];
    assert!(site.plane.kubectl(&binding).await.status.success());
    shop.deployment("web", 1).await;
    shop.rule("asks", rule("1h")).await;
    // What was found before is believed for three seconds.
    let mut number = 0;
    let message = eventually("nothing is approved", PATIENCE, async || {
        number += 1;
        shop.event(&format!("web.{number}"), &format!("web-{number}"), "BackOff").await;
        let status = shop.api(GROUP, "EventRule").get("asks").await.ok()?.data["status"].clone();
        let message = status["lastError"]["message"].as_str()?.to_owned();
        message.contains("nobody checks who approves").then_some(message)
    })
    .await;
    assert!(message.contains("ValidatingAdmissionPolicyBinding signalbox-accounts does not exist"), "{message}");
    assert_eq!(shop.replicas("web").await, 1);

    let text = json!(r#"{"author":"nobody","until":"2099-01-01T00:00:00Z"}"#);
    let patch = json!({"metadata": {"annotations": {"silence.signalbox.dev/a": text}}});
    let rules = shop.api(GROUP, "EventRule");
    rules.patch("asks", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("nobody refuses it");
    let refused = |status: &Value| {
        status["silences"][0]["message"].as_str().is_some_and(|why| why.contains("nobody checks who silences"))
    };
    shop.rule_status("asks", "it is told that it is not in force", refused).await;
}
