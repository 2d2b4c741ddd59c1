//! What is to be said of a rule before it is taken: its faults, and the rights that its account lacks.

use std::sync::Arc;

use super::{Object, decode, rules};
use crate::{
    api::EventRuleSpec,
    kubernetes::{Cluster, merged},
    record::{Account, RuleRef, RuleUid},
    sources,
};

/// A rule that somebody wants to write, compiled.
pub struct Asked {
    rule: RuleRef,
    spec: Arc<EventRuleSpec>,
}

/// Compiles a rule that is given as JSON. It may take a while: call it where nothing waits for the thread.
///
/// # Errors
/// The faults by which it would not be in force.
pub fn asked(object: &str) -> Result<Asked, Vec<String>> {
    let object: Object =
        serde_json::from_str(object).map_err(|error| vec![format!("the object cannot be read: {error}")])?;
    let (namespace, name) = decode::placed(&object);
    // It has no uid before it is made, and faults do not depend on it.
    let rule = RuleRef { uid: RuleUid(format!("{namespace}/{name}").into()), namespace, name };
    let spec = rules::compiled(&rule, 0, &object)?;
    Ok(Asked { rule, spec })
}

/// What its author is to be told of a rule all the same. Missing rights are only told: they may be given later.
pub async fn warnings(cluster: &Cluster, asked: &Asked) -> Vec<String> {
    let Asked { rule, spec } = asked;
    let account = Account { namespace: rule.namespace.clone(), name: spec.service_account_name.clone() };
    let (wanted, mut warnings) = sources::rights(cluster, &account, spec).await;
    let mut missing = rules::missing(cluster, rule, spec).await.unwrap_or_default();
    for right in wanted {
        if !cluster.may(&account, &right).await.unwrap_or(true) {
            missing.push(right.missing_for(&account));
        }
    }
    warnings.extend(merged(missing).iter().map(ToString::to_string));
    warnings
}
