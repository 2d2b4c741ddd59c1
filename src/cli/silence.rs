//! `kubectl signalbox silence`: writes an annotation of rules, with the rights and in the name of whoever calls it.

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use super::{Output, approve::user, json, way::Way};
use crate::{
    api::{Duration, EventRule, SILENCE, Silence},
    record::{RuleRef, RuleUid},
    rule::{self, fault_of_silence},
};

/// What is to be silenced, and how long.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("time").required(true).args(["for_", "until", "end"])))]
#[command(group(ArgGroup::new("which").required(true).args(["rules", "all"])))]
pub(super) struct Silencing {
    /// The rules.
    rules: Vec<String>,
    /// All rules of the namespace.
    #[arg(long)]
    all: bool,
    /// For so long, as 2h or 90m.
    #[arg(long = "for")]
    for_: Option<Duration>,
    /// Until then, as 2026-11-02T07:20:00Z.
    #[arg(long)]
    until: Option<Timestamp>,
    /// End the silence of that name, or all of them.
    #[arg(long)]
    end: bool,
    /// Why.
    #[arg(long, default_value = "")]
    comment: String,
    /// CEL expression that says what is silenced, such as `group.workload == \'shop/web\'`; default: all that the rule fires for.
    #[arg(long, conflicts_with = "end")]
    expression: Option<String>,
    /// Name of the silence; default: the time.
    #[arg(long)]
    name: Option<String>,
}

/// Silences the rules, or ends silences of theirs.
pub(super) async fn run(way: &Way, silencing: &Silencing, output: Output) -> anyhow::Result<String> {
    let now = Timestamp::now();
    let rules = rules(way, silencing).await?;
    let silence = match silencing.end {
        true => None,
        false => Some(silence(silencing, user(way).await?, now)?),
    };
    let (mut done, mut lines) = (Vec::new(), String::new());
    for rule in &rules {
        let changes = changes(rule, silencing.name.as_deref(), silence.as_ref(), now)?;
        let name = rule.name_any();
        let ended = changes.iter().filter(|(_, text)| text.is_null()).count();
        if !changes.is_empty() {
            write(way, &name, changes).await?;
        }
        let told = match &silence {
            Some(Silence { until: Some(until), author, .. }) => format!("silenced until {} as {author}", until.0),
            _ => format!("{ended} silences ended"),
        };
        lines += &format!("EventRule {}/{name}: {told}\n", way.namespace);
        done.push(json!({"rule": name, "silence": silence, "ended": ended}));
    }
    Ok(if output == Output::Json { json(&Value::Array(done)) } else { lines })
}

async fn rules(way: &Way, silencing: &Silencing) -> anyhow::Result<Vec<EventRule>> {
    if !silencing.all {
        let mut rules = Vec::new();
        for name in &silencing.rules {
            rules.push(way.rule(name).await?);
        }
        return Ok(rules);
    }
    let all: Api<EventRule> = Api::namespaced(way.client.clone(), &way.namespace);
    let listed = all.list(&ListParams::default()).await;
    Ok(listed.with_context(|| format!("list EventRules of namespace {}", way.namespace))?.items)
}

fn silence(silencing: &Silencing, author: String, now: Timestamp) -> anyhow::Result<Silence> {
    if author.contains(['"', '\\']) {
        bail!("the name {author:?} has characters that no annotation can tell: silence the rule as another user");
    }
    let until = match (silencing.until, silencing.for_) {
        (Some(until), _) => until,
        (None, time) => now
            .checked_add(time.map_or(std::time::Duration::ZERO, |time| time.get()))
            .context("add --for to the time")?,
    };
    if until <= now {
        bail!("a silence until {until} is over already");
    }
    let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
    let name = silencing.name.clone().unwrap_or_else(|| now.strftime("%Y%m%dt%H%M%Sz").to_string());
    let (comment, expression) = (silencing.comment.clone(), silencing.expression.clone());
    Ok(Silence { name, author, until: Some(Time(until)), comment, expression, message: None })
}

/// The annotations that change: those of silences that are over are taken away too.
fn changes(
    rule: &EventRule,
    name: Option<&str>,
    silence: Option<&Silence>,
    now: Timestamp,
) -> anyhow::Result<Map<String, Value>> {
    let known = rule.annotations().iter().filter_map(|(key, text)| Some((key, key.strip_prefix(SILENCE)?, text)));
    let goes = |known: &str, text: &str| match silence {
        Some(_) => !Silence::read(known, text).lasts(now),
        None => name.is_none_or(|name| name == known),
    };
    let gone = known.filter(|(_, name, text)| goes(name, text)).map(|(key, ..)| (key.clone(), Value::Null));
    let mut changes: Map<String, Value> = gone.collect();
    match (silence, name) {
        (Some(silence), _) => {
            if let Some(why) = fault(rule, silence) {
                bail!("{} cannot be silenced so: {why}", rule.name_any());
            }
            changes.insert(format!("{SILENCE}{}", silence.name), silence.to_string().into());
        }
        (None, Some(name)) if changes.is_empty() => bail!("rule {} has no silence {name:?}", rule.name_any()),
        _ => {}
    }
    Ok(changes)
}

