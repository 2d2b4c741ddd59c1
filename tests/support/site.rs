//! Signalbox on a control plane as the chart installs it: definitions, the operator's own account and rights, enabled namespaces.

use std::{fs, path::Path};

use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    PATIENCE,
    control_plane::ControlPlane,
    eventually,
    operator::{Operator, Setup},
    proxy::Proxy,
};

/// The kinds of the chart that an operator outside of the cluster needs as well.
const KINDS: [&str; 10] = [
    "ServiceAccount",
    "ConfigMap",
    "Role",
    "RoleBinding",
    "Lease",
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// One control plane and one operator for all tests of a file: each has namespaces of its own.
pub async fn shared() -> &'static Site {
    static SITE: OnceCell<(Site, Operator)> = OnceCell::const_new();
    let start = async || {
        let site = Site::start().await;
        let operator = site.setup.start_ready().await;
        (site, operator)
    };
    &SITE.get_or_init(start).await.0
}

/// A namespace on the shared site, with a client that belongs to the test's own runtime.
pub async fn shop(prefix: &str) -> Shop {
    let site = shared().await;
    let name = site.namespace(prefix).await.name;
    Shop { name, client: site.plane.client().await }
}

/// A control plane of its own, with Signalbox installed; operators are started by the test.
pub struct Site {
    pub setup: Setup,
    pub plane: ControlPlane,
    pub client: Client,
    token: String,
}

impl Site {
    /// Starts a control plane and installs what the chart installs, but for the pod.
    pub async fn start() -> Self {
        let plane = ControlPlane::start().await;
        super::install_definitions(&plane).await;
        plane.apply("{apiVersion: v1, kind: Namespace, metadata: {name: signalbox-system}}").await;
        plane.apply(&rights()).await;
        let token = plane.service_account_token("signalbox-system", "signalbox").await;
        let setup = setup(&plane.kubeconfig_for_token(&token));
        let client = plane.client().await;
        Self { setup, plane, client, token }
    }

    /// An operator with data of its own.
    pub fn another(&self) -> Setup {
        setup(&self.plane.kubeconfig_for_token(&self.token))
    }

    /// An operator with data of its own, whose way to the API server is by the proxy.
    pub fn setup_behind(&self, proxy: &Proxy) -> Setup {
        setup(&self.plane.kubeconfig_for_token_at(&proxy.url(), &self.token))
    }

