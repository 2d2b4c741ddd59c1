//! `trigger.value` and `trigger.anomaly`: numbers of events.

use super::{timeline::Timeline, *};
use crate::record::{GroupValues, Mark, Number};

fn value(more: Value) -> Value {
    let mut trigger = json!({"expression": "double(event.data.v)", "within": "60s"});
    for (key, value) in more.as_object().into_iter().flatten() {
        trigger[key] = value.clone();
    }
    json!({"trigger": {"value": trigger}})
}

fn sample(v: impl Into<Value>) -> EventInput {
    let mut input = about("shop", "p", "R", json!({"v": v.into()}));
    Arc::get_mut(&mut input.event).expect("one owner").time = None;
    input
}

/// What happens, without what is only noted.
fn run(line: &mut Timeline, second: i64, v: f64) -> Vec<String> {
    let mut words = line.event(second, &sample(v));
    words.extend(line.tick(second));
    words.retain(|word| !word.starts_with("sample") && !word.starts_with("slid"));
    words
}

#[test]
fn it_fires_above_the_bound_and_ends_below_the_other() {
    let mut line = Timeline::of(value(json!({"above": "100", "clear": "80"})));
    assert_eq!(run(&mut line, 0, 100.0), [""; 0], "the bound itself is not above");
    assert_eq!(run(&mut line, 1, 101.0), ["fired shop/Pod/p by any"]);
    assert_eq!(line.fired[0].value.map(|value| value.0), Some(101.0));
    assert_eq!(run(&mut line, 2, 81.0), [""; 0]);
    assert_eq!(run(&mut line, 3, 80.0), ["resolved shop/Pod/p"]);
    assert_eq!(run(&mut line, 4, 90.0), [""; 0]);
}

#[test]
fn it_must_last_as_long_as_for_says() {
    let mut line = Timeline::of(value(json!({"below": "5", "for": "30s"})));
    run(&mut line, 0, 1.0);
    assert_eq!(run(&mut line, 29, 6.0), [""; 0]);
    run(&mut line, 30, 1.0);
    assert_eq!(line.tick(60), ["fired shop/Pod/p by any"]);
}

/// Hard case 17: what is no number is no sample, and no data is not zero.
#[test]
fn no_data_and_what_is_no_number_are_not_zero() {
    let mut line = Timeline::of(value(json!({"below": "5"})));
    run(&mut line, 0, 90.0);
    for wrong in [json!("NaN"), json!("+Inf"), json!("<html>"), json!(null), json!([1, 2])] {
        let said = line.event(1, &sample(wrong.clone()));
        assert!(said.len() == 1 && said[0].starts_with("error trigger.value.expression"), "{wrong}: {said:?}");
    }
    assert_eq!(line.tick(600), [""; 0], "no threshold is true without samples");
    let silent = |no_data: &str| {
        let mut line = Timeline::of(value(json!({"above": "5", "noData": no_data})));
        run(&mut line, 0, 9.0);
        let mut words = line.tick(100);
        words.retain(|word| !word.starts_with("slid"));
        (words, line.progress().active_total)
    };
    assert_eq!(silent("Hold"), (vec![], 1));
    assert_eq!(silent("Clear"), (vec!["resolved shop/Pod/p".to_owned()], 0));
    assert_eq!(silent("Fire"), (vec![], 1));
    let mut line = Timeline::of(value(json!({"above": "5", "noData": "Fire"})));
    run(&mut line, 0, 1.0);
    assert_eq!(line.tick(59), [""; 0]);
    assert!(line.tick(100).contains(&"fired shop/Pod/p by any".to_owned()));
    assert_eq!(run(&mut line, 101, 1.0), ["resolved shop/Pod/p"]);
}

#[test]
fn what_slides_out_of_the_window_counts_no_more_though_nothing_comes() {
    let mut line = Timeline::of(value(json!({"aggregation": "Count", "above": "2"})));
    for second in 0..3 {
        run(&mut line, second, 0.0);
    }
    assert_eq!(line.progress().active_total, 1);
    // A bucket is 2 s.
    line.tick(60);
    assert_eq!(line.progress().active_total, 1);
    line.tick(62);
    assert_eq!(line.progress().active_total, 0);
    line.tick(10_000);
    assert_eq!(line.engine.next_deadline(), None);
    line.event(10_001, &sample(1.0));
    line.restart();
}

