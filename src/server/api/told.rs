//! What is told of firings. Neither requests nor results of actions: a result may be another service's answer.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    api::{ActionOutcome, EventRef, FiringOutcome, FiringStatus},
    record::{Account, DeadLetter, Finished, FiringId, OpenFiring, RuleRef, RuleUid, Step, Stopped, whole},
    shard::{Place, State},
};

/// Where a firing was found.
pub(super) enum What {
    /// Whole, if memory holds it so.
    Open(FiringId, Option<Arc<OpenFiring>>),
    Letter(FiringId, Place),
    Recent(Arc<FiringStatus>),
}

/// A firing that is known.
pub(super) struct Found {
    pub(super) rule: RuleRef,
    /// The rule's account.
    pub(super) account: Account,
    pub(super) what: What,
}

/// Looks for a firing of a rule of the namespace.
pub(super) fn find(state: &State, namespace: &str, id: &FiringId) -> Option<Found> {
    let mut of_namespace = state.engine.accounts().filter(|(rule, _)| rule.namespace == namespace);
    let found = |rule: &RuleRef, account: &Account, what| Found { rule: rule.clone(), account: account.clone(), what };
    if let Some(brief) = state.ledger.brief(id) {
        let (rule, account) = of_namespace.find(|(rule, _)| rule.uid == brief.rule)?;
        return Some(found(rule, account, What::Open(id.clone(), state.ledger.get(id))));
    }
    if let Some((kept, place)) = state.letters.find(id) {
        let (rule, account) = of_namespace.find(|(rule, _)| rule.uid == kept.rule)?;
        return Some(found(rule, account, What::Letter(id.clone(), place)));
    }
    of_namespace.find_map(|(rule, account)| {
        let recent = state.engine.progress(&rule.uid)?.recent.into_iter().find(|one| *one.id == *id.0)?;
        Some(found(rule, account, What::Recent(recent)))
    })
}

/// The oldest open firings of a rule, at most `limit`; whole, if memory holds them so.
pub(super) fn oldest(state: &State, rule: &RuleUid, limit: usize) -> Vec<(FiringId, Option<Arc<OpenFiring>>)> {
    let mut open: Vec<_> = state.ledger.open().filter(|(_, brief)| brief.rule == *rule).collect();
    open.sort_by_key(|(_, brief)| brief.input);
    open.into_iter().take(limit).map(|(id, _)| (id.clone(), state.ledger.get(id))).collect()
}

/// The account that the firing acted as, and that could see its event.
pub(super) fn account(open: &OpenFiring) -> Account {
    let namespace = open.firing.rule.namespace.clone();
    Account { namespace, name: open.spec.service_account_name.clone() }
}

pub(super) fn acts_as(open: &OpenFiring, of: &Account) -> bool {
    account(open) == *of
}

/// Why a letter stays where it is.
pub(super) fn not_again(stopped: Option<Stopped>) -> String {
    match stopped {
        Some(Stopped { by, .. }) => {
            format!("{by} has stopped all rules, and nothing would come of its event: try again when it is released")
        }
        None => "the rule is not in force, or suspended: kubectl describe eventrule tells why".to_owned(),
    }
}

/// A dead letter in a list.
pub(super) fn letter(letter: &DeadLetter) -> Value {
    let DeadLetter { open, finished, stamp, unjudged } = letter;
    let mut told = firing(open);
    told["ended"] = json!(stamp.timestamp().to_string());
    told["outcome"] = json!(finished.outcome);
    told["message"] = json!(finished.message);
    told["failedAt"] = json!(finished.failed_at);
    // Of an event that made judging it panic.
    if unjudged.is_some() {
        told["kind"] = json!("Unjudged");
    }
    told
}

/// An open firing in a list.
pub(super) fn open(open: &OpenFiring) -> Value {
    let mut told = firing(open);
    told["outcome"] = json!(FiringOutcome::Running);
    told
}

fn firing(open: &OpenFiring) -> Value {
    json!({
        "id": open.firing.id,
        "time": open.firing.stamp.timestamp().to_string(),
        "group": open.firing.group,
        "event": EventRef::from(&*open.event),
        "actions": steps(open),
    })
}

/// A firing as a tree: event, rule, firing, steps, objects.
pub(super) fn tree(open: &OpenFiring, finished: Option<&Finished>) -> Value {
    let mut told = firing(open);
    told["rule"] = json!(open.firing.rule.to_string());
    told["generation"] = json!(open.firing.generation);
    told["source"] = json!(open.firing.source);
    told["event"] = json!(*open.event);
    told["outcome"] = json!(finished.map_or(FiringOutcome::Running, |finished| finished.outcome));
    told["message"] = json!(finished.map(|finished| &finished.message));
    told["failedAt"] = json!(finished.and_then(|finished| finished.failed_at.as_ref()));
    told
}

/// What is left to tell of a firing that has ended and is kept in status only.
pub(super) fn recent(rule: &RuleRef, recent: &FiringStatus) -> Value {
    let mut told = json!(recent);
    told["rule"] = json!(rule.to_string());
    told
}

/// The steps in the order of the actions, each followed by its parts.
fn steps(open: &OpenFiring) -> Vec<Value> {
    let of_action = |action: &str| {
        let mut steps: Vec<_> = open.steps.iter().filter(|(name, _)| whole(name).0 == action).collect();
        // web.10 comes after web.9
        steps.sort_by_key(|(name, _)| (name.len(), (*name).clone()));
        steps.into_iter().map(|(name, step)| told(name, step)).collect::<Vec<_>>()
    };
    if open.firing.restores.is_some() {
        return open.steps.iter().map(|(name, step)| told(name, step)).collect();
    }
    open.firing.all_actions(&open.spec).flat_map(|action| of_action(&action.name)).collect()
}

fn told(name: &str, step: &Step) -> Value {
    let mut told =
        json!({"name": name, "outcome": step.outcome.unwrap_or(ActionOutcome::Running), "message": step.message});
    if let Some(object) = &step.wrote {
        told["object"] = json!({
            "apiVersion": object.api_version, "kind": object.kind, "namespace": object.namespace, "name": object.name,
            "uid": object.uid, "reason": object.reason,
        });
    }
    told
}
