use futures::channel::mpsc::unbounded;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use tokio::{sync::watch as channel, task::JoinHandle};

use super::{memory::LISTED, *};
use crate::{
    kubernetes::Cluster,
    sources::{
        lookups::Looker,
        testing::{Answer, Collected, Server, interest, key, line, list, object, rule, status},
    },
};

struct Site {
    server: Server,
    log: Arc<Collected>,
    metrics: Arc<Metrics>,
    notice: Notice,
    phases: mpsc::Receiver<(WatchKey, u64, Phase)>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), BusError>>,
}

/// A watch of a kind in `shop`; one rule looks at all ConfigMaps, Secrets are of no interest, another at all Kubernetes Events, a third at Event
/// objects that are deleted.
fn start(server: Server, kind: &str, memory: HashMap<String, Seen>) -> Site {
    start_after(Duration::ZERO, server, kind, memory)
}

/// The same, after nobody has listened for so long.
fn start_after(away: Duration, server: Server, kind: &str, memory: HashMap<String, Seen>) -> Site {
    let rules = [
        rule("maps", 1, json!([{"name": "any", "resource": {"apiVersion": "v1", "kind": "ConfigMap"}}])),
        rule("events", 1, json!([{"name": "any", "kubernetesEvent": {}}])),
        rule(
            "gone",
            1,
            json!([{"name": "any", "resource": {"apiVersion": "v1", "kind": "Event", "operations": ["Delete"]}}]),
        ),
    ];
    let log = Collected::new();
    let (_, interested) = channel::channel(interest(&rules));
    let api = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let api = Api::new(server.client(), &api, Some("shop"));
    let looker = Looker::new(Cluster::with_client(server.client()));
    let metrics = Arc::new(Metrics::default());
    let emitter = Emitter::new(key(kind), log.clone(), interested, looker, metrics.clone());
    let (sender, phases) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let watch = Watch::new(key(kind), 1, api, emitter, memory, sender, metrics.clone()).with_away(away);
    let notice = watch.notice();
    let task = tokio::spawn(watch.run(stop.clone()));
    Site { server, log, phases, metrics, notice, stop, task }
}

impl Site {
    async fn phase(&mut self) -> Phase {
        let phase = tokio::time::timeout(Duration::from_secs(300), self.phases.recv()).await;
        phase.expect("a phase in time").expect("the watch runs").2
    }

    /// Waits (in paused time) until so many requests have come.
    async fn requests(&self, count: usize) -> Vec<String> {
        let enough = async {
            while self.server.asked().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(900), enough).await.expect("requests in time");
        let version = |query: &str| {
            let value = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
            value.map(|version| format!(" {version}")).unwrap_or_default()
        };
        let name = |asked: &crate::sources::testing::Asked| match asked.query.starts_with("limit=1&") {
            true => "probe",
            false if asked.is_watch() => "watch",
            false => "list",
        };
        self.server.asked().iter().map(|asked| format!("{}{}", name(asked), version(&asked.query))).collect()
    }
}

fn seen(version: u64, count: u32) -> Seen {
    Seen::new(version, count, "shop/x")
}

fn memory(listed: u64, objects: &[(&str, u64)]) -> HashMap<String, Seen> {
    let known = |uid: &str, version| (uid.to_owned(), Seen::new(version, 0, format!("shop/{uid}")));
    let objects = objects.iter().map(|(uid, version)| known(uid, *version));
    objects.chain([(LISTED.to_owned(), seen(listed, 0))]).collect()
}

mod gone;
mod missed;
mod versions;

fn event(uid: &str, version: u64, count: u32) -> Value {
    let mut event = object(uid, version);
    event["involvedObject"] = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web"});
    event["count"] = count.into();
    event
}

