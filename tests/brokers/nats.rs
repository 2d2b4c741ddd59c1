//! `nats`, with a real server.

use std::{fs, process::Command};

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, consumer, stream},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    servers::{Authority, program},
    told::{GROUP, connected, listen, tell, tells, texts},
};
use crate::{
    secret, source_when, source_within,
    support::{
        PATIENCE, eventually,
        http::{free_port, get},
        process::{Process, Workspace},
        sink::Sink,
        site::{Site, condition, shop},
    },
};

/// A server. Dropping it kills it.
pub struct Server {
    port: u16,
    monitor: u16,
    workspace: Workspace,
    process: Option<Process>,
}

impl Server {
    /// With JetStream, whose data outlives the process, and more in its configuration, which names files as `FOLDER/<name>`.
    pub async fn start(config: &str, files: &[(&str, &str)]) -> Self {
        let (port, monitor, workspace) = (free_port(), free_port(), Workspace::new("nats"));
        for (name, content) in files {
            workspace.write(name, content);
        }
        let mut server = Self { port, monitor, workspace, process: None };
        server.configure(config);
        server.begin().await;
        server
    }

    fn configure(&self, config: &str) {
        let (folder, port, monitor) = (self.workspace.path().display(), self.port, self.monitor);
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\njetstream {{ store_dir: \"{folder}/js\" }}\n{config}\n"
        );
        self.workspace.write("server.conf", text.replace("FOLDER", &folder.to_string()));
    }

    /// Another configuration, without a restart.
    fn reload(&self, config: &str) {
        self.configure(config);
        self.process.as_ref().expect("it runs").signal("HUP");
    }

    pub async fn begin(&mut self) {
        let mut command = Command::new(program("nats"));
        command.arg("-c").arg(self.workspace.path().join("server.conf"));
        self.process = Some(self.workspace.spawn("nats-server", command));
        let port = self.port;
        eventually("nats-server listens", PATIENCE, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn client(&self) -> Client {
        let address = self.address();
        eventually("a client is connected", PATIENCE, async || async_nats::connect(&address).await.ok()).await
    }

    /// A stream of subjects `jobs.>`, and what publishes there.
    pub async fn stream(&self) -> jetstream::Context {
        let context = jetstream::new(self.client().await);
        let config =
            stream::Config { name: "JOBS".into(), subjects: vec!["jobs.>".into()], ..stream::Config::default() };
        eventually("JetStream is ready", PATIENCE, async || context.get_or_create_stream(&config).await.ok()).await;
        context
    }

    /// How many clients are connected whose name is that of an EventSource.
    async fn sources(&self) -> usize {
        let address = format!("127.0.0.1:{}", self.monitor);
        let Some((200, body)) = get(&address, "/connz").await else { return 0 };
        let told: Value = serde_json::from_str(&body).expect("JSON");
        let connections = told["connections"].as_array().cloned().unwrap_or_default();
        connections.iter().filter(|one| one["name"].as_str().is_some_and(|name| name.starts_with("signalbox"))).count()
    }

    async fn await_sources(&self, count: usize) {
        let what = format!("{count} EventSources are connected");
        eventually(&what, PATIENCE, async || (self.sources().await == count).then_some(())).await;
    }
}

/// The consumer of the only EventSource of a stream.
pub async fn consumer_info(context: &jetstream::Context) -> consumer::Info {
    use futures::TryStreamExt as _;
    let stream = context.get_stream("JOBS").await.expect("the stream");
    let consumers: Vec<consumer::Info> = stream.consumers().try_collect().await.expect("consumers");
    consumers.into_iter().next().expect("a consumer")
}

pub fn jet_stream(server: &Server) -> Value {
    json!({"nats": {"servers": [server.address()], "jetStream": {"stream": "JOBS", "deliverPolicy": "All", "ackWait": "2s"}}})
}

pub async fn publish(context: &jetstream::Context, id: &str, body: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    let published = context.publish_with_headers("jobs.run", headers, body.to_owned().into()).await;
    published.expect("published").await.expect("stored");
}

/// Waits until the server has nothing left that was not acknowledged.
pub async fn all_acknowledged(context: &jetstream::Context, count: u64) {
    eventually("everything is acknowledged", PATIENCE, async || {
        let info = consumer_info(context).await;
        (info.num_ack_pending == 0 && info.num_pending == 0 && info.ack_floor.stream_sequence == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn messages_of_a_subject_are_events_while_a_rule_listens() {
    let (shop, sink, server) = (shop("nats").await, Sink::start().await, Server::start("", &[]).await);
    let core = json!({"subject": "plant.*.state", "queueGroup": "signalbox"});
    let spec = json!({"nats": {"servers": [server.address()], "core": core, "headers": ["Trace-Id"]}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    let unasked = |status: &Value| condition(status, "Connected")["reason"] == "NotAskedFor";
    let status = source_when(&shop, "plant", "nobody asks", unasked).await;
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert!(status["path"].is_null(), "{status:#}");
    shop.sink("oncall", &sink.url("/")).await;
    shop.rule("tell", tells("${event.subject}|${event.type}|${event.data}|${event.?traceid.orValue('')}")).await;
    let status = source_when(&shop, "plant", "connected", connected).await;
    let message = condition(&status, "Connected")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("while there is no connection is lost"), "{message}");
    assert_eq!(condition(&status, "Authenticated")["status"], "True");

    let client = server.client().await;
    let mut headers = HeaderMap::new();
    headers.insert("Trace-Id", "abc");
    client.publish_with_headers("plant.p1.state", headers, "leak".into()).await.expect("published");
    client.publish("plant.p2.state", r#"{"seq": 42}"#.into()).await.expect("published");
    client.publish("plant.p2.other", "no".into()).await.expect("published");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "x1"),
        ("ce-source", "/s"),
        ("ce-type", "com.acme.t"),
        ("ce-subject", "s"),
    ] {
        headers.insert(name, value);
    }
    client.publish_with_headers("plant.p3.state", headers, "7".into()).await.expect("published");
    client.flush().await.expect("sent");
    let wanted = [
        "plant.p1.state|dev.signalbox.nats|leak|abc",
        "plant.p2.state|dev.signalbox.nats|{\"seq\":42}|",
        "s|com.acme.t|7|",
    ];
    tell(&sink, &wanted).await;
    let told = |status: &Value| status["received"] == 3 && !status["lastEventTime"].is_null();
    source_when(&shop, "plant", "counted", told).await;

    shop.api(GROUP, "EventRule").delete("tell", &DeleteParams::default()).await.expect("deleted");
    server.await_sources(0).await;
    source_when(&shop, "plant", "nobody asks any more", unasked).await;
}

#[tokio::test]
async fn what_a_stream_has_is_told_once_whenever_the_operator_is_killed_and_acknowledged_when_it_is_stored() {
    let (site, sink, server) = (Site::start().await, Sink::start().await, Server::start("", &[]).await);
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("stream").await;
    let context = server.stream().await;
    for one in 0..100 {
        publish(&context, &format!("before-{one}"), &one.to_string()).await;
    }
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": jet_stream(&server)})).await;
    let mut rule = tells("${event.data}");
    // A group that fires more often than 120 times in a minute is slowed down.
    rule["groupBy"] = json!([{"name": "number", "expression": "string(event.data)"}]);
    shop.rule("tell", rule).await;
    let mut operator = Some(operator);
    let mut next = 100;
    for _ in 0..3 {
        let more = async {
            for one in next..next + 300 {
                publish(&context, &format!("later-{one}"), &one.to_string()).await;
            }
        };
        let killed = async {
            let seen = sink.requests().len();
            eventually("some are told", PATIENCE, async || (sink.requests().len() > seen + 20).then_some(())).await;
            drop(operator.take());
            operator = Some(site.setup.start_ready().await);
        };
        tokio::join!(more, killed);
        next += 300;
    }
    eventually("all are told", PATIENCE * 2, async || (texts(&sink).len() >= 1_000).then_some(())).await;
    let mut numbers: Vec<u32> = texts(&sink).iter().map(|text| text.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_000).collect::<Vec<u32>>(), "each once");
    all_acknowledged(&context, 1_000).await;
    source_when(&shop, "plant", "nothing waits", |status| status["lag"] == 0).await;
}

#[tokio::test]
async fn what_is_sent_again_is_known_and_what_is_no_event_is_not_sent_for_ever() {
    let (shop, sink, server) = (shop("again").await, Sink::start().await, Server::start("", &[]).await);
    let context = server.stream().await;
    listen(&shop, &sink, "${event.natsstream}/${event.natssequence} ${event.data.n}", jet_stream(&server)).await;
    for (id, n) in [("j-1", 1), ("j-2", 2), ("j-2", 2)] {
        publish(&context, id, &json!({"n": n}).to_string()).await;
    }
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/json");
    let published = context.publish_with_headers("jobs.run", headers, "{\"canary".into()).await;
    published.expect("published").await.expect("stored");
    context.publish("jobs.run", json!({"n": 3}).to_string().into()).await.expect("published").await.expect("stored");
    tell(&sink, &["JOBS/1 1", "JOBS/2 2", "JOBS/4 3"]).await;
    all_acknowledged(&context, 4).await;
    let status = source_when(&shop, "plant", "counted", |status| status["received"] == 3).await;
    assert_eq!((&status["rejected"]["malformed"], &status["rejected"]["total"]), (&json!(1), &json!(1)));
    assert!(!status.to_string().contains("canary"));

    // A consumer made anew begins with all that the stream has.
    let name = consumer_info(&context).await.name;
    context.get_stream("JOBS").await.expect("the stream").delete_consumer(&name).await.expect("deleted");
    let known = |status: &Value| status["duplicates"] == 3 && connected(status);
    source_within(&shop, "plant", "what came again is known", 60, known).await;
    all_acknowledged(&context, 4).await;
    assert_eq!(texts(&sink).len(), 3, "nothing is told twice");

    // Where a consumer began cannot be changed any more; the rest can.
    let patch = Patch::Merge(json!({"spec": {"nats": {"jetStream": {"deliverPolicy": "New", "ackWait": "3s"}}}}));
    shop.api(GROUP, "EventSource").patch("plant", &PatchParams::default(), &patch).await.expect("edited");
    let edited =
        async || (consumer_info(&context).await.config.ack_wait == std::time::Duration::from_secs(3)).then_some(());
    eventually("the consumer is edited", PATIENCE, edited).await;
    publish(&context, "j-4", &json!({"n": 4}).to_string()).await;
    tell(&sink, &["JOBS/1 1", "JOBS/2 2", "JOBS/4 3", "JOBS/5 4"]).await;
}

#[tokio::test]
async fn a_server_that_was_killed_is_found_again_and_a_stream_or_consumer_that_lacks_is_told() {
    let (shop, sink, mut server) = (shop("killed").await, Sink::start().await, Server::start("", &[]).await);
    let missing = json!({"nats": {"servers": [server.address()], "jetStream": {"stream": "JOBS", "consumer": "mine"}}});
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": missing})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${event.data}")})).await;
    let refused = |of: &'static str| {
        move |status: &Value| {
            let connected = condition(status, "Connected");
            connected["reason"] == "Refused"
                && connected["message"].as_str().is_some_and(|message| message.contains(of))
        }
    };
    source_when(&shop, "plant", "no stream", refused("stream JOBS")).await;
    let context = server.stream().await;
    source_within(&shop, "plant", "no consumer", 60, refused("consumer mine")).await;
    let stream = context.get_stream("JOBS").await.expect("the stream");
    let config = consumer::pull::Config { durable_name: Some("mine".into()), ..consumer::pull::Config::default() };
    stream.create_consumer(config).await.expect("a consumer");
    source_within(&shop, "plant", "connected", 60, connected).await;
    publish(&context, "k-1", "1").await;
    tell(&sink, &["1"]).await;
    all_acknowledged(&context, 1).await;

    server.kill();
    let gone = |status: &Value| {
        condition(status, "Connected")["reason"] == "Unreachable" && condition(status, "Ready")["status"] == "False"
    };
    source_when(&shop, "plant", "the server is gone", gone).await;
    server.begin().await;
    let context = jetstream::new(server.client().await);
    eventually("the stream is there again", PATIENCE, async || context.get_stream("JOBS").await.ok()).await;
    publish(&context, "k-2", "2").await;
    source_within(&shop, "plant", "connected again", 60, connected).await;
    tell(&sink, &["1", "2"]).await;
}

#[tokio::test]
async fn a_consumer_with_bounds_of_its_own_is_asked_for_no_more_than_these() {
    let (shop, sink, server) = (shop("bounds").await, Sink::start().await, Server::start("", &[]).await);
    let context = server.stream().await;
    let config = consumer::pull::Config {
        durable_name: Some("mine".into()),
        max_batch: 2,
        max_bytes: 1 << 20,
        max_expires: std::time::Duration::from_secs(1),
        ..consumer::pull::Config::default()
    };
    context.get_stream("JOBS").await.expect("the stream").create_consumer(config).await.expect("a consumer");
    for n in 1..=5 {
        publish(&context, &format!("b-{n}"), &n.to_string()).await;
    }
    let spec = json!({"nats": {"servers": [server.address()], "jetStream": {"stream": "JOBS", "consumer": "mine"}}});
    listen(&shop, &sink, "${event.data}", spec).await;
    tell(&sink, &["1", "2", "3", "4", "5"]).await;
    all_acknowledged(&context, 5).await;
    publish(&context, "b-6", "6").await;
    tell(&sink, &["1", "2", "3", "4", "5", "6"]).await;
    assert!(connected(&source_when(&shop, "plant", "still connected", connected).await));
}

#[tokio::test]
async fn credentials_that_are_not_taken_are_told_and_mended_within_a_minute_and_never_shown() {
    let config = "authorization { user: ops, password: \"right-canary\" }";
    let (shop, server) = (shop("login").await, Server::start(config, &[]).await);
    secret(&shop, "nats", json!({"password": "wrong-canary"})).await;
    let login = json!({"username": "ops", "passwordSecretRef": {"name": "nats", "key": "password"}});
    let spec = json!({"nats": {"servers": [server.address()], "auth": {"login": login}, "core": {"subject": "a"}}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${event.data}")})).await;
    let refused = |status: &Value| condition(status, "Authenticated")["reason"] == "Unauthenticated";
    let status = source_when(&shop, "plant", "not taken", refused).await;
    let message = condition(&status, "Authenticated")["message"].as_str().unwrap_or_default().to_lowercase();
    assert!(message.contains("authorization violation"), "{message}");
    assert!(!status.to_string().contains("canary"), "{status:#}");
    let patch = Patch::Merge(json!({"stringData": {"password": "right-canary"}}));
    shop.api("v1", "Secret").patch("nats", &PatchParams::default(), &patch).await.expect("mended");
    source_within(&shop, "plant", "taken", 60, connected).await;
}

/// Tests come in without a password, and the user `ops` with this one. It may not know of the stream `OTHER`.
fn users(password: &str) -> String {
    format!(
        "authorization {{ users: [\n{{ user: test, password: test }}\n{{ user: ops, password: \"{password}\", \
         permissions: {{ publish: {{ deny: [\"$JS.API.STREAM.INFO.OTHER\"] }} }} }}\n] }}\nno_auth_user: test"
    )
}

/// A source of this stream, as `ops`.
fn as_ops(server: &Server, stream: &str) -> Value {
    let login = json!({"username": "ops", "passwordSecretRef": {"name": "nats", "key": "password"}});
    let of = json!({"stream": stream, "deliverPolicy": "All"});
    json!({"nats": {"servers": [server.address()], "auth": {"login": login}, "jetStream": of}})
}

#[tokio::test]
async fn a_password_that_is_changed_at_both_ends_is_followed_by_a_live_connection_and_nothing_is_lost() {
    let server = Server::start(&users("old-canary"), &[]).await;
    let context = server.stream().await;
    let (shop, sink) = (shop("rotate").await, Sink::start().await);
    secret(&shop, "nats", json!({"password": "old-canary"})).await;
    listen(&shop, &sink, "${event.data}", as_ops(&server, "JOBS")).await;
    publish(&context, "r-1", "1").await;
    tell(&sink, &["1"]).await;
    server.reload(&users("new-canary"));
    let refused = |status: &Value| condition(status, "Authenticated")["reason"] == "Unauthenticated";
    let status = source_within(&shop, "plant", "not taken", 60, refused).await;
    assert!(!status.to_string().contains("canary"), "{status:#}");
    publish(&context, "r-2", "2").await;
    let patch = Patch::Merge(json!({"stringData": {"password": "new-canary"}}));
    shop.api("v1", "Secret").patch("nats", &PatchParams::default(), &patch).await.expect("mended");
    source_within(&shop, "plant", "taken", 60, connected).await;
    publish(&context, "r-3", "3").await;
    tell(&sink, &["1", "2", "3"]).await;
    assert_eq!(server.sources().await, 1);
}

#[tokio::test]
async fn those_of_a_namespace_share_a_connection_and_what_one_may_not_do_harms_no_other() {
    let mut server = Server::start(&users("right-canary"), &[]).await;
    let context = server.stream().await;
    let (shop, sink) = (shop("line").await, Sink::start().await);
    secret(&shop, "nats", json!({"password": "right-canary"})).await;
    shop.sink("oncall", &sink.url("/")).await;
    let names: Vec<String> = (0..6).map(|number| format!("line{number}")).collect();
    for name in &names {
        shop.create(GROUP, "EventSource", name, json!({"spec": as_ops(&server, "JOBS")})).await;
    }
    shop.create(GROUP, "EventSource", "other", json!({"spec": as_ops(&server, "OTHER")})).await;
    let heard = |name: &str| json!({"name": name, "ref": {"name": name}});
    let mut rule = tells("${source.name} ${event.data}");
    rule["sources"] = names.iter().map(|name| heard(name)).collect();
    shop.create(GROUP, "EventRule", "tell", json!({"spec": rule})).await;
    let mut rule = tells("x");
    rule["sources"] = json!([heard("other")]);
    shop.create(GROUP, "EventRule", "others", json!({"spec": rule})).await;
    let may_not = |status: &Value| {
        let connected = condition(status, "Connected");
        connected["reason"] == "Refused"
            && connected["message"].as_str().is_some_and(|why| why.contains("give the user this right"))
    };
    source_when(&shop, "other", "it may not", may_not).await;
    for name in &names {
        source_when(&shop, name, "connected", connected).await;
    }
    let told = async |rounds: &[&str]| {
        let all: Vec<String> =
            rounds.iter().flat_map(|round| names.iter().map(move |name| format!("{name} {round}"))).collect();
        tell(&sink, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    };
    publish(&context, "l-1", "1").await;
    told(&["1"]).await;
    assert_eq!(server.sources().await, 1, "one connection for seven EventSources");

    server.kill();
    server.begin().await;
    publish(&server.stream().await, "l-2", "2").await;
    told(&["1", "2"]).await;
    server.await_sources(1).await;
    for name in ["tell", "others"] {
        shop.api(GROUP, "EventRule").delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    server.await_sources(0).await;
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_name_and_shown_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.sign("nats.shop.svc");
    let client = authority.sign("operator");
    let config = "tls { cert_file: \"FOLDER/cert.pem\", key_file: \"FOLDER/key.pem\", ca_file: \"FOLDER/ca.pem\", verify: true }";
    let files = [("cert.pem", &*certificate), ("key.pem", &*key), ("ca.pem", &*authority.pem())];
    let server = Server::start(config, &files).await;
    let (shop, sink) = (shop("tls").await, Sink::start().await);
    let values = json!({"ca": authority.pem(), "other": other.pem(), "cert": client.0, "key": client.1});
    secret(&shop, "tls", values).await;
    let key = |key: &str| json!({"name": "tls", "key": key});
    let spec = |ca: &str, name: &str| {
        let tls = json!({"caSecretRef": key(ca), "clientCertificateSecretRef": key("cert"), "clientKeySecretRef": key("key"), "serverName": name});
        json!({"nats": {"servers": [server.address()], "tls": tls, "core": {"subject": "a"}}})
    };
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec("other", "nats.shop.svc")})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("${event.data}")})).await;
    let refused = |status: &Value| {
        let connected = condition(status, "Connected");
        connected["status"] == "False" && connected["message"].as_str().is_some_and(|why| why.contains("certificate"))
    };
    source_when(&shop, "plant", "signed by a stranger", refused).await;
    let edit = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        shop.api(GROUP, "EventSource").patch("plant", &PatchParams::default(), &patch).await.expect("edited");
    };
    edit(spec("ca", "another.shop.svc")).await;
    source_when(&shop, "plant", "another's certificate", refused).await;
    edit(spec("ca", "nats.shop.svc")).await;
    source_when(&shop, "plant", "connected", connected).await;
}

