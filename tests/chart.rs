//! The chart: what it renders when its optional parts are on, which values it refuses, and which rights it gives.
//!
//! The programs are `$SIGNALBOX_HELM` and `$SIGNALBOX_KUBE`, or what `e2e/cluster/program` builds.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use signalbox::kubernetes::{POLICY, fault_of_approval, fault_of_binding, fault_of_policy, fault_of_silencing};
use support::{
    PATIENCE,
    control_plane::{ControlPlane, shared},
    eventually,
};

mod support;

#[path = "chart/metrics.rs"]
mod metrics;

const SYSTEM: &str = "signalbox-system";

/// Every optional part.
const ALL: [&str; 8] = [
    "metrics.serviceMonitor.enabled=true",
    "metrics.serviceMonitor.labels.release=prometheus",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.fromNamespaces={monitoring}",
    "podDisruptionBudget.enabled=true",
    "admissionWebhook.enabled=true",
];

/// What the optional parts make.
const PARTS: [(&str, &str); 9] = [
    ("ConfigMap", "signalbox-dashboard"),
    ("NetworkPolicy", "signalbox"),
    ("PodDisruptionBudget", "signalbox"),
    ("PrometheusRule", "signalbox"),
    ("ServiceMonitor", "signalbox"),
    ("ValidatingWebhookConfiguration", "signalbox-rules"),
    ("Service", "signalbox-admission"),
    ("ClusterRole", "signalbox-admission"),
    ("ClusterRoleBinding", "signalbox-admission"),
];

// === rendering

/// Runs `helm template` with values as for `--set`.
fn helm_template(values: &[&str]) -> Output {
    let mut helm = Command::new(helm());
    helm.args(["template", "signalbox", "charts/signalbox", "-n", SYSTEM, "--skip-tests"]);
    for value in values {
        helm.args(["--set", value]);
    }
    helm.output().expect("run helm")
}

