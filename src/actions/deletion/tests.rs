//! What `delete` and `evict` take away, with an API server on which another Pod may have the name.

use std::sync::Arc;

use super::*;
use crate::{
    actions::{
        FailureKind, lead,
        testing::{common, context, event},
    },
    api,
    event::Event,
    kubernetes::fake::{Fake, failure as status},
};

const POD: &str = "/api/v1/namespaces/shop/pods/web-0";
const OLD: &str = "11111111-1111-1111-1111-111111111111";
const NEW: &str = "22222222-2222-2222-2222-222222222222";

/// An API server whose Pod has this uid: another one is not taken away.
fn serve(uid: &'static str) -> Fake {
    Fake::new(move |seen| {
        let asked =
            seen.body.pointer("/preconditions/uid").or_else(|| seen.body.pointer("/deleteOptions/preconditions/uid"));
        match (seen.method.as_str(), seen.path.strip_prefix(POD)) {
            ("GET", Some("")) => (
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": "web-0", "namespace": "shop", "uid": uid}}),
            ),
            ("DELETE" | "POST", Some("" | "/eviction")) if asked.is_some_and(|asked| asked == uid) => {
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            ("DELETE" | "POST", Some("" | "/eviction")) => status(409, "Conflict", "Precondition failed: UID"),
            _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
        }
    })
}

/// The request for the Pod that an event is about, of which it tells this uid; and what becomes of it.
async fn ends(kind: &str, uid: &str, rendered: &Fake, executed: &Fake, attempt: Attempt) -> Done {
    tried(kind, uid, rendered, executed, attempt).await.expect("an end")
}

async fn tried(kind: &str, uid: &str, rendered: &Fake, executed: &Fake, attempt: Attempt) -> Result<Done, Failure> {
    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": uid});
    let mut cx = context(rendered);
    cx.event = Arc::new(Event { data: json!({ "regarding": regarding }), ..event() });
    let spec = json!({"name": "act", kind: {"target": {"from": "Event"}}});
    let spec: api::Action = serde_json::from_value(spec).expect("an action");
    let mut filled = json!({"target": {"from": "Event"}});
    lead(&cx, &spec, &mut filled).await.expect("a target");
    let action = crate::actions::build(&spec).expect("one kind");
    let request = action.render(&cx, &filled).await.expect("a request");
    action.execute(&context(executed), &request, attempt, Permit::for_test()).await
}

#[tokio::test]
async fn the_object_that_the_event_was_about_goes_and_not_another_one_of_its_name() {
    for kind in ["delete", "evict"] {
        for (told, outcome) in [
            (OLD, ActionOutcome::Succeeded),
            (NEW, ActionOutcome::Superseded),
            // A kubelet tells the hash of a static Pod's file, others tell nothing.
            ("0123456789abcdef0123456789abcdef", ActionOutcome::Succeeded),
            ("", ActionOutcome::Succeeded),
        ] {
            for attempt in [Attempt::First, Attempt::Again] {
                let fake = serve(OLD);
                let done = ends(kind, told, &fake, &fake, attempt).await;
                assert_eq!(done.outcome, outcome, "{kind} {told} {attempt:?}: {}", done.message);
                let asked = fake
                    .requests()
                    .iter()
                    .any(|seen| ["DELETE", "POST"].contains(&seen.method.as_str()) && seen.path.starts_with(POD));
                assert_eq!(asked, outcome == ActionOutcome::Succeeded, "{kind} {told}");
            }
        }
    }
}

#[tokio::test]
async fn a_repetition_that_finds_another_one_has_taken_the_recorded_one_away() {
    for kind in ["delete", "evict"] {
        let (then, now) = (serve(OLD), serve(NEW));
        let done = ends(kind, OLD, &then, &now, Attempt::Again).await;
        assert_eq!(done.outcome, ActionOutcome::Succeeded, "{}", done.message);
        let effect = done.effect.expect("an effect");
        assert_eq!((effect.uid.as_str(), effect.gone, effect.found), (OLD, true, true), "{kind}");
        let done = ends(kind, OLD, &then, &now, Attempt::First).await;
        assert_eq!((done.outcome, done.effect), (ActionOutcome::Superseded, None), "{kind}: nothing was sent before");
    }
}

/// An API server that refuses to take away what is there, or is on its way out, by a conflict over something else than its uid.
fn refusing(metadata: Value) -> Fake {
    Fake::new(move |seen| match (seen.method.as_str(), seen.path.strip_prefix(POD)) {
        ("GET", Some("")) => {
            (200, json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}))
        }
        ("DELETE" | "POST", Some("" | "/eviction")) => status(409, "Conflict", "somebody else is at it"),
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
    })
}

#[tokio::test]
async fn a_conflict_over_something_else_than_which_one_it_is_takes_nobody_for_another_one() {
    for attempt in [Attempt::First, Attempt::Again] {
        for kind in ["delete", "evict"] {
            let fake = refusing(json!({"name": "web-0", "namespace": "shop", "uid": OLD}));
            let failure = tried(kind, OLD, &fake, &fake, attempt).await.expect_err("a conflict");
            assert_eq!(failure.kind, FailureKind::Conflict, "{kind}: {failure}");
            assert!(failure.message.ends_with("Pod shop/web-0: somebody else is at it"), "{kind}: {failure}");
        }
        // A Namespace that is on its way out refuses to be deleted once more.
        let at = "2026-11-30T08:00:00Z";
        let fake = refusing(json!({"name": "web-0", "namespace": "shop", "uid": OLD, "deletionTimestamp": at}));
        let done = ends("delete", OLD, &fake, &fake, attempt).await;
        let (outcome, words) = match attempt {
            Attempt::First => (ActionOutcome::Unchanged, "Pod shop/web-0 is being deleted already"),
            Attempt::Again => (ActionOutcome::Succeeded, "began to delete Pod shop/web-0"),
        };
        assert_eq!((done.outcome, done.message.as_str()), (outcome, words));
    }
}
