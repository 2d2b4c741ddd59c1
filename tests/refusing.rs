//! The validating webhook: a real API server asks a real operator about rules.

use serde_json::json;
use support::{PATIENCE, eventually, http::free_port, site::Site};

mod support;

const WRONG: &str = "when: [{name: a, expression: 'event.dta.x'}]";

fn rule(namespace: &str, name: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: signalbox.dev/v1alpha1, kind: EventRule, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{sources: [{{name: s, kubernetesEvent: {{}}}}], {rest}}}}}"
    )
}

fn actions(namespace: &str) -> String {
    format!("actions: [{{name: a, scale: {{target: {{kind: Deployment, name: web, namespace: {namespace}}}, to: 1}}}}]")
}

#[tokio::test]
async fn a_wrong_rule_is_refused_where_it_is_written_and_missing_rights_are_told() {
    let site = Site::start().await;
    let shop = site.namespace("hooked").await;
    let other = site.plane.namespace("other").await;
    let address = format!("127.0.0.1:{}", free_port());
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "signalbox-rules"},
        "webhooks": [{
            "name": "rules.signalbox.dev", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://{address}/rules")},
            "rules": [{"apiGroups": ["signalbox.dev"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"], "resources": ["eventrules"]}],
            "failurePolicy": "Ignore", "sideEffects": "None", "timeoutSeconds": 5,
        }],
    });
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "signalbox-admission"},
        "rules": [{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
            "resourceNames": ["signalbox-rules"], "verbs": ["get", "patch"]}]});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "signalbox-admission"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "signalbox-admission"},
        "subjects": [{"kind": "ServiceAccount", "name": "signalbox", "namespace": "signalbox-system"}]});
    site.plane.apply(&format!("{configuration}\n---\n{role}\n---\n{binding}")).await;

    // Nobody answers yet: rules are taken unchecked.
    let wrong = |name: &str| rule(&shop.name, name, &format!("{WRONG}, {}", actions(&shop.name)));
    site.plane.apply(&wrong("early")).await;

    let setup = site.another().args(&["--admission-address", &address, "--admission-host=127.0.0.1"]);
    let operator = setup.start_ready().await;
    let refused = eventually("a wrong rule is refused", PATIENCE, async || {
        let output = site.plane.try_apply(&wrong("late")).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success()).then_some(said)
    })
    .await;
    assert!(refused.contains("admission webhook \"rules.signalbox.dev\" denied the request"), "{refused}");
    assert!(refused.contains("spec.when[0].expression:1:1: "), "{refused}");

    // A right that is missing keeps nobody from writing the rule.
    let taken = site.plane.try_apply(&rule(&shop.name, "right", &actions(&other))).await;
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(taken.status.success() && said.contains("Warning: ServiceAccount"), "{said}");
    assert!(said.contains(&format!("may not get, patch deployments.apps/scale web in namespace {other}")), "{said}");

    // One that was wrong before may still change in other ways, such as for its end.
    let labelled = site.plane.kubectl(&["label", "eventrule", "early", "a=b", "-n", &shop.name]).await;
    assert!(labelled.status.success(), "{labelled:?}");

    // Another process has another authority, which the API server is told of.
    operator.kill();
    let _again = setup.start_ready().await;
    eventually("a wrong rule is refused again", PATIENCE, async || {
        (!site.plane.try_apply(&wrong("late")).await.status.success()).then_some(())
    })
    .await;
}
