//! The way to the operator: through the API server or straight, with a token of a rule's account.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::body::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE, request::Builder};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client as Direct, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    client::Body,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::Shared;
use crate::{
    api::EventRule,
    kubernetes::{AUDIENCE, client_of_person},
};

/// The Service of the chart, and its port.
const SERVICE: &str = "signalbox:http";
/// Seconds for which a token is good: the shortest that the API server makes.
const TOKEN_SECONDS: i64 = 600;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The way to the operator, and to the rules of one namespace.
pub(super) struct Way {
    pub(super) client: Client,
    /// The namespace.
    pub(super) namespace: String,
    operator_namespace: String,
    address: Option<Uri>,
}

/// The client that the kubeconfig and the flags say. Sends nothing yet.
pub(super) async fn client(shared: &Shared) -> anyhow::Result<Client> {
    let client = client_of_person(shared.kubeconfig.as_deref(), shared.context.as_deref()).await;
    client.context(
        "there is no cluster to ask: name a kubeconfig by --kubeconfig or KUBECONFIG, and a context of it by --context",
    )
}

/// What comes back, before it is read.
type Reply = Response<UnsyncBoxBody<Bytes, anyhow::Error>>;

/// What the operator answered.
pub(super) struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    /// The body of a good answer.
    ///
    /// # Errors
    /// What the operator said.
    pub(super) fn good(self) -> anyhow::Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        Err(anyhow!("{}", self.body["message"].as_str().unwrap_or("the operator gave no reason")))
    }
}

impl Way {
    /// As the kubeconfig and the flags say. Sends nothing yet.
    pub(super) async fn open(shared: &Shared) -> anyhow::Result<Self> {
        let client = client(shared).await?;
        let namespace = shared.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let (operator_namespace, address) = (shared.operator_namespace.clone(), shared.address.clone());
        Ok(Self { client, namespace, operator_namespace, address })
    }

    /// A rule.
    pub(super) async fn rule(&self, name: &str) -> anyhow::Result<EventRule> {
        let rules: Api<EventRule> = Api::namespaced(self.client.clone(), &self.namespace);
        rules.get(name).await.with_context(|| format!("get EventRule {}/{name}", self.namespace))
    }

    /// The rules of the namespace.
    pub(super) async fn rules(&self) -> anyhow::Result<Vec<EventRule>> {
        let rules: Api<EventRule> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = rules.list(&ListParams::default()).await;
        Ok(listed.with_context(|| format!("list EventRules in namespace {}", self.namespace))?.items)
    }

    /// A token of an account of the namespace, for the operator only.
    pub(super) async fn token(&self, account: &str) -> anyhow::Result<String> {
        let spec = TokenRequestSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        match accounts.create_token_request(account, &PostParams::default(), &request).await {
            Ok(made) => made.status.and_then(|status| status.token).context("the API server gave no token"),
            Err(kube::Error::Api(status)) if status.code == 403 => bail!(
                "the operator answers those who may make a token of ServiceAccount {account}: {}\n{}",
                status.message,
                grant(
                    &format!("signalbox-token-{account}"),
                    "create",
                    "serviceaccounts/token",
                    account,
                    &self.namespace
                )
            ),
            Err(error) => {
                Err(error).with_context(|| format!("make a token of ServiceAccount {}/{account}", self.namespace))
            }
        }
    }

    /// Asks the operator something below the namespace.
    pub(super) async fn ask(&self, method: Method, path: &[&str], query: &str, token: &str) -> anyhow::Result<Answer> {
        self.answered(method, &self.path(path, query), None, token).await
    }

