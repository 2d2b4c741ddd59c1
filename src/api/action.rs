//! `actions[]` of an EventRule: what a firing does.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Apply, Approve, Cordon, Create, Delete, Drain, Duration, Emit, Evict, Http, Patch, Publish, Restore, SetImage,
    Taint, Target, Uncordon, Wait, WaitFor, schema,
};

/// One thing that a firing does. Exactly one of the kinds of action is set, from `scale` to `approve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.scale), has(self.rollout), has(self.setImage), has(self.patch), has(self.apply), has(self.create), has(self.delete), has(self.job), has(self.evict), has(self.cordon), has(self.uncordon), has(self.taint), has(self.drain), has(self.http), has(self.notify), has(self.publish), has(self.emit), has(self.wait), has(self.approve)].filter(x, x).size() == 1")
    .message("exactly one of scale, rollout, setImage, patch, apply, create, delete, job, evict, cordon, uncordon, taint, drain, http, notify, publish, emit, wait and approve must be set"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.waitFor) || has(self.scale) || has(self.rollout) || has(self.setImage) || has(self.patch) || has(self.apply) || has(self.create)")
    .message("waitFor is for actions that change or create an object: scale, rollout, setImage, patch, apply, create"))]
pub struct Action {
    /// Name of the action, unique in the rule; its results are `actions.<name>` in the expressions of later actions.
    #[schemars(schema_with = "schema::identifier")]
    pub name: String,
    /// CEL expression; when it gives false the action is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub if_expression: Option<String>,
    /// Sets the number of replicas of anything that has a scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Box<Scale>>,
    /// Restarts, rolls back, pauses or resumes a workload, as `kubectl rollout` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<Rollout>>,
    /// Sets the image of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_image: Option<Box<SetImage>>,
    /// Changes an object of any kind by a patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<Box<Patch>>,
    /// Makes an object of any kind what a manifest says, by server-side apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<Box<Apply>>,
    /// Creates an object of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Box<Create>>,
    /// Deletes an object of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<Box<Delete>>,
    /// Launches a Job in the rule's namespace, owned by the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
    /// Evicts a Pod, as PodDisruptionBudgets allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict: Option<Box<Evict>>,
    /// Marks a Node as unschedulable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Box<Cordon>>,
    /// Makes a Node schedulable again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncordon: Option<Box<Uncordon>>,
    /// Gives a Node a taint, or takes one away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint: Option<Box<Taint>>,
    /// Cordons a Node and evicts its Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Box<Drain>>,
    /// Sends a request to an HTTP endpoint; the answer is the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<Http>>,
    /// Sends a notification to an EventSink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Box<Notify>>,
    /// Publishes an event through an EventSink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Box<Publish>>,
    /// Puts an event on the bus, for other rules of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit: Option<Box<Emit>>,
    /// Waits before the next action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Box<Wait>>,
    /// Waits until somebody approves; the actions after it are done then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Box<Approve>>,
    /// Waits, after the target was changed, until it is as wanted; the action is done only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for: Option<WaitFor>,
    /// How long the action may take in all, with its repetitions and the waits between them; then it has failed. What it waits for by `waitFor` is not
    /// counted. Default: as long as `retry` allows; with `job.wait: Completed` 1h, which is how long the Job may take. Not for `wait` and `approve`, which
    /// have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How a failed attempt is repeated. What cannot succeed by repeating (a missing right, a missing target) is not repeated. Not for `wait` and `approve`.
    #[serde(default)]
    pub retry: Retry,
    /// What happens to the firing when this action has failed for good. `Stop`: the actions after it are not run. `Continue`: they are; the firing has
    /// failed all the same. `Undo`: they are not, and what the firing has changed is taken back, the last first, where nobody else has changed it since.
    #[serde(default)]
    pub on_error: OnError,
}

