//! `redis`, with a real server.

use std::process::Command;

use kube::api::{Patch, PatchParams};
use redis::{Value as Answer, aio::MultiplexedConnection, cmd};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    servers::{Authority, program},
    told::{GROUP, connected, tell, tells, texts},
};
use crate::{
    secret, source_when, source_within,
    support::{
        PATIENCE, eventually,
        http::free_port,
        process::{Process, Workspace},
        sink::Sink,
        site::{Shop, Site, condition, shop},
    },
};

/// A server that writes down what it is told. Dropping it kills it.
pub struct Server {
    port: u16,
    workspace: Workspace,
    process: Option<Process>,
}

impl Server {
    /// `config` names files as `FOLDER/<name>`.
    pub async fn start(config: &str, files: &[(&str, &str)]) -> Self {
        let (port, workspace) = (free_port(), Workspace::new("redis"));
        let folder = workspace.path().display().to_string();
        let text = format!("bind 127.0.0.1\ndir {folder}\nappendonly yes\nappendfsync always\nsave \"\"\n{config}\n");
        workspace.write("redis.conf", text.replace("FOLDER", &folder).replace("PORT", &port.to_string()));
        for (name, content) in files {
            workspace.write(name, content);
        }
        let mut server = Self { port, workspace, process: None };
        server.begin().await;
        server
    }

    pub async fn plain() -> Self {
        Self::start("port PORT", &[]).await
    }

    pub async fn begin(&mut self) {
        let mut command = Command::new(program("redis"));
        command.arg(self.workspace.path().join("redis.conf"));
        self.process = Some(self.workspace.spawn("redis-server", command));
        let port = self.port;
        eventually("redis-server listens", PATIENCE, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}", self.address())).expect("an address");
        // A server that was killed listens before it has read what it had written down.
        eventually("a client is connected and all is loaded", PATIENCE, async || {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            cmd("PING").query_async::<Answer>(&mut connection).await.ok()?;
            Some(connection)
        })
        .await
    }
}

pub async fn ask(connection: &mut MultiplexedConnection, words: &[&str]) -> Answer {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async(connection).await.unwrap_or_else(|error| unreachable!("{words:?}: {error}"))
}

pub async fn add(connection: &mut MultiplexedConnection, fields: &[&str]) {
    ask(connection, &[&["XADD", "jobs", "*"], fields].concat()).await;
}

async fn pending(connection: &mut MultiplexedConnection, group: &str) -> u64 {
    let summary: (u64, Answer, Answer, Answer) =
        cmd("XPENDING").arg("jobs").arg(group).query_async(connection).await.expect("what is pending");
    summary.0
}

fn source(server: &Server) -> Value {
    json!({"redis": {"server": server.address(), "stream": "jobs", "group": "ops", "startFrom": "All", "claimAfter": "1s"}})
}

async fn listen(shop: &Shop, sink: &Sink, text: &str, spec: Value) {
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    let mut rule = tells(text);
    // A group that fires more often than 120 times in a minute is slowed down.
    rule["groupBy"] = json!([{"name": "entry", "expression": "event.redisid"}]);
    shop.rule("tell", rule).await;
    source_when(shop, "plant", "connected", connected).await;
}

#[tokio::test]
async fn entries_are_events_and_those_of_a_dead_consumer_are_taken_over() {
    let (shop, sink, server) = (shop("redis").await, Sink::start().await, Server::plain().await);
    let mut client = server.client().await;
    for n in ["1", "2", "3"] {
        add(&mut client, &["n", n, "what", "pump"]).await;
    }
    // Another consumer of the group has got two of them and is dead, and one of these was trimmed away.
    ask(&mut client, &["XGROUP", "CREATE", "jobs", "ops", "0"]).await;
    ask(&mut client, &["XREADGROUP", "GROUP", "ops", "dead", "COUNT", "2", "STREAMS", "jobs", ">"]).await;
    ask(&mut client, &["XTRIM", "jobs", "MAXLEN", "2"]).await;
    listen(&shop, &sink, "${event.subject} ${event.data.n} ${event.data.what}", source(&server)).await;
    tell(&sink, &["jobs 2 pump", "jobs 3 pump"]).await;
    add(&mut client, &["n", "4", "what", "valve"]).await;
    tell(&sink, &["jobs 2 pump", "jobs 3 pump", "jobs 4 valve"]).await;
    eventually("everything is acknowledged", PATIENCE, async || (pending(&mut client, "ops").await == 0).then_some(()))
        .await;
    let told = |status: &Value| status["received"] == 3 && status["lag"] == 0 && status["rejected"]["unavailable"] == 1;
    let status = source_when(&shop, "plant", "counted", told).await;
    assert_eq!(condition(&status, "Ready")["status"], "True");
}

