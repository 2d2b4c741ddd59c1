//! Who may write rules: the chart's admission policy on a real API server, and what the operator does without it.

use kube::{
    Client, Error,
    api::{Api, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use support::{
    PATIENCE, eventually,
    operator::Operator,
    site::{Shop, Site, condition, rights},
};
use tokio::sync::OnceCell;

mod support;

const GROUP: &str = "signalbox.dev/v1alpha1";

/// One control plane for the tests that leave the policy as it is, with nobody who looks at the rules.
async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    let start = async || {
        let site = Site::start().await;
        let shop = author(&site, "warm-up", "nobody", &[]).await;
        let rules = shop.api(GROUP, "EventRule");
        // The API server learns of a policy, and of who may do what, by watches of its own.
        eventually("the policy is in force", PATIENCE, async || {
            refused(rules.create(&trial(), &rule("tried", "ops")).await)
                .filter(|said| said.contains("ServiceAccount ops"))
        })
        .await;
        site
    };
    SITE.get_or_init(start).await
}

/// A namespace in which `user` may edit rules, sinks and sources and what the further rules of a Role say, and his view of it.
async fn author(site: &Site, prefix: &str, user: &str, more: &[Value]) -> Shop {
    let name = site.namespace(prefix).await.name;
    let resources = ["eventrules", "eventsinks", "eventsources", "eventrules/status"];
    let edit =
        json!({"apiGroups": ["signalbox.dev"], "resources": resources, "verbs": ["create", "get", "patch", "update"]});
    let rules: Vec<Value> = [edit].into_iter().chain(more.iter().cloned()).collect();
    let (group, meta) = ("rbac.authorization.k8s.io", json!({"name": "authors", "namespace": name}));
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta, "rules": rules});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "authors"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}]});
    site.plane.apply(&format!("{role}\n---\n{binding}")).await;
    Shop { name, client: site.plane.client_as(user, &["system:authenticated"]).await }
}

/// Waits until the user's Role is known: until then RBAC refuses, in words of its own.
async fn known(shop: &Shop) {
    let rules = shop.api(GROUP, "EventRule");
    eventually("the Role is known", PATIENCE, async || {
        (!matches!(rules.get("none").await, Err(Error::Api(status)) if status.is_forbidden())).then_some(())
    })
    .await;
}

