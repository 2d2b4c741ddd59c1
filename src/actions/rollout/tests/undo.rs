//! `operation: Undo`.

use super::*;

fn template(image: &str) -> Value {
    json!({"metadata": {"creationTimestamp": null, "labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}})
}

/// A ReplicaSet as the Deployment's controller makes it.
fn set(number: u32, image: &str) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = format!("h{number}").into();
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u1", "controller": true});
    let annotations = json!({"deployment.kubernetes.io/revision": number.to_string(), "deployment.kubernetes.io/max-replicas": "9",
        "kubernetes.io/change-cause": format!("{image}!")});
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": {"template": template},
        "metadata": {"name": format!("web-{number}"), "annotations": annotations, "ownerReferences": [owner]}})
}

/// A Deployment of three revisions; the list of them is in no order, and holds one of somebody else.
fn history() -> (Arc<Mutex<World>>, Fake) {
    let (world, fake) =
        serve(json!({"selector": {"matchLabels": {"app": "web"}}, "replicas": 2, "template": template("web:3")}));
    let mut foreign = set(9, "evil:1");
    foreign["metadata"]["ownerReferences"][0]["uid"] = "u9".into();
    {
        let mut world = world.lock();
        world.sets = vec![set(3, "web:3"), foreign, set(1, "web:1"), set(2, "web:2")];
        let annotations =
            json!({"deployment.kubernetes.io/revision": "3", "kubernetes.io/change-cause": "web:3!", "note": "mine"});
        world.object["metadata"]["annotations"] = annotations;
        world.object["metadata"]["generation"] = 3.into();
        world.object["status"] = json!({"observedGeneration": 3});
    }
    (world, fake)
}

async fn render(fake: &Fake, revision: Option<i64>) -> Result<Value, Failure> {
    let mut spec = json!({"operation": "Undo", "target": {"kind": "Deployment", "name": "web"}});
    if let Some(revision) = revision {
        spec["revision"] = revision.into();
    }
    action(json!({"name": "act", "rollout": spec})).render(&context(fake), &json!({"target": {"name": "web"}})).await
}

fn image(world: &Mutex<World>) -> Value {
    world.lock().object["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

#[tokio::test]
async fn the_template_of_the_revision_before_replaces_the_present_one() {
    let (world, fake) = history();
    let request = render(&fake, None).await.expect("a request");
    let done = execute(&fake, &request, Attempt::First).await.expect("rolled back");
    assert_eq!(done.message, "rolled back Deployment shop/web to revision 2");
    assert_eq!(done.result, json!({"revision": 2}));
    assert_eq!(done.effect.expect("an effect").reason, "RolledBackByRule");
    let write = fake.requests().pop().expect("a write");
    assert_eq!(write.headers["content-type"], "application/strategic-merge-patch+json");
    let mut template = template("web:2");
    template["$patch"] = "replace".into();
    let annotations = json!({"kubernetes.io/change-cause": "web:2!", "note": null});
    let metadata = json!({"resourceVersion": "7", "annotations": annotations});
    assert_eq!(write.body, json!({"metadata": metadata, "spec": {"template": template}}));
    let list = fake.requests().into_iter().find(|seen| seen.path.ends_with("/replicasets")).expect("a list");
    assert_eq!(list.user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    assert!(list.query.contains("labelSelector=app%3Dweb"), "{}", list.query);
    assert_eq!(image(&world), "web:2");
}

#[tokio::test]
async fn a_lost_answer_does_not_go_back_one_further() {
    let (world, fake) = history();
    world.lock().troubles.push((true, 504, "too slow"));
    let request = render(&fake, None).await.expect("a request");
    execute(&fake, &request, Attempt::First).await.expect_err("no answer");
    // The controller has numbered it anew, and nothing of ours is to be seen: a roll-back that takes fields away owns none.
    world.lock().sets[3]["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "4".into();
    world.lock().object["metadata"]["managedFields"] = json!([]);
    let done = execute(&fake, &request, Attempt::Again).await.expect("found done");
    assert_eq!((done.outcome, done.result), (ActionOutcome::Succeeded, json!({"revision": 2})));
    assert_eq!(image(&world), "web:2");
    assert_eq!(world.lock().version, 8);
}

#[tokio::test]
async fn a_repetition_leaves_a_newer_template_alone() {
    let (world, fake) = history();
    let request = render(&fake, None).await.expect("a request");
    world.lock().object["spec"]["template"] = template("web:4");
    let done = execute(&fake, &request, Attempt::Again).await.expect("looked");
    assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Superseded, 7));
    assert_eq!(
        done.message,
        "Deployment shop/web was changed by somebody else meanwhile, it was not rolled back to revision 2"
    );
}

#[tokio::test]
async fn the_present_revision_is_written_by_nobody() {
    let (world, fake) = history();
    let request = render(&fake, Some(3)).await.expect("a request");
    let done = execute(&fake, &request, Attempt::First).await.expect("looked");
    assert_eq!(done.message, "Deployment shop/web is as in revision 3 already");
    assert_eq!((done.outcome, world.lock().version), (ActionOutcome::Unchanged, 7));
}

#[tokio::test]
async fn a_change_that_the_controller_has_not_seen_is_waited_for() {
    let (world, fake) = history();
    world.lock().object["metadata"]["generation"] = 4.into();
    let failure = render(&fake, None).await.expect_err("not seen");
    assert_eq!(failure.kind, FailureKind::Retryable { after: None }, "{failure}");
    assert!(render(&fake, Some(1)).await.is_ok(), "a number needs no controller");
}

#[tokio::test]
async fn a_revision_that_is_none_is_told_with_the_line_that_lists_them() {
    let (world, fake) = history();
    let failure = render(&fake, Some(9)).await.expect_err("none");
    let message =
        "roll back Deployment shop/web: it has no revision 9; see kubectl rollout history deployment web -n shop";
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Final, message));
    world.lock().sets.truncate(2);
    let failure = render(&fake, None).await.expect_err("none");
    assert!(failure.message.contains("it has no earlier revision"), "{failure}");
    world.lock().object["spec"]["paused"] = true.into();
    let failure = render(&fake, None).await.expect_err("paused");
    assert!(failure.message.ends_with("resume it first: kubectl rollout resume deployment web -n shop"), "{failure}");
}

#[tokio::test]
async fn an_observed_roll_back_tells_the_revision() {
    let (world, fake) = history();
    let spec = json!({"operation": "Undo", "target": {"kind": "Deployment", "name": "web"}});
    let action = action(json!({"name": "act", "rollout": spec}));
    let request = render(&fake, None).await.expect("a request");
    let done = action.observe(&context(&fake), &request).await.expect("observed");
    assert_eq!(done.message, "would roll back Deployment shop/web to revision 2");
    assert_eq!(image(&world), "web:3");
}
