//! On what the operator has kept: it streams the events, and they are judged here.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Asked, as_json, as_table, span};
use crate::{
    api::{ConditionStatus, ConditionType, EventRule, StatusCondition},
    cli::{
        End, Output, Shared,
        table::of,
        way::{Way, encoded},
    },
    record::EventInput,
    rule::Rule,
    trial::{Backtest, Rerun, Unknown, Wants},
};

/// What an operator's answer told beside events.
#[derive(Debug, Default)]
struct Heard {
    /// When the oldest record that is kept was made; nothing when nothing is.
    begins: Option<Timestamp>,
    since: Option<Timestamp>,
    end: Option<Value>,
}

pub(in crate::cli) async fn run(asked: &Asked, shared: &Shared) -> anyhow::Result<End> {
    let mut way = Way::open(shared).await?;
    let rule = match asked.rule(&way.namespace)? {
        Ok(rule) => rule,
        Err(end) => return Ok(end),
    };
    way.namespace.clone_from(&rule.rule.namespace);
    let wants = Wants::of(&rule);
    if wants == Wants::default() {
        bail!(
            "rule {} listens to timetables only, of which nothing is kept: try it with kubectl signalbox test",
            rule.rule
        );
    }
    let since = asked.since.context("--since is missing")?.get().as_secs().max(1);
    let token = way.token(&rule.spec.service_account_name).await?;
    let (mut heard, mut rerun) = (Heard::default(), None);
    let take = |line: &[u8]| take(line, &rule, &mut heard, &mut rerun);
    way.lines(&["events"], &query(&wants, since), &token, take).await?;
    let (Some(end), Some(rerun)) = (heard.end.take(), rerun) else {
        bail!("the answer broke off, for the operator has ended: try again");
    };
    let until = of(&end["until"]).parse().context("read when the answer ended")?;
    let (backtest, unknown) = rerun.end(until)?;
    let notes = notes(&heard, &end, unknown, listener(&way, &rule).await.as_ref());
    if shared.output == Output::Json {
        let mut body = as_json(&backtest);
        body["archive"] = json!({"begins": heard.begins, "since": heard.since, "until": until});
        body["notes"] = json!(notes);
        return Ok(End::Good(crate::cli::json(&body)));
    }
    Ok(End::Good(as_table(&backtest, &head(&backtest, &heard)) + &lines(&notes)))
}

fn query(wants: &Wants, since: u64) -> String {
    let watches = wants.watches.iter().map(|watch| format!("&of={}", encoded(&watch.to_string())));
    let sources = wants.sources.iter().map(|source| format!("&source={}", encoded(source)));
    let rules = wants.rules.then(|| "&rules=true".to_owned());
    format!("?since={since}{}", watches.chain(sources).chain(rules).collect::<String>())
}

/// One line of the answer.
fn take(line: &[u8], rule: &Arc<Rule>, heard: &mut Heard, rerun: &mut Option<Rerun>) -> anyhow::Result<()> {
    let mut line: Value = serde_json::from_slice(line).context("read the operator's answer")?;
    let time = |value: &Value| of(value).parse::<Timestamp>().ok();
    if let Some(archive) = line.get("archive") {
        (heard.begins, heard.since) = (time(&archive["begins"]), time(&archive["since"]));
        let since = heard.since.context("the operator's answer does not say since when")?;
        *rerun = Some(Rerun::begin(rule, heard.begins.map_or(since, |begins| begins.max(since)))?);
    } else if let Some(end) = line.get("end") {
        heard.end = Some(end.clone());
    } else {
        let wall = line["wall"].as_i64().context("an event of the operator's answer has no time")?;
        let input: EventInput =
            serde_json::from_value(line["input"].take()).context("read an event of the operator's answer")?;
        rerun.as_mut().context("the operator's answer begins with an event")?.happen(wall, input)?;
    }
    Ok(())
}

fn head(backtest: &Backtest, heard: &Heard) -> String {
    let begins = match (heard.begins, heard.since) {
        (None, _) => "the archive is empty".to_owned(),
        (Some(begins), Some(since)) if begins > since => {
            format!("the archive begins at {begins}: nothing is kept of before")
        }
        (Some(_), since) => format!("since {}", since.unwrap_or_default()),
    };
    format!("{} events{}; {begins}\n", backtest.events.0, span(backtest))
}

fn lines(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {note}\n")).collect()
}

