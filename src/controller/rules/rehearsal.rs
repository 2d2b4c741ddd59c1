//! Whether the EventSinks of rules are there, and the API server would take what their actions write, so that what is wrong is told before anything happens.
//!
//! Nothing waits for it: a rule whose manifest would be refused is in force, and its firings fail.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{PATIENCE, Rules, Tracked, Version};
use crate::{
    actions::{self, Services},
    api::{Action, EventRuleSpec},
    record::{Account, RuleRef},
    status::{Foreseen, Part},
    text,
};

/// What would be refused is asked for again after so long: the kind may be new, or a webhook of another mind.
const AGAIN: Duration = Duration::from_secs(60);
/// A sink that is not there is looked for again after so long: it costs nothing, and many come right after their rule.
const SOON: Duration = Duration::from_secs(3);
/// Rules that are looked at each second, those first that have waited longest. What else is to be done for rules waits meanwhile, for 20 s where a webhook
/// answers nothing.
const AT_ONCE: usize = 16;
/// Rules that are looked at beside each other.
const BESIDE: usize = 8;

impl Rules {
    /// Asks about the rules whose turn it is, once for each version; only those whose account has the rights.
    pub(super) async fn rehearse(&mut self, now: Instant) {
        let is_ready = |tracked: &Tracked| tracked.rights_at.is_some() && tracked.granted && tracked.wanted.is_some();
        let looks = self.due(now, AT_ONCE, |tracked| tracked.rehearse_at.filter(|_| is_ready(tracked)));
        let services = &self.services;
        let look = async |(uid, rule, version): (String, RuleRef, Version)| {
            let answer = match without_sinks(services, &rule, &version.spec) {
                Some(missing) => Some(Some(missing)),
                None => tokio::time::timeout(PATIENCE, refused(services, &rule, &version.spec)).await.ok(),
            };
            (uid, rule, version.generation, answer)
        };
        let answers: Vec<_> = stream::iter(looks).map(look).buffer_unordered(BESIDE).collect().await;
        for (uid, rule, generation, answer) in answers {
            let Some(tracked) = self.rules.get_mut(&uid) else { continue };
            tracked.rehearse_at = match &answer {
                Some(None) => None,
                Some(Some(Foreseen::WithoutSink(_))) => Some(now + SOON),
                Some(Some(Foreseen::Refused(_))) | None => Some(now + AGAIN),
            };
            if let Some(fails) = answer {
                self.status.publish(&rule, Part::Rehearsed { generation, fails });
            }
        }
    }
}

/// The actions whose EventSinks are not there.
fn without_sinks(services: &Services, rule: &RuleRef, spec: &EventRuleSpec) -> Option<Foreseen> {
    let why = |action: &Action| {
        let missing = actions::without_sink(services, action, &rule.namespace)?;
        Some(format!("action {}: {missing}", action.name))
    };
    let missing: Vec<String> = spec.all_actions().filter_map(why).collect();
    (!missing.is_empty()).then(|| Foreseen::WithoutSink(text::join(missing)))
}

/// What of the actions the API server would refuse, with its words.
async fn refused(services: &Arc<Services>, rule: &RuleRef, spec: &EventRuleSpec) -> Option<Foreseen> {
    let account = Account { namespace: rule.namespace.clone(), name: spec.service_account_name.clone() };
    let mut refused = Vec::new();
    for action in spec.all_actions() {
        let why = actions::rehearse(services, action, rule, &account).await;
        refused.extend(why.map(|why| format!("action {}: {why}", action.name)));
        // What comes after it may be refused for no other reason than that this is not there yet.
        if makes_room(action) {
            break;
        }
    }
    (!refused.is_empty()).then(|| Foreseen::Refused(text::join(refused)))
}

/// Whether later actions may write into what this one makes: a namespace, or a kind.
fn makes_room(action: &Action) -> bool {
    let created = action.create.as_deref().map(|create| &create.manifest);
    let made = created.or_else(|| action.apply.as_deref().map(|apply| &apply.manifest));
    made.is_some_and(|manifest| manifest["kind"] == "Namespace" || manifest["kind"] == "CustomResourceDefinition")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_namespace_and_a_kind_are_made_for_what_comes_after() {
        let makes = |way: &str, kind: &str| {
            let manifest = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}});
            let action =
                serde_json::from_value(json!({"name": "act", way: {"manifest": manifest}})).expect("an action");
            makes_room(&action)
        };
        assert!(makes("create", "Namespace") && makes("apply", "Namespace"));
        assert!(makes("apply", "CustomResourceDefinition") && !makes("create", "ConfigMap"));
    }
}
