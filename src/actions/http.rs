//! `http`: sends a request to an HTTP endpoint; the answer is the result.
//!
//! Secrets are read with the rights of the rule's account. The client is the guarded one, sends no credentials of its own and follows no redirect.

mod answer;
mod request;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;

use super::{Action, Attempt, Context, Done, Failure, FailureKind, Undo, recording, secrets};
use crate::{
    api::{self, OnUnknown, SecretKeyRef, Tls},
    bus::Permit,
    kubernetes::{Cluster, Right},
    net::{Call, HttpErrorKind, Response},
    record::Effect,
    sinks::Secrets,
};
use answer::Answer;
use request::Request;

/// For reading Secrets, beside waiting for the answer.
const GRACE: Duration = Duration::from_secs(10);

/// The action.
pub(super) struct Http {
    spec: api::Http,
    timeout: Duration,
    /// Whether it is known what became of the last request of this process: it was answered, or not sent.
    known: AtomicBool,
}

/// What became of one request.
enum End {
    Answered(Box<Response>),
    /// Nothing was received.
    NotSent(Failure),
    /// It may have been received.
    Unknown(String),
}

impl Http {
    pub(super) fn new(spec: &api::Http, timeout: Option<api::Duration>) -> Self {
        let timeout = timeout.map_or(super::TIMEOUT, api::Duration::get);
        Self { spec: spec.clone(), timeout, known: AtomicBool::new(false) }
    }

    fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let headers = self.spec.headers.iter().filter_map(|header| header.value_secret_ref.as_ref());
        headers.chain(&self.spec.auth_secret_ref).chain(self.spec.tls.iter().flat_map(Tls::secrets))
    }

    async fn attempt(&self, cx: &Context, request: &Request) -> Result<Done, Failure> {
        let held = secrets_of(cx, request).await.inspect_err(|_| self.known.store(true, Ordering::Relaxed))?;
        let deadline = Instant::now() + self.timeout;
        let mut end = self.send(cx, request, &held, deadline).await;
        let mut secrets = held;
        // The credentials may have been replaced since they were read.
        if let End::Answered(response) = &end
            && [401, 403].contains(&response.status.as_u16())
            && !request.secrets().is_empty()
        {
            for key in request.secrets() {
                cx.services.cluster.forget_secret(&cx.account.namespace, &key.name);
            }
            if let Ok(fresh) = secrets_of(cx, request).await
                && fresh != secrets
            {
                end = self.send(cx, request, &fresh, deadline).await;
                secrets = fresh;
            }
        }
        self.known.store(!matches!(end, End::Unknown(_)), Ordering::Relaxed);
        match end {
            End::Answered(response) => {
                Answer::new(request.name(), &response, &secrets).judge(self.spec.expect_expression.as_deref())
            }
            End::NotSent(failure) => Err(failure),
            End::Unknown(why) => Err(self.unknown(request, &why)),
        }
    }

    async fn send(&self, cx: &Context, request: &Request, secrets: &Secrets, deadline: Instant) -> End {
        let name = request.name();
        let ready = request.headers(cx, secrets).and_then(|headers| Ok((headers, request.client(cx, secrets)?)));
        let (headers, http) = match ready {
            Ok(ready) => ready,
            Err(failure) => return End::NotSent(failure),
        };
        let timeout = deadline.saturating_duration_since(Instant::now());
        let body = request.body();
        let call = Call { method: request.method(), url: &request.url, name: &name, headers, body, timeout };
        match http.call(call).await.map_err(|error| error.kind) {
            Ok(response) => End::Answered(Box::new(response)),
            Err(kind @ HttpErrorKind::Connect(_)) => End::NotSent(Failure::retryable(format!("{name}: {kind}"))),
            Err(kind @ (HttpErrorKind::Address(_) | HttpErrorKind::Refused(_))) => {
                End::NotSent(Failure::last(format!("{name}: {kind}")))
            }
            Err(HttpErrorKind::Timeout(_)) => {
                End::Unknown(format!("no answer within {} s", self.timeout.as_secs_f64()))
            }
            Err(kind @ HttpErrorKind::Broken(_)) => End::Unknown(kind.to_string()),
        }
    }

    fn unknown(&self, request: &Request, why: &str) -> Failure {
        let name = request.name();
        match self.spec.on_unknown {
            OnUnknown::Retry => Failure::retryable(format!("{name}: {why}")),
            OnUnknown::Fail => Failure::last(format!(
                "{name}: {why}; whether it was received is not known, and with onUnknown: Fail it is not sent again"
            )),
        }
    }
}

impl Action for Http {
    fn rights<'a>(&'a self, _cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let right = |key: &SecretKeyRef| Right::new("get", "", "secrets").within(Some(namespace)).named(&key.name);
            self.secrets().map(right).collect()
        })
    }

    fn render<'a>(&'a self, _cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let request = Request::new(&self.spec, filled)?;
            recording::of(&request)
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        _permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = Request::read(request)?;
            let known = self.known.swap(false, Ordering::Relaxed);
            if attempt == Attempt::Again && !known && self.spec.on_unknown == OnUnknown::Fail {
                return Err(self.unknown(&request, "it was interrupted"));
            }
            self.attempt(cx, &request).await
        })
    }

    fn changed(&self, _: &Context, _: &Value, _: Option<&Effect>) -> Undo {
        Undo::Never("a request that was sent cannot be undone")
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = Request::read(request)?;
            let secrets = secrets_of(cx, &request).await?;
            request.headers(cx, &secrets)?;
            request.client(cx, &secrets)?;
            Ok(Done::observed(format!("would {}", request.name()), Value::Null))
        })
    }

    fn patience(&self, _: &api::Action) -> Duration {
        // The deadline ends the attempt, with words of its own.
        self.timeout + GRACE
    }
}

async fn secrets_of(cx: &Context, request: &Request) -> Result<Secrets, Failure> {
    let mend = |what: &str| format!("{}: {what}; create it, or name another one in the rule", request.name());
    secrets::read(cx, &cx.account, request.secrets(), mend).await
}

/// A failure that repeating the same request may mend.
fn transient(response: &Response, message: String) -> Failure {
    Failure { kind: FailureKind::Retryable { after: response.retry_after }, message }
}

#[cfg(test)]
mod tests;
