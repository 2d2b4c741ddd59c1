//! `cordon` and `uncordon`: whether Pods are scheduled to a Node; nothing else of it is written.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    Action, Attempt, Back, Context, Done, Failure, Undo,
    fields::{self, Fields, Verb},
    node,
    target::key,
    write::{self, Change as _},
};
use crate::{
    api::{self, PatchType},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{Change, Effect},
};

/// Either action.
pub(super) struct Cordon {
    node: Option<String>,
    verb: Verb,
}

impl Cordon {
    /// `cordon`
    pub(super) fn new(spec: &api::Cordon) -> Self {
        Self { node: spec.node.clone(), verb: Verb::Cordon }
    }

    /// `uncordon`
    pub(super) fn back(spec: &api::Uncordon) -> Self {
        Self { node: spec.node.clone(), verb: Verb::Uncordon }
    }
}

impl Action for Cordon {
    fn rights<'a>(&'a self, _: &'a Cluster, _: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async { node::rights(self.node.as_deref(), &["get", "patch"]) })
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, "Node", request)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let step = node::step(cx, filled).await?;
            let now = step.get().await?;
            let request = Fields::new(&step, &now, self.verb, PatchType::Merge, unschedulable(self.verb));
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

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        let verb = if self.verb == Verb::Cordon { Verb::Uncordon } else { Verb::Cordon };
        Box::pin(fields::take_back(cx, change, verb))
    }
}

/// The patch: the API server leaves false out.
pub(super) fn unschedulable(verb: Verb) -> Value {
    match verb {
        Verb::Cordon => json!({"spec": {"unschedulable": true}}),
        _ => json!({"spec": {"unschedulable": null}}),
    }
}
