//! `kubectl signalbox explain`: why a rule did, or did not, fire for an event.

use std::{fmt::Write as _, path::PathBuf};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{End, Output, files, test};
use crate::{
    rule::{OfCondition, OfSource, Said},
    text::cut,
    trial::{self, Explanation, Given, SourceSaid, Tried},
};

/// Characters of a value, and of a part of an expression.
const WIDEST: usize = 100;

/// What `explain` is asked for.
pub(super) struct Question<'q> {
    pub(super) rules: &'q [PathBuf],
    pub(super) rule: Option<&'q str>,
    pub(super) events: &'q [PathBuf],
    pub(super) existing: &'q [PathBuf],
    pub(super) now: Option<Timestamp>,
}

pub(super) fn run(question: &Question<'_>, namespace: &str, output: Output) -> anyhow::Result<End> {
    let rules = match files::rules(question.rules, namespace)? {
        Ok(rules) => rules,
        Err(end) => return Ok(end),
    };
    let rule = files::one(&rules, question.rule)?;
    let (mut events, mut existing, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for (paths, objects_only) in [(question.events, false), (question.existing, true)] {
        for path in paths {
            match files::documents(path) {
                Err(finding) => faults.push(finding),
                Ok(documents) => {
                    for document in documents {
                        for given in
                            trial::read(document).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?
                        {
                            match given {
                                Given::Object { object, .. } if objects_only => existing.push(object),
                                _ if objects_only => anyhow::bail!("{}: not an object", path.display()),
                                given => events.push(given),
                            }
                        }
                    }
                }
            }
        }
    }
    if !faults.is_empty() {
        return Ok(End::bad_input(&faults));
    }
    let now = question.now.unwrap_or_else(Timestamp::now);
    let explanation = trial::explain(rule, now, existing, &events)?;
    Ok(End::Good(match output {
        Output::Json => super::json(&as_json(&explanation)),
        _ => {
            let suspended = if rule.spec.suspend { ", which is suspended: nothing is evaluated" } else { "" };
            format!("rule {}{suspended}\n{}", rule.rule, tree(&explanation))
        }
    }))
}

fn tree(explanation: &Explanation) -> String {
    let mut text = String::new();
    // An Event object is an occurrence and a changed object; what nobody looks at is only told when there is nothing else.
    let concerns = |event: &&SourceSaid| event.sources.iter().any(|source| source.said != Said::Elsewhere);
    let concerning = explanation.events.iter().filter(concerns).count();
    for event in explanation.events.iter().filter(|event| concerning == 0 || concerns(event)) {
        let _ = writeln!(text, "event {} of {}", event.type_, event.subject);
        event.sources.iter().for_each(|source| of_source(&mut text, source));
    }
    if !explanation.said.is_empty() {
        text += "then\n";
        explanation.said.iter().for_each(|said| text += &test::line(said));
    }
    for firing in &explanation.firings {
        let _ = writeln!(text, "fires for {}", firing.firing.group);
        for action in &firing.actions {
            let _ = writeln!(text, "  {}", serde_json::to_string(action).unwrap_or_default());
        }
    }
    if explanation.firings.is_empty() {
        text += "does not fire\n";
    }
    text
}

fn of_source(text: &mut String, source: &OfSource) {
    let name = &source.source;
    match &source.said {
        Said::Elsewhere => {
            let _ = writeln!(text, "  source {name} looks at something else");
        }
        Said::Refused { field, saw } => {
            let _ = writeln!(text, "  source {name} does not take it\n    {field}: {saw}");
        }
        Said::Asked(conditions) => {
            let _ = writeln!(text, "  source {name} takes it");
            for OfCondition { place, holds, parts, .. } in conditions {
                let holds = match holds {
                    Ok(holds) => holds.to_string(),
                    Err(error) => format!("error: {error}"),
                };
                let _ = writeln!(text, "    {place}: {holds}");
                let widest = parts.iter().map(|part| part.expression.chars().count().min(WIDEST)).max().unwrap_or(0);
                for part in parts {
                    let value = match &part.value {
                        Ok(value) => value.to_string(),
                        Err(error) => format!("error: {error}"),
                    };
                    let expression = cut(&part.expression, WIDEST);
                    let _ = writeln!(text, "      {expression:widest$}  {}", cut(&value, WIDEST));
                }
            }
        }
    }
}

fn as_json(explanation: &Explanation) -> Value {
    let holds = |condition: &OfCondition| match &condition.holds {
        Ok(holds) => json!(holds),
        Err(error) => json!({"error": error.to_string()}),
    };
    let condition = |condition: &OfCondition| {
        let parts = condition.parts.iter().map(|part| match &part.value {
            Ok(value) => json!({"expression": part.expression, "value": value}),
            Err(error) => json!({"expression": part.expression, "error": error.to_string()}),
        });
        let parts: Vec<_> = parts.collect();
        json!({"condition": condition.place, "expression": condition.expression, "holds": holds(condition), "parts": parts})
    };
    let source = |source: &OfSource| match &source.said {
        Said::Elsewhere => json!({"source": source.source, "takes": false}),
        Said::Refused { field, saw } => json!({"source": source.source, "takes": false, "field": field, "saw": saw}),
        Said::Asked(conditions) => {
            let conditions: Vec<_> = conditions.iter().map(condition).collect();
            json!({"source": source.source, "takes": true, "conditions": conditions})
        }
    };
    let event = |event: &SourceSaid| {
        let sources: Vec<_> = event.sources.iter().map(source).collect();
        json!({"type": event.type_, "subject": event.subject, "sources": sources})
    };
    let firing =
        |tried: &Tried| json!({"group": tried.firing.group, "source": tried.firing.source, "actions": tried.actions});
    json!({
        "events": explanation.events.iter().map(event).collect::<Vec<_>>(),
        "said": explanation.said.iter().map(|said| said.text.clone()).collect::<Vec<_>>(),
        "firings": explanation.firings.iter().map(firing).collect::<Vec<_>>(),
    })
}