    /// A namespace that is enabled for Signalbox, as the chart's `rules.namespaces` does it.
    pub async fn namespace(&self, prefix: &str) -> Shop {
        let namespace = self.plane.namespace(prefix).await;
        let binding = |name: &str, role: &str, account: &str, of: &str| {
            format!(
                "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: {name}, namespace: {namespace}}}, \
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}, \
                 subjects: [{{kind: ServiceAccount, name: {account}, namespace: {of}}}]}}"
            )
        };
        let account = format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: signalbox-rules, namespace: {namespace}, \
             labels: {{signalbox.dev/usable-by-rules: \"true\"}}}}}}"
        );
        let impersonator = binding("signalbox-impersonator", "signalbox-impersonator", "signalbox", "signalbox-system");
        let actor = binding("signalbox-rules", "signalbox-actor", "signalbox-rules", &namespace);
        self.plane.apply(&[account, impersonator, actor].join("\n---\n")).await;
        Shop { name: namespace, client: self.client.clone() }
    }
}

fn setup(kubeconfig: &Path) -> Setup {
    Setup::new(kubeconfig).args(&[
        "--log-format=text",
        "--log=info,signalbox=debug",
        "--allow-egress=127.0.0.0/8",
        "--access-recheck=2s",
    ])
}

/// Roles, accounts and who may use them, out of the rendered chart.
pub fn rights() -> String {
    let manifests = fs::read_to_string("deploy/manifests/signalbox.yaml").expect("the rendered chart");
    let wanted =
        |document: &&str| KINDS.iter().any(|kind| document.lines().any(|line| line == format!("kind: {kind}")));
    manifests.split("\n---").filter(wanted).collect::<Vec<_>>().join("\n---\n")
}

/// A namespace with what tests do in it.
pub struct Shop {
    pub name: String,
    pub client: Client,
}

impl Shop {
    /// The objects of a kind in this namespace.
    pub fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.name, &resource)
    }

    /// Creates an object; what `rest` says of metadata is beside its name.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create(&self, api_version: &str, kind: &str, name: &str, rest: Value) -> DynamicObject {
        let mut object = json!({"apiVersion": api_version, "kind": kind});
        for (key, value) in rest.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        object["metadata"]["name"] = json!(name);
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        self.api(api_version, kind)
            .create(&PostParams::default(), &object)
            .await
            .unwrap_or_else(|error| panic!("create {kind} {name}: {error}"))
    }

    /// Creates a rule and waits until it is ready.
    pub async fn rule(&self, name: &str, spec: Value) {
        self.create("signalbox.dev/v1alpha1", "EventRule", name, json!({"spec": spec})).await;
        self.rule_ready(name).await;
    }

    /// Waits until a rule is ready and its status tells about its newest spec.
    pub async fn rule_ready(&self, name: &str) -> Value {
        self.rule_status(name, "Ready", |status| condition(status, "Ready")["status"] == "True").await
    }

    /// Waits until the rule's status tells about its newest spec and is as wanted.
    pub async fn rule_status(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.status("EventRule", name, what, wanted).await
    }

    /// The same of any of our kinds.
    pub async fn status(&self, kind: &str, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = self.api("signalbox.dev/v1alpha1", kind);
        let last = std::sync::Mutex::new(Value::Null);
        let probe = async || {
            let object = api.get(name).await.ok()?;
            let status = object.data["status"].clone();
            *last.lock().expect("not poisoned") = status.clone();
            let current = status["observedGeneration"].as_i64() == object.metadata.generation;
            (current && wanted(&status)).then_some(status)
        };
        let outcome = tokio::time::timeout(PATIENCE, eventually(what, PATIENCE * 2, probe)).await;
        outcome.unwrap_or_else(|_| {
            panic!("{what} of {kind} {name} not within {PATIENCE:?}: {:#}", last.lock().expect("not poisoned"))
        })
    }

    /// An EventSource, once events are accepted.
    pub async fn source(&self, name: &str, spec: Value) {
        self.create("signalbox.dev/v1alpha1", "EventSource", name, json!({"spec": spec})).await;
        self.status("EventSource", name, "Ready", |status| condition(status, "Ready")["status"] == "True").await;
    }

    /// A sink that posts to `url`.
    pub async fn sink(&self, name: &str, url: &str) {
        self.create("signalbox.dev/v1alpha1", "EventSink", name, json!({"spec": {"webhook": {"url": url}}})).await;
    }

    /// A Deployment whose pods nobody runs.
    pub async fn deployment(&self, name: &str, replicas: i32) {
        let spec = json!({"spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "example.invalid/app:1"}]}},
        }});
        self.create("apps/v1", "Deployment", name, spec).await;
    }

    /// The replicas that the Deployment asks for.
    pub async fn replicas(&self, name: &str) -> i64 {
        let deployment = self.api("apps/v1", "Deployment").get(name).await.expect("get the Deployment");
        deployment.data["spec"]["replicas"].as_i64().unwrap_or(0)
    }

    /// Waits until the Deployment asks for so many replicas.
    pub async fn await_replicas(&self, name: &str, wanted: i64) {
        eventually(&format!("Deployment {name} has {wanted} replicas"), PATIENCE, async || {
            (self.replicas(name).await == wanted).then_some(())
        })
        .await;
    }

    /// Writes a Kubernetes Event as a kubelet would.
    pub async fn event(&self, name: &str, pod: &str, reason: &str) {
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.create(
            "v1",
            "Event",
            name,
            json!({
                "metadata": ObjectMeta { name: Some(name.to_owned()), namespace: Some(self.name.clone()), ..ObjectMeta::default() },
                "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": self.name, "uid": format!("uid-of-{pod}")},
                "reason": reason, "message": format!("{reason} of {pod}"), "type": "Warning", "count": 1,
                "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "kubelet"},
            }),
        )
        .await;
    }
}

/// A status condition by its type, or null.
pub fn condition(status: &Value, type_: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
}
