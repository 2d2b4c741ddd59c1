//! `kubectl signalbox history`.

use std::collections::BTreeMap;

use http::Method;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{
    Output, json,
    table::{age, of, table},
    way::Way,
};

pub(super) async fn run(way: &Way, rule: &str, output: Output) -> anyhow::Result<String> {
    let token = way.token(&way.rule(rule).await?.spec.service_account_name).await?;
    let body = way.ask(Method::GET, &["rules", rule, "history"], "?limit=200", &token).await?.good()?;
    if output == Output::Json {
        return Ok(json(&body));
    }
    let rows = rows(&body, Timestamp::now());
    if rows.is_empty() {
        return Ok(format!("Rule {}/{rule} has not fired yet.\n", way.namespace));
    }
    Ok(table(&["FIRING", "AGE", "OUTCOME", "GROUP", "EVENT", "MESSAGE"], &rows))
}

/// Each firing once, newest first: what is under way is recent as well, and so may a dead letter be.
fn rows(body: &Value, now: Timestamp) -> Vec<Vec<String>> {
    let firings =
        ["deadLetters", "open", "recent"].into_iter().flat_map(|key| body[key].as_array().into_iter().flatten());
    let by_id: BTreeMap<String, &Value> = firings.map(|firing| (of(&firing["id"]), firing)).collect();
    let mut firings: Vec<&Value> = by_id.into_values().collect();
    let time = |firing: &Value| firing["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    firings.sort_by_key(|firing| std::cmp::Reverse(time(firing)));
    let row = |firing: &&Value| {
        let shown = ["outcome", "group"].map(|key| of(&firing[key]));
        let rest = [of(&firing["event"]["id"]), of(&firing["message"])];
        [of(&firing["id"]), age(&firing["time"], now)].into_iter().chain(shown).chain(rest).collect()
    };
    firings.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_firing_is_listed_once_and_the_newest_first() {
        let firing = |id: &str, second: u8| json!({"id": id, "time": format!("2026-11-10T12:00:0{second}Z")});
        let body = json!({"open": [firing("c", 3)], "recent": [firing("c", 3), firing("b", 2)], "deadLetters": [firing("a", 1), firing("b", 2)]});
        let rows = rows(&body, "2026-11-10T12:00:10Z".parse().expect("a time"));
        let ids: Vec<_> = rows.iter().map(|row| (&*row[0], &*row[1])).collect();
        assert_eq!(ids, [("c", "7s"), ("b", "8s"), ("a", "9s")]);
    }
}
