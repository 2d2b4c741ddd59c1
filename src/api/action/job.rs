//! `job` of an action.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{Duration, schema};

/// Launches a Job. Exactly one of `template`, `script` and `from` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.template), has(self.script), has(self.from)].filter(x, x).size() == 1")
    .message("exactly one of template, script and from must be set"))]
pub struct Job {
    /// A JobTemplateSpec, as in a CronJob; its texts may hold `${ }`. The event is in the environment variable `SIGNALBOX_EVENT` and in the file that
    /// `SIGNALBOX_EVENT_FILE` names; `TRACEPARENT` says which trace it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub template: Option<Value>,
    /// A script in an image; takes no `${ }`: the event comes in as `SIGNALBOX_EVENT` and as the file that `SIGNALBOX_EVENT_FILE` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<JobScript>,
    /// The template of a CronJob of the rule's namespace as it is then, as `kubectl create job --from` takes it, also of one that is suspended. The event
    /// comes in as with `template`; pods for which the CronJob names no account run as the rule's. The rule's account needs `get` on the CronJob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<JobFrom>,
    /// What the action waits for.
    #[serde(default)]
    pub wait: JobWait,
    /// How long the Job is kept after it has finished and its outcome is recorded; default: until the rule is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

impl Job {
    /// Whether exactly one of [`Job::template`], [`Job::script`] and [`Job::from`] is set.
    pub fn has_one_origin(&self) -> bool {
        let set = [self.template.is_some(), self.script.is_some(), self.from.is_some()];
        set.into_iter().filter(|set| *set).count() == 1
    }
}

/// Where a Job's template is taken from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFrom {
    /// Name of the CronJob; may hold `${ }`.
    #[schemars(length(min = 1, max = 1024))]
    pub cron_job: String,
}

/// What a Job action waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobWait {
    /// The Job exists.
    #[default]
    Created,
    /// The Job has completed or failed; exit code and last log lines become results.
    Completed,
}

/// A script that a Job runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobScript {
    /// Container image that has the shell.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// The shell and its options; default `["/bin/sh", "-ec"]`.
    #[serde(default = "default_shell", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8), inner(length(max = 256)))]
    pub shell: Vec<String>,
    /// The script, one argument of the shell.
    #[schemars(length(min = 1, max = 65536))]
    pub run: String,
}

fn default_shell() -> Vec<String> {
    vec!["/bin/sh".into(), "-ec".into()]
}
