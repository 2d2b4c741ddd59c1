use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::{
    actions::testing::{common, context},
    kubernetes::fake::{Fake, failure as status},
    record::Effect,
};

/// An API server that gives the next of these Deployments at each look, the last one for ever.
fn serve(looks: Vec<(u16, Value)>) -> Fake {
    let looks = Arc::new(Mutex::new(looks));
    Fake::new(move |seen| match seen.path.as_str() {
        "/apis/apps/v1/namespaces/shop/deployments/web" => {
            let mut looks = looks.lock();
            if looks.len() > 1 { looks.remove(0) } else { looks[0].clone() }
        }
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not found")),
    })
}

fn web(uid: &str, available: i64) -> (u16, Value) {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": uid, "generation": 1},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available}});
    (200, object)
}

fn scaled(outcome: ActionOutcome) -> Done {
    let effect = Effect {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: "web".into(),
        uid: "u".into(),
        resource_version: None,
        found: false,
        gone: false,
        reason: "ScaledByRule".into(),
    };
    Done { outcome, message: "scaled web".into(), result: json!({"to": 2}), effect: Some(effect), reason: None }
}

fn spec(wait_for: Value) -> WaitFor {
    serde_json::from_value(wait_for).expect("waitFor")
}

fn begin(cx: &Context, spec: &WaitFor) -> Waiting {
    let waiting = Waiting::begin(cx, spec, &json!({"from": 1}), &scaled(ActionOutcome::Succeeded)).expect("an object");
    waiting.expect("something to wait for")
}

async fn end(cx: &Context, spec: &WaitFor, waiting: Waiting) -> Result<Done, Failure> {
    // Replicas that are available, as an expression.
    let met = |seen: &Value| match &seen["status"]["availableReplicas"] {
        number if number == &json!(2) => Look::Met,
        number => Look::NotYet(format!("saw {number}")),
    };
    waiting.end(cx, spec, "waitFor", |seen| if spec.expression.is_some() { met(seen) } else { Look::Met }).await
}

