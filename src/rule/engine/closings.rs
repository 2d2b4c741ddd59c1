//! Ends that nobody sees: a rule is deleted, or suspended, while what it had fired for lasts. What it has opened elsewhere would stay open for ever, so its
//! incidents are ended; nothing else of `resolveActions` is done, for nobody knows whether it is over.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::Engine;
use crate::{
    api::{Action, EventRuleSpec, FiringKind, Notify, NotifyOperation, OnError, RuleMode},
    event::Event,
    record::{Firing, FiringId, Head, LogId, OpenFiring},
    rule::{compile::Rule, groups::Groups},
};

/// The type of the event that such a firing has, where none is kept with the group.
const TYPE: &str = "dev.signalbox.closed";

/// Why nobody will see the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Deleted,
    Suspended,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::Deleted => "It is not followed any more: the rule was deleted. Whether it is over is not known.",
            Self::Suspended => "It is not followed any more: the rule was suspended. Whether it is over is not known.",
        }
    }
}

impl Engine {
    /// The firings that end the incidents of rules which were deleted or suspended since the last call.
    pub fn take_closings(&mut self) -> Vec<OpenFiring> {
        std::mem::take(&mut self.closings)
    }
}

/// The firings that end what the rule has opened for the groups that it has fired for and that have not ended, oldest first.
pub(super) fn closings(log: &LogId, head: &Head, rule: &Rule, groups: &Groups, why: Why) -> Vec<OpenFiring> {
    let mut active = groups.active().peekable();
    // What only observes has opened nothing.
    if active.peek().is_none() || rule.spec.mode == RuleMode::Observe {
        return Vec::new();
    }
    let Some(spec) = spec_of(&rule.spec, why).map(Arc::new) else { return Vec::new() };
    let open = |group: &String| {
        let id = FiringId::derive(log, head.position, &rule.rule.uid, &format!("\0close\0{group}"));
        let cause = groups.cause(group);
        let event = cause.map_or_else(|| event_of(&id, rule, group), |cause| Arc::clone(&cause.event));
        let firing = Firing {
            id,
            rule: rule.rule.clone(),
            generation: rule.generation,
            source: cause.map(|cause| cause.source.clone()).unwrap_or_default(),
            group: group.clone(),
            group_values: cause.map(|cause| cause.values.clone()).unwrap_or_default(),
            count: None,
            value: None,
            baseline: None,
            kind: FiringKind::Resolved,
            step: None,
            input: head.position,
            stamp: head.stamp,
            planned: None,
            restores: None,
            closes: true,
        };
        OpenFiring { firing, event, events: Vec::new(), spec: Arc::clone(&spec), steps: Default::default() }
    };
    active.map(|(_, group)| open(group)).collect()
}

fn event_of(id: &FiringId, rule: &Rule, group: &str) -> Arc<Event> {
    let source = format!("/rules/{}/{}", rule.rule.namespace, rule.rule.name);
    Arc::new(Event { subject: Some(group.to_owned()), ..Event::new(id.to_string(), source, TYPE, json!({})) })
}

/// The rule, with nothing to do at an end but to end each incident that its notifications may have opened; nothing where there are no such.
fn spec_of(spec: &EventRuleSpec, why: Why) -> Option<EventRuleSpec> {
    let steps = spec.trigger.iter().flat_map(|trigger| trigger.steps()).flat_map(|step| &step.actions);
    let mut known = BTreeSet::new();
    let mut ends = Vec::new();
    for action in spec.actions.iter().chain(steps) {
        let Some(notify) = action.notify.as_deref().filter(|notify| opens(notify)) else { continue };
        if known.insert((notify.sink_ref.name.clone(), notify.dedup_key.clone())) {
            ends.push(end_of(action, notify, format!("close{}", ends.len()), why));
        }
    }
    (!ends.is_empty()).then(|| EventRuleSpec {
        resolve_actions: ends,
        failure_actions: Vec::new(),
        starting_deadline: None,
        ..spec.clone()
    })
}

/// Whether it may have opened an incident that can be told now: results of actions are not known any more.
fn opens(notify: &Notify) -> bool {
    notify.operation != Some(NotifyOperation::Resolve)
        && notify.dedup_key.as_ref().is_none_or(|key| !key.contains("actions"))
}

fn end_of(action: &Action, notify: &Notify, name: String, why: Why) -> Action {
    let notify = Notify {
        title: None,
        text: Some(why.text().to_owned()),
        fields: Vec::new(),
        operation: Some(NotifyOperation::Resolve),
        ..notify.clone()
    };
    Action { name, if_expression: None, on_error: OnError::Continue, notify: Some(Box::new(notify)), ..action.clone() }
}
