use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::Rejected,
    controller::testing::{Site, Statuses, condition, object},
    sources::EventSourceState,
};

/// What was asked of it, in order.
#[derive(Default)]
struct Notes {
    asked: Mutex<Vec<String>>,
    fault: Mutex<Option<String>>,
    link: Mutex<Option<Link>>,
    figures: Mutex<SourceFigures>,
}

impl Intake for Notes {
    fn set(&self, source: &ObjectId, generation: i64, spec: &EventSourceSpec) -> Result<(), Vec<String>> {
        self.asked.lock().push(format!("set {}/{} {generation}", source.namespace, source.name));
        let limit = spec.webhook.as_ref().and_then(|webhook| webhook.rate_limit);
        match limit.map(|limit| limit.events) {
            Some(13) => Err(vec!["spec.webhook.rateLimit: no".to_owned()]),
            _ => Ok(()),
        }
    }

    fn remove(&self, namespace: &str, name: &str) {
        self.asked.lock().push(format!("remove {namespace}/{name}"));
    }

    fn hold(&self, _: &str, _: &str, why: Option<String>) {
        self.asked.lock().push(if why.is_some() { "hold".to_owned() } else { "let in".to_owned() });
    }

    fn fault(&self, _: &str, _: &str) -> Option<String> {
        self.fault.lock().clone()
    }

    fn link(&self, _: &str, _: &str) -> Option<Link> {
        self.link.lock().clone()
    }

    fn figures(&self, _: &str, _: &str) -> Option<SourceFigures> {
        Some(self.figures.lock().clone())
    }
}

impl Notes {
    /// What was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn source(generation: i64, spec: Value) -> Object {
    object(json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventSource", "spec": spec,
        "metadata": {"namespace": "shop", "name": "github", "uid": "s1", "generation": generation}}))
}

fn signed(keys: &[&str]) -> Value {
    let keys: Vec<Value> = keys.iter().map(|key| json!({"name": "github", "key": key})).collect();
    json!({"serviceAccountName": "ops", "webhook": {"auth": {"hmac": {"header": "X-Sig", "secretRefs": keys}}}})
}

fn open() -> Value {
    json!({"serviceAccountName": "ops", "webhook": {"auth": {"none": {}}}})
}

struct Bench {
    sources: Sources,
    intake: Arc<Notes>,
    names: EventSources,
    status: Statuses,
}

fn controller(site: &Site) -> Bench {
    let (status, intake, names) = (site.status(), Arc::new(Notes::default()), EventSources::default());
    let sources =
        Sources::new(site.cluster(), intake.clone(), names.clone(), status.queue.clone(), site.synced.clone());
    Bench { sources, intake, names, status }
}

impl Bench {
    async fn apply(&mut self, object: Object) {
        self.sources.apply(object).await.expect("apply");
    }

    async fn tick_after(&mut self, time: Duration) {
        tokio::time::advance(time).await;
        self.sources.tick().await.expect("tick");
    }