/// The one kind that an [`Action`] has.
#[derive(Clone, Copy, Debug)]
pub enum ActionKind<'a> {
    /// `scale`
    Scale(&'a Scale),
    /// `rollout`
    Rollout(&'a Rollout),
    /// `setImage`
    SetImage(&'a SetImage),
    /// `patch`
    Patch(&'a Patch),
    /// `apply`
    Apply(&'a Apply),
    /// `create`
    Create(&'a Create),
    /// `delete`
    Delete(&'a Delete),
    /// `job`
    Job(&'a Job),
    /// `evict`
    Evict(&'a Evict),
    /// `cordon`
    Cordon(&'a Cordon),
    /// `uncordon`
    Uncordon(&'a Uncordon),
    /// `taint`
    Taint(&'a Taint),
    /// `drain`
    Drain(&'a Drain),
    /// `http`
    Http(&'a Http),
    /// `notify`
    Notify(&'a Notify),
    /// `publish`
    Publish(&'a Publish),
    /// `emit`
    Emit(&'a Emit),
    /// `wait`
    Wait(&'a Wait),
    /// `approve`
    Approve(&'a Approve),
}

impl Job {
    /// Whether exactly one of [`Job::template`], [`Job::script`] and [`Job::from`] is set.
    pub fn has_one_origin(&self) -> bool {
        let set = [self.template.is_some(), self.script.is_some(), self.from.is_some()];
        set.into_iter().filter(|set| *set).count() == 1
    }
}

impl Action {
    /// The kind that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<ActionKind<'_>> {
        let kinds = [
            self.scale.as_deref().map(ActionKind::Scale),
            self.rollout.as_deref().map(ActionKind::Rollout),
            self.set_image.as_deref().map(ActionKind::SetImage),
            self.patch.as_deref().map(ActionKind::Patch),
            self.apply.as_deref().map(ActionKind::Apply),
            self.create.as_deref().map(ActionKind::Create),
            self.delete.as_deref().map(ActionKind::Delete),
            self.job.as_deref().map(ActionKind::Job),
            self.evict.as_deref().map(ActionKind::Evict),
            self.cordon.as_deref().map(ActionKind::Cordon),
            self.uncordon.as_deref().map(ActionKind::Uncordon),
            self.taint.as_deref().map(ActionKind::Taint),
            self.drain.as_deref().map(ActionKind::Drain),
            self.http.as_deref().map(ActionKind::Http),
            self.notify.as_deref().map(ActionKind::Notify),
            self.publish.as_deref().map(ActionKind::Publish),
            self.emit.as_deref().map(ActionKind::Emit),
            self.wait.as_deref().map(ActionKind::Wait),
            self.approve.as_deref().map(ActionKind::Approve),
        ];
        let mut set = kinds.into_iter().flatten();
        set.next().filter(|_| set.next().is_none())
    }

    /// What is waited for before it is done: an object that it has changed, or that it only waits for.
    pub fn waits(&self) -> Option<WaitFor> {
        self.wait_for.clone().or_else(|| self.wait.as_ref()?.wait_for())
    }

    /// Whether what comes of the object that it writes can be waited for.
    pub fn can_wait_for(&self) -> bool {
        use ActionKind::{Apply, Create, Patch, Rollout, Scale, SetImage};
        let kind = self.kind();
        matches!(kind, Some(Scale(_) | Rollout(_) | SetImage(_) | Patch(_) | Apply(_) | Create(_)))
    }

    /// Kind of the object that it writes, where the rule tells it.
    pub fn written_kind(&self) -> Option<&str> {
        let of_manifest = self.apply.as_ref().map(|apply| &apply.manifest);
        let of_manifest = of_manifest.or_else(|| self.create.as_ref().map(|create| &create.manifest));
        match of_manifest {
            Some(manifest) => manifest.get("kind")?.as_str(),
            None => self.target().filter(|target| target.from.is_none()).map(|target| target.kind.as_str()),
        }
    }

    /// When what it changes is given back.
    pub fn restore(&self) -> Option<&Restore> {
        let of_scale = self.scale.as_ref().and_then(|scale| scale.restore.as_ref());
        of_scale.or_else(|| self.patch.as_ref().and_then(|patch| patch.restore.as_ref()))
    }

    /// The object that the action changes or waits for, if it is of a kind that has one.
    pub fn target(&self) -> Option<&Target> {
        match self.kind()? {
            ActionKind::Scale(scale) => Some(&scale.target),
            ActionKind::Rollout(rollout) => Some(&rollout.target),
            ActionKind::Patch(patch) => Some(&patch.target),
            ActionKind::SetImage(image) => Some(&image.target),
            ActionKind::Delete(delete) => Some(&delete.target),
            ActionKind::Evict(evict) => Some(&evict.target),
            ActionKind::Wait(wait) => wait.target.as_ref(),
            ActionKind::Apply(_)
            | ActionKind::Create(_)
            | ActionKind::Cordon(_)
            | ActionKind::Uncordon(_)
            | ActionKind::Taint(_)
            | ActionKind::Drain(_)
            | ActionKind::Job(_)
            | ActionKind::Http(_)
            | ActionKind::Notify(_)
            | ActionKind::Publish(_)
            | ActionKind::Emit(_)
            | ActionKind::Approve(_) => None,
        }
    }
}

/// How often and how fast a failed attempt is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// How many times a failed attempt is repeated, 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub limit: u32,
    /// Wait before the first repetition; it doubles each time, with jitter.
    pub backoff: Duration,
    /// The longest wait between two attempts. A `Retry-After` of the other side is honoured even beyond it.
    pub max_backoff: Duration,
    /// How long one attempt may take; default 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: 5, backoff: Duration::from_secs(1), max_backoff: Duration::from_secs(60), attempt_timeout: None }
    }
}

/// What an action's final failure means for the actions after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnError {
    /// The actions after it are not run.
    #[default]
    Stop,
    /// The actions after it are run; the firing still counts as failed.
    Continue,
    /// The actions after it are not run, and what the firing has changed is taken back, the last first, where nobody else has changed it since: `scale`,
    /// `patch`, `apply`, `setImage`, `cordon`, `uncordon`, `taint`, the cordon of a `drain` and the `rollout` operations Pause and Resume get their former
    /// values, what was created is deleted (which takes the right to). A restart, a roll-back, a deletion, an eviction, a request, a notification or an event
    /// that was emitted cannot be undone. Not for `failureActions`.
    Undo,
}

/// Sets the number of replicas through the scale subresource; nothing else of the object is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.to), has(self.toExpression), has(self.by)].filter(x, x).size() == 1")
    .message("exactly one of to, toExpression and by must be set"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
    .message("min must not be greater than max"))]
pub struct Scale {
    /// What is scaled.
    pub target: Target,
    /// The number of replicas to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub to: Option<i32>,
    /// CEL expression that gives the number of replicas to set, a whole one: `int(math.ceil(value / 50.0))`. It knows what the texts of actions know, and is
    /// evaluated when the action's turn has come. Less than 0 is 0; more than 1000000 is an error, unless `max` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub to_expression: Option<String>,
    /// The change: `"2"`, `"-1"`, or a share of the present number, `"50%"`, `"-25%"`, rounded away from zero. The absolute number
    /// is fixed and recorded before the write, so a repetition never adds twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12), regex(pattern = r"^[+-]?[0-9]{1,7}%?$"))]
    pub by: Option<String>,
    /// The result is never below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min: Option<i32>,
    /// The result is never above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max: Option<i32>,
    /// What is done about a target that a HorizontalPodAutoscaler or a ScaledObject manages. Default: `Refuse`, where the account may list
    /// HorizontalPodAutoscalers (without that right they are not seen); when it is set, the account needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<Autoscaler>,
    /// When the former number is given back; default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// What is done about a target that an autoscaler manages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Autoscaler {
    /// The action fails, and names it.
    #[default]
    Refuse,
    /// Its bounds are moved, and the target is left to it: for more replicas its least number, for fewer its greatest, and the other where it would be
    /// passed. The account needs `get` and `patch` on it.
    Adjust,
    /// The target is scaled all the same.
    Ignore,
}

/// [`Scale::to`] and [`Scale::by`], read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleAmount {
    /// Exactly so many replicas.
    To(i32),
    /// So many more, or fewer.
    By(i32),
    /// So many hundredths more, or fewer.
    ByPercent(i32),
}

impl Scale {
    /// What is wrong with what says how many, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        if self.to_expression.is_some() && self.to.is_none() && self.by.is_none() || self.amount().is_some() {
            return None;
        }
        Some(
            "exactly one of to, toExpression and by must be set, and by must be a number such as \"2\", \"-1\" or \"50%\"",
        )
    }

    /// What the action sets, or nothing when that is evaluated, when not exactly one of `to` and `by` is set, and when `by` is no number.
    pub fn amount(&self) -> Option<ScaleAmount> {
        match (self.to, self.by.as_deref()) {
            _ if self.to_expression.is_some() => None,
            (Some(to), None) => Some(ScaleAmount::To(to)),
            (None, Some(by)) => match by.strip_suffix('%') {
                Some(percent) => percent.parse().ok().map(ScaleAmount::ByPercent),
                None => by.parse().ok().map(ScaleAmount::By),
            },
            _ => None,
        }
    }
}

/// Restarts, rolls back, pauses or resumes a Deployment, StatefulSet or DaemonSet, as `kubectl rollout` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.target.kind) || self.target.kind in ['Deployment', 'StatefulSet', 'DaemonSet']")
    .message("rollout is for a Deployment, a StatefulSet or a DaemonSet"))]
#[x_kube(validation = kube::core::cel::Rule::new("!(self.operation in ['Pause', 'Resume']) || !has(self.target.kind) || self.target.kind == 'Deployment'")
    .message("only a Deployment can be paused and resumed"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.revision) || self.operation == 'Undo'")
    .message("revision is for operation Undo"))]
#[x_kube(validation = kube::core::cel::Rule::new("!self.deleteStuckPods || (self.operation == 'Undo' && (!has(self.target.kind) || self.target.kind == 'StatefulSet'))")
    .message("deleteStuckPods is for operation Undo of a StatefulSet"))]
pub struct Rollout {
    /// The Deployment, StatefulSet or DaemonSet.
    pub target: Target,
    /// What is done with it.
    #[serde(default)]
    pub operation: RolloutOperation,
    /// With `Undo`, the revision to go back to, as `kubectl rollout history` lists them; default: the one before the present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// With `Undo` of a StatefulSet, deletes also its Pods of the revision that it goes back from which are not ready. Its controller waits for such a
    /// Pod for ever, and replaces none before. The account needs `list` and `delete` on pods.
    #[serde(default)]
    pub delete_stuck_pods: bool,
}

/// What a [`Rollout`] does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutOperation {
    /// All Pods are replaced, in the way that the workload replaces them. A paused Deployment is refused.
    #[default]
    Restart,
    /// The Pod template becomes that of an earlier revision. A paused Deployment is refused.
    Undo,
    /// Changes of the Deployment's Pod template are not rolled out until it is resumed.
    Pause,
    /// What changed while the Deployment was paused is rolled out.
    Resume,
}

impl Rollout {
    /// Why it cannot be done to the kind of its target, if it cannot.
    pub fn fault(&self) -> Option<&'static str> {
        use RolloutOperation::{Restart, Undo};
        if self.revision.is_some() && self.operation != Undo {
            return Some("revision is for operation Undo");
        }
        if self.delete_stuck_pods && self.operation != Undo {
            return Some("deleteStuckPods is for operation Undo of a StatefulSet");
        }
        if self.target.from.is_some() {
            // What kind it is, is known when it fires.
            return None;
        }
        match (self.operation, self.target.kind.as_str()) {
            (_, "Deployment" | "DaemonSet") if self.delete_stuck_pods => {
                Some("deleteStuckPods is for operation Undo of a StatefulSet")
            }
            (_, "Deployment") | (Restart | Undo, "StatefulSet" | "DaemonSet") => None,
            (_, "StatefulSet" | "DaemonSet") => Some("only a Deployment can be paused and resumed"),
            _ => Some("rollout is for a Deployment, a StatefulSet or a DaemonSet"),
        }
    }
}

/// Launches a Job. Exactly one of `template`, `script` and `from` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.template), has(self.script), has(self.from)].filter(x, x).size() == 1")
    .message("exactly one of template, script and from must be set"))]