/// What the operator would say of it.
fn fault(rule: &EventRule, silence: &Silence) -> Option<String> {
    if let Some(why) = Silence::read(&silence.name, &silence.to_string()).message {
        return Some(why);
    }
    let uid = RuleUid(rule.uid().unwrap_or_default().into());
    let names = RuleRef { uid, namespace: rule.namespace().unwrap_or_default(), name: rule.name_any() };
    // What is wrong with the rule itself its status tells.
    let rule = rule::compile(&names, 0, &std::sync::Arc::new(rule.spec.clone())).ok()?;
    fault_of_silence(&rule, silence)
}

async fn write(way: &Way, name: &str, changes: Map<String, Value>) -> anyhow::Result<()> {
    let rules: Api<EventRule> = Api::namespaced(way.client.clone(), &way.namespace);
    let patch = json!({"metadata": {"annotations": changes}});
    match rules.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => bail!(
            "{}\nwho silences needs a Role with the verbs get, patch and silence on eventrules.signalbox.dev; kubectl create role does not know the verb: see \
             deploy/samples/silence.yaml",
            status.message
        ),
        Err(error) => Err(error).with_context(|| format!("annotate EventRule {}/{name}", way.namespace)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(annotations: Value) -> EventRule {
        let spec = json!({"sources": [{"name": "crash", "kubernetesEvent": {}}], "actions": [{"name": "a", "approve": {}}],
            "groupBy": [{"name": "workload", "expression": "event.subject"}]});
        let rule = json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "spec": spec,
            "metadata": {"name": "web", "annotations": annotations}});
        serde_json::from_value(rule).expect("a rule")
    }

    fn asked(expression: Option<&str>) -> Silence {
        let silencing = Silencing {
            rules: Vec::new(),
            all: false,
            for_: Some("2h".parse().expect("a duration")),
            until: None,
            end: false,
            comment: "moving".into(),
            expression: expression.map(str::to_owned),
            name: None,
        };
        silence(&silencing, "jane".into(), now()).expect("a silence")
    }

    fn now() -> Timestamp {
        "2026-11-02T07:20:00Z".parse().expect("an instant")
    }

    #[test]
    fn it_is_written_as_it_is_read_and_those_that_are_over_go() {
        let over = r#"{"author":"kim","until":"2026-11-02T07:20:00Z"}"#;
        let lasts = r#"{"author":"kim","until":"2026-11-02T07:20:01Z"}"#;
        let rule = rule(json!({"silence.signalbox.dev/a": over, "silence.signalbox.dev/b": lasts, "other": "x"}));
        let changes = changes(&rule, None, Some(&asked(Some("group.workload == 'x'"))), now()).expect("changes");
        let text = r#"{"author":"jane","until":"2026-11-02T09:20:00Z","comment":"moving","expression":"group.workload == 'x'"}"#;
        let expected = json!({"silence.signalbox.dev/a": null, "silence.signalbox.dev/20261102t072000z": text});
        assert_eq!(Value::Object(changes), expected);
    }

    #[test]
    fn one_is_ended_or_all_and_one_that_is_not_there_is_told() {
        let lasts = r#"{"author":"kim","until":"2099-11-02T07:20:01Z"}"#;
        let rule = rule(json!({"silence.signalbox.dev/a": lasts, "silence.signalbox.dev/b": lasts, "other": "x"}));
        let ended =
            |name: Option<&str>| changes(&rule, name, None, now()).map(|all| all.keys().cloned().collect::<Vec<_>>());
        assert_eq!(ended(Some("b")).expect("it is there"), ["silence.signalbox.dev/b"]);
        assert_eq!(ended(None).expect("all").len(), 2);
        assert!(ended(Some("c")).expect_err("not there").to_string().contains("has no silence \"c\""));
    }

    #[test]
    fn an_expression_that_the_rule_cannot_answer_is_refused_before_it_is_written() {
        let said = |expression: &str| {
            changes(&rule(json!({})), None, Some(&asked(Some(expression))), now()).expect_err("refused").to_string()
        };
        assert!(said("group.wrkload == 'x'").contains("expression: 1:"), "{}", said("group.wrkload == 'x'"));
        assert!(said("event.subject").contains("not true or false") || said("1").contains("not true or false"));
        assert!(said("event.data.regarding.owner.kind == 'Job'").contains("looked up only where"));
    }
}
