use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    record::{Account, RulePut},
    sources::{
        Listening,
        testing::{Answer, Asked, Collected, Server, interest, line, list, object, rule, status},
    },
};

/// What the API server grants, serves and holds.
#[derive(Default)]
struct Settings {
    /// Nothing is granted to accounts.
    denied: AtomicBool,
    /// The operator itself may not list ConfigMaps.
    operator_denied: AtomicBool,
    /// Widgets are not installed.
    no_widgets: AtomicBool,
}

struct Site {
    server: Server,
    log: Arc<Collected>,
    settings: Arc<Settings>,
    event_sources: EventSources,
    handle: Handle,
    interest: watch::Sender<Arc<Interest>>,
    reports: mpsc::Receiver<SourceReport>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), SupervisorError>>,
}

fn answer(settings: &Settings, asked: &Asked) -> Answer {
    let on = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
    let kind = |plural: &str, kind: &str, scope: &str| json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope});
    let groups = |items: Value| {
        Answer::Json(
            200,
            json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}),
        )
    };
    let core = json!([
        kind("configmaps", "ConfigMap", "Namespaced"),
        kind("events", "Event", "Namespaced"),
        kind("pods", "Pod", "Namespaced"),
        kind("nodes", "Node", "Cluster")
    ]);
    match asked.path.as_str() {
        "/api" => groups(json!([{"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": core}]}])),
        "/apis" if on(&settings.no_widgets) => groups(json!([])),
        "/apis" => groups(json!([{"metadata": {"name": "acme.com"},
            "versions": [{"version": "v1", "resources": [kind("widgets", "Widget", "Namespaced")]}]}])),
        path if path.ends_with("/subjectaccessreviews") => {
            let mut review = asked.body.clone();
            review["status"] = json!({"allowed": !on(&settings.denied)});
            Answer::Json(201, review)
        }
        path if path.ends_with("/configmaps") && on(&settings.operator_denied) => {
            Answer::Json(403, status(403, "Forbidden", "no"))
        }
        path if path.ends_with("/pods/web") => {
            Answer::Json(200, json!({"metadata": {"name": "web", "labels": {"app": "web"}}}))
        }
        path if path.ends_with("/namespaces/shop") => {
            Answer::Json(200, json!({"metadata": {"name": "shop", "labels": {"team": "a"}}}))
        }
        path if path.ends_with("/events") && asked.is_watch() => {
            let mut event = object("e", 6);
            event["involvedObject"] = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web"});
            Answer::Open(vec![line("ADDED", event)])
        }
        path if path.ends_with("/events") => list(5, &[]),
        _ if asked.is_watch() => Answer::Open(Vec::new()),
        _ => list(5, &[object("a", 3), object("b", 4)]),
    }
}

fn start() -> Site {
    let settings = Arc::new(Settings::default());
    let of_server = settings.clone();
    let server = Server::new(move |asked| answer(&of_server, asked));
    let log = Collected::new();
    let (sender, receiver) = watch::channel(Arc::default());
    let (reports, told) = mpsc::channel(64);
    let cluster = Cluster::with_client(server.client());
    let (supervisor, handle) = Supervisor::new(cluster, log.clone(), receiver, HashMap::new(), reports);
    let event_sources = EventSources::default();
    let supervisor = supervisor.with_event_sources(event_sources.clone());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(supervisor.run(shutdown.clone()));
    Site { server, log, settings, event_sources, handle, interest: sender, reports: told, shutdown, task }
}

impl Site {
    async fn set(&self, put: &RulePut) {
        let account = Account { namespace: "shop".to_owned(), name: "shop-ops".to_owned() };
        let (rule, generation, spec) = (put.rule.clone(), put.generation, put.spec.clone());
        self.handle.set(Wanted { rule, generation, account, spec, fresh: true }).await;
    }

    fn judge(&self, rules: &[RulePut]) {
        self.interest.send_replace(interest(rules));
    }

