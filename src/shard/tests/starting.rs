//! What is due when a process starts.

use super::*;

fn silence() -> Record {
    let spec = json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "trigger": {"absent": {"for": "1us"}},
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}}],
    });
    let spec = Arc::new(serde_json::from_value(spec).expect("a valid spec"));
    let rule = RuleRef { uid: uid(), namespace: "shop".to_owned(), name: "silence".to_owned() };
    Record::RulePut(RulePut { rule, generation: 1, spec })
}

#[tokio::test]
async fn what_a_start_records_makes_nothing_due_before_the_sources_have_caught_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    let source = SourceRef { rule: uid(), generation: 1, source: "crash".to_owned() };
    for record in [silence(), Record::Baseline(source.clone())] {
        shard.append(record).await;
    }
    shard.turn().await;
    // It ends before it has judged this.
    shard.append(event(1, 0)).await;
    shard.bus.durable(shard.bus.stats().appended).await.expect("durable");
    drop(shard);

    let mut shard = Loop::open(dir.path());
    shard.turn().await;
    assert_eq!(shard.state.ledger.len(), 0, "the source may have heard something meanwhile");
    for record in [Record::Baseline(source), Record::Tick] {
        shard.append(record).await;
    }
    shard.turn().await;
    assert_eq!(shard.state.ledger.len(), 1);
}

/// A batch of each of three Pods, due after a while that is over.
async fn due(dir: &Path, wait: &str) {
    let spec: EventRuleSpec = serde_json::from_value(json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "trigger": {"batch": {"wait": wait}},
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}}],
    }))
    .expect("a valid spec");
    let rule = RuleRef { uid: uid(), namespace: "shop".to_owned(), name: "batch".to_owned() };
    let source = SourceRef { rule: uid(), generation: 1, source: "crash".to_owned() };
    let bus = open(dir);
    let put = Record::RulePut(RulePut { rule, generation: 1, spec: Arc::new(spec) });
    for record in [put, Record::Baseline(source), event(1, 0), event(2, 1), event(3, 2)] {
        bus.append(record).await.expect("append");
    }
    let last = bus.append(Record::Tick).await.expect("append").stamp.at;
    while bus.append(Record::Tick).await.expect("append").stamp.at < last + 300_000 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bus.durable(bus.stats().appended).await.expect("durable");
}

#[tokio::test]
async fn what_is_due_at_a_start_waits_too_while_too_much_is_open() {
    let dir = tempfile::tempdir().expect("a folder");
    due(dir.path(), "300ms").await;
    let many = |most: usize| {
        let bus = open(dir.path());
        let ledger = recover(&*bus, most).expect("recover").state.ledger;
        ledger.len()
    };
    assert_eq!([many(2), many(2), many(usize::MAX)], [2, 2, 3]);
}

#[tokio::test]
async fn a_step_that_is_under_way_loses_nothing_of_its_time_by_a_stop_also_over_restarts() {
    use crate::record::Control;
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2).into_iter().chain([event(1, 0)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    let Some(Record::Intent(intent)) = shard.write(0) else { panic!("it is open") };
    shard.append(Record::Intent(Intent { deadline: Some(5_000_000), ..intent })).await;
    shard.turn().await;
    let deadline = |shard: &Loop| shard.all()[0].steps["grow"].deadline.expect("a deadline");
    assert_eq!(deadline(&shard), 5_000_000);
    let stop = Record::Control(Control::Stop { by: "a test".into(), why: String::new() });
    let begun = shard.bus.append(stop).await.expect("append").stamp.wall;
    shard.turn().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let ended = shard.bus.append(Record::Control(Control::Release)).await.expect("append").stamp.wall;
    shard.turn().await;
    let put_off = 5_000_000 + ended - begun;
    assert!(ended > begun);
    assert_eq!(deadline(&shard), put_off);
    shard.append(Record::Control(Control::Release)).await;
    shard.turn().await;
    assert_eq!(deadline(&shard), put_off, "it was released already");
    shard.bus.durable(shard.bus.stats().appended).await.expect("durable");
    drop(shard);
    let mut shard = Loop::open(dir.path());
    assert_eq!(deadline(&shard), put_off, "by the log");
    shard.checkpoint().await;
    drop(shard);
    assert_eq!(deadline(&Loop::open(dir.path())), put_off, "by the view");
}
