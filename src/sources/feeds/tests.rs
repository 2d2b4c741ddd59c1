//! The way of messages into the log, and which EventSources there are.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    feed::{Feed, Net, Taken},
    *,
};
use crate::{
    api::USABLE_LABEL,
    clock::{Clock, Stamp},
    event::message::Message,
    kubernetes::fake::Fake,
    net::Guard,
    record::{Head, LogId, Position, Record, SourceRef},
    rule::Engine,
    sinks::Secrets,
    sources::testing::{Collected, Server, TOO_LARGE, rule},
    telemetry::Metrics,
};

fn accept(log: &Arc<Collected>) -> Accept {
    let (clock, metrics) = (Clock::simulated(Stamp::default()), Arc::new(Metrics::default()));
    Accept::new(log.clone(), &mut HashMap::new(), Arc::new(|_, _| true), metrics, clock)
}

fn connector() -> Connector {
    Connector::new(Guard::default())
}

#[tokio::test]
async fn of_a_batch_with_an_event_that_cannot_be_kept_the_others_are_on_disk_and_counted() {
    let log = Collected::new();
    let feed = Feed {
        namespace: "shop".to_owned(),
        name: "plant".to_owned(),
        uid: "u-1".to_owned(),
        kind: "nats",
        spec: Arc::new(serde_json::from_value(json!({})).expect("a spec")),
        cluster: Cluster::with_client(Server::script([]).client()),
        account: Account { namespace: "shop".to_owned(), name: "signalbox-rules".to_owned() },
        secrets: Secrets::default(),
        accept: accept(&log),
        net: Arc::new(Net::new(connector())),
        shared: Arc::default(),
    };
    let event = |id: &str, type_: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": type_});
    let body = json!([event("a", "com.example.t"), event("b", TOO_LARGE), event("c", "com.example.t")]).to_string();
    let content_type = Some("application/cloudevents-batch+json");
    let batch = Message { content_type, body: body.as_bytes(), type_: "t", ..Message::default() };
    let taken = feed.take(&[batch]).await.expect("the log takes it");
    assert!(matches!(&taken[..], [Taken::Poison(_)]), "{taken:?}");
    let ids: Vec<String> = log.events().iter().map(|input| input.event.id.clone()).collect();
    assert_eq!((ids, log.synced()), (vec!["a".to_owned(), "c".to_owned()], Position(2)));
    let figures = feed.shared.counted.get();
    assert_eq!((figures.received, figures.rejected.too_large, figures.rejected.total), (2, 1, 1));
}

#[tokio::test]
async fn one_that_was_deleted_takes_nothing_when_its_successor_has_faults() {
    let feeds = Feeds::new(accept(&Collected::new()), connector());
    let spec = |spec: Value| -> EventSourceSpec { serde_json::from_value(spec).expect("a spec") };
    let good = spec(json!({"prometheus": {"url": "http://prometheus:9090", "query": "up", "interval": "30s"}}));
    let faulty = spec(json!({}));
    feeds.set("shop", "plant", "u-1", &good).expect("no faults");
    feeds.set("shop", "other", "u-2", &good).expect("no faults");
    feeds.set("shop", "plant", "u-1", &faulty).expect_err("faults");
    assert!(feeds.link("shop", "plant").is_some(), "the version before goes on");
    feeds.set("shop", "plant", "u-3", &faulty).expect_err("faults");
    assert!(feeds.link("shop", "plant").is_none() && feeds.link("shop", "other").is_some());
}

#[test]
fn a_source_of_which_no_version_can_be_used_is_known_until_it_is_taken_away() {
    let feeds = Feeds::new(accept(&Collected::new()), connector());
    let set = |url: &str| {
        let spec = json!({"prometheus": {"url": url, "query": "up", "interval": "30s"}});
        feeds.set("shop", "up", "u-1", &serde_json::from_value(spec).expect("a spec"))
    };
    let there = HashSet::from([("shop".to_owned(), "u-1".to_owned())]);
    for url in ["no address", "http://prometheus:9090", "no address"] {
        assert_eq!(set(url).is_err(), url == "no address");
        assert_eq!(feeds.known(), there, "{url}");
    }
    feeds.remove("shop", "up");
    assert_eq!(feeds.known(), HashSet::new());
    set("no address").expect_err("faults");
    feeds.remove("shop", "up");
    assert_eq!(feeds.known(), HashSet::new());
}

/// Takes connections and says nothing: how many came, and how many are open. It ends with the tasks.
async fn silent(tasks: &mut JoinSet<()>) -> (u16, watch::Receiver<(usize, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("know the port").port();
    let (count, counted) = watch::channel((0, 0));
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (mut stream, _) = accepted.expect("a connection");
                    count.send_modify(|(came, open)| (*came, *open) = (*came + 1, *open + 1));
                    open.spawn(async move { drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await) });
                }
                Some(_) = open.join_next() => count.send_modify(|(_, open)| *open -= 1),
            }
        }
    });
    (port, counted)
}