fn helm() -> PathBuf {
    if let Some(path) = std::env::var_os("SIGNALBOX_HELM") {
        return path.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/cluster/program");
    let output = Command::new(&script).arg("helm").stderr(Stdio::inherit()).output().expect("run e2e/cluster/program");
    assert!(output.status.success(), "e2e/cluster/program helm failed: see its messages, or set SIGNALBOX_HELM");
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// The objects that the chart renders with these values.
fn rendered(values: &[&str]) -> Vec<Value> {
    let output = helm_template(values);
    assert!(output.status.success(), "helm template: {}", String::from_utf8_lossy(&output.stderr));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8_lossy(&output.stdout)).expect("the chart renders YAML");
    documents.into_iter().filter(Value::is_object).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn as_list(objects: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

#[test]
fn every_optional_part_is_made_when_it_is_on_and_not_by_default() {
    let (plain, all) = (rendered(&[]), rendered(&ALL));
    for (kind, name) in PARTS {
        assert!(object(&plain, kind, name).is_none(), "{kind} {name} is there by default");
        assert!(object(&all, kind, name).is_some(), "{kind} {name} is not there");
    }
    assert_eq!(all.len(), plain.len() + PARTS.len());
    let monitor = object(&all, "ServiceMonitor", "signalbox").expect("it is there");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let dashboard = object(&all, "ConfigMap", "signalbox-dashboard").expect("it is there");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
}

#[tokio::test]
async fn the_api_server_takes_the_chart_with_every_optional_part() {
    let plane = shared().await;
    let namespace = system(plane).await;
    // The Prometheus operator's kinds are not known here; their queries are checked in `metrics.rs`.
    let known =
        |object: &Value| !object["apiVersion"].as_str().unwrap_or_default().starts_with("monitoring.coreos.com/");
    let objects: Vec<Value> = rendered(&ALL).into_iter().filter(known).collect();
    let output = plane.try_apply(&as_list(&objects)).await;
    assert!(output.status.success(), "in {namespace}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_misspelt_value_is_refused_with_its_place() {
    for (value, place, name) in [
        ("persistance.enabled=false", "at ''", "persistance"),
        ("persistence.enabeld=false", "at '/persistence'", "enabeld"),
        ("metrics.serviceMonitor.intervall=1m", "at '/metrics/serviceMonitor'", "intervall"),
        ("metrics.prometheusRule.enable=true", "at '/metrics/prometheusRule'", "enable"),
        ("metrics.dashboard.label=x", "at '/metrics/dashboard'", "label"),
        ("networkPolicy.namespaces={monitoring}", "at '/networkPolicy'", "namespaces"),
        ("podDisruptionBudget.minAvailable=1", "at '/podDisruptionBudget'", "minAvailable"),
        ("admissionPolicy.enable=false", "at '/admissionPolicy'", "enable"),
        ("hooks.port=80", "at '/hooks'", "port"),
    ] {
        let output = helm_template(&[value]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} is taken");
        assert!(said.contains(place) && said.contains(&format!("'{name}' not allowed")), "{value}: {said}");
    }
}

#[test]
fn an_installation_ends_with_what_to_do_next_and_what_becomes_of_the_log() {
    let (own, published) = ("localhost/signalbox", "registry.example.com/signalbox");
    for (persistent, said, image) in
        [(true, "is on a PersistentVolumeClaim", own), (false, "is in an emptyDir", published)]
    {
        let output = Command::new(helm())
            .args(["install", "signalbox", "charts/signalbox", "-n", SYSTEM, "--dry-run=client"])
            .args(["--set", "rules.namespaces={shop}", "--set", &format!("persistence.enabled={persistent}")])
            .args(["--set", &format!("image.repository={image}")])
            .env("KUBECONFIG", "/dev/null")
            .output()
            .expect("run helm");
        let text = String::from_utf8_lossy(&output.stdout);
        let notes = text.split_once("NOTES:").unwrap_or_else(|| panic!("{text}{output:?}")).1;
        let next = notes.split_once("Next:").unwrap_or_else(|| panic!("{notes}")).1;
        assert!(notes.contains(said), "{notes}");
        // A newcomer has built no image yet, or has not pushed it.
        assert_eq!(notes.contains("build it (make image)"), image == own, "{notes}");
        // What an uninstallation leaves, and how that goes.
        assert!(
            notes.contains(
                "kubectl delete crd eventrules.signalbox.dev eventsinks.signalbox.dev eventsources.signalbox.dev"
            ),
            "{notes}"
        );
        assert_eq!(notes.contains("delete pvc data-signalbox-0"), persistent, "{notes}");
        for command in [
            "rollout status statefulset/signalbox",
            "helm test signalbox",
            "kubectl apply -n shop",
            "kubectl describe er -n shop",
        ] {
            assert!(next.contains(command), "{command} is not in{next}");
        }
    }
}

#[test]
fn webhooks_reach_the_pod_by_a_service_of_their_own_also_where_a_network_policy_is() {
    let objects = rendered(&["hooks.service.port=8000", "hooks.service.type=NodePort", "networkPolicy.enabled=true"]);
    let [service, pod, policy] =
        [("Service", "signalbox-hooks"), ("StatefulSet", "signalbox"), ("NetworkPolicy", "signalbox")]
            .map(|(kind, name)| &object(&objects, kind, name).unwrap_or_else(|| panic!("{kind} {name}"))["spec"]);
    assert_eq!(service["ports"], json!([{"name": "hooks", "port": 8000, "targetPort": "hooks"}]));
    assert_eq!((&service["type"], &service["selector"]), (&json!("NodePort"), &pod["selector"]["matchLabels"]));
    let container = &pod["template"]["spec"]["containers"][0];
    let port = container["ports"].as_array().expect("ports").iter().find(|port| port["name"] == "hooks");
    let port = port.expect("a port for webhooks")["containerPort"].to_string();
    let flag = format!("--hooks-address=0.0.0.0:{port}");
    assert!(container["args"].as_array().expect("args").iter().any(|arg| *arg == flag), "{container}");
    let open = json!({"ports": [{"port": "hooks", "protocol": "TCP"}]});
    assert!(policy["ingress"].as_array().expect("rules").contains(&open), "{policy}");
}

#[test]
fn the_admission_policy_is_the_one_that_the_operator_looks_for_and_can_be_turned_off() {
    const KINDS: [&str; 2] = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
    let objects = rendered(&[]);
    let [policy, binding] = KINDS.map(|kind| &object(&objects, kind, POLICY).expect("it is there by default")["spec"]);
    assert_eq!(fault_of_policy(policy), None);
    assert_eq!((fault_of_approval(policy), fault_of_silencing(policy)), (None, None));
    assert_eq!(fault_of_binding(binding), None);
    let without = rendered(&["admissionPolicy.enabled=false"]);
    assert_eq!(without.len(), objects.len() - KINDS.len());
    assert!(KINDS.iter().all(|kind| object(&without, kind, POLICY).is_none()));
}

#[tokio::test]
async fn the_pods_of_the_chart_are_taken_where_pod_security_is_restricted() {
    let plane = shared().await;
    let namespace = plane.namespace("restricted").await;
    let label = ["label", "namespace", &namespace, "pod-security.kubernetes.io/enforce=restricted"];
    assert!(plane.kubectl(&label).await.status.success());
    let objects = rendered(&["persistence.enabled=false"]);
    let mut spec =
        object(&objects, "StatefulSet", "signalbox").expect("it is there")["spec"]["template"]["spec"].clone();
    // The account is in the operator's namespace.
    spec["serviceAccountName"] = json!("default");
    let pod = |spec: &Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "signalbox", "namespace": namespace}, "spec": spec});
    let output = plane.try_apply(&pod(&spec).to_string()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mounts = spec["containers"][0]["volumeMounts"].as_array().expect("mounts");
    assert!(mounts.iter().all(|mount| mount["mountPath"] == "/var/lib/signalbox"), "{mounts:?}");
    assert_eq!(spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);

    let check = Command::new(helm())
        .args(["template", "signalbox", "charts/signalbox", "-n", &namespace, "--show-only=templates/tests/check.yaml"])
        .output()
        .expect("run helm");
    let output = plane.try_apply(&String::from_utf8_lossy(&check.stdout)).await;
    assert!(output.status.success(), "{check:?}{output:?}");

    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let output = plane.try_apply(&pod(&spec).to_string()).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("violates PodSecurity"), "{output:?}");
}

#[test]
fn the_rendered_chart_in_deploy_is_what_the_chart_renders() {
    let output = Command::new(helm())
        .args(["template", "signalbox", "charts/signalbox", "-n", SYSTEM, "--include-crds", "--skip-tests"])
        .output()
        .expect("run helm");
    let stored = fs::read("deploy/manifests/signalbox.yaml").expect("the rendered chart");
    assert!(
        output.stdout == stored,
        "deploy/manifests is not what the chart renders: run `make chart`, commit the result"
    );
}

#[test]
fn the_log_alerts_on_its_volume_in_every_unit_of_the_value() {
    for (size, bytes) in [("2Gi", "2 * 1024^3"), ("1.5G", "1.5 * 1e9"), ("800Mi", "800 * 1024^2")] {
        let objects = rendered(&["metrics.prometheusRule.enabled=true", &format!("persistence.size={size}")]);
        let rules = object(&objects, "PrometheusRule", "signalbox").expect("it is there").to_string();
        assert!(rules.contains(&format!("signalbox_bus_log_bytes > 0.7 * {bytes}\"")), "{size}: {rules}");
    }
}

// === rights

/// Makes the operator's namespace, once.
async fn system(plane: &ControlPlane) -> &'static str {
    plane.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {SYSTEM}}}}}")).await;
    SYSTEM
}