pub struct Job {
    /// A JobTemplateSpec, as in a CronJob; its texts may hold `${ }`. The event is in the environment variable `SIGNALBOX_EVENT` and in the file that
    /// `SIGNALBOX_EVENT_FILE` names.
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

/// Sends a notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notify {
    /// The EventSink of the rule's namespace; the rule's account needs `get` on it.
    pub sink_ref: SinkRef,
    /// How urgent it is.
    #[serde(default)]
    pub severity: Severity,
    /// One line; may hold `${ }`. Default: the rule's name and the event's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub title: Option<String>,
    /// The message; may hold `${ }`. Default: what happened, what the actions before this one did, and of the object that the event is about the controller at
    /// the top, the end of its log and its Events, as far as the rule's account may see them; where, how often and since when are `fields` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub text: Option<String>,
    /// Short facts beside the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub fields: Vec<NotifyField>,
    /// What it means for its incident, where the sink keeps such: `pagerduty`, and `slack` with a bot. Default: `Resolve` in `resolveActions`, else `Trigger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<NotifyOperation>,
    /// Which incident it is; may hold `${ }`. One of more than 255 bytes is hashed. Default: that of the rule and the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub dedup_key: Option<String>,
}

/// What a notification means for its incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NotifyOperation {
    /// It begins, or goes on.
    #[default]
    Trigger,
    /// Somebody, or the rule, is at it.
    Acknowledge,
    /// It is over.
    Resolve,
}

impl NotifyOperation {
    /// Whether it is the default, which is not written.
    pub fn is_trigger(&self) -> bool {
        *self == Self::Trigger
    }
}

/// One fact of a notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotifyField {
    /// What it is.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value; may hold `${ }`.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// The name of an EventSink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkRef {
    /// Name of an EventSink in the rule's namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// How urgent a notification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// For information.
    #[default]
    Info,
    /// Needs attention soon.
    Warning,
    /// Needs attention now.
    Error,
    /// Something is down.
    Critical,
}
