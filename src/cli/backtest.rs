//! `kubectl signalbox backtest`: when a rule would have fired, for events that really happened.

use std::{fmt::Write as _, path::PathBuf};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{End, Output, files, table::table};
use crate::trial::{self, Backtest, Tried};

pub(super) fn run(
    rules: &[PathBuf],
    events: &[PathBuf],
    rule: Option<&str>,
    namespace: &str,
    output: Output,
) -> anyhow::Result<End> {
    let rules = match files::rules(rules, namespace)? {
        Ok(rules) => rules,
        Err(end) => return Ok(end),
    };
    let rule = files::one(&rules, rule)?;
    let mut all = Vec::new();
    for path in events {
        for value in files::dump(path)? {
            all.extend(trial::read(value).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?);
        }
    }
    let backtest = trial::backtest(rule, all)?;
    Ok(End::Good(if output == Output::Json { super::json(&as_json(&backtest)) } else { as_table(&backtest) }))
}

/// When a firing would have been.
fn time(backtest: &Backtest, firing: &Tried) -> String {
    let start = backtest.span.map_or(Timestamp::UNIX_EPOCH, |(first, _)| first);
    start.checked_add(SignedDuration::from_micros(firing.at)).map(|time| time.to_string()).unwrap_or_default()
}

fn as_table(backtest: &Backtest) -> String {
    let row = |tried: &Tried| {
        let count = tried.firing.count.map(|count| count.to_string()).unwrap_or_default();
        let kind = format!("{:?}", tried.firing.kind);
        vec![time(backtest, tried), kind, tried.firing.source.clone(), count, tried.firing.group.clone()]
    };
    let rows: Vec<_> = backtest.firings.iter().map(row).collect();
    let mut text =
        if rows.is_empty() { String::new() } else { table(&["TIME", "KIND", "SOURCE", "COUNT", "GROUP"], &rows) };
    let (events, left_out) = backtest.events;
    let span = backtest.span.map(|(first, last)| format!(" from {first} to {last}")).unwrap_or_default();
    let _ = writeln!(text, "{events} events{span}; {left_out} without a time were left out");
    let counts = &backtest.counts;
    let _ = writeln!(
        text,
        "seen {}, matched {}, fired {}, expressions that failed {}",
        counts.seen, counts.matched, counts.fired, counts.errors
    );
    let suppressed = serde_json::to_value(&counts.suppressed).unwrap_or_default();
    let held = suppressed
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(reason, count)| *reason != "total" && count.as_u64() != Some(0));
    let held: Vec<String> = held.map(|(reason, count)| format!("{reason} {count}")).collect();
    if !held.is_empty() {
        let _ = writeln!(text, "suppressed: {}", held.join(", "));
    }
    if let Some(error) = backtest.errors.first() {
        let _ = writeln!(text, "the first that failed: {}", error.text);
    }
    text
}

fn as_json(backtest: &Backtest) -> Value {
    let firing = |tried: &Tried| {
        json!({
            "time": time(backtest, tried), "kind": tried.firing.kind, "source": tried.firing.source,
            "group": tried.firing.group, "count": tried.firing.count, "actions": tried.actions,
        })
    };
    let firings: Vec<_> = backtest.firings.iter().map(firing).collect();
    json!({"events": backtest.events.0, "leftOut": backtest.events.1, "counts": backtest.counts, "firings": firings})
}
