use std::collections::{BTreeMap, HashMap};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    actions::{Attempt, Context, Done, Failure, FailureKind, testing},
    api::{ActionOutcome, EventRuleSpec, FiringOutcome},
    bus::{Permit, Reader, Recovery, Stats},
    clock::Stamp,
    kubernetes::fake::Fake,
    record::{Delta, Firing, FiringId, Head, LogId, Position, Record, RuleRef, Step},
    rule::compile,
};

/// What happened, in order.
type Story = Arc<Mutex<Vec<String>>>;

/// A log in memory, which is durable at once.
struct MemoryBus {
    id: LogId,
    story: Story,
    records: Mutex<Vec<Record>>,
    /// What [`Bus::record`] answers next instead of appending.
    troubles: Mutex<Vec<BusError>>,
}

impl Bus for MemoryBus {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(async move { self.record(record) })
    }

    fn record(&self, record: Record) -> Result<Head, BusError> {
        if let Some(trouble) = self.troubles.lock().pop() {
            return Err(trouble);
        }
        match &record {
            Record::Intent(intent) => self.story.lock().push(format!("intent {} {}", intent.action, intent.rendering)),
            Record::Outcome(outcome) => {
                self.story.lock().push(format!("outcome {} {:?}", outcome.action, outcome.outcome))
            }
            _ => {}
        }
        let mut records = self.records.lock();
        records.push(record);
        Ok(Head { position: Position(records.len() as u64), stamp: Stamp::default() })
    }

    fn durable(&self, _: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(async {
            self.story.lock().push("durable".into());
            Ok(Permit::for_test())
        })
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        None
    }

    fn recover(&self) -> Result<Recovery, BusError> {
        Ok(Recovery::default())
    }

    fn commit(&self, _: Delta, _: Position) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What the actions of a test do, by name: the attempts' results in order, the last one for ever.
type Script = Arc<Mutex<HashMap<String, Vec<Play>>>>;

#[derive(Clone)]
enum Play {
    Succeed,
    Fail(FailureKind),
    Hang,
    Panic,
    After(Duration),
}

struct Actor {
    name: String,
    script: Script,
    story: Story,
}

/// The sink `s` is no target; every other is one.
fn target_of(sink: &Value) -> Option<String> {
    sink.as_str().filter(|name| *name != "s").map(str::to_owned)
}

impl Action for Actor {
    fn target(&self, _: &str, filled: &Value) -> Option<String> {
        target_of(&filled["sinkRef"]["name"])
    }

    fn target_again(&self, _: &str, request: &Value) -> Option<String> {
        target_of(&request["target"])
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("render {}", self.name));
            Ok(json!({"firing": cx.firing, "text": filled["text"], "target": filled["sinkRef"]["name"]}))
        })
    }

    fn execute<'a>(
        &'a self,
        _: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        _: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!(
                "execute {} {attempt:?} {}",
                self.name,
                request["text"].as_str().unwrap_or("?")
            ));
            let play = {
                let mut script = self.script.lock();
                match script.get_mut(&self.name) {
                    Some(plays) if plays.len() > 1 => plays.remove(0),
                    Some(plays) => plays[0].clone(),
                    None => Play::Succeed,
                }
            };
            match play {
                Play::Succeed => {}
                Play::Fail(kind) => return Err(Failure { kind, message: "it failed".into() }),
                Play::Hang => std::future::pending().await,
                Play::Panic => Vec::new().pop().expect("the actor fell"),
                Play::After(time) => tokio::time::sleep(time).await,
            }
            self.story.lock().push(format!("done {}", self.name));
            let result = json!({"n": 7});
            Ok(Done { outcome: ActionOutcome::Succeeded, message: format!("did {}", self.name), result, effect: None })
        })
    }

    fn settles(&self, _: &Value) -> bool {
        self.name == "settling"
    }

    fn settle<'a>(
        &'a self,
        _: &'a Context,
        _: &'a Value,
        result: &'a Value,
        _: Permit,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("settle {result}"));
            Ok(())
        })
    }
}

struct Stage {
    runner: Runner,
    bus: Arc<MemoryBus>,
    story: Story,
}

