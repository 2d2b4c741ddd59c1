mod undo;

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::{
    actions::{
        FailureKind,
        testing::{action, common, context},
    },
    api::ActionOutcome,
    kubernetes::fake::{Fake, failure as status},
};

const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// A Deployment, its ReplicaSets, and what the next writes answer after having been carried out (true) or not.
struct World {
    object: Value,
    sets: Vec<Value>,
    version: u64,
    troubles: Vec<(bool, u16, &'static str)>,
}

fn serve(spec: Value) -> (Arc<Mutex<World>>, Fake) {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec,
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "managedFields": []}});
    let world = Arc::new(Mutex::new(World { object, sets: vec![], version: 7, troubles: vec![] }));
    let shared = world.clone();
    let fake = Fake::new(move |seen| {
        if let Some(answer) = common(seen) {
            return answer;
        }
        let mut world = shared.lock();
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", PATH) => (200, world.get()),
            ("GET", "/apis/apps/v1/namespaces/shop/replicasets") => {
                (200, json!({"apiVersion": "apps/v1", "kind": "ReplicaSetList", "metadata": {}, "items": world.sets}))
            }
            ("PATCH", PATH) => world.patch(&seen.body, &seen.query),
            _ => status(404, "NotFound", "deployments.apps \"gone\" not found"),
        }
    });
    (world, fake)
}

impl World {
    fn get(&self) -> Value {
        let mut object = self.object.clone();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object
    }

    fn patch(&mut self, body: &Value, query: &str) -> (u16, Value) {
        let trouble = self.troubles.pop();
        if let Some((false, code, message)) = trouble {
            return status(code, "", message);
        }
        if body["metadata"]["resourceVersion"] != self.version.to_string().as_str() {
            return status(409, "Conflict", "the object has been modified");
        }
        if query.contains("dryRun=All") {
            return (200, self.get());
        }
        self.version += 1;
        merge(&mut self.object["spec"], &body["spec"]);
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager=")).expect("a manager");
        self.object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Update"}]);
        match trouble {
            Some((_, code, message)) => status(code, "", message),
            None => (200, self.get()),
        }
    }

    fn restarted_at(&self) -> Value {
        self.object["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT].clone()
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().expect("a map") {
        if value["$patch"] == "replace" {
            into[key] = value.clone();
            into[key].as_object_mut().expect("a map").remove("$patch");
        } else if value.is_object() {
            merge(&mut into[key], value);
        } else {
            into[key] = value.clone();
        }
    }
}

fn rollout(operation: &str, kind: &str) -> Box<dyn Action> {
    action(json!({"name": "act", "rollout": {"operation": operation, "target": {"kind": kind, "name": "web"}}}))
}

async fn render(fake: &Fake, operation: &str) -> Result<Value, Failure> {
    rollout(operation, "Deployment").render(&context(fake), &json!({"target": {"name": "web"}})).await
}

async fn execute(fake: &Fake, request: &Value, attempt: Attempt) -> Result<Done, Failure> {
    rollout("Restart", "Deployment").execute(&context(fake), request, attempt, Permit::for_test()).await
}

#[tokio::test]
async fn a_restart_writes_the_recorded_time_and_nothing_else() {
    let (world, fake) = serve(json!({"replicas": 2}));
    let request = render(&fake, "Restart").await.expect("a request");
    let done = execute(&fake, &request, Attempt::First).await.expect("restarted");
    assert_eq!((done.outcome, done.message.as_str()), (ActionOutcome::Succeeded, "restarted Deployment shop/web"));
    assert_eq!(done.result, json!({"restartedAt": request["to"]}));
    let effect = done.effect.expect("an effect");
    assert_eq!((effect.reason.as_str(), effect.resource_version.as_deref()), ("RestartedByRule", Some("8")));
    assert_eq!(world.lock().restarted_at(), request["to"]);
    let write = fake.requests().pop().expect("a write");
    let annotations = json!({RESTARTED_AT: request["to"]});
    let spec = json!({"template": {"metadata": {"annotations": annotations}}});
    assert_eq!(write.body, json!({"metadata": {"resourceVersion": "7"}, "spec": spec}));
    assert_eq!(write.user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    assert!(write.query.contains("fieldManager=signalbox-0123456789abcdef0123-act"), "{}", write.query);
    let action = rollout("Restart", "Deployment");
    assert_eq!(action.target("shop", &json!({"target": {"name": "web"}})), action.target_again("shop", &request));
}

#[tokio::test]
async fn a_lost_answer_does_not_restart_twice() {
    let (world, fake) = serve(json!({}));
    world.lock().troubles.push((true, 504, "too slow"));
    let request = render(&fake, "Restart").await.expect("a request");
    let failure = execute(&fake, &request, Attempt::First).await.expect_err("no answer");
    assert!(matches!(failure.kind, FailureKind::Retryable { .. }), "{failure}");
    for attempt in [Attempt::Again, Attempt::First] {
        let done = execute(&fake, &request, attempt).await.expect("found done");
        assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Succeeded, 8));
    }
    // Also when somebody has written the object as a whole since, and the mark has gone.
    world.lock().object["metadata"]["managedFields"] = json!([]);
    let done = execute(&fake, &request, Attempt::Again).await.expect("found done");
    assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Succeeded, 8));
}

