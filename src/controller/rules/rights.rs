//! Whether accounts may do what the actions of their rules do, so that a missing right is told before anything happens.
//!
//! Nothing waits for it: a rule without a right is in force, and its firings fail.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{PATIENCE, Rules, Version};
use crate::{
    actions,
    api::{EventRuleSpec, OnError},
    kubernetes::{Cluster, MissingRight, merged},
    record::{Account, RuleRef},
    status::Part,
    text,
};

/// Rights that are there are looked at again after so long.
const GRANTED: Duration = Duration::from_secs(60);
/// Rights that are missing are looked at again after so long.
const DENIED: Duration = Duration::from_secs(10);
/// Rules that are looked at each second: with two rights each about 60 questions a second, however many rules there are.
const AT_ONCE: usize = 32;
/// Rules that are looked at beside each other.
const BESIDE: usize = 8;

impl Rules {
    /// Looks at the rules whose turn it is, those first that have waited longest.
    pub(super) async fn look_at_rights(&mut self, now: Instant) {
        let looks = self.due(now, AT_ONCE, |tracked| tracked.rights_at);
        let cluster = &self.cluster;
        let look = async |(uid, rule, version): (String, RuleRef, Version)| {
            let answer = tokio::time::timeout(PATIENCE, missing(cluster, &rule, &version.spec)).await;
            (uid, rule, version.generation, answer.ok().and_then(Result::ok))
        };
        let answers: Vec<_> = stream::iter(looks).map(look).buffer_unordered(BESIDE).collect().await;
        for (uid, rule, generation, answer) in answers {
            let Some(tracked) = self.rules.get_mut(&uid) else { continue };
            let granted = answer.as_ref().is_some_and(Vec::is_empty);
            tracked.rights_at = Some(now + if granted { GRANTED } else { DENIED });
            // An API server that does not answer takes nothing back.
            let Some(answer) = answer else { continue };
            tracked.granted = granted;
            let missing = (!granted).then(|| text::join(merged(answer)));
            self.status.publish(&rule, Part::Rights { generation, missing });
        }
    }
}

/// What the account of a rule lacks of what the actions need.
pub(in crate::controller) async fn missing(
    cluster: &Cluster,
    rule: &RuleRef,
    spec: &EventRuleSpec,
) -> Result<Vec<MissingRight>, kube::Error> {
    let account = Account { namespace: rule.namespace.clone(), name: spec.service_account_name.clone() };
    let mut missing = Vec::new();
    let undoes = spec.all_actions().any(|action| action.on_error == OnError::Undo);
    for action in spec.all_actions() {
        let to_undo = if undoes { actions::undo_rights(action, cluster, &rule.namespace).await } else { Vec::new() };
        for right in actions::rights(action, cluster, &rule.namespace).await.into_iter().chain(to_undo) {
            if !cluster.may(&account, &right).await? {
                missing.push(right.missing_for(&account));
            }
        }
    }
    Ok(missing)
}