/// Specs of every kind whose client is not a process-wide one, no two of them the same.
fn spec_of(port: u16, n: usize) -> EventSourceSpec {
    let (at, type_) = (format!("127.0.0.1:{port}"), format!("com.acme.{n}"));
    let kinds: &[Value] = &[
        json!({"prometheus": {"url": format!("http://{at}"), "query": format!("up + {n}"), "interval": "30s"}}),
        #[cfg(feature = "nats")]
        json!({"nats": {"servers": [at], "core": {"subject": "a"}, "type": type_}}),
        #[cfg(feature = "redis")]
        json!({"redis": {"server": at, "stream": "a", "type": type_}}),
        #[cfg(feature = "mqtt")]
        json!({"mqtt": {"address": at, "topics": ["a"], "type": type_}}),
        #[cfg(feature = "amqp")]
        json!({"amqp": {"address": at, "queue": "a", "type": type_}}),
        #[cfg(feature = "nats")]
        json!({"queueLag": {"jetStream": {"servers": [at], "stream": "A", "consumer": type_.replace('.', "-")}}}),
        #[cfg(feature = "redis")]
        json!({"queueLag": {"redis": {"server": at, "stream": "a", "group": type_}}}),
        #[cfg(feature = "amqp")]
        json!({"queueLag": {"amqp": {"address": at, "queue": type_}}}),
    ];
    serde_json::from_value(kinds[n % kinds.len()].clone()).expect("a spec")
}

/// That of a rule in force that listens to the EventSource.
fn listening() -> Arc<Interest> {
    let put = rule("hot", 1, json!([{"name": "plant", "ref": {"name": "plant"}}]));
    let source = SourceRef { rule: put.rule.uid.clone(), generation: put.generation, source: "plant".to_owned() };
    let mut engine = Engine::new(LogId("log".to_owned()));
    for (position, record) in (1..).zip([Record::RulePut(put), Record::Baseline(source)]) {
        engine.fold(&Head { position: Position(position), stamp: Stamp::default() }, &record);
    }
    engine.interest()
}

/// Threads that a client of a broker began for itself.
fn threads_of_clients() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads").filter_map(Result::ok);
    let named = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    named.filter(|name| name.starts_with("lapin")).count()
}

#[tokio::test]
async fn ten_thousand_edits_and_deletions_leave_no_task_no_thread_and_no_connection() {
    let mut tasks = JoinSet::new();
    let (port, mut connections) = silent(&mut tasks).await;
    let api = Fake::new(|seen| {
        if seen.path.ends_with("selfsubjectaccessreviews") {
            return (201, json!({"status": {"allowed": true}}));
        }
        (200, json!({"metadata": {"name": "shop-ops", "labels": {USABLE_LABEL: "true"}}}))
    });
    let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a range")], Vec::new());
    let feeds = Feeds::new(accept(&Collected::new()), Connector::new(guard));
    let listening = listening();
    assert!(listening.hears("shop", "plant"));
    let ((_rules, listening), stop) = (watch::channel(listening), CancellationToken::new());
    let (cluster, running, stopped) = (Cluster::with_client(api.client()), feeds.clone(), stop.clone());
    tasks.spawn(async move { running.run(cluster, Authority::sole(), listening, stopped).await });
    tokio::task::yield_now().await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let mut wait = async |what: &str, is: &dyn Fn(usize, usize) -> bool| {
        let there = connections.wait_for(|(came, open)| is(*came, *open));
        let there = tokio::time::timeout(Duration::from_secs(30), there).await;
        there.unwrap_or_else(|_| panic!("{what}")).expect("it listens").0
    };
    let mut came = 0;
    for n in 0..10_000 {
        feeds.set("shop", "plant", &format!("u-{}", n / 50), &spec_of(port, n)).expect("no faults");
        match n % 50 {
            // In whatever it is doing.
            0..40 => tokio::task::yield_now().await,
            // Until it is connected.
            40..49 => came = wait("it connects", &|now, _| now > came).await,
            _ => feeds.remove("shop", "plant"),
        }
    }
    wait("all connections end", &|_, open| open == 0).await;
    assert!(came >= 1_800, "{came} connections");
    assert_eq!((feeds.known().len(), feeds.link("shop", "plant")), (0, None));
    // What ends with its connection has a moment to do so.
    let ended = async {
        while alive() > before || threads_of_clients() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    assert!(ended.is_ok(), "{} tasks, {before} before; {} threads of clients", alive(), threads_of_clients());
    stop.cancel();
}
