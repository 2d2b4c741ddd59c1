//! `kubectl signalbox backtest`: when a rule would have fired, for events that really happened.

mod archive;

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use clap::{ArgGroup, Args};
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::{End, Output, files, table::table};
use crate::{
    api::Duration,
    rule::Rule,
    trial::{self, Backtest, Tried},
};

pub(super) use archive::run as run_on_archive;

/// The rule, and what happened.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["since", "events"])))]
#[command(group(ArgGroup::new("rules").required(true).multiple(true).args(["files", "filename"])))]
pub(super) struct Asked {
    /// Files or folders of rules; `-` is standard input.
    files: Vec<PathBuf>,
    /// The same.
    #[arg(short, long)]
    filename: Vec<PathBuf>,
    /// What the operator of the cluster has kept of so long ago, as 24h, and later; as much of it as the rule's account may watch.
    #[arg(long)]
    pub(super) since: Option<Duration>,
    /// Files of events with their times: NDJSON or JSON of CloudEvents or objects, as `kubectl get events -o json` prints them.
    #[arg(long)]
    events: Vec<PathBuf>,
    /// The rule, where the files hold several.
    #[arg(long)]
    rule: Option<String>,
}

impl Asked {
    /// The rule that is meant, or what is wrong with the files.
    fn rule(&self, namespace: &str) -> anyhow::Result<Result<Arc<Rule>, End>> {
        let files: Vec<PathBuf> = self.files.iter().chain(&self.filename).cloned().collect();
        let rules = match files::rules(&files, namespace)? {
            Ok(rules) => rules,
            Err(end) => return Ok(Err(end)),
        };
        Ok(Ok(Arc::clone(files::one(&rules, self.rule.as_deref())?)))
    }
}

/// On files.
pub(super) fn run(asked: &Asked, namespace: &str, output: Output) -> anyhow::Result<End> {
    let rule = match asked.rule(namespace)? {
        Ok(rule) => rule,
        Err(end) => return Ok(end),
    };
    let mut all = Vec::new();
    for path in &asked.events {
        for value in files::dump(path)? {
            all.extend(trial::read(value).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?);
        }
    }
    let backtest = trial::backtest(&rule, all)?;
    if output == Output::Json {
        return Ok(End::Good(super::json(&as_json(&backtest))));
    }
    let (events, left_out) = backtest.events;
    let head = format!("{events} events{}; {left_out} without a time were left out\n", span(&backtest));
    Ok(End::Good(as_table(&backtest, &head)))
}

fn span(backtest: &Backtest) -> String {
    backtest.span.map(|(first, last)| format!(" from {first} to {last}")).unwrap_or_default()
}

/// When a firing would have been.
fn time(backtest: &Backtest, firing: &Tried) -> String {
    let time = backtest.start.checked_add(SignedDuration::from_micros(firing.at));
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// The firings, these lines, and what was counted.
fn as_table(backtest: &Backtest, head: &str) -> String {
    let row = |tried: &Tried| {
        let count = tried.firing.count.map(|count| count.to_string()).unwrap_or_default();
        let kind = format!("{:?}", tried.firing.kind);
        vec![time(backtest, tried), kind, tried.firing.source.clone(), count, tried.firing.group.clone()]
    };
    let rows: Vec<_> = backtest.firings.iter().map(row).collect();
    let mut text =
        if rows.is_empty() { String::new() } else { table(&["TIME", "KIND", "SOURCE", "COUNT", "GROUP"], &rows) };
    text += head;
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
