//! Roles that grant what an account needs, and nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Right;
use crate::record::Account;

/// Resource and name: what verbs are gathered for.
type Thing = (String, String, Option<String>);

/// Roles, ClusterRoles and their bindings, as objects to apply: one pair for each namespace, and one for the whole cluster. Their names begin with `name`.
pub fn roles(name: &str, account: &Account, rights: &[Right]) -> Vec<Value> {
    let mut scopes: BTreeMap<Option<&str>, BTreeMap<Thing, Vec<&str>>> = BTreeMap::new();
    for right in rights {
        let resource = match &right.subresource {
            Some(sub) => format!("{}/{sub}", right.resource),
            None => right.resource.clone(),
        };
        let things = scopes.entry(right.namespace.as_deref()).or_default();
        let verbs = things.entry((right.group.clone(), resource, right.name.clone())).or_default();
        if !verbs.contains(&right.verb.as_str()) {
            verbs.push(&right.verb);
        }
    }
    // What is granted on all objects of a kind need not be granted on one.
    for things in scopes.values_mut() {
        let on_all: Vec<_> = things
            .iter()
            .filter(|((.., name), _)| name.is_none())
            .map(|(thing, verbs)| (thing.clone(), verbs.clone()))
            .collect();
        for ((group, resource, name), verbs) in things.iter_mut().filter(|((.., name), _)| name.is_some()) {
            let same = on_all.iter().filter(|((of, kind, _), _)| of == group && kind == resource && name.is_some());
            let granted: Vec<&str> = same.flat_map(|(_, verbs)| verbs.iter().copied()).collect();
            verbs.retain(|verb| !granted.contains(verb));
        }
        things.retain(|_, verbs| !verbs.is_empty());
    }
    scopes.into_iter().flat_map(|(namespace, things)| pair(name, account, namespace, &things)).collect()
}

fn pair(name: &str, account: &Account, namespace: Option<&str>, things: &BTreeMap<Thing, Vec<&str>>) -> [Value; 2] {
    let rules: Vec<Value> = things
        .iter()
        .map(|((group, resource, name), verbs)| {
            let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
            if let Some(name) = name {
                rule["resourceNames"] = json!([name]);
            }
            rule
        })
        .collect();
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    // In other namespaces and in the cluster there may be accounts of the same name.
    let name =
        if namespace == Some(&account.namespace) { name.to_owned() } else { format!("{}-{name}", account.namespace) };
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let version = "rbac.authorization.k8s.io/v1";
    let subject = json!({"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace});
    [
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules}),
        json!({
            "apiVersion": version,
            "kind": format!("{kind}Binding"),
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [subject],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_gathered_and_what_all_objects_have_is_not_granted_twice() {
        let account = Account { namespace: "shop".into(), name: "ops".into() };
        let shop = |verb: &str, resource: &str| Right::new(verb, "apps", resource).within(Some("shop"));
        let rights = [
            shop("list", "deployments"),
            shop("watch", "deployments"),
            shop("list", "deployments"),
            shop("get", "deployments").named("web"),
            shop("list", "deployments").named("web"),
            shop("patch", "deployments").on("scale").named("web"),
            Right::new("list", "", "nodes"),
        ];
        let roles = roles("signalbox-web", &account, &rights);
        let kinds: Vec<_> = roles.iter().map(|role| format!("{} {}", role["kind"], role["metadata"]["name"])).collect();
        assert_eq!(
            kinds,
            [
                r#""ClusterRole" "shop-signalbox-web""#,
                r#""ClusterRoleBinding" "shop-signalbox-web""#,
                r#""Role" "signalbox-web""#,
                r#""RoleBinding" "signalbox-web""#
            ]
        );
        let expected = json!([
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]},
            {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["get"]},
            {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": ["web"], "verbs": ["patch"]},
        ]);
        assert_eq!(roles[2]["rules"], expected);
        assert_eq!(roles[3]["subjects"], json!([{"kind": "ServiceAccount", "name": "ops", "namespace": "shop"}]));
    }
}
