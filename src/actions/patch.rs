//! `patch`: changes an object of any kind in one of the four ways that the API server knows.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Action, Attempt, Back, Context, Done, Failure, Undo,
    fields::{self, Fields, NOT_KEPT, Verb, on, texts},
    target::{Aim, filled_key, fixed, recorded_key},
    write::{self, Change as _, Step},
};
use crate::{
    api,
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{self, Effect},
    text::join,
};

/// The action.
pub(super) struct Patch(api::Patch);

impl Patch {
    pub(super) fn new(spec: &api::Patch) -> Self {
        Self(spec.clone())
    }
}

impl Action for Patch {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let Some(aim) = fixed(cluster, &self.0.target, namespace).await else { return Vec::new() };
            vec![aim.right("get"), on(aim.right("patch"), self.0.subresource.as_deref())]
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        filled_key(namespace, &self.0.target, filled)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        recorded_key(namespace, request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let mut patch = filled.get("patch").cloned().unwrap_or(Value::Null);
            let faults = self.0.faults(&patch);
            if !faults.is_empty() {
                let told = faults.iter().map(|fault| format!("patch{}: {}", fault.path, fault.message));
                return Err(Failure::last(join(told)));
            }
            texts(&mut patch)?;
            let aim = Aim::filled(cx, &self.0.target, filled).await?;
            let step = Step::new(cx, aim);
            let now = step.get().await?;
            let api::Patch { type_, subresource, force, .. } = self.0.clone();
            let request = Fields { subresource, force, ..Fields::new(&step, &now, Verb::Patch, type_, patch) };
            if request.is_secret() && self.0.restore.is_some() {
                return Err(Failure::last(format!(
                    "patch {}: {NOT_KEPT}: leave restore out",
                    request.object().title()
                )));
            }
            request.keeping(&step, &now).await?.to_request()
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(write::execute::<Fields>(cx, request, attempt, permit))
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(Fields::observe(cx, request))
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        Fields::changed(cx, request)
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a record::Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(fields::take_back(cx, change, Verb::Patch))
    }
}

#[cfg(test)]
mod tests;