#[tokio::test]
async fn edits_and_deletions_leave_no_connection_behind() {
    let (site, server) = (Site::start().await, Server::start("", &[]).await);
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("edits").await;
    let spec = |number: u32| json!({"nats": {"servers": [server.address()], "core": {"subject": "a"}, "type": format!("com.acme.{number}")}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec(0)})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("x")})).await;
    source_when(&shop, "plant", "connected", connected).await;
    let handles = || fs::read_dir(format!("/proc/{}/fd", operator.pid())).expect("its files").count();
    let before = handles();
    let api = shop.api(GROUP, "EventSource");
    for number in 1..=200 {
        let patch = Patch::Merge(json!({"spec": spec(number)}));
        api.patch("plant", &PatchParams::default(), &patch).await.expect("edited");
    }
    source_when(&shop, "plant", "connected", connected).await;
    server.await_sources(1).await;
    eventually("as many files are open as before", PATIENCE, async || (handles() <= before + 3).then_some(())).await;
    api.delete("plant", &DeleteParams::default()).await.expect("deleted");
    server.await_sources(0).await;
}

#[tokio::test]
async fn where_the_operators_settings_do_not_allow_it_nothing_is_connected_to() {
    let server = Server::start("", &[]).await;
    let shop = shop("guard").await;
    let spec = json!({"nats": {"servers": ["169.254.169.254:4222"], "core": {"subject": "a"}}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("x")})).await;
    let refused = |status: &Value| condition(status, "Connected")["reason"] == "Refused";
    let status = source_when(&shop, "plant", "refused", refused).await;
    let message = condition(&status, "Connected")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("link-local"), "{message}");
    assert_eq!(server.sources().await, 0);
}

/// A Secret is read by name as the account: without the right nothing is connected, and the right is named.
#[tokio::test]
async fn a_secret_that_may_not_be_read_is_told_with_what_grants_it() {
    let (shop, server) = (shop("right").await, Server::start("", &[]).await);
    shop.create("v1", "Secret", "nats", json!({"stringData": {"token": "canary"}})).await;
    let auth = json!({"tokenSecretRef": {"name": "nats", "key": "token"}});
    let spec = json!({"nats": {"servers": [server.address()], "auth": auth, "core": {"subject": "a"}}});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    let missing = |status: &Value| condition(status, "Ready")["reason"] == "RightMissing";
    let status = source_when(&shop, "plant", "may not", missing).await;
    assert!(condition(&status, "Ready")["message"].as_str().is_some_and(|why| why.contains("kubectl")), "{status:#}");
}
