//! A validating admission webhook that answers as the test says: whatever an API server may say to a write, a real one says it.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::support::control_plane::ControlPlane;

/// The running webhook. Dropping it ends it; its configuration stays.
pub struct Gatekeeper {
    shared: Arc<Mutex<Shared>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    answers: VecDeque<Value>,
    always: Option<Value>,
    asked: Vec<Value>,
}

/// What it says: a `Status` with this code and message.
pub fn says(code: u16, reason: &str, message: &str) -> Value {
    json!({"code": code, "reason": reason, "message": message})
}

impl Gatekeeper {
    /// Starts one that is asked about everything that this user writes.
    pub async fn start(plane: &ControlPlane, name: &str, user: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &authority).expect("a certificate").der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config =
            config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key).expect("usable");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("know the port");
        let shared = Arc::<Mutex<Shared>>::default();
        let router = Router::new().route("/", post(judge)).with_state(shared.clone());
        let listener = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serve");
        });

        let bundle = data_encoding::BASE64.encode(authority.pem().as_bytes());
        let all = json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["*/*"]});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "gate.example.com", "admissionReviewVersions": ["v1"], "rules": [all],
                "clientConfig": {"url": format!("https://{address}/"), "caBundle": bundle},
                "matchConditions": [{"name": "user", "expression": format!("request.userInfo.username == '{user}'")}],
                "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 10,
            }],
        });
        plane.apply(&configuration.to_string()).await;
        Self { shared, server }
    }

    /// What it says from now on to all that it is asked; nothing: that it may be.
    pub fn say(&self, always: Option<Value>) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).always = always;
    }

    /// What it says to what is to be written next, one after the other, and not by a dry run.
    pub fn answer(&self, answers: impl IntoIterator<Item = Value>) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).answers = answers.into_iter().collect();
    }

    /// What it was asked since this was asked for last.
    pub fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).asked)
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn judge(State(shared): State<Arc<Mutex<Shared>>>, body: Bytes) -> Response {
    let review: Value = serde_json::from_slice(&body).expect("a review");
    let request = &review["request"];
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let next = if request["dryRun"] == true { None } else { shared.answers.pop_front() };
    let answer = next.or_else(|| shared.always.clone());
    shared.asked.push(request.clone());
    let response = json!({"uid": request["uid"], "allowed": answer.is_none(), "status": answer});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    ([(CONTENT_TYPE, "application/json")], review.to_string()).into_response()
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
