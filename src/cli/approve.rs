//! `kubectl signalbox approve`: writes an annotation of the rule, with the rights and in the name of whoever calls it.

use anyhow::{Context as _, bail};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{Output, json, way::Way};
use crate::{
    api::{ActionKind, ActionOutcome, EventRule, FiringOutcome, FiringStatus},
    kubernetes::{APPROVAL, Approval},
};

/// Approves the step of the firing that waits, or denies it.
pub(super) async fn run(
    way: &Way,
    (name, firing, action): (&str, &str, Option<&str>),
    approved: bool,
    output: Output,
) -> anyhow::Result<String> {
    let rule = way.rule(name).await?;
    let action = match action {
        Some(action) => action.to_owned(),
        None => waiting(&rule, firing)?,
    };
    untaken(&rule, firing)?;
    let by = user(way).await?;
    let approval = Approval { approved, step: format!("{firing}-{action}"), by };
    // Of two who decide at once, one has to look again.
    let version = rule.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": version, "annotations": {APPROVAL: approval.to_string()}}});
    let rules: Api<EventRule> = Api::namespaced(way.client.clone(), &way.namespace);
    match rules.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            bail!("EventRule {}/{name} has just changed: try again", way.namespace)
        }
        Err(kube::Error::Api(status)) if status.code == 403 => bail!(
            "{}\nwho approves needs a Role with the verbs get, patch and approve on eventrules.signalbox.dev; kubectl create role does not know the verb: \
             see deploy/samples/approve.yaml",
            status.message
        ),
        Err(error) => return Err(error).with_context(|| format!("annotate EventRule {}/{name}", way.namespace)),
    }
    let Approval { by, .. } = &approval;
    if output == Output::Json {
        return Ok(json(&json!({"rule": name, "firing": firing, "action": action, "approved": approved, "by": by})));
    }
    let word = if approved { "Approved" } else { "Denied" };
    Ok(format!("{word} action {action} of firing {firing}, rule {}/{name}, as {by}.\n", way.namespace))
}

fn shown<'r>(rule: &'r EventRule, firing: &str) -> Option<&'r FiringStatus> {
    rule.status.as_ref()?.recent.iter().find(|one| one.id == firing)
}

/// The actions of the firing that are waited with.
fn waits<'r>(rule: &'r EventRule, firing: &'r FiringStatus) -> impl Iterator<Item = &'r str> {
    let asks = |name: &str| {
        let named = |action: &&crate::api::Action| action.name == name;
        rule.spec.all_actions().find(named).is_some_and(|action| matches!(action.kind(), Some(ActionKind::Approve(_))))
    };
    let running = firing.actions.iter().filter(|action| action.outcome == ActionOutcome::Running);
    running.map(|action| action.name.as_str()).filter(move |name| asks(name))
}

/// The action of the firing that waits, as the rule's status says; where it does not show the firing, the only one that could.
fn waiting(rule: &EventRule, firing: &str) -> anyhow::Result<String> {
    if let Some(shown) = shown(rule, firing) {
        if shown.outcome != FiringOutcome::Running {
            bail!("firing {firing} has ended: {:?}", shown.outcome);
        }
        let waits = waits(rule, shown).next();
        return waits.map(str::to_owned).with_context(|| {
            format!(
                "firing {firing} waits for no approval now; kubectl signalbox history {} shows how far it is",
                rule.name_any()
            )
        });
    }
    let asks = rule.spec.all_actions().filter(|action| matches!(action.kind(), Some(ActionKind::Approve(_))));
    let names: Vec<&str> = asks.map(|action| action.name.as_str()).collect();
    match names.as_slice() {
        [] => bail!("rule {} has no action that waits for an approval", rule.name_any()),
        [only] => Ok((*only).to_owned()),
        many => bail!(
            "the status of rule {} does not show firing {firing}: say which action is meant, with --action: {}",
            rule.name_any(),
            many.join(", ")
        ),
    }
}

/// Refuses while the annotation still is about another firing that waits: what it says would be lost.
fn untaken(rule: &EventRule, firing: &str) -> anyhow::Result<()> {
    let Some(before) = rule.annotations().get(APPROVAL).and_then(|said| Approval::read(said)) else { return Ok(()) };
    let Some((other, action)) = before.step.split_once('-').filter(|(other, _)| *other != firing) else {
        return Ok(());
    };
    if shown(rule, other).is_some_and(|shown| waits(rule, shown).any(|name| name == action)) {
        bail!("what {} decided about firing {other} was not taken yet: try again when the operator has", before.by);
    }
    Ok(())
}

/// Who calls, as the API server knows him.
async fn user(way: &Way) -> anyhow::Result<String> {
    let reviews: Api<SelfSubjectReview> = Api::all(way.client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let review = review.context("ask the API server who you are")?;
    let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
    user.context("the API server does not say who you are")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn rule(annotation: Option<&str>, recent: Value) -> EventRule {
        let approve = |name: &str| json!({"name": name, "approve": {}});
        let spec = json!({"sources": [{"name": "crash", "kubernetesEvent": {}}], "actions": [approve("first"), approve("second")]});
        let mut rule = json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "metadata": {"name": "web"}, "spec": spec,
            "status": {"recent": recent}});
        if let Some(annotation) = annotation {
            rule["metadata"]["annotations"] = json!({APPROVAL: annotation});
        }
        serde_json::from_value(rule).expect("a rule")
    }

    fn recent(outcome: &str, second: &str) -> Value {
        let action = |name: &str, outcome: &str| json!({"name": name, "outcome": outcome});
        json!([{"id": "f1", "time": "2026-11-29T10:00:00Z", "group": "g", "event": {"id": "1", "type": "t", "source": "s"},
            "outcome": outcome, "actions": [action("first", "Succeeded"), action("second", second)]}])
    }

    #[test]
    fn the_action_that_waits_is_the_one_that_status_shows() {
        assert_eq!(waiting(&rule(None, recent("Running", "Running")), "f1").expect("it waits"), "second");
        for (recent, firing, why) in [
            (recent("Running", "Succeeded"), "f1", "waits for no approval now"),
            (recent("Failed", "Failed"), "f1", "has ended: Failed"),
            (json!([]), "f1", "--action: first, second"),
        ] {
            let said = waiting(&rule(None, recent), firing).expect_err(why).to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn what_somebody_else_decided_is_not_written_over_while_it_is_waited_for() {
        let untaken =
            |said: &str, second: &str, firing: &str| untaken(&rule(Some(said), recent("Running", second)), firing);
        let said = untaken("deny f1-second jane", "Running", "f2").expect_err("not taken yet").to_string();
        assert!(said.contains("jane decided about firing f1"), "{said}");
        untaken("deny f1-second jane", "Running", "f1").expect("the same firing");
        untaken("deny f1-second jane", "Failed", "f2").expect("it was taken");
        untaken("nonsense", "Running", "f2").expect("it says nothing");
    }
}
