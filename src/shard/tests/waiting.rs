//! Firings that wait: on disk, in order, and none of them lost.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    actions::{self, Action, Attempt, Context, Done, Failure, Services},
    api::ActionOutcome,
    bus::{Firings, Permit},
    clock::{Clock, Quota},
    kubernetes::{Authority, event_channel, fake::Fake},
    runner::{FIRINGS_PER_RULE, Limit, Runner},
    shard::{Bounds, Desk, Shard, Suppressions, Ticks},
    sources::NearMisses,
    status::StatusQueue,
    telemetry::{Metrics, traces::Traces},
};

/// What was done: group and number of the event, in order. It survives the processes.
type Deeds = Arc<watch::Sender<Vec<(String, u64)>>>;

/// Does a deed once, however often it is asked. The rule `hangs` asks for what never ends.
struct Deed(Deeds);

impl Action for Deed {
    fn target(&self, _: &str, _: &Value) -> Option<String> {
        None
    }

    fn target_again(&self, _: &str, _: &Value) -> Option<String> {
        None
    }

    fn render<'a>(&'a self, cx: &'a Context, _: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        let number = cx.event.id.trim_start_matches('e').split('/').next().and_then(|text| text.parse::<u64>().ok());
        let rendered =
            json!({"group": cx.event.subject, "number": number.expect("a number"), "hangs": cx.rule.name == "hangs"});
        Box::pin(async move { Ok(rendered) })
    }

    fn execute<'a>(
        &'a self,
        _: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        _: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            if request["hangs"] == json!(true) {
                return std::future::pending().await;
            }
            let group = request["group"].as_str().expect("a group").to_owned();
            let deed = (group, request["number"].as_u64().expect("a number"));
            self.0.send_modify(|deeds| {
                if attempt == Attempt::First || !deeds.iter().rev().take(100).any(|done| *done == deed) {
                    deeds.push(deed);
                }
            });
            let outcome = ActionOutcome::Succeeded;
            Ok(Done { outcome, message: "done".into(), result: json!({}), effect: None, reason: None })
        })
    }

    fn observe<'a>(&'a self, _: &'a Context, _: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(std::future::ready(Err(Failure::last("no rule here observes"))))
    }
}

/// A shard with its runner, which does nothing until it is allowed to.
struct Process {
    bus: Arc<Embedded>,
    authority: Authority,
    desk: Desk,
    metrics: Arc<Metrics>,
    /// Firings that the start found, and those of them that it has read whole.
    found: (usize, usize),
    running: JoinHandle<()>,
    runner: Runner,
}

impl Process {
    fn start(dir: &Path, deeds: &Deeds, bounds: Bounds) -> Self {
        Self::start_with(dir, deeds, bounds, Settings::default())
    }

    fn start_with(dir: &Path, deeds: &Deeds, bounds: Bounds, settings: Settings) -> Self {
        let bus = open_with(dir, &settings);
        let recovered = recover(&*bus, bounds.open).expect("recover");
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        let found = (recovered.open.len(), recovered.state.ledger.shelf().len());
        let fake = Fake::new(|_| (404, json!({})));
        let (log, authority): (Arc<dyn Bus>, _) = (bus.clone(), Authority::shut());
        let firings = Firings::new(Arc::clone(&log), recovered.state.ledger.shelf().clone());
        let done = Arc::clone(deeds);
        let build =
            move |_: &crate::api::Action| -> Option<Box<dyn Action>> { Some(Box::new(Deed(Arc::clone(&done)))) };
        let services: Arc<Services> = actions::testing::services(&fake);
        let runner = Runner::with_build(services, authority.clone(), firings, Box::new(build), Limit::none());
        runner.resume(recovered.open);
        runner.begin();
        let metrics = Arc::<Metrics>::default();
        let (events, _) = event_channel(fake.client(), "waiting", metrics.kubernetes_events_dropped());
        let (desk, questions) = crate::shard::desk();
        let shard = Shard {
            interest: watch::channel(recovered.state.engine.interest()).0,
            bus: log,
            state: recovered.state,
            runner: runner.clone(),
            bounds,
            status: StatusQueue::new(events),
            misses: NearMisses::new(Quota::per_second(0), |_| ()),
            suppressions: Suppressions::default(),
            questions,
            metrics: Arc::clone(&metrics),
            traces: Traces::default(),
            ticks: Ticks::default(),
            clock: Clock::real(0),
        };
        let reader = bus.reader().expect("the only reader");
        let running = tokio::spawn(async move { shard.run(reader, CancellationToken::new()).await.expect("it runs") });
        Self { bus, authority, desk, metrics, found, running, runner }
    }

    /// From here on it may act.
    fn act(&self) {
        self.authority.grant(tokio::time::Instant::now(), Duration::from_hours(1));
    }

    async fn append(&self, record: Record) -> Position {
        self.bus.append(record).await.expect("append").position
    }

