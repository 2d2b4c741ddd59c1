//! The workloads that use a ConfigMap or Secret: `target.from: EventUsers`.

use futures::future::BoxFuture;
use kube::{Api, ResourceExt as _, api::ListParams, core::DynamicObject};
use serde_json::{Value, json};

use super::{
    Action, Attempt, Context, Done, Failure,
    lead::{about, check},
};
use crate::{
    api::{self, ActionOutcome},
    bus::Permit,
    event::Named,
    kubernetes::{Resource, Right},
};

/// The kinds that are looked through.
const KINDS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];
const API_VERSION: &str = "apps/v1";
/// Objects in one answer of the API server, a few kB each.
const PAGE: u32 = 250;

/// Finds the objects of an action that has several. They are its request: recorded once, a repetition finds the same.
pub struct Users {
    target: api::Target,
}

impl Users {
    /// Nothing for an action of another target.
    pub fn of(spec: &api::Action) -> Option<Self> {
        let users = spec.target().filter(|target| target.from == Some(api::TargetFrom::EventUsers));
        users.map(|target| Self { target: target.clone() })
    }

    /// The objects that were recorded.
    pub fn found(request: &Value) -> &[Value] {
        request["targets"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// What the account needs to find them in its own namespace.
    pub(super) fn rights(namespace: &str) -> impl Iterator<Item = Right> {
        ["deployments", "statefulsets", "daemonsets"]
            .into_iter()
            .map(move |plural| Right::new("list", "apps", plural).within(Some(namespace)))
    }
}

impl Action for Users {
    fn render<'a>(&'a self, cx: &'a Context, _: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let used = used(cx, &self.target)?;
            let mut targets = Vec::new();
            for kind in KINDS {
                let resource = cx.services.cluster.resolve(Some(API_VERSION), kind).await?;
                targets.extend(users(cx, &used, &resource).await?);
            }
            let (count, limit) = (targets.len(), self.target.limit());
            if count > limit {
                let message = format!("{count} workloads use {used}, and target.max allows {limit}");
                return Err(Failure::last(format!("{message}: none was changed")));
            }
            Ok(json!({"used": used.to_string(), "targets": targets}))
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
        0 => format!("no workload uses {}", request["used"].as_str().unwrap_or("it")),
        count => format!("{count} found"),
    };
    Done { outcome: ActionOutcome::Unchanged, message, result: Value::Null, effect: None, reason: None }
}

/// The ConfigMap or Secret that the event is about.
fn used(cx: &Context, target: &api::Target) -> Result<Named, Failure> {
    let used = about(&cx.event)?.named;
    check(cx, target, &used)?;
    if used.api_version == "v1" && matches!(&*used.kind, "ConfigMap" | "Secret") && used.namespace.is_some() {
        return Ok(used);
    }
    Err(Failure::last(format!("no target: {used} is neither a ConfigMap nor a Secret")))
}

/// The objects of one kind that use it.
async fn users(cx: &Context, used: &Named, resource: &Resource) -> Result<Vec<Value>, Failure> {
    let namespace = used.namespace.as_deref().unwrap_or(&cx.rule.namespace);
    let client = cx.services.cluster.as_account(&cx.account);
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource.api);
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&params).await.map_err(|error| {
            let right = Right::new("list", &resource.api.group, &resource.api.plural).within(Some(namespace));
            Failure::of_kube(&error, &format!("find what uses {used}"), &cx.account, right)
        })?;
        for object in page.items {
            if uses(&object.data["spec"]["template"]["spec"], used) {
                let name = object.name_any();
                let kind = &resource.api.kind;
                found.push(json!({"apiVersion": API_VERSION, "kind": kind, "namespace": namespace, "name": name}));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Whether Pods of this spec use it. Paths of <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#podspec-v1-core>.
fn uses(pod: &Value, used: &Named) -> bool {
    let (volume, name_in_volume, from, key) = match &*used.kind {
        "ConfigMap" => ("configMap", "name", "configMapRef", "configMapKeyRef"),
        _ => ("secret", "secretName", "secretRef", "secretKeyRef"),
    };
    let names = |place: &Value, field: &str| place[field] == *used.name;
    let each = |list: &Value, test: &dyn Fn(&Value) -> bool| list.as_array().is_some_and(|all| all.iter().any(test));
    let mounts = each(&pod["volumes"], &|one| {
        names(&one[volume], name_in_volume)
            || each(&one["projected"]["sources"], &|source| names(&source[volume], "name"))
    });
    let reads = |container: &Value| {
        each(&container["envFrom"], &|one| names(&one[from], "name"))
            || each(&container["env"], &|one| names(&one["valueFrom"][key], "name"))
    };
    mounts || each(&pod["containers"], &reads) || each(&pod["initContainers"], &reads)
}

#[cfg(test)]
mod tests;
