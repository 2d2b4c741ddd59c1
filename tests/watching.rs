//! The watch layer against a real API server: what the fake one of the unit tests only claims.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::json;
use signalbox::api::EventRuleSpec;
use signalbox::bus::{Bus, BusError, Permit, Reader, Recovery, Stats};
use signalbox::clock::Stamp;
use signalbox::event::{Origin, Seen, WatchKey};
use signalbox::kubernetes::Cluster;
use signalbox::record::{Account, Delta, EventInput, Head, LogId, Position, Record, RulePut, RuleRef, RuleUid, Table};
use signalbox::rule::Engine;
use signalbox::sources::{Listening, SourceReport, Supervisor, SupervisorError, Wanted};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use support::control_plane::{ControlPlane, shared};
use support::{PATIENCE, eventually};

mod support;

/// A log that only collects.
struct Log(LogId, watch::Sender<Vec<Record>>);

impl Log {
    fn records(&self) -> Vec<Record> {
        self.1.borrow().clone()
    }

    fn events(&self) -> Vec<EventInput> {
        let event = |record| if let Record::Event(input) = record { Some(*input) } else { None };
        self.records().into_iter().filter_map(event).collect()
    }

    /// What a restart finds.
    fn memory(&self) -> HashMap<WatchKey, HashMap<String, Seen>> {
        let mut memory: HashMap<WatchKey, HashMap<String, Seen>> = HashMap::new();
        let mut fold = |origin: Origin| {
            let objects = memory.entry(origin.watch).or_default();
            match origin.seen {
                Some(seen) => objects.insert(origin.uid, seen),
                None => objects.remove(&origin.uid),
            };
        };
        for record in self.records() {
            match record {
                Record::Event(input) => fold(input.origin),
                Record::Seen(origins) => origins.into_iter().for_each(&mut fold),
                _ => {}
            }
        }
        memory
    }
}

impl Bus for Log {
    fn id(&self) -> &LogId {
        &self.0
    }
    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(async { self.record(record) })
    }
    fn record(&self, record: Record) -> Result<Head, BusError> {
        self.1.send_modify(|records| records.push(record));
        Ok(Head { position: Position(self.1.borrow().len() as u64), stamp: Stamp::default() })
    }
    fn durable(&self, _: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(async { Err(BusError::Closed) })
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
        Box::pin(async { Ok(None) })
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

/// The supervisor, listening for one rule.
struct Site {
    log: Arc<Log>,
    reports: mpsc::Receiver<SourceReport>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), SupervisorError>>,
    _interest: watch::Sender<Arc<signalbox::rule::Interest>>,
}

async fn start(plane: &ControlPlane, put: &RulePut, memory: HashMap<WatchKey, HashMap<String, Seen>>) -> Site {
    let mut engine = Engine::new(LogId("log".to_owned()));
    engine.fold(&Head { position: Position(1), stamp: Stamp::default() }, &Record::RulePut(put.clone()));
    let (interest, interested) = watch::channel(engine.interest());
    let log = Arc::new(Log(LogId("log".to_owned()), watch::Sender::default()));
    let (sender, reports) = mpsc::channel(64);
    let cluster = Cluster::connect_with(plane.config().await).expect("a usable configuration");
    let fresh = memory.is_empty();
    let (supervisor, handle) = Supervisor::new(cluster, log.clone(), interested, memory, sender);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(supervisor.run(shutdown.clone()));
    let account = Account { namespace: put.rule.namespace.clone(), name: "watcher".to_owned() };
    let (rule, generation, spec) = (put.rule.clone(), put.generation, put.spec.clone());
    handle.set(Wanted { rule, generation, account, spec, fresh }).await;
    Site { log, reports, shutdown, task, _interest: interest }
}

impl Site {
    async fn report(&mut self, what: &str, wanted: impl Fn(&SourceReport) -> bool) -> SourceReport {
        let found = async {
            loop {
                let report = self.reports.recv().await.expect("the supervisor runs");
                if wanted(&report) {
                    return report;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect(what)
    }

    async fn established(&mut self) {
        self.report("established", |report| report.listening == Listening::Established).await;
    }

    async fn stop(self) -> Arc<Log> {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean end");
        self.log
    }
}

fn rule(namespace: &str, sources: serde_json::Value) -> RulePut {
    let spec = json!({"serviceAccountName": "watcher", "sources": sources,
        "actions": [{"name": "tell", "notify": {"sinkRef": {"name": "team"}, "text": "x"}}]});
    let spec: EventRuleSpec = serde_json::from_value(spec).expect("a spec");
    RulePut {
        rule: RuleRef { uid: RuleUid("r".into()), namespace: namespace.to_owned(), name: "r".to_owned() },
        generation: 1,
        spec: Arc::new(spec),
    }
}

async fn grant(plane: &ControlPlane, namespace: &str) {
    let role = format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: watcher, namespace: {namespace}}}, \
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}, \
         subjects: [{{kind: ServiceAccount, name: watcher, namespace: {namespace}}}]}}"
    );
    plane.apply(&role).await;
}

