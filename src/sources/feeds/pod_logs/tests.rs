//! Following logs of an API server that is played by a function. The proof with real kubelets is in `e2e`.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use serde_json::{Value, json};

use super::{
    super::{
        feed::{Feed, Net},
        link::{Link, Shared},
    },
    *,
};
use crate::{
    clock::{Clock, Stamp},
    net::{Connector, Guard},
    sinks::Secrets,
    sources::{
        accept::Accept,
        testing::{Answer, Asked, Collected, Server, line, list, status},
    },
    telemetry::Metrics,
};

const PODS: &str = "/api/v1/namespaces/shop/pods";

/// An EventSource that runs, and the API server that it speaks with.
struct Stage {
    server: Server,
    log: Arc<Collected>,
    shared: Arc<Shared>,
    run: tokio::task::JoinHandle<Result<Infallible, Down>>,
    watch: UnboundedSender<Value>,
}

impl Stage {
    /// With these Pods, these rights, and logs that are answered in this order.
    fn new(spec: Value, pods: Vec<Value>, may: fn(&Value) -> bool, logs: Vec<Answer>) -> Self {
        let (watch, fed) = unbounded();
        let (watching, logs) = (Mutex::new(Some(fed)), Mutex::new(VecDeque::from(logs)));
        let server = Server::new(move |asked: &Asked| match asked.path.as_str() {
            path if path.ends_with("accessreviews") => {
                let mut review = asked.body.clone();
                review["status"] = json!({"allowed": may(&asked.body["spec"]["resourceAttributes"])});
                Answer::Json(201, review)
            }
            path if path.ends_with("/eventsources/talk") => Answer::Json(
                200,
                json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventSource", "spec": {},
                    "metadata": {"name": "talk", "creationTimestamp": "2026-11-30T07:00:00Z"}}),
            ),
            PODS if asked.query.contains("watch=true") => watching.lock().take().map_or(Answer::Silent, Answer::Fed),
            PODS => list(7, &pods),
            path if path.ends_with("/log") => logs.lock().pop_front().unwrap_or(Answer::Silent),
            other => Answer::Json(404, status(404, "NotFound", other)),
        });
        let (log, shared) = (Collected::new(), Arc::<Shared>::default());
        let spec: EventSourceSpec = serde_json::from_value(json!({"podLogs": spec})).expect("a spec");
        let run = follow(&server, &log, &shared, spec);
        Self { server, log, shared, run, watch }
    }

    fn restarts(&self, restarts: u32) {
        let _ = self.watch.unbounded_send(line("MODIFIED", pod("web-1", restarts)));
    }

    /// What was asked for of logs.
    fn asked(&self) -> Vec<String> {
        let asked = self.server.asked().into_iter().filter(|asked| asked.path.ends_with("/log"));
        asked.map(|asked| asked.query).collect()
    }

    /// The lines that are events, once there are so many.
    async fn lines(&self, count: usize) -> Vec<String> {
        self.log.wait(count).await;
        self.log.events().iter().map(|input| input.event.data["line"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until there are so many questions for logs.
    async fn has_asked(&self, count: usize) {
        tokio::time::timeout(Duration::from_secs(900), async {
            while self.asked().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it asks");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.run.abort();
    }
}

fn follow(
    server: &Server,
    log: &Arc<Collected>,
    shared: &Arc<Shared>,
    spec: EventSourceSpec,
) -> tokio::task::JoinHandle<Result<Infallible, Down>> {
    let wall: Timestamp = "2026-11-30T08:00:00Z".parse().expect("a time");
    let clock = Clock::simulated(Stamp { wall: wall.as_microsecond(), ..Stamp::default() });
    let metrics = Arc::new(Metrics::default());
    let feed = Feed {
        namespace: "shop".to_owned(),
        name: "talk".to_owned(),
        uid: "s-1".to_owned(),
        kind: "podLogs",
        spec: Arc::new(spec.clone()),
        cluster: Cluster::with_client(server.client()),
        account: Account { namespace: "shop".to_owned(), name: "ops".to_owned() },
        secrets: Secrets::default(),
        accept: Accept::new(log.clone(), &mut HashMap::new(), Arc::new(|_, _| true), metrics, clock),
        net: Arc::new(Net::new(Connector::new(Guard::default()))),
        shared: Arc::clone(shared),
    };
    tokio::spawn(async move {
        let Some(EventSourceKind::PodLogs(logs)) = spec.kind() else { panic!("it is of this kind") };
        run(logs, &feed).await
    })
}

fn spec(more: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": "web"}}, "pattern": "^order (?P<order>\\S+) failed"});
    spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    spec
}

fn pod(name: &str, restarts: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "resourceVersion": "8",
            "creationTimestamp": "2026-11-30T07:30:00Z"},
        "spec": {}, "status": {"containerStatuses": [{"name": "app", "restartCount": restarts, "state": {"running": {}}}]}})
}

/// Lines with their second after eight o'clock.
fn text(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("2026-11-30T08:00:{line}\n")).collect()
}

