//! The kind EventRule.

use std::sync::Arc;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Action, ActiveWindow, Breaker, Condition, Dedupe, Duration, EventRuleStatus, FiringKind, GroupKey, GroupLimits,
    Source, Throttle, Trigger, schema,
};

/// The account of rules, sources and sinks that name none.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "signalbox-rules";

/// What a rule looks at and what it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "signalbox.dev",
    version = "v1alpha1",
    kind = "EventRule",
    plural = "eventrules",
    shortname = "er",
    category = "signalbox",
    namespaced,
    status = "EventRuleStatus",
    derive = "PartialEq",
    doc = "When events happen, act: sources say which events, conditions which of them, actions what then.",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode","description":"Whether the rule acts or only tells what it would do"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the rule is in force"}"#,
    printcolumn = r#"{"name":"Matched","type":"integer","jsonPath":".status.counts.matched","description":"Events that met every condition"}"#,
    printcolumn = r#"{"name":"Fired","type":"integer","jsonPath":".status.counts.fired","description":"Times the rule acted"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.counts.failed","description":"Firings of which an action failed for good"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastFiringTime","description":"When it last fired"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Account","type":"string","jsonPath":".spec.serviceAccountName","priority":1}"#,
    printcolumn = r#"{"name":"Suppressed","type":"integer","jsonPath":".status.counts.suppressed.total","priority":1}"#,
    printcolumn = r#"{"name":"Near miss","type":"string","jsonPath":".status.lastNearMiss.condition","description":"What refused an event that the rule nearly took","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
pub struct EventRuleSpec {
    /// Whether the rule acts, or only tells what it would do.
    #[serde(default)]
    pub mode: RuleMode,
    /// True: nothing is evaluated, and what happens meanwhile is not caught up, but what waits at a broker that no other rule listens to. Firings that have begun are finished.
    #[serde(default)]
    pub suspend: bool,
    /// The ServiceAccount of this namespace whose rights the rule has: it sees and does what this account may, nothing more.
    #[serde(default = "default_service_account")]
    #[schemars(schema_with = "schema::object_name")]
    pub service_account_name: String,
    /// The events that the rule looks at: those of any of these sources.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<Source>,
    /// Named CEL expressions, evaluated when first used; `variables.<name>` in the conditions and actions, and in later variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub variables: Vec<Variable>,
    /// Conditions; all must hold for an event to match. One that is false outweighs another one that fails, as in `matchConditions` of a
    /// ValidatingAdmissionPolicy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub when: Vec<Condition>,
    /// When the rule may act; default: always. Outside of these times a matching event does not fire, and is counted under
    /// `suppressed.outsideActiveWindow`; a trigger takes it all the same. What `held`, `absent`, `value`, `anomaly` and `due` would fire for then is
    /// fired for when the next window begins, if it still lasts. What has fired goes on: `held.steps` and `resolveActions` are done at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub active_windows: Vec<ActiveWindow>,
    /// What tells groups apart: counts and cooldowns are kept for each group by itself. Default: the event's subject;
    /// events without one are all of one group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub group_by: Vec<GroupKey>,
    /// Limits on the groups that state is kept for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupLimits>,
    /// What turns matching events into firings; default: each fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Box<Trigger>>,
    /// While what the rule has fired for lasts, it fires again each time so long has passed, at least `1s`; after a downtime
    /// once. Needs a trigger that has an end: `held`, `absent`, `value` or `anomaly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Duration>,
    /// What is the same as an event before it does not fire again for a time. It goes with `count`, `sequence`, `all`, `batch` and no trigger. What is
    /// suppressed is counted under `suppressed.dedupe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<Dedupe>,
    /// Limits on how often the rule fires. What is suppressed is counted in status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// When the rule stops acting because what it does fails (`Acting=False`, `Tripped`); default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// What becomes of a firing while an earlier one of its group is under way.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// A firing that could not begin so long after its event was accepted, or after the time of `trigger.due`, is not carried out: it ends as
    /// `Expired`. Without it a firing is carried out however late, for instance after a restart. Counted on the wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<Duration>,
    /// What each firing does, in this order.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub actions: Vec<Action>,
    /// What is done when what the rule has fired for has ended, in this order; whatever `throttle` says. Needs a trigger that has an end:
    /// `held`, `absent`, `value` or `anomaly`. When the rule is changed, suspended or deleted meanwhile, it is not done; incidents that `notify` has opened are
    /// ended when it is suspended or deleted. Fields are explained at `actions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub resolve_actions: Vec<Action>,
    /// What is done when a firing has failed for good, in this order: by an action of `actions`, of `resolveActions` or of a step of `trigger.held`.
    /// `failure.action`, `failure.reason` (`Refused`, `RetriesExhausted`, `TimedOut`, `Failed`, `InvalidExpression`) and `failure.message` tell of the
    /// first that failed. Part of the same firing: carried out before the next one of the group. One that fails itself has none.
    /// Fields are explained at `actions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub failure_actions: Vec<Action>,
    /// How many firings `status.recent` keeps, 0 to 10.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 10))]
    pub history_limit: u32,
}

