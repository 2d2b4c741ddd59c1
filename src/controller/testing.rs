//! What the tests of controllers need: an API server, a log, listeners and a queue of statuses, all played.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};

use super::{Object, Synced, rules::Listeners};
use crate::{
    actions::Services,
    api::USABLE_LABEL,
    bus::{Bus, BusError, Permit, Reader, Recovery, Stats},
    clock::Stamp,
    kubernetes::{
        Cluster, event_channel,
        fake::{Fake, Seen, failure},
        policy::tests as policy_tests,
    },
    record::{Delta, Head, LogId, Position, Record, RuleUid, Table},
    sources::Wanted,
    status::{StatusQueue, Writer},
    telemetry::Metrics,
};

/// An API server with accounts and Secrets.
#[derive(Clone, Default)]
pub(super) struct Site {
    /// Label of each account that exists.
    pub(super) accounts: Arc<Mutex<HashMap<String, Option<&'static str>>>>,
    /// Keys and values (base64) of each Secret that exists.
    pub(super) secrets: Arc<Mutex<HashMap<String, Value>>>,
    pub(super) away: Arc<AtomicBool>,
    /// Resources on which accounts have no rights.
    pub(super) denied: Arc<Mutex<Vec<&'static str>>>,
    /// Whether the chart's admission policy is there.
    pub(super) policy: Arc<AtomicBool>,
    /// What was done, in order: records, and what listeners were told.
    pub(super) log: Arc<Mutex<Vec<String>>>,
    pub(super) full: Arc<AtomicBool>,
    pub(super) synced: Synced,
}

impl Site {
    pub(super) fn with_account(name: &str) -> Self {
        let site = Self::default();
        site.accounts.lock().insert(name.to_owned(), Some("true"));
        site
    }

    pub(super) fn fake(&self) -> Fake {
        let site = self.clone();
        Fake::new(move |seen| site.answer(seen))
    }

    fn answer(&self, seen: &Seen) -> (u16, Value) {
        if self.away.load(Ordering::SeqCst) {
            return failure(500, "InternalError", "etcd is away");
        }
        let name = seen.path.rsplit('/').next().unwrap_or_default();
        if seen.path.ends_with("/selfsubjectaccessreviews") {
            return (201, json!({"spec": {}, "status": {"allowed": true}}));
        }
        if seen.path.ends_with("/subjectaccessreviews") {
            let resource = &seen.body["spec"]["resourceAttributes"]["resource"];
            let allowed = !self.denied.lock().iter().any(|denied| resource == denied);
            return (201, json!({"spec": {}, "status": {"allowed": allowed}}));
        }
        if seen.path.contains("/serviceaccounts/") {
            return match self.accounts.lock().get(name) {
                Some(label) => {
                    let labels = label.map(|label| json!({USABLE_LABEL: label})).unwrap_or_else(|| json!({}));
                    (200, json!({"metadata": {"name": name, "labels": labels}}))
                }
                None => failure(404, "NotFound", "no account"),
            };
        }
        if seen.path.contains("/validatingadmissionpolic") {
            return match self.policy.load(Ordering::SeqCst) {
                true if seen.path.contains("bindings/") => (200, policy_tests::binding()),
                true => (200, policy_tests::policy()),
                false => failure(404, "NotFound", "no policy"),
            };
        }
        if seen.path.contains("/secrets/") {
            return match self.secrets.lock().get(name) {
                Some(data) => (200, json!({"metadata": {"name": name}, "data": data})),
                None => failure(404, "NotFound", "no Secret"),
            };
        }
        (200, json!({"metadata": seen.body["metadata"]}))
    }

    pub(super) fn note(&self, line: String) {
        self.log.lock().push(line);
    }

    /// What was done since the last call.
    pub(super) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }

    pub(super) fn status(&self) -> Statuses {
        let fake = self.fake();
        let (recorder, _writer) = event_channel(fake.client(), "pod", Counter::default());
        Statuses { queue: StatusQueue::new(recorder), fake }
    }

    pub(super) fn services(&self) -> Arc<Services> {
        crate::actions::testing::services(&self.fake())
    }

    pub(super) fn cluster(&self) -> Cluster {
        Cluster::with_client(self.fake().client())
    }
}

/// A queue of statuses, and a writer that is run when a test wants to know.
pub(super) struct Statuses {
    pub(super) queue: StatusQueue,
    fake: Fake,
}

impl Statuses {
    /// The last status written of the object, as the API server has got it.
    pub(super) async fn of(&self, name: &str) -> Value {
        let shutdown = tokio_util::sync::CancellationToken::new();
        shutdown.cancel();
        Writer::new(self.queue.clone(), self.fake.client(), Arc::new(Metrics::default())).run(shutdown).await;
        let path = format!("/{name}/status");
        let last = self.fake.requests().into_iter().rfind(|seen| seen.path.ends_with(&path));
        last.map(|seen| seen.body[1]["value"].clone()).unwrap_or_default()
    }
}

pub(super) fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let found = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == type_);
    found.unwrap_or(&Value::Null)
}

pub(super) fn object(value: Value) -> Object {
    serde_json::from_value(value).expect("an object")
}

impl Listeners for Site {
    fn set(&self, wanted: Wanted) -> BoxFuture<'_, ()> {
        let fresh = if wanted.fresh { " fresh" } else { "" };
        self.note(format!("set {} {} as {}{fresh}", wanted.rule.name, wanted.generation, wanted.account.name));
        Box::pin(async {})
    }

    fn remove(&self, rule: RuleUid) -> BoxFuture<'_, ()> {
        self.note(format!("remove {rule}"));
        Box::pin(async {})
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        self.note("settled".to_owned());
        Box::pin(async {})
    }
}

impl Bus for Site {
    fn id(&self) -> &LogId {
        unreachable!("controllers do not ask")
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        if self.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(BusError::Full) });
        }
        self.note(match record {
            Record::RulePut(put) => format!("RulePut {} {}", put.rule.name, put.generation),
            Record::RuleRemove(rule) => format!("RuleRemove {rule}"),
            Record::Deaf(source) => format!("Deaf {} {} {}", source.rule, source.generation, source.source),
            other => format!("{other:?}"),
        });
        Box::pin(async { Ok(Head { position: Position(1), stamp: Stamp::default() }) })
    }

    fn record(&self, _: Record) -> Result<Head, BusError> {
        Err(BusError::Closed)
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
        Box::pin(async { Err(BusError::Closed) })
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
