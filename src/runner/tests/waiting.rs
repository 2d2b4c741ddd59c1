//! Steps that have changed their target and wait until that is as wanted.

use super::*;

/// Deployments by name whose `status.done` is what the test says; and who asked.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<std::collections::BTreeSet<String>>>);

impl Cluster {
    fn fake(&self) -> Fake {
        let done = self.0.clone();
        Fake::new(move |seen| match seen.path.strip_prefix("/apis/apps/v1/namespaces/shop/deployments/") {
            Some(name) => {
                let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                    "metadata": {"name": name, "namespace": "shop", "uid": name}, "status": {"done": done.lock().contains(name)}});
                (200, object)
            }
            None => testing::common(seen).unwrap_or((404, json!({}))),
        })
    }

    fn complete(&self, name: &str) {
        self.0.lock().insert(name.to_owned());
    }
}

/// An action that changes the Deployment and waits for its `status.done`.
fn waiting_on(target: &str, name: &str) -> Value {
    json!({"name": name, "scale": {"target": {"kind": "Deployment", "name": target}, "to": 1},
        "waitFor": {"expression": "target.status.done", "timeout": "10m"}})
}

async fn for_seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_outcome_is_recorded_after_the_waiting_and_the_later_actions_come_after_it() {
    let cluster = Cluster::default();
    let stage = Stage::on(&cluster.fake(), &[("grow", &[Play::Change("web")])], Limit::none());
    stage.start(firing("r", "g", "f", &[waiting_on("web", "grow"), action("tell", json!({}))]));
    for_seconds(60).await;
    let told = stage.told();
    assert!(
        told.contains(&"intent grow 1".to_owned()) && !told.iter().any(|told| told.starts_with("outcome")),
        "{told:?}"
    );
    // What it hears of its own write does not wait as long.
    let kinds: Vec<_> = stage
        .bus
        .records
        .lock()
        .iter()
        .map(|record| match record {
            Record::Intent(intent) => format!("intent {}", intent.rendering),
            Record::Written(written) => format!("written {}", written.effect.name),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["intent 0", "written web", "intent 1"]);
    cluster.complete("web");
    stage.ended(1).await;
    let told = stage.told();
    let place = |what: &str| told.iter().position(|told| told == what).expect(what);
    assert!(place("outcome grow Succeeded") < place("render tell"), "{told:?}");
    assert_eq!(stage.outcomes()[0].2, "did grow; waitFor.expression gives true");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_so_in_time_fails_the_firing_and_says_what_was_seen() {
    let stage = Stage::on(&Cluster::default().fake(), &[("grow", &[Play::Change("web")])], Limit::none());
    stage.start(firing("r", "g", "f", &[waiting_on("web", "grow"), action("tell", json!({}))]));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[grow]")));
    assert_eq!(
        ended.message,
        "did grow, but waitFor.expression did not give true within 10m: target.status.done = false"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_holds_neither_the_target_nor_a_place() {
    let cluster = Cluster::default();
    let many = FIRINGS_PER_RULE * 3;
    let plays: &[(&str, &[Play])] = &[("grow", &[Play::Change("web")]), ("hang", &[Play::Hang])];
    let stage = Stage::on(&cluster.fake(), plays, Limit::none());
    for number in 0..many {
        stage.start(firing("r", &format!("g{number}"), &format!("f{number}"), &[waiting_on("web", "grow")]));
    }
    stage.start(firing("r", "last", "fl", &[action_on("api", "other")]));
    stage.start(firing("another", "g", "fa", &[action_on("web", "another")]));
    for_seconds(10).await;
    let told = stage.told();
    assert_eq!(told.iter().filter(|told| *told == "intent grow 1").count(), many, "all of them wait");
    for done in ["outcome other Succeeded", "outcome another Succeeded"] {
        assert!(told.contains(&done.to_owned()), "{done}: {told:?}");
    }
    cluster.complete("web");
    stage.ended(many + 2).await;
    assert!(stage.runner.0.lanes.lock().waiting() == 0);
    // The places are all there again, and no more.
    for number in 0..many {
        stage.start(firing("r", &format!("h{number}"), &format!("h{number}"), &[action("hang", json!({}))]));
    }
    for_seconds(1).await;
    let hanging = stage.told().iter().filter(|told| told.starts_with("execute hang")).count();
    assert_eq!(hanging, FIRINGS_PER_RULE);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_waiting_and_does_nothing_again() {
    let cluster = Cluster::default();
    let stage = Stage::on(&cluster.fake(), &[("grow", &[Play::Change("web")])], Limit::none());
    let open = firing("r", "g", "f", &[waiting_on("web", "grow")]);
    stage.start(open.clone());
    for_seconds(30).await;
    assert!(stage.runner.drain(Duration::from_secs(1)).await, "who only waits ends at once");
    let intent = stage.bus.records.lock().iter().rev().find_map(|record| match record {
        Record::Intent(intent) => Some((intent.rendering, intent.request.clone())),
        _ => None,
    });
    assert_eq!(stage.outcomes(), []);

    let next = Stage::on(&cluster.fake(), &[], Limit::none());
    let mut resumed = open;
    resumed.steps.insert("grow".into(), Step { intent, ..Step::default() });
    next.resume([resumed]);
    next.start(firing("another", "g", "fa", &[action_on("web", "another")]));
    for_seconds(5).await;
    assert_eq!(next.outcomes()[0].0, "another", "the target is free");
    cluster.complete("web");
    next.ended(2).await;
    let told = next.told();
    assert!(!told.iter().any(|told| told.ends_with("grow") || told.starts_with("execute grow")), "{told:?}");
    assert_eq!(next.outcomes()[1].2, "did grow; waitFor.expression gives true");
}

#[tokio::test(start_paused = true)]
async fn observing_waits_for_nothing() {
    let cluster = Cluster::default();
    let stage = Stage::on(&cluster.fake(), &[], Limit::none());
    let mut open = firing("r", "g", "f", &[waiting_on("web", "grow")]);
    let mut spec = (*open.spec).clone();
    spec.mode = crate::api::RuleMode::Observe;
    open.spec = Arc::new(spec);
    stage.start(open);
    let ended = stage.ended(1).await.remove(0);
    assert_eq!((ended.outcome, ended.message.as_str()), (FiringOutcome::Observed, "would do grow"));
}

#[tokio::test(start_paused = true)]
async fn when_its_rule_is_deleted_nobody_waits_any_more() {
    let stage = Stage::on(&Cluster::default().fake(), &[("grow", &[Play::Change("web")])], Limit::none());
    stage.start(firing("r", "g", "f", &[waiting_on("web", "grow"), action("tell", json!({}))]));
    for_seconds(60).await;
    stage.runner.remove(&RuleUid("r".into()));
    for_seconds(1).await;
    assert_eq!(stage.ended(1).await[0].message, "ended before all was done: the rule was deleted");
    assert_eq!(stage.outcomes().len(), 1, "the next action was not begun");
}
