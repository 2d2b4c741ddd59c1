//! What is to be said of a rule before it is taken: its faults, and the rights that its account lacks.

use super::{Object, decode, rules};
use crate::{
    kubernetes::{Cluster, merged},
    record::{Account, RuleRef, RuleUid},
    sources,
};

/// Faults, by which it would not be in force, and warnings of a rule given as JSON. Missing rights are only told: they may be given later.
pub async fn opinion(cluster: &Cluster, object: &str) -> (Vec<String>, Vec<String>) {
    let object: Object = match serde_json::from_str(object) {
        Ok(object) => object,
        Err(error) => return (vec![format!("the object cannot be read: {error}")], Vec::new()),
    };
    let (namespace, name) = decode::placed(&object);
    // It has no uid before it is made, and faults do not depend on it.
    let rule = RuleRef { uid: RuleUid(format!("{namespace}/{name}").into()), namespace, name };
    let spec = match rules::compiled(&rule, 0, &object) {
        Ok(spec) => spec,
        Err(faults) => return (faults, Vec::new()),
    };
    let account = Account { namespace: rule.namespace.clone(), name: spec.service_account_name.clone() };
    let (wanted, mut warnings) = sources::rights(cluster, &account, &spec).await;
    let mut missing = rules::missing(cluster, &rule, &spec).await.unwrap_or_default();
    for right in wanted {
        if !cluster.may(&account, &right).await.unwrap_or(true) {
            missing.push(right.missing_for(&account));
        }
    }
    warnings.extend(merged(missing).iter().map(ToString::to_string));
    (Vec::new(), warnings)
}