fn trial() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn object(kind: &str, name: &str, spec: Value) -> DynamicObject {
    let object = json!({"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).expect("an object")
}

fn spec(account: &str) -> Value {
    json!({"serviceAccountName": account, "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}}]})
}

fn rule(name: &str, account: &str) -> DynamicObject {
    object("EventRule", name, spec(account))
}

/// What the API server says to somebody who may not.
fn refused<T>(answer: Result<T, Error>) -> Option<String> {
    match answer {
        Err(Error::Api(status)) if status.is_forbidden() => Some(status.message.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn who_may_not_act_as_an_account_may_not_write_what_uses_it_and_the_refusal_says_how_he_may() {
    let site = site().await;
    let shop = author(site, "refused", "jane", &[]).await;
    known(&shop).await;
    let (rules, sinks) = (shop.api(GROUP, "EventRule"), shop.api(GROUP, "EventSink"));
    let sources = shop.api(GROUP, "EventSource");
    let unnamed = object("EventSink", "oncall", json!({"webhook": {"url": "https://example.com/"}}));
    let source = json!({"serviceAccountName": "ops", "webhook": {"auth": {"none": {}}}});
    let source = object("EventSource", "github", source);
    for (said, kind, account) in [
        (refused(rules.create(&trial(), &rule("web", "ops")).await), "EventRule", "ops"),
        (refused(sinks.create(&trial(), &unnamed).await), "EventSink", "signalbox-rules"),
        (refused(sources.create(&trial(), &source).await), "EventSource", "ops"),
    ] {
        let said = said.expect("it is refused");
        for part in
            ["signalbox-accounts", kind, &shop.name, &format!("acts as ServiceAccount {account}, which jane may not")]
        {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }

    let said = refused(rules.create(&trial(), &rule("web", "ops")).await).expect("it is refused");
    for command in said.split_once("allow it with: ").expect("commands").1.split(" && ") {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = site.plane.kubectl(&words).await;
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    eventually("the rule is taken", PATIENCE, async || rules.create(&trial(), &rule("web", "ops")).await.ok()).await;
    let other = refused(rules.create(&trial(), &rule("web", "admin")).await).expect("another account is refused");
    assert!(other.contains("ServiceAccount admin"), "{other}");
}

#[tokio::test]
async fn who_may_create_pods_in_the_namespace_may_write_a_rule_of_any_of_its_accounts() {
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]});
    let shop = author(site().await, "pods", "piet", &[pods]).await;
    let rules = shop.api(GROUP, "EventRule");
    eventually("the rule is taken", PATIENCE, async || rules.create(&trial(), &rule("web", "ops")).await.ok()).await;
}

#[tokio::test]
async fn who_may_not_act_as_an_account_cannot_edit_the_rule_of_somebody_who_may() {
    let site = site().await;
    let shop = author(site, "edit", "kim", &[]).await;
    known(&shop).await;
    let admin = Shop { name: shop.name.clone(), client: site.plane.client().await };
    admin.create(GROUP, "EventRule", "web", json!({"spec": spec("ops")})).await;
    let rules = shop.api(GROUP, "EventRule");
    let edit = async |patch: Value| rules.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await;

    let said = refused(edit(json!({"spec": {"suspend": true}})).await).expect("it is refused");
    assert!(said.contains("acts as ServiceAccount ops, which kim may not"), "{said}");
    refused(edit(json!({"spec": {"serviceAccountName": "another"}})).await).expect("it is refused");
    let apply = Patch::Apply(rule("web", "ops"));
    let mut other = rule("web", "ops");
    other.data["spec"]["historyLimit"] = json!(1);
    rules.patch("web", &PatchParams::apply("kim").force(), &apply).await.expect("the same spec is no edit");
    refused(rules.patch("web", &PatchParams::apply("kim").force(), &Patch::Apply(other)).await).expect("it is refused");

    edit(json!({"metadata": {"labels": {"team": "front"}}})).await.expect("labels are no part of the spec");
    let status = json!({"status": {"observedGeneration": 1}});
    let status = rules.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await;
    assert_eq!(status.expect("the status is no part of the spec").data["status"]["observedGeneration"], 1);
}

/// The chart's policy or binding, to be changed.
fn policies(client: &Client, kind: &str) -> Api<DynamicObject> {
    let gvk = kube::api::GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    Api::all_with(client.clone(), &kube::api::ApiResource::from_gvk(&gvk))
}

const POLICY: &str = "ValidatingAdmissionPolicy";
const BINDING: &str = "ValidatingAdmissionPolicyBinding";
const NAME: &str = "signalbox-accounts";

/// An operator, and a namespace with the accounts `plain` and `labelled`, each with a rule named as the account.
async fn two_rules(site: &Site) -> (Operator, Shop) {
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("unbound").await;
    shop.deployment("web", 1).await;
    for (account, labels) in [("plain", json!({})), ("labelled", json!({"signalbox.dev/usable-by-rules": "true"}))] {
        shop.create("v1", "ServiceAccount", account, json!({"metadata": {"name": account, "labels": labels}})).await;
        let (role, account_of) = ("--clusterrole=signalbox-actor", format!("--serviceaccount={}:{account}", shop.name));
        let binding = ["create", "rolebinding", account, "-n", &shop.name, role, &account_of];
        assert!(site.plane.kubectl(&binding).await.status.success());
        shop.rule(account, spec(account)).await;
    }
    (operator, shop)
}

/// Waits until the unlabelled account is not used, and gives the message.
async fn unused(shop: &Shop) -> String {
    let status = shop
        .rule_status("plain", "the account is not used", |status| {
            condition(status, "Authorized")["reason"] == "AccountNotUsable"
        })
        .await;
    assert_eq!(condition(&status, "Ready")["status"], "False");
    let labelled = shop.rule_ready("labelled").await;
    assert_eq!(condition(&labelled, "Authorized")["status"], "True");
    condition(&status, "Authorized")["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn without_the_policy_only_labelled_accounts_are_used_and_with_it_all_are_without_a_restart() {
    let site = Site::start().await;
    let (_operator, shop) = two_rules(&site).await;

    policies(&site.client, BINDING).delete(NAME, &Default::default()).await.expect("delete the binding");
    let message = unused(&shop).await;
    for part in [
        "ValidatingAdmissionPolicyBinding signalbox-accounts does not exist",
        &format!("kubectl label serviceaccount plain -n {} signalbox.dev/usable-by-rules=true", shop.name),
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    shop.event("while.1", "while", "BackOff").await;
    shop.await_replicas("web", 2).await;

    site.plane.apply(&rights()).await;
    shop.rule_ready("plain").await;
    shop.event("after.1", "after", "BackOff").await;
    shop.await_replicas("web", 4).await;
    let status = shop.rule_status("plain", "it acted", |status| status["counts"]["succeeded"] == 1).await;
    assert_eq!(status["counts"]["seen"], 1, "what happened meanwhile was not for it");

    policies(&site.client, POLICY).delete(NAME, &Default::default()).await.expect("delete the policy");
    let message = unused(&shop).await;
    assert!(message.contains("ValidatingAdmissionPolicy signalbox-accounts does not exist"), "{message}");
    let label = ["label", "serviceaccount", "plain", "-n", &shop.name, "signalbox.dev/usable-by-rules=true"];
    assert!(site.plane.kubectl(&label).await.status.success());
    shop.rule_ready("plain").await;
}

#[tokio::test]
async fn a_policy_that_was_loosened_counts_as_none() {
    let site = Site::start().await;
    let (_operator, shop) = two_rules(&site).await;
    let elsewhere = json!({"namespaceSelector": {"matchLabels": {"checked": "yes"}}});
    let but_one = json!([{"name": "but-one", "expression": "request.userInfo.username != 'jane'"}]);
    let anything = json!([{"expression": "true"}]);
    // Each takes the one before it back; of several faults the policy's are told first.
    for (kind, patch, said) in [
        (BINDING, json!({"validationActions": ["Audit"]}), "validationActions"),
        (BINDING, json!({"validationActions": ["Deny"], "matchResources": elsewhere}), "matchResources"),
        (POLICY, json!({"matchConditions": but_one}), "matchConditions"),
        (POLICY, json!({"matchConditions": null, "failurePolicy": "Ignore"}), "failurePolicy"),
        (POLICY, json!({"failurePolicy": "Fail", "validations": anything}), "validation"),
    ] {
        let patch = Patch::Merge(json!({"spec": patch}));
        policies(&site.client, kind).patch(NAME, &PatchParams::default(), &patch).await.expect("loosen it");
        let part = format!("{kind} {NAME} is not as the chart makes it: ");
        let told = |status: &Value| {
            let message = condition(status, "Authorized")["message"].as_str().unwrap_or_default().to_owned();
            message.split_once(&part).is_some_and(|(_, rest)| rest.contains(said))
        };
        shop.rule_status("plain", said, told).await;
        unused(&shop).await;
    }
    for kind in [POLICY, BINDING] {
        policies(&site.client, kind).delete(NAME, &Default::default()).await.expect("take it away");
    }
    site.plane.apply(&rights()).await;
    shop.rule_ready("plain").await;
}
