//! What the pods of a Job have to say: the exit code and the end of the log, read as the account.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Event as KubernetesEvent, Pod};
use kube::{
    Api,
    api::{ListParams, LogParams},
};

use super::Context;
use crate::{actions::failure::is_missing_right, api::ActionOutcome, kubernetes::Right, text};

/// How much of the log becomes a result: its last lines. A result may have 16 KiB as JSON, where a quote or a line break takes two bytes, and the Job's
/// own words want some: 2 × 6 + 1.
const LOG_LINES: i64 = 20;
/// Bytes that a line of a log has at most: kubelets count what is longer as several. What is read is cut at its end, so it must be all of them.
const LOG_LINE: i64 = 16 << 10;
const LOG_BYTES: usize = 6 * 1024;
/// Characters of words of the API server.
const WORDS: usize = 300;
/// Pods and Events that are looked at: a Job may have thousands.
const MOST: u32 = 100;

/// What is known of a Job's pods.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Of the container that failed, else of the first one.
    pub(super) exit_code: Option<i32>,
    /// What the kubelet says of that end when it is more than the code: `OOMKilled`.
    reason: Option<String>,
    /// The end of its log.
    pub(super) log: Option<String>,
    /// What is not known, and why.
    pub(super) left_out: Option<String>,
}

impl Said {
    /// Nothing is known.
    pub(super) fn without(why: impl Into<String>) -> Self {
        Self { left_out: Some(why.into()), ..Self::default() }
    }

    /// `, exit code 137 (OOMKilled)`; nothing when it is 0.
    pub(super) fn in_words(&self) -> Option<String> {
        let code = self.exit_code.filter(|code| *code != 0)?;
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})"));
        Some(format!(", exit code {code}{}", reason.unwrap_or_default()))
    }
}

/// What the pod says that tells the Job's end.
pub(super) async fn of_job(cx: &Context, job: &str, uid: &str, outcome: ActionOutcome) -> Said {
    let pods: Api<Pod> = Api::namespaced(cx.services.cluster.as_account(&cx.account), &cx.rule.namespace);
    let labels = format!("batch.kubernetes.io/controller-uid={uid}");
    let pod = match pods.list(&ListParams::default().labels(&labels).limit(MOST)).await {
        Ok(list) => telling(list.items, outcome),
        Err(error) => {
            return Said::without(format!("exit code and log: {}", why(cx, &error, Right::new("list", "", "pods"))));
        }
    };
    let Some(pod) = pod else {
        let none = no_pod(cx, job, uid).await.map(|why| format!(": {why}"));
        return Said::without(format!("exit code and log: it has no pod{}", none.unwrap_or_default()));
    };
    let Some((container, lives_again, end)) = container(&pod) else {
        return Said::without("exit code and log: its pod has no container");
    };
    let params = LogParams {
        container: Some(container),
        previous: lives_again,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_LINES * LOG_LINE),
        ..LogParams::default()
    };
    let log = pods.logs(pod.metadata.name.as_deref().unwrap_or_default(), &params).await;
    let left_out =
        log.as_ref().err().map(|error| format!("its log: {}", why(cx, error, Right::new("get", "", "pods").on("log"))));
    Said {
        exit_code: end.as_ref().map(|end| end.exit_code),
        reason: end.and_then(|end| end.reason).filter(|reason| reason != "Error" && reason != "Completed"),
        log: log.ok().map(last_bytes),
        left_out,
    }
}

/// The last pod that ended as the Job did; the last one where none has.
fn telling(mut pods: Vec<Pod>, outcome: ActionOutcome) -> Option<Pod> {
    let phase = if outcome == ActionOutcome::Succeeded { "Succeeded" } else { "Failed" };
    let as_it = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase);
    pods.sort_by(|a, b| (as_it(a), &a.metadata.creation_timestamp).cmp(&(as_it(b), &b.metadata.creation_timestamp)));
    pods.pop()
}

/// The container that failed, of those that prepare the pod too; else the first. Whether its last life is over and the next waits, and how it ended.
fn container(pod: &Pod) -> Option<(String, bool, Option<ContainerStateTerminated>)> {
    let status = pod.status.as_ref();
    let prepares = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let works = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let failed = |one: &&ContainerStatus| ended(one).1.is_some_and(|end| end.exit_code != 0);
    let first = pod.spec.as_ref()?.containers.first()?;
    let known = prepares.iter().chain(works).find(failed).or_else(|| works.iter().find(|one| one.name == first.name));
    let Some(known) = known else { return Some((first.name.clone(), false, None)) };
    let (lives_again, end) = ended(known);
    Some((known.name.clone(), lives_again, end.cloned()))
}