/// Applies what the chart renders of accounts and rights, with the namespace `shop` enabled.
async fn rights_applied(plane: &ControlPlane, shop: &str) {
    system(plane).await;
    let objects = rendered(&[&format!("rules.namespaces={{{shop}}}")]);
    let wanted =
        |object: &Value| object["apiVersion"] == "rbac.authorization.k8s.io/v1" || object["kind"] == "ServiceAccount";
    let objects: Vec<Value> = objects.into_iter().filter(wanted).collect();
    assert!(objects.len() > 10, "{objects:#?}");
    plane.apply(&as_list(&objects)).await;
    // The controller manager sums up the roles with the label.
    eventually("the operator may watch what the chart says", PATIENCE, async || {
        let role = plane.kubectl(&["get", "clusterrole", "signalbox-watch", "-o", "json"]).await.stdout;
        let role: Value = serde_json::from_slice(&role).ok()?;
        (!role["rules"].as_array()?.is_empty()).then_some(())
    })
    .await;
}

/// What `kubectl auth can-i --list` says that an account may do in a namespace, once it names all of `parts`.
///
/// A right is `RESOURCE [URLS] [NAMES] [VERBS]`.
async fn may(plane: &ControlPlane, account: &str, namespace: &str, parts: &[&str]) -> Vec<String> {
    let user = format!("--as=system:serviceaccount:{account}");
    eventually(&format!("{parts:?} are rights of {account} in {namespace}"), PATIENCE, async || {
        let output = plane.kubectl(&["auth", "can-i", "--list", &user, "-n", namespace]).await;
        let said = String::from_utf8(output.stdout).ok()?;
        let mut lines = said.lines();
        assert!(lines.next()?.starts_with("Resources"), "{said}");
        let complete = parts.iter().all(|part| said.contains(part));
        let mut rights: Vec<String> = lines.map(right).collect();
        rights.sort();
        complete.then_some(rights)
    })
    .await
}