#[tokio::test(start_paused = true)]
async fn it_looks_as_the_account_until_the_rollout_is_complete() {
    let fake = serve(vec![web("u", 0), status(503, "Unavailable", "away"), web("u", 1), web("u", 2)]);
    let cx = context(&fake);
    for wait_for in [json!({"rollout": {}}), json!({"expression": "true"})] {
        let spec = spec(wait_for);
        let done = end(&cx, &spec, begin(&cx, &spec)).await.expect("an outcome");
        assert_eq!((done.outcome, &done.result), (ActionOutcome::Succeeded, &json!({"to": 2})));
        assert!(done.effect.is_some());
        let what = if spec.rollout.is_some() { "its rollout is complete" } else { "waitFor.expression gives true" };
        assert_eq!(done.message, format!("scaled web; {what}"));
    }
    let looks: Vec<_> = fake.requests().into_iter().filter(|seen| seen.path.ends_with("/deployments/web")).collect();
    assert_eq!(looks.len(), 5);
    assert!(looks.iter().all(|seen| seen.user.as_deref() == Some("system:serviceaccount:shop:shop-ops")));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_so_in_time_fails_with_what_was_seen_last_and_keeps_what_was_done() {
    let cx = context(&serve(vec![web("u", 1)]));
    for (wait_for, message) in [
        (
            json!({"rollout": {}}),
            "scaled web, but its rollout was not complete within 5m: 1 of 2 updated replicas are available",
        ),
        (
            json!({"expression": "x", "timeout": "90s"}),
            "scaled web, but waitFor.expression did not give true within 1m30s: saw 1",
        ),
    ] {
        let spec = spec(wait_for);
        let began = Instant::now();
        let done = end(&cx, &spec, begin(&cx, &spec)).await.expect("an outcome");
        assert_eq!((done.outcome, done.message.as_str()), (ActionOutcome::Failed, message));
        assert_eq!((done.result, done.effect), (json!({"to": 2}), scaled(ActionOutcome::Failed).effect));
        let over = began.elapsed().saturating_sub(spec.timeout.get());
        assert!(began.elapsed() >= spec.timeout.get() && over < Duration::from_secs(1), "{over:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_same_instant_ends_it_and_one_look_is_always_taken() {
    let spec = spec(json!({"rollout": {}, "timeout": "10s"}));
    let cx = context(&serve(vec![web("u", 1)]));
    let recorded = serde_json::to_value(begin(&cx, &spec)).expect("JSON");
    assert_eq!(recorded["waiting"]["deadline"], 11_000_000);
    assert_eq!(Waiting::request_of(recorded.clone()), json!({"from": 1}));
    assert_eq!(Waiting::request_of(json!({"from": 1})), json!({"from": 1}));
    let late = |fake: &Fake, seconds: i64| {
        let clock = crate::clock::Clock::simulated(crate::clock::Stamp { at: 0, wall: seconds * 1_000_000 });
        let Ok(services) = Arc::try_unwrap(crate::actions::testing::services(fake)) else {
            unreachable!("nobody has it")
        };
        Context { services: Arc::new(crate::actions::Services { clock, ..services }), ..context(fake) }
    };
    let read = || Waiting::read(&recorded).expect("recorded");
    let began = Instant::now();
    let done = end(&late(&serve(vec![web("u", 1)]), 8), &spec, read()).await.expect("an outcome");
    assert_eq!((done.outcome, began.elapsed().as_secs()), (ActionOutcome::Failed, 3));
    let done = end(&late(&serve(vec![web("u", 2)]), 1000), &spec, read()).await.expect("an outcome");
    assert_eq!(done.outcome, ActionOutcome::Succeeded, "{}", done.message);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_come_true_any_more_fails_at_once() {
    let mut stuck = web("u", 1);
    stuck.1["status"]["conditions"] =
        json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "no progress"}]);
    let forbidden = "deployments.apps \"web\" is forbidden: User \"x\" cannot get";
    for (look, part) in [
        (stuck, "scaled web, but it exceeded its progress deadline: no progress"),
        (web("another", 2), "scaled web, but it was deleted and created anew meanwhile"),
        (
            status(404, "NotFound", "deployments.apps \"web\" not found"),
            "wait for Deployment shop/web: deployments.apps",
        ),
        (status(403, "Forbidden", forbidden), "may not get deployments.apps web in namespace shop"),
    ] {
        let spec = spec(json!({"rollout": {}}));
        let cx = context(&serve(vec![look]));
        let began = Instant::now();
        let done = end(&cx, &spec, begin(&cx, &spec)).await.expect("an outcome");
        assert_eq!(done.outcome, ActionOutcome::Failed);
        assert!(done.message.contains(part), "{part}: {}", done.message);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_interrupts_it_and_is_no_outcome() {
    let spec = spec(json!({"rollout": {}}));
    let cx = context(&serve(vec![web("u", 1)]));
    cx.stop.cancel();
    let failure = end(&cx, &spec, begin(&cx, &spec)).await.expect_err("interrupted");
    assert_eq!(failure.kind, FailureKind::Interrupted);
}

#[tokio::test]
async fn only_what_is_as_it_was_to_be_is_waited_for() {
    let spec = spec(json!({"rollout": {}}));
    let cx = context(&serve(vec![web("u", 2)]));
    let begin = |request: Value, done: &Done| Waiting::begin(&cx, &spec, &request, done);
    for outcome in [ActionOutcome::Failed, ActionOutcome::Superseded] {
        assert_eq!(begin(json!({}), &scaled(outcome)), Ok(None), "{outcome:?}");
    }
    let unchanged = Done { effect: None, ..scaled(ActionOutcome::Unchanged) };
    let request = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "u", "from": 2, "to": 2});
    let waiting = begin(request, &unchanged).expect("an object").expect("it may still be on its way");
    let done = end(&cx, &spec, waiting).await.expect("an outcome");
    assert_eq!(
        (done.outcome, done.message.as_str()),
        (ActionOutcome::Unchanged, "scaled web; its rollout is complete")
    );
    assert!(begin(json!({"from": 2}), &unchanged).is_err());
}