fn ended(status: &ContainerStatus) -> (bool, Option<&ContainerStateTerminated>) {
    let now = status.state.as_ref();
    if let Some(end) = now.and_then(|state| state.terminated.as_ref()) {
        return (false, Some(end));
    }
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let waits = now.is_some_and(|state| state.running.is_none());
    (waits && before.is_some(), before)
}

/// What the Job's controller says of pods that it could not make, such as that a quota is used up.
async fn no_pod(cx: &Context, job: &str, uid: &str) -> Option<String> {
    let events: Api<KubernetesEvent> = Api::namespaced(cx.services.cluster.as_account(&cx.account), &cx.rule.namespace);
    let of = format!("involvedObject.kind=Job,involvedObject.name={job},involvedObject.uid={uid},type=Warning");
    let list = events.list(&ListParams::default().fields(&of).limit(MOST)).await;
    let list = list.inspect_err(|error| tracing::debug!(%error, "the Events of a Job cannot be seen")).ok()?;
    let last = list.items.into_iter().max_by(|a, b| a.last_timestamp.cmp(&b.last_timestamp))?;
    Some(text::cut(&last.message?, WORDS))
}

/// In words: a missing right with what would grant it.
fn why(cx: &Context, error: &kube::Error, right: Right) -> String {
    match error {
        kube::Error::Api(status) if is_missing_right(status) => {
            right.within(Some(&cx.rule.namespace)).missing_for(&cx.account).to_string()
        }
        kube::Error::Api(status) => text::cut(&status.message, WORDS),
        error => text::cut(&error.to_string(), WORDS),
    }
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
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, phase: &str, containers: Value, prepares: Value) -> Pod {
        let pod = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-11-30T08:00:0{}Z", name.len())},
            "spec": {"containers": [{"name": "main"}, {"name": "side"}]},
            "status": {"phase": phase, "containerStatuses": containers, "initContainerStatuses": prepares}});
        serde_json::from_value(pod).expect("a pod")
    }

    fn status(name: &str, state: Value, last: Value) -> Value {
        json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last})
    }

    fn ended_with(code: i32) -> Value {
        json!({"terminated": {"exitCode": code, "reason": "OOMKilled"}})
    }

    #[test]
    fn a_long_log_keeps_its_end_and_whole_characters() {
        let log = last_bytes("ü".repeat(LOG_BYTES) + "x\n");
        assert!(log.len() <= LOG_BYTES && log.ends_with("üx") && log.starts_with('ü'));
    }

    #[test]
    fn the_pod_that_ended_as_the_job_did_is_asked() {
        let none = || json!([]);
        let pods = || {
            vec![
                pod("aaa", "Running", none(), none()),
                pod("a", "Failed", none(), none()),
                pod("aa", "Succeeded", none(), none()),
            ]
        };
        let name = |outcome| telling(pods(), outcome).and_then(|pod| pod.metadata.name);
        assert_eq!(name(ActionOutcome::Failed).as_deref(), Some("a"));
        assert_eq!(name(ActionOutcome::Succeeded).as_deref(), Some("aa"));
        assert!(telling(Vec::new(), ActionOutcome::Failed).is_none());
    }

    #[test]
    fn the_container_that_failed_tells_how() {
        let code = |containers, prepares| {
            let (name, lives_again, end) = container(&pod("p", "Failed", containers, prepares)).expect("a container");
            (name, lives_again, end.map(|end| end.exit_code))
        };
        let (main, side) = (status("main", ended_with(0), json!({})), status("side", ended_with(137), json!({})));
        assert_eq!(code(json!([main, side]), json!([])), ("side".into(), false, Some(137)));
        assert_eq!(code(json!([main]), json!([])), ("main".into(), false, Some(0)));
        let waits = status("main", json!({"waiting": {"reason": "PodInitializing"}}), json!({}));
        let prepares = status("fetch", ended_with(1), json!({}));
        assert_eq!(code(json!([waits]), json!([prepares])), ("fetch".into(), false, Some(1)));
        let again = status("main", json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended_with(2));
        assert_eq!(code(json!([again]), json!([])), ("main".into(), true, Some(2)));
        assert_eq!(code(json!([]), json!([])), ("main".into(), false, None));
    }

    #[test]
    fn an_end_that_says_more_than_its_code_is_told() {
        let said = |code, reason: Option<&str>| {
            Said { exit_code: Some(code), reason: reason.map(str::to_owned), ..Said::default() }.in_words()
        };
        assert_eq!(said(0, None), None);
        assert_eq!(said(137, Some("OOMKilled")).as_deref(), Some(", exit code 137 (OOMKilled)"));
        assert_eq!(said(3, None).as_deref(), Some(", exit code 3"));
    }
}
