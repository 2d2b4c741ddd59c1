//! The template of a CronJob, read as the account: a Job of it is what `kubectl create job --from` makes.

use k8s_openapi::api::batch::v1 as batch;
use kube::{
    Api,
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use crate::{
    actions::{Context, Failure, target::text},
    event::{is_subdomain, title},
    kubernetes::Right,
};

/// What `kubectl create job --from` writes on the Job.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";

/// What the account needs to read the CronJob; without a name, any of the namespace.
pub(super) fn right(namespace: &str, name: Option<&str>) -> Right {
    let right = Right::new("get", "batch", "cronjobs").within(Some(namespace));
    match name {
        Some(name) => right.named(name),
        None => right,
    }
}

/// The CronJob's template as it is now, whether or not the CronJob is suspended.
///
/// # Errors
/// Final when there is no such CronJob in the rule's namespace, or when the account may not read it.
pub(super) async fn template(cx: &Context, filled: Option<&Value>) -> Result<Value, Failure> {
    let name = text(filled.and_then(|from| from.get("cronJob")), "job.from.cronJob")?;
    if !is_subdomain(&name) {
        return Err(Failure::last(format!("no target: {name:?} is not the name of a CronJob")));
    }
    let namespace = &cx.rule.namespace;
    let kind = ApiResource::erase::<batch::CronJob>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cx.services.cluster.as_account(&cx.account), namespace, &kind);
    let found = api.get(&name).await.map_err(|error| {
        let doing = format!("make a Job of {}", title("CronJob", Some(namespace), &name));
        Failure::of_kube(&error, &doing, &cx.account, right(namespace, None))
    })?;
    let mut template = found.data["spec"]["jobTemplate"].clone();
    let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(INSTANTIATE.to_owned(), "manual".into());
    let labels = template["metadata"]["labels"].clone();
    template["metadata"] = json!({"labels": labels, "annotations": annotations});
    Ok(template)
}
