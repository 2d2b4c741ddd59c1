//! A shard's loop without its surroundings, and what a start makes of its log.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{State, recover};
use crate::{
    api::{EventRuleSpec, FiringOutcome},
    bus::{
        Bus, BusError,
        embedded::{Embedded, Settings},
    },
    event::{Event, Origin, Seen, TYPE_KUBERNETES_EVENT, TYPE_RESOURCE_UPDATED, WatchKey},
    record::{
        Decision, Effect, Entry, EventInput, Finished, FiringId, Head, Intent, Judgement, Lookups, OpenFiring,
        Position, Record, RulePut, RuleRef, RuleUid, SourceRef, Stamp, Table, Writes, Written,
    },
    rule::Judged,
};

mod chains;
mod crashes;
mod edits;
mod formats;
mod letters;
mod starting;
mod waiting;

const UID: &str = "11111111-2222-3333-4444-555555555555";

/// A shard's loop without its surroundings: what `Shard::take` does to the state and the log.
struct Loop {
    bus: Arc<Embedded>,
    reader: Box<dyn crate::bus::Reader>,
    state: State,
}

impl Loop {
    fn open(dir: &Path) -> Self {
        let bus = open(dir);
        let recovered = recover(&*bus, usize::MAX).expect("recover");
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        let reader = bus.reader().expect("the only reader");
        Self { bus, reader, state: recovered.state }
    }

    async fn append(&self, record: Record) {
        self.bus.append(record).await.expect("append");
    }

    async fn turn(&mut self) {
        let last = self.bus.stats().appended;
        while self.state.position() < last {
            let entries = self.reader.next(16).await.expect("the bus is open");
            for entry in &entries {
                self.take(entry);
                self.reader.advance(entry.head.position);
            }
        }
    }

    fn take(&mut self, entry: &Entry) {
        while let Some(deadline) = self.state.due(entry) {
            let decisions = self.state.engine.judge_due(&entry.head, &deadline);
            let judgement = Judgement::of_deadline(&entry.head, &deadline, &decisions);
            self.bus.record(Record::Judgement(judgement)).expect("record");
            self.state.decide_due(&entry.head, &deadline, &decisions);
        }
        if let Record::Event(input) = &*entry.record {
            let judged = self.state.engine.judge(&entry.head, input);
            self.decide(&entry.head, input, &judged, None);
        }
        self.state.fold(&entry.head, &entry.record);
        for released in self.state.engine.take_released() {
            let judged = self.state.engine.judge_released(&entry.head, &released);
            self.decide(&released.head(&entry.head), &released.input, &judged, Some(entry.head.position));
        }
        for sequel in self.state.take_sequels() {
            self.bus.record(Record::Event(Box::new(sequel))).expect("record");
        }
    }

    fn decide(&mut self, head: &Head, input: &EventInput, judged: &Judged, released: Option<Position>) {
        if !judged.decisions.is_empty() {
            let judgement = Judgement::of(head, released, &judged.decisions);
            self.bus.record(Record::Judgement(judgement)).expect("record");
        }
        self.state.decide(head, input, &judged.seen, &judged.decisions);
    }

    async fn checkpoint(&mut self) {
        let (delta, position) = self.state.delta(Stamp { at: 0, wall: 1_790_000_000_000_000 });
        self.bus.commit(delta, position).await.expect("commit");
        self.state.committed();
    }

    /// The oldest open firing, lent as to a runner.
    fn oldest(&self) -> Option<Arc<OpenFiring>> {
        let (id, _) = self.state.ledger.open().min_by_key(|(_, brief)| brief.input)?;
        let shelf = self.state.ledger.shelf();
        Some(shelf.lend(id).unwrap_or_else(|| shelf.bring(self.whole(id))))
    }

    /// An open firing, from wherever it is.
    fn whole(&self, id: &FiringId) -> OpenFiring {
        if let Some(open) = self.state.ledger.get(id) {
            return OpenFiring::clone(&open);
        }
        let row = self.bus.read(Table::Firings, id.0.as_bytes()).expect("read the view").expect("the view has it");
        serde_json::from_slice(&row).expect("a firing")
    }