fn event(namespace: &str, name: &str, count: u32) -> String {
    format!(
        "{{apiVersion: v1, kind: Event, metadata: {{name: {name}, namespace: {namespace}}}, reason: Dripping, message: drip, type: Warning, \
         count: {count}, involvedObject: {{apiVersion: v1, kind: Pod, namespace: {namespace}, name: tap}}}}"
    )
}

#[tokio::test]
async fn a_restart_acts_on_what_happened_meanwhile_and_on_nothing_else() {
    let plane = shared().await;
    let namespace = plane.namespace("watching").await;
    grant(plane, &namespace).await;
    for (name, count) in [("old", 4), ("grows", 2), ("goes", 1)] {
        plane.apply(&event(&namespace, name, count)).await;
    }
    let put = rule(&namespace, json!([{"name": "drips", "kubernetesEvent": {"reasons": ["Dripping"]}}]));
    let mut site = start(plane, &put, HashMap::new()).await;
    site.established().await;
    plane.apply(&event(&namespace, "live", 1)).await;
    eventually("the live event", PATIENCE, async || (!site.log.events().is_empty()).then_some(())).await;
    let log = site.stop().await;
    assert_eq!(log.events().len(), 1, "what existed fires nothing");

    plane.apply(&event(&namespace, "new", 1)).await;
    plane.apply(&event(&namespace, "grows", 5)).await;
    plane.kubectl(&["delete", "event", "goes", "-n", &namespace]).await;
    let mut site = start(plane, &put, log.memory()).await;
    site.established().await;
    let log = site.stop().await;
    let told: Vec<(String, u64)> = log
        .events()
        .iter()
        .map(|input| {
            let name = input.event.data["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            (name, input.event.data["delta"].as_u64().unwrap_or_default())
        })
        .collect();
    assert_eq!(told, [("new".to_owned(), 1), ("grows".to_owned(), 3)]);
    let gone =
        |record: &Record| matches!(record, Record::Seen(origins) if origins.iter().any(|origin| origin.seen.is_none()));
    assert!(log.records().iter().any(gone), "the deleted one is forgotten");
}

#[tokio::test]
async fn an_object_that_leaves_the_selector_is_told_of_also_when_it_left_while_nobody_listened() {
    let plane = shared().await;
    let namespace = plane.namespace("watching").await;
    grant(plane, &namespace).await;
    let map = |name: &str, tier: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: {namespace}, labels: {{tier: {tier}}}}}}}"
        )
    };
    for name in ["live", "away", "stays"] {
        plane.apply(&map(name, "front")).await;
    }
    let resource = json!({"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"tier": "front"}}});
    let put = rule(&namespace, json!([{"name": "maps", "resource": resource}]));
    let mut site = start(plane, &put, HashMap::new()).await;
    site.established().await;
    plane.apply(&map("live", "back")).await;
    eventually("the update", PATIENCE, async || (!site.log.events().is_empty()).then_some(())).await;
    plane.apply(&map("live", "other")).await;
    let log = site.stop().await;
    plane.apply(&map("away", "back")).await;
    let mut again = start(plane, &put, log.memory()).await;
    again.established().await;
    let told = |log: &Log| -> Vec<(String, bool, usize)> {
        let of = |input: &EventInput| {
            let name = input.event.data["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            (name, input.event.data["gap"] == true, input.origin.changed.len())
        };
        log.events().iter().map(of).collect()
    };
    assert_eq!(told(&log), [("live".to_owned(), false, 1)], "what is outside is told of no more");
    assert_eq!(told(&*again.stop().await), [("away".to_owned(), true, 1)]);
}

#[tokio::test]
async fn rights_that_are_granted_later_make_the_source_listen() {
    let plane = shared().await;
    let namespace = plane.namespace("watching").await;
    let put = rule(
        &namespace,
        json!([{"name": "maps", "resource": {"apiVersion": "v1", "kind": "ConfigMap", "names": ["m"]}}]),
    );
    let mut site = start(plane, &put, HashMap::new()).await;
    let report = site.report("missing rights", |report| report.authorized.is_err()).await;
    let missing = report.authorized.expect_err("missing rights");
    assert!(
        missing[0].to_string().contains(&format!("may not list configmaps in namespace {namespace}")),
        "{}",
        missing[0]
    );

    grant(plane, &namespace).await;
    site.established().await;
    let map = |value: &str| {
        format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m, namespace: {namespace}}}, data: {{a: {value}}}}}"
        )
    };
    plane.apply(&map("one")).await;
    plane.apply(&map("two")).await;
    plane.kubectl(&["delete", "configmap", "m", "-n", &namespace]).await;
    eventually("three events", PATIENCE, async || (site.log.events().len() >= 3).then_some(())).await;
    let log = site.stop().await;
    let told: Vec<String> = log.events().iter().map(|input| input.event.type_.clone()).collect();
    assert_eq!(told, ["created", "updated", "deleted"].map(|what| format!("dev.signalbox.resource.{what}")));
    assert!(log.events().iter().all(|input| input.event.data["gap"] == false));
}
