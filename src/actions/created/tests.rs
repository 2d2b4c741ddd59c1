use super::*;
use crate::{
    actions::{
        FailureKind,
        testing::{action, common, context},
    },
    kubernetes::fake::{Fake, failure as status},
};

const ALL: &str = "/apis/apps/v1/namespaces/shop/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// An API server that holds this Deployment, or none: then whoever creates one gets no answer.
fn serve(held: Value) -> Fake {
    Fake::new(move |seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", ALL) if !held.is_null() => status(409, "AlreadyExists", "there is one"),
        ("POST", ALL) => status(500, "InternalError", "the answer is lost"),
        ("GET", WEB) if !held.is_null() => (200, held.clone()),
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
    })
}

fn manifest(annotations: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "annotations": annotations}})
}

/// The manifest as the API server holds it, written by these managers.
fn held(request: &Value, managers: &[&str]) -> Value {
    let mut object = request["create"]["object"].clone();
    object["metadata"]["uid"] = json!("u1");
    object["metadata"]["resourceVersion"] = json!("7");
    let entries = managers.iter().map(|manager| json!({"manager": manager, "operation": "Update"}));
    object["metadata"]["managedFields"] = entries.collect();
    object
}

async fn render(kind: &str, annotations: Value) -> Result<Value, Failure> {
    let manifest = manifest(annotations);
    let filled = json!({ "manifest": manifest });
    let spec = json!({"name": "act", kind: {"manifest": manifest}});
    action(spec).render(&context(&serve(Value::Null)), &filled).await
}

#[tokio::test]
async fn an_object_says_which_step_created_it_also_when_its_annotations_are_null() {
    for kind in ["create", "apply"] {
        let request = render(kind, Value::Null).await.expect("a request");
        let fake = serve(held(&request, &["signalbox/rule-uid"]));
        let cx = context(&fake);
        let said = &request["create"]["object"]["metadata"]["annotations"][CAUSED_BY];
        assert_eq!(*said, json!(cx.cause()), "{kind}: {request}");
        let again = Request::read(&request).expect("a creation");
        let done = again.execute(&cx, Attempt::Again, Permit::for_test()).await.expect("it is found");
        assert_eq!((done.outcome, &*done.message), (ActionOutcome::Succeeded, "created Deployment shop/web"), "{kind}");
        for none in [json!("x"), json!(["x"])] {
            let failure = render(kind, none.clone()).await.expect_err("no annotations");
            assert!(failure.message.contains("metadata.annotations: must be a map"), "{none}: {}", failure.message);
        }
    }
    // What an event holds may look like an expression.
    let failure = render("create", json!("${x")).await.expect_err("no annotations");
    assert!(failure.message.contains("metadata.annotations must be a map"), "{}", failure.message);
}

#[tokio::test]
async fn what_is_found_applied_is_known_by_its_version_for_it_has_no_mark_of_the_step() {
    for (kind, found) in [("create", true), ("apply", false)] {
        let request = render(kind, Value::Null).await.expect("a request");
        let fake = serve(held(&request, &["signalbox/rule-uid"]));
        let again = Request::read(&request).expect("a creation");
        let done = again.execute(&context(&fake), Attempt::Again, Permit::for_test()).await.expect("it is found");
        let effect = done.effect.expect("an effect");
        assert_eq!((effect.found, effect.resource_version.as_deref()), (found, Some("7")), "{kind}");
    }
}

#[tokio::test]
async fn a_creation_without_an_answer_is_taken_back_when_it_was_the_steps() {
    let step = "signalbox-0123456789abcdef0123-act";
    for (kind, managers, gone) in [
        ("create", vec![step], true),
        ("create", vec![step, "kube-controller-manager"], true),
        ("apply", vec!["signalbox/rule-uid"], true),
        ("apply", vec!["signalbox/rule-uid", "their-tool"], false),
    ] {
        let request = render(kind, Value::Null).await.expect("a request");
        let fake = serve(held(&request, &managers));
        let spec = action(json!({"name": "act", kind: {"manifest": manifest(Value::Null)}}));
        let Undo::Change(change) = spec.changed(&context(&fake), &request, None) else { panic!("{kind}: no change") };
        let cx = Context { action: "act.undo".into(), ..context(&fake) };
        match spec.take_back(&cx, &change).await.expect("looked") {
            Back::Request(request) => {
                assert!(gone && request["delete"]["uid"] == "u1", "{kind} {managers:?}: {request}");
            }
            Back::Done(done) => assert!(!gone, "{kind} {managers:?}: {}", done.message),
        }
    }
}

#[tokio::test]
async fn one_that_is_being_deleted_is_waited_for() {
    let request = render("create", json!({})).await.expect("a request");
    let mut theirs = held(&request, &["kubectl"]);
    theirs["metadata"]["annotations"] = json!({});
    let again = Request::read(&request).expect("a creation");
    let failure = async |held: &Value| {
        let fake = serve(held.clone());
        again.execute(&context(&fake), Attempt::First, Permit::for_test()).await.expect_err("there is one")
    };
    assert_eq!(failure(&theirs).await.kind, FailureKind::Final);
    theirs["metadata"]["deletionTimestamp"] = json!("2026-11-30T08:00:00Z");
    let failure = failure(&theirs).await;
    assert_eq!(failure.kind, FailureKind::Retryable { after: None }, "{failure}");
    assert!(failure.message.ends_with("the one that is there is being deleted"), "{failure}");
}
