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

/// Decisions that are kept in the annotation, at most: of some 120 bytes each.
const MOST: usize = 256;

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
    let by = user(way).await?;
    let approval = Approval { approved, step: format!("{firing}-{action}"), by };
    let said = with_those_before(&rule, &approval)?;
    // Of two who decide at once, one has to look again.
    let version = rule.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": version, "annotations": {APPROVAL: said}}});
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

/// The annotation with this approval added. What others have decided stays, unless its firing has ended as status shows; of decisions about firings that
/// status does not show the last are kept.
fn with_those_before(rule: &EventRule, approval: &Approval) -> anyhow::Result<String> {
    let before = Approval::all(rule.annotations().get(APPROVAL).map_or("", String::as_str));
    let is_open = |said: &Approval| {
        let Some((firing, action)) = said.step.split_once('-') else { return false };
        shown(rule, firing).is_none_or(|shown| waits(rule, shown).any(|name| name == action))
    };
    let mut kept: Vec<Approval> =
        before.into_iter().filter(|said| said.step != approval.step && is_open(said)).collect();
    let shown_and_open =
        |said: &Approval| said.step.split_once('-').is_some_and(|(firing, _)| shown(rule, firing).is_some());
    while kept.len() >= MOST {
        let oldest = kept.iter().position(|said| !shown_and_open(said));
        let Some(oldest) = oldest else {
            bail!("{MOST} decisions about firings of the rule were not taken yet: try again when the operator has")
        };
        kept.remove(oldest);
    }
    kept.push(approval.clone());
    Ok(kept.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Who calls, as the API server knows him.
pub(super) async fn user(way: &Way) -> anyhow::Result<String> {
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
    fn what_somebody_else_decided_stays_while_it_may_be_waited_for() {
        let said = |before: &str, second: &str, step: &str| {
            let approval = Approval { approved: true, step: step.into(), by: "kim".into() };
            with_those_before(&rule(Some(before), recent("Running", second)), &approval).expect("there is room")
        };
        assert_eq!(said("deny f1-second jane", "Running", "f2-first"), "deny f1-second jane\napprove f2-first kim");
        assert_eq!(said("deny f1-second jane", "Failed", "f2-first"), "approve f2-first kim", "it was taken");
        // Status shows the last firings only.
        assert_eq!(said("deny f0-first jane", "Running", "f2-first"), "deny f0-first jane\napprove f2-first kim");
        assert_eq!(said("deny f2-first jane", "Running", "f2-first"), "approve f2-first kim");
        assert_eq!(said("nonsense", "Running", "f2-first"), "approve f2-first kim");
        let many: String = (0..2 * MOST).map(|number| format!("deny o{number}-first jane\n")).collect();
        let kept = said(&format!("deny f1-second jane\n{many}"), "Running", "f2-first");
        assert_eq!(kept.lines().count(), MOST);
        assert!(kept.starts_with("deny f1-second jane\n") && kept.ends_with("approve f2-first kim"));
    }
}
