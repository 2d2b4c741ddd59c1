//! The objects of a kind that a selector takes: `target.selector`.

use futures::future::BoxFuture;
use kube::{
    Api,
    api::ListParams,
    core::{DynamicObject, Selector},
};
use serde_json::{Value, json};

use super::{Action, Attempt, Context, Done, Failure, FailureKind, Users, target::place};
use crate::{
    api::{self, ActionOutcome},
    bus::Permit,
    event::title,
    kubernetes::{Resource, Right},
};

/// Objects in one answer of the API server, a few kB each.
const PAGE: u32 = 250;

/// Says whether an object is one of them, by `filterExpression`; or why that cannot be told.
pub type Keep<'a> = Box<dyn Fn(&Value) -> Result<bool, String> + Send + Sync + 'a>;

/// Finds the objects of an action that has several. They are its request, as those of [`Users`] are.
pub struct Selected<'a> {
    target: &'a api::Target,
    keep: Keep<'a>,
}

impl<'a> Selected<'a> {
    /// Nothing for an action whose target has no selector.
    pub fn of(spec: &'a api::Action, keep: Keep<'a>) -> Option<Self> {
        let target = spec.target().filter(|target| target.selector.is_some())?;
        Some(Self { target, keep })
    }

    /// The objects of this page that are to be changed. What is on its way out is none of them.
    fn kept(&self, resource: &Resource, page: Vec<DynamicObject>) -> Result<Vec<Value>, Failure> {
        let (api_version, kind) = (&resource.api.api_version, &resource.api.kind);
        let is_secret = api_version == "v1" && kind == "Secret";
        let mut kept = Vec::new();
        for object in page.into_iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
            let (name, namespace) = (object.metadata.name.clone(), object.metadata.namespace.clone());
            let uid = object.metadata.uid.clone();
            let mut seen = serde_json::to_value(object).unwrap_or_default();
            // Those of a list do not say what they are.
            seen["apiVersion"] = api_version.as_str().into();
            seen["kind"] = kind.as_str().into();
            let is_one = (self.keep)(&seen).map_err(|error| {
                let error = if is_secret { "what is in a Secret is not shown" } else { &error };
                let title = title(kind, namespace.as_deref(), name.as_deref().unwrap_or_default());
                let message = format!("target.filterExpression, of {title}: {error}: none was changed");
                Failure { kind: FailureKind::Invalid, message }
            })?;
            if is_one {
                let mut found = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid});
                if let Some(namespace) = namespace {
                    found["namespace"] = namespace.into();
                }
                kept.push(found);
            }
        }
        Ok(kept)
    }
}

impl Action for Selected<'_> {
    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let (resource, namespace) = place(cx, self.target, &filled["target"]).await?;
            let selector = Selector::try_from(self.target.selector.clone().unwrap_or_default());
            let selector = selector.map_err(|error| Failure::last(format!("no target: target.selector: {error}")))?;
            let client = cx.services.cluster.as_account(&cx.account);
            let api: Api<DynamicObject> = match &namespace {
                Some(namespace) => Api::namespaced_with(client, namespace, &resource.api),
                None => Api::all_with(client, &resource.api),
            };
            let place = namespace.as_ref().map(|namespace| format!(" of namespace {namespace}")).unwrap_or_default();
            let (kind, limit) = (&resource.api.kind, self.target.limit());
            let mut params = ListParams::default().labels_from(&selector).limit(PAGE);
            let (mut targets, mut count) = (Vec::new(), 0);
            loop {
                let page = api.list(&params).await.map_err(|error| {
                    let right =
                        Right::new("list", &resource.api.group, &resource.api.plural).within(namespace.as_deref());
                    Failure::of_kube(&error, &format!("find the {kind}s{place}"), &cx.account, right)
                })?;
                let next = page.metadata.continue_.filter(|token| !token.is_empty());
                let kept = self.kept(&resource, page.items)?;
                count += kept.len();
                targets.extend(kept.into_iter().take(limit.saturating_sub(targets.len())));
                match next {
                    Some(token) => params = params.continue_token(&token),
                    None => break,
                }
            }
            if count > limit {
                let message = format!("{count} {kind}s{place} are selected, and target.max allows {limit}");
                return Err(Failure::last(format!("{message}: none was changed")));
            }
            Ok(json!({"none": format!("no {kind}{place} is selected"), "targets": targets}))
        })
    }

    fn execute<'a>(
        &'a self,
        _: &'a Context,
        request: &'a Value,
        _: Attempt,
        _: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(std::future::ready(Ok(done(request))))
    }

    fn observe<'a>(&'a self, _: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(std::future::ready(Ok(done(request))))
    }
}

/// Finding changes nothing.
fn done(request: &Value) -> Done {
    let message = match Users::found(request).len() {
        0 => request["none"].as_str().unwrap_or("none is selected").to_owned(),
        count => format!("{count} found"),
    };
    Done { outcome: ActionOutcome::Unchanged, message, result: Value::Null, effect: None, reason: None }
}

#[cfg(test)]
mod tests;