#[test]
fn what_is_wrong_with_it_is_said() {
    let paths = |body: Value| {
        let faults = compile(&rule_ref("web"), 1, &spec(value(body))).expect_err("faults");
        faults.iter().map(|fault| fault.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(paths(json!({})), ["spec.trigger.value"]);
    assert_eq!(paths(json!({"above": "1", "below": "2"})), ["spec.trigger.value"]);
    assert_eq!(paths(json!({"above": "much"})), ["spec.trigger.value.above"]);
    assert_eq!(paths(json!({"above": "1", "clear": "2"})), ["spec.trigger.value.clear"]);
    assert_eq!(
        paths(json!({"below": "1", "clear": "0", "within": "0s"})),
        ["spec.trigger.value.within", "spec.trigger.value.clear"]
    );
}

proptest! {
    /// The aggregate lies between those of the samples of the window and of one bucket more, by looking at all samples.
    #[test]
    fn an_aggregate_is_that_of_the_samples_of_its_window(
        samples in prop::collection::vec((0i64..20, -1000i32..1000), 1..80),
        aggregation in prop::sample::select(vec!["Last", "Avg", "Sum", "Min", "Max", "Count", "Delta", "Rate", "P50", "P90", "P95", "P99"]),
    ) {
        // It holds for any value, so that each firing tells one.
        let mut line = Timeline::of(value(json!({"aggregation": aggregation, "above": "-1e30", "for": "0s"})));
        let (mut second, mut all) = (0, Vec::new());
        for (wait, v) in samples {
            second += wait;
            let v = f64::from(v) / 7.0;
            all.push((second, v));
            line.event(second, &sample(v));
            let told = line.aggregate();
            // All in the same bucket as the oldest that counts are in: a bucket is 2 s.
            let oldest = (second / 2 - 30) * 2;
            let window: Vec<(i64, f64)> = all.iter().copied().filter(|(at, _)| *at >= oldest).collect();
            let expected = naive(aggregation, &window);
            match (told, expected) {
                (Some(told), Some(expected)) => {
                    let near = if aggregation.starts_with('P') { 0.011 * expected.abs() + 1e-6 } else { 1e-6 };
                    prop_assert!((told - expected).abs() <= near, "{} is not {} for {:?}", told, expected, window);
                }
                (told, expected) => prop_assert_eq!(told, expected),
            }
        }
    }
}

fn naive(aggregation: &str, window: &[(i64, f64)]) -> Option<f64> {
    let mut sorted: Vec<f64> = window.iter().map(|(_, v)| *v).collect();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (window.first()?, window.last()?);
    let count = sorted.len() as f64;
    let rank = |part: f64| sorted[((count * part).ceil() as usize).max(1) - 1];
    let seconds = (last.0 - first.0) as f64;
    Some(match aggregation {
        "Last" => last.1,
        "Avg" => sorted.iter().sum::<f64>() / count,
        "Sum" => sorted.iter().sum(),
        "Min" => sorted[0],
        "Max" => sorted[sorted.len() - 1],
        "Count" => count,
        "Delta" | "Rate" if seconds == 0.0 => return None,
        "Delta" => last.1 - first.1,
        "Rate" => (last.1 - first.1) / seconds,
        "P50" => rank(0.5),
        "P90" => rank(0.9),
        "P95" => rank(0.95),
        _ => rank(0.99),
    })
}

fn anomaly(direction: &str) -> Timeline {
    Timeline::of(
        json!({"trigger": {"anomaly": {"expression": "double(event.data.v)", "deviations": 4, "direction": direction, "warmup": 30}}}),
    )
}

#[test]
fn an_anomaly_fires_after_the_warm_up_only_and_ends_when_it_is_usual_again() {
    let mut line = anomaly("Above");
    let usual = |second: i64| 100.0 + (second * 7 % 11) as f64;
    for second in 0..29 {
        assert_eq!(run(&mut line, second, if second == 20 { 150.0 } else { usual(second) }), [""; 0], "{second}");
    }
    for second in 29..200 {
        assert_eq!(run(&mut line, second, usual(second)), [""; 0], "{second}");
    }
    assert_eq!(run(&mut line, 200, 10.0), [""; 0], "that is below");
    assert_eq!(run(&mut line, 201, 400.0), ["fired shop/Pod/p by any"]);
    let fired = &line.fired[0];
    let baseline = fired.baseline.expect("a baseline").0;
    assert!((100.0..112.0).contains(&baseline), "{baseline}");
    assert_eq!(fired.value.map(|value| value.0), Some(400.0));
    assert_eq!(run(&mut line, 202, 105.0), ["resolved shop/Pod/p"]);
    assert_eq!(run(&mut anomaly("Below"), 0, 1.0), [""; 0]);
}

#[test]
fn a_new_level_becomes_usual_in_the_end_and_one_outlier_does_not_hide_the_next() {
    let mut line = anomaly("Both");
    for second in 0..100 {
        run(&mut line, second, 100.0 + (second % 5) as f64);
    }
    assert_eq!(run(&mut line, 100, 1e9), ["fired shop/Pod/p by any"]);
    run(&mut line, 101, 102.0);
    assert_eq!(run(&mut line, 102, 150.0), ["fired shop/Pod/p by any"]);
    for second in 103..1000 {
        run(&mut line, second, 150.0 + (second % 5) as f64);
    }
    assert_eq!(line.progress().active_total, 0);
}

#[test]
fn a_number_beyond_what_can_be_reckoned_with_is_no_sample_and_one_of_an_older_log_stops_nothing() {
    for mut line in [anomaly("Both"), Timeline::of(value(json!({"above": "1"})))] {
        let said = line.event(0, &sample(-1.7e308));
        assert!(said.len() == 1 && said[0].contains("beyond 1e150"), "{said:?}");
    }
    let mut line = anomaly("Both");
    for (number, v) in [1.7e308, -1.7e308].into_iter().chain([1.0; 60]).enumerate() {
        let head = head(100 + number as u64, number as i64);
        let mark = Mark::Sample { at: head.stamp.at, value: Number(v) };
        let (rule, group) = (rule_ref("web").uid, "shop/Pod/p".to_owned());
        let noted = Decision::Noted { rule, group, mark, source: "any".into(), group_values: GroupValues::default() };
        line.engine.decide(&head, &sample(1.0), &SeenBy::default(), &[noted]);
    }
    assert!(line.event(100, &sample(1.0))[0].starts_with("sample"));
}

#[test]
fn after_a_downtime_what_is_repeated_is_done_once_and_not_once_for_each_time_that_was_missed() {
    let absent = json!({"absent": {"for": "1m"}});
    let above = json!({"value": {"expression": "double(event.data.v)", "within": "60s", "above": "5"}});
    let unusual = json!({"anomaly": {"expression": "double(event.data.v)", "deviations": 4, "warmup": 10}});
    for trigger in [absent, above, unusual] {
        let mut line = Timeline::of(json!({"trigger": trigger, "repeat": "1m", "groups": {"forgetAfter": "240h"}}));
        for second in 0..20 {
            run(&mut line, second, 1.0);
        }
        run(&mut line, 20, 900.0);
        line.tick(90);
        let before = line.fired.len();
        assert!(before > 0, "{trigger}");
        line.fold(300_000, &Record::Started);
        line.tick(300_059);
        assert_eq!(line.fired.len(), before, "{trigger}: its sources have not caught up");
        line.tick(300_060);
        assert_eq!(line.fired.len(), before + 1, "{trigger}");
        line.tick(300_180);
        assert_eq!(line.fired.len(), before + 3, "{trigger}: it goes on");
    }
}

#[test]
fn what_fires_or_ends_for_a_lack_of_data_tells_the_last_value_that_was_known() {
    let mut line = Timeline::of(value(json!({"above": "5", "noData": "Fire", "aggregation": "Avg"})));
    run(&mut line, 0, 1.0);
    run(&mut line, 1, 2.0);
    line.restart();
    line.tick(100);
    assert_eq!(line.fired.len(), 1);
    // The last of them was the last to leave the window.
    assert!(line.fired[0].value.is_some_and(|value| (1.0..=2.0).contains(&value.0)), "{:?}", line.fired[0].value);
    let action = json!([{"name": "a", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]);
    let mut body = value(json!({"above": "5", "noData": "Clear"}));
    body["resolveActions"] = action;
    let mut line = Timeline::of(body);
    run(&mut line, 0, 9.0);
    line.tick(100);
    let told: Vec<_> = line.fired.iter().map(|firing| (firing.kind, firing.value.map(|value| value.0))).collect();
    assert_eq!(told, [(FiringKind::Fired, Some(9.0)), (FiringKind::Resolved, Some(9.0))]);
}

#[test]
fn a_percentile_is_as_near_as_is_said_however_many_sizes_the_numbers_have() {
    for (times, near) in [(10.0_f64, 0.0101), (100.0, 0.0201), (1e4, 0.0406), (1e8, 0.0829)] {
        for aggregation in ["P50", "P90", "P99"] {
            let mut line = Timeline::of(value(json!({"aggregation": aggregation, "above": "1e300"})));
            let samples: Vec<(i64, f64)> =
                (0..1000).map(|number| (0, 3.0 * times.powf(f64::from(number * 7 % 1000) / 999.0))).collect();
            for (_, v) in &samples {
                line.event(0, &sample(*v));
            }
            let (told, exact) = (line.aggregate().expect("a value"), naive(aggregation, &samples).expect("a value"));
            assert!((told - exact).abs() <= near * exact, "{aggregation} at {times} times: {told} is not {exact}");
        }
    }
}