#[tokio::test]
async fn a_repetition_writes_the_same_although_the_status_has_changed() {
    let (world, fake) = serve(json!({}));
    let request = render(&fake, "Restart").await.expect("a request");
    world.lock().version += 5;
    let failure = execute(&fake, &request, Attempt::First).await.expect_err("changed");
    assert_eq!(failure.kind, FailureKind::Conflict);
    let done = execute(&fake, &request, Attempt::Again).await.expect("written");
    assert_eq!((done.outcome, world.lock().restarted_at()), (ActionOutcome::Succeeded, request["to"].clone()));
}

#[tokio::test]
async fn a_repetition_leaves_alone_what_somebody_else_has_restarted_or_made_anew() {
    let (world, fake) = serve(json!({}));
    let request = render(&fake, "Restart").await.expect("a request");
    let later = json!({"metadata": {"annotations": {RESTARTED_AT: "2099-01-01T00:00:00Z"}}});
    world.lock().object["spec"] = json!({"template": later});
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Superseded, 7));
    world.lock().object["spec"] = json!({});
    world.lock().object["metadata"]["uid"] = "u2".into();
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Superseded, 7));
}

#[tokio::test]
async fn a_paused_deployment_is_not_restarted_and_the_way_out_is_told() {
    let (_, fake) = serve(json!({"paused": true}));
    let failure = render(&fake, "Restart").await.expect_err("paused");
    assert_eq!(failure.kind, FailureKind::Final);
    assert!(failure.message.ends_with("kubectl rollout resume deployment web -n shop"), "{failure}");
}

#[tokio::test]
async fn what_was_written_before_somebody_paused_it_is_done() {
    let (world, fake) = serve(json!({}));
    world.lock().troubles.push((true, 504, "too slow"));
    let request = render(&fake, "Restart").await.expect("a request");
    execute(&fake, &request, Attempt::First).await.expect_err("no answer");
    world.lock().object["spec"]["paused"] = true.into();
    let done = execute(&fake, &request, Attempt::Again).await.expect("found done");
    assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Succeeded, 8));
}

#[tokio::test]
async fn a_mark_on_a_subresource_is_not_a_mark_on_the_object() {
    let (world, fake) = serve(json!({}));
    let request = render(&fake, "Restart").await.expect("a request");
    let manager = context(&fake).manager();
    world.lock().object["metadata"]["managedFields"] =
        json!([{"manager": manager, "operation": "Update", "subresource": "scale"}]);
    let done = execute(&fake, &request, Attempt::Again).await.expect("written");
    assert_eq!((done.outcome, world.lock().restarted_at()), (ActionOutcome::Succeeded, request["to"].clone()));
}

#[tokio::test]
async fn pausing_and_resuming_happen_once() {
    let (world, fake) = serve(json!({}));
    for (operation, paused, reason) in [("Pause", true, "PausedByRule"), ("Resume", false, "ResumedByRule")] {
        let request = render(&fake, operation).await.expect("a request");
        let done = execute(&fake, &request, Attempt::First).await.expect("written");
        assert_eq!(done.effect.expect("an effect").reason, reason);
        assert_eq!(world.lock().object["spec"]["paused"], paused);
        let writes = world.lock().version;
        let request = render(&fake, operation).await.expect("a request");
        let done = execute(&fake, &request, Attempt::First).await.expect("looked");
        assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Unchanged, writes));
    }
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_lines_that_grant_it() {
    let (world, fake) = serve(json!({}));
    let denied = "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:shop:shop-ops\" cannot patch";
    world.lock().troubles.push((false, 403, denied));
    let request = render(&fake, "Restart").await.expect("a request");
    let failure = execute(&fake, &request, Attempt::First).await.expect_err("denied");
    assert_eq!(failure.kind, FailureKind::Final);
    let told =
        "restart Deployment shop/web: ServiceAccount shop/shop-ops may not patch deployments.apps in namespace shop";
    assert!(failure.message.starts_with(told), "{failure}");
}

#[tokio::test]
async fn a_kind_that_cannot_be_rolled_out_is_refused_before_anything_is_asked() {
    let (_, fake) = serve(json!({}));
    for (operation, kind) in [("Restart", "ReplicaSet"), ("Pause", "StatefulSet"), ("Resume", "DaemonSet")] {
        let failure = rollout(operation, kind).render(&context(&fake), &json!({"target": {"name": "web"}})).await;
        assert_eq!(failure.expect_err("refused").kind, FailureKind::Final, "{operation} {kind}");
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn an_observed_restart_is_a_dry_run() {
    let (world, fake) = serve(json!({"template": {}}));
    let (cx, action) = (context(&fake), rollout("Restart", "Deployment"));
    let request = action.render(&cx, &json!({"target": {"name": "web"}})).await.expect("a request");
    let done = action.observe(&cx, &request).await.expect("observed");
    assert_eq!((done.outcome, &*done.message), (ActionOutcome::Observed, "would restart Deployment shop/web"));
    assert_eq!((done.effect, world.lock().restarted_at()), (None, Value::Null));
}

#[tokio::test]
async fn a_request_that_an_earlier_version_recorded_is_carried_out() {
    let (world, fake) = serve(json!({"template": {}}));
    let request = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "u1",
        "resourceVersion": "7", "operation": "Restart", "from": null, "to": "2026-11-25T10:00:00.000Z"});
    let done = execute(&fake, &request, Attempt::Again).await.expect("restarted");
    assert_eq!((done.outcome, world.lock().restarted_at()), (ActionOutcome::Succeeded, request["to"].clone()));
    assert_eq!(render(&fake, "Pause").await.expect("a request")["resourceVersion"], "8");
}
