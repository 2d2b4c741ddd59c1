//! A runner with a log of its own on a real API server: firings are handed to it, and what it has recorded is read.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use signalbox::{
    api::EventRuleSpec,
    bus::{
        Bus, Firings, Reader,
        embedded::{Embedded, Settings},
    },
    clock::Clock,
    event::Event,
    kubernetes::{Authority, Cluster},
    net::{Guard, Http},
    record::{
        Brief, Finished, Firing, FiringId, Intent, OpenFiring, Position, Record, RuleRef, RuleUid, Shelf, Stamp, Step,
    },
    rule::compile,
    runner::{Limit, Runner},
    sinks::Registry,
};

use super::{PATIENCE, control_plane::shared};

/// A namespace with an account that may do what the test grants, a Deployment `web` of two, and a runner with a log of its own.
pub struct Stage {
    /// The namespace.
    pub namespace: String,
    /// A client that may do everything.
    pub client: kube::Client,
    runner: Runner,
    shelf: Shelf,
    /// The sinks that the runner knows.
    pub sinks: Registry,
    reader: Box<dyn Reader>,
    /// How long the next record may take to come.
    pub patience: Duration,
    /// What the log holds, as far as it was read.
    records: Vec<Arc<Record>>,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// A stage whose account `ops` has these rules of a Role.
    pub async fn new(prefix: &str, rules: &str) -> Self {
        let plane = shared().await;
        let namespace = plane.namespace(prefix).await;
        let meta = |name: &str| format!(r#"{{"name": "{name}", "namespace": "{namespace}"}}"#);
        plane
            .apply(&format!(
                r#"{{"apiVersion": "v1", "kind": "List", "items": [
                {{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {}}},
                {{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {}, "rules": {rules}}},
                {{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {},
                  "roleRef": {{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ops"}},
                  "subjects": [{{"kind": "ServiceAccount", "name": "ops", "namespace": "{namespace}"}}]}},
                {{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {{"replicas": 2,
                  "selector": {{"matchLabels": {{"app": "web"}}}}, "template": {{"metadata": {{"labels": {{"app": "web"}}}},
                  "spec": {{"containers": [{{"name": "web", "image": "example.invalid/web:1"}}]}}}}}}}}]}}"#,
                meta("ops"),
                meta("ops"),
                meta("ops"),
                meta("web")
            ))
            .await;
        let folder = tempfile::tempdir().expect("a folder");
        let bus = Embedded::open(folder.path(), Settings::default()).expect("a log");
        let reader = bus.reader().expect("the first reader");
        let cluster = Cluster::connect_with(plane.config().await).expect("a cluster");
        let http = Http::new(Guard::new(vec!["127.0.0.0/8".parse().expect("a range")], vec![]));
        let sinks = Registry::default();
        let shelf = Shelf::default();
        let firings = Firings::new(bus, shelf.clone());
        let runner =
            Runner::new(cluster, Authority::sole(), firings, sinks.clone(), http, Clock::real(0), Limit::none());
        runner.begin();
        let client = plane.client().await;
        Self {
            namespace,
            client,
            runner,
            shelf,
            sinks,
            reader,
            patience: PATIENCE,
            records: Vec::new(),
            _folder: folder,
        }
    }

    /// A firing of a rule with these actions.
    pub fn firing(&self, id: &str, actions: Value) -> OpenFiring {
        let spec: EventRuleSpec = serde_json::from_value(json!({
            "serviceAccountName": "ops",
            "sources": [{"name": "crash", "kubernetesEvent": {"types": ["Warning"]}}],
            "actions": actions,
        }))
        .expect("a spec");
        let event = Event {
            subject: Some(format!("{}/Pod/web-1", self.namespace)),
            time: Some("2026-11-25T10:00:00Z".parse().expect("a time")),
            ..Event::new(
                "uid-1/3",
                "/apis/events.k8s.io/v1/events",
                signalbox::event::TYPE_KUBERNETES_EVENT,
                json!({"message": "Back-off \"web\"\n"}),
            )
        };
        let rule = RuleRef {
            uid: RuleUid("0b9d2d3c-rule".into()),
            namespace: self.namespace.clone(),
            name: "web-crashloop".into(),
        };
        OpenFiring {
            firing: Firing {
                id: FiringId(id.into()),
                rule,
                generation: 1,
                source: "crash".into(),
                group: "g".into(),
                group_values: BTreeMap::new(),
                count: None,
                kind: Default::default(),
                step: None,
                planned: None,
                restores: None,
                closes: false,
                value: None,
                baseline: None,
                input: Position(0),
                stamp: Stamp::default(),
            },
            event: Arc::new(event),
            spec: Arc::new(spec),
            steps: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Compiles a whole spec, such as that of a sample.
    pub fn compile(&self, spec: &Value) {
        let spec: EventRuleSpec = serde_json::from_value(spec.clone()).expect("a spec");
        let rule = self.firing("compiled", json!([])).firing.rule;
        compile(&rule, 1, &Arc::new(spec)).expect("a rule without faults");
    }

    /// Runs a firing to its end.
    pub async fn run(&mut self, open: OpenFiring) -> Finished {
        let rule = compile(&open.firing.rule, 1, &open.spec).expect("a rule");
        let (id, brief) = (open.firing.id.clone(), Brief::of(&open));
        self.shelf.put(open);
        self.runner.start(&id, &brief, rule);
        self.finished().await
    }

    /// Reads on until a firing has ended.
    pub async fn finished(&mut self) -> Finished {
        loop {
            let next = tokio::time::timeout(self.patience, self.reader.next(1)).await.expect("the firing ends");
            let entry = next.expect("the log is open").remove(0);
            self.reader.advance(entry.head.position);
            self.records.push(Arc::clone(&entry.record));
            if let Record::Finished(finished) = &*entry.record {
                return finished.clone();
            }
        }
    }

    /// Runs a firing as after a crash: these steps have been begun, as they were recorded last, and have no outcome.
    pub async fn again(&mut self, mut open: OpenFiring, actions: &[&str]) -> Finished {
        for action in actions {
            let Intent { rendering, request, .. } = self.intent(action);
            open.steps.insert((*action).into(), Step { intent: Some((rendering, request)), ..Step::default() });
        }
        let known = (open.firing.id.clone(), Brief::of(&open));
        self.shelf.put(open);
        self.runner.resume([known]);
        self.finished().await
    }

    /// The last request of the action.
    pub fn intent(&self, action: &str) -> Intent {
        let intent = self.records.iter().rev().find_map(|record| match &**record {
            Record::Intent(intent) if intent.action == action => Some(intent.clone()),
            _ => None,
        });
        intent.expect("an intent")
    }

    /// The Deployment's replicas.
    pub async fn replicas(&self) -> Option<i32> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        deployments.get("web").await.expect("get the Deployment").spec.replicas
    }

    /// The Jobs of the namespace.
    pub async fn jobs(&self) -> Vec<Job> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        jobs.list(&ListParams::default()).await.expect("list Jobs").items
    }
}
