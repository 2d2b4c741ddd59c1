//! `actions[]` of an EventRule: what a firing does. The kinds have files of their own; here is what every action has.

mod approve;
mod emit;
mod http;
mod job;
mod nodes;
mod notify;
mod objects;
mod patch;
mod publish;
mod restore;
mod rollout;
mod scale;
mod target;
mod wait;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use approve::Approve;
pub use emit::Emit;
pub use http::{Http, HttpMethod, OnUnknown};
pub use job::{Job, JobFrom, JobScript, JobWait};
pub use nodes::{Cordon, Drain, Taint, TaintEffect, Uncordon};
pub use notify::{Notify, NotifyField, NotifyOperation, Severity, SinkRef};
pub use objects::{Apply, Create, Delete, Evict, Propagation, SetImage};
pub use patch::{Patch, PatchFault, PatchType};
pub use publish::{DEFAULT_PUBLISHED_TYPE, Publish, is_json};
pub use restore::{Restore, RestoreWhen};
pub use rollout::{Rollout, RolloutOperation};
pub use scale::{Autoscaler, Scale, ScaleAmount};
pub use target::{Target, TargetFrom};
pub use wait::{Wait, WaitFor, WaitForRollout};

use super::{Duration, schema};

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