/// What must be known to believe the result.
fn notes(heard: &Heard, end: &Value, unknown: Unknown, listener: Option<&(String, Option<Timestamp>)>) -> Vec<String> {
    let mut notes = Vec::new();
    let start = heard.since.max(heard.begins);
    let stored = "events that no rule asks for are not kept";
    match listener {
        None => {
            notes.push(format!("{stored}, and no rule of the namespace has the same sources: there may have been more"))
        }
        Some((rule, since)) if *since > start => {
            let since = since.map(|since| since.to_string()).unwrap_or_default();
            notes.push(format!(
                "{stored}: rule {rule} has had the same sources since {since}, before that there may have been more"
            ));
        }
        Some(_) => {}
    }
    if let Some(cut) = end["cut"].as_str() {
        notes.push(format!("the answer was cut, for {cut}: choose a shorter --since"));
    }
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            notes.push(format!("{number} {what}"));
        }
    };
    count(end["lost"].as_u64().unwrap_or(0), "records are damaged, or were dropped while they were read");
    count(
        end["lists"].as_u64().unwrap_or(0),
        "objects that existed were listed for a rule with `existing: Fire`, and have not happened here",
    );
    count(unknown.changes as u64, "updates did not count as changes, for nobody had looked at these values before");
    count(unknown.lookups as u64, "events lack labels or owners that no rule of this account had asked for");
    notes
}

/// A rule of the cluster that has the same sources, and since when it listens to them; nothing when there is none, or when we may not know.
async fn listener(way: &Way, rule: &Rule) -> Option<(String, Option<Timestamp>)> {
    let rules = way.rules().await.ok()?;
    rules.iter().filter(|one| one.spec.sources == rule.spec.sources && !one.spec.suspend).find_map(listens)
}

/// A rule that listens, and since when it is sure to have done so as it is now: it may have had other sources before it was written last.
fn listens(rule: &EventRule) -> Option<(String, Option<Timestamp>)> {
    let conditions = &rule.status.as_ref()?.conditions;
    let is = |one: &&StatusCondition| one.type_ == ConditionType::Listening && one.status == ConditionStatus::True;
    let listening = conditions.iter().find(is)?.last_transition_time.0;
    let writes = rule.metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    let written = writes.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max();
    Some((rule.name_any(), Some(written.map_or(listening, |written| written.max(listening)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn what_the_archive_cannot_tell_is_said_and_nothing_otherwise() {
        let heard =
            Heard { begins: Some(time("2026-11-02T07:00:00Z")), since: Some(time("2026-11-01T07:00:00Z")), end: None };
        let none = Unknown::default();
        let whole = json!({"events": 3, "lists": 0, "lost": 0, "cut": null});
        let at = |text: &str| ("web".to_owned(), Some(time(text)));
        let before = at("2026-11-02T06:00:00Z");
        assert_eq!(notes(&heard, &whole, none, Some(&before)), Vec::<String>::new());
        let late = notes(&heard, &whole, none, Some(&at("2026-11-02T08:00:00Z")));
        assert!(
            late.len() == 1 && late[0].contains("rule web has had the same sources since 2026-11-02T08:00:00Z"),
            "{late:?}"
        );
        let cut = json!({"lists": 2, "lost": 1, "cut": "it took 600 s"});
        let all = notes(&heard, &cut, Unknown { changes: 4, lookups: 5 }, None);
        let says = [
            "no rule of the namespace",
            "it took 600 s: choose a shorter",
            "1 records",
            "2 objects",
            "4 updates",
            "5 events",
        ];
        assert!(all.len() == says.len() && says.iter().zip(&all).all(|(says, note)| note.contains(says)), "{all:?}");
    }

    #[test]
    fn a_rule_is_sure_to_have_listened_since_it_was_written_last() {
        let rule = |written: &str| -> EventRule {
            let condition = json!({"type": "Listening", "status": "True", "reason": "WatchEstablished", "message": "", "lastTransitionTime": "2026-11-02T07:00:00Z"});
            let fields = json!([{"time": written}, {"subresource": "status", "time": "2026-11-09T00:00:00Z"}]);
            serde_json::from_value(json!({
                "apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "metadata": {"name": "web", "managedFields": fields},
                "spec": {"sources": [], "actions": []}, "status": {"conditions": [condition]},
            })).expect("a rule")
        };
        let since = |written: &str| listens(&rule(written)).and_then(|(_, since)| since).map(|since| since.to_string());
        assert_eq!(since("2026-11-01T00:00:00Z").as_deref(), Some("2026-11-02T07:00:00Z"));
        assert_eq!(since("2026-11-03T00:00:00Z").as_deref(), Some("2026-11-03T00:00:00Z"));
    }
}