#[tokio::test]
async fn a_group_that_was_destroyed_or_lost_with_its_server_goes_on_where_it_was() {
    let (shop, sink, mut server) = (shop("destroyed").await, Sink::start().await, Server::plain().await);
    let mut client = server.client().await;
    for n in 0..10 {
        add(&mut client, &["n", &format!("old {n}")]).await;
    }
    let mut spec = source(&server);
    spec["redis"]["startFrom"] = "New".into();
    listen(&shop, &sink, "${event.data.n}", spec).await;
    ask(&mut client, &["XGROUP", "DESTROY", "jobs", "ops"]).await;
    add(&mut client, &["n", "10"]).await;
    tell(&sink, &["10"]).await;
    let all = |status: &Value| status["received"] == 1 && status["lag"] == 0;
    source_when(&shop, "plant", "nothing old is taken", all).await;

    // It has nothing any more, and gets something before anybody makes the group again.
    server.process = None;
    std::fs::remove_dir_all(server.workspace.path().join("appendonlydir")).expect("removed");
    server.begin().await;
    add(&mut server.client().await, &["n", "11"]).await;
    tell(&sink, &["10", "11"]).await;
}

#[tokio::test]
async fn entries_that_were_trimmed_away_before_they_were_taken_are_told() {
    let (shop, sink, server) = (shop("trimmed").await, Sink::start().await, Server::plain().await);
    let mut client = server.client().await;
    for n in ["1", "2", "3", "4", "5"] {
        add(&mut client, &["n", n]).await;
    }
    ask(&mut client, &["XGROUP", "CREATE", "jobs", "ops", "0"]).await;
    ask(&mut client, &["XTRIM", "jobs", "MAXLEN", "2"]).await;
    listen(&shop, &sink, "${event.data.n}", source(&server)).await;
    tell(&sink, &["4", "5"]).await;
    let told = |status: &Value| {
        let connected = condition(status, "Connected");
        connected["message"].as_str().is_some_and(|words| words.contains("deleted or trimmed away before"))
    };
    source_when(&shop, "plant", "told", told).await;
}

#[tokio::test]
async fn a_field_may_hold_the_message_and_an_entry_without_it_is_no_event() {
    let (shop, sink, server) = (shop("field").await, Sink::start().await, Server::plain().await);
    let mut spec = source(&server);
    spec["redis"]["field"] = "body".into();
    listen(&shop, &sink, "${event.type} ${event.data}", spec).await;
    let mut client = server.client().await;
    add(&mut client, &["body", "21.5"]).await;
    add(&mut client, &["n", "1"]).await;
    add(
        &mut client,
        &["ce-specversion", "1.0", "ce-id", "x", "ce-source", "/s", "ce-type", "com.acme.t", "body", "on"],
    )
    .await;
    tell(&sink, &["com.acme.t on", "dev.signalbox.redis 21.5"]).await;
    let told = |status: &Value| status["received"] == 2 && status["rejected"]["malformed"] == 1;
    source_when(&shop, "plant", "counted", told).await;
    eventually("everything is acknowledged", PATIENCE, async || (pending(&mut client, "ops").await == 0).then_some(()))
        .await;
}

/// What the process has had in memory at most, in MiB.
fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") >> 10
}

#[tokio::test]
async fn an_entry_as_large_as_redis_allows_is_counted_and_neither_held_in_memory_nor_in_the_way() {
    let (site, sink, server) = (Site::start().await, Sink::start().await, Server::plain().await);
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("large").await;
    let mut client = server.client().await;
    add(&mut client, &["n", "1"]).await;
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let own = redis::Client::open(format!("redis://{}", server.address())).expect("an address");
    let mut large = own.get_multiplexed_async_connection_with_config(&patient).await.expect("connected");
    let mut huge = cmd("XADD");
    huge.arg("jobs").arg("*").arg("n").arg(vec![b'x'; 300 << 20]);
    huge.query_async::<String>(&mut large).await.expect("added");
    // Each of these could be an event by itself; all of them are more than one answer has room for.
    for n in 2..=8 {
        let mut one = cmd("XADD");
        one.arg("jobs").arg("*").arg("n").arg(n).arg("more").arg(vec![b'y'; 3 << 20]);
        one.query_async::<String>(&mut large).await.expect("added");
    }
    let before = most_memory(operator.pid());
    listen(&shop, &sink, "${event.data.n}", source(&server)).await;
    tell(&sink, &["1", "2", "3", "4", "5", "6", "7", "8"]).await;
    let counted = |status: &Value| status["received"] == 8 && status["rejected"]["tooLarge"] == 1;
    source_when(&shop, "plant", "counted", counted).await;
    eventually("everything is acknowledged", PATIENCE, async || (pending(&mut client, "ops").await == 0).then_some(()))
        .await;
    let grown = most_memory(operator.pid()) - before;
    assert!(grown < 200, "{grown} MiB more than before");
}

