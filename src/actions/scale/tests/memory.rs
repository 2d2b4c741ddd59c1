//! What is remembered of targets that were just scaled.

use super::*;
use crate::record::{FiringId, RuleRef, RuleUid};

/// Renders and executes in one process, which remembers.
async fn go(cx: &Context, amount: Value) -> Result<Done, Failure> {
    let action = action(spec("web", amount));
    let request = action.render(cx, &filled("web")).await?;
    action.execute(cx, &request, Attempt::First, Permit::for_test()).await
}

#[tokio::test]
async fn a_target_that_was_just_scaled_is_scaled_again_without_reading_it() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let cx = context(&fake);
    go(&cx, json!({"by": "1"})).await.expect("scaled");
    // The controller has written the status meanwhile.
    world.lock().version += 3;
    let before = fake.requests().len();
    let done = go(&cx, json!({"by": "2"})).await.expect("scaled");
    assert_eq!(done.message, "scaled Deployment shop/web from 3 to 5");
    assert_eq!(world.lock().replicas, Some(5));
    let methods: Vec<_> = fake.requests()[before..].iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, ["PATCH"]);
}

#[tokio::test]
async fn what_is_remembered_is_never_written_over_what_somebody_else_has_set() {
    for change in [|world: &mut World| world.replicas = Some(7), |world: &mut World| world.uid = "u2"] {
        let world = World::new(Some(2));
        let fake = serve(&world);
        let mut cx = context(&fake);
        go(&cx, json!({"by": "1"})).await.expect("scaled");
        change(&mut world.lock());
        cx.firing = FiringId("fedcba98765432100123".into());
        let found = world.lock().replicas;
        let failure = go(&cx, json!({"by": "2"})).await.expect_err("another object");
        assert_eq!((failure.kind, world.lock().replicas), (FailureKind::Conflict, found), "{failure}");
        let done = go(&cx, json!({"by": "2"})).await.expect("the fresh request is right");
        assert_eq!(done.result["from"], json!(found));
    }
}

#[tokio::test]
async fn after_a_lost_answer_and_after_another_account_the_target_is_read() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let mut cx = context(&fake);
    let reads = |fake: &Fake, from: usize| {
        let seen = fake.requests();
        seen[from..].iter().filter(|seen| seen.method == http::Method::GET && seen.path.ends_with("/scale")).count()
    };
    go(&cx, json!({"by": "1"})).await.expect("scaled");
    world.lock().troubles.push(Trouble::Lost);
    cx.firing = FiringId("fedcba98765432100123".into());
    go(&cx, json!({"by": "1"})).await.expect_err("no answer");
    let before = fake.requests().len();
    go(&cx, json!({"by": "1"})).await.expect("scaled");
    assert_eq!((reads(&fake, before), world.lock().replicas), (1, Some(5)), "what came of the second was not known");

    cx.account.name = "other".into();
    let before = fake.requests().len();
    go(&cx, json!({"by": "1"})).await.expect("scaled");
    assert_eq!(reads(&fake, before), 1, "one account is not told what another has seen");
    cx.account.name = "shop-ops".into();
    let before = fake.requests().len();
    go(&cx, json!({"by": "1"})).await.expect("scaled");
    assert_eq!(reads(&fake, before), 1, "what the first has seen is old");
}

#[tokio::test]
async fn that_nothing_is_to_be_done_is_not_told_from_memory() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let cx = context(&fake);
    go(&cx, json!({"to": 3})).await.expect("scaled");
    world.lock().replicas = Some(1);
    let done = go(&cx, json!({"to": 3})).await.expect("scaled");
    assert_eq!((done.message.as_str(), world.lock().replicas), ("scaled Deployment shop/web from 1 to 3", Some(3)));
}

#[tokio::test]
async fn a_rule_that_another_one_has_come_before_is_told_which() {
    let world = World::new(Some(2));
    let fake = serve(&world);
    let mut cx = context(&fake);
    go(&cx, json!({"to": 3})).await.expect("scaled");
    let done = go(&cx, json!({"to": 4})).await.expect("scaled");
    assert_eq!(done.message, "scaled Deployment shop/web from 3 to 4", "it itself is no other one");
    let rule = cx.rule.clone();
    cx.rule = RuleRef { uid: RuleUid("other".into()), namespace: "shop".into(), name: "other".into() };
    let done = go(&cx, json!({"to": 6})).await.expect("scaled");
    let words =
        format!("scaled Deployment shop/web from 4 to 6; EventRule {rule} had scaled it less than 10 minutes before");
    assert_eq!(done.message, words);
    cx.rule = rule;
    let done = go(&cx, json!({"to": 6})).await.expect("nothing to do");
    assert_eq!(done.message, "Deployment shop/web has 6 replicas already", "nothing was written");
    let done = go(&cx, json!({"to": 3})).await.expect("scaled");
    assert!(
        done.message.ends_with("; EventRule shop/other had scaled it less than 10 minutes before"),
        "{}",
        done.message
    );
    cx.rule.namespace = "elsewhere".into();
    cx.rule.uid = RuleUid("third".into());
    let rule = cx.rule.clone();
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "x", "uid": "u"});
    let key = || Key::of(&serde_json::from_value(object.clone()).expect("an object"));
    assert_eq!(cx.services.scales.rivalry(key(), &rule), None);
    cx.rule.namespace = "shop".into();
    cx.rule.uid = RuleUid("fourth".into());
    let told = cx.services.scales.rivalry(key(), &cx.rule).expect("a rival");
    assert!(told.starts_with("; a rule of another namespace had") && !told.contains("elsewhere"), "{told}");
}
