//! `kubectl signalbox deadletters`.

use http::Method;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    Output, json,
    table::{age, of, table},
    way::Way,
};
use crate::api::EventRule;

pub(super) async fn run(way: &Way, rule: Option<&str>, output: Output) -> anyhow::Result<String> {
    let rules = match rule {
        Some(rule) => vec![way.rule(rule).await?],
        None => way.rules().await?.into_iter().filter(has_letters).collect(),
    };
    let mut all = Vec::new();
    for rule in rules {
        let (name, token) = (rule.name_any(), way.token(&rule.spec.service_account_name).await?);
        for mut letter in letters(way, &name, &token).await? {
            letter["rule"] = json!(name);
            all.push(letter);
        }
    }
    if output == Output::Json {
        return Ok(json(&json!({"items": all})));
    }
    if all.is_empty() {
        return Ok(format!("No dead letters in namespace {}.\n", way.namespace));
    }
    let now = Timestamp::now();
    let row = |letter: &Value| {
        let shown = ["group", "failedAt", "message"].map(|key| of(&letter[key]));
        [of(&letter["rule"]), of(&letter["id"]), age(&letter["ended"], now)].into_iter().chain(shown).collect()
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    Ok(table(&["RULE", "FIRING", "AGE", "GROUP", "FAILED AT", "MESSAGE"], &rows))
}

fn has_letters(rule: &EventRule) -> bool {
    rule.status.as_ref().is_some_and(|status| status.counts.dead_lettered > 0)
}

/// All dead letters of the rule, newest first.
pub(super) async fn letters(way: &Way, rule: &str, token: &str) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut query) = (Vec::new(), "?limit=200".to_owned());
    loop {
        let body = way.ask(Method::GET, &["rules", rule, "deadletters"], &query, token).await?.good()?;
        all.extend(body["items"].as_array().cloned().unwrap_or_default());
        match body["continue"].as_str() {
            Some(more) => query = format!("?limit=200&continue={more}"),
            None => return Ok(all),
        }
    }
}
