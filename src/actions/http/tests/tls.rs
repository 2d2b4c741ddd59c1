//! Requests to somebody who shows a certificate of an authority of his own, and asks for one.

use std::io::{Read as _, Write as _};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, server::WebPkiClientVerifier};

use super::*;

/// What a test's certificates are of.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A certificate for the name, and its key.
fn signed(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    (params.signed_by(&key, authority).expect("signed"), key)
}

/// A server that lets in who shows a certificate of the authority, and answers 204 to whatever he says; its port.
fn serve(authority: &Authority) -> u16 {
    let (certificate, key) = signed(authority, "localhost");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_client_cert_verifier(verifier.expect("a verifier"));
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).expect("a server"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = StreamOwned::new(session, socket.expect("a client"));
            if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
        }
    });
    port
}

/// A step whose account may read the Secret `tls` with these keys, and that may connect to this host.
fn with_secret(keys: &[(&'static str, String)]) -> Context {
    let data: serde_json::Map<String, Value> = keys
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(k8s_openapi::ByteString(value.clone().into_bytes()))))
        .collect();
    let fake = Fake::new(move |seen| match seen.path.as_str() {
        "/api/v1/namespaces/shop/secrets/tls" => (200, json!({"metadata": {"name": "tls"}, "data": data})),
        _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not found")),
    });
    context(&fake)
}

#[tokio::test]
async fn a_certificate_is_shown_and_only_one_of_the_authority_that_the_rule_names_is_taken() {
    let (ours, theirs) = (authority(), authority());
    let (certificate, key) = signed(&ours, "signalbox");
    let key_of = |key: &str| json!({"name": "tls", "key": key});
    let (identity, trust) = (
        json!({"clientCertificateSecretRef": key_of("cert"), "clientKeySecretRef": key_of("key")}),
        json!({"caSecretRef": key_of("ca")}),
    );
    let both = |mut tls: Value, more: &Value| {
        tls.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
        tls
    };
    let keys =
        |authority: &Authority| [("ca", authority.pem()), ("cert", certificate.pem()), ("key", key.serialize_pem())];
    let port = serve(&ours);
    let to = |tls: Value| json!({"url": format!("https://localhost:{port}/"), "tls": tls});

    let cx = with_secret(&keys(&ours));
    let done = run(&cx, &to(both(identity.clone(), &trust))).await.expect("let in");
    assert_eq!((done.outcome, &done.result["status"]), (ActionOutcome::Succeeded, &json!(204)));
    // No certificate is shown, theirs is not trusted, and it is for another name.
    let elsewhere = both(both(identity.clone(), &trust), &json!({"serverName": "elsewhere"}));
    for (cx, tls) in
        [(&cx, trust.clone()), (&with_secret(&keys(&theirs)), both(identity.clone(), &trust)), (&cx, elsewhere)]
    {
        let failure = run(cx, &to(tls.clone())).await.expect_err("not let in");
        assert_eq!(failure.kind, FailureKind::Retryable { after: None }, "{tls}: {failure}");
    }
    let act = action(spec(to(both(identity, &trust))));
    let right = Right::new("get", "", "secrets").within(Some("shop")).named("tls");
    assert_eq!(act.rights(&cx.services.cluster, "shop").await, vec![right; 3]);
}

#[tokio::test]
async fn what_is_no_certificate_is_told_without_it_before_anything_is_sent() {
    let endpoint = Endpoint::new(&[(200, "")]).await;
    let cx = with_secret(&[("ca", "canary-5".to_owned())]);
    let tls = json!({"caSecretRef": {"name": "tls", "key": "ca"}});
    let http = json!({"url": format!("https://{}/", endpoint.address), "tls": tls});
    let observed = action(spec(http.clone()));
    let request = observed.render(&cx, &http).await.expect("a request");
    for failure in [
        run(&cx, &http).await.expect_err("no certificate"),
        observed.observe(&cx, &request).await.expect_err("and observing says so"),
    ] {
        assert_eq!(failure.kind, FailureKind::Final, "{failure}");
        assert!(failure.message.starts_with("tls: ") && !failure.message.contains("canary"), "{failure}");
    }
    let plain = json!({"url": endpoint.url("/"), "tls": {}});
    let failure = run(&cx, &plain).await.expect_err("no https");
    assert_eq!(failure.message, "url: tls is for addresses that begin with https://");
    assert!(endpoint.came().is_empty());
}