#[tokio::test]
async fn every_entry_is_told_once_whenever_the_operator_or_the_server_is_killed() {
    let (site, sink, mut server) = (Site::start().await, Sink::start().await, Server::plain().await);
    let mut operator = Some(site.setup.start_ready().await);
    let shop = site.namespace("killed").await;
    listen(&shop, &sink, "${event.data.n}", source(&server)).await;
    for part in 0..3 {
        let mut client = server.client().await;
        for n in part * 200..part * 200 + 200 {
            add(&mut client, &["n", &n.to_string()]).await;
        }
        let wanted = part * 200 + 20;
        eventually("some are told", PATIENCE * 2, async || (sink.requests().len() >= wanted).then_some(())).await;
        if part == 1 {
            server.process = None;
            server.begin().await;
        } else {
            drop(operator.take());
            operator = Some(site.setup.start_ready().await);
        }
    }
    eventually("all are told", PATIENCE * 3, async || (texts(&sink).len() >= 600).then_some(())).await;
    let mut numbers: Vec<u32> = texts(&sink).iter().map(|text| text.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..600).collect::<Vec<u32>>(), "each once");
    let mut client = server.client().await;
    eventually("everything is acknowledged", PATIENCE, async || (pending(&mut client, "ops").await == 0).then_some(()))
        .await;
    // The stream is gone, and with it the group.
    ask(&mut client, &["DEL", "jobs"]).await;
    add(&mut client, &["n", "600"]).await;
    eventually("what a stream made anew has is told", PATIENCE * 2, async || {
        texts(&sink).contains(&"600".to_owned()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn passwords_and_authorities_are_followed_and_told_and_never_shown() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("redis.shop.svc");
    let config = "port 0\ntls-port PORT\ntls-cert-file FOLDER/cert.pem\ntls-key-file FOLDER/key.pem\n\
                  tls-ca-cert-file FOLDER/cert.pem\ntls-auth-clients no\nuser ops on >right-canary ~* &* +@all\nuser default off";
    let server = Server::start(config, &[("cert.pem", &certificate), ("key.pem", &key)]).await;
    let shop = shop("acl").await;
    secret(&shop, "redis", json!({"password": "wrong-canary", "ca": authority.pem()})).await;
    let mut spec = source(&server);
    spec["redis"]["auth"] = json!({"username": "ops", "passwordSecretRef": {"name": "redis", "key": "password"}});
    spec["redis"]["tls"] = json!({"caSecretRef": {"name": "redis", "key": "ca"}, "serverName": "another.shop.svc"});
    shop.create(GROUP, "EventSource", "plant", json!({"spec": spec})).await;
    shop.create(GROUP, "EventRule", "tell", json!({"spec": tells("x")})).await;
    let another = |status: &Value| {
        let connected = condition(status, "Connected");
        connected["status"] == "False" && connected["message"].as_str().is_some_and(|why| why.contains("certificate"))
    };
    source_when(&shop, "plant", "another's certificate", another).await;
    let patch = Patch::Merge(json!({"spec": {"redis": {"tls": {"serverName": "redis.shop.svc"}}}}));
    shop.api(GROUP, "EventSource").patch("plant", &PatchParams::default(), &patch).await.expect("edited");
    let refused = |status: &Value| condition(status, "Authenticated")["reason"] == "Unauthenticated";
    let status = source_when(&shop, "plant", "the password is wrong", refused).await;
    assert!(!status.to_string().contains("canary"), "{status:#}");
    let patch = Patch::Merge(json!({"stringData": {"password": "right-canary"}}));
    shop.api("v1", "Secret").patch("redis", &PatchParams::default(), &patch).await.expect("mended");
    source_within(&shop, "plant", "connected", 60, connected).await;
}