    /// Open firings, those of them that memory holds whole, and the counts of the rule, after the record.
    async fn look(&self, after: Position, rule: &RuleUid) -> (usize, usize, crate::api::Counts) {
        let rule = rule.clone();
        let looked = self.desk.ask(after, move |state| {
            let counts = state.engine.progress(&rule).unwrap_or_default().counts;
            (state.ledger.len(), state.ledger.shelf().len(), counts)
        });
        looked.await.expect("the shard runs")
    }

    /// Ends without a word: nothing is written down that is not.
    async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
        self.runner.drain(Duration::ZERO).await;
    }
}

async fn done(deeds: &Deeds, many: usize) {
    let wait = Duration::from_secs(300);
    let mut seen = deeds.subscribe();
    let enough = seen.wait_for(|deeds| deeds.len() >= many);
    let _ = tokio::time::timeout(wait, enough).await.expect("it is done in time").expect("the test holds the sender");
}

fn named(name: &str) -> (RuleUid, [Record; 2]) {
    let spec: EventRuleSpec = serde_json::from_value(json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"], "regarding": {"names": [name]}}}],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}}],
    }))
    .expect("a spec");
    let rule = RuleRef { uid: RuleUid(name.into()), namespace: "shop".to_owned(), name: name.to_owned() };
    let source = SourceRef { rule: rule.uid.clone(), generation: 1, source: "crash".to_owned() };
    let put = Record::RulePut(RulePut { rule: rule.clone(), generation: 1, spec: Arc::new(spec) });
    (rule.uid, [put, Record::Baseline(source)])
}

/// An event about an object of that name.
fn event_about(number: u64, name: &str) -> Record {
    let Record::Event(mut input) = event(number, 0) else { panic!("no event") };
    let event = Arc::make_mut(&mut input.event);
    event.data["regarding"]["name"] = json!(name);
    event.subject = Some(format!("shop/Pod/{name}"));
    Record::Event(input)
}

const SMALL: Bounds = Bounds { open: 1_000_000, fresh: 64 };

#[tokio::test]
async fn thousands_of_events_while_nothing_may_be_done_are_all_done_afterwards_once_and_in_order() {
    const MANY: usize = 3_000;
    let (dir, deeds) = (tempfile::tempdir().expect("a folder"), Deeds::default());
    let process = Process::start(dir.path(), &deeds, SMALL);
    for record in put(2) {
        process.append(record).await;
    }
    let mut last = Position(0);
    for number in 0..MANY as u64 {
        last = process.append(event(number, (number % 200) as u8)).await;
    }
    let (open, whole, counts) = process.look(last, &uid()).await;
    assert_eq!((open, counts.fired, counts.suppressed.total), (MANY, MANY as u64, 0));
    assert!(whole <= SMALL.fresh + 256 + FIRINGS_PER_RULE, "memory holds {whole} whole");
    process.bus.durable(last).await.expect("durable");
    process.kill().await;

    let process = Process::start(dir.path(), &deeds, SMALL);
    let (open, whole) = process.found;
    assert_eq!(open, MANY);
    // What came after the last commit of the view is at most two turns of the loop.
    assert!(whole <= SMALL.fresh + 2 * 256 + FIRINGS_PER_RULE, "a start reads {whole}");
    process.act();
    done(&deeds, MANY / 10).await;
    process.kill().await;

    let process = Process::start(dir.path(), &deeds, SMALL);
    process.act();
    done(&deeds, MANY).await;
    let mut last_of = BTreeMap::<String, u64>::new();
    for (group, number) in deeds.borrow().iter() {
        let before = last_of.insert(group.clone(), *number);
        assert!(before.is_none_or(|before| before < *number), "{group}: {number} after {before:?}");
    }
    assert_eq!(deeds.borrow().len(), MANY);
    while process.look(Position(0), &uid()).await.0 > 0 {
        tokio::task::yield_now().await;
    }
    let counts = process.look(Position(0), &uid()).await.2;
    assert_eq!((counts.fired, counts.succeeded), (MANY as u64, MANY as u64));
    process.kill().await;
}

