mod back;
mod memory;

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::{
    actions::testing::{action, common, context},
    api::ActionOutcome,
    kubernetes::fake::{Fake, Seen, failure as status},
};

/// A Deployment, and the API server around it.
struct World {
    uid: &'static str,
    version: u64,
    replicas: Option<i32>,
    managers: Vec<String>,
    /// What the next writes answer, after having been carried out or not.
    troubles: Vec<Trouble>,
    readable: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    /// Carried out, and then an error.
    Lost,
    /// Somebody else writes the status just before.
    Raced,
    /// Not carried out, with this status.
    Refused(u16, &'static str),
}

impl World {
    fn new(replicas: Option<i32>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            uid: "u1",
            version: 7,
            replicas,
            managers: vec![],
            troubles: vec![],
            readable: true,
        }))
    }

    fn scale(&self) -> Value {
        let spec = self.replicas.map_or(json!({}), |replicas| json!({"replicas": replicas}));
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": spec,
            "metadata": {"name": "web", "namespace": "shop", "uid": self.uid, "resourceVersion": self.version.to_string()}})
    }

    fn object(&self) -> Value {
        let fields: Vec<_> = self
            .managers
            .iter()
            .map(
                |name| json!({"manager": name, "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale"}),
            )
            .collect();
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "web", "uid": self.uid, "managedFields": fields}})
    }

    fn patch(&mut self, seen: &Seen) -> (u16, Value) {
        let trouble = self.troubles.pop();
        match trouble {
            Some(Trouble::Refused(code, message)) => return status(code, "", message),
            Some(Trouble::Raced) => self.version += 1,
            _ => {}
        }
        let replicas = match seen.body.as_array() {
            Some(operations) => {
                let scale = self.scale();
                let fails = |test: &&Value| {
                    let path = test["path"].as_str().expect("a path");
                    test["op"] == "test" && scale.pointer(path) != Some(&test["value"])
                };
                if operations.iter().any(|operation| fails(&operation)) {
                    return status(422, "Invalid", "the server rejected our request due to an error in our request");
                }
                &operations[2]["value"]
            }
            None if seen.body["metadata"]["resourceVersion"] != self.version.to_string().as_str() => {
                return status(409, "Conflict", "the object has been modified");
            }
            None => &seen.body["spec"]["replicas"],
        };
        if seen.query.contains("dryRun=All") {
            return (200, self.scale());
        }
        self.version += 1;
        self.replicas = replicas.as_i64().and_then(|replicas| i32::try_from(replicas).ok());
        self.managers
            .extend(seen.query.split('&').filter_map(|pair| pair.strip_prefix("fieldManager=")).map(str::to_owned));
        if trouble == Some(Trouble::Lost) { status(504, "Timeout", "too slow") } else { (200, self.scale()) }
    }
}

fn serve(world: &Arc<Mutex<World>>) -> Fake {
    let world = world.clone();
    Fake::new(move |seen| {
        if let Some(answer) = common(seen) {
            return answer;
        }
        let mut world = world.lock();
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/apis/apps/v1/namespaces/shop/deployments/web/scale") => (200, world.scale()),
            ("GET", "/apis/apps/v1/namespaces/shop/deployments/web") if world.readable => (200, world.object()),
            ("GET", "/apis/apps/v1/namespaces/shop/deployments/web") => {
                status(403, "Forbidden", "deployments.apps \"web\" is forbidden: User")
            }
            ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web/scale") => world.patch(seen),
            _ => status(404, "NotFound", "deployments.apps \"gone\" not found"),
        }
    })
}

fn spec(name: &str, amount: Value) -> Value {
    let mut scale = amount;
    scale["target"] = json!({"kind": "Deployment", "name": name});
    json!({"name": "act", "scale": scale})
}

fn filled(name: &str) -> Value {
    json!({"target": {"kind": "Deployment", "name": name}})
}

async fn render(fake: &Fake, amount: Value) -> Value {
    action(spec("web", amount)).render(&context(fake), &filled("web")).await.expect("a request")
}

async fn execute(fake: &Fake, request: &Value, attempt: Attempt) -> Result<Done, Failure> {
    action(spec("web", json!({"to": 1}))).execute(&context(fake), request, attempt, Permit::for_test()).await
}

