//! Waiting for a Job's end, and what its pod has to say.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use super::{Context, Created, Done, Failure, failure};
use crate::{actions::FailureKind, api::ActionOutcome, record::FailureReason};

/// Waits between two looks: short at first, for short Jobs; 360 looks in an hour.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(10);
/// How long one answer of the API server is waited for.
const ANSWER: Duration = Duration::from_secs(30);
/// How much of the log becomes a result: its last lines. A result may have 16 KiB as JSON, where a quote or a line break takes two bytes.
const LOG_LINES: i64 = 20;
const LOG_BYTES: usize = 7 * 1024;

/// Waits until the Job has completed or failed, or until `deadline`, in microseconds since 1970. Looks as the account, which needs `get` on Jobs; with
/// `list` on pods and `get` on `pods/log` the exit code and the last lines of the log become results.
pub(super) async fn until_finished(
    cx: &Context,
    jobs: &Api<DynamicObject>,
    created: Created,
    deadline: i64,
) -> Result<Done, Failure> {
    let now = cx.services.clock.now().wall;
    let left = Duration::from_micros(u64::try_from(deadline.saturating_sub(now)).unwrap_or(0));
    let end = tokio::select! {
        () = cx.stop.cancelled() => {
            let message = format!("waiting for Job {} goes on after the restart", created.name);
            return Err(Failure { kind: FailureKind::Interrupted, message });
        }
        end = tokio::time::timeout(left, finished(cx, jobs, &created.name)) => end,
    };
    let namespace = &cx.rule.namespace;
    let Created { name, effect, .. } = created;
    let late = end.is_err();
    let (outcome, message) = match end {
        Ok(end) => match end? {
            End::Complete => (ActionOutcome::Succeeded, format!("Job {namespace}/{name} completed")),
            End::Failed(why) => (ActionOutcome::Failed, format!("Job {namespace}/{name} failed: {why}")),
            End::Gone => (ActionOutcome::Failed, format!("Job {namespace}/{name} was deleted before it finished")),
        },
        Err(_) => {
            (ActionOutcome::Failed, format!("Job {namespace}/{name} did not finish in time; it was left running"))
        }
    };
    let (said, message) = match tokio::time::timeout(ANSWER, pod(cx, &name)).await.ok().flatten() {
        Some(said) => {
            let code = said.exit_code.filter(|code| *code != 0).map(|code| format!(", exit code {code}"));
            (said, message + &code.unwrap_or_default())
        }
        None => (Said::default(), message),
    };
    let mut result = json!({"name": name});
    if let Some(code) = said.exit_code {
        result["exitCode"] = code.into();
    }
    if let Some(log) = said.log {
        result["log"] = log.into();
    }
    Ok(Done { outcome, message, result, effect: Some(effect), reason: late.then_some(FailureReason::TimedOut) })
}

enum End {
    Complete,
    Failed(String),
    Gone,
}

async fn finished(cx: &Context, jobs: &Api<DynamicObject>, name: &str) -> Result<End, Failure> {
    let mut pause = FIRST_LOOK;
    loop {
        let Ok(looked) = tokio::time::timeout(ANSWER, jobs.get(name)).await else { continue };
        match looked {
            Ok(job) => {
                if let Some(end) = end(&job.data) {
                    return Ok(end);
                }
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(End::Gone),
            Err(error) => match failure(cx, &error, "wait for", name, "get") {
                failure if failure.kind == FailureKind::Final => return Err(failure),
                failure => tracing::debug!(error = %failure, "look at a Job again later"),
            },
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

fn end(job: &Value) -> Option<End> {
    let conditions = job.pointer("/status/conditions")?.as_array()?;
    conditions.iter().filter(|condition| condition["status"] == "True").find_map(|condition| {
        let text = |key: &str| condition.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("type") {
            "Complete" => Some(End::Complete),
            "Failed" => {
                Some(End::Failed([text("reason"), text("message")].join(": ").trim_matches([':', ' ']).to_owned()))
            }
            _ => None,
        }
    })
}

#[derive(Default)]
struct Said {
    exit_code: Option<i32>,
    log: Option<String>,
}

/// What the Job's last pod says; nothing where the account may not see it.
async fn pod(cx: &Context, job: &str) -> Option<Said> {
    let pods: Api<Pod> = Api::namespaced(cx.services.cluster.as_account(&cx.account), &cx.rule.namespace);
    let list = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut found =
        pods.list(&list).await.inspect_err(|error| tracing::debug!(%error, "a Job's pods cannot be seen")).ok()?.items;
    found.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
    let pod = found.pop()?;
    let container = pod.spec.as_ref()?.containers.first()?.name.clone();
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let state =
        statuses.into_iter().flatten().find(|status| status.name == container).and_then(|status| status.state.as_ref());
    let exit_code = state.and_then(|state| state.terminated.as_ref()).map(|end| end.exit_code);
    let limit = i64::try_from(LOG_BYTES * 4).ok();
    let params = LogParams {
        container: Some(container),
        tail_lines: Some(LOG_LINES),
        limit_bytes: limit,
        ..LogParams::default()
    };
    let log = pods.logs(pod.metadata.name.as_deref()?, &params).await;
    let log = log.inspect_err(|error| tracing::debug!(%error, "a Job's log cannot be read")).ok();
    Some(Said { exit_code, log: log.map(last_bytes) })
}

/// The end of the log, from a whole character on, without control characters, which would take six bytes each.
fn last_bytes(mut log: String) -> String {
    log.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    let mut from = log.len().saturating_sub(LOG_BYTES);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    log[from..].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_job_is_its_true_condition() {
        let job = |conditions: Value| json!({"status": {"conditions": conditions}});
        assert!(end(&json!({})).is_none());
        assert!(
            end(&job(json!([{"type": "Complete", "status": "False"}, {"type": "Suspended", "status": "True"}])))
                .is_none()
        );
        assert!(matches!(
            end(&job(
                json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}])
            )),
            Some(End::Complete)
        ));
        let failed =
            end(&job(json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}])));
        assert!(matches!(failed, Some(End::Failed(why)) if why == "BackoffLimitExceeded: m"));
    }

    #[test]
    fn a_long_log_keeps_its_end_and_whole_characters() {
        let log = last_bytes("ü".repeat(LOG_BYTES) + "x\n");
        assert!(log.len() <= LOG_BYTES && log.ends_with("üx") && log.starts_with('ü'));
    }
}
