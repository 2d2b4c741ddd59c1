//! Chains of rules: an event that follows from a record is appended once, wherever the process ends.

use super::*;
use crate::{
    api::ActionOutcome,
    event::TYPE_RESOURCE_DELETED,
    record::{Beside, Outcome},
};

fn rule(name: &str, source: serde_json::Value, action: serde_json::Value) -> [Record; 2] {
    rule_that(name, source, json!({"actions": [action]}))
}

fn rule_that(name: &str, source: serde_json::Value, spec: serde_json::Value) -> [Record; 2] {
    let (mut source, mut spec) = (source, spec);
    source["name"] = json!("s");
    spec["sources"] = json!([source]);
    let spec: EventRuleSpec = serde_json::from_value(spec).expect("a valid spec");
    let uid = RuleUid(name.into());
    let rule = RuleRef { uid: uid.clone(), namespace: "shop".to_owned(), name: name.to_owned() };
    let baseline = SourceRef { rule: uid, generation: 1, source: "s".to_owned() };
    [Record::RulePut(RulePut { rule, generation: 1, spec: Arc::new(spec) }), Record::Baseline(baseline)]
}

fn hears(types: &str) -> serde_json::Value {
    json!({"events": {"types": [types]}})
}

/// `first` emits what `second` hears, and `watch` hears of what fails.
fn chain() -> impl Iterator<Item = Record> {
    let crash = json!({"kubernetesEvent": {"reasons": ["BackOff"]}});
    let emit = json!({"name": "tell", "emit": {"type": "com.acme.crash"}});
    let scale = json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}});
    let first = rule("first", crash, emit);
    let second = rule("second", hears("com.acme.*"), scale.clone());
    let watch = rule("watch", hears("dev.signalbox.rule.failed"), scale);
    first.into_iter().chain(second).chain(watch)
}

/// The oldest open firing's step is done.
fn told(shard: &Loop) -> [Record; 2] {
    let firing = shard.oldest().expect("a firing").firing.id.clone();
    let request = json!({"type": "com.acme.crash", "subject": "order/7", "data": {"sum": 3}});
    let intent = Intent {
        firing: firing.clone(),
        action: "tell".to_owned(),
        rendering: 0,
        request,
        writes: None,
        deadline: None,
        remember: None,
    };
    let outcome = Outcome {
        firing,
        action: "tell".to_owned(),
        outcome: ActionOutcome::Succeeded,
        message: String::new(),
        result: serde_json::Value::Null,
        effect: None,
        reason: None,
        remember: None,
    };
    [Record::Intent(intent), Record::Outcome(outcome)]
}

fn fired(shard: &Loop, rule: &str) -> u64 {
    shard.state.engine.progress(&RuleUid(rule.into())).map_or(0, |progress| progress.counts.fired)
}

