//! `apply`: makes an object of any kind what a manifest says, by server-side apply. What is not there is created.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Action, Attempt, Back, CAUSED_BY, Context, Done, Failure, Undo,
    create::{object, refuse_faults},
    created::{self, Request, Way, is_creation},
    deletion,
    fields::{self, Fields, Verb},
    manifest::{Filled, Written},
    target::{key, recorded_key},
    write::{self, Change as _, Step},
};
use crate::{
    api::{self, PatchType},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{Change, Effect},
};

/// The action.
pub(super) struct Apply(api::Apply);

impl Apply {
    pub(super) fn new(spec: &api::Apply) -> Self {
        Self(spec.clone())
    }

    fn written(&self) -> Written<'_> {
        let api::Apply { manifest, allowed_namespaces, .. } = &self.0;
        Written { manifest, allowed_namespaces, field: "apply.manifest" }
    }
}

impl Action for Apply {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { self.written().rights(cluster, namespace, &["get", "create", "patch"]).await })
    }

    fn undo_rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { self.written().rights(cluster, namespace, &["delete"]).await })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        let manifest = filled.get("manifest")?;
        key(namespace, manifest.get("kind")?.as_str()?, manifest.get("metadata")?)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        object(namespace, request).or_else(|| recorded_key(namespace, request))
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let manifest = filled.get("manifest").cloned().unwrap_or(Value::Null);
            refuse_faults(self.0.faults(&manifest), "apply")?;
            let name = manifest["metadata"]["name"].clone();
            let filled = self.written().filled(cx, manifest, &name).await?;
            let step = Step::new(cx, filled.aim.clone());
            let now = step.api.get_opt(&step.aim.name).await;
            match now.map_err(|error| step.failure(&error, "read", step.right("get")))? {
                Some(now) => {
                    let cause = now.metadata.annotations.as_ref().and_then(|all| all.get(CAUSED_BY));
                    let filled = if let Some(cause) = cause { filled.caused_by(cause) } else { filled };
                    let patch = fields_of(filled);
                    let request = Fields::new(&step, &now, Verb::Apply, PatchType::Apply, patch);
                    Fields { force: self.0.force, ..request }.keeping(&step, &now).await?.to_request()
                }
                None => {
                    let way = if self.0.force { Way::Forced } else { Way::Applied };
                    Request::new(filled.caused_by(&cx.cause()), way).to_request()
                }
            }
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            if let Some(delete) = deletion::Request::read(request) {
                return delete.execute(cx, attempt, permit).await;
            }
            match Request::read(request) {
                Some(create) => create.execute(cx, attempt, permit).await,
                None => write::execute::<Fields>(cx, request, attempt, permit).await,
            }
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            match Request::read(request) {
                Some(create) => create.observe(cx).await,
                None => Fields::observe(cx, request).await,
            }
        })
    }

    fn changed(&self, cx: &Context, request: &Value, effect: Option<&Effect>) -> Undo {
        match Request::read(request) {
            Some(create) => create.changed(cx, effect),
            None => Fields::changed(cx, request),
        }
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(async move {
            match is_creation(change) {
                true => created::take_back(cx, change).await,
                false => fields::take_back(cx, change, Verb::Patch).await,
            }
        })
    }
}

/// The manifest without what names the object, which the request has.
fn fields_of(Filled { mut object, .. }: Filled) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("name");
            metadata.remove("namespace");
        }
    }
    object
}
