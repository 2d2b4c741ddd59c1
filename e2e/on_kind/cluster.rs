//! The cluster with the release, for all tests: what `kubectl` and `helm` are asked for.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
    time::Duration,
};

use kube::{
    Client,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

use crate::support::{
    eventually,
    site::{Shop, condition},
};

/// The kubelet reports the first BackOff some 15 s after a pod began to crash; images start in a second or two.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Where the release is.
pub const SYSTEM: &str = "signalbox-system";
/// The namespaces of the tests.
const NAMESPACES: [&str; 11] = [
    "e2e-first",
    "e2e-story",
    "e2e-rights",
    "e2e-stream",
    "e2e-upgrade",
    "e2e-load",
    "e2e-security",
    "e2e-analytics",
    "e2e-delivery",
    "e2e-iot",
    "e2e-logs",
];

/// Whether the release is installed. Who uses it reads; who takes it away writes.
pub static RELEASE: RwLock<bool> = RwLock::const_new(false);

/// Who takes the operator's pod away, or tells `helm` to do something with the release, does so alone: `helm` takes one thing at a time,
/// and a pod that another test takes away meanwhile is not there to be looked at. To be taken by who uses the release already.
pub static OPERATOR: Mutex<()> = Mutex::const_new(());

/// Waits until the release is there. It stays as long as what is given is kept.
pub async fn installed() -> RwLockReadGuard<'static, bool> {
    loop {
        let there = RELEASE.read().await;
        if *there {
            return there;
        }
        drop(there);
        let mut there = RELEASE.write().await;
        if !*there {
            install();
            *there = true;
        }
        // Given back, and not kept for reading: others wait to write as well, and would wait until this test has ended.
    }
}

/// Installs the chart into a namespace of Pod Security `restricted`, with the namespaces of all tests enabled.
fn install() {
    fresh_namespaces();
    kubectl(&["create", "namespace", SYSTEM], "");
    kubectl_ok(&["label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted", "--overwrite"], "");
    let image = std::env::var("SIGNALBOX_IMAGE").unwrap_or_else(|_| "localhost/signalbox:dev".to_owned());
    let (repository, tag) = image.rsplit_once(':').expect("an image with a tag");
    kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", "charts/signalbox/crds"], "");
    let values = [
        format!("--set=image.repository={repository}"),
        format!("--set=image.tag={tag}"),
        format!("--set=rules.namespaces={{{}}}", NAMESPACES.join(",")),
        "--set=log.format=text".to_owned(),
    ];
    upgrade(&values);
    // The image's name stays the same when it is built anew.
    kubectl_ok(&["rollout", "restart", "statefulset/signalbox", "-n", SYSTEM], "");
    kubectl_ok(&["rollout", "status", "statefulset/signalbox", "-n", SYSTEM, "--timeout=180s"], "");
}

/// `helm upgrade --install`, until the operator is ready.
pub fn upgrade(values: &[String]) {
    let mut args = vec!["upgrade", "--install", "signalbox", "charts/signalbox", "--wait", "--timeout=180s"];
    args.extend(values.iter().map(String::as_str));
    helm_ok(&args);
}

/// Runs `helm` in the release's namespace; it has to succeed.
pub fn helm_ok(args: &[&str]) -> String {
    let output = Command::new("helm").args(args).args(["-n", SYSTEM]).output().expect("run helm");
    assert!(output.status.success(), "helm {}: {}\n{}", args.join(" "), words(&output), operator_state());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes the namespaces of the tests anew, all at once: what is in them takes its time to go.
fn fresh_namespaces() {
    kubectl_ok(&[&["delete", "namespace", "--ignore-not-found", "--timeout=180s"], &NAMESPACES[..]].concat(), "");
    // By this label `make e2e` removes what the tests made.
    let labels = json!({"signalbox-e2e": "true"});
    let namespaces: Vec<_> = NAMESPACES
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": namespaces});
    kubectl_ok(&["create", "-f", "-"], &list.to_string());
}

/// Runs `kubectl` with its standard input.
pub fn kubectl(args: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("run kubectl");
    child.stdin.take().expect("its input is a pipe").write_all(input.as_bytes()).expect("give it its input");
    child.wait_with_output().expect("run kubectl")
}

/// The same of what has to succeed; gives what it said.
pub fn kubectl_ok(args: &[&str], input: &str) -> String {
    let output = kubectl(args, input);
    assert!(output.status.success(), "kubectl {}: {}", args.join(" "), words(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program said.
pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn operator_state() -> String {
    let pods = kubectl(&["describe", "pod", "-n", SYSTEM, "signalbox-0"], "");
    let log = kubectl(&["logs", "-n", SYSTEM, "signalbox-0", "--tail=50"], "");
    format!("{}\n{}", words(&pods), words(&log))
}

/// The demo's shop (a Deployment `web`, a receiver `alerts`) in a namespace of its own, and the release that serves it.
pub async fn shop(namespace: &str) -> (Shop, RwLockReadGuard<'static, bool>) {
    let release = installed().await;
    kubectl_ok(&["apply", "-f", "-"], &demo("shop.yaml", namespace));
    for deployment in ["deployment/web", "deployment/alerts"] {
        kubectl_ok(&["rollout", "status", deployment, "-n", namespace, "--timeout=120s"], "");
    }
    let client = Client::try_default().await.expect("a client of the cluster");
    (Shop { name: namespace.to_owned(), client }, release)
}

/// A manifest of the demo, for another namespace.
pub fn demo(file: &str, namespace: &str) -> String {
    let text = fs::read_to_string(format!("e2e/demo.d/{file}")).expect("a manifest of the demo");
    text.replace("namespace: shop", &format!("namespace: {namespace}"))
        .replace(".shop.svc", &format!(".{namespace}.svc"))
}

/// What arrived at the demo's receiver.
pub async fn alerts(shop: &Shop) -> Vec<Value> {
    posted_to(shop, "alerts").await
}

/// What was posted to the pod of this label `app`, which writes it into its log. Not by `kubectl`: each time it takes a tenth of a second of a processor,
/// and this is asked again and again.
pub async fn posted_to(shop: &Shop, app: &str) -> Vec<Value> {
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(shop.client.clone(), &shop.name);
    let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await.expect("list the receiver's pod");
    let pod = found.items[0].metadata.name.clone().expect("pods have names");
    let log = pods.logs(&pod, &LogParams::default()).await.expect("read the receiver's log");
    log.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("alert ")?).ok()).collect()
}

/// Waits for a status as [`Shop::rule_status`] does, but as long as a kubelet may take.
pub async fn within(shop: &Shop, rule: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    let status = eventually(what, PATIENCE, async || {
        let status = rules.get(rule).await.ok()?.data["status"].clone();
        wanted(&status).then_some(status)
    });
    status.await
}

/// Waits until a rule is in force: as long as it may take while other tests start the operator anew.
pub async fn in_force(shop: &Shop, rule: &str) {
    within(shop, rule, "the rule is in force", |status| condition(status, "Ready")["status"] == "True").await;
}

/// The names of what `kubectl get` finds.
pub fn found(args: &[&str]) -> BTreeSet<String> {
    let said = kubectl_ok(&[&["get", "-o", "name", "--ignore-not-found"], args].concat(), "");
    said.lines().map(str::to_owned).collect()
}
