//! Waiting for a Job's end, and what becomes its results.

use std::time::Duration;

use kube::{Api, core::DynamicObject};
use serde_json::{Map, Value};

use super::{
    Context, Created, Done, Failure, failure,
    said::{self, Said},
};
use crate::{actions::FailureKind, api::ActionOutcome, record::FailureReason, text};

/// Waits between two looks: short at first, for short Jobs; 360 looks in an hour.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(10);
/// How long one answer of the API server is waited for.
const ANSWER: Duration = Duration::from_secs(30);
/// Characters of the condition's message that become a result: the API server takes up to 32 KiB.
const WORDS: usize = 512;

/// Waits until the Job has completed or failed, or until `deadline`, in microseconds since 1970. Looks as the account, which needs `get` on Jobs; with
/// `list` on pods and `get` on `pods/log` the exit code and the last lines of the log become results. What it may not see is left out, and said.
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
        end = tokio::time::timeout(left, finished(cx, jobs, &created)) => end,
    };
    let Created { name, effect, .. } = created;
    let late = end.is_err();
    let end = end.unwrap_or_else(|_| Ok(End::late()))?;
    let said = tokio::time::timeout(ANSWER, said::of_job(cx, &name, &effect.uid, end.outcome)).await;
    let said = said.unwrap_or_else(|_| Said::without("its pods: the API server gave no answer"));
    let mut message = format!("Job {}/{name} {}", cx.rule.namespace, end.words);
    for more in [said.in_words(), said.left_out.as_ref().map(|what| format!("; left out: {what}"))] {
        message += &more.unwrap_or_default();
    }
    let mut result = end.result;
    result.insert("name".to_owned(), name.into());
    result.insert("succeeded".to_owned(), (end.outcome == ActionOutcome::Succeeded).into());
    result.extend(said.exit_code.map(|code| ("exitCode".to_owned(), code.into())));
    result.extend(said.log.map(|log| ("log".to_owned(), log.into())));
    Ok(Done {
        outcome: end.outcome,
        message,
        result: Value::Object(result),
        effect: Some(effect),
        reason: late.then_some(FailureReason::TimedOut),
    })
}

/// How a Job ended.
struct End {
    outcome: ActionOutcome,
    /// What follows on "Job NAME".
    words: String,
    /// `reason`, `message`, `startTime` and `completionTime`, as far as they are known.
    result: Map<String, Value>,
}

impl End {
    fn failed(words: &str, reason: &str) -> Self {
        let result = Map::from_iter([("reason".to_owned(), reason.into())]);
        Self { outcome: ActionOutcome::Failed, words: words.to_owned(), result }
    }

    fn late() -> Self {
        Self::failed("did not finish in time; it was left running", "TimedOut")
    }

    fn gone() -> Self {
        Self::failed("was deleted before it finished", "Deleted")
    }

    /// The end that the Job's conditions tell, if it has come.
    fn of(job: &Value) -> Option<Self> {
        let status = job.get("status")?;
        let conditions = status.get("conditions")?.as_array()?;
        let condition = conditions.iter().find(|condition| {
            condition["status"] == "True" && ["Complete", "Failed"].iter().any(|end| condition["type"] == *end)
        })?;
        let told = |key: &str| condition.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (reason, message) = (told("reason"), told("message").map(|message| text::cut(message, WORDS)));
        // Only a Job that completed has a time of its own for it.
        let ended = status.get("completionTime").or_else(|| condition.get("lastTransitionTime")).cloned();
        let mut result = Map::new();
        result.extend(status.get("startTime").cloned().map(|time| ("startTime".to_owned(), time)));
        result.extend(ended.map(|time| ("completionTime".to_owned(), time)));
        if condition["type"] == "Complete" {
            let words = "completed".to_owned();
            return Some(Self { outcome: ActionOutcome::Succeeded, words, result });
        }
        let why: Vec<&str> = reason.into_iter().chain(message.as_deref()).collect();
        let words = format!("failed: {}", why.join(": "));
        result.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
        result.extend(message.map(|message| ("message".to_owned(), message.into())));
        Some(Self { outcome: ActionOutcome::Failed, words, result })
    }
}

async fn finished(cx: &Context, jobs: &Api<DynamicObject>, created: &Created) -> Result<End, Failure> {
    let name = &created.name;
    let mut pause = FIRST_LOOK;
    loop {
        let Ok(looked) = tokio::time::timeout(ANSWER, jobs.get(name)).await else { continue };
        match looked {
            // Somebody took ours away and put another one there.
            Ok(job) if job.metadata.uid.as_deref() != Some(&created.effect.uid) => return Ok(End::gone()),
            Ok(job) => {
                if let Some(end) = End::of(&job.data) {
                    return Ok(end);
                }
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(End::gone()),
            Err(error) => match failure(cx, &error, "wait for", name, "get") {
                failure if failure.kind == FailureKind::Final => return Err(failure),
                failure => tracing::debug!(error = %failure, "look at a Job again later"),
            },
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_end_of_a_job_is_its_true_condition() {
        let job =
            |conditions: Value| json!({"status": {"conditions": conditions, "startTime": "2026-11-30T08:00:00Z"}});
        assert!(End::of(&json!({})).is_none());
        let not_yet = json!([{"type": "Complete", "status": "False"}, {"type": "Suspended", "status": "True"},
            {"type": "FailureTarget", "status": "True"}, {"type": "SuccessCriteriaMet", "status": "True"}]);
        assert!(End::of(&job(not_yet)).is_none());
        let mut complete =
            job(json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]));
        complete["status"]["completionTime"] = json!("2026-11-30T08:01:00Z");
        let complete = End::of(&complete).expect("ended");
        assert_eq!((complete.outcome, complete.words.as_str()), (ActionOutcome::Succeeded, "completed"));
        let times = json!({"startTime": "2026-11-30T08:00:00Z", "completionTime": "2026-11-30T08:01:00Z"});
        assert_eq!(Value::Object(complete.result), times);

        let condition = json!([{"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "m".repeat(2_000),
            "lastTransitionTime": "2026-11-30T08:02:00Z"}]);
        let failed = End::of(&job(condition)).expect("ended");
        assert!(failed.words.starts_with("failed: PodFailurePolicy: mmm"), "{}", failed.words);
        assert_eq!(failed.result["reason"], "PodFailurePolicy");
        assert_eq!(failed.result["completionTime"], "2026-11-30T08:02:00Z");
        assert!(failed.result["message"].as_str().is_some_and(|message| message.chars().count() <= WORDS));
    }
}
