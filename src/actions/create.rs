//! `create`: creates an object of any kind, once.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Action, Attempt, Back, Context, Done, Failure, Undo,
    created::{self, Request, Way},
    deletion,
    manifest::Written,
    name,
    target::{key, recorded_key, short, text},
};
use crate::{
    api,
    bus::Permit,
    event::is_subdomain,
    kubernetes::{Cluster, Right},
    record::{Change, Effect},
    text::join,
};

/// The action.
pub(super) struct Create(api::Create);

impl Create {
    pub(super) fn new(spec: &api::Create) -> Self {
        Self(spec.clone())
    }

    fn written(&self) -> Written<'_> {
        let api::Create { manifest, allowed_namespaces } = &self.0;
        Written { manifest, allowed_namespaces, field: "create.manifest" }
    }
}

impl Action for Create {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { self.written().rights(cluster, namespace, &["create", "get"]).await })
    }

    fn undo_rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { self.written().rights(cluster, namespace, &["delete"]).await })
    }

    fn object(&self, namespace: &str, request: &Value) -> Option<String> {
        object(namespace, request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let manifest = filled.get("manifest").cloned().unwrap_or(Value::Null);
            refuse_faults(self.0.faults(&manifest), "create")?;
            let prefix = manifest.pointer("/metadata/generateName").filter(|prefix| !prefix.is_null());
            let (name, way) = match prefix {
                Some(prefix) => (generated(cx, prefix)?, Way::Generated),
                None => (manifest["metadata"]["name"].clone(), Way::Named),
            };
            let filled = self.written().filled(cx, manifest, &name).await?;
            Request::new(filled.caused_by(&cx.cause()), way).to_request()
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
            read(request)?.execute(cx, attempt, permit).await
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move { read(request)?.observe(cx).await })
    }

    fn changed(&self, cx: &Context, request: &Value, effect: Option<&Effect>) -> Undo {
        let request = Request::read(request);
        request.map_or(Undo::Never("what it has created is not known"), |request| request.changed(cx, effect))
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(created::take_back(cx, change))
    }
}

/// The object that a recorded request creates or deletes.
pub(super) fn object(namespace: &str, request: &Value) -> Option<String> {
    if let Some(deleted) = request.get("delete") {
        return recorded_key(namespace, deleted);
    }
    let object = request.pointer("/create/object")?;
    key(namespace, object.get("kind")?.as_str()?, object.get("metadata")?)
}

/// What was filled in is looked at again: it may be of another type than a text.
pub(super) fn refuse_faults(faults: Vec<api::PatchFault>, action: &str) -> Result<(), Failure> {
    let told = faults.iter().map(|fault| format!("{action}.manifest{}: {}", fault.path, fault.message));
    if faults.is_empty() { Ok(()) } else { Err(Failure::last(join(told))) }
}

/// The name that begins with the prefix.
fn generated(cx: &Context, prefix: &Value) -> Result<Value, Failure> {
    let prefix = text(Some(prefix), "generateName")?;
    if !is_subdomain(&format!("{prefix}x")) {
        return Err(Failure::last(format!("no target: {:?} does not begin a name", short(&prefix))));
    }
    Ok(name::generated(&prefix, &cx.rule, &cx.key()).into())
}

fn read(request: &Value) -> Result<Request, Failure> {
    Request::read(request).ok_or_else(|| Failure::last("the recorded request has no object to create"))
}