    /// The next report in which the sources are doing this.
    async fn report(&mut self, wanted: impl Fn(&SourceReport) -> bool) -> SourceReport {
        let found = async {
            loop {
                let report = self.reports.recv().await.expect("the supervisor runs");
                if wanted(&report) {
                    return report;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(600), found).await.expect("a report in time")
    }

    fn lists(&self, plural: &str) -> usize {
        let is = |asked: &&Asked| asked.path.ends_with(plural) && !asked.is_watch();
        self.server.asked().iter().filter(is).count()
    }
}

fn maps(name: &str, generation: i64) -> RulePut {
    rule(name, generation, json!([{"name": "any", "resource": {"apiVersion": "v1", "kind": "ConfigMap"}}]))
}

fn established(report: &SourceReport) -> bool {
    report.listening == Listening::Established
}

#[tokio::test(start_paused = true)]
async fn a_source_has_its_baseline_when_its_list_is_taken_and_the_shard_knows_the_rule() {
    let mut site = start();
    let put = maps("r", 1);
    site.set(&put).await;
    let report = site.report(|_| true).await;
    assert_eq!((report.listening, report.authorized), (Listening::Starting, Ok(())));
    assert_eq!(site.log.wait(1).await, ["seen a@3 b@4 list@5"]);
    site.judge(&[put]);
    assert_eq!(site.log.wait(2).await[1], "baseline r/any 1");
    site.report(established).await;

    site.shutdown.cancel();
    site.task.await.expect("no panic").expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_makes_the_source_deaf_until_it_is_granted() {
    let mut site = start();
    site.settings.denied.store(true, Ordering::SeqCst);
    let put = maps("r", 1);
    site.judge(std::slice::from_ref(&put));
    site.set(&put).await;
    let report = site.report(|_| true).await;
    let missing = report.authorized.expect_err("rights are missing");
    let text = missing[0].to_string();
    assert!(text.contains("ServiceAccount shop/shop-ops may not list configmaps in namespace shop"), "{text}");
    assert_eq!(missing.len(), 2, "list and watch");
    assert_eq!(site.log.wait(1).await, ["deaf r/any 1"]);
    assert_eq!(site.lists("/configmaps"), 0, "nothing is watched for somebody who may not see it");

    site.settings.denied.store(false, Ordering::SeqCst);
    assert_eq!(site.log.wait(3).await[1..], ["seen a@3 b@4 list@5", "baseline r/any 1"]);
    site.report(established).await;

    site.settings.denied.store(true, Ordering::SeqCst);
    assert_eq!(site.log.wait(4).await[3], "deaf r/any 1");
    site.report(|report| report.authorized.is_err()).await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_comes_later_starts_to_work() {
    let mut site = start();
    site.settings.no_widgets.store(true, Ordering::SeqCst);
    let put = rule("r", 1, json!([{"name": "any", "resource": {"apiVersion": "acme.com/v1", "kind": "Widget"}}]));
    site.judge(std::slice::from_ref(&put));
    site.set(&put).await;
    let report = site.report(|_| true).await;
    assert!(
        matches!(report.listening, Listening::KindNotFound { message } if message.contains("acme.com/v1 has no kind Widget"))
    );
    assert_eq!(site.log.wait(1).await, ["deaf r/any 1"]);
    site.settings.no_widgets.store(false, Ordering::SeqCst);
    let since = Instant::now();
    assert_eq!(site.log.wait(3).await[2], "baseline r/any 1");
    assert!(since.elapsed() <= Duration::from_secs(16), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn rules_share_a_watch_and_the_last_one_ends_it() {
    let site = start();
    let (one, other) = (maps("one", 1), maps("other", 1));
    site.judge(&[one.clone(), other.clone()]);
    site.set(&one).await;
    site.log.wait(2).await;
    site.set(&other).await;
    assert_eq!(site.log.wait(3).await[1..], ["baseline one/any 1", "baseline other/any 1"]);
    assert_eq!(site.lists("/configmaps"), 1);

    site.handle.remove(one.rule.uid).await;
    site.handle.remove(other.rule.uid).await;
    assert_eq!(site.log.wait(4).await[3], "forget v1/ConfigMap@shop");
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_kept_until_the_next_version_of_the_rule_is_in_force() {
    let site = start();
    let first = maps("r", 1);
    site.judge(std::slice::from_ref(&first));
    site.set(&first).await;
    site.log.wait(2).await;
    let second = rule("r", 2, json!([{"name": "pods", "resource": {"apiVersion": "v1", "kind": "Pod"}}]));
    site.set(&second).await;
    assert_eq!(site.log.wait(3).await[2], "seen a@3 b@4 list@5");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.log.short().len(), 3, "the shard does not know the second version, so the first one goes on");
    site.judge(&[second]);
    assert_eq!(site.log.wait(5).await[3..], ["baseline r/pods 2", "forget v1/ConfigMap@shop"]);
}

#[tokio::test(start_paused = true)]
async fn what_exists_fires_once_for_the_one_source_that_asks_for_it() {
    let site = start();
    let source = json!([{"name": "all", "resource": {"apiVersion": "v1", "kind": "ConfigMap", "existing": "Fire"}}]);
    let first = rule("r", 1, source.clone());
    site.judge(std::slice::from_ref(&first));
    site.set(&first).await;
    let events = ["resource.created a/3 only r/all", "resource.created b/4 only r/all"];
    assert_eq!(site.log.wait(4).await[1..], [&["baseline r/all 1"][..], &events].concat());

    let second = rule("r", 2, source);
    site.judge(std::slice::from_ref(&second));
    site.set(&second).await;
    assert_eq!(site.log.wait(5).await[4], "baseline r/all 2");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(site.log.short().len(), 5, "an edit of something else does not fire them again");
}

#[tokio::test(start_paused = true)]
async fn labels_are_looked_up_as_the_account_and_kept_with_the_event() {
    let site = start();
    let put = rule(
        "r",
        1,
        json!([{"name": "pods", "kubernetesEvent": {
            "regarding": {"kind": "Pod", "selector": {"matchLabels": {"app": "web"}}},
            "namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}},
        }}]),
    );
    site.judge(std::slice::from_ref(&put));
    site.set(&put).await;
    let records = site.log.wait(3).await;
    assert!(records.contains(&"kubernetes.event e/1".to_owned()), "{records:?}");
    let lookups = site.log.events().remove(0).lookups;
    assert_eq!(lookups.namespace_labels, Some([("team".to_owned(), "a".to_owned())].into()));
    let account = Account { namespace: "shop".to_owned(), name: "shop-ops".to_owned() };
    assert_eq!(lookups.regarding(&account), Some(&[("app".to_owned(), "web".to_owned())].into()));

    let asked = site.server.asked();
    let pod =
        asked.iter().find(|asked| asked.path == "/api/v1/namespaces/shop/pods/web").expect("the pod was asked for");
    assert_eq!(pod.user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    let reviewed = |asked: &Asked| {
        asked.body.pointer("/spec/resourceAttributes").map(|what| (what["verb"].clone(), what["resource"].clone()))
    };
    let rights: Vec<_> = asked.iter().filter_map(reviewed).collect();
    assert_eq!(
        rights,
        [("list", "events"), ("watch", "events"), ("get", "pods")].map(|(verb, what)| (json!(verb), json!(what)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_right_that_the_operator_lacks_is_told_with_the_way_to_grant_it() {
    let mut site = start();
    site.settings.operator_denied.store(true, Ordering::SeqCst);
    let put = maps("r", 1);
    site.judge(std::slice::from_ref(&put));
    site.set(&put).await;
    let failed = |report: &SourceReport| matches!(report.listening, Listening::Failed { .. });
    let report = site.report(failed).await;
    let message = format!("{:?}", report.listening);
    assert!(message.contains("the operator itself may not list and watch configmaps in namespace shop"), "{message}");
    assert!(message.contains("signalbox.dev/aggregate-to-watch=true"), "{message}");
    assert_eq!(site.log.wait(1).await, ["deaf r/any 1"]);
    site.settings.operator_denied.store(false, Ordering::SeqCst);
    assert_eq!(site.log.wait(3).await[2], "baseline r/any 1");
    site.report(established).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_watches_that_nobody_needs_is_forgotten_once_all_rules_are_set() {
    let server = Server::new(|asked| answer(&Settings::default(), asked));
    let log = Collected::new();
    let (_sender, receiver) = watch::channel(Arc::default());
    let (reports, _told) = mpsc::channel(64);
    let key = |kind: &str| crate::sources::testing::key(kind);
    let memory = [(key("ConfigMap"), HashMap::new()), (key("Secret"), HashMap::new())].into();
    let (supervisor, handle) =
        Supervisor::new(Cluster::with_client(server.client()), log.clone(), receiver, memory, reports);
    tokio::spawn(supervisor.run(CancellationToken::new()));
    let put = maps("r", 1);
    let account = Account { namespace: "shop".to_owned(), name: "shop-ops".to_owned() };
    handle.set(Wanted { rule: put.rule, generation: 1, account, spec: put.spec, fresh: false }).await;
    handle.settled().await;
    assert!(log.wait(2).await.contains(&"forget v1/Secret@shop".to_owned()));
    assert!(!log.short().contains(&"forget v1/ConfigMap@shop".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_timetable_begins_with_its_baseline_and_is_forgotten_with_its_rule() {
    for fresh in [true, false] {
        let site = start();
        let put = rule("r", 1, json!([{"name": "at", "schedule": {"cron": "0 7 * * *"}}]));
        site.judge(std::slice::from_ref(&put));
        let account = Account { namespace: "shop".to_owned(), name: "shop-ops".to_owned() };
        let (of, spec) = (put.rule.clone(), put.spec.clone());
        site.handle.set(Wanted { rule: of, generation: 1, account, spec, fresh }).await;
        let told = site.log.wait(2).await;
        assert_eq!(told[0], "baseline r/at 1");
        assert!(told[1].starts_with("seen r/at/UTC/0 7 * * *@"), "{told:?}");
        site.handle.settled().await;
        site.handle.remove(put.rule.uid).await;
        assert_eq!(site.log.wait(3).await[2], "seen -r/at/UTC/0 7 * * *");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_listens_to_its_event_source_as_long_as_its_account_may_get_it_and_begins_when_it_is_there() {
    let mut site = start();
    site.settings.denied.store(true, Ordering::SeqCst);
    let put = rule("r", 1, json!([{"name": "push", "ref": {"name": "github"}}]));
    site.judge(std::slice::from_ref(&put));
    site.set(&put).await;
    // Without the right it is not told whether there is one.
    let report = site.report(|_| true).await;
    assert_eq!(report.listening, Listening::Starting);
    let missing = report.authorized.expect_err("a right is missing");
    assert!(
        missing[0].to_string().contains(
            "ServiceAccount shop/shop-ops may not get eventsources.signalbox.dev github in namespace shop; grant it with: kubectl create role"
        ),
        "{missing:?}"
    );
    assert_eq!(site.log.wait(1).await, ["deaf r/push 1"]);

    site.settings.denied.store(false, Ordering::SeqCst);
    site.event_sources.listed();
    let report = site.report(|report| report.authorized.is_ok() && report.listening > Listening::Starting).await;
    let Listening::EventSourceNotFound { message } = report.listening else { panic!("{report:?}") };
    assert!(message.contains("sources[push].ref: EventSource shop/github does not exist: create it"), "{message}");

    site.event_sources.set("other", "github", None);
    site.event_sources.set("shop", "github", None);
    assert_eq!(site.log.wait(2).await[1], "baseline r/push 1");
    site.report(established).await;
    assert_eq!(site.lists("/eventsources"), 0, "nothing is watched for it");

    site.event_sources.remove("shop", "github");
    site.report(|report| matches!(report.listening, Listening::EventSourceNotFound { .. })).await;
    site.event_sources.set("shop", "github", Some("Secret shop/github does not exist".to_owned()));
    let report = site.report(|report| matches!(report.listening, Listening::EventSourceNotReady { .. })).await;
    let said = "sources[push].ref: EventSource shop/github accepts no events: Secret shop/github does not exist";
    assert_eq!(report.listening, Listening::EventSourceNotReady { message: said.to_owned() });
    site.event_sources.set("shop", "github", None);
    site.report(established).await;
    assert_eq!(site.log.short().len(), 2, "one that comes again is listened to as before");

    site.settings.denied.store(true, Ordering::SeqCst);
    assert_eq!(site.log.wait(3).await[2], "deaf r/push 1");
}

#[tokio::test(start_paused = true)]
async fn an_event_source_that_is_not_there_keeps_no_version_from_its_other_sources() {
    let site = start();
    site.event_sources.listed();
    let put = rule(
        "r",
        1,
        json!([{"name": "push", "ref": {"name": "github"}}, {"name": "any", "resource": {"apiVersion": "v1", "kind": "ConfigMap"}}]),
    );
    site.judge(std::slice::from_ref(&put));
    site.set(&put).await;
    let mut told = site.log.wait(3).await;
    told.sort();
    assert_eq!(told, ["baseline r/any 1", "deaf r/push 1", "seen a@3 b@4 list@5"]);
}