    /// Sends the operator something below the namespace: of this content type.
    pub(super) async fn send(
        &self,
        path: &[&str],
        body: (&'static str, String),
        token: &str,
    ) -> anyhow::Result<Answer> {
        self.answered(Method::POST, &self.path(path, ""), Some(body), token).await
    }

    async fn answered(&self, method: Method, path: &str, body: Option<Content>, token: &str) -> anyhow::Result<Answer> {
        let asked = async {
            let reply = self.request(&method, path, body, token).await?;
            self.whole(&method, reply).await
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks for a long answer, and takes its lines in as they come: one after another must come within 30 s.
    pub(super) async fn lines(
        &self,
        path: &[&str],
        query: &str,
        token: &str,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (path, method) = (self.path(path, query), Method::GET);
        let asked = tokio::time::timeout(PATIENCE, self.request(&method, &path, None, token));
        let mut reply = asked.await.unwrap_or_else(|_| Err(late()))?;
        if !reply.status().is_success() {
            self.whole(&method, reply).await?.good()?;
            bail!("the operator gave no reason");
        }
        let mut held = Vec::new();
        while let Some(frame) = tokio::time::timeout(PATIENCE, reply.body_mut().frame()).await.map_err(|_| late())? {
            let Ok(data) = frame.context("read the operator's answer")?.into_data() else { continue };
            held.extend_from_slice(&data);
            let Some(end) = held.iter().rposition(|byte| *byte == b'\n') else { continue };
            // An empty one tells that the answer goes on.
            for line in held[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                take(line)?;
            }
            held.drain(..=end);
        }
        Ok(())
    }

    fn path(&self, path: &[&str], query: &str) -> String {
        let parts: Vec<_> = path.iter().map(|part| encoded(part)).collect();
        format!("/v1/namespaces/{}/{}{query}", self.namespace, parts.join("/"))
    }

    async fn request(&self, method: &Method, path: &str, body: Option<Content>, token: &str) -> anyhow::Result<Reply> {
        if let Some(address) = &self.address {
            return straight(address, method, path, body, token).await;
        }
        let uri = format!("/api/v1/namespaces/{}/services/{SERVICE}/proxy{path}", self.operator_namespace);
        // `Authorization` is the user's own, for the API server, which does not pass it on.
        let request = Request::builder().method(method).uri(uri).header("x-signalbox-token", token);
        let (request, body) = with_type(request, body);
        let request = request.body(Body::from(body.into_bytes())).context("ask the operator")?;
        let reply = self.client.send(request).await.context("ask the operator through the API server")?;
        Ok(reply.map(|body| body.map_err(|error| anyhow!("{error}")).boxed_unsync()))
    }

    async fn whole(&self, method: &Method, reply: Reply) -> anyhow::Result<Answer> {
        let status = reply.status();
        let body = reply.into_body().collect().await.context("read the operator's answer")?.to_bytes();
        if let Some(address) = &self.address {
            let no_operator = || format!("{address} is no operator of this version");
            return Ok(Answer { status, body: serde_json::from_slice(&body).with_context(no_operator)? });
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !status.is_success() && (body["kind"] == "Status" || body["message"].is_null()) {
            return Err(self.unreached(method, status, &body));
        }
        Ok(Answer { status, body })
    }

    /// It was the API server that answered.
    fn unreached(&self, method: &Method, status: StatusCode, body: &Value) -> anyhow::Error {
        let namespace = &self.operator_namespace;
        let said = body["message"].as_str().unwrap_or("no reason was given");
        let service = format!("the operator's Service in namespace {namespace} (--operator-namespace)");
        let other = format!(
            "or go straight: kubectl port-forward -n {namespace} service/signalbox 8080, and beside it --address http://127.0.0.1:8080"
        );
        let verb = if *method == Method::GET { "get" } else { "create" };
        let grants = match status {
            StatusCode::FORBIDDEN => {
                format!("\n{}", grant("signalbox-cli", verb, "services/proxy", SERVICE, namespace))
            }
            _ => String::new(),
        };
        anyhow!("the API server does not reach {service} for us, {status}: {said}{grants}\n{other}")
    }
}

fn late() -> anyhow::Error {
    anyhow!("the operator gave no answer within {} s", PATIENCE.as_secs())
}

/// A text as a part of a path, or of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The content type of a body, and the body.
type Content = (&'static str, String);

/// The request with the content type of its body, and the body; empty without one.
fn with_type(request: Builder, body: Option<Content>) -> (Builder, String) {
    match body {
        Some((content_type, body)) => (request.header(CONTENT_TYPE, content_type), body),
        None => (request, String::new()),
    }
}

async fn straight(
    address: &Uri,
    method: &Method,
    path: &str,
    body: Option<Content>,
    token: &str,
) -> anyhow::Result<Reply> {
    let ask = || format!("ask the operator at {address}");
    let client: Direct<HttpConnector, Full<Bytes>> = Direct::builder(TokioExecutor::new()).build_http();
    let uri = format!("{}{path}", address.to_string().trim_end_matches('/'));
    let request = Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {token}"));
    let (request, body) = with_type(request, body);
    let request = request.body(Full::new(Bytes::from(body))).with_context(ask)?;
    let reply = client.request(request).await.with_context(ask)?;
    Ok(reply.map(|body| body.map_err(anyhow::Error::from).boxed_unsync()))
}

/// The commands that grant a right to the user who asks.
fn grant(role: &str, verb: &str, resource: &str, name: &str, namespace: &str) -> String {
    format!(
        "  kubectl create role {role} --verb={verb} --resource={resource} --resource-name={name} -n {namespace}\n  \
         kubectl create rolebinding {role} --role={role} --user=YOU -n {namespace}"
    )
}
