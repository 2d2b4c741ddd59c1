//! `kubectl signalbox rbac`: the Roles that the accounts of rules and EventSources need, and nothing else, as YAML to apply.
//!
//! What is needed is what the operator asks the API server for; which resources kinds are is asked of the API server of the kubeconfig.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context as _, bail};

use super::{End, Shared, files, way};
use crate::{
    actions,
    api::{Action, EventSourceSpec, OnError, Target},
    kubernetes::{Cluster, Right, roles},
    record::Account,
    rule::Rule,
    sources,
};

/// Stands for a name that is filled in.
const FILLED: &str = "filled-in";

pub(super) async fn run(paths: &[PathBuf], shared: &Shared) -> anyhow::Result<End> {
    let client = way::client(shared).await?;
    let namespace = shared.namespace.as_deref().unwrap_or_else(|| client.default_namespace()).to_owned();
    let manifests = files::manifests(paths, &namespace)?;
    if !manifests.faults.is_empty() {
        return Ok(End::bad_input(&manifests.faults));
    }
    if manifests.rules.is_empty() && manifests.event_sources.is_empty() {
        bail!("there is no EventRule and no EventSource in the files");
    }
    let cluster = Cluster::with_client(client);
    let (mut text, mut accounts) = (String::new(), BTreeMap::<Account, Needs<'_>>::new());
    for source in &manifests.event_sources {
        let rights = of_source(&source.spec, &source.namespace);
        let account = Account { namespace: source.namespace.clone(), name: source.spec.service_account_name.clone() };
        if !rights.is_empty() {
            let needs = accounts.entry(account).or_default();
            needs.sources.push(&source.name);
            needs.rights.extend(rights);
        }
    }
    for rule in manifests.rules.iter().map(|manifest| &manifest.rule) {
        let (rights, unknown) = of_rule(&cluster, rule).await;
        for why in unknown {
            let _ = writeln!(text, "# {}: {why}", rule.rule);
        }
        let needs = accounts.entry(rule.account.clone()).or_default();
        needs.rules.push(&rule.rule.name);
        needs.rights.extend(rights);
    }
    for (account, needs) in accounts {
        for role in roles(&needs.role(&account), &account, &needs.rights) {
            let _ = write!(text, "---\n{}", serde_saphyr::to_string(&role).context("write YAML")?);
        }
    }
    Ok(End::Good(text))
}

/// What an account needs, and for whom.
#[derive(Default)]
struct Needs<'a> {
    rules: Vec<&'a str>,
    sources: Vec<&'a str>,
    rights: Vec<Right>,
}

impl Needs<'_> {
    /// One rule gives its own name, several that of their account; so do EventSources where no rule has their account.
    fn role(&self, account: &Account) -> String {
        let (kind, names) = if self.rules.is_empty() { ("source", &self.sources) } else { ("rule", &self.rules) };
        let name: &str = if let [only] = names.as_slice() { only } else { account.name.as_str() };
        format!("signalbox-{kind}-{name}")
    }
}

/// The rights that an EventSource's account needs.
fn of_source(spec: &EventSourceSpec, namespace: &str) -> Vec<Right> {
    let secret = |name: &str| Right::new("get", "", "secrets").within(Some(namespace)).named(name);
    let secrets = spec.secrets().into_iter().map(|key| secret(&key.name));
    secrets.chain(sources::feeds::rights(spec, namespace)).collect()
}

/// The rights that a rule's account needs, and what of them cannot be told.
async fn of_rule(cluster: &Cluster, rule: &Rule) -> (Vec<Right>, Vec<String>) {
    let (mut rights, mut unknown) = sources::rights(cluster, &rule.account, &rule.spec).await;
    let undoes = rule.spec.all_actions().any(|action| action.on_error == OnError::Undo);
    for action in rule.spec.all_actions() {
        if let Some(Target { from: Some(from), .. }) = action.target().filter(|target| !target.is_several()) {
            let why = "leads to is told by the event only: grant what the action does there";
            unknown.push(format!("actions[{}]: what {from:?} {why}", action.name));
        }
        for action in filled(action, &rule.rule.namespace) {
            let to_undo =
                if undoes { actions::undo_rights(&action, cluster, &rule.rule.namespace).await } else { Vec::new() };
            for right in actions::rights(&action, cluster, &rule.rule.namespace).await.into_iter().chain(to_undo) {
                let name = right.name.clone().filter(|name| name != FILLED);
                rights.push(Right { name, ..right });
            }
        }
    }
    (rights, unknown)
}

/// The action with something in the place of what is filled in: for each namespace that it may lead to.
fn filled(action: &Action, namespace: &str) -> Vec<Action> {
    let Some(Target { name, namespace: of_target, allowed_namespaces, .. }) = action.target() else {
        return vec![action.clone()];
    };
    let is_filled = |text: &str| text.contains("${");
    let namespaces: Vec<String> = match of_target.as_deref() {
        Some(one) if is_filled(one) => allowed_namespaces.clone(),
        Some(one) => vec![one.to_owned()],
        None => vec![namespace.to_owned()],
    };
    let name = if is_filled(name) { FILLED } else { name };
    namespaces.iter().map(|namespace| with_target(action.clone(), name, namespace)).collect()
}