/// A line of the list without its columns' widths, and with the verbs in order: kubectl's order is that of bindings.
fn right(line: &str) -> String {
    let (rest, verbs) = line.rsplit_once('[').expect("the verbs are in brackets");
    let verbs: BTreeSet<&str> = verbs.trim_end().trim_end_matches(']').split(' ').collect();
    let words: Vec<&str> = rest.split_whitespace().collect();
    format!("{} [{}]", words.join(" "), verbs.into_iter().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn the_operator_and_its_rules_have_the_rights_that_are_written_down_and_no_more() {
    let plane = shared().await;
    plane.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").await;
    rights_applied(plane, "shop").await;
    let (operator, rules) = (format!("{SYSTEM}:signalbox"), "shop:signalbox-rules");
    // One right of each role: the API server learns of them one by one.
    let (own, watch) = ("eventrules.signalbox.dev/status", "horizontalpodautoscalers.autoscaling");
    // What any account may, whichever it is: discovery, health, questions about itself.
    let common = may(plane, "shop:default", "default", &["/healthz"]).await;
    let mut all = String::new();
    for (title, account, namespace, parts) in [
        ("The operator, in an enabled namespace", operator.as_str(), "shop", &[own, watch, "impersonate"][..]),
        ("The operator, in any other", operator.as_str(), "default", &[own, watch]),
        ("The operator, in its own", operator.as_str(), SYSTEM, &[own, watch, "leases"]),
        ("signalbox-rules, in its namespace", rules, "shop", &["deployments.apps/scale"]),
        ("signalbox-rules, in any other", rules, "default", &[]),
    ] {
        let mut rights = may(plane, account, namespace, parts).await;
        for right in &common {
            let place = rights.iter().position(|one| one == right).expect("the account has what any has");
            rights.remove(place);
        }
        rights.iter().for_each(|right| assert_modest(right));
        all += &format!("# {title}\n{}\n", rights.iter().map(|right| format!("{right}\n")).collect::<String>());
    }
    let golden = "tests/golden/rights.txt";
    if fs::read_to_string(golden).unwrap_or_default() != all {
        let seen = concat!(env!("CARGO_TARGET_TMPDIR"), "/rights.txt");
        fs::write(seen, &all).expect("write what was seen");
        let diff = Command::new("diff").args(["-u", golden, seen]).output().expect("run diff").stdout;
        panic!("rights changed; if that is meant: cp {seen} {golden}\n{}", String::from_utf8_lossy(&diff));
    }
}

/// Nothing on all resources or with all verbs, nothing that leads to more rights, nothing on Secrets.
fn assert_modest(right: &str) {
    let (rest, verbs) = right.rsplit_once('[').expect("the verbs are in brackets");
    let verbs: BTreeSet<&str> = verbs.trim_end_matches(']').split(' ').collect();
    assert!(!rest.contains('*') && !rest.contains("secrets"), "{right}");
    assert!(!["*", "escalate", "bind"].iter().any(|verb| verbs.contains(verb)), "{right}");
    assert!(!verbs.contains("impersonate") || rest.starts_with("serviceaccounts "), "{right}");
}
