//! What every kind of sink that speaks another protocol than HTTP holds to, without its server.

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

/// A spec of each kind; `ADDRESS` stands for the server's. The password is under the key `password`.
const BROKERS: [&str; 7] = [
    r#"{"mqtt": {"address": "ADDRESS", "topic": "a", "login": {"username": "u", "passwordSecretRef": {"name": "s", "key": "password"}}}}"#,
    r#"{"nats": {"servers": ["ADDRESS"], "subject": "a", "auth": {"tokenSecretRef": {"name": "s", "key": "password"}}}}"#,
    r#"{"nats": {"servers": ["ADDRESS"], "subject": "a", "acknowledge": "Server", "auth": {"login": {"username": "u", "passwordSecretRef": {"name": "s", "key": "password"}}}}}"#,
    r#"{"kafka": {"brokers": ["ADDRESS"], "topic": "a", "sasl": {"mechanism": "Plain", "username": "u", "passwordSecretRef": {"name": "s", "key": "password"}}}}"#,
    r#"{"amqp": {"address": "ADDRESS", "routingKey": "a", "login": {"username": "u", "passwordSecretRef": {"name": "s", "key": "password"}}}}"#,
    r#"{"email": {"server": "ADDRESS", "from": "a@example.com", "to": ["b@example.com"], "login": {"username": "u", "passwordSecretRef": {"name": "s", "key": "password"}}}}"#,
    r#"{"redis": {"server": "ADDRESS", "stream": "a", "auth": {"passwordSecretRef": {"name": "s", "key": "password"}}}}"#,
];

/// What is told by a sink of this spec.
async fn told(spec: &str, address: &str, http: &Http, connections: &Connections) -> Result<Delivered, SinkError> {
    let sink = build(&sink(&spec.replace("ADDRESS", address))).expect("a sink");
    let mut secrets = Secrets::default();
    for key in sink.secrets() {
        secrets.insert(key, b"canary-77");
    }
    let reach = Reach { http, connections, threads: &Threads::default() };
    sink.deliver(&Parcel::Notification(Box::new(notification())), &secrets, reach).await
}

#[tokio::test]
async fn a_broker_where_nobody_listens_is_tried_again_and_one_that_is_not_allowed_is_not() {
    for spec in BROKERS {
        let connections = Connections::default();
        let error = told(spec, "127.0.0.1:1", &http(), &connections).await.expect_err("nobody listens");
        assert_eq!(error.retry, Retry::After(None), "{spec}: {error}");
        let error = told(spec, "127.0.0.1:1", &Http::new(Guard::default()), &connections).await.expect_err("loopback");
        assert_eq!((error.retry, error.message.contains("loopback")), (Retry::Never, true), "{spec}: {error}");
    }
}

#[tokio::test]
async fn what_a_stranger_answers_is_shown_in_one_short_line_without_secrets() {
    for spec in BROKERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let stranger = async {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let words = format!("-ERR 'you sent canary-77'\r\n{}\r\n", "x".repeat(5_000));
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, words.as_bytes()).await;
            }
        };
        let (http, connections) = (http(), Connections::default());
        let error = tokio::select! {
            told = told(spec, &address, &http, &connections) => told.expect_err("it is no broker"),
            () = stranger => unreachable!("it goes on"),
        };
        assert!(!format!("{error:?}").contains("canary"), "{spec}: {error:?}");
        assert!(error.message.chars().count() <= 300 && !error.message.contains(['\r', '\n']), "{spec}: {error}");
    }
}

#[tokio::test]
async fn what_is_cancelled_hangs_up() {
    for spec in BROKERS {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (http, connections) = (http(), Connections::default());
        let mut stream: TcpStream = tokio::select! {
            told = told(spec, &address, &http, &connections) => unreachable!("{spec}: {told:?}"),
            accepted = listener.accept() => accepted.expect("a connection").0,
        };
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(10), stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "{spec}: it is still connected");
    }
}
