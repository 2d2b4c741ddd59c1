//! Mails, taken by a real mail server.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use signalbox::{
    api::{EventSinkSpec, NotifyOperation, SecretKeyRef, Severity},
    event::Event,
    net::{Guard, Http},
    record::{FiringId, RuleRef, RuleUid},
    sinks::{Connections, Delivered, Notification, Parcel, Reach, Retry, Secrets, SinkError, Threads, build},
};
use tempfile::TempDir;

use crate::{
    ended, rule,
    support::{eventually, site::shared, site::shop},
};

/// A mail server. It ends with the test: its standard input is closed then.
struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    authority: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Server {
    /// One with a certificate for `localhost`, if it is to have any, and these options.
    fn start(has_tls: bool, options: &[&str]) -> Self {
        let program = Command::new("e2e/brokers/smtp").output().expect("run the script");
        assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
        let program = String::from_utf8_lossy(&program.stdout).trim().to_owned();
        let folder = TempDir::new().expect("a folder");
        let (authority, files) = certificate(folder.path());
        let mut command = Command::new(program);
        command.arg(folder.path()).args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        if has_tls {
            command.arg("--cert").arg(&files[0]).arg("--key").arg(&files[1]);
        }
        let mut child = command.spawn().expect("start the server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        Self { child, port: line.trim().parse().expect("a port"), folder, authority }
    }

    fn mails(&self) -> Vec<String> {
        let named = |number: usize| self.folder.path().join(number.to_string());
        (1..).map_while(|number| std::fs::read_to_string(named(number)).ok()).collect()
    }
}

/// The authority, and files of a certificate for `localhost` and its key.
fn certificate(folder: &Path) -> (String, [PathBuf; 2]) {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let signed = CertificateParams::new(["localhost".to_owned()]).expect("parameters").signed_by(&key, &authority);
    let files = [folder.join("cert.pem"), folder.join("key.pem")];
    std::fs::write(&files[0], signed.expect("a certificate").pem()).expect("write");
    std::fs::write(&files[1], key.serialize_pem()).expect("write");
    (authority.pem(), files)
}

fn spec(server: &Server, more: Value) -> Value {
    let mut email = json!({"server": format!("localhost:{}", server.port), "from": "Signalbox <alerts@example.com>", "to": ["oncall@example.com"]});
    email.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    json!({"email": email})
}

fn ca() -> Value {
    json!({"name": "mail", "key": "ca"})
}

fn login() -> Value {
    json!({"username": "alerts", "passwordSecretRef": {"name": "mail", "key": "password"}})
}

fn notification(id: &str) -> Notification {
    Notification {
        severity: Severity::Error,
        title: "Größe: 5\r\nBcc: evil@example.org".into(),
        text: "first\n.\nlast ü".into(),
        fields: vec![],
        event: Arc::new(Event::new("1", "/s", "com.acme.paid", Value::Null)),
        rule: RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() },
        firing: FiringId("0123456789abcdef0123".into()),
        hops: 1,
        id: id.into(),
        operation: NotifyOperation::Trigger,
        incident: "u/web".into(),
        again: false,
    }
}

async fn tell(server: &Server, more: Value, password: &str) -> Result<Delivered, SinkError> {
    let spec: EventSinkSpec = serde_json::from_value(spec(server, more)).expect("a spec");
    let sink = build(&spec).unwrap_or_else(|error| unreachable!("{error}"));
    let mut secrets = Secrets::default();
    for (key, value) in [("ca", server.authority.as_str()), ("password", password)] {
        secrets.insert(SecretKeyRef { name: "mail".into(), key: key.into() }, value.as_bytes());
    }
    let http =
        Http::new(Guard::new(vec!["127.0.0.0/8".parse().expect("a range"), "::1".parse().expect("a range")], vec![]));
    let reach = Reach { http: &http, connections: &Connections::default(), threads: &Threads::default() };
    sink.deliver(&Parcel::Notification(Box::new(notification("1-tell"))), &secrets, reach).await
}

