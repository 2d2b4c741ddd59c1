//! `kubectl signalbox rbac`: the Roles that the accounts of rules need, and nothing else, as YAML to apply.
//!
//! What is needed is what the operator asks the API server for; which resources kinds are is asked of the API server of the kubeconfig.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::Context as _;

use super::{End, files};
use crate::{
    actions,
    api::{Action, OnError, Target},
    kubernetes::{Cluster, Right, client_of_person, roles},
    record::Account,
    rule::Rule,
    sources,
};

/// Stands for a name that is filled in.
const FILLED: &str = "filled-in";

pub(super) async fn run(paths: &[PathBuf], namespace: Option<&str>) -> anyhow::Result<End> {
    let client = client_of_person().await.context("read the kubeconfig")?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
    let rules = match files::rules(paths, &namespace)? {
        Ok(rules) => rules,
        Err(end) => return Ok(end),
    };
    let cluster = Cluster::with_client(client);
    let (mut text, mut accounts) = (String::new(), BTreeMap::<Account, (Vec<&str>, Vec<Right>)>::new());
    for rule in &rules {
        let (rights, unknown) = of_rule(&cluster, rule).await;
        for why in unknown {
            let _ = writeln!(text, "# {}: {why}", rule.rule);
        }
        let (names, all) = accounts.entry(rule.account.clone()).or_default();
        names.push(&rule.rule.name);
        all.extend(rights);
    }
    for (account, (names, rights)) in accounts {
        // One rule gives its own name, several that of their account.
        let name = if let [only] = names.as_slice() { only } else { account.name.as_str() };
        for role in roles(&format!("signalbox-rule-{name}"), &account, &rights) {
            let _ = write!(text, "---\n{}", serde_saphyr::to_string(&role).context("write YAML")?);
        }
    }
    Ok(End::Good(text))
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
