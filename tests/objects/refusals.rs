//! Every action that writes, and everything that a real API server may say to its write.

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use signalbox::{api::FiringOutcome, record::Finished};

use super::{
    Stage,
    common::{api, granted_everywhere, meddle, observed, resource, theirs},
    gatekeeper::{Gatekeeper, says},
    support::{PATIENCE, control_plane::shared, eventually},
};

/// What reading takes.
const READS: &str = r#"[{"apiGroups": [""], "resources": ["configmaps", "pods", "nodes"], "verbs": ["get", "list"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]}]"#;
const WRITES: &str = r#"[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "patch"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "patch"]}]"#;

/// An action: what it is asked to do, and the right that its write takes.
struct Case {
    action: Value,
    right: &'static str,
}

/// The actions that write. The id of the firing makes of each firing a change.
fn cases(node: &str, name: &str) -> Vec<Case> {
    let target = |kind: &str| json!({"kind": kind, "name": name});
    let settings = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "${firing.id}"}});
    let taint = json!({"node": node, "key": "example.com/k"});
    let script = json!({"image": "example.invalid/tools:1", "run": "true"});
    let patch = json!({"metadata": {"annotations": {"example.com/by": "${firing.id}"}}});
    let image = json!("example.invalid/web:${firing.id}");
    [
        (json!({"scale": {"target": target("Deployment"), "by": "1"}}), "patch deployments.apps/scale"),
        (json!({"rollout": {"target": target("Deployment")}}), "patch deployments.apps "),
        (
            json!({"setImage": {"target": target("Deployment"), "container": "web", "image": image}}),
            "patch deployments.apps ",
        ),
        (json!({"patch": {"target": target("Deployment"), "patch": patch}}), "patch deployments.apps "),
        (json!({"create": {"manifest": settings("made-${firing.id}")}}), "create configmaps "),
        (json!({"apply": {"manifest": settings("applied")}}), "patch configmaps "),
        (json!({"delete": {"target": target("ConfigMap")}}), "delete configmaps "),
        (json!({"job": {"script": script}}), "create jobs.batch "),
        (json!({"cordon": {"node": node}}), "patch nodes "),
        (json!({"taint": taint}), "patch nodes "),
        (json!({"evict": {"target": target("Pod")}}), "create pods/eviction "),
        (json!({"drain": {"node": node}}), "patch nodes "),
    ]
    .into_iter()
    .map(|(mut action, right)| {
        action["name"] = json!("act");
        action["timeout"] = json!("10s");
        action["retry"] = json!({"limit": 3, "backoff": "10ms"});
        Case { action, right }
    })
    .collect()
}

/// A stage, and what there is to act on: a Node, and a Deployment, a ConfigMap and a Pod on it, all named `web`.
struct Scene {
    stage: Stage,
    node: String,
    nodes: Api<DynamicObject>,
    pods: Api<DynamicObject>,
    firings: usize,
}

impl Scene {
    async fn new(prefix: &str, rules: &str) -> Self {
        let stage = Stage::new(prefix, "[]").await;
        granted_everywhere(&stage, rules).await;
        let nodes: Api<DynamicObject> = Api::all_with(stage.client.clone(), &resource("", "Node"));
        let (node, pods) = (format!("{}-node", stage.namespace), api(&stage, "", "Pod"));
        Self { stage, node, nodes, pods, firings: 0 }
    }

    /// Makes everything as it was at the beginning.
    async fn reset(&self) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node}});
        theirs(&self.nodes, &self.node, node).await;
        meddle(&self.nodes, &self.node, json!({"spec": {"unschedulable": null, "taints": null}})).await;
        let settings =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "b"}});
        theirs(&api(&self.stage, "", "ConfigMap"), "web", settings).await;
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        if self.pods.get("web").await.is_ok_and(|pod| pod.metadata.deletion_timestamp.is_some()) {
            self.pods.delete("web", &now).await.expect("delete");
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"nodeName": self.node,
            "serviceAccountName": "ops", "containers": [{"name": "c", "image": "example.invalid/c:1"}]}});
        theirs(&self.pods, "web", pod).await;
        // Nothing would make it anew, and it has nothing to lose.
        let status = json!({"status": {"phase": "Succeeded"}});
        self.pods.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.expect("patch");
    }

    /// What becomes of a firing of this action, which does as a kubelet does meanwhile: what is to go goes.
    async fn run(&mut self, action: &Value, is_observed: bool) -> Finished {
        self.firings += 1;
        let open = self.stage.firing(&format!("f{}", self.firings), json!([action]));
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let pods = self.pods.clone();
        let kubelet = async {
            eventually("the pod goes", PATIENCE * 10, async || {
                let goes = pods.get("web").await.is_ok_and(|pod| pod.metadata.deletion_timestamp.is_some());
                goes.then_some(())
            })
            .await;
            pods.delete("web", &now).await.ok();
            std::future::pending::<()>().await
        };
        let stage = &mut self.stage;
        let running = async { if is_observed { observed(stage, &open).await } else { stage.run(open).await } };
        tokio::select! {
            finished = running => finished,
            () = kubelet => unreachable!("it never ends"),
        }
    }

    /// Waits until the API server knows of the account's rights: its authorizer learns of them by a watch of its own.
    async fn granted(&mut self) {
        for _ in 0..50 {
            let target = json!({"kind": "Node", "name": self.node});
            let action = json!({"name": "look", "wait": {"target": target, "expression": "true", "timeout": "1s"}});
            if self.run(&action, false).await.outcome == FiringOutcome::Succeeded {
                return;
            }
        }
        unreachable!("the account may read Nodes");
    }
}

