//! Rights as Roles grant them, and what to say when one is missing.

use std::fmt;

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::record::Account;

/// Something that a Role can grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// Verb, such as `list`.
    pub verb: String,
    /// API group; empty: core.
    pub group: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Subresource, such as `scale`.
    pub subresource: Option<String>,
    /// The namespace; nothing for the whole cluster, and for resources that have none.
    pub namespace: Option<String>,
    /// Name of the one object; nothing for all.
    pub name: Option<String>,
}

impl Right {
    /// The right on all objects in the whole cluster; narrow it with the methods below.
    pub fn new(verb: &str, group: &str, resource: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: None,
            namespace: None,
            name: None,
        }
    }

    /// On the subresource only.
    #[must_use]
    pub fn on(self, subresource: &str) -> Self {
        Self { subresource: Some(subresource.to_owned()), ..self }
    }

    /// In the namespace only; `None` leaves the whole cluster.
    #[must_use]
    pub fn within(self, namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), ..self }
    }

    /// For the one object only.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// The error of an account that lacks it.
    pub fn missing_for(self, account: &Account) -> MissingRight {
        MissingRight { account: account.clone(), right: self }
    }

    /// As `kubectl create role --resource` takes it: `deployments.apps/scale`.
    fn resource(&self) -> String {
        let mut text = self.resource.clone();
        if !self.group.is_empty() {
            text = format!("{text}.{}", self.group);
        }
        match &self.subresource {
            Some(sub) => format!("{text}/{sub}"),
            None => text,
        }
    }

    pub(super) fn attributes(&self) -> ResourceAttributes {
        ResourceAttributes {
            verb: Some(self.verb.clone()),
            group: Some(self.group.clone()),
            resource: Some(self.resource.clone()),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..ResourceAttributes::default()
        }
    }
}

/// Rights on the same thing as one, with all their verbs: one Role grants them.
pub fn merged(missing: impl IntoIterator<Item = MissingRight>) -> Vec<MissingRight> {
    let mut all: Vec<MissingRight> = Vec::new();
    for one in missing {
        let same = |known: &&mut MissingRight| {
            let verb = known.right.verb.clone();
            known.account == one.account && known.right == Right { verb, ..one.right.clone() }
        };
        match all.iter_mut().find(same) {
            None => all.push(one),
            Some(known) if known.right.verb.split(',').any(|verb| verb == one.right.verb) => {}
            Some(known) => known.right.verb = format!("{},{}", known.right.verb, one.right.verb),
        }
    }
    all
}

/// An account lacks a right. Displays who may not do what where, and the lines that would grant it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct MissingRight {
    /// Who.
    pub account: Account,
    /// What.
    pub right: Right,
}

impl MissingRight {
    /// Name for the role: account, verb, resource. An account that is granted something outside its namespace is named with it.
    fn role(&self) -> String {
        let Right { verb, resource, subresource, namespace, name, .. } = &self.right;
        let mut parts = vec![self.account.name.as_str(), verb, resource];
        parts.extend(subresource.as_deref());
        parts.extend(name.as_deref());
        if namespace.as_ref() != Some(&self.account.namespace) {
            parts.insert(0, &self.account.namespace);
        }
        parts.join("-").replace(',', "-")
    }
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Account { namespace: home, name: who }, right) = (&self.account, &self.right);
        let (verb, resource, role) = (&right.verb, right.resource(), self.role());
        write!(f, "ServiceAccount {home}/{who} may not {} {resource}", verb.replace(',', ", "))?;
        if let Some(name) = &right.name {
            write!(f, " {name}")?;
        }
        let (kind, scope) = match &right.namespace {
            Some(namespace) => {
                write!(f, " in namespace {namespace}")?;
                ("role", format!(" -n {namespace}"))
            }
            None => {
                write!(f, " in the whole cluster")?;
                ("clusterrole", String::new())
            }
        };
        let only = right.name.as_ref().map(|name| format!(" --resource-name={name}")).unwrap_or_default();
        write!(
            f,
            "; grant it with: kubectl create {kind} {role}{scope} --verb={verb} --resource={resource}{only} && \
             kubectl create {kind}binding {role}{scope} --{kind}={role} --serviceaccount={home}:{who}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { namespace: "shop".into(), name: "shop-ops".into() }
    }

    #[test]
    fn verbs_on_the_same_thing_are_told_as_one_role() {
        let missing =
            |verb: &str, resource: &str| Right::new(verb, "", resource).within(Some("shop")).missing_for(&account());
        let all = merged([
            missing("list", "events"),
            missing("get", "pods"),
            missing("watch", "events"),
            missing("list", "events"),
        ]);
        assert_eq!(all.len(), 2);
        let said = all[0].to_string();
        assert!(
            said.contains("may not list, watch events in") && said.contains("--verb=list,watch --resource=events"),
            "{said}"
        );
        assert!(said.contains("create role shop-ops-list-watch-events "), "{said}");
    }

    #[test]
    fn a_missing_right_says_who_what_where_and_the_lines_that_grant_it() {
        let right = Right::new("patch", "apps", "deployments").on("scale").within(Some("shop"));
        assert_eq!(
            right.missing_for(&account()).to_string(),
            "ServiceAccount shop/shop-ops may not patch deployments.apps/scale in namespace shop; grant it with: \
             kubectl create role shop-ops-patch-deployments-scale -n shop --verb=patch --resource=deployments.apps/scale && \
             kubectl create rolebinding shop-ops-patch-deployments-scale -n shop --role=shop-ops-patch-deployments-scale \
             --serviceaccount=shop:shop-ops"
        );
        assert_eq!(
            Right::new("list", "", "pods").missing_for(&account()).to_string(),
            "ServiceAccount shop/shop-ops may not list pods in the whole cluster; grant it with: \
             kubectl create clusterrole shop-shop-ops-list-pods --verb=list --resource=pods && \
             kubectl create clusterrolebinding shop-shop-ops-list-pods --clusterrole=shop-shop-ops-list-pods \
             --serviceaccount=shop:shop-ops"
        );
        let secret = Right::new("get", "", "secrets").within(Some("shop")).named("slack").missing_for(&account());
        assert!(secret.to_string().contains("--resource=secrets --resource-name=slack"), "{secret}");
        assert!(secret.to_string().contains("may not get secrets slack in namespace shop"), "{secret}");
    }
}