async fn begun(dir: &Path) -> Loop {
    let mut shard = Loop::open(dir);
    for record in chain().chain([event(1, 0)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    shard
}

/// Ends the process when everything is on the disk, and starts another.
async fn again(shard: Loop, dir: &Path) -> Loop {
    shard.bus.durable(shard.bus.stats().appended).await.expect("durable");
    drop(shard);
    let mut shard = Loop::open(dir);
    shard.turn().await;
    shard
}

#[tokio::test]
async fn what_a_step_emitted_comes_once_though_the_process_ended_before_or_after_it_was_appended() {
    let dir = tempfile::tempdir().expect("a folder");
    let shard = begun(dir.path()).await;
    for record in told(&shard) {
        shard.bus.record(record).expect("record");
    }
    // It ends before the outcome is folded, and then again and again.
    let mut shard = again(shard, dir.path()).await;
    for _ in 0..3 {
        assert_eq!((fired(&shard, "first"), fired(&shard, "second"), fired(&shard, "watch")), (1, 1, 0));
        shard = again(shard, dir.path()).await;
    }
    shard.checkpoint().await;
    let shard = again(shard, dir.path()).await;
    assert_eq!(fired(&shard, "second"), 1, "from the view");
    let open = shard.all().into_iter().find(|open| &*open.firing.rule.uid.0 == "second").expect("it is open");
    let first = shard.all().into_iter().find(|open| &*open.firing.rule.uid.0 == "first").expect("it is open").firing.id;
    let event = serde_json::to_value(&*open.event).expect("JSON");
    assert_eq!(event["id"], format!("{first}-tell"));
    assert_eq!(
        (&event["type"], &event["subject"], &event["data"]["sum"]),
        (&json!("com.acme.crash"), &json!("order/7"), &json!(3))
    );
    assert_eq!((&event["signalboxhops"], &event["signalboxrules"]), (&json!(1), &json!("first")));
    assert_eq!(event["source"], "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventrules/first");
}

#[tokio::test]
async fn what_is_emitted_when_a_firing_has_failed_comes_as_well() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    let scale = json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}});
    let emit = json!({"name": "tell", "emit": {"type": "com.acme.crash"}});
    let crash = json!({"kubernetesEvent": {"reasons": ["BackOff"]}});
    let first = rule_that("first", crash, json!({"actions": [scale.clone()], "failureActions": [emit]}));
    for record in first.into_iter().chain(rule("second", hears("com.acme.*"), scale)).chain([event(1, 0)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    for record in told(&shard) {
        shard.bus.record(record).expect("record");
    }
    let shard = again(shard, dir.path()).await;
    assert_eq!(fired(&shard, "second"), 1);
}

#[tokio::test]
async fn what_failed_is_told_once_to_whoever_hears_of_it_and_not_to_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let shard = begun(dir.path()).await;
    shard.bus.record(shard.finish_oldest(FiringOutcome::Failed).expect("a firing")).expect("record");
    let mut shard = again(shard, dir.path()).await;
    assert_eq!((fired(&shard, "second"), fired(&shard, "watch")), (0, 1));
    let open = shard.all().remove(0);
    let data = &open.event.data;
    assert_eq!(
        (&data["rule"]["name"], &data["message"], &data["group"]),
        (&json!("first"), &json!("done"), &json!("shop/Pod/p0"))
    );
    assert_eq!(data["event"]["id"], "e1/1");
    let origin = crate::event::rule_event::origin("shop", &open.event.id);
    let led: Vec<_> = shard.state.engine.led(&open.event, &origin).into_iter().cloned().collect();
    assert_eq!(led, [RuleUid("first".into())], "what comes of it is one step further");
    // It fails as well.
    shard.bus.record(shard.finish_oldest(FiringOutcome::Failed).expect("a firing")).expect("record");
    shard.turn().await;
    assert_eq!((fired(&shard, "watch"), shard.state.ledger.len()), (1, 0));
    let shard = again(shard, dir.path()).await;
    assert_eq!(fired(&shard, "watch"), 1);
}

#[tokio::test]
async fn that_an_object_goes_which_a_step_took_away_beside_its_own_comes_of_the_rule_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2).into_iter().chain([event(1, 0)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    shard.append(shard.write(0).expect("it fired")).await;
    let Some(Record::Written(Written { firing, action, effect })) = shard.answer(7) else { panic!("it fired") };
    let writes = Writes { rule: uid(), object: "shop/Pod/p".to_owned() };
    let effect = Some(Effect { gone: true, resource_version: None, ..effect });
    shard.append(Record::Beside(Beside { firing, action, writes, over: true, effect })).await;
    shard.turn().await;
    let Record::Event(mut gone) = change(7, 0) else { panic!("no event") };
    gone.origin.uid = "e7".to_owned();
    let event = Arc::make_mut(&mut gone.event);
    (event.id, event.type_) = ("e7/9".to_owned(), TYPE_RESOURCE_DELETED.to_owned());
    let led = |shard: &Loop| shard.state.engine.led(&gone.event, &gone.origin).into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(led(&shard), [uid()]);
    drop(shard);
    assert_eq!(led(&Loop::open(dir.path())), [uid()]);
}
