mod tls;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{Request as Incoming, State},
    http::StatusCode,
    response::IntoResponse,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::{
    actions::{
        Services,
        testing::{action, common, context, services},
    },
    api::ActionOutcome,
    kubernetes::fake::{Fake, failure as status},
    net::{Guard, Http as Client},
};

/// A request as it came in: its line, its headers, its body.
#[derive(Clone, Debug)]
struct Came {
    line: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Came {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An endpoint that answers with the status and the body that are next, the last one for ever; 0 is no answer at all.
struct Endpoint {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
}

type Played = (Arc<Mutex<Vec<(u16, String)>>>, Arc<Mutex<Vec<Came>>>);

impl Endpoint {
    async fn new(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let answers = answers.iter().rev().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let came = Arc::new(Mutex::new(Vec::new()));
        let played: Played = (Arc::new(Mutex::new(answers)), Arc::clone(&came));
        let router = Router::new().fallback(play).with_state(played);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, came }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn came(&self) -> Vec<Came> {
        self.came.lock().clone()
    }
}

async fn play(State((answers, came)): State<Played>, request: Incoming) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    came.lock().push(Came { line: format!("{} {}", parts.method, parts.uri), headers: parts.headers, body });
    let (status, body) = {
        let mut answers = answers.lock();
        if answers.len() > 1 { answers.pop().expect("more than one") } else { answers[0].clone() }
    };
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let headers = [("content-type", "application/json"), ("retry-after", "7"), ("location", "/elsewhere")];
    (StatusCode::from_u16(status).expect("a status"), headers, body).into_response()
}

/// An API server with the Secret `api` whose key `token` can be changed.
fn api_server(token: &Arc<Mutex<String>>) -> Fake {
    let token = Arc::clone(token);
    Fake::new(move |seen| match seen.path.as_str() {
        "/api/v1/namespaces/shop/secrets/api" => {
            let token = k8s_openapi::ByteString(token.lock().clone().into_bytes());
            (200, json!({"metadata": {"name": "api"}, "data": {"token": token}}))
        }
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not found")),
    })
}

fn nobody() -> Fake {
    api_server(&Arc::default())
}

/// A step whose requests go out by this client.
fn context_with(http: Client) -> Context {
    let fake = nobody();
    let Ok(services) = Arc::try_unwrap(services(&fake)) else { unreachable!("nobody else has it") };
    Context { services: Arc::new(Services { http, ..services }), ..context(&fake) }
}

fn spec(http: Value) -> Value {
    json!({"name": "act", "retry": {"attemptTimeout": "2s"}, "http": http})
}

/// Renders and executes what stands in the spec as it is.
async fn run(cx: &Context, http: &Value) -> Result<Done, Failure> {
    let act = action(spec(http.clone()));
    let request = act.render(cx, http).await?;
    act.execute(cx, &request, Attempt::First, Permit::for_test()).await
}

#[tokio::test]
async fn a_request_is_sent_as_it_was_written_and_its_answer_is_the_result() {
    let endpoint = Endpoint::new(&[(201, r#"{"id": 7}"#)]).await;
    let cx = context(&nobody());
    let http = json!({"url": endpoint.url("/hooks?x=1"), "method": "PUT", "body": {"a": [1, "b"]},
        "headers": [{"name": "X-Environment", "value": "production"}]});
    let done = run(&cx, &http).await.expect("answered");
    assert_eq!(done.outcome, ActionOutcome::Succeeded);
    assert_eq!(done.message, format!("PUT {} answered 201 Created", endpoint.url("/hooks")), "without the query");
    assert_eq!((&done.result["status"], &done.result["body"]), (&json!(201), &json!({"id": 7})));
    let came = endpoint.came().remove(0);
    assert_eq!(came.line, "PUT /hooks?x=1");
    assert_eq!(came.body, json!({"a": [1, "b"]}).to_string());
    for (name, value) in [
        ("content-type", Some("application/json")),
        ("x-environment", Some("production")),
        ("idempotency-key", Some("0123456789abcdef0123-act")),
        ("signalbox-hops", Some("1")),
        ("traceparent", Some("00-1fb1ae81ce81bc8663fb91ae4d98abb7-4b2165114f29f121-01")),
        ("authorization", None),
    ] {
        assert_eq!(came.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_text_is_sent_as_it_is_and_a_request_without_a_body_has_no_type() {
    let endpoint = Endpoint::new(&[(200, "")]).await;
    let cx = context(&nobody());
    run(&cx, &json!({"url": endpoint.url("/"), "body": "a=1"})).await.expect("answered");
    run(&cx, &json!({"url": endpoint.url("/"), "method": "GET"})).await.expect("answered");
    let type_ = json!([{"name": "Content-Type", "value": "application/x-www-form-urlencoded"}]);
    run(&cx, &json!({"url": endpoint.url("/"), "body": "a=1", "headers": type_})).await.expect("answered");
    let seen: Vec<_> = endpoint
        .came()
        .iter()
        .map(|came| (came.line.clone(), came.header("content-type").map(str::to_owned), came.body.clone()))
        .collect();
    let form = Some("application/x-www-form-urlencoded".to_owned());
    let text = Some("text/plain; charset=utf-8".to_owned());
    let post = || "POST /".to_owned();
    assert_eq!(seen, [(post(), text, "a=1".into()), ("GET /".into(), None, "".into()), (post(), form, "a=1".into())]);
}

#[tokio::test]
async fn a_token_is_read_as_the_account_recorded_by_reference_and_never_told() {
    let token = Arc::new(Mutex::new("canary-1\n".to_owned()));
    let fake = api_server(&token);
    let endpoint = Endpoint::new(&[(403, r#"{"you": "sent canary-1"}"#)]).await;
    let cx = context(&fake);
    let http = json!({"url": endpoint.url("/"), "authSecretRef": {"name": "api", "key": "token"},
        "headers": [{"name": "X-Key", "valueSecretRef": {"name": "api", "key": "token"}}]});
    let act = action(spec(http.clone()));
    let request = act.render(&cx, &http).await.expect("a request");
    assert_eq!(request["authSecretRef"], json!({"name": "api", "key": "token"}));
    let done = act.execute(&cx, &request, Attempt::First, Permit::for_test()).await.expect("final");
    assert_eq!(done.outcome, ActionOutcome::Failed);
    assert!(!format!("{request} {done:?}").contains("canary"), "{done:?}");
    let came = endpoint.came().remove(0);
    assert_eq!((came.header("authorization"), came.header("x-key")), (Some("Bearer canary-1"), Some("canary-1")));
    let read = fake.requests().into_iter().find(|seen| seen.path.ends_with("/secrets/api")).expect("read");
    assert_eq!(read.user.as_deref(), Some("system:serviceaccount:shop:shop-ops"));
    let rights = act.rights(&cx.services.cluster, "shop").await;
    assert_eq!(rights, vec![Right::new("get", "", "secrets").within(Some("shop")).named("api"); 2]);
}

#[tokio::test]
async fn a_token_that_was_replaced_is_read_anew_when_it_is_refused() {
    let token = Arc::new(Mutex::new("old".to_owned()));
    let endpoint = Endpoint::new(&[(200, ""), (401, ""), (200, "")]).await;
    let cx = context(&api_server(&token));
    let http = json!({"url": endpoint.url("/"), "authSecretRef": {"name": "api", "key": "token"}});
    run(&cx, &http).await.expect("answered");
    "Basic bmV3".clone_into(&mut token.lock());
    let done = run(&cx, &http).await.expect("answered");
    assert_eq!(done.outcome, ActionOutcome::Succeeded);
    let sent: Vec<_> = endpoint.came().iter().map(|came| came.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, ["Bearer old", "Bearer old", "Basic bmV3"].map(|value| Some(value.to_owned())));
}

#[tokio::test]
async fn a_status_says_whether_and_when_to_repeat() {
    for (code, retryable) in [(429, true), (503, true), (500, true), (408, true), (400, false), (404, false)] {
        let endpoint = Endpoint::new(&[(code, "no, because")]).await;
        let result = run(&context(&nobody()), &json!({"url": endpoint.url("/x")})).await;
        match result {
            Err(failure) if retryable => {
                assert_eq!(failure.kind, FailureKind::Retryable { after: Some(Duration::from_secs(7)) }, "{code}");
                assert!(failure.message.contains(&format!("answered {code}")), "{failure}");
            }
            Ok(done) if !retryable => {
                assert_eq!((done.outcome, &done.result["status"]), (ActionOutcome::Failed, &json!(code)));
                assert!(done.message.ends_with(": no, because"), "{}", done.message);
            }
            other => unreachable!("{code}: {other:?}"),
        }
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let failure = run(&context(&nobody()), &json!({"url": format!("http://{closed}/")})).await.expect_err("closed");
    assert_eq!(failure.kind, FailureKind::Retryable { after: None }, "{failure}");
}

#[tokio::test]
async fn what_may_have_been_received_is_sent_again_with_the_same_key_or_not_at_all() {
    for (on_unknown, sent) in [("Retry", 2), ("Fail", 1)] {
        let endpoint = Endpoint::new(&[(0, ""), (200, "")]).await;
        let cx = context(&nobody());
        let http = json!({"url": endpoint.url("/"), "onUnknown": on_unknown});
        let act = action(json!({"name": "act", "retry": {"attemptTimeout": "50ms"}, "http": http}));
        let request = act.render(&cx, &http).await.expect("a request");
        let execute = async |attempt| act.execute(&cx, &request, attempt, Permit::for_test()).await;
        let failure = execute(Attempt::First).await.expect_err("no answer");
        assert!(failure.message.contains("no answer within 0.05 s"), "{failure}");
        if on_unknown == "Fail" {
            assert_eq!(failure.kind, FailureKind::Final);
            assert!(failure.message.contains("onUnknown: Fail"), "{failure}");
        } else {
            assert_eq!(failure.kind, FailureKind::Retryable { after: None });
            execute(Attempt::Again).await.expect("answered");
        }
        let keys: Vec<_> =
            endpoint.came().iter().map(|came| came.header("idempotency-key").map(str::to_owned)).collect();
        assert_eq!(keys, vec![Some("0123456789abcdef0123-act".to_owned()); sent]);
    }
}

#[tokio::test]
async fn with_on_unknown_fail_only_what_was_answered_or_never_sent_is_repeated() {
    let endpoint = Endpoint::new(&[(503, ""), (200, "")]).await;
    let cx = context(&nobody());
    let http = json!({"url": endpoint.url("/"), "onUnknown": "Fail"});
    let act = action(spec(http.clone()));
    let request = act.render(&cx, &http).await.expect("a request");
    act.execute(&cx, &request, Attempt::First, Permit::for_test()).await.expect_err("503");
    act.execute(&cx, &request, Attempt::Again, Permit::for_test()).await.expect("it is known that it was refused");
    // Another process knows nothing.
    let act = action(spec(http));
    let failure = act.execute(&cx, &request, Attempt::Again, Permit::for_test()).await.expect_err("unknown");
    assert_eq!(failure.kind, FailureKind::Final);
    assert!(failure.message.contains("it was interrupted; whether it was received is not known"), "{failure}");
    assert_eq!(endpoint.came().len(), 2);
}

#[tokio::test]
async fn observing_sends_nothing_and_shows_no_query() {
    let endpoint = Endpoint::new(&[(200, "")]).await;
    let cx = context(&nobody());
    let http = json!({"url": endpoint.url("/restart?token=canary"), "body": {}});
    let act = action(spec(http.clone()));
    let request = act.render(&cx, &http).await.expect("a request");
    let done = act.observe(&cx, &request).await.expect("observed");
    assert_eq!(done, Done::observed(format!("would POST {}", endpoint.url("/restart")), Value::Null));
    assert!(endpoint.came().is_empty());
    let missing = json!({"url": endpoint.url("/"), "authSecretRef": {"name": "none", "key": "token"}});
    let act = action(spec(missing.clone()));
    let request = act.render(&cx, &missing).await.expect("a request");
    let failure = act.observe(&cx, &request).await.expect_err("no Secret");
    assert!(failure.message.contains("Secret shop/none does not exist; create it"), "{failure}");
}

/// C2 9 of the abuse tests.
#[tokio::test]
async fn an_internal_address_is_refused_in_every_notation_before_anything_is_sent() {
    let endpoint = Endpoint::new(&[(200, "")]).await;
    let port = endpoint.address.port();
    let api_server = "127.0.0.1".parse().expect("an address");
    let cx = context_with(Client::new(Guard::new(vec![], vec!["10.96.0.1".parse().expect("an address"), api_server])));
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "127.0.0.1",
        "localhost",
        "127.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.96.0.1",
        "[::ffff:10.96.0.1]",
    ] {
        let failure = run(&cx, &json!({"url": format!("http://{host}:{port}/")})).await.expect_err(host);
        assert_eq!(failure.kind, FailureKind::Final, "{host}: {failure}");
        assert!(failure.message.contains("which the operator's settings do not allow"), "{host}: {failure}");
    }
    assert!(endpoint.came().is_empty());
}

/// C2 10: each connection goes to the address that was checked for it.
#[tokio::test]
async fn a_name_that_leads_to_this_host_the_second_time_is_refused_the_second_time() {
    let inside = Endpoint::new(&[(200, "")]).await;
    let listener = TcpListener::bind(("127.0.0.2", inside.address.port())).await.expect("another address");
    let close = || async { ([("connection", "close")], "outside") };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(close)).await });
    let asked = std::sync::atomic::AtomicU8::new(1);
    let guard = Guard::new(vec!["127.0.0.2".parse().expect("a range")], vec![]);
    let cx = context_with(Client::resolving(guard, move |port| {
        let last = if asked.fetch_add(1, Ordering::SeqCst) == 1 { 2 } else { 1 };
        vec![SocketAddr::from(([127, 0, 0, last], port))]
    }));
    let http = json!({"url": format!("http://rebound.example:{}/", inside.address.port())});
    let done = run(&cx, &http).await.expect("outside");
    assert_eq!(done.result["body"], "outside");
    let failure = run(&cx, &http).await.expect_err("inside");
    assert!(failure.message.contains("address 127.0.0.1 is loopback"), "{failure}");
    assert!(inside.came().is_empty());
}

/// C2 11.
#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    for code in [301, 302, 307, 308] {
        let endpoint = Endpoint::new(&[(code, "")]).await;
        let done = run(&context(&nobody()), &json!({"url": endpoint.url("/in")})).await.expect("an answer");
        assert_eq!(done.outcome, ActionOutcome::Failed);
        assert!(done.message.ends_with("(redirects are not followed)"), "{}", done.message);
        assert_eq!(endpoint.came().len(), 1, "{code}");
    }
}

/// C2 12, of what was filled in: what stands in the rule is refused when it is accepted.
#[tokio::test]
async fn other_schemes_credentials_in_addresses_and_line_breaks_in_headers_are_refused() {
    let cx = context(&nobody());
    for url in [
        "file:///etc/passwd",
        "gopher://h/",
        "unix:/run/x",
        "http://user:secret@h/",
        "http://h/../x",
        "http://h/a b",
        "",
    ] {
        let failure = run(&cx, &json!({"url": url})).await.expect_err(url);
        assert_eq!(failure.kind, FailureKind::Final);
        assert!(failure.message.starts_with("url: "), "{url}: {failure}");
        assert!(!failure.message.contains("secret"), "{failure}");
    }
    for value in ["a\r\nX-Evil: 1", "a\n", "\u{0}"] {
        let http = json!({"url": "http://h/", "headers": [{"name": "X-Name", "value": value}]});
        let failure = run(&cx, &http).await.expect_err("a line break");
        assert_eq!(failure.message, "the value of header x-name has a line break or a control character");
    }
}

/// C2 13.
#[tokio::test]
async fn no_credential_is_sent_that_the_rule_does_not_name() {
    let endpoint = Endpoint::new(&[(200, "")]).await;
    run(&context(&nobody()), &json!({"url": endpoint.url("/api/v1/secrets"), "method": "GET"}))
        .await
        .expect("answered");
    let came = endpoint.came().remove(0);
    let mut names: Vec<_> = came.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "idempotency-key", "signalbox-hops", "traceparent"]);
}
