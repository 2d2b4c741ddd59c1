//! `delete`: deletes an object of any kind: the one that the event is about, or that was there when the request was rendered.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Action, Attempt, Context, Done, Failure, Undo,
    deletion::{Request, doomed},
    target::{Aim, filled_key, fixed, recorded_key},
    write::{Object, Step},
};
use crate::{
    api,
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::Effect,
};

/// The action.
pub(super) struct Delete(api::Delete);

impl Delete {
    pub(super) fn new(spec: &api::Delete) -> Self {
        Self(spec.clone())
    }
}

impl Action for Delete {
    fn rights<'a>(&'a self, cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move {
            let aim = fixed(cluster, &self.0.target, namespace).await;
            aim.iter().flat_map(|aim| ["get", "delete"].map(|verb| aim.right(verb))).collect()
        })
    }

    fn target(&self, namespace: &str, filled: &Value) -> Option<String> {
        filled_key(namespace, &self.0.target, filled)
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        recorded_key(namespace, request.get("delete")?)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let aim = Aim::filled(cx, &self.0.target, filled).await?;
            let step = Step::new(cx, aim);
            let (uid, another) = doomed(&step, filled).await?;
            let request = Request::new(Object::new(&step.aim, uid, None), self.0.propagation);
            request.another(another).to_request()
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move { read(request)?.execute(cx, attempt, permit).await })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move { read(request)?.observe(cx).await })
    }

    fn changed(&self, _: &Context, _: &Value, _: Option<&Effect>) -> Undo {
        Undo::Never("a deletion cannot be undone")
    }
}

fn read(request: &Value) -> Result<Request, Failure> {
    Request::read(request).ok_or_else(|| Failure::last("the recorded request names no object to delete"))
}
