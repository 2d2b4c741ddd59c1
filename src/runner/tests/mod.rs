//! The runner with a log in memory and actions that play a script, in paused time.

mod approve;
mod attempts;
mod each;
mod ends;
mod failure;
mod lease;
mod observe;
mod order;
mod pace;
mod targets;
mod timeouts;
mod undo;
mod waiting;

use std::collections::{BTreeMap, HashMap};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    actions::{Attempt, Back, Context, Done, Failure, FailureKind, Undo, testing},
    api::{ActionOutcome, EventRuleSpec, FiringOutcome},
    bus::{Permit, Reader, Recovery, Stats},
    clock::Stamp,
    kubernetes::fake::Fake,
    record::{Change, Delta, Effect, Firing, FiringId, Head, LogId, Position, Record, RuleRef, Shelf, Step, Table},
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
    /// What the view answers, the last first; then nothing is in it.
    rows: Mutex<Vec<Result<Option<Vec<u8>>, BusError>>>,
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

    fn row(&self, _: Table, _: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>> {
        Box::pin(async { self.rows.lock().pop().unwrap_or(Ok(None)) })
    }

    fn read(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, BusError> {
        Ok(None)
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
    /// Has changed the Deployment of this name.
    Change(&'static str),
}

fn changed(name: &str) -> Effect {
    Effect {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        namespace: Some("shop".into()),
        name: name.into(),
        uid: name.into(),
        resource_version: None,
        found: false,
        gone: false,
        reason: "ScaledByRule".into(),
    }
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
        target_of(&filled["sinkRef"]["name"]).or_else(|| target_of(&filled["target"]["name"]))
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
            let mut effect = None;
            match play {
                Play::Succeed => {}
                Play::Change(name) => effect = Some(changed(name)),
                Play::Fail(kind) => return Err(Failure { kind, message: "it failed".into() }),
                Play::Hang => std::future::pending().await,
                Play::Panic => Vec::new().pop().expect("the actor fell"),
                Play::After(time) => tokio::time::sleep(time).await,
            }
            self.story.lock().push(format!("done {}", self.name));
            let result = json!({"n": 7});
            Ok(Done {
                outcome: ActionOutcome::Succeeded,
                message: format!("did {}", self.name),
                result,
                effect,
                reason: None,
            })
        })
    }

    fn observe<'a>(&'a self, _: &'a Context, _: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("observe {}", self.name));
            let mut script = self.script.lock();
            let play = script.get_mut(&self.name).filter(|plays| plays.len() > 1).map(|plays| plays.remove(0));
            if let Some(Play::Fail(kind)) = play {
                return Err(Failure { kind, message: "it failed".into() });
            }
            let message = format!("would do {}", self.name);
            Ok(Done { outcome: ActionOutcome::Observed, message, result: json!({"n": 7}), effect: None, reason: None })
        })
    }

    fn changed(&self, cx: &Context, request: &Value, effect: Option<&Effect>) -> Undo {
        let Some(effect) = effect else {
            if self.name != "unsure" {
                return if self.name == "nothing" { Undo::Nothing } else { Undo::Never("it cannot be undone") };
            }
            return self.changed(cx, request, Some(&changed("unsure")));
        };
        Undo::Change(Box::new(Change {
            api_version: effect.api_version.clone(),
            kind: effect.kind.clone(),
            namespace: effect.namespace.clone(),
            name: effect.name.clone(),
            uid: effect.uid.clone(),
            subresource: Some("scale".into()),
            manager: cx.firing.manager(&cx.action),
            unsure: false,
            back: json!({"was": request["text"]}),
            made: json!({"is": request["text"]}),
        }))
    }

    fn take_back<'a>(&'a self, _: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(async move {
            self.story.lock().push(format!("take back {}", change.name));
            Ok(Back::Request(json!({"text": format!("back {}", change.name)})))
        })
    }

    fn only_waits(&self) -> bool {
        self.name == "pause"
    }

    fn goes_on(&self) -> bool {
        self.name == "drain"
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
    shelf: Shelf,
    bus: Arc<MemoryBus>,
    story: Story,
}

impl Stage {
    fn new(plays: &[(&str, &[Play])]) -> Self {
        Self::limited(plays, Limit::none())
    }

    fn limited(plays: &[(&str, &[Play])], limit: Limit) -> Self {
        Self::authorised(plays, limit, Authority::sole())
    }

    fn authorised(plays: &[(&str, &[Play])], limit: Limit, authority: Authority) -> Self {
        Self::made(&Fake::new(|_| (500, json!({}))), plays, limit, authority).begun()
    }

    fn on(fake: &Fake, plays: &[(&str, &[Play])], limit: Limit) -> Self {
        Self::made(fake, plays, limit, Authority::sole()).begun()
    }

    fn begun(self) -> Self {
        self.runner.begin();
        self
    }

    fn made(fake: &Fake, plays: &[(&str, &[Play])], limit: Limit, authority: Authority) -> Self {
        let story = Story::default();
        let script: Script =
            Arc::new(Mutex::new(plays.iter().map(|(name, plays)| ((*name).to_owned(), plays.to_vec())).collect()));
        let bus = Arc::new(MemoryBus {
            id: LogId("log".into()),
            story: story.clone(),
            records: Mutex::default(),
            troubles: Mutex::default(),
            rows: Mutex::default(),
        });
        let (names, told) = (script, story.clone());
        let build = move |spec: &api::Action| -> Option<Box<dyn Action>> {
            Some(Box::new(Actor { name: spec.name.clone(), script: names.clone(), story: told.clone() }))
        };
        let shelf = Shelf::default();
        let firings = Firings::new(bus.clone(), shelf.clone());
        let runner = Runner::with_build(testing::services(fake), authority, firings, Box::new(build), limit);
        Self { runner, shelf, bus, story }
    }

    fn start(&self, open: OpenFiring) {
        let rule = compile(&open.firing.rule, open.firing.generation, &open.spec).expect("a rule");
        let (id, brief) = self.put(open);
        self.runner.start(&id, &brief, rule);
    }

    /// Goes on with what an earlier process has left.
    fn resume(&self, open: impl IntoIterator<Item = OpenFiring>) {
        self.runner.resume(open.into_iter().map(|open| self.put(open)).collect::<Vec<_>>());
    }

    fn put(&self, open: OpenFiring) -> (FiringId, Brief) {
        let known = (open.firing.id.clone(), Brief::of(&open));
        self.shelf.put(open);
        known
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
        events: Vec::new(),
        firing: Firing {
            id: FiringId(id.into()),
            rule: RuleRef { uid: RuleUid(rule.into()), namespace: "shop".into(), name: rule.into() },
            generation: 1,
            source: "crash".into(),
            group: group.into(),
            group_values: BTreeMap::new(),
            count: None,
            kind: Default::default(),
            step: None,
            planned: None,
            restores: None,
            closes: false,
            value: None,
            baseline: None,
            input: Position(1),
            stamp: Stamp::default(),
        },
        event: Arc::new(event),
        spec: Arc::new(spec),
        steps: BTreeMap::new(),
    }
}