#[tokio::test(start_paused = true)]
async fn each_line_is_one_event_over_cuts_and_restarts() {
    let logs = vec![
        Answer::Text(text(&["01.1Z order a failed", "01.2Z all is well", "01.3Z order b failed"])),
        // The whole second comes again, with one line more.
        Answer::Text(text(&[
            "01.1Z order a failed",
            "01.2Z all is well",
            "01.3Z order b failed",
            "01.4Z order c failed",
        ])),
        // The rest of the life before, and the next one.
        Answer::Text(text(&["01.3Z order b failed", "01.4Z order c failed", "02Z order d failed"])),
        Answer::Raw(text(&["03Z order e failed"])),
    ];
    let stage = Stage::new(spec(json!({})), vec![pod("web-1", 0)], |_| true, logs);
    stage.has_asked(2).await;
    stage.restarts(1);
    let lines = stage.lines(5).await;
    assert_eq!(lines, ["a", "b", "c", "d", "e"].map(|order| format!("order {order} failed")));
    let asked = stage.asked();
    assert!(
        asked[0].contains("follow=true") && asked[0].contains("sinceTime=2026-11-30T07%3A55%3A00Z"),
        "{}",
        asked[0]
    );
    assert!(asked[1].contains("sinceTime=2026-11-30T08%3A00%3A01Z"), "{}", asked[1]);
    let previous: Vec<bool> = asked.iter().map(|query| query.contains("previous=true")).collect();
    assert_eq!(previous, [false, false, true, false]);
    assert!(asked.iter().all(|query| query.contains("timestamps=true") && query.contains("container=app")));
    let event = stage.log.events().remove(3).event;
    assert_eq!((event.type_.as_str(), event.subject.as_deref()), ("dev.signalbox.pod.log", Some("shop/Pod/web-1")));
    assert_eq!(event.data["match"], json!({"order": "d"}));
    assert_eq!(event.time, Some("2026-11-30T08:00:02Z".parse().expect("a time")));
    let users: Vec<_> = stage.server.asked().into_iter().filter(|asked| asked.path.starts_with(PODS)).collect();
    let account = Some("system:serviceaccount:shop:ops");
    assert!(users.iter().all(|asked| asked.user.as_deref() == account), "what Pods say is read as the account");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_is_followed_from_its_first_line_and_one_that_goes_is_let_go() {
    let logs = vec![Answer::Raw(text(&["01Z order a failed"]))];
    let stage = Stage::new(spec(json!({})), Vec::new(), |_| true, logs);
    let mut web = pod("web-1", 0);
    web["metadata"]["creationTimestamp"] = "2026-11-30T08:00:00Z".into();
    let send = |type_: &str| stage.watch.unbounded_send(line(type_, web.clone())).expect("a watch");
    send("ADDED");
    stage.lines(1).await;
    assert!(!stage.asked()[0].contains("sinceTime"), "{:?}", stage.asked());
    let key = ("u-web-1".to_owned(), "app".to_owned());
    assert!(stage.shared.pod_logs().mark(&key).is_some());
    send("DELETED");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(stage.shared.pod_logs().mark(&key).is_none());
    assert!(matches!(stage.shared.link(), Link::Up(words) if words.contains("no Pod")), "{:?}", stage.shared.link());
}

#[tokio::test(start_paused = true)]
async fn lines_beyond_the_limit_are_counted_and_told() {
    let lines: Vec<String> = (0..5).map(|number| format!("01.{number}Z order {number} failed")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain(["02Z order 5 failed and more"]).collect();
    let spec = spec(json!({"rateLimit": {"events": 2, "per": "1s"}}));
    let stage = Stage::new(spec, vec![pod("web-1", 0)], |_| true, vec![Answer::Raw(text(&lines))]);
    assert_eq!(stage.lines(3).await.len(), 3);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let figures = stage.shared.counted.get();
    assert_eq!((figures.received, figures.rejected.rate_limited), (3, 3));
    assert!(
        matches!(stage.shared.link(), Link::Partial(words) if words.contains("rateLimit")),
        "{:?}",
        stage.shared.link()
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(stage.shared.link(), Link::Up(_)), "it heals");
}

#[tokio::test(start_paused = true)]
async fn lines_of_many_pods_are_told_once_each_and_share_one_limit() {
    let (pods, each): (Vec<Value>, Vec<Answer>) = (0..90)
        .map(|number| {
            let lines = ["01.1Z order a", "01.2Z order b", "02Z order c"].map(|line| format!("{line}{number} failed"));
            (pod(&format!("web-{number}"), 0), Answer::Raw(text(&lines.each_ref().map(String::as_str))))
        })
        .unzip();
    let spec = spec(json!({"rateLimit": {"events": 100, "per": "1s"}}));
    let stage = Stage::new(spec, pods, |_| true, each);
    let mut lines = stage.lines(190).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let figures = stage.shared.counted.get();
    assert_eq!((figures.received, figures.duplicates, figures.rejected.rate_limited), (190, 0, 80));
    lines.sort();
    lines.dedup();
    assert_eq!((lines.len(), stage.asked().len()), (190, 90), "each log is asked for once, and each line told once");
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("order c")).count(),
        90,
        "those of another second count anew"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_kubelet_has_thrown_away_is_told() {
    let broken = Answer::Json(500, status(500, "InternalError", "no route to the kubelet"));
    let logs = vec![
        Answer::Text(text(&["01Z order a failed"])),
        broken,
        // The first line that is there now.
        Answer::Text(text(&["09Z order x"])),
        Answer::Raw(text(&["09Z order x failed"])),
    ];
    let stage = Stage::new(spec(json!({})), vec![pod("web-1", 0)], |_| true, logs);
    assert_eq!(stage.lines(2).await, ["order a failed", "order x failed"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(stage.asked()[2].contains("limitBytes=40"), "{:?}", stage.asked());
    assert!(
        matches!(stage.shared.link(), Link::Partial(words) if words.contains("web-1/app may be lost: its log was rotated"))
    );
}

#[tokio::test(start_paused = true)]
async fn words_of_the_kubelet_are_no_line() {
    let said = "order of the kubelet failed\n".to_owned() + &text(&["01Z order a failed"]);
    let stage = Stage::new(spec(json!({"pattern": "order"})), vec![pod("web-1", 0)], |_| true, vec![Answer::Raw(said)]);
    assert_eq!(stage.lines(1).await, ["order a failed"]);
    assert_eq!(stage.shared.counted.get().rejected.malformed, 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_right_it_says_which_and_how_to_grant_it() {
    let mut stage =
        Stage::new(spec(json!({})), Vec::new(), |attributes| attributes["subresource"] != "log", Vec::new());
    let Ok(Err(down)) = (&mut stage.run).await else { panic!("it ends") };
    assert_eq!(down.reason, DownReason::Forbidden);
    for part in ["may not get pods/log in namespace shop", "--verb=get --resource=pods/log", "shop:ops"] {
        assert!(down.message.contains(part), "{}", down.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_ends_what_is_read() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static MAY: AtomicBool = AtomicBool::new(true);
    let logs = vec![Answer::Raw(text(&["01Z order a failed"]))];
    let mut stage = Stage::new(spec(json!({})), vec![pod("web-1", 0)], |_| MAY.load(Ordering::Relaxed), logs);
    stage.lines(1).await;
    MAY.store(false, Ordering::Relaxed);
    let Ok(Err(down)) = (&mut stage.run).await else { panic!("it ends") };
    assert_eq!(down.reason, DownReason::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_while_no_rule_listens_is_nobodys() {
    let stage =
        Stage::new(spec(json!({})), vec![pod("web-1", 0)], |_| true, vec![Answer::Raw(text(&["01Z order a failed"]))]);
    stage.lines(1).await;
    stage.run.abort();
    stage.shared.listen(false);
    stage.shared.listen(true);
    let spec = serde_json::from_value(json!({"podLogs": spec(json!({}))})).expect("a spec");
    let again = follow(&stage.server, &stage.log, &stage.shared, spec);
    stage.has_asked(2).await;
    again.abort();
    let asked = &stage.asked()[1];
    assert!(asked.contains("sinceTime=2026-11-30T08%3A00%3A00Z"), "neither its place nor the minutes before: {asked}");
}

#[test]
fn all_faults_are_told() {
    let spec = |more: Value| serde_json::from_value(spec(more)).expect("a spec");
    assert_eq!(faults(&spec(json!({}))), [""; 0]);
    let bad = json!({"pattern": "", "rateLimit": {"events": 501}, "maxLineBytes": 1,
        "selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}});
    let faults = faults(&spec(bad));
    let places = ["selector", "pattern", "rateLimit", "maxLineBytes"].map(|field| format!("podLogs.{field}: "));
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(faults.iter().zip(&places).all(|(fault, place)| fault.starts_with(place.as_str())), "{faults:?}");
}

#[test]
fn what_an_edit_selects_is_looked_at_from_then_on_and_the_rest_from_where_it_was() {
    let memory = Memory::default();
    let spec = |more: Value| serde_json::from_value::<PodLogsSource>(spec(more)).expect("a spec");
    let at = |second: i64| Timestamp::from_second(second).expect("a time");
    let (before, edited) = (spec(json!({})), spec(json!({"containers": ["app"]})));
    assert_eq!(memory.begin(&before, at(1)), (at(1), at(1)));
    assert_eq!(memory.begin(&spec(json!({"pattern": "other"})), at(2)), (at(1), at(1)), "the same Pods");
    assert_eq!(memory.begin(&edited, at(3)), (at(1), at(3)));
    assert_eq!(memory.begin(&edited, at(4)), (at(1), at(3)));
    memory.forget();
    assert_eq!(memory.begin(&edited, at(5)), (at(5), at(5)));
}