#[tokio::test(start_paused = true)]
async fn a_first_list_is_remembered_and_fires_nothing() {
    let first = list(5, &[object("a", 3), object("b", 4)]);
    let mut site =
        start(Server::script([first, Answer::Open(vec![line("ADDED", object("c", 6))])]), "ConfigMap", HashMap::new());
    assert_eq!(site.phase().await, Phase::Listening);
    assert_eq!(site.log.wait(2).await, ["seen a@3 b@4 list@5", "resource.created c/6"]);
    assert_eq!(site.requests(2).await, ["list", "watch 5"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_list_is_compared_and_what_changed_is_marked_as_gap() {
    let now = list(9, &[object("d", 8), object("a", 3), object("b", 7)]);
    let site = start(Server::script([now]), "ConfigMap", memory(5, &[("a", 3), ("b", 4), ("c", 4)]));
    let records = site.log.wait(4).await;
    let expected =
        ["resource.updated b/7 gap", "resource.created d/8 gap", "resource.deleted c/deleted gap", "seen list@9"];
    assert_eq!(records, expected);
    assert_eq!(site.log.events()[2].event.subject.as_deref(), Some("shop/ConfigMap/c"));
    assert!(site.server.asked()[0].query.contains("resourceVersion=5&resourceVersionMatch=NotOlderThan"));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_kubernetes_events_are_told_by_the_increase_of_their_count() {
    let mut known = memory(5, &[("same", 3)]);
    known.insert("same".to_owned(), seen(3, 7));
    known.insert("more".to_owned(), seen(4, 2));
    let now = list(9, &[event("same", 8, 7), event("more", 7, 5), event("new", 6, 4)]);
    let site = start(Server::script([now]), "Event", known);
    let records = site.log.wait(3).await;
    assert_eq!(records, ["kubernetes.event new/4", "kubernetes.event more/5", "seen same@8 list@9"]);
    assert_eq!(site.log.events()[1].event.data["delta"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_first_list_that_broke_off_is_not_compared() {
    let mut known = memory(5, &[("a", 3)]);
    known.remove(LISTED);
    let site = start(Server::script([list(9, &[object("a", 3), object("b", 7)])]), "ConfigMap", known);
    assert_eq!(site.log.wait(1).await, ["seen a@3 b@7 list@9"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_first_list_is_remembered_too() {
    let site = start(Server::script([list(5, &[])]), "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(1).await, ["seen list@5"]);
    let site = start(Server::script([list(7, &[object("a", 6)])]), "ConfigMap", memory(5, &[]));
    assert_eq!(site.log.wait(1).await[0], "resource.created a/6 gap");
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_its_origins_in_batches() {
    let objects: Vec<Value> = (0..700).map(|index| object(&format!("o{index}"), index + 1)).collect();
    let first = json!({"metadata": {"resourceVersion": "900", "continue": "to+ken="}, "items": objects[..500]});
    let site =
        start(Server::script([Answer::Json(200, first), list(900, &objects[500..])]), "ConfigMap", HashMap::new());
    let records = site.log.wait(2).await;
    assert_eq!(records.iter().map(|record| record.split(' ').count() - 1).collect::<Vec<_>>(), [500, 201]);
    assert!(records[1].ends_with(" list@900"));
    assert_eq!(site.server.asked()[1].query, "limit=250&continue=to%2Bken%3D");
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_makes_a_new_list_however_it_is_told() {
    let gone = status(410, "Expired", "too old resource version");
    for expired in [Answer::Json(410, gone.clone()), Answer::Lines(vec![line("ERROR", gone)])] {
        let script =
            [list(5, &[object("a", 3)]), expired, list(9, &[object("a", 3), object("b", 8)]), Answer::Open(vec![])];
        let site = start(Server::script(script), "ConfigMap", HashMap::new());
        assert_eq!(site.log.wait(3).await, ["seen a@3 list@5", "resource.created b/8 gap", "seen list@9"]);
        assert_eq!(site.requests(4).await, ["list", "watch 5", "list 5", "watch 9"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_closed_empty_twice_makes_a_new_list() {
    let empty = || Answer::Lines(Vec::new());
    let script = [list(5, &[]), empty(), empty(), list(9, &[object("a", 8)]), Answer::Open(vec![])];
    let began = Instant::now();
    let site = start(Server::script(script), "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(2).await[1], "resource.created a/8 gap");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(site.requests(5).await, ["list", "watch 5", "watch 5", "list 5", "watch 9"]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_close_with_data_goes_on_from_the_last_version_without_a_list() {
    let bookmark = line("BOOKMARK", json!({"metadata": {"resourceVersion": "12"}}));
    let script = [
        list(5, &[]),
        Answer::Lines(vec![line("ADDED", object("a", 8)), bookmark]),
        Answer::Open(vec![line("MODIFIED", object("a", 13))]),
    ];
    let site = start(Server::script(script), "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(3).await[1..], ["resource.created a/8", "resource.updated a/13"]);
    assert_eq!(site.requests(3).await, ["list", "watch 5", "watch 12"]);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_version_is_nothing() {
    let (lines, fed) = unbounded();
    let site = start(Server::script([list(5, &[object("a", 3)]), Answer::Fed(fed)]), "ConfigMap", HashMap::new());
    for (type_, version) in
        [("ADDED", 3), ("MODIFIED", 3), ("MODIFIED", 2), ("MODIFIED", 6), ("DELETED", 7), ("DELETED", 7)]
    {
        lines.unbounded_send(line(type_, object("a", version))).expect("the watch is open");
    }
    lines.unbounded_send(line("ADDED", object("end", 9))).expect("the watch is open");
    let records = site.log.wait(4).await;
    assert_eq!(records, ["seen a@3 list@5", "resource.updated a/6", "resource.deleted a/7", "resource.created end/9"]);
}

#[tokio::test(start_paused = true)]
async fn objects_that_cannot_be_read_do_not_hide_the_others() {
    let items = [json!("text"), json!({"metadata": {"name": "no-uid", "resourceVersion": "2"}}), object("a", 3)];
    let lines = format!(
        "{}\nnot json at all\n{}\n{}\n",
        line("ADDED", json!({"metadata": {"name": "odd", "uid": "odd", "resourceVersion": "six"}})),
        line("ADDED", json!(null)),
        line("ADDED", object("b", 7)),
    );
    let site = start(Server::script([list(5, &items), Answer::Raw(lines)]), "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(2).await, ["seen a@3 list@5", "resource.created b/7"]);
    assert!(
        site.metrics.encode().contains("signalbox_watch_objects_unreadable_total 5\n"),
        "{}",
        site.metrics.encode()
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_known_and_cannot_be_read_any_more_is_counted_and_not_taken_for_deleted() {
    let mut odd = object("a", 0);
    odd["metadata"]["resourceVersion"] = json!("six");
    let server = Server::script([list(6, &[odd, object("b", 4)]), Answer::Open(Vec::new())]);
    let site = start(server, "ConfigMap", memory(5, &[("a", 3), ("b", 4)]));
    assert_eq!(site.log.wait(1).await, ["seen list@6"]);
    assert!(site.metrics.encode().contains("signalbox_watch_objects_unreadable_total 1\n"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_brings_a_panic_out_is_counted_and_the_watch_goes_on() {
    let lines = vec![line("ADDED", object("b", 6)), line("ADDED", object("c", 7)), line("MODIFIED", object("b", 8))];
    let site = start(Server::script([list(5, &[object("a", 3)]), Answer::Open(lines)]), "ConfigMap", HashMap::new());
    // The first is the object of the list.
    crate::poison::bait::lay(1);
    assert_eq!(site.log.wait(3).await[1..], ["resource.created c/7", "resource.created b/8"]);
    assert!(site.metrics.encode().contains("signalbox_watch_objects_unreadable_total 1\n"));
}

#[tokio::test(start_paused = true)]
async fn what_is_nested_too_deep_for_the_log_is_counted_and_the_watch_goes_on() {
    let mut deep = object("deep", 6);
    deep["spec"] = (0..crate::event::MAX_LEVELS + 10).fold(json!(1), |inside, _| json!([inside]));
    let mut deeper = object("deeper", 7);
    deeper["spec"] = (0..200).fold(json!(1), |inside, _| json!([inside]));
    let lines = vec![line("ADDED", deep), line("ADDED", deeper), line("ADDED", object("b", 8))];
    let site = start(Server::script([list(5, &[]), Answer::Open(lines)]), "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(3).await[1..], ["seen deep@6", "resource.created b/8"]);
    assert!(site.metrics.encode().contains("signalbox_watch_objects_unreadable_total 2\n"));
}

#[tokio::test(start_paused = true)]
async fn what_concerns_nobody_is_remembered_in_the_order_in_which_it_was_seen() {
    let lines = vec![line("ADDED", object("s", 6)), line("DELETED", object("s", 7)), line("ADDED", object("t", 8))];
    let site = start(Server::script([list(5, &[]), Answer::Open(lines)]), "Secret", HashMap::new());
    assert_eq!(site.log.wait(2).await, ["seen list@5", "seen s@6 -s t@8"]);
}

#[tokio::test(start_paused = true)]
async fn events_of_our_own_are_only_remembered() {
    let mut own = event("own", 6, 1);
    own["reportingComponent"] = crate::event::kubernetes_event::OWN_REPORTER.into();
    let site = start(Server::script([list(5, &[]), Answer::Open(vec![line("ADDED", own)])]), "Event", HashMap::new());
    assert_eq!(site.log.wait(2).await, ["seen list@5", "seen own@6"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_asked_again_within_half_a_minute() {
    let script = [Answer::Silent, list(5, &[]), Answer::Silent, Answer::Open(vec![line("ADDED", object("a", 6))])];
    let began = Instant::now();
    let site = start(Server::script(script), "ConfigMap", HashMap::new());
    site.log.wait(1).await;
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(site.log.wait(2).await[1], "resource.created a/6");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_down_for_a_minute_is_told_of_and_so_is_its_recovery() {
    let began = Instant::now();
    let server = Server::new(move |asked| match (began.elapsed() < Duration::from_secs(150), asked.is_watch()) {
        (true, _) => Answer::Json(500, status(500, "InternalError", "etcd is away")),
        (false, false) => list(5, &[]),
        (false, true) => Answer::Open(Vec::new()),
    });
    let mut site = start(server, "ConfigMap", HashMap::new());
    let phase = site.phase().await;
    let message = format!("{phase:?}");
    assert!(matches!(phase, Phase::Failed(_)), "{message}");
    assert!(message.contains("etcd is away") && message.contains("v1/ConfigMap@shop"), "{message}");
    assert!((60..=100).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(site.phase().await, Phase::Listening);
}

#[tokio::test(start_paused = true)]
async fn in_trouble_no_more_than_two_requests_begin_in_a_second() {
    let gone = || line("ERROR", status(410, "Expired", "too old"));
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = Server::new(move |asked| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 4 {
        _ if !asked.is_watch() => list(5, &[]),
        0 => Answer::Lines(vec![gone()]),
        1 => Answer::Lines(vec![line("BOOKMARK", json!({"metadata": {"resourceVersion": "5"}}))]),
        2 => Answer::Json(500, json!({})),
        _ => Answer::Lines(Vec::new()),
    });
    let site = start(server, "ConfigMap", HashMap::new());
    site.requests(40).await;
    let times: Vec<Instant> = site.server.asked().iter().map(|asked| asked.at).collect();
    assert!(times.windows(3).all(|three| three[2] - three[0] >= Duration::from_secs(1)), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_break_again_and_again_delay_nothing_for_long_and_cause_hardly_a_list() {
    for (every, quiet) in [(Duration::from_millis(300), false), (Duration::from_secs(30), true)] {
        let next = std::sync::atomic::AtomicU64::new(6);
        let server = Server::new(move |asked| {
            if !asked.is_watch() {
                return list(5, &[]);
            }
            let version = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let news = line("ADDED", object(&version.to_string(), version));
            Answer::Broken(if quiet { vec![] } else { vec![news] }, every)
        });
        let began = Instant::now();
        let site = start(server, "ConfigMap", HashMap::new());
        let requests = site.requests(21).await;
        assert!(began.elapsed() <= (every + Duration::from_secs(1)) * 20, "{:?}", began.elapsed());
        let lists = requests.iter().filter(|request| request.starts_with("list")).count();
        // In silence one in five minutes.
        assert!(lists <= 1 + usize::from(quiet), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_may_not_do_is_told_at_once() {
    let forbidden = Answer::Json(403, status(403, "Forbidden", "configmaps is forbidden"));
    let mut site = start(Server::script([forbidden, list(5, &[])]), "ConfigMap", HashMap::new());
    assert!(matches!(site.phase().await, Phase::Forbidden(message) if message.contains("configmaps is forbidden")));
    assert_eq!(site.phase().await, Phase::Listening);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_remembered_is_written_when_the_watch_is_stopped() {
    let (lines, fed) = unbounded();
    let site = start(Server::script([list(5, &[]), Answer::Fed(fed)]), "Secret", HashMap::new());
    site.log.wait(1).await;
    lines.unbounded_send(line("ADDED", object("s", 6))).expect("the watch is open");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(site.log.short().len(), 1, "it waits for company");
    site.stop.cancel();
    site.task.await.expect("no panic").expect("a clean end");
    assert_eq!(site.log.short()[1], "seen s@6");
}
