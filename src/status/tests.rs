mod near;
mod writing;

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

use super::{board::Subject as _, *};
use crate::{
    api::{
        ActionOutcome, ActionStatus, ConditionType, Counts, EventRef, FiringOutcome, FiringStatus, LastError,
        StatusCondition,
    },
    kubernetes::{
        event_channel,
        fake::{Fake, Seen, failure},
    },
    record::Stopped,
    rule::Trip,
    telemetry::Metrics,
};

fn rule(name: &str) -> RuleRef {
    RuleRef { uid: RuleUid(format!("uid-{name}").into()), namespace: "shop".into(), name: name.into() }
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn spec(generation: i64) -> Part {
    Part::Spec { generation, faults: Vec::new(), suspended: false, timetables: Vec::new() }
}

fn good(reason: Reason) -> Finding {
    (ConditionStatus::True, reason, "well".into())
}

fn sources(generation: i64) -> Part {
    Part::Sources { generation, listening: good(Reason::WatchEstablished), authorized: good(Reason::RightsGranted) }
}

fn progress(generation: i64, matched: u64) -> Progress {
    let counts = Counts { matched, ..Counts::default() };
    Progress { counts, generation: Some(generation), ..Progress::default() }
}

fn firing(id: &str, outcome: FiringOutcome, message: &str) -> FiringStatus {
    let event = EventRef { id: "e/1".into(), type_: "t".into(), source: "/s".into(), subject: None };
    let action = ActionStatus { name: "grow".into(), outcome: ActionOutcome::Failed, message: message.into() };
    FiringStatus {
        kind: Default::default(),
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
fn the_next_instant_is_the_first_of_all_timetables_and_none_of_a_suspended_rule() {
    let sources = json!([{"name": "late", "schedule": {"cron": "30 9 * * *"}}, {"name": "early", "schedule": {"cron": "0 7 * * *"}}]);
    let spec = serde_json::from_value(json!({"sources": sources, "actions": []})).expect("a spec");
    let timetables = crate::rule::timetables(&rule("web"), &spec);
    let next = |suspended, now: &str| {
        let timetables = timetables.clone();
        let parts = parts([Part::Spec { generation: 1, faults: Vec::new(), suspended, timetables }]);
        let status = merge(None, &parts, now.parse().expect("an instant")).expect("status");
        status.next_schedule_time.map(|time| time.0.to_string())
    };
    assert_eq!(next(false, "2027-01-01T06:59:59Z").as_deref(), Some("2027-01-01T07:00:00Z"));
    assert_eq!(next(false, "2027-01-01T07:00:00Z").as_deref(), Some("2027-01-01T09:30:00Z"));
    assert_eq!(next(true, "2027-01-01T07:00:00Z"), None);
}

#[test]
fn what_was_said_about_another_generation_does_not_count() {
    let status = merge(None, &parts([spec(3), sources(2)]), time(1)).expect("status");
    expect(&status, Listening, Unknown, Reason::Pending, "");
    expect(&status, Authorized, Unknown, Reason::Pending, "");
    let late = parts([
        spec(3),
        Part::Spec { generation: 2, faults: vec!["old".into()], suspended: false, timetables: Vec::new() },
    ]);
    assert_eq!(merge(None, &late, time(1)).expect("status").observed_generation, Some(3));
}

#[test]
fn faults_are_all_told_and_the_version_that_judges_meanwhile() {
    let faults: Vec<String> = (0..3).map(|index| format!("spec.when[{index}].expression:1:1: no")).collect();
    let mut parts = parts([Part::Spec { generation: 2, faults, suspended: false, timetables: Vec::new() }]);
    parts.progress = Some(progress(1, 0));
    let status = merge(None, &parts, time(1)).expect("status");
    for part in ["spec.when[0]", "spec.when[2].expression:1:1: no", "generation 1 judges until then"] {
        expect(&status, Ready, False, Reason::InvalidSpec, part);
    }
    expect(&status, Listening, Unknown, Reason::Pending, "faults");

    let faults = (0..100).map(|index| format!("spec.when[{index}].expression:1:1: {}", "x".repeat(40))).collect();
    parts.take(&rule("web"), Part::Spec { generation: 3, faults, suspended: false, timetables: Vec::new() });
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
fn what_the_api_server_would_refuse_is_told_of_this_spec_and_heals() {
    let mut parts = in_force();
    let told = |refused: Option<&str>| {
        let fails = refused.map(|why| Foreseen::Refused(why.to_owned()));
        Part::Rehearsed { generation: 2, fails }
    };
    parts.take(&rule("web"), told(Some("action run: no containers")));
    let status = merge(None, &parts, time(1)).expect("status");
    let acting = status.conditions.iter().find(|one| one.type_ == Acting).expect("Acting");
    assert_eq!((acting.status, acting.reason), (False, Reason::ManifestRefused));
    assert!(acting.message.contains("action run: no containers; mend it"), "{}", acting.message);
    parts.take(&rule("web"), Part::Rehearsed { generation: 1, fails: None });
    assert_eq!(parts.rehearsed.as_ref().map(|known| known.0), Some(2), "what is said of an older spec is late");
    parts.take(&rule("web"), told(None));
    let healed = merge(None, &parts, time(1)).expect("status");
    let fails = Some(Foreseen::WithoutSink("action tell: there is no EventSink oncal".to_owned()));
    parts.take(&rule("web"), Part::Rehearsed { generation: 2, fails });
    let status = merge(None, &parts, time(1)).expect("status");
    let acting = status.conditions.iter().find(|one| one.type_ == Acting).expect("Acting");
    assert_eq!((acting.status, acting.reason), (False, Reason::SinkNotFound));
    assert!(acting.message.contains("would fail: action tell: there is no EventSink oncal"), "{}", acting.message);
    assert!(healed.conditions.iter().any(|one| one.type_ == Acting && one.status == True));
}

#[test]
fn a_suspended_rule_says_so() {
    let mut parts = in_force();
    parts.take(&rule("web"), Part::Spec { generation: 2, faults: Vec::new(), suspended: true, timetables: Vec::new() });
    expect(&merge(None, &parts, time(1)).expect("status"), Ready, False, Reason::Suspended, "suspend");
}

#[test]
fn acting_tells_about_the_last_firing_that_ended() {
    let mut parts = in_force();
    let mut told = progress(2, 3);
    told.recent = [
        firing("c", FiringOutcome::Running, ""),
        firing("b", FiringOutcome::Failed, "may not scale"),
        firing("a", FiringOutcome::Succeeded, ""),
    ]
    .map(Arc::new)
    .into();
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
fn a_rule_whose_firings_keep_events_waiting_says_so_until_they_do_not() {
    let mut all = in_force();
    all.take(&rule("web"), Part::Backlog(Some(99_000)));
    let status = merge(None, &all, time(10)).expect("a status");
    for part in ["99000 firings", "none is lost", "limits.openFirings"] {
        expect(&status, ConditionType::Acting, ConditionStatus::False, Reason::Backlog, part);
    }
    all.take(&rule("web"), Part::Backlog(None));
    let status = merge(Some(&status), &all, time(11)).expect("a status");
    expect(&status, ConditionType::Acting, ConditionStatus::True, Reason::NoFailures, "");
}

#[test]
fn a_rule_that_runs_away_says_so_and_what_to_do_until_it_has_recovered() {
    let mut all = in_force();
    let slowed =
        Slowed { whose: Whose::Group, group: "shop/Deployment/web".into(), limit: 120, until: time(1_800_000_000) };
    all.take(&rule("web"), Part::Slowed(Some(slowed)));
    let status = merge(None, &all, time(10)).expect("a status");
    for part in [
        "shop/Deployment/web fires more than 120 times",
        "2027-01-15T08:00:00Z",
        "throttle.cooldown",
        "limits.firingsPerMinute",
    ] {
        expect(&status, ConditionType::Acting, ConditionStatus::False, Reason::RunawayRule, part);
    }
    expect(&status, ConditionType::Ready, ConditionStatus::True, Reason::InForce, "in force");
    let of_all = Slowed { whose: Whose::Namespace, group: "g".into(), limit: 50, until: time(1_800_000_000) };
    all.take(&rule("web"), Part::Slowed(Some(of_all)));
    let status = merge(None, &all, time(0)).expect("a status");
    for part in ["limits.firingsPerHour.namespace", "50 firings an hour", "2027-01-15T08:00:00Z"] {
        expect(&status, ConditionType::Acting, ConditionStatus::False, Reason::LimitReached, part);
    }
    all.take(&rule("web"), Part::Slowed(None));
    let status = merge(Some(&status), &all, time(11)).expect("a status");
    expect(&status, ConditionType::Acting, ConditionStatus::True, Reason::NoFailures, "");
}

#[test]
fn a_rule_that_is_tripped_or_stopped_says_until_when_and_what_to_do() {
    let mut all = in_force();
    let at = |seconds: i64| crate::clock::Stamp { at: 0, wall: seconds * 1_000_000 };
    let trip = Trip { failures: 5, why: "no such host".into(), until: Some(at(1_800_000_000)) };
    all.progress = Some(Progress { tripped: Some(trip.clone()), ..progress(2, 3) });
    let status = merge(None, &all, time(10)).expect("a status");
    for part in ["5 firings in a row", "until 2027-01-15T08:00:00Z", "no such host", "replay"] {
        expect(&status, ConditionType::Acting, ConditionStatus::False, Reason::Tripped, part);
    }
    all.progress = Some(Progress { tripped: Some(Trip { until: None, ..trip }), ..progress(2, 3) });
    let status = merge(Some(&status), &all, time(11)).expect("a status");
    expect(&status, ConditionType::Acting, ConditionStatus::False, Reason::Tripped, "the next firing is a trial");

    let stopped = Stopped { since: at(1_800_000_000), by: "ConfigMap a/b".into(), why: "a drill".into() };
    all.progress = Some(Progress { stopped: Some(stopped), ..all.progress.take().expect("told") });
    let status = merge(Some(&status), &all, time(12)).expect("a status");
    for part in ["ConfigMap a/b", "2027-01-15T08:00:00Z (a drill)", "suppressed.stopped"] {
        expect(&status, ConditionType::Acting, ConditionStatus::False, Reason::Stopped, part);
    }
    expect(&status, ConditionType::Ready, ConditionStatus::True, Reason::InForce, "in force");
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
    told.recent = vec![Arc::new(firing("a", FiringOutcome::Succeeded, ""))];
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
            let [id, type_, source] = [(); 3].map(|()| "e".repeat(4096));
            firing.event = EventRef { id, type_, source, subject: Some("s".repeat(4096)) };
            Arc::new(firing)
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
