use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    api::{
        ActionOutcome, ActionStatus, ConditionType, Counts, EventRef, FiringOutcome, FiringStatus, LastError,
        StatusCondition,
    },
    kubernetes::{
        event_channel,
        fake::{Fake, failure},
    },
    telemetry::Metrics,
};

fn rule(name: &str) -> RuleRef {
    RuleRef { uid: RuleUid(format!("uid-{name}").into()), namespace: "shop".into(), name: name.into() }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn spec(generation: i64) -> Part {
    Part::Spec { generation, faults: Vec::new(), suspended: false }
}

fn good(reason: Reason) -> Finding {
    (ConditionStatus::True, reason, "well".into())
}

fn sources(generation: i64) -> Part {
    Part::Sources { generation, listening: good(Reason::WatchEstablished), authorized: good(Reason::RightsGranted) }
}

fn progress(generation: i64, matched: u64) -> Progress {
    Progress {
        counts: Counts { matched, ..Counts::default() },
        generation: Some(generation),
        last_match: None,
        last_firing: None,
        last_error: None,
        recent: Vec::new(),
    }
}

fn firing(id: &str, outcome: FiringOutcome, message: &str) -> FiringStatus {
    let event = EventRef { id: "e/1".into(), type_: "t".into(), source: "/s".into(), subject: None };
    let action = ActionStatus { name: "grow".into(), outcome: ActionOutcome::Failed, message: message.into() };
    FiringStatus {
        id: id.into(),
        time: Time(time(7)),
        group: "shop/Pod/web-1".into(),
        event,
        outcome,
        message: message.into(),
        actions: vec![action],
    }
}

fn parts(list: impl IntoIterator<Item = Part>) -> RuleParts {
    let mut parts = RuleParts::new(rule("web"));
    list.into_iter().for_each(|part| parts.take(&rule("web"), part));
    parts
}

fn in_force() -> RuleParts {
    let mut parts = parts([spec(2), Part::Account { generation: 2, usable: Ok(()) }, sources(2)]);
    parts.progress = Some(progress(2, 0));
    parts
}

fn condition(status: &EventRuleStatus, type_: ConditionType) -> &StatusCondition {
    status.conditions.iter().find(|one| one.type_ == type_).expect("every condition is there")
}

#[track_caller]
fn expect(status: &EventRuleStatus, type_: ConditionType, wanted: ConditionStatus, reason: Reason, part: &str) {
    let one = condition(status, type_);
    assert_eq!((one.status, one.reason), (wanted, reason), "{one:?}");
    assert!(one.message.contains(part), "{part:?} is not in {one:?}");
}

use ConditionStatus::{False, True, Unknown};
use ConditionType::{Acting, Authorized, Listening, Ready};

#[test]
fn nothing_is_said_about_a_rule_whose_spec_was_not_seen() {
    let mut parts = parts([]);
    parts.progress = Some(progress(1, 5));
    assert_eq!(merge(None, &parts, time(1)), None);
}

#[test]
fn a_rule_is_ready_when_its_version_is_in_force_and_all_sides_are_well() {
    let status = merge(None, &in_force(), time(1)).expect("status");
    expect(&status, Ready, True, Reason::InForce, "in force");
    expect(&status, Acting, True, Reason::NoFailures, "");
    assert_eq!(status.observed_generation, Some(2));
    let mut before = in_force();
    before.progress = Some(progress(1, 0));
    let status = merge(None, &before, time(1)).expect("status");
    expect(&status, Ready, Unknown, Reason::Pending, "generation 1 judges until then");
}

#[test]
fn what_was_said_about_another_generation_does_not_count() {
    let status = merge(None, &parts([spec(3), sources(2)]), time(1)).expect("status");
    expect(&status, Listening, Unknown, Reason::Pending, "");
    expect(&status, Authorized, Unknown, Reason::Pending, "");
    let late = parts([spec(3), Part::Spec { generation: 2, faults: vec!["old".into()], suspended: false }]);
    assert_eq!(merge(None, &late, time(1)).expect("status").observed_generation, Some(3));
}

#[test]
fn faults_are_all_told_and_the_version_that_judges_meanwhile() {
    let faults: Vec<String> = (0..3).map(|index| format!("spec.when[{index}].expression:1:1: no")).collect();
    let mut parts = parts([Part::Spec { generation: 2, faults, suspended: false }]);
    parts.progress = Some(progress(1, 0));
    let status = merge(None, &parts, time(1)).expect("status");
    for part in ["spec.when[0]", "spec.when[2].expression:1:1: no", "generation 1 judges until then"] {
        expect(&status, Ready, False, Reason::InvalidSpec, part);
    }
    expect(&status, Listening, Unknown, Reason::Pending, "faults");

    let faults = (0..100).map(|index| format!("spec.when[{index}].expression:1:1: {}", "x".repeat(40))).collect();
    parts.take(&rule("web"), Part::Spec { generation: 3, faults, suspended: false });
    let status = merge(None, &parts, time(1)).expect("status");
    let message = &condition(&status, Ready).message;
    assert!(message.chars().count() <= 1024, "{}", message.len());
    assert!(message.contains("more; generation 1 judges until then"), "{message}");
}

#[test]
fn an_account_that_may_not_be_used_makes_the_rule_neither_authorized_nor_ready() {
    let usable = Err((Reason::AccountNotUsable, "label it".to_owned()));
    let status = merge(None, &parts([spec(2), Part::Account { generation: 2, usable }, sources(2)]), time(1));
    let status = status.expect("status");
    expect(&status, Authorized, False, Reason::AccountNotUsable, "label it");
    expect(&status, Ready, False, Reason::AccountNotUsable, "label it");
    expect(&status, Listening, Unknown, Reason::Pending, "account");
}

#[test]
fn a_missing_right_and_a_failed_watch_are_in_ready() {
    let missing = (False, Reason::RightMissing, "grant it".to_owned());
    let mut parts = in_force();
    let listening = good(Reason::WatchEstablished);
    parts.take(&rule("web"), Part::Sources { generation: 2, listening, authorized: missing });
    expect(&merge(None, &parts, time(1)).expect("status"), Ready, False, Reason::RightMissing, "grant it");
    let failed = (False, Reason::KindNotFound, "no Widget".to_owned());
    let authorized = good(Reason::RightsGranted);
    parts.take(&rule("web"), Part::Sources { generation: 2, listening: failed, authorized });
    expect(&merge(None, &parts, time(1)).expect("status"), Ready, False, Reason::KindNotFound, "no Widget");
}

#[test]
fn a_suspended_rule_says_so() {
    let mut parts = in_force();
    parts.take(&rule("web"), Part::Spec { generation: 2, faults: Vec::new(), suspended: true });
    expect(&merge(None, &parts, time(1)).expect("status"), Ready, False, Reason::Suspended, "suspend");
}

#[test]
fn acting_tells_about_the_last_firing_that_ended() {
    let mut parts = in_force();
    let mut told = progress(2, 3);
    told.recent = vec![
        firing("c", FiringOutcome::Running, ""),
        firing("b", FiringOutcome::Failed, "may not scale"),
        firing("a", FiringOutcome::Succeeded, ""),
    ];
    parts.progress = Some(told.clone());
    let status = merge(None, &parts, time(1)).expect("status");
    expect(&status, Acting, False, Reason::ActionFailed, "firing b for shop/Pod/web-1: may not scale");
    expect(&status, Ready, True, Reason::InForce, "");

    told.recent.clear();
    told.counts.failed = 1;
    told.last_error = Some(LastError { time: Time(time(3)), place: "actions[grow]".into(), message: "no".into() });
    parts.progress = Some(told);
    let status = merge(None, &parts, time(1)).expect("status");
    expect(&status, Acting, False, Reason::ActionFailed, "actions[grow]: no");
}

#[test]
fn a_transition_time_changes_only_with_the_status_of_its_condition() {
    let first = merge(None, &parts([spec(1)]), time(10)).expect("status");
    let mut now = in_force();
    let second = merge(Some(&first), &now, time(20)).expect("status");
    let since = |status: &EventRuleStatus, type_| condition(status, type_).last_transition_time.0.as_second();
    assert_eq!(since(&second, Ready), 20);
    assert_eq!(since(&second, Acting), 10, "it was True before");
    let mut told = progress(2, 3);
    told.recent = vec![firing("a", FiringOutcome::Succeeded, "")];
    now.progress = Some(told);
    let third = merge(Some(&second), &now, time(30)).expect("status");
    expect(&third, Acting, True, Reason::Succeeded, "");
    assert_eq!(since(&third, Acting), 10, "only the reason changed");
}

#[test]
fn a_restart_takes_nothing_back_before_it_knows_better() {
    let before = merge(None, &in_force(), time(1)).expect("status");
    let mut parts = parts([spec(2)]);
    let now = merge(Some(&before), &parts, time(9)).expect("status");
    assert_eq!(now.conditions, before.conditions);
    let starting = (Unknown, Reason::WatchStarting, "starting".to_owned());
    let authorized = (False, Reason::RightMissing, "grant it".to_owned());
    parts.take(&rule("web"), Part::Account { generation: 2, usable: Ok(()) });
    parts.take(&rule("web"), Part::Sources { generation: 2, listening: starting, authorized });
    let now = merge(Some(&before), &parts, time(9)).expect("status");
    expect(&now, Listening, True, Reason::WatchEstablished, "");
    expect(&now, Authorized, False, Reason::RightMissing, "grant it");
    expect(&now, Ready, False, Reason::RightMissing, "grant it");
    parts.take(&rule("web"), spec(3));
    let now = merge(Some(&before), &parts, time(9)).expect("status");
    expect(&now, Ready, Unknown, Reason::Pending, "");
}

#[test]
fn a_status_is_never_larger_than_sixteen_kibibytes() {
    let mut parts = in_force();
    let mut told = progress(2, 3);
    told.recent = (0..10)
        .map(|index| {
            let mut firing = firing(&format!("f{index}"), FiringOutcome::Failed, &"ü".repeat(2000));
            firing.actions = vec![firing.actions[0].clone(); 16];
            firing
        })
        .collect();
    parts.progress = Some(told);
    let status = merge(None, &parts, time(1)).expect("status");
    assert!(serde_json::to_vec(&status).expect("json").len() <= 16 << 10);
    assert!(!status.recent.is_empty() && status.recent[0].id == "f0", "the oldest are left out");
}

#[test]
fn without_news_of_the_engine_the_counts_stay() {
    let mut before = merge(None, &in_force(), time(1)).expect("status");
    before.counts.fired = 7;
    let status = merge(Some(&before), &parts([spec(3)]), time(2)).expect("status");
    assert_eq!(status.counts.fired, 7);
}

// === The writer ===

struct Bench {
    fake: Fake,
    queue: StatusQueue,
    answer: Arc<AtomicU16>,
    shutdown: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// A writer whose API server answers as `answer` says.
    fn start() -> Self {
        let answer = Arc::new(AtomicU16::new(200));
        let code = answer.clone();
        let fake = Fake::new(move |seen| match code.load(Ordering::SeqCst) {
            200 => (200, json!({"metadata": seen.body["metadata"]})),
            404 => failure(404, "NotFound", "not there"),
            422 => failure(422, "Invalid", "the server rejected our request due to an error in our request"),
            other => failure(other, "Conflict", "again"),
        });
        let (recorder, _writer) = event_channel(fake.client(), "pod", Counter::default());
        let queue = StatusQueue::new(recorder);
        let shutdown = CancellationToken::new();
        let writer = Writer::new(queue.clone(), fake.client(), Arc::new(Metrics::default()));
        let writer = tokio::spawn(writer.run(shutdown.clone()));
        Self { fake, queue, answer, shutdown, writer }
    }

    fn writes(&self) -> Vec<Value> {
        self.fake.requests().into_iter().map(|mut seen| seen.body[1]["value"].take()).collect()
    }

    async fn after(&self, millis: u64) -> usize {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.fake.requests().len()
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_is_one_write_to_this_very_object() {
    let bench = Bench::start();
    let web = rule("web");
    bench.queue.publish(&web, spec(2));
    bench.queue.publish(&web, Part::Account { generation: 2, usable: Ok(()) });
    bench.queue.publish(&web, sources(2));
    bench.queue.progress(&web.uid, progress(2, 1));
    assert_eq!(bench.after(300).await, 1);
    let seen = &bench.fake.requests()[0];
    assert_eq!(seen.method, Method::PATCH);
    assert_eq!(seen.path, "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventrules/web/status");
    assert_eq!(seen.query, "fieldManager=signalbox");
    assert_eq!(seen.headers["content-type"], "application/json-patch+json");
    assert_eq!(seen.body[0], json!({"op": "test", "path": "/metadata/uid", "value": "uid-web"}));
    assert_eq!(seen.body[1]["path"], "/status");
    assert_eq!(seen.body[1]["value"]["counts"]["matched"], 1);
}

#[tokio::test(start_paused = true)]
async fn one_rule_is_written_at_most_every_two_seconds_and_ends_with_the_last() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(2));
    for matched in 0..100 {
        bench.queue.progress(&rule("web").uid, progress(2, matched));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let count = bench.after(3000).await;
    assert!((5..=7).contains(&count), "{count} writes in 10 s");
    assert_eq!(bench.writes().last().expect("a write")["counts"]["matched"], 99);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_or_was_only_seen_is_not_written() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(2));
    bench.queue.progress(&rule("web").uid, progress(2, 1));
    assert_eq!(bench.after(3000).await, 1);
    bench.queue.publish(&rule("web"), spec(2));
    let mut seen = progress(2, 1);
    seen.counts.seen = 50;
    bench.queue.progress(&rule("web").uid, seen.clone());
    assert_eq!(bench.after(10_000).await, 1);
    seen.counts.fired = 1;
    bench.queue.progress(&rule("web").uid, seen);
    assert_eq!(bench.after(3000).await, 2);
    assert_eq!(bench.writes()[1]["counts"]["seen"], 50, "it goes along with something else");
}

#[tokio::test(start_paused = true)]
async fn what_the_api_holds_already_is_not_written_after_a_restart() {
    let bench = Bench::start();
    let parts = in_force();
    let before = merge(None, &parts, time(1)).expect("status");
    bench.queue.progress(&rule("web").uid, progress(2, 0));
    bench.queue.known(&rule("web"), Some(before));
    bench.queue.publish(&rule("web"), spec(2));
    bench.queue.publish(&rule("web"), Part::Account { generation: 2, usable: Ok(()) });
    bench.queue.publish(&rule("web"), sources(2));
    assert_eq!(bench.after(5000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn all_rules_share_a_budget_and_none_is_left_out() {
    let bench = Bench::start();
    for index in 0..200 {
        bench.queue.publish(&rule(&format!("rule-{index}")), spec(1));
    }
    let burst = bench.after(300).await;
    assert!((50..=54).contains(&burst), "{burst} at once");
    let second = bench.after(1000).await - burst;
    assert!((19..=21).contains(&second), "{second} in a second");
    assert_eq!(bench.after(10_000).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_repeated_with_what_is_known_then() {
    let bench = Bench::start();
    bench.answer.store(409, Ordering::SeqCst);
    bench.queue.publish(&rule("web"), spec(1));
    assert_eq!(bench.after(300).await, 1);
    bench.queue.progress(&rule("web").uid, progress(1, 9));
    bench.answer.store(200, Ordering::SeqCst);
    assert_eq!(bench.after(2500).await, 2);
    assert_eq!(bench.writes()[1]["counts"]["matched"], 9);
    assert_eq!(bench.after(60_000).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_or_another_one_is_forgotten() {
    for code in [404, 422] {
        let bench = Bench::start();
        bench.answer.store(code, Ordering::SeqCst);
        bench.queue.publish(&rule("web"), spec(1));
        assert_eq!(bench.after(120_000).await, 1, "answer {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_does_not_fit_is_tried_again_ever_more_seldom() {
    let fake = Fake::new(|_| {
        let (code, mut body) = failure(422, "Invalid", "EventRule \"web\" is invalid: status.recent: Too many");
        body["details"] = json!({"name": "web", "kind": "EventRule", "causes": [{"field": "status.recent"}]});
        (code, body)
    });
    let (recorder, _events) = event_channel(fake.client(), "pod", Counter::default());
    let queue = StatusQueue::new(recorder);
    let shutdown = CancellationToken::new();
    let writer = Writer::new(queue.clone(), fake.client(), Arc::new(Metrics::default()));
    let writer = tokio::spawn(writer.run(shutdown.clone()));
    queue.publish(&rule("web"), spec(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    // At 0.2, 2.2, 6.2, 14.2 and 30.2 s.
    assert_eq!(fake.requests().len(), 5);
    shutdown.cancel();
    writer.await.expect("the writer ends");
}

#[tokio::test(start_paused = true)]
async fn a_removed_rule_is_not_written_whatever_is_said_late() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(1));
    bench.queue.publish(&rule("web"), Part::Removed);
    bench.queue.progress(&rule("web").uid, progress(1, 1));
    bench.queue.publish(&rule("web"), sources(1));
    assert_eq!(bench.after(10_000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_everything_is_written_once_more() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(1));
    assert_eq!(bench.after(300).await, 1);
    bench.queue.progress(&rule("web").uid, progress(1, 5));
    tokio::task::yield_now().await;
    bench.shutdown.cancel();
    bench.writer.await.expect("the writer ends");
    assert_eq!(bench.fake.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sinks_counts_go_on_after_a_restart() {
    let bench = Bench::start();
    let sink = SinkId { uid: "uid-oncall".into(), namespace: "shop".into(), name: "oncall".into() };
    let before = EventSinkStatus { delivered: 40, failed: 2, ..EventSinkStatus::default() };
    bench.queue.known_sink(&sink, Some(before));
    bench.queue.publish_sink(&sink, SinkPart::Spec { generation: 1, ready: good(Reason::InForce) });
    assert_eq!(bench.after(3000).await, 1);
    let status = &bench.writes()[0];
    assert_eq!((&status["delivered"], &status["failed"]), (&json!(40), &json!(2)));
    assert_eq!(status["conditions"][1]["reason"], "NothingSent");

    let error = Some("slack answered 503".to_owned());
    let told = SinkPart::Deliveries { delivered: 3, failed: 1, last: Some(time(9)), error };
    bench.queue.publish_sink(&sink, told);
    assert_eq!(bench.after(3000).await, 2);
    let status = &bench.writes()[1];
    assert_eq!((&status["delivered"], &status["failed"]), (&json!(43), &json!(3)));
    assert_eq!(status["conditions"][1]["reason"], "DeliveryFailed");
    assert_eq!(bench.fake.requests()[1].path, "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventsinks/oncall/status");

    bench
        .queue
        .publish_sink(&sink, SinkPart::Deliveries { delivered: 4, failed: 1, last: Some(time(10)), error: None });
    assert_eq!(bench.after(3000).await, 3);
    assert_eq!(bench.writes()[2]["conditions"][1]["reason"], "Delivered");
}
