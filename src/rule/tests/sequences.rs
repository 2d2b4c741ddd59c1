//! `trigger.sequence` and `trigger.all`.

use super::{timeline::Timeline, *};

fn matcher(reason: &str) -> Value {
    json!({"source": "any", "when": [{"name": "is", "expression": format!("event.data.reason == '{reason}'")}]})
}

fn sequence(steps: &[&str], unless: Option<&str>) -> Value {
    let steps: Vec<Value> = steps.iter().map(|reason| matcher(reason)).collect();
    let mut body = json!({"trigger": {"sequence": {"within": "100s", "steps": steps}}});
    if let Some(unless) = unless {
        body["trigger"]["sequence"]["unless"] = matcher(unless);
    }
    body
}

fn all(of: &[&str]) -> Value {
    let of: Vec<Value> = of.iter().map(|reason| matcher(reason)).collect();
    json!({"trigger": {"all": {"within": "100s", "of": of}}})
}

/// The seconds at which it fires, of events at these seconds.
fn fires(rule: Value, events: &[(i64, &str)]) -> Vec<i64> {
    let mut line = Timeline::of(rule);
    for (second, reason) in events {
        line.event(*second, &about("shop", "p", reason, json!({"time": ""})));
    }
    line.fired.iter().map(|firing| firing.stamp.at / SECOND).collect()
}

#[test]
fn a_sequence_fires_when_its_steps_come_in_their_order_and_in_time() {
    let rule = || sequence(&["A", "B", "C"], None);
    assert_eq!(fires(rule(), &[(0, "A"), (10, "B"), (20, "C")]), [20]);
    assert_eq!(fires(rule(), &[(0, "B"), (10, "A"), (20, "C"), (30, "B"), (40, "C")]), [40]);
    assert_eq!(fires(rule(), &[(0, "A"), (10, "B"), (101, "C")]), [0; 0], "too late");
    assert_eq!(fires(rule(), &[(0, "A"), (50, "A"), (60, "B"), (140, "C")]), [140], "the latest beginning counts");
    assert_eq!(
        fires(rule(), &[(0, "A"), (10, "B"), (60, "A"), (120, "C")]),
        [0; 0],
        "after the latest, B has not come"
    );
    assert_eq!(fires(rule(), &[(0, "A"), (1, "B"), (2, "C"), (3, "C"), (4, "B")]), [2], "what fired is used up");
    // One event is one step.
    assert_eq!(fires(sequence(&["A", "A"], None), &[(0, "A"), (5, "A"), (6, "A"), (7, "A")]), [5, 7]);
}

#[test]
fn an_event_of_unless_begins_it_anew() {
    let rule = || sequence(&["A", "B"], Some("X"));
    assert_eq!(fires(rule(), &[(0, "A"), (10, "X"), (20, "B")]), [0; 0]);
    assert_eq!(fires(rule(), &[(0, "X"), (10, "A"), (20, "B")]), [20]);
}

#[test]
fn all_fires_when_each_has_come_in_any_order_and_in_time() {
    assert_eq!(fires(all(&["A", "B"]), &[(0, "B"), (10, "A")]), [10]);
    assert_eq!(fires(all(&["A", "B"]), &[(0, "B"), (101, "A"), (201, "B")]), [201]);
    assert_eq!(fires(all(&["A", "B"]), &[(0, "A"), (1, "A"), (2, "B"), (3, "A")]), [2]);
}

#[test]
fn a_source_that_is_not_there_and_a_wrong_condition_are_faults_with_their_places() {
    let mut body = sequence(&["A", "B"], Some("X"));
    body["trigger"]["sequence"]["steps"][1] =
        json!({"source": "push", "when": [{"name": "x", "expression": "event.dta == 1"}]});
    body["trigger"]["sequence"]["unless"] = json!({});
    let faults = compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    let expected = [
        "spec.trigger.sequence.steps[1].source",
        "spec.trigger.sequence.steps[1].when[0].expression",
        "spec.trigger.sequence.unless",
    ];
    assert_eq!(paths, expected);
}

proptest! {
    /// By looking at all events since the last firing.
    #[test]
    fn both_fire_where_a_look_at_all_events_says_so(events in prop::collection::vec((1i64..40, 0usize..4), 1..60), ordered in any::<bool>()) {
        let names = ["A", "B", "C", "D"];
        let (mut second, mut past, mut expected, mut all_events) = (0, Vec::<(i64, usize)>::new(), Vec::new(), Vec::new());
        for (wait, which) in events {
            second += wait;
            all_events.push((second, names[which]));
            past.push((second, which));
            let recent: Vec<_> = past.iter().filter(|(at, _)| *at >= second - 100).collect();
            let complete = match ordered {
                true => recent.iter().fold(0, |next, (_, which)| next + usize::from(*which == next)) >= 3,
                false => (0..3).all(|one| recent.iter().any(|(_, which)| *which == one)),
            };
            // The last event has to be one of them.
            if complete && which < 3 && (!ordered || which == 2) {
                expected.push(second);
                past.clear();
            }
        }
        let rule = if ordered { sequence(&["A", "B", "C"], None) } else { all(&["A", "B", "C"]) };
        prop_assert_eq!(fires(rule, &all_events), expected);
    }
}