#[tokio::test]
async fn a_target_that_hangs_lets_its_own_firings_wait_and_no_others() {
    const MANY: u64 = 1_000;
    let (dir, deeds) = (tempfile::tempdir().expect("a folder"), Deeds::default());
    let process = Process::start(dir.path(), &deeds, SMALL);
    process.act();
    let ((hangs, of_hangs), (_, of_well)) = (named("hangs"), named("well"));
    for record in of_hangs.into_iter().chain(of_well) {
        process.append(record).await;
    }
    assert!(process.metrics.encode().contains("signalbox_oldest_open_firing_timestamp_seconds 0\n"));
    let begun = process.bus.append(event_about(0, "hangs")).await.expect("append").stamp.wall;
    let mut last = Position(0);
    for number in 1..MANY {
        last = process.append(event_about(number, "hangs")).await;
        if number % 10 == 0 {
            process.append(event_about(MANY + number, "well")).await;
            let told = usize::try_from(number / 10).expect("small");
            done(&deeds, told).await;
            assert_eq!(deeds.borrow().len(), told, "each is done before the next comes, whatever waits");
        }
    }
    let (open, whole, counts) = process.look(last, &hangs).await;
    assert_eq!((open as u64, counts.fired), (MANY, MANY));
    assert!(whole <= SMALL.fresh + 256 + FIRINGS_PER_RULE, "memory holds {whole} whole");
    let oldest = format!("signalbox_oldest_open_firing_timestamp_seconds {}\n", begun / 1_000_000);
    let told = async {
        while !process.metrics.encode().contains(&oldest) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("how old the oldest is can be seen");
    process.kill().await;
}

#[tokio::test]
async fn inputs_wait_while_too_much_is_open_which_is_told_and_go_on_when_some_has_ended() {
    let (dir, deeds) = (tempfile::tempdir().expect("a folder"), Deeds::default());
    let settings = Settings { capacity_records: 16, ..Settings::default() };
    let process = Process::start_with(dir.path(), &deeds, Bounds { open: 20, fresh: 8 }, settings);
    for record in put(2) {
        process.append(record).await;
    }
    let (bus, sent) = (process.bus.clone(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        for number in 0..200 {
            bus.append(event(number, (number % 200) as u8)).await.expect("append");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let told = |line: &'static str| {
        let metrics = Arc::clone(&process.metrics);
        async move {
            while !metrics.encode().contains(line) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told("signalbox_inputs_held 1\n")).await.expect("it is told");
    assert!(!sender.is_finished() && sent.load(Ordering::Relaxed) < 100, "{sent:?}");
    process.act();
    done(&deeds, 200).await;
    sender.await.expect("all is taken");
    tokio::time::timeout(Duration::from_secs(30), told("signalbox_inputs_held 0\n")).await.expect("it is told");
    process.kill().await;
}

#[tokio::test]
async fn a_view_of_the_version_before_is_read_and_written_as_this_one() {
    const BUS: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("bus");
    const INDEX: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("firing-index");
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2).into_iter().chain([event(1, 0), event(2, 1)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    shard.bus.record(shard.write(0).expect("one is open")).expect("record");
    shard.turn().await;
    shard.checkpoint().await;
    let before = shard.seen();
    shard.bus.close().await.expect("close");
    drop(shard);
    let view = redb::Database::open(dir.path().join("view.redb")).expect("the view");
    let write = view.begin_write().expect("write");
    write.open_table(BUS).expect("the table").insert("version", &[1][..]).expect("insert");
    assert!(write.delete_table(INDEX).expect("delete"), "it was there");
    write.commit().expect("commit");
    drop(view);

    let mut shard = Loop::open(dir.path());
    assert_eq!(shard.seen(), before);
    shard.checkpoint().await;
    assert_eq!(shard.state.ledger.shelf().len(), 0);
    drop(shard);
    let shard = Loop::open(dir.path());
    assert_eq!(shard.seen(), before);
    assert_eq!(shard.state.ledger.shelf().len(), 1, "the one that a step is at work for");
}

#[tokio::test]
async fn what_is_due_waits_too_while_too_much_is_open_and_none_of_it_is_lost_over_a_kill() {
    const GROUPS: u64 = 60;
    let (dir, deeds) = (tempfile::tempdir().expect("a folder"), Deeds::default());
    let bounds = Bounds { open: 20, fresh: 8 };
    let spec: EventRuleSpec = serde_json::from_value(json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "trigger": {"batch": {"wait": "2s"}},
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 1}}],
    }))
    .expect("a spec");
    let rule = RuleRef { uid: RuleUid("batch".into()), namespace: "shop".to_owned(), name: "batch".to_owned() };
    let source = SourceRef { rule: rule.uid.clone(), generation: 1, source: "crash".to_owned() };
    let process = Process::start(dir.path(), &deeds, bounds);
    process.append(Record::RulePut(RulePut { rule: rule.clone(), generation: 1, spec: Arc::new(spec) })).await;
    process.append(Record::Baseline(source)).await;
    for number in 0..GROUPS {
        process.append(event_about(number, &format!("p{number}"))).await;
    }
    let held = |metrics: Arc<Metrics>| async move {
        while !metrics.encode().contains("signalbox_inputs_held 1\n") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held(Arc::clone(&process.metrics))).await.expect("it is told");
    let last = process.bus.stats().appended;
    let (open, _, counts) = process.look(last, &rule.uid).await;
    assert_eq!((open, counts.fired), (20, 20), "those that are due now wait");
    process.bus.durable(last).await.expect("durable");
    process.kill().await;

    let process = Process::start(dir.path(), &deeds, bounds);
    assert!(process.found.0 <= 20, "a start opens no more than there may be: {}", process.found.0);
    process.act();
    done(&deeds, GROUPS as usize).await;
    let (_, _, counts) = process.look(Position(0), &rule.uid).await;
    assert_eq!((counts.fired, deeds.borrow().len()), (GROUPS, GROUPS as usize), "each once");
    process.kill().await;
}