impl Stage {
    fn new(plays: &[(&str, &[Play])]) -> Self {
        let story = Story::default();
        let script: Script =
            Arc::new(Mutex::new(plays.iter().map(|(name, plays)| ((*name).to_owned(), plays.to_vec())).collect()));
        let bus = Arc::new(MemoryBus {
            id: LogId("log".into()),
            story: story.clone(),
            records: Mutex::default(),
            troubles: Mutex::default(),
        });
        let (names, told) = (script, story.clone());
        let build = move |spec: &api::Action| -> Option<Box<dyn Action>> {
            Some(Box::new(Actor { name: spec.name.clone(), script: names.clone(), story: told.clone() }))
        };
        let fake = Fake::new(|_| (500, json!({})));
        let runner = Runner::with_build(testing::services(&fake), bus.clone(), Box::new(build));
        Self { runner, bus, story }
    }

    fn start(&self, open: OpenFiring) {
        let rule = compile(&open.firing.rule, open.firing.generation, &open.spec).expect("a rule");
        self.runner.start(open, rule);
    }

    /// Waits, in paused time, until so many firings have ended.
    async fn ended(&self, many: usize) -> Vec<crate::record::Finished> {
        let limit = Instant::now() + Duration::from_secs(1_000_000);
        loop {
            let ended: Vec<_> = self
                .bus
                .records
                .lock()
                .iter()
                .filter_map(
                    |record| if let Record::Finished(finished) = record { Some(finished.clone()) } else { None },
                )
                .collect();
            if ended.len() >= many {
                return ended;
            }
            assert!(Instant::now() < limit, "only {ended:?}; {:?}", self.story.lock());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn told(&self) -> Vec<String> {
        self.story.lock().clone()
    }

    fn outcomes(&self) -> Vec<(String, ActionOutcome, String)> {
        let records = self.bus.records.lock();
        records
            .iter()
            .filter_map(|record| match record {
                Record::Outcome(outcome) => Some((outcome.action.clone(), outcome.outcome, outcome.message.clone())),
                _ => None,
            })
            .collect()
    }
}

fn action(name: &str, more: Value) -> Value {
    let mut action = json!({"name": name, "notify": {"sinkRef": {"name": "s"}, "text": "${event.data.message}"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        action[key] = value.clone();
    }
    action
}

/// An action on a target that others may want too.
fn action_on(target: &str, name: &str) -> Value {
    action(name, json!({"notify": {"sinkRef": {"name": target}, "text": "${event.data.message}"}}))
}

fn firing(rule: &str, group: &str, id: &str, actions: &[Value]) -> OpenFiring {
    let spec: EventRuleSpec = serde_json::from_value(json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"types": ["Warning"]}}],
        "actions": actions,
    }))
    .expect("a spec");
    let event = crate::event::Event { data: json!({"message": id}), ..testing::event() };
    OpenFiring {
        firing: Firing {
            id: FiringId(id.into()),
            rule: RuleRef { uid: RuleUid(rule.into()), namespace: "shop".into(), name: rule.into() },
            generation: 1,
            source: "crash".into(),
            group: group.into(),
            input: Position(1),
            stamp: Stamp::default(),
        },
        event: Arc::new(event),
        spec: Arc::new(spec),
        steps: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_action_is_rendered_recorded_made_durable_and_only_then_carried_out() {
    let stage = Stage::new(&[]);
    stage.start(firing(
        "r",
        "g",
        "f1",
        &[action("one", json!({})), action("two", json!({"ifExpression": "actions.one.n == 7"}))],
    ));
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(
        (ended.outcome, ended.message.as_str(), ended.failed_at),
        (FiringOutcome::Succeeded, "did one; did two", None)
    );
    assert_eq!(
        stage.told(),
        [
            "render one",
            "intent one 0",
            "durable",
            "execute one First f1",
            "done one",
            "outcome one Succeeded",
            "render two",
            "intent two 0",
            "durable",
            "execute two First f1",
            "done two",
            "outcome two Succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn firings_of_one_group_run_in_order_and_of_others_side_by_side() {
    let stage = Stage::new(&[("slow", &[Play::After(Duration::from_secs(5))])]);
    let before = Instant::now();
    for (group, id) in [("g", "f1"), ("g", "f2"), ("g", "f3"), ("h", "f4")] {
        stage.start(firing("r", group, id, &[action("slow", json!({}))]));
    }
    let ended = stage.ended(4).await;
    let order: Vec<_> = ended.iter().map(|ended| ended.firing.0.to_string()).filter(|id| id != "f4").collect();
    assert_eq!(order, ["f1", "f2", "f3"]);
    assert_eq!(before.elapsed().as_secs(), 15, "f4 did not wait for them");
    let begun: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(begun[0], "execute slow First f1");
    assert!(begun[1].ends_with("f4"), "{begun:?}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_holds_up_its_own_rule_only() {
    let stage = Stage::new(&[("hang", &[Play::Hang])]);
    for n in 0..40 {
        stage.start(firing("stuck", &format!("g{n}"), &format!("s{n}"), &[action("hang", json!({}))]));
    }
    stage.start(firing("well", "g", "f", &[action("fine", json!({}))]));
    let ended = stage.ended(1).await;
    assert_eq!(&*ended[0].firing.0, "f");
    let hanging = stage.told().iter().filter(|told| told.starts_with("execute hang")).count();
    assert_eq!((hanging, stage.runner.waiting()), (FIRINGS_PER_RULE, 40 - FIRINGS_PER_RULE));
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_repeated_with_growing_waits_and_the_same_request() {
    let failed = Play::Fail(FailureKind::Retryable { after: None });
    let told_when = Play::Fail(FailureKind::Retryable { after: Some(Duration::from_secs(90)) });
    let stage = Stage::new(&[("a", &[failed.clone(), failed, told_when, Play::Succeed])]);
    let before = Instant::now();
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    let took = before.elapsed().as_secs_f64();
    assert!((91.5..=93.5).contains(&took), "0.5-1 s, 1-2 s, 90 s: {took}");
    let told = stage.told();
    assert_eq!(told.iter().filter(|told| told.starts_with("render")).count(), 1);
    let attempts: Vec<_> = told.iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(attempts, ["execute a First f", "execute a Again f", "execute a Again f", "execute a Again f"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_an_answer_ends_with_its_timeout_and_is_repeated_as_one_that_may_have_worked() {
    let stage = Stage::new(&[("a", &[Play::Hang, Play::Succeed])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({"timeout": "3s"}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert!(stage.told().contains(&"execute a Again f".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_asks_for_a_fresh_request_unless_an_attempt_may_have_worked() {
    let stage =
        Stage::new(&[("a", &[Play::Fail(FailureKind::Conflict), Play::Fail(FailureKind::Conflict), Play::Succeed])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({"retry": {"limit": 0}}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    let intents: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("intent")).collect();
    assert_eq!(intents, ["intent a 0", "intent a 1", "intent a 2"]);

    let retryable = Play::Fail(FailureKind::Retryable { after: None });
    let stage = Stage::new(&[("a", &[retryable, Play::Fail(FailureKind::Conflict), Play::Succeed])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);
    assert_eq!(stage.told().iter().filter(|told| told.starts_with("intent")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn conflicts_without_end_fail() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Conflict)])]);
    stage.start(firing("r", "g", "f", &[action("a", json!({"retry": {"limit": 2}}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Failed);
    assert_eq!(stage.told().iter().filter(|told| told.starts_with("intent")).count(), 23);
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_stops_the_firing_or_lets_it_go_on() {
    for (on_error, after) in [("Stop", 0), ("Continue", 1)] {
        let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Final)])]);
        stage.start(firing("r", "g", "f", &[action("a", json!({"onError": on_error})), action("b", json!({}))]));
        let ended = stage.ended(1).await.remove(0);
        assert_eq!((ended.outcome, ended.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[a]")));
        assert_eq!(ended.message, "it failed");
        assert_eq!(stage.told().iter().filter(|told| told.starts_with("execute a")).count(), 1, "not repeated");
        assert_eq!(stage.told().iter().filter(|told| told.starts_with("execute b")).count(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_have_an_end_and_the_next_firing_of_the_group_runs() {
    let stage = Stage::new(&[("a", &[Play::Fail(FailureKind::Retryable { after: None })])]);
    stage.start(firing("r", "g", "f1", &[action("a", json!({"retry": {"limit": 2}}))]));
    stage.start(firing("r", "g", "f2", &[action("b", json!({}))]));
    let ended = stage.ended(2).await;
    assert_eq!((ended[0].outcome, ended[0].message.as_str()), (FiringOutcome::Failed, "it failed (after 3 attempts)"));
    assert_eq!(ended[1].outcome, FiringOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_action_and_nothing_else() {
    let stage = Stage::new(&[("a", &[Play::Panic])]);
    stage.start(firing("r", "g", "f1", &[action("a", json!({}))]));
    stage.start(firing("r", "g", "f2", &[action("b", json!({}))]));
    let ended = stage.ended(2).await;
    assert_eq!(ended[0].message, "this is a fault of signalbox, please report it: the actor fell");
    assert_eq!(ended[1].outcome, FiringOutcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn conditions_skip_and_their_errors_fail() {
    let stage = Stage::new(&[]);
    let actions = [
        action("a", json!({"ifExpression": "event.data.message == 'other'"})),
        action("b", json!({"ifExpression": "event.data.absent > 3", "onError": "Continue"})),
        action("c", json!({"notify": {"sinkRef": {"name": "s"}, "text": "${event.data.absent}"}})),
    ];
    stage.start(firing("r", "g", "f", &actions));
    stage.ended(1).await;
    let outcomes = stage.outcomes();
    assert_eq!(
        (outcomes[0].1, outcomes[1].1, outcomes[2].1),
        (ActionOutcome::Skipped, ActionOutcome::Failed, ActionOutcome::Failed)
    );
    assert!(outcomes[1].2.starts_with("ifExpression: "), "{outcomes:?}");
    assert!(outcomes[2].2.contains("spec.actions[2].notify.text"), "{outcomes:?}");
    assert!(!stage.told().iter().any(|told| told.starts_with("execute")));
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_name_comes_from_nothing_is_no_target() {
    let stage = Stage::new(&[]);
    let scale =
        json!({"name": "a", "scale": {"to": 1, "target": {"kind": "Deployment", "name": "${event.data.absent}"}}});
    stage.start(firing("r", "g", "f", &[scale]));
    let ended = stage.ended(1).await.remove(0);
    assert!(ended.message.starts_with("no target: "), "{}", ended.message);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_action_is_carried_out_again_and_never_rendered_again() {
    let stage = Stage::new(&[]);
    let mut open = firing(
        "r",
        "g",
        "f",
        &[action("a", json!({})), action("b", json!({"ifExpression": "false"})), action("c", json!({}))],
    );
    let step = Step {
        intent: Some((0, json!({"text": "a"}))),
        outcome: Some(ActionOutcome::Succeeded),
        message: "did a".into(),
        ..Step::default()
    };
    open.steps.insert("a".into(), step);
    let request = json!({"text": "as recorded"});
    open.steps.insert("b".into(), Step { intent: Some((4, request)), ..Step::default() });
    stage.runner.resume([open]);
    let ended = stage.ended(1).await.remove(0);
    assert_eq!(ended.message, "did a; did b; did c");
    assert_eq!(
        stage.told(),
        [
            "durable",
            "execute b Again as recorded",
            "done b",
            "outcome b Succeeded",
            "render c",
            "intent c 0",
            "durable",
            "execute c First f",
            "done c",
            "outcome c Succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn settling_comes_after_the_outcome_is_durable_also_after_a_restart() {
    let stage = Stage::new(&[]);
    stage.start(firing("r", "g", "f", &[action("settling", json!({}))]));
    stage.ended(1).await;
    let told = stage.told();
    assert_eq!(told[told.len() - 3..], ["outcome settling Succeeded", "durable", "settle {\"n\":7}"]);

    let stage = Stage::new(&[]);
    let mut open = firing("r", "g", "f", &[action("settling", json!({}))]);
    let step = Step {
        intent: Some((0, json!({}))),
        outcome: Some(ActionOutcome::Succeeded),
        result: json!({"n": 8}),
        ..Step::default()
    };
    open.steps.insert("settling".into(), step);
    stage.runner.resume([open]);
    stage.ended(1).await;
    assert_eq!(stage.told(), ["durable", "settle {\"n\":8}"]);
}

#[tokio::test(start_paused = true)]
async fn draining_lets_attempts_end_and_begins_none() {
    let stage = Stage::new(&[("slow", &[Play::After(Duration::from_secs(5))])]);
    let both = [action("slow", json!({})), action("next", json!({}))];
    stage.start(firing("r", "g", "f1", &both));
    stage.start(firing("r", "g", "f2", &both));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stage.runner.drain(Duration::from_secs(20)).await);
    stage.start(firing("r", "g", "f3", &both));
    assert_eq!(
        stage.told(),
        [
            "render slow",
            "intent slow 0",
            "durable",
            "execute slow First f1",
            "done slow",
            "outcome slow Succeeded",
            "render next",
            "intent next 0",
            "durable"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn draining_ends_with_its_time() {
    let stage = Stage::new(&[("hang", &[Play::Hang])]);
    stage.start(firing("r", "g", "f", &[action("hang", json!({"timeout": "1h"}))]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    assert!(!stage.runner.drain(Duration::from_secs(20)).await);
    assert_eq!(before.elapsed().as_secs(), 20);
    assert!(stage.outcomes().is_empty(), "the next process goes on with it");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_ends_everything() {
    let stage = Stage::new(&[]);
    stage.bus.troubles.lock().push(BusError::Storage("no".into()));
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert!(matches!(stage.runner.failed().await, BusError::Storage(_)));
    assert!(!stage.told().iter().any(|told| told.starts_with("execute")));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_for_and_a_request_too_large_fails() {
    let stage = Stage::new(&[]);
    stage.bus.troubles.lock().extend([BusError::Full, BusError::Full]);
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert_eq!(stage.ended(1).await[0].outcome, FiringOutcome::Succeeded);

    let stage = Stage::new(&[]);
    stage.bus.troubles.lock().push(BusError::TooLarge(9));
    stage.start(firing("r", "g", "f", &[action("a", json!({}))]));
    assert!(stage.ended(1).await[0].message.contains("record of 9 bytes is larger"));
}

#[tokio::test(start_paused = true)]
async fn what_is_started_while_others_run_is_not_lost() {
    let stage = Stage::new(&[("a", &[Play::After(Duration::from_millis(3))])]);
    for n in 0..200 {
        stage.start(firing("r", &format!("g{}", n % 7), &format!("f{n}"), &[action("a", json!({}))]));
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert_eq!(stage.ended(200).await.len(), 200);
    assert_eq!(stage.runner.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_target_is_changed_by_one_step_at_a_time_whatever_the_rule() {
    let stage = Stage::new(&[("one", &[Play::After(Duration::from_secs(5))])]);
    stage.start(firing("r", "g", "f1", &[action_on("web", "one")]));
    stage.start(firing("other", "h", "f2", &[action_on("web", "two")]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Also while the outcome waits for room on the disk.
    stage.bus.troubles.lock().extend([BusError::Full, BusError::Full]);
    stage.ended(2).await;
    let steps = ["render", "intent", "execute", "outcome"];
    let told: Vec<_> =
        stage.told().into_iter().filter(|told| steps.iter().any(|step| told.starts_with(step))).collect();
    assert_eq!(
        told,
        [
            "render one",
            "intent one 0",
            "execute one First f1",
            "outcome one Succeeded",
            "render two",
            "intent two 0",
            "execute two First f2",
            "outcome two Succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn steps_on_other_targets_do_not_wait() {
    let slow: &[Play] = &[Play::After(Duration::from_secs(5))];
    let stage = Stage::new(&[("one", slow), ("two", slow)]);
    let before = Instant::now();
    stage.start(firing("r", "g", "f1", &[action_on("web", "one")]));
    stage.start(firing("r", "h", "f2", &[action_on("api", "two")]));
    stage.ended(2).await;
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_began_comes_before_all_that_want_its_target() {
    let stage = Stage::new(&[("begun", &[Play::After(Duration::from_secs(5))])]);
    let mut begun = firing("r", "last", "fb", &[action_on("web", "begun")]);
    begun.firing.input = Position(99);
    let request = json!({"text": "as recorded", "target": "web"});
    begun.steps.insert("begun".into(), Step { intent: Some((0, request)), ..Step::default() });
    // More than there are places: they must not take the place of the one that they wait for.
    let waiting = FIRINGS_PER_RULE + 4;
    let wait = |n: usize| firing("r", &format!("g{n}"), &format!("f{n}"), &[action_on("web", "waiting")]);
    stage.runner.resume((0..waiting).map(wait).chain([begun]));
    assert!(stage.runner.0.targets.try_hold("web".into()).is_none(), "held before anything can be started");
    stage.start(firing("new", "g", "fn", &[action_on("web", "new")]));
    let ended = tokio::time::timeout(Duration::from_secs(60), stage.ended(waiting + 2)).await;
    assert!(ended.is_ok(), "they wait for each other: {:?}", stage.told());
    let told = stage.told();
    let place = |what: &str| told.iter().position(|told| told == what).expect(what);
    assert!(told.contains(&"execute begun Again as recorded".to_owned()), "{told:?}");
    let first = told.iter().position(|told| told.starts_with("render")).expect("a rendering");
    assert!(place("outcome begun Succeeded") < first, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_nobody_gets_a_turn_with_a_target_any_more() {
    for play in [Play::After(Duration::from_secs(5)), Play::Fail(FailureKind::Retryable { after: None })] {
        let stage = Stage::new(&[("one", &[play])]);
        stage.start(firing("r", "g", "f1", &[action_on("web", "one")]));
        stage.start(firing("r", "h", "f2", &[action_on("web", "two")]));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(stage.runner.drain(Duration::from_secs(20)).await);
        let told = stage.told();
        assert!(told.contains(&"execute one First f1".to_owned()), "{told:?}");
        assert!(!told.iter().any(|told| told.ends_with("two") || told.starts_with("intent two")), "{told:?}");
    }
}
