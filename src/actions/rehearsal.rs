//! Whether the API server would take what an action writes, where no event has a part in that: asked by a dry run, as the rule's account, before anything happens.

use std::sync::Arc;

use serde_json::Value;

use super::{Context, Failure, FailureKind, Services, build, sink};
use crate::{
    api::{self, ActionKind},
    event::Event,
    record::{Account, RuleRef},
};

/// What the dry run is said to be of.
const NAME: &str = "rehearsal";

/// Why the API server would refuse what the action writes. Nothing where it would not; where that depends on an event; and where it cannot be told, as
/// without the right to do it.
pub async fn rehearse(
    services: &Arc<Services>,
    spec: &api::Action,
    rule: &RuleRef,
    account: &Account,
) -> Option<String> {
    let fields = match spec.kind()? {
        ActionKind::Create(create) => serde_json::to_value(create),
        ActionKind::Apply(apply) => serde_json::to_value(apply),
        ActionKind::Patch(patch) if patch.target.from.is_none() && !patch.target.is_several() => {
            serde_json::to_value(patch)
        }
        _ => return None,
    };
    let fields = fields.ok().filter(is_fixed)?;
    let action = build(spec)?;
    let event = Event::new(NAME, NAME, NAME, Value::Null);
    let cx = Context::alone(services, (rule.clone(), account.clone()), (NAME, &spec.name), event);
    let request = match action.render(&cx, &fields).await {
        Ok(request) => request,
        // What is to be patched may be there when its time comes.
        Err(_) if spec.patch.is_some() => return None,
        Err(failure) => return refusal(failure),
    };
    action.observe(&cx, &request).await.err().and_then(refusal)
}

/// What is said of the EventSink that an action needs, where that is not there.
pub fn without_sink(services: &Services, spec: &api::Action, namespace: &str) -> Option<String> {
    let name = match spec.kind()? {
        ActionKind::Notify(notify) => &notify.sink_ref.name,
        ActionKind::Publish(publish) => &publish.sink_ref.name,
        _ => return None,
    };
    services.sinks.get(namespace, name).is_none().then(|| sink::missing(namespace, name))
}

/// Whether nothing is filled in.
fn is_fixed(fields: &Value) -> bool {
    match fields {
        Value::String(text) => !text.contains("${"),
        Value::Array(items) => items.iter().all(is_fixed),
        Value::Object(members) => members.values().all(is_fixed),
        _ => true,
    }
}

/// What the API server says for good, of the object: a missing right is told elsewhere, and a webhook that takes no dry run says nothing of the object.
fn refusal(failure: Failure) -> Option<String> {
    let beside = ["; grant it with: ", "was not enabled for namespace", "does not support dry run"];
    let is_told = failure.kind == FailureKind::Final && !beside.iter().any(|part| failure.message.contains(part));
    is_told.then_some(failure.message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        actions::testing::{common, services},
        kubernetes::fake::{Fake, failure as status},
        record::RuleUid,
    };

    /// What is told of the action, when the API server answers writes so; and whether it was asked.
    async fn told(action: Value, answer: (u16, Value)) -> (Option<String>, bool) {
        let fake = Fake::new(move |seen| match seen.method.as_str() {
            "GET" if seen.path.contains("/deployments/") => (
                200,
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7"}}),
            ),
            "POST" | "PATCH" if seen.query.contains("dryRun=All") => answer.clone(),
            _ => common(seen).unwrap_or_else(|| status(404, "NotFound", "not there")),
        });
        let action = serde_json::from_value(action).expect("an action");
        let rule = RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() };
        let account = Account { namespace: "shop".into(), name: "ops".into() };
        let told = rehearse(&services(&fake), &action, &rule, &account).await;
        let asked = fake.requests().iter().any(|seen| seen.query.contains("dryRun=All"));
        (told, asked)
    }

    fn create(name: &str) -> Value {
        json!({"name": "act", "create": {"manifest": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": {}}}})
    }

    #[tokio::test]
    async fn what_the_api_server_would_refuse_is_told_before_anything_happens() {
        let invalid = || status(422, "Invalid", "spec.selector: Required value");
        let patch = json!({"name": "act", "patch": {"target": {"kind": "Deployment", "name": "web"}, "patch": {"spec": {"replicas": 1}}}});
        for action in [create("web"), patch.clone()] {
            let (refused, asked) = told(action, invalid()).await;
            assert!(
                asked && refused.as_deref().is_some_and(|why| why.ends_with("spec.selector: Required value")),
                "{refused:?}"
            );
        }
        for taken in [
            (200, json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}})),
            status(500, "InternalError", "away"),
            status(409, "AlreadyExists", "it is there"),
            status(400, "BadRequest", "admission webhook \"w\" does not support dry run"),
            status(403, "Forbidden", "replicasets.apps is forbidden: User \"ops\" cannot create"),
        ] {
            let (refused, asked) = told(create("web"), taken).await;
            assert!(asked && refused.is_none(), "{refused:?}");
        }
        let (refused, asked) = told(create("web-${event.id}"), invalid()).await;
        assert!(!asked && refused.is_none(), "an event has a part in it");
        let (refused, _) = told(json!({"name": "act", "patch": {"target": {"kind": "Deployment", "name": "web"}, "patch": {"spec": {"replicas": "${count}"}}}}), invalid()).await;
        assert_eq!(refused, None);
    }
}
