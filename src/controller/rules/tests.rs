use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::*;
use crate::api::{ConditionStatus, Reason};
use crate::controller::testing::{Site, Statuses, condition, object};

fn rule(generation: i64, change: Value) -> Object {
    let mut spec = json!({
        "serviceAccountName": "ops",
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}}],
    });
    for (key, value) in change.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    object(json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "spec": spec,
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "generation": generation}}))
}

fn known(generation: i64) -> Known {
    let spec = decode::spec(&rule(generation, json!({}))).expect("a spec");
    let rule = RuleRef { uid: RuleUid("u1".into()), namespace: "shop".into(), name: "web".into() };
    Known { rule, generation, in_force: true, spec: Arc::new(spec), silences: Vec::new() }
}

fn controller(site: &Site, known: impl IntoIterator<Item = Known>) -> (Rules, Statuses) {
    let status = site.status();
    let bus: Arc<dyn Bus> = Arc::new(site.clone());
    let rules =
        Rules::new(site.services(), bus, Arc::new(site.clone()), status.queue.clone(), known, site.synced.clone());
    (rules, status)
}

fn uids(of: &[&str]) -> HashSet<String> {
    of.iter().map(|uid| (*uid).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_rule_is_put_before_it_is_listened_to() {
    let site = Site::with_account("ops");
    let (mut rules, status) = controller(&site, []);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    assert_eq!(site.done(), ["RulePut web 1", "set web 1 as ops fresh"]);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    assert_eq!(site.done(), [""; 0], "nothing has changed");
    rules.apply(rule(2, json!({"suspend": true}))).await.expect("apply");
    assert_eq!(site.done(), ["RulePut web 2", "set web 2 as ops fresh"]);
    let status = status.of("web").await;
    assert_eq!(
        (&status["observedGeneration"], &condition(&status, "Ready")["reason"]),
        (&json!(2), &json!("Suspended"))
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_known_version_is_not_put_again_and_not_fresh() {
    let site = Site::with_account("ops");
    let (mut rules, _status) = controller(&site, [known(3)]);
    rules.apply(rule(3, json!({}))).await.expect("apply");
    rules.listed(&uids(&["u1"])).await.expect("listed");
    assert_eq!(site.done(), ["set web 3 as ops", "settled"]);
    assert!(site.synced.get());
    rules.listed(&uids(&["u1"])).await.expect("listed");
    assert_eq!(site.done(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_went_while_we_were_away_is_removed_by_the_first_list() {
    let site = Site::with_account("ops");
    let (mut rules, _status) = controller(&site, [known(3)]);
    rules.listed(&uids(&[])).await.expect("listed");
    assert_eq!(site.done(), ["remove u1", "RuleRemove u1", "settled"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_rule_is_removed() {
    let site = Site::with_account("ops");
    let (mut rules, status) = controller(&site, []);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    site.done();
    rules.gone("u1").await.expect("gone");
    assert_eq!(site.done(), ["remove u1", "RuleRemove u1"]);
    assert_eq!(status.of("web").await, Value::Null, "its status is not written any more");
}

#[tokio::test(start_paused = true)]
async fn a_version_with_faults_leaves_the_one_before_in_force_and_tells_every_fault() {
    let site = Site::with_account("ops");
    let (mut rules, status) = controller(&site, []);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    site.done();
    let when = json!([{"name": "a", "expression": "evnt.type == 'x'"}, {"name": "b", "expression": "1 +"}]);
    rules.apply(rule(2, json!({"when": when}))).await.expect("apply");
    assert_eq!(site.done(), [""; 0]);
    let status_now = status.of("web").await;
    let ready = condition(&status_now, "Ready");
    assert_eq!((&ready["reason"], &status_now["observedGeneration"]), (&json!("InvalidSpec"), &json!(2)));
    for place in ["spec.when[0].expression:1:", "spec.when[1].expression:1:"] {
        assert!(ready["message"].as_str().expect("message").contains(place), "{ready}");
    }

    rules.apply(rule(3, json!({"throttle": {"cooldown": "7d"}}))).await.expect("apply");
    let status_now = status.of("web").await;
    let message = condition(&status_now, "Ready")["message"].to_string();
    assert!(message.contains("spec.throttle.cooldown") && message.contains("168h"), "{message}");
    assert_eq!(site.done(), [""; 0]);

    rules.apply(rule(4, json!({}))).await.expect("apply");
    assert_eq!(site.done(), ["RulePut web 4", "set web 4 as ops fresh"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_version_before_one_with_faults_is_listened_to_again() {
    let site = Site::with_account("ops");
    let (mut rules, _status) = controller(&site, [known(3)]);
    rules.apply(rule(4, json!({"when": [{"name": "b", "expression": "1 +"}]}))).await.expect("apply");
    assert_eq!(site.done(), ["set web 3 as ops"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_rule_waits_for_its_account_and_starts_when_it_is_labelled() {
    let site = Site::default();
    let (mut rules, status) = controller(&site, []);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    assert_eq!(site.done(), ["remove u1"]);
    assert_eq!(condition(&status.of("web").await, "Authorized")["reason"], "AccountNotFound");

    site.accounts.lock().insert("ops".into(), None);
    tokio::time::advance(UNUSABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(condition(&status.of("web").await, "Authorized")["reason"], "AccountNotUsable");
    site.done();

    site.accounts.lock().insert("ops".into(), Some("true"));
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), [""; 0], "not looked at again before ten seconds");
    tokio::time::advance(UNUSABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["RulePut web 1", "set web 1 as ops fresh"]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_whose_account_loses_its_label_is_silenced_and_comes_back() {
    let site = Site::with_account("ops");
    let (mut rules, _status) = controller(&site, []);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    site.done();
    site.accounts.lock().insert("ops".into(), None);
    tokio::time::advance(USABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["remove u1", "Deaf u1 1 crash"]);
    for again in [&["remove u1", "Deaf u1 1 crash"][..], &["remove u1"]] {
        tokio::time::advance(UNUSABLE).await;
        rules.tick().await.expect("tick");
        assert_eq!(site.done(), again);
    }
    site.accounts.lock().insert("ops".into(), Some("true"));
    tokio::time::advance(UNUSABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["set web 1 as ops"], "the version is known already");
}

#[tokio::test(start_paused = true)]
async fn a_rule_of_an_unlabelled_account_is_in_force_just_as_long_as_authors_are_checked() {
    let site = Site::default();
    site.accounts.lock().insert("ops".into(), None);
    site.policy.store(true, Ordering::SeqCst);
    let (mut rules, status) = controller(&site, []);
    rules.tick().await.expect("tick");
    rules.apply(rule(1, json!({}))).await.expect("apply");
    assert_eq!(site.done(), ["RulePut web 1", "set web 1 as ops fresh"]);

    site.policy.store(false, Ordering::SeqCst);
    tokio::time::advance(AUTHORS).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["remove u1", "Deaf u1 1 crash"]);
    let status_now = status.of("web").await;
    let authorized = condition(&status_now, "Authorized");
    assert_eq!(authorized["reason"], "AccountNotUsable");
    let message = authorized["message"].as_str().expect("message");
    assert!(message.contains("signalbox-accounts does not exist"), "{message}");

    site.policy.store(true, Ordering::SeqCst);
    tokio::time::advance(AUTHORS).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["set web 1 as ops"], "before the ten seconds of an account that may not be used");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_an_action_needs_is_told_before_anything_happens_and_heals() {
    let site = Site::with_account("ops");
    site.denied.lock().push("jobs");
    let (mut rules, status) = controller(&site, []);
    let run = json!([{"name": "run", "job": {"ttl": "1h", "script": {"image": "i", "run": "true"}}}]);
    rules.apply(rule(1, json!({"actions": run}))).await.expect("apply");
    assert_eq!(site.done(), ["RulePut web 1", "set web 1 as ops fresh"], "nothing waits for it");
    rules.tick().await.expect("tick");
    let listening = (ConditionStatus::True, Reason::WatchEstablished, String::new());
    let authorized = (ConditionStatus::True, Reason::RightsGranted, String::new());
    let web = RuleRef { uid: RuleUid("u1".into()), namespace: "shop".into(), name: "web".into() };
    status.queue.publish(&web, Part::Sources { generation: 1, listening, authorized });
    let told = status.of("web").await;
    let told = condition(&told, "Authorized");
    assert_eq!((&told["status"], &told["reason"]), (&json!("False"), &json!("RightMissing")));
    let message = told["message"].as_str().expect("message");
    for part in [
        "shop/ops may not create, get, patch jobs.batch in namespace shop",
        "kubectl create role ",
        "kubectl create rolebinding ",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }

    site.denied.lock().clear();
    tokio::time::advance(Duration::from_secs(10)).await;
    rules.tick().await.expect("tick");
    assert_eq!(condition(&status.of("web").await, "Authorized")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_silences_nobody() {
    let site = Site::with_account("ops");
    let (mut rules, status) = controller(&site, []);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    site.done();
    site.away.store(true, Ordering::SeqCst);
    tokio::time::advance(USABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), [""; 0]);
    rules.apply(rule(2, json!({}))).await.expect("apply");
    assert_eq!(site.done(), [""; 0], "a new version waits");
    site.away.store(false, Ordering::SeqCst);
    assert_eq!(condition(&status.of("web").await, "Authorized")["status"], "Unknown");
    tokio::time::advance(UNUSABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["RulePut web 2", "set web 2 as ops fresh"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for() {
    let site = Site::with_account("ops");
    let (mut rules, _status) = controller(&site, []);
    site.full.store(true, Ordering::SeqCst);
    rules.apply(rule(1, json!({}))).await.expect("apply");
    assert_eq!(site.done(), [""; 0]);
    site.full.store(false, Ordering::SeqCst);
    tokio::time::advance(UNUSABLE).await;
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["RulePut web 1", "set web 1 as ops fresh"]);

    site.full.store(true, Ordering::SeqCst);
    rules.gone("u1").await.expect("gone");
    site.full.store(false, Ordering::SeqCst);
    site.done();
    rules.tick().await.expect("tick");
    assert_eq!(site.done(), ["remove u1", "RuleRemove u1"]);
}

/// The rule with annotations.
fn annotated(generation: i64, annotations: Value) -> Object {
    let spec = json!({
        "serviceAccountName": "ops",
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}}],
    });
    object(json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "spec": spec,
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "generation": generation, "annotations": annotations}}))
}

#[tokio::test(start_paused = true)]
async fn silences_are_told_before_the_rule_judges_and_when_they_change_and_what_is_wrong_with_one_is_said() {
    let site = Site::with_account("ops");
    site.policy.store(true, Ordering::SeqCst);
    let (mut rules, status) = controller(&site, []);
    let text = |more: &str| format!(r#"{{"author":"jane","until":"2099-01-01T00:00:00Z"{more}}}"#);
    let over = r#"{"author":"jane","until":"2020-01-01T00:00:00Z"}"#;
    let wrong = text(r#","expression":"group.nobody == 'x'""#);
    let all = json!({"silence.signalbox.dev/move": text(""), "silence.signalbox.dev/over": over, "other": "x",
        "silence.signalbox.dev/wrong": wrong, "silence.signalbox.dev/odd": "tomorrow"});
    rules.apply(annotated(1, all.clone())).await.expect("apply");
    let done = site.done();
    assert_eq!((done.len(), &*done[0], &*done[2]), (3, "RulePut web 1", "set web 1 as ops fresh"), "{done:?}");
    assert!(done[1].contains("Silences") && done[1].contains("\"move\"") && !done[1].contains("over"), "{done:?}");
    assert!(!done[1].contains("wrong") && !done[1].contains("odd"), "{done:?}");
    rules.apply(annotated(1, all)).await.expect("apply");
    assert_eq!(site.done(), [""; 0], "nothing has changed");
    let told = status.of("web").await["silences"].clone();
    let names: Vec<_> =
        told.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["move", "odd", "wrong"], "what is in force comes first: {told}");
    assert_eq!((&told[0]["author"], &told[0]["message"]), (&json!("jane"), &Value::Null));
    assert!(told[1]["message"].as_str().expect("why").contains("kubectl signalbox silence"), "{told}");
    assert!(told[2]["message"].as_str().expect("why").starts_with("expression: 1:"), "{told}");
    // Taken away, with the log full for a while.
    site.full.store(true, Ordering::SeqCst);
    rules.apply(annotated(1, json!({}))).await.expect("apply");
    assert_eq!(site.done(), [""; 0]);
    site.full.store(false, Ordering::SeqCst);
    tokio::time::advance(UNUSABLE).await;
    rules.tick().await.expect("tick");
    let done = site.done();
    assert!(done.iter().any(|line| line.contains("Silences") && line.contains("silences: []")), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_silences_are_in_force_than_there_may_be() {
    let site = Site::with_account("ops");
    site.policy.store(true, Ordering::SeqCst);
    let (mut rules, _status) = controller(&site, []);
    let one = |number: usize| {
        (format!("silence.signalbox.dev/s{number:02}"), json!(r#"{"author":"a","until":"2099-01-01T00:00:00Z"}"#))
    };
    let all: serde_json::Map<_, _> = (0..=crate::api::MAX_SILENCES).map(one).collect();
    rules.apply(annotated(1, Value::Object(all))).await.expect("apply");
    let told = site.done()[1].clone();
    assert!(told.contains("\"s15\"") && !told.contains("\"s16\""), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_in_force_only_while_it_is_checked_who_writes_it_and_stays_while_that_cannot_be_told() {
    let site = Site::with_account("ops");
    let (mut rules, status) = controller(&site, []);
    let text = r#"{"author":"jane","until":"2099-01-01T00:00:00Z"}"#;
    let look = async |rules: &mut Rules| {
        tokio::time::advance(UNUSABLE).await;
        rules.tick().await.expect("tick");
        site.done().into_iter().filter(|line| line.contains("Silences")).collect::<Vec<_>>()
    };
    let one = json!({"silence.signalbox.dev/move": text});
    rules.apply(annotated(1, one)).await.expect("apply");
    assert!(!site.done().iter().any(|line| line.contains("Silences")), "nobody has checked who wrote it");
    let told = status.of("web").await["silences"].clone();
    let message = told[0]["message"].as_str().expect("why");
    assert!(message.starts_with("nobody checks who silences, so nothing is silenced: "), "{message}");
    assert!(look(&mut rules).await.is_empty());

    site.policy.store(true, Ordering::SeqCst);
    let done = look(&mut rules).await;
    assert!(matches!(&*done, [told] if told.contains("\"move\"")), "{done:?}");

    // What is written while nobody can be asked waits; what was in force stays, and can be ended.
    site.away.store(true, Ordering::SeqCst);
    tokio::time::advance(UNUSABLE).await;
    let two = json!({"silence.signalbox.dev/move": text, "silence.signalbox.dev/new": text});
    rules.apply(annotated(1, two)).await.expect("apply");
    assert_eq!(site.done(), [""; 0]);
    rules.apply(annotated(1, json!({"silence.signalbox.dev/new": text}))).await.expect("apply");
    let done = site.done();
    assert!(matches!(&*done, [told] if told.contains("silences: []")), "{done:?}");
    site.away.store(false, Ordering::SeqCst);
    let done = look(&mut rules).await;
    assert!(matches!(&*done, [told] if told.contains("\"new\"")), "{done:?}");

    site.policy.store(false, Ordering::SeqCst);
    let done = look(&mut rules).await;
    assert!(matches!(&*done, [told] if told.contains("silences: []")), "{done:?}");
}
