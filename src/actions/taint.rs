//! `taint`: gives a Node a taint, or takes one away; its other taints stay.

use futures::future::BoxFuture;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    Action, Attempt, Back, Context, Done, Failure, Undo,
    fields::{Entry, Fields, Taints, Verb},
    node,
    target::key,
    undo::{self, is_witnessed, named, same},
    write::{self, Change as _, Step},
};
use crate::{
    api::{self, PatchType},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{Change, Effect},
};

/// The action.
pub(super) struct Taint(api::Taint);

impl Taint {
    pub(super) fn new(spec: &api::Taint) -> Self {
        Self(spec.clone())
    }

    fn verb(&self) -> Verb {
        if self.0.remove { Verb::Untaint } else { Verb::Taint }
    }

    /// The effect of the taints that it is about; nothing for all.
    fn effect(&self) -> Option<&'static str> {
        match self.0.effect {
            None if self.0.remove => None,
            effect => Some(effect.unwrap_or_default().as_str()),
        }
    }

    /// What the Node is to have of the taints that it is about.
    fn wanted(&self) -> Vec<Value> {
        if self.0.remove {
            return Vec::new();
        }
        let effect = self.0.effect.unwrap_or_default().as_str();
        let mut taint = json!({"key": self.0.key, "effect": effect});
        if let Some(value) = self.0.value.as_deref().filter(|value| !value.is_empty()) {
            taint["value"] = value.into();
        }
        vec![taint]
    }
}

impl Action for Taint {
    fn rights<'a>(&'a self, _: &'a Cluster, _: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async { node::rights(self.0.node.as_deref(), &["get", "patch"]) })
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, "Node", request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let step = node::step(cx, filled).await?;
            let now = step.get().await?;
            let about = Taints { key: self.0.key.clone(), effect: self.effect().map(str::to_owned) };
            request(&step, &now, self.verb(), about, &self.wanted()).to_request()
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
        let Ok(change) = Fields::of(request) else { return Undo::Never("what it was is not known") };
        let about = |taints: &Value| json!({"key": self.0.key, "effect": self.effect(), "taints": taints});
        let (from, to) = (about(&change.more["from"]), about(&change.more["to"]));
        Undo::of(change.object().change(cx.manager(), None, from, to))
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        let verb = if self.0.remove { Verb::Taint } else { Verb::Untaint };
        Box::pin(take_back(cx, change, verb))
    }
}

fn request(step: &Step<'_>, now: &DynamicObject, verb: Verb, about: Taints, to: &[Value]) -> Fields {
    let more = json!({"from": about.held(now), "to": to});
    let patch = Fields::new(step, now, verb, PatchType::Merge, about.patch(now, to));
    Fields {
        how: format!(" ({})", about.named()),
        more: more.as_object().cloned().unwrap_or_default(),
        entry: Some(Entry::Taints(about)),
        ..patch
    }
}

/// The request that gives the former taint back, if the Node still has the one that it got.
async fn take_back(cx: &Context, change: &Change, verb: Verb) -> Result<Back, Failure> {
    let step = undo::step(cx, change).await?;
    let read = step.api.get(&step.aim.name).await;
    let now = match same(change, read, |error| step.failure(error, "read", step.right("get")))? {
        Ok(now) => now,
        Err(back) => return Ok(back),
    };
    let text = |field: &str| change.made[field].as_str().map(str::to_owned);
    let about = Taints { key: text("key").unwrap_or_default(), effect: text("effect") };
    let list = |part: &Value| part["taints"].as_array().cloned().unwrap_or_default();
    let (from, to) = (list(&change.made), list(&change.back));
    match about.held(&now) {
        held if held == to => Ok(Back::unchanged(format!("{} is as it was already", named(change)))),
        held if held != from => Ok(Back::theirs(change, "got another taint of this key by somebody else")),
        // What only takes a taint away leaves no mark.
        _ if change.unsure && !from.is_empty() && !is_witnessed(change, now.metadata.managed_fields.as_deref()) => {
            Ok(Back::not_ours(change))
        }
        _ => request(&step, &now, verb, about, &to).to_request().map(Back::Request),
    }
}
