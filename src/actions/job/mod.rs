//! `job`: launches a Job in the rule's namespace, owned by the rule, and may wait for its end.

mod cron;
mod manifest;
mod said;
mod undo;
mod wait;

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1 as batch;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Action, Attempt, Back, CAUSED_BY, Context, Done, Failure, Undo, name, pods, recording, target::key};
use crate::{
    api::{self, ActionOutcome, JobWait},
    bus::Permit,
    event::title,
    kubernetes::{Cluster, Right},
    record::{Change, Effect},
};

/// How many names are tried when Jobs of others have ours.
const SUFFIXES: u32 = 5;
/// How long a Job may take when the action waits for it and sets no `timeout`.
const WAIT: Duration = Duration::from_secs(3600);
/// For creating the Job, beside waiting for it.
const GRACE: Duration = Duration::from_secs(30);

/// The action.
pub(super) struct Job {
    spec: api::Job,
    timeout: Option<api::Duration>,
}

impl Job {
    pub(super) fn new(spec: &api::Job, timeout: Option<api::Duration>) -> Self {
        Self { spec: spec.clone(), timeout }
    }

    fn limit(&self) -> Duration {
        self.timeout.map_or(WAIT, api::Duration::get)
    }
}

/// What is recorded before the Job is created. The event is not repeated in it: it is added on the way out, from the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    job: Value,
    wait: JobWait,
    /// Microseconds since 1970 at which waiting ends.
    deadline: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<i64>,
}

impl Action for Job {
    fn rights<'a>(&'a self, _cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        // After a Job was created it is looked at: whether it is ours, and whether it has ended.
        let verbs = ["create", "get"].into_iter().chain(self.spec.ttl.is_some().then_some("patch"));
        let rights = verbs.map(|verb| Right::new(verb, "batch", "jobs").within(Some(namespace)));
        let named = self.spec.from.as_ref().map(|from| &from.cron_job).filter(|name| !name.contains("${"));
        let rights = rights.chain(named.map(|name| cron::right(namespace, Some(name)))).collect();
        Box::pin(async { rights })
    }

    fn object(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, "Job", request.pointer("/job/metadata")?)
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let mut template = match (&self.spec.template, &self.spec.script, &self.spec.from) {
                (Some(written), None, None) => manifest::of_template(written, filled.get("template"))?,
                (None, Some(script), None) => manifest::of_script(script),
                (None, None, Some(_)) => cron::template(cx, filled.get("from")).await?,
                _ => return Err(Failure::last("exactly one of template, script and from must be set")),
            };
            let own_ttl = manifest::take_ttl(&mut template);
            let job = manifest::job(cx, template, &name::job_name(&cx.rule, &cx.key()));
            pods::usable(cx, &cx.rule.namespace, manifest::account(&job)).await?;
            manifest::with_event(cx, job.clone())?;
            let ttl = self.spec.ttl.map(|ttl| i64::try_from(ttl.get().as_secs()).unwrap_or(i64::MAX));
            let limit = i64::try_from(self.limit().as_micros()).unwrap_or(i64::MAX);
            let request = Request {
                job,
                wait: self.spec.wait,
                deadline: cx.services.clock.now().wall.saturating_add(limit),
                ttl_seconds: ttl.or(own_ttl),
            };
            recording::of(&request)
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        _attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            if let Some(delete) = undo::deletes(request) {
                return undo::delete(cx, delete).await;
            }
            let request = read(request)?;
            let jobs = jobs(cx);
            // Waiting may take hours, and is limited by itself; creating may not.
            let created = tokio::time::timeout(GRACE, create(cx, &jobs, &request, permit)).await;
            let created = created.map_err(|_| Failure::retryable("create the Job: no answer in time"))??;
            match request.wait {
                JobWait::Created => Ok(created.done()),
                JobWait::Completed => {
                    (cx.wrote)(&created.effect);
                    wait::until_finished(cx, &jobs, created, request.deadline).await
                }
            }
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = read(request)?;
            let name = manifest::name(&request.job);
            let object: DynamicObject = serde_json::from_value(manifest::with_event(cx, request.job.clone())?)
                .map_err(|error| Failure::last(format!("make a Job of the template: {error}")))?;
            let params = PostParams { dry_run: true, ..PostParams::default() };
            match jobs(cx).create(&params, &object).await {
                Ok(_) => {}
                // It would get another name.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => return Err(failure(cx, &error, "create", name, "create")),
            }
            let images = manifest::images(&request.job).join(", ");
            let message = format!("would create Job {}/{name}, which runs {images}", cx.rule.namespace);
            Ok(Done::observed(message, json!({"name": name})))
        })
    }

    fn patience(&self, action: &api::Action) -> Duration {
        match self.spec.wait {
            JobWait::Created => action.retry.attempt_timeout.map_or(super::TIMEOUT, api::Duration::get),
            // The deadline ends the wait, with words of its own.
            JobWait::Completed => self.limit() + GRACE,
        }
    }

    fn changed(&self, cx: &Context, request: &Value, effect: Option<&Effect>) -> Undo {
        read(request)
            .map_or(Undo::Never("what it has created is not known"), |request| undo::changed(cx, &request, effect))
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(undo::take_back(cx, change))
    }

    fn undo_rights<'a>(&'a self, _cluster: &'a Cluster, namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async move { vec![Right::new("delete", "batch", "jobs").within(Some(namespace))] })
    }

    fn settles(&self, request: &Value) -> bool {
        request.get("ttlSeconds").is_some_and(|ttl| !ttl.is_null())
    }

    /// From now on the Job may go: nobody will ask again whether it was created.
    fn settle<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        result: &'a Value,
        _permit: Permit,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let ttl = read(request)?.ttl_seconds;
            // Without a result no Job was created.
            let Some(name) = result.get("name").and_then(Value::as_str) else { return Ok(()) };
            let patch = json!({"spec": {"ttlSecondsAfterFinished": ttl}});
            let params = PatchParams { field_manager: Some(cx.manager()), ..PatchParams::default() };
            match jobs(cx).patch(name, &params, &Patch::Merge(&patch)).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                Err(error) => Err(failure(cx, &error, "set the ttl of", name, "patch")),
            }
        })
    }
}

