use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderName, StatusCode as Status},
    routing::post,
};
use tokio::net::TcpListener;

use super::*;

fn open() -> Http {
    Http::to_this_host()
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn to(url: &str) -> Call<'_> {
    let method = Method::POST;
    Call {
        method,
        url,
        name: "the sink",
        headers: HeaderMap::new(),
        body: b"hello".to_vec(),
        timeout: Duration::from_secs(5),
    }
}

async fn failure(http: &Http, url: &str) -> HttpErrorKind {
    http.call(to(url)).await.expect_err(url).kind
}

#[tokio::test]
async fn a_request_arrives_and_its_answer_comes_back() {
    let address = serve(Router::new().route(
        "/in",
        post(|body: Bytes| async move {
            assert_eq!(&body[..], b"hello");
            (Status::TOO_MANY_REQUESTS, [(HeaderName::from_static("retry-after"), "7")], "slower")
        }),
    ))
    .await;
    let response = open().call(to(&format!("http://{address}/in"))).await.expect("an answer");
    assert_eq!(response.status, 429);
    assert_eq!(response.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(response.body, b"slower");
}

#[tokio::test]
async fn every_notation_of_this_host_is_refused() {
    let http = Http::new(Guard::default());
    let address = serve(Router::new()).await;
    let port = address.port();
    for host in
        ["127.0.0.1", "localhost", "127.1", "0", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
    {
        let error = failure(&http, &format!("http://{host}:{port}/")).await;
        assert!(matches!(error, HttpErrorKind::Refused(_)), "{host}: {error}");
    }
    // Numbers in odd notations are no names for TLS, which says so before anything is resolved.
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let error = failure(&http, &format!("https://{host}:{port}/")).await;
        assert!(matches!(error, HttpErrorKind::Refused(_)), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_metadata_address_is_refused_before_anything_is_sent() {
    let error = failure(&open(), "http://169.254.169.254/latest/meta-data").await;
    assert!(matches!(error, HttpErrorKind::Refused(_)), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn other_schemes_and_credentials_in_addresses_are_refused() {
    for url in [
        "file:///etc/passwd",
        "gopher://h/",
        "unix:/run/x",
        "http://user:secret@h/",
        "http:///x",
        "h/x",
        "http://h\r\n/",
    ] {
        let error = failure(&open(), url).await;
        assert!(matches!(error, HttpErrorKind::Address(_)), "{url:?}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    static FOLLOWED: AtomicUsize = AtomicUsize::new(0);
    let address = serve(
        Router::new()
            .route(
                "/in",
                post(|| async { (Status::TEMPORARY_REDIRECT, [(HeaderName::from_static("location"), "/out")]) }),
            )
            .route("/out", post(|| async { FOLLOWED.fetch_add(1, Ordering::SeqCst).to_string() })),
    )
    .await;
    let response = open().call(to(&format!("http://{address}/in"))).await.expect("an answer");
    assert_eq!(response.status, 307);
    assert_eq!(FOLLOWED.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn of_a_long_answer_the_first_64_kib_are_read() {
    let address = serve(Router::new().route("/in", post(|| async { "x".repeat(MAX_RESPONSE * 3) }))).await;
    let response = open().call(to(&format!("http://{address}/in"))).await.expect("an answer");
    assert_eq!(response.body.len(), MAX_RESPONSE);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let address = serve(Router::new().route("/in", post(std::future::pending::<()>))).await;
    let url = format!("http://{address}/in?key=canary");
    let error = open().call(Call { timeout: Duration::from_millis(50), ..to(&url) }).await.expect_err("no answer");
    assert!(matches!(error.kind, HttpErrorKind::Timeout(_)), "{error}");
    assert_eq!(error.to_string(), "request to the sink: no answer within 0.05 s");
}

#[tokio::test]
async fn errors_do_not_contain_the_address() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound")
    };
    for url in [format!("http://{closed}/canary"), "http://127.0.0.1:0/canary".into(), "https:canary".into()] {
        let error = open().call(to(&url)).await.expect_err("nobody listens");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn the_second_request_takes_the_connection_of_the_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = Router::new()
        .route("/in", post(|info: axum::extract::ConnectInfo<SocketAddr>| async move { info.0.port().to_string() }));
    tokio::spawn(
        async move { axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await },
    );
    let http = open();
    let url = format!("http://{address}/in");
    let first = http.call(to(&url)).await.expect("an answer").body;
    let second = http.clone().call(to(&url)).await.expect("an answer").body;
    assert_eq!(first, second);
}

/// One TLS server in a thread that answers one request; returns its port and its certificate.
fn serve_tls() -> (u16, rustls::pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a server");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a client");
        let session = rustls::ServerConnection::new(Arc::new(config)).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, socket);
        let mut buffer = [0; 1024];
        if stream.read(&mut buffer).is_ok() {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    (port, certificate)
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (port, _) = serve_tls();
    let error = failure(&open(), &format!("https://localhost:{port}/")).await;
    assert!(matches!(&error, HttpErrorKind::Connect(why) if why.contains("certificate")), "{error}");
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_taken() {
    let (port, certificate) = serve_tls();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let guard = Guard::new(vec!["127.0.0.0/8".parse().expect("a range")], vec![]);
    let http = Http::over(Connector::new(guard), tls_builder().with_root_certificates(roots).with_no_client_auth());
    let response = http.call(to(&format!("https://localhost:{port}/"))).await.expect("an answer");
    assert_eq!(response.status, 204);
}

#[test]
fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
    assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
    assert_eq!(retry_after("99999999"), Some(MAX_RETRY_AFTER));
    assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    assert_eq!(retry_after("Wed, 21 Oct 2099 07:28:00 GMT"), Some(MAX_RETRY_AFTER));
    assert_eq!(retry_after("soon"), None);
}