    async fn ready(&self) -> Value {
        condition(&self.status.of("github").await, "Ready").clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_is_ready_when_one_of_its_keys_has_a_value() {
    let site = Site::with_account("ops");
    let mut bench = controller(&site);
    bench.apply(source(1, signed(&["new", "old"]))).await;
    let ready = bench.ready().await;
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("SecretNotFound")));
    let message = ready["message"].as_str().expect("message");
    for part in ["Secret shop/github does not exist; its key new", "its key old", "until then nothing is accepted"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(bench.names.state("shop", "github"), EventSourceState::Closed(message.to_owned()));

    site.secrets.lock().insert("github".into(), json!({"old": "aGk="}));
    bench.tick_after(NOT_READY).await;
    let ready = bench.ready().await;
    assert_eq!(ready["reason"], "InForce");
    assert_eq!(ready["message"], "events are accepted; Secret shop/github has no value under the key new");
    assert_eq!(bench.names.state("shop", "github"), EventSourceState::Open);

    site.secrets.lock().clear();
    bench.tick_after(READY).await;
    assert_eq!(bench.ready().await["reason"], "SecretNotFound");
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_key_can_be_none_is_not_ready_and_says_what_to_do() {
    let site = Site::with_account("ops");
    site.secrets.lock().insert("github".into(), json!({"old": "bm90IGJhc2U2NCE=", "new": "d2hzZWNfTUZtQQ=="}));
    let mut bench = controller(&site);
    let signing = |keys: &[&str]| {
        let keys: Vec<Value> = keys.iter().map(|key| json!({"name": "github", "key": key})).collect();
        json!({"serviceAccountName": "ops", "webhook": {"auth": {"standardWebhooks": {"secretRefs": keys}}}})
    };
    bench.apply(source(1, signing(&["old"]))).await;
    let ready = bench.ready().await;
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("SecretInvalid")));
    let message = ready["message"].as_str().expect("message");
    assert!(message.starts_with("key old of Secret shop/github is no Base64: put the key there"), "{message}");
    assert!(!message.contains("not base64"), "{message}");
    bench.apply(source(2, signing(&["old", "new"]))).await;
    let ready = bench.ready().await;
    assert_eq!(ready["status"], "True");
    assert!(ready["message"].as_str().expect("message").contains("key old of Secret shop/github is no Base64"));
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_account_may_not_be_used_takes_nothing_until_it_may() {
    let site = Site::default();
    let mut bench = controller(&site);
    bench.apply(source(1, open())).await;
    assert_eq!(bench.ready().await["reason"], "AccountNotFound");
    assert_eq!(bench.intake.asked(), ["hold", "set shop/github 1", "hold"]);

    site.accounts.lock().insert("ops".to_owned(), Some("true"));
    bench.tick_after(NOT_READY).await;
    let ready = bench.ready().await;
    assert_eq!(ready["reason"], "InForce");
    assert_eq!(ready["message"], "events are accepted, whoever sends them");
    assert_eq!(bench.intake.asked(), ["let in"]);

    // An API server that does not answer takes nothing back, but gives no new account, either.
    site.away.store(true, std::sync::atomic::Ordering::SeqCst);
    bench.tick_after(READY).await;
    assert_eq!(bench.intake.asked(), ["let in"]);
    bench.apply(source(2, open())).await;
    assert_eq!(bench.intake.asked(), ["set shop/github 2", "let in"]);
    let mut other = open();
    other["serviceAccountName"] = json!("another");
    bench.apply(source(3, other)).await;
    assert_eq!(bench.intake.asked(), ["hold", "set shop/github 3", "hold"]);
    site.away.store(false, std::sync::atomic::Ordering::SeqCst);

    bench.apply(source(4, open())).await;
    assert_eq!(bench.intake.asked(), ["hold", "set shop/github 4", "let in"]);
    site.accounts.lock().insert("ops".to_owned(), None);
    bench.tick_after(READY).await;
    assert_eq!(bench.ready().await["reason"], "AccountNotUsable");
    assert_eq!(bench.intake.asked(), ["hold"]);
}

#[tokio::test(start_paused = true)]
async fn a_spec_with_faults_leaves_the_source_before_it_in_use() {
    let site = Site::with_account("ops");
    let mut bench = controller(&site);
    bench.apply(source(1, open())).await;
    let mut limited = open();
    limited["webhook"]["rateLimit"] = json!({"events": 13});
    let mut unreadable = open();
    unreadable["webhook"]["rateLimit"] = json!({"events": 1, "per": "7d"});
    for (generation, spec, said) in [(2, limited, "spec.webhook.rateLimit: no"), (3, unreadable, "168h")] {
        bench.apply(source(generation, spec)).await;
        let told = bench.status.of("github").await;
        let ready = condition(&told, "Ready");
        assert_eq!((&ready["reason"], &told["observedGeneration"]), (&json!("InvalidSpec"), &json!(generation)));
        let message = ready["message"].as_str().expect("message");
        assert!(message.contains(said) && message.ends_with("; the version before is used until then"), "{message}");
        assert_eq!(bench.names.state("shop", "github"), EventSourceState::Open);
    }
    assert_eq!(bench.intake.asked().iter().filter(|asked| *asked == "remove").count(), 0);
    site.accounts.lock().clear();
    bench.intake.asked();
    bench.tick_after(READY).await;
    assert_eq!(bench.intake.asked(), ["hold"], "the account of the version in use is looked at");
}

#[tokio::test(start_paused = true)]
async fn what_the_intake_waits_for_is_told_and_counts_are_told_now_and_then() {
    let site = Site::with_account("ops");
    let mut bench = controller(&site);
    *bench.intake.fault.lock() = Some("the Secrets were not read yet".to_owned());
    bench.apply(source(1, open())).await;
    let ready = bench.ready().await;
    assert_eq!((&ready["status"], &ready["message"]), (&json!("Unknown"), &json!("the Secrets were not read yet")));
    *bench.intake.fault.lock() = None;
    let rejected = Rejected { malformed: 2, ..Rejected::default() };
    let at = Some(Timestamp::UNIX_EPOCH);
    *bench.intake.figures.lock() =
        SourceFigures { received: 5, duplicates: 1, rejected, last: at, ping: at, lag: Some(3) };
    bench.tick_after(NOT_READY).await;
    let told = bench.status.of("github").await;
    assert_eq!(condition(&told, "Ready")["status"], "True");
    assert_eq!(
        (&told["received"], &told["rejected"]["total"], &told["path"]),
        (&json!(5), &json!(2), &json!("/hooks/shop/github"))
    );
    bench.intake.figures.lock().received = 6;
    bench.tick_after(Duration::from_secs(1)).await;
    assert_eq!(bench.status.of("github").await["received"], 5, "counts may wait");
    bench.tick_after(FIGURES).await;
    assert_eq!(bench.status.of("github").await["received"], 6);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_gone_takes_nothing_and_one_of_the_same_name_goes_on() {
    let site = Site::with_account("ops");
    let mut bench = controller(&site);
    let changes = bench.names.clone();
    bench.apply(source(1, open())).await;
    let mut second = source(1, open());
    second.metadata.uid = Some("s2".to_owned());
    bench.apply(second).await;
    bench.intake.asked();
    bench.sources.gone("s1").await.expect("gone");
    assert_eq!(bench.intake.asked(), Vec::<String>::new());
    bench.sources.listed(&HashSet::new()).await.expect("listed");
    assert_eq!(bench.intake.asked(), ["remove shop/github", "let in"]);
    assert!(site.synced.get());
    assert_eq!(changes.state("shop", "github"), EventSourceState::Missing);
}