impl EventRuleSpec {
    /// What a firing of this kind does.
    pub fn actions_of(&self, kind: FiringKind, step: Option<u32>) -> &[Action] {
        match kind {
            FiringKind::Fired | FiringKind::Repeated => &self.actions,
            FiringKind::Resolved => &self.resolve_actions,
            FiringKind::Restored => &[],
            FiringKind::Step => {
                let steps = self.trigger.as_deref().map_or(&[][..], Trigger::steps);
                step.and_then(|step| steps.get(step as usize)).map_or(&[], |step| &step.actions)
            }
        }
    }

    /// All that its firings do.
    pub fn all_actions(&self) -> impl Iterator<Item = &Action> {
        let steps = self.trigger.as_deref().into_iter().flat_map(Trigger::steps).flat_map(|step| &step.actions);
        self.actions.iter().chain(&self.resolve_actions).chain(steps).chain(&self.failure_actions)
    }

    /// Reads a spec that is kept. What reads JSON as text does not know how long a list is, and gives each room for four.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read_to_keep<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Self>, D::Error> {
        let mut spec = Self::deserialize(from)?;
        let Self { sources, variables, when, active_windows, group_by, .. } = &mut spec;
        sources.shrink_to_fit();
        variables.shrink_to_fit();
        when.shrink_to_fit();
        active_windows.shrink_to_fit();
        group_by.shrink_to_fit();
        for actions in [&mut spec.actions, &mut spec.resolve_actions, &mut spec.failure_actions] {
            actions.shrink_to_fit();
        }
        Ok(Arc::new(spec))
    }

    /// Whether its trigger follows the state of objects.
    pub fn follows_objects(&self) -> bool {
        self.trigger.as_deref().is_some_and(Trigger::follows_objects)
    }
}

/// Whether a rule acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RuleMode {
    /// The rule acts.
    #[default]
    Enforce,
    /// The rule decides as it would, and nothing is changed and nobody is told: what an action would write is sent to the API server as a dry run, with
    /// the rights of the rule's account, and `status.recent` tells what would have changed. Cooldowns and counts go on as if it had acted.
    Observe,
}

/// How firings of one group go together. Those of different groups run side by side, 16 of a rule at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// One after the other, in the order of their events.
    #[default]
    Queue,
    /// A matching event does not fire while a firing of its group waits or is under way; it is counted under `suppressed.concurrency`.
    Forbid,
    /// Side by side. Steps that change the same object still wait for each other.
    Allow,
}

fn default_service_account() -> String {
    DEFAULT_SERVICE_ACCOUNT.to_owned()
}

fn default_history_limit() -> u32 {
    5
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Name of the variable.
    #[schemars(schema_with = "schema::identifier")]
    pub name: String,
    /// CEL expression that gives its value.
    #[schemars(schema_with = "schema::expression")]
    pub expression: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each rule some are kept; a list of one had room for four, each with the bytes of all kinds.
    #[test]
    fn what_a_rule_does_not_use_takes_no_room() {
        let sizes = [size_of::<EventRuleSpec>(), size_of::<Source>(), size_of::<Action>()];
        assert!(sizes[0] <= 512 && sizes[1] <= 96 && sizes[2] <= 384, "{sizes:?}");
    }

    #[test]
    fn lists_of_a_spec_that_is_kept_have_no_room_to_spare() {
        let text = r#"{"sources": [{"name": "a", "schedule": {"cron": "@daily"}}], "when": [{"name": "b", "expression": "true"}],
            "actions": [{"name": "c", "wait": {"for": "1s"}}]}"#;
        let spec = EventRuleSpec::read_to_keep(&mut serde_json::Deserializer::from_str(text)).expect("a spec");
        let room = (spec.sources.capacity(), spec.when.capacity(), spec.actions.capacity());
        assert_eq!(room, (1, 1, 1));
    }
}
