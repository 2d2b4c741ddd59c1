//! What holds whatever happens: restarts change nothing, and all of the past says when it fires.

use super::*;

fn any_happening() -> impl Strategy<Value = timeline::Happening> {
    use timeline::Happening::{Event, Nothing, Restart};
    let operation = prop::sample::select(vec!["Update", "Update", "Update", "Delete"]);
    let event = (operation, 0u8..3, 0u32..2)
        .prop_map(|(operation, which, down)| Event(Box::new(deployment(operation, &format!("d{which}"), down))));
    prop_oneof![6 => event, 2 => Just(Nothing), 2 => Just(Restart)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn restarts_and_ticks_change_no_decision(
        happenings in prop::collection::vec((0i64..40, any_happening()), 1..60),
        (wait, steps, repeat) in (0i64..60, 0i64..3, prop::option::of(1i64..50)),
        (cooldown, budget) in (prop::option::of(1i64..80), prop::option::of((1u32..3, 1i64..90, prop::sample::select(vec!["Group", "Rule"])))),
        max in 1u32..4,
    ) {
        let action = json!([{"name": "a", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]);
        let steps: Vec<Value> = (1..=steps).map(|step| json!({"after": format!("{}s", wait + step * 17), "actions": action})).collect();
        let mut more = json!({"groups": {"max": max}, "resolveActions": action});
        if let Some(repeat) = repeat {
            more["repeat"] = json!(format!("{repeat}s"));
        }
        if let Some(cooldown) = cooldown {
            more["throttle"]["cooldown"] = json!(format!("{cooldown}s"));
        }
        if let Some((firings, per, scope)) = budget {
            more["throttle"]["budget"] = json!({"firings": firings, "per": format!("{per}s"), "scope": scope});
        }
        // What lasts is followed by an end, so that nothing repeats for ever.
        let mut happenings = happenings;
        happenings.extend((0..3).map(|which| (1, timeline::Happening::Event(Box::new(deployment("Delete", &format!("d{which}"), 0))))));
        timeline::goes_on_the_same(&held(json!({"for": format!("{wait}s"), "steps": steps}), more), &happenings)?;
    }

    /// When it fires, by looking at all that was ever seen.
    #[test]
    fn it_fires_exactly_where_all_of_the_past_says_so(states in prop::collection::vec((1i64..40, any::<bool>()), 1..60), wait in 0i64..60) {
        let mut line = Timeline::of(held(json!({"for": format!("{wait}s")}), json!({})));
        let (mut second, mut began, mut expected) = (0, None::<i64>, Vec::new());
        for (pause, is_down) in states {
            let next = second + pause;
            if let Some(began) = began && began + wait <= next && began + wait > second - 1 && !expected.contains(&(began + wait)) {
                expected.push(began + wait);
            }
            second = next;
            line.event(second, &if is_down { down() } else { up() });
            began = is_down.then(|| began.unwrap_or(second));
        }
        if let Some(began) = began && !expected.contains(&(began + wait)) {
            expected.push(began + wait);
        }
        line.tick(second + 1000);
        prop_assert_eq!(line.fired.iter().map(|firing| firing.stamp.at / SECOND).collect::<Vec<_>>(), expected);
    }
}
