//! `kubectl signalbox replay`.

use http::Method;
use serde_json::{Value, json};

use super::{
    Output, deadletters, json,
    table::{of, table},
    way::Way,
};

/// Without a firing, all of the rule: the oldest first, as they came.
pub(super) async fn run(way: &Way, rule: &str, firing: Option<&str>, output: Output) -> anyhow::Result<String> {
    let token = way.token(&way.rule(rule).await?.spec.service_account_name).await?;
    let firings = match firing {
        Some(firing) => vec![firing.to_owned()],
        None => deadletters::letters(way, rule, &token).await?.iter().rev().map(|letter| of(&letter["id"])).collect(),
    };
    let mut replayed: Vec<Value> = Vec::new();
    for firing in firings {
        let path = ["rules", rule, "deadletters", &firing, "replay"];
        let answer = way.ask(Method::POST, &path, "", &token).await.and_then(super::way::Answer::good);
        match answer {
            Ok(body) if body["judged"] == true => replayed.push(json!({"firing": firing, "judgedAgain": true})),
            Ok(body) => replayed.push(json!({"firing": firing, "runsAs": body["firing"]})),
            // What was run again so far is not to be lost from sight.
            Err(error) if replayed.is_empty() => return Err(error),
            Err(error) => anyhow::bail!("{error:#}\n{} were run again before: {}", replayed.len(), json!(replayed)),
        }
    }
    if output == Output::Json {
        return Ok(json(&json!({"items": replayed})));
    }
    if replayed.is_empty() {
        return Ok(format!("Rule {}/{rule} has no dead letters.\n", way.namespace));
    }
    let runs_as =
        |one: &Value| if one["judgedAgain"] == true { "(judged again)".to_owned() } else { of(&one["runsAs"]) };
    let rows: Vec<_> = replayed.iter().map(|one| vec![of(&one["firing"]), runs_as(one)]).collect();
    Ok(table(&["FIRING", "RUNS AGAIN AS"], &rows))
}