#[tokio::test]
async fn mails_come_by_starttls_by_tls_and_where_asked_to_by_neither() {
    let starttls = Server::start(true, &["--user", "alerts", "--password", "canary-77"]);
    let tls = Server::start(true, &["--implicit", "--user", "alerts", "--password", "canary-77"]);
    let plain = Server::start(false, &[]);
    for (server, more, line) in [
        (&starttls, json!({"caSecretRef": ca(), "login": login()}), "TLS True"),
        (&tls, json!({"security": "Tls", "caSecretRef": ca(), "login": login()}), "TLS True"),
        (&plain, json!({"security": "None"}), "TLS False"),
    ] {
        for _ in 0..2 {
            let taken = tell(server, more.clone(), "canary-77").await.expect("taken");
            assert_eq!(taken, Delivered { status: 250, note: None });
        }
        let mails = server.mails();
        assert_eq!(mails.len(), 2, "{mails:?}");
        let mail = &mails[0];
        assert!(
            mail.starts_with(&format!("MAIL alerts@example.com\r\nRCPT oncall@example.com\r\n{line}\r\n")),
            "{mail}"
        );
        assert!(
            mail.contains("Message-ID: <1-tell@example.com>") && mails[1].contains("Message-ID: <1-tell@example.com>")
        );
        assert!(!mail.contains("\r\nBcc:") && mail.contains("\r\nFrom: Signalbox <alerts@example.com>\r\n"), "{mail}");
    }
}

#[tokio::test]
async fn what_a_mail_server_refuses_for_now_is_repeated_and_the_rest_is_not() {
    let plain = Server::start(false, &[]);
    let secured = Server::start(true, &["--user", "alerts", "--password", "canary-77"]);
    let other = Server::start(true, &[]);
    for (server, more, password, retry, words) in [
        (&plain, json!({"security": "None", "to": ["later@example.com"]}), "", Retry::After(None), "(451): later"),
        (
            &plain,
            json!({"security": "None", "to": ["a@b.c", "never@example.com"]}),
            "",
            Retry::Never,
            "no such user here",
        ),
        (&plain, json!({}), "", Retry::Never, "offers no STARTTLS: set email.security to Tls"),
        (&secured, json!({"caSecretRef": ca(), "login": login()}), "canary-wrong", Retry::FreshSecrets, "535"),
        (&secured, json!({"caSecretRef": ca()}), "", Retry::Never, "530"),
        // The system does not trust this authority.
        (&other, json!({}), "", Retry::After(None), "certificate"),
        (&other, json!({"security": "Tls", "caSecretRef": ca()}), "", Retry::After(None), ""),
    ] {
        let error = tell(server, more.clone(), password).await.expect_err("refused");
        assert_eq!(error.retry, retry, "{more}: {error}");
        assert!(error.message.contains(words) && !error.message.contains("canary"), "{more}: {error}");
        assert!(!error.message.contains('\n') && error.message.chars().count() < 500, "{error}");
    }
    assert!(plain.mails().is_empty() && secured.mails().is_empty() && other.mails().is_empty());
}

#[tokio::test]
async fn a_rule_sends_mails_of_one_thread_and_its_sink_says_how_it_went() {
    let server = Server::start(true, &["--user", "alerts", "--password", "canary-77"]);
    let (shop, plane) = (shop("mails").await, &shared().await.plane);
    let values = json!({"ca": server.authority, "password": "canary-77\n"});
    shop.create("v1", "Secret", "mail", json!({"stringData": values})).await;
    let role = ["create", "role", "mail", "-n", &shop.name, "--verb=get", "--resource=secrets", "--resource-name=mail"];
    assert!(plane.kubectl(&role).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let binding = ["create", "rolebinding", "mail", "-n", &shop.name, "--role=mail", &account];
    assert!(plane.kubectl(&binding).await.status.success());
    let sink = json!({"spec": spec(&server, json!({"caSecretRef": ca(), "login": login()}))});
    shop.create("signalbox.dev/v1alpha1", "EventSink", "oncall", sink).await;
    shop.rule("mails", rule(json!([{"name": "tell", "notify": {"sinkRef": {"name": "oncall"}}}]))).await;
    for number in 1..=2 {
        shop.event(&format!("web.{number}"), "web", "BackOff").await;
        eventually("the mail is there", Duration::from_secs(30), async || {
            (server.mails().len() == number).then_some(())
        })
        .await;
    }
    let mails = server.mails();
    let line = |mail: &str, name: &str| mail.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert_ne!(line(&mails[0], "Message-ID: "), line(&mails[1], "Message-ID: "));
    assert_eq!(line(&mails[0], "References: "), line(&mails[1], "References: "));
    assert!(mails[0].contains("BackOff"), "{}", mails[0]);
    let delivered = |status: &Value| status["delivered"] == 2;
    shop.status("EventSink", "oncall", "two deliveries", delivered).await;
    let (outcome, message) = ended(&shop, "mails").await;
    assert_eq!(outcome, "Succeeded", "{message}");
}