#[tokio::test]
async fn whatever_an_action_may_not_write_is_named_with_the_lines_that_grant_it() {
    let mut scene = Scene::new("unable", READS).await;
    scene.reset().await;
    scene.granted().await;
    for Case { action, right } in cases(&scene.node, "web") {
        let Finished { outcome, message, .. } = scene.run(&action, false).await;
        assert_eq!(outcome, FiringOutcome::Failed, "{action}: {message}");
        let all = [format!("may not {right}"), "/ops may not ".to_owned(), "grant it with: kubectl create ".to_owned()];
        assert!(all.iter().all(|part| message.contains(part)), "{action}: {message}");
        assert!(!message.contains(" attempts"), "{action}: {message}");
    }
}

#[tokio::test]
async fn what_is_not_there_ends_an_action_at_once() {
    let mut scene = Scene::new("absent", WRITES).await;
    scene.reset().await;
    scene.granted().await;
    for Case { action, .. } in cases("absent-node", "missing") {
        let Finished { outcome, message, .. } = scene.run(&action, false).await;
        let is_made = ["create", "apply", "job"].iter().any(|kind| action.get(kind).is_some());
        let is_gone = ["delete", "evict"].iter().any(|kind| action.get(kind).is_some());
        let expected = if is_made || is_gone { FiringOutcome::Succeeded } else { FiringOutcome::Failed };
        assert_eq!(outcome, expected, "{action}: {message}");
        let words = if is_gone { "missing is " } else { "not found" };
        assert!(is_made || message.contains(words), "{action}: {message}");
        assert!(!message.contains(" attempts"), "{action}: {message}");
    }
}

#[tokio::test]
async fn an_action_that_is_denied_ends_and_one_that_is_put_off_is_repeated_and_observing_asks_without_writing() {
    let mut scene = Scene::new("gate", WRITES).await;
    scene.reset().await;
    scene.granted().await;
    let plane = shared().await;
    let namespace = scene.stage.namespace.clone();
    let gate = Gatekeeper::start(plane, &namespace, &format!("system:serviceaccount:{namespace}:ops")).await;
    let look = json!({"name": "look", "patch": {"target": {"kind": "Deployment", "name": "web"},
        "patch": {"metadata": {"annotations": {"example.com/look": "${firing.id}"}}}}});
    for attempt in 0.. {
        scene.run(&look, false).await;
        if !gate.asked().is_empty() {
            break;
        }
        assert!(attempt < 200, "the API server knows the webhook");
    }
    let denied = |code, reason| says(code, reason, "no changes on Fridays");
    for Case { action, .. } in cases(&scene.node.clone(), "web") {
        let is_drain = action.get("drain").is_some();
        scene.reset().await;

        // In Observe mode it hears what it would hear, and writes nothing.
        let words = "admission webhook \"gate.example.com\" denied the request: no changes on Fridays";
        gate.say(Some(denied(403, "Forbidden")));
        let finished = scene.run(&action, true).await;
        assert_eq!(finished.outcome, FiringOutcome::Failed, "{action}: {}", finished.message);
        assert!(finished.message.contains(words), "{action}: {}", finished.message);
        gate.say(None);
        let finished = scene.run(&action, true).await;
        assert_eq!(finished.outcome, FiringOutcome::Observed, "{action}: {}", finished.message);
        assert!(finished.message.starts_with("would "), "{action}: {}", finished.message);
        let asked = gate.asked();
        assert!(asked.len() >= 2 && asked.iter().all(|one| one["dryRun"] == true), "{action}: {asked:?}");

        for (code, reason) in [(403, "Forbidden"), (422, "Invalid")] {
            gate.say(Some(denied(code, reason)));
            let finished = scene.run(&action, false).await;
            assert_eq!(finished.outcome, FiringOutcome::Failed, "{action}: {}", finished.message);
            assert!(finished.message.contains(words), "{action}: {}", finished.message);
            assert!(!finished.message.contains(" attempts"), "{action}: {}", finished.message);
            gate.asked();
        }
        gate.say(None);

        scene.reset().await;
        let soon = says(429, "TooManyRequests", "so many changes at once");
        let conflict = says(409, "Conflict", "somebody else is at it");
        gate.answer([conflict, soon, says(500, "InternalError", "a moment")]);
        let finished = scene.run(&action, false).await;
        assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{action}: {}", finished.message);
        let asked = gate.asked().iter().filter(|one| one["dryRun"] == false).count();
        // The API server itself asks once more where a controller has written the object meanwhile.
        assert!(asked >= if is_drain { 5 } else { 4 }, "{action}: {}", finished.message);
    }
}
