//! One pool of connections to the API server.

use std::{path::Path, time::Duration};

use http::{Method, Request, Response, StatusCode};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _, retry::RetryPolicy},
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{
    BoxError, ServiceBuilder,
    retry::{Policy, RetryLayer},
};

/// A peer that is gone is noticed after 30 s + 3 × 10 s without any answer; watches stay open for minutes and would not notice it otherwise.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// Connections kept for the next requests, 30 KiB each: as many as are under way at once when the operator is busy, not when a thousand rules come.
const MAX_IDLE: usize = 32;

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a pod's ServiceAccount was found.
    #[error("find out how to reach the API server: {0}")]
    Infer(#[from] Box<InferConfigError>),
    /// The kubeconfig, or the context of it, that was asked for cannot be used.
    #[error("read the kubeconfig: {0}")]
    Kubeconfig(#[from] Box<KubeconfigError>),
    /// The configuration impersonates somebody itself: an account could then be mixed up with him.
    #[error(
        "the kubeconfig impersonates {0}: use one that does not, since signalbox impersonates ServiceAccounts itself"
    )]
    Impersonating(String),
    /// Proxies are not supported on the way to the API server.
    #[error(
        "the kubeconfig or HTTPS_PROXY names the proxy {0} for the API server, which is not supported: set NO_PROXY"
    )]
    Proxy(String),
    /// TLS or credentials cannot be used.
    #[error("set up the connection to the API server: {0}")]
    Setup(#[from] kube::Error),
}

/// The operator's client. The stack is kube's own, with two differences: Nagle's algorithm is off (it costs 40 ms where a request goes out
/// in two writes), and only reads are repeated.
pub(super) fn client(config: &Config) -> Result<Client, ConnectError> {
    if let Some(user) = &config.auth_info.impersonate {
        return Err(ConnectError::Impersonating(user.clone()));
    }
    if let Some(proxy) = &config.proxy_url {
        return Err(ConnectError::Proxy(proxy.to_string()));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(KEEPALIVE.0));
    tcp.set_keepalive_interval(Some(KEEPALIVE.1));
    tcp.set_keepalive_retries(Some(KEEPALIVE.2));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let pool: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(MAX_IDLE).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(ReadsOnly::new()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(pool);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The client of a person: as the kubeconfig says, also where it impersonates somebody. The kubeconfig is `file`, or what KUBECONFIG names, or
/// `~/.kube/config`; the context is the current one unless one is named. Nothing is repeated: a person is told at once, and what was
/// run again once is not asked for twice.
///
/// # Errors
/// When there is no usable configuration.
pub async fn client_of_person(file: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = match (file, context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(Box::new)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Box::new)?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(Box::new)?,
        (None, None) => Config::infer().await.map_err(Box::new)?,
    };
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// kube's policy for 429, 503 and 504, for reads only. A 504 can come after the API server has carried a write out: whether to repeat that
/// is decided where the write's intent is known.
#[derive(Clone)]
struct ReadsOnly(RetryPolicy);

impl ReadsOnly {
    fn new() -> Self {
        // 0.1 + 0.2 + 0.4 + 0.8 s, or what `Retry-After` says; callers have timeouts of their own.
        let policy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(5), 4, true);
        Self(policy.expect("the delays above are in order"))
    }
}

impl<R> Policy<Request<Body>, Response<R>, BoxError> for ReadsOnly {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<R>, BoxError>,
    ) -> Option<Self::Future> {
        let behind = result.as_ref().is_ok_and(|answer| answer.status() == StatusCode::GATEWAY_TIMEOUT);
        if behind && asks_for_a_version(request) { None } else { self.0.retry(request, result) }
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        // Without a copy of the request the layer does not ask whether to repeat.
        let policy: &mut dyn Policy<Request<Body>, Response<R>, BoxError, Future = tokio::time::Sleep> = &mut self.0;
        if is_read(request) { policy.clone_request(request) } else { None }
    }
}

/// An API server that has not reached the version says so by a 504, each time after three seconds: that is an answer.
fn asks_for_a_version(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("resourceVersionMatch=NotOlderThan"))
}

/// Access reviews are questions too, although they are sent by POST.
fn is_read(request: &Request<Body>) -> bool {
    request.method() == Method::GET || request.uri().path().starts_with("/apis/authorization.k8s.io/")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{Patch, PatchParams},
    };
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    /// An API server that is busy the first time, and counts.
    async fn busy_once() -> (Config, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let answer = move || {
            let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                let status = if first { http::StatusCode::GATEWAY_TIMEOUT } else { http::StatusCode::OK };
                (status, json!({"metadata": {"name": "one", "namespace": "shop"}}).to_string())
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let app = axum::Router::new().fallback(answer);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("serve") });
        (Config::new(format!("http://{address}").parse().expect("address")), asked, server)
    }

    #[tokio::test]
    async fn a_read_is_repeated_and_a_write_is_not() {
        let (config, asked, server) = busy_once().await;
        let api: Api<ConfigMap> = Api::namespaced(client(&config).expect("client"), "shop");
        api.get("one").await.expect("the second answer");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        server.abort();

        let (config, asked, server) = busy_once().await;
        let api: Api<ConfigMap> = Api::namespaced(client(&config).expect("client"), "shop");
        let patch = Patch::Merge(json!({"data": {"a": "b"}}));
        api.patch("one", &PatchParams::default(), &patch).await.expect_err("the first answer");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        server.abort();
    }

    #[tokio::test]
    async fn that_a_version_is_not_reached_is_an_answer() {
        let (config, asked, server) = busy_once().await;
        let request = Request::get("/api/v1/configmaps?resourceVersion=9&resourceVersionMatch=NotOlderThan");
        let request = request.body(Body::empty()).expect("a request");
        let answer = client(&config).expect("client").send(request).await.expect("an answer");
        assert_eq!((answer.status(), asked.load(Ordering::SeqCst)), (StatusCode::GATEWAY_TIMEOUT, 1));
        server.abort();
    }

    #[tokio::test]
    async fn a_configuration_that_impersonates_is_refused() {
        let mut config = Config::new("http://127.0.0.1:1".parse().expect("address"));
        config.auth_info.impersonate = Some("root".into());
        assert!(matches!(client(&config), Err(ConnectError::Impersonating(who)) if who == "root"));
    }
}
