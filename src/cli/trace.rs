//! `kubectl signalbox trace`.

use std::collections::BTreeSet;

use anyhow::bail;
use http::Method;
use serde_json::Value;

use super::{
    Output, json,
    table::{of, plain},
    way::Way,
};

/// Accounts that are tried when no rule is named.
const ACCOUNTS: usize = 20;

pub(super) async fn run(way: &Way, firing: &str, rule: Option<&str>, output: Output) -> anyhow::Result<String> {
    let accounts: BTreeSet<String> = match rule {
        Some(rule) => BTreeSet::from([way.rule(rule).await?.spec.service_account_name]),
        None => way.rules().await?.into_iter().map(|rule| rule.spec.service_account_name).collect(),
    };
    let mut last = None;
    for account in accounts.iter().take(ACCOUNTS) {
        let asked = async {
            let token = way.token(account).await?;
            way.ask(Method::GET, &["firings", firing], "", &token).await?.good()
        };
        match asked.await {
            Ok(body) => return Ok(if output == Output::Json { json(&body) } else { tree(&body) }),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if accounts.len() == 1 => Err(error),
        Some(error) => bail!("no account of {} rules may see firing {firing}; the last one: {error:#}", way.namespace),
        None => bail!("namespace {} has no rules (-n)", way.namespace),
    }
}

fn tree(body: &Value) -> String {
    let event = &body["event"];
    let about = event["subject"].as_str().unwrap_or_default();
    let mut lines = vec![
        format!("event {} {} {}", of(&event["type"]), of(&event["id"]), about),
        format!("└─ rule {} for {}", of(&body["rule"]), of(&body["group"])),
        format!("   └─ firing {} {} {}", of(&body["id"]), of(&body["outcome"]), of(&body["message"])),
    ];
    let steps = body["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (number, step) in steps.iter().enumerate() {
        let (branch, below) = if number + 1 == steps.len() { ("└─", "  ") } else { ("├─", "│ ") };
        lines.push(format!(
            "      {branch} {} {} {}",
            of(&step["name"]),
            of(&step["outcome"]),
            plain(&of(&step["message"]))
        ));
        if let Some(object) = step.get("object") {
            let place = object["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            let (kind, name) = (of(&object["kind"]), of(&object["name"]));
            lines.push(format!("      {below} └─ {kind} {place}{name} ({})", of(&object["reason"])));
        }
    }
    lines.iter().map(|line| format!("{}\n", shown(line))).collect()
}

/// What would command a terminal is left out.
fn shown(line: &str) -> String {
    line.chars().map(|one| if one.is_control() { ' ' } else { one }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_firing_is_a_tree_from_its_event_to_the_objects() {
        let body = json!({
            "event": {"id": "u/1", "type": "t", "subject": "shop/Pod/p"}, "rule": "shop/web", "group": "g",
            "id": "f", "outcome": "Failed", "message": "no\u{1b}[2J",
            "actions": [
                {"name": "grow", "outcome": "Succeeded", "message": "1 to 2",
                    "object": {"kind": "Deployment", "namespace": "shop", "name": "web", "reason": "ScaledByRule"}},
                {"name": "tell", "outcome": "Failed", "message": "no"},
            ],
        });
        let wanted = "event t u/1 shop/Pod/p\n\
                      └─ rule shop/web for g\n   \
                         └─ firing f Failed no [2J\n      \
                            ├─ grow Succeeded 1 to 2\n      \
                            │  └─ Deployment shop/web (ScaledByRule)\n      \
                            └─ tell Failed no\n";
        assert_eq!(tree(&body), wanted);
    }
}