fn read(request: &Value) -> Result<Request, Failure> {
    recording::read(request)
}

fn jobs(cx: &Context) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<batch::Job>(&());
    Api::namespaced_with(cx.services.cluster.as_account(&cx.account), &cx.rule.namespace, &kind)
}

fn failure(cx: &Context, error: &kube::Error, doing: &str, name: &str, verb: &str) -> Failure {
    let namespace = Some(cx.rule.namespace.as_str());
    let right = Right::new(verb, "batch", "jobs").within(namespace);
    Failure::of_kube(error, &format!("{doing} {}", title("Job", namespace, name)), &cx.account, right)
}

/// A Job of ours.
struct Created {
    name: String,
    message: String,
    effect: Effect,
}

impl Created {
    fn new(cx: &Context, name: &str, first: &str, object: DynamicObject) -> Self {
        let namespace = &cx.rule.namespace;
        let taken = match name == first {
            true => String::new(),
            false => format!(" (somebody else's Job has the name {first})"),
        };
        Self {
            name: name.to_owned(),
            message: format!("created Job {namespace}/{name}{taken}"),
            effect: Effect {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                namespace: Some(namespace.clone()),
                name: name.to_owned(),
                uid: object.metadata.uid.unwrap_or_default(),
                resource_version: object.metadata.resource_version,
                found: false,
                gone: false,
                reason: "CreatedByRule".to_owned(),
            },
        }
    }

    fn done(self) -> Done {
        Done {
            outcome: ActionOutcome::Succeeded,
            message: self.message,
            result: json!({"name": self.name}),
            effect: Some(self.effect),
            reason: None,
        }
    }
}

/// Creates the Job, or finds the one that an earlier attempt created: the name is always the same.
async fn create(
    cx: &Context,
    jobs: &Api<DynamicObject>,
    request: &Request,
    _permit: Permit,
) -> Result<Created, Failure> {
    let first = manifest::name(&request.job).to_owned();
    let full = manifest::with_event(cx, request.job.clone())?;
    for suffix in 1..=SUFFIXES {
        let name = name::with_suffix(&first, suffix);
        let object: DynamicObject = serde_json::from_value(manifest::renamed(&full, &name))
            .map_err(|error| Failure::last(format!("make a Job of the template: {error}")))?;
        let params = PostParams { field_manager: Some(cx.manager()), ..PostParams::default() };
        match jobs.create(&params, &object).await {
            Ok(object) => return Ok(Created::new(cx, &name, &first, object)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(failure(cx, &error, "create", &name, "create")),
        }
        let found = jobs.get(&name).await.map_err(|error| failure(cx, &error, "read", &name, "get"))?;
        if is_ours(cx, &found) {
            let mut created = Created::new(cx, &name, &first, found);
            created.effect.found = true;
            return Ok(created);
        }
    }
    Err(Failure::last(format!("create Job {first}: somebody else's Jobs have this name and its next {}", SUFFIXES - 1)))
}

fn is_ours(cx: &Context, job: &DynamicObject) -> bool {
    let cause = job.metadata.annotations.as_ref().and_then(|all| all.get(CAUSED_BY));
    let owned = job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == *cx.rule.uid.0);
    owned && cause == Some(&cx.cause())
}

#[cfg(test)]
mod tests;
