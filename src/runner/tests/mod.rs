//! The runner with a log in memory and actions that play a script, in paused time.

mod actor;
mod approve;
mod attempts;
mod bus;
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

use std::collections::BTreeMap;

use actor::{Actor, Play, Script, changed};
use bus::MemoryBus;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    actions::{FailureKind, testing},
    api::{ActionOutcome, EventRuleSpec, FiringOutcome},
    clock::Stamp,
    kubernetes::fake::Fake,
    record::{Firing, FiringId, LogId, OpenFiring, Position, Record, RuleRef, Shelf, Step},
    rule::compile,
};

/// What happened, in order.
type Story = Arc<Mutex<Vec<String>>>;

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