fn with_target(mut action: Action, name: &str, namespace: &str) -> Action {
    let targets = [
        action.scale.as_mut().map(|scale| &mut scale.target),
        action.rollout.as_mut().map(|rollout| &mut rollout.target),
        action.patch.as_mut().map(|patch| &mut patch.target),
        action.set_image.as_mut().map(|image| &mut image.target),
        action.delete.as_mut().map(|delete| &mut delete.target),
        action.evict.as_mut().map(|evict| &mut evict.target),
        action.wait.as_mut().and_then(|wait| wait.target.as_mut()),
    ];
    for target in targets.into_iter().flatten().filter(|target| target.from.is_none()) {
        name.clone_into(&mut target.name);
        target.namespace = Some(namespace.to_owned());
    }
    action
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        actions::testing::common,
        kubernetes::fake::{Fake, failure},
        record::{RuleRef, RuleUid},
        rule,
    };

    /// `patch apps deployments/web in shop`
    fn told(right: &Right) -> String {
        let Right { verb, group, resource, subresource, namespace, name } = right;
        let part =
            |part: &Option<String>, before: &str| part.as_ref().map_or(String::new(), |part| format!("{before}{part}"));
        let (sub, name, namespace) = (part(subresource, "."), part(name, "/"), part(namespace, " in "));
        let group = if group.is_empty() { "core" } else { group };
        format!("{verb} {group} {resource}{sub}{name}{namespace}")
    }

    async fn rights(action: serde_json::Value) -> Vec<String> {
        let spec = json!({"sources": [{"name": "night", "schedule": {"cron": "0 3 * * *"}}], "actions": [action]});
        let spec = Arc::new(serde_json::from_value(spec).expect("a spec"));
        let rule = RuleRef { uid: RuleUid("u".into()), namespace: "shop".into(), name: "web".into() };
        let rule = rule::compile(&rule, 1, &spec).expect("a rule");
        let fake = Fake::new(|seen| common(seen).unwrap_or_else(|| failure(404, "NotFound", "not there")));
        let (rights, unknown) = of_rule(&Cluster::with_client(fake.client()), &rule).await;
        assert_eq!(unknown, Vec::<String>::new());
        rights.iter().map(told).collect()
    }

    #[test]
    fn a_source_needs_its_secrets_and_what_it_reads_of_pods() {
        let of = |spec: serde_json::Value| -> Vec<String> {
            let spec: EventSourceSpec = serde_json::from_value(spec).expect("a spec");
            of_source(&spec, "shop").iter().map(told).collect()
        };
        let logs = json!({"podLogs": {"selector": {}, "pattern": "failed"}});
        assert_eq!(of(logs), ["list core pods in shop", "watch core pods in shop", "get core pods.log in shop"]);
        let key = json!({"name": "redis", "key": "password"});
        let stream = json!({"redis": {"server": "redis", "stream": "jobs", "auth": {"passwordSecretRef": key}}});
        assert_eq!(of(stream), ["get core secrets/redis in shop"]);
        let account = Account { namespace: "shop".into(), name: "ops".into() };
        let role = |rules: Vec<&'static str>, sources| Needs { rules, sources, rights: Vec::new() }.role(&account);
        assert_eq!(role(vec![], vec!["talk"]), "signalbox-source-talk");
        assert_eq!(role(vec!["web"], vec!["talk"]), "signalbox-rule-web");
        assert_eq!(role(vec!["web", "api"], vec![]), "signalbox-rule-ops");
    }

    #[tokio::test]
    async fn what_is_done_with_objects_and_nodes_is_granted_and_nothing_else() {
        let manifest = |namespace: &str| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace}});
        let pod = json!({"kind": "Pod", "name": "${event.data.name}"});
        let web = json!({"kind": "Deployment", "name": "web"});
        for (kind, spec, granted) in [
            (
                "apply",
                json!({"manifest": manifest("shop")}),
                vec![
                    "get apps deployments/web in shop",
                    "create apps deployments in shop",
                    "patch apps deployments/web in shop",
                ],
            ),
            (
                "create",
                json!({"manifest": manifest("${event.data.namespace}"), "allowedNamespaces": ["a"]}),
                vec!["create apps deployments in a", "get apps deployments/web in a"],
            ),
            (
                "delete",
                json!({"target": web}),
                vec!["get apps deployments/web in shop", "delete apps deployments/web in shop"],
            ),
            (
                "setImage",
                json!({"target": web, "container": "web", "image": "e.com/web:2"}),
                vec!["get apps deployments/web in shop", "patch apps deployments/web in shop"],
            ),
            ("evict", json!({"target": pod}), vec!["get core pods in shop", "create core pods.eviction in shop"]),
            (
                "drain",
                json!({"node": "n1"}),
                vec!["get core nodes/n1", "patch core nodes/n1", "list core pods", "create core pods.eviction"],
            ),
            ("cordon", json!({}), vec!["get core nodes", "patch core nodes"]),
            ("uncordon", json!({"node": "n1"}), vec!["get core nodes/n1", "patch core nodes/n1"]),
            ("taint", json!({"node": "n1", "key": "e.com/x"}), vec!["get core nodes/n1", "patch core nodes/n1"]),
        ] {
            assert_eq!(rights(json!({"name": "act", kind: spec})).await, granted, "{kind}");
        }
        let undone = json!({"name": "act", "create": {"manifest": manifest("shop")}, "onError": "Undo"});
        assert!(rights(undone).await.contains(&"delete apps deployments/web in shop".to_owned()), "to take it back");
    }
}
