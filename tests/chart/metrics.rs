//! What alerts and panels ask for exists.

use regex::Regex;
use signalbox::{
    api::{ActionOutcome, FiringOutcome},
    record::{Decision, RuleUid, SuppressedReason},
    telemetry::{Metrics, StatusWrite, WatchState},
};

use super::*;

/// What the operator says of itself when everything has happened once.
fn all_metrics() -> String {
    let metrics = Metrics::default();
    let rule = RuleUid("u".into());
    let decisions = [
        Decision::Suppressed {
            rule: rule.clone(),
            group: "g".into(),
            reason: SuppressedReason::Cooldown,
            occurrence: None,
        },
        Decision::Errored { rule, place: "when[a]".into(), message: "no".into(), poisoned: false },
    ];
    metrics.event_judged("t");
    metrics.decided(&decisions);
    metrics.firing_finished(FiringOutcome::Failed);
    metrics.action_settled(ActionOutcome::Failed, std::time::Duration::ZERO);
    metrics.bus(signalbox::bus::Stats::default());
    metrics.watch_moved(None, Some(WatchState::Failed));
    metrics.status_written(StatusWrite::Failed);
    metrics.encode()
}

/// The queries of all alerts and panels.
fn queries(objects: &[Value]) -> Vec<String> {
    let rules = object(objects, "PrometheusRule", "signalbox").expect("it is there");
    let dashboard = object(objects, "ConfigMap", "signalbox-dashboard").expect("it is there");
    let text = dashboard["data"]["signalbox.json"].as_str().expect("a text");
    let dashboard: Value = serde_json::from_str(text).expect("the dashboard is JSON");
    let mut found = vec![];
    collect("expr", rules, &mut found);
    let alerts = found.len();
    collect("expr", &dashboard, &mut found);
    assert!(alerts > 5 && found.len() > alerts + 10, "{found:#?}");
    found
}

/// The texts of all fields of a name.
fn collect(field: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
            Value::String(text) if name == field => found.push(text.clone()),
            other => collect(field, other, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| collect(field, item, found)),
        _ => {}
    }
}

#[test]
fn alerts_and_panels_ask_for_metrics_labels_and_values_that_exist() {
    let told = all_metrics();
    let asked = Regex::new(r#"(signalbox_\w+)(\{(\w+="\w+")\})?"#).expect("a pattern");
    let by = Regex::new(r"by \((\w+)\)").expect("a pattern");
    for query in queries(&rendered(&ALL)) {
        for found in asked.captures_iter(&query) {
            let label = found.get(3).map_or("", |label| label.as_str());
            let exists = told.lines().any(|line| {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                name == &found[1] && line.contains(label)
            });
            assert!(exists, "there is no {} in\n{told}", &found[0]);
            for label in by.captures_iter(&query) {
                let exists =
                    told.lines().any(|line| line.starts_with(&found[1]) && line.contains(&format!("{}=\"", &label[1])));
                assert!(exists, "{query}: {} has no label {}", &found[1], &label[1]);
            }
        }
    }
}