    fn all(&self) -> Vec<OpenFiring> {
        self.state.ledger.open().map(|(id, _)| self.whole(id)).collect()
    }

    fn write(&self, pod: u8) -> Option<Record> {
        let firing = self.oldest()?.firing.id.clone();
        let writes = Some(Writes { rule: uid(), object: format!("shop/Pod/p{pod}") });
        Some(Record::Intent(Intent {
            firing,
            action: "grow".into(),
            rendering: 0,
            request: json!({}),
            writes,
            deadline: None,
            remember: None,
        }))
    }

    fn answer(&self, number: u64) -> Option<Record> {
        let firing = self.oldest()?.firing.id.clone();
        let effect = Effect {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: Some("shop".into()),
            name: "p".into(),
            uid: format!("e{number}"),
            resource_version: Some(number.to_string()),
            found: false,
            gone: false,
            reason: "ScaledByRule".into(),
        };
        Some(Record::Written(Written { firing, action: "grow".into(), effect }))
    }

    fn finish_oldest(&self, outcome: FiringOutcome) -> Option<Record> {
        let oldest = self.oldest()?;
        Some(Record::Finished(Finished {
            firing: oldest.firing.id.clone(),
            rule: oldest.firing.rule.uid.clone(),
            outcome,
            message: "done".to_owned(),
            failed_at: None,
        }))
    }

    /// What people can see of the state.
    fn seen(&self) -> (serde_json::Value, Vec<OpenFiring>, Vec<FiringId>) {
        let progress = self.state.engine.progress(&uid()).map(|progress| {
            let recent: Vec<_> = progress.recent.iter().map(|one| (&one.id, one.outcome)).collect();
            json!({"counts": progress.counts, "recent": recent, "generation": progress.generation})
        });
        (progress.unwrap_or_default(), self.all(), self.state.letters.of_rule(&uid()).cloned().collect())
    }
}

/// Opens the log as soon as the thread of the one that was just dropped has let go of it.
fn open(dir: &Path) -> Arc<Embedded> {
    open_with(dir, &Settings::default())
}

fn open_with(dir: &Path, settings: &Settings) -> Arc<Embedded> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Embedded::open(dir, settings.clone()) {
            Err(BusError::Locked { .. }) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            opened => return opened.expect("open the log"),
        }
    }
}

fn uid() -> RuleUid {
    RuleUid(UID.into())
}

fn put(generation: i64) -> [Record; 3] {
    let cooldown = if generation % 2 == 1 { json!({"cooldown": "1h"}) } else { json!(null) };
    let mut spec = json!({
        "sources": [
            {"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}},
            {"name": "change", "resource": {"apiVersion": "v1", "kind": "Pod", "operations": ["Update"]}},
        ],
        "actions": [{"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": generation}}],
    });
    if !cooldown.is_null() {
        spec["throttle"] = cooldown;
    }
    match generation % 6 {
        1 => spec["trigger"] = json!({"count": {"atLeast": 2, "within": "1h"}}),
        // What is due is so at the next record, or at one of those after it.
        0 => spec["trigger"] = json!({"batch": {"wait": "1ms", "maxEvents": 3}}),
        5 => {
            spec["trigger"] = json!({"held": {"for": "1ms"}});
            spec["sources"][1]["resource"]["operations"] = json!([]);
        }
        _ => {}
    }
    if generation % 5 == 0 {
        spec["concurrencyPolicy"] = json!("Forbid");
    }
    let spec: EventRuleSpec = serde_json::from_value(spec).expect("a valid spec");
    let rule = RuleRef { uid: uid(), namespace: "shop".to_owned(), name: "web".to_owned() };
    let source = |name: &str| Record::Baseline(SourceRef { rule: uid(), generation, source: name.to_owned() });
    [Record::RulePut(RulePut { rule, generation, spec: Arc::new(spec) }), source("crash"), source("change")]
}