#[tokio::test]
async fn a_scale_is_rendered_absolute_and_written_to_the_subresource_only() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let request = render(&fake, json!({"by": "3"})).await;
    assert_eq!(
        request,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "u1",
            "resourceVersion": "7", "from": 2, "to": 5, "autoscaler": "Free"})
    );
    let done = execute(&fake, &request, Attempt::First).await.expect("scaled");
    assert_eq!(
        (done.outcome, done.message.as_str()),
        (ActionOutcome::Succeeded, "scaled Deployment shop/web from 2 to 5")
    );
    assert_eq!(done.result, json!({"from": 2, "to": 5}));
    let effect = done.effect.expect("an effect");
    assert_eq!((effect.reason.as_str(), effect.resource_version.as_deref()), ("ScaledByRule", Some("8")));
    let write = fake.requests().pop().expect("a write");
    assert_eq!(write.path, "/apis/apps/v1/namespaces/shop/deployments/web/scale");
    assert_eq!(write.body, json!({"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 5}}));
    assert_eq!(write.user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    assert!(write.query.contains("fieldManager=signalbox-0123456789abcdef0123-act"), "{}", write.query);
}

#[tokio::test]
async fn what_an_expression_gave_is_within_bounds_and_recorded_as_a_number() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let spec = spec("web", json!({"toExpression": "value", "min": 3, "max": 8}));
    for (gave, to) in [(json!(5), 5), (json!(0), 3), (json!(-4), 3), (json!(900), 8)] {
        let mut filled = filled("web");
        filled["toExpression"] = gave.clone();
        let request = action(spec.clone()).render(&context(&fake), &filled).await.expect("a request");
        assert_eq!((&request["from"], &request["to"]), (&json!(2), &json!(to)), "{gave}");
    }
    for gave in [json!(2.5), json!("5"), Value::Null] {
        let mut filled = filled("web");
        filled["toExpression"] = gave.clone();
        let failure = action(spec.clone()).render(&context(&fake), &filled).await.expect_err("no number");
        assert_eq!(failure.kind, FailureKind::Invalid, "{gave}");
    }
    assert!(fake.requests().iter().all(|seen| seen.method != "PATCH"));
}

#[tokio::test]
async fn what_is_held_before_rendering_is_held_again_by_what_was_recorded() {
    let fake = Fake::new(|seen| common(seen).unwrap_or_else(|| (200, World::new(Some(2)).lock().scale())));
    let mut keys = Vec::new();
    for target in [
        json!({"name": "web"}),
        json!({"name": 1234567890}),
        json!({"name": "web", "namespace": "orders"}),
        json!({"name": "web", "namespace": 77}),
    ] {
        let mut spec = spec("${x}", json!({"to": 1}));
        if target.get("namespace").is_some() {
            spec["scale"]["target"]["namespace"] = json!("${y}");
            spec["scale"]["target"]["allowedNamespaces"] = json!(["orders", "77"]);
        }
        let (action, filled) = (action(spec), json!({"target": target}));
        let request = action.render(&context(&fake), &filled).await.expect("a request");
        let key = action.target("shop", &filled).expect("a target");
        assert_eq!(action.target_again("shop", &request), Some(key.clone()));
        keys.push(key);
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "each is another object: {keys:?}");
}

#[tokio::test]
async fn absent_replicas_are_none() {
    let world = World::new(None);
    let request = render(&serve(&world), json!({"by": "1"})).await;
    assert_eq!((&request["from"], &request["to"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn an_unchanged_value_is_no_write() {
    let world = World::new(Some(5));
    let fake = serve(&world);
    let request = render(&fake, json!({"by": "3", "max": 5})).await;
    let done = execute(&fake, &request, Attempt::First).await.expect("nothing to do");
    assert_eq!((done.outcome, done.effect), (ActionOutcome::Unchanged, None));
    assert!(fake.requests().iter().all(|seen| seen.method != "PATCH"));
}

#[tokio::test]
async fn a_change_in_between_asks_for_a_fresh_request() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let request = render(&fake, json!({"by": "1"})).await;
    world.lock().version += 1;
    let failure = execute(&fake, &request, Attempt::First).await.expect_err("a conflict");
    assert_eq!(failure.kind, FailureKind::Conflict);
    assert_eq!(world.lock().replicas, Some(2));
}

#[tokio::test]
async fn an_observed_scaling_is_a_dry_run() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let cx = context(&fake);
    let action = action(spec("web", json!({"by": "1"})));
    let request = action.render(&cx, &filled("web")).await.expect("a request");
    let done = action.observe(&cx, &request).await.expect("observed");
    assert_eq!(
        (done.outcome, &*done.message),
        (ActionOutcome::Observed, "would scale Deployment shop/web from 2 to 3")
    );
    assert_eq!(done.effect, None);
    let last = fake.requests().pop().expect("a request");
    assert_eq!(last.method, http::Method::PATCH);
    assert!(last.query.contains("dryRun=All"), "{}", last.query);
    world.lock().version += 1;
    let failure = action.observe(&cx, &request).await.expect_err("it has changed meanwhile");
    assert_eq!(failure.kind, FailureKind::Conflict, "and is looked at again");
}

#[tokio::test]
async fn a_lost_answer_is_not_written_twice() {
    let world = World::new(Some(2));
    world.lock().troubles.push(Trouble::Lost);
    let fake = serve(&world);
    let request = render(&fake, json!({"by": "1"})).await;
    let failure = execute(&fake, &request, Attempt::First).await.expect_err("no answer");
    assert!(matches!(failure.kind, FailureKind::Retryable { .. }), "{failure}");
    let done = execute(&fake, &request, Attempt::Again).await.expect("found done");
    assert_eq!(done.message, "scaled Deployment shop/web from 2 to 3");
    assert_eq!(world.lock().replicas, Some(3));
    // The same where something on the way repeats the request by itself.
    let done = execute(&fake, &request, Attempt::First).await.expect("found done");
    assert_eq!(done.outcome, ActionOutcome::Succeeded);
    assert_eq!(world.lock().replicas, Some(3));
}

#[tokio::test]
async fn a_repetition_writes_when_nothing_was_written_although_the_status_changes_all_the_time() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let request = render(&fake, json!({"to": 6})).await;
    world.lock().version += 5;
    world.lock().troubles = vec![Trouble::Raced, Trouble::Raced];
    let done = execute(&fake, &request, Attempt::Again).await.expect("written");
    assert_eq!((done.outcome, world.lock().replicas), (ActionOutcome::Succeeded, Some(6)));
}

#[tokio::test]
async fn a_repetition_leaves_alone_what_somebody_else_has_set_since() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let request = render(&fake, json!({"to": 6})).await;
    world.lock().replicas = Some(9);
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!((done.outcome, world.lock().replicas), (ActionOutcome::Superseded, Some(9)));
    assert!(done.message.contains("was set to 9"), "{}", done.message);

    world.lock().replicas = Some(2);
    world.lock().uid = "u2";
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!((done.outcome, world.lock().replicas), (ActionOutcome::Superseded, Some(2)));

    world.lock().uid = "u1";
    world.lock().replicas = Some(6);
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!(done.outcome, ActionOutcome::Unchanged);
}

#[tokio::test]
async fn without_the_right_to_read_the_object_the_number_alone_tells() {
    let world = World::new(Some(2));
    world.lock().readable = false;
    let fake = serve(&world);
    let request = render(&fake, json!({"to": 6})).await;
    world.lock().replicas = Some(6);
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!(done.outcome, ActionOutcome::Succeeded);
}

#[tokio::test]
async fn a_missing_right_is_told_with_the_lines_that_grant_it() {
    let world = World::new(Some(2));
    let denied =
        "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:shop:shop-ops\" cannot patch resource";
    world.lock().troubles.push(Trouble::Refused(403, denied));
    let fake = serve(&world);
    let request = render(&fake, json!({"to": 6})).await;
    let failure = execute(&fake, &request, Attempt::First).await.expect_err("denied");
    assert_eq!(failure.kind, FailureKind::Final);
    assert!(failure.message.starts_with(
        "scale Deployment shop/web: ServiceAccount shop/shop-ops may not patch deployments.apps/scale in namespace shop; grant it with: kubectl create role"
    ), "{failure}");
}

#[tokio::test]
async fn targets_that_are_none_are_final_and_touch_nothing() {
    let fake = serve(&World::new(Some(2)));
    for (name, kind, message) in [
        ("gone", "Deployment", "read the scale of Deployment shop/gone: "),
        ("../../secrets", "Deployment", "no target: \"../../secrets\" is not the name of an object"),
        ("", "Deployment", "no target: name is empty"),
        ("web", "DaemonSet", "DaemonSet shop/web: apps/v1 DaemonSet has no scale subresource"),
        ("web", "Widget", "kind Widget is not one that Kubernetes itself brings"),
    ] {
        let mut spec = spec(name, json!({"to": 3}));
        spec["scale"]["target"]["kind"] = kind.into();
        let failure = action(spec).render(&context(&fake), &filled(name)).await.expect_err(message);
        assert_eq!(failure.kind, FailureKind::Final, "{failure}");
        assert!(failure.message.starts_with(message), "{failure}");
    }
    assert!(fake.requests().iter().all(|seen| seen.method != "PATCH"));
}

#[tokio::test]
async fn what_may_be_taken_back_needs_a_look_at_the_object_itself() {
    let fake = Fake::new(|seen| common(seen).unwrap_or((404, json!({}))));
    let cluster = &crate::actions::testing::services(&fake).cluster;
    let spec = |more: Value| -> crate::api::Action {
        let mut scale = json!({"target": {"kind": "Deployment", "name": "web"}, "to": 3});
        more.as_object().into_iter().flatten().for_each(|(key, value)| scale[key] = value.clone());
        serde_json::from_value(json!({"name": "grow", "scale": scale})).expect("an action")
    };
    let looks = |rights: &[crate::kubernetes::Right]| {
        rights.iter().any(|right| right.verb == "get" && right.resource == "deployments" && right.subresource.is_none())
    };
    let bare = crate::actions::rights(&spec(json!({})), cluster, "shop").await;
    assert!(!looks(&bare) && bare.len() == 2, "{bare:?}");
    assert!(looks(&crate::actions::undo_rights(&spec(json!({})), cluster, "shop").await));
    assert!(looks(&crate::actions::rights(&spec(json!({"restore": {"after": "1m"}})), cluster, "shop").await));
}