fn event(number: u64, pod: u8) -> Record {
    let event = Event {
        subject: Some(format!("shop/Pod/p{pod}")),
        time: Some(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        ..Event::new(
            format!("e{number}/1"),
            "/api/v1/events",
            TYPE_KUBERNETES_EVENT,
            json!({"type": "Warning", "reason": "BackOff", "message": "m", "count": 1, "delta": 1,
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": format!("p{pod}")}}),
        )
    };
    let watch = WatchKey { api_version: "v1".into(), kind: "Event".into(), namespace: Some("shop".into()) };
    let origin = Origin::new(watch, format!("e{number}"), Some(Seen::new(number, 1, format!("shop/e{number}"))));
    Record::Event(Box::new(EventInput { event: Arc::new(event), origin, only: None, lookups: Lookups::default() }))
}

fn change(number: u64, pod: u8) -> Record {
    let Record::Event(mut input) = event(number, pod) else { panic!("no event") };
    let event = Arc::make_mut(&mut input.event);
    event.type_ = TYPE_RESOURCE_UPDATED.to_owned();
    event.data = json!({"operation": "Update", "gap": false,
        "object": {"kind": "Pod", "metadata": {"namespace": "shop", "name": format!("p{pod}")}}});
    input.origin.watch.kind = "Pod".into();
    Record::Event(input)
}

#[tokio::test]
async fn events_that_were_not_judged_before_the_end_are_judged_after_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2) {
        shard.append(record).await;
    }
    shard.turn().await;
    for number in 1..=3 {
        shard.append(event(number, 0)).await;
    }
    let last = shard.bus.stats().appended;
    shard.bus.durable(last).await.expect("durable");
    drop(shard);

    let shard = Loop::open(dir.path());
    assert_eq!(shard.state.ledger.len(), 3);
    let judged = shard.bus.stats().appended;
    assert_eq!(judged.0, last.0 + 4, "that it started and what was decided then is in the log");
}

#[tokio::test]
async fn a_firing_keeps_the_spec_that_decided_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2).into_iter().chain([event(1, 0)]).chain(put(4)) {
        shard.append(record).await;
    }
    shard.turn().await;
    let to = |shard: &Loop| shard.all().iter().map(|open| open.spec.actions[0].scale.clone()).collect::<Vec<_>>();
    let before = to(&shard);
    assert_eq!(before[0].as_ref().and_then(|scale| scale.to), Some(2));
    drop(shard);
    assert_eq!(to(&Loop::open(dir.path())), before);
}

#[tokio::test]
async fn what_a_rule_began_before_it_was_deleted_is_not_gone_on_with() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    for record in put(2).into_iter().chain([event(1, 0)]) {
        shard.append(record).await;
    }
    shard.turn().await;
    let bus = Arc::clone(&shard.bus);
    let recovered = |bus: &Arc<Embedded>| recover(&**bus, usize::MAX).expect("recover");
    bus.durable(bus.stats().appended).await.expect("durable");
    drop((shard, bus));
    let bus = open(dir.path());
    let before = recovered(&bus);
    assert_eq!((before.open.len(), before.orphans.len()), (1, 0));
    let removed = bus.append(Record::RuleRemove(uid())).await.expect("append");
    bus.durable(removed.position).await.expect("durable");
    drop(bus);
    let after = recovered(&open(dir.path()));
    assert_eq!((after.open.len(), after.orphans.len()), (0, 1));
}

#[tokio::test]
async fn a_start_knows_until_when_the_operator_listened() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut shard = Loop::open(dir.path());
    shard.checkpoint().await;
    drop(shard);
    let bus = open(dir.path());
    assert_eq!(recover(&*bus, usize::MAX).expect("recover").listened, Some(1_790_000_000_000_000));
    let appended = bus.append(event(1, 0)).await.expect("append");
    bus.durable(appended.position).await.expect("durable");
    drop(bus);
    let listened = recover(&*open(dir.path()), usize::MAX).expect("recover").listened;
    assert_eq!(listened, Some(appended.stamp.wall), "the last record tells more than the last commit");
}
