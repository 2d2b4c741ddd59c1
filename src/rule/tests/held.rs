//! `trigger.held`: how a level begins, fires, escalates, repeats and ends.

use super::{timeline::Timeline, *};

mod always;

/// A rule that looks at Deployments with the label `app: web`.
fn held(trigger: Value, more: Value) -> Value {
    let mut body = json!({
        "sources": [{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "selector": {"matchLabels": {"app": "web"}}}}],
        "when": [{"name": "down", "expression": "object.?status.unavailableReplicas.orValue(0) > 0"}],
        "trigger": {"held": trigger},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn deployment(operation: &str, name: &str, unavailable: u32) -> EventInput {
    let mut input = change(operation, "Deployment", Some("shop"), name, json!({"app": "web"}));
    let event = Arc::get_mut(&mut input.event).expect("one owner");
    event.data["object"]["status"] = json!({"unavailableReplicas": unavailable});
    input
}

fn down() -> EventInput {
    deployment("Update", "web", 1)
}

fn up() -> EventInput {
    deployment("Update", "web", 0)
}

#[test]
fn it_fires_when_the_conditions_were_true_so_long_without_a_break() {
    let mut line = Timeline::of(held(json!({"for": "5m"}), json!({})));
    assert_eq!(line.event(0, &down()), ["holds(0) shop/deployment/web"]);
    assert_eq!(line.event(100, &down()), ["holds(100000000) shop/deployment/web"], "that is no new beginning");
    assert_eq!(line.tick(299), [""; 0]);
    assert_eq!(line.tick(300), ["fired shop/Deployment/web by deploy"]);
    assert_eq!(line.tick(3000), [""; 0], "once");
    // A break begins it anew.
    assert_eq!(line.event(3001, &up()), ["resolved shop/Deployment/web"]);
    line.event(3002, &down());
    assert_eq!(line.event(3300, &up()), ["ended(3300000000) shop/deployment/web"]);
    line.event(3301, &down());
    assert_eq!(line.tick(3600), [""; 0]);
    assert_eq!(line.tick(3601), ["fired shop/Deployment/web by deploy"]);
}

#[test]
fn what_is_due_is_judged_at_its_own_time_before_a_later_event() {
    let mut line = Timeline::of(held(json!({"for": "5m"}), json!({})));
    line.event(0, &down());
    assert_eq!(line.event(400, &up()), ["fired shop/Deployment/web by deploy", "resolved shop/Deployment/web"]);
    let fired = &line.fired[0];
    assert_eq!((fired.stamp.at, fired.stamp.wall), (300 * SECOND, (1_790_000_000 + 300) * SECOND));
}

#[test]
fn a_firing_has_the_same_id_whatever_record_tells_that_it_is_due() {
    let ids = |events: &[i64]| {
        let mut line = Timeline::of(held(json!({"for": "5m"}), json!({})));
        line.event(0, &down());
        events.iter().for_each(|second| drop(line.tick(*second)));
        line.fired[0].id.clone()
    };
    assert_eq!(ids(&[300]), ids(&[100, 200, 401]));
}

#[test]
fn a_deletion_ends_it_and_so_does_leaving_the_selection() {
    let mut line = Timeline::of(held(
        json!({"for": "1m"}),
        json!({"resolveActions": [
        {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": "over: ${event.type}"}}]}),
    ));
    line.event(0, &down());
    line.tick(60);
    let ends = ["resolved shop/Deployment/web", "resolves shop/Deployment/web"];
    assert_eq!(line.event(61, &deployment("Delete", "web", 1)), ends);
    line.event(62, &down());
    line.tick(122);
    let selector = line.rule().sources[0].filter.remembered_selector().expect("a selector").id();
    let mut left = change("Update", "Deployment", Some("shop"), "web", json!({"app": "other"}));
    left.origin.changed = vec![selector];
    assert!(line.engine.interest().concern(&left.origin, &left.event).any, "it is appended");
    assert_eq!(line.event(123, &left), ends);
    left.origin.changed = Vec::new();
    assert!(!line.engine.interest().concern(&left.origin, &left.event).any, "what was outside before is not");
}

#[test]
fn each_group_has_a_level_of_its_own_and_status_tells_those_that_last() {
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
    for number in 0..12 {
        line.event(number, &deployment("Update", &format!("d{number:02}"), 1));
    }
    line.tick(65);
    let progress = line.progress();
    assert_eq!((progress.active.len(), progress.active_total), (6, 6));
    assert_eq!(progress.active[0].group, "shop/Deployment/d00");
    assert_eq!(progress.active[0].since.0, head(0, 60).stamp.timestamp());
    line.tick(100);
    assert_eq!((line.progress().active.len(), line.progress().active_total), (10, 12));
    line.event(101, &deployment("Update", "d00", 0));
    let progress = line.progress();
    assert_eq!((progress.active_total, progress.counts.resolved), (11, 1));
    assert_eq!(progress.counts.matched, 12, "what is due and what ends did not match");
}

#[test]
fn steps_come_in_their_order_while_it_lasts_and_repeat_beside_them() {
    let step = |name: &str| json!([{"name": name, "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]);
    let trigger =
        json!({"for": "1m", "steps": [{"after": "5m", "actions": step("a")}, {"after": "10m", "actions": step("b")}]});
    let mut line = Timeline::of(held(trigger, json!({"repeat": "4m"})));
    line.event(0, &down());
    let fired = line.tick(700);
    let at: Vec<i64> = line.fired.iter().map(|firing| firing.stamp.at / SECOND).collect();
    let expected = [
        "fired shop/Deployment/web by deploy",
        "step 0 shop/Deployment/web",
        "repeated shop/Deployment/web",
        "repeated shop/Deployment/web",
        "step 1 shop/Deployment/web",
    ];
    assert_eq!((fired, at), (expected.map(str::to_owned).to_vec(), vec![60, 300, 300, 540, 600]));
    let rule = Arc::clone(line.rule());
    let names =
        |firing: &Firing| firing.actions(&rule.spec).iter().map(|action| action.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&line.fired[1]), names(&line.fired[4])), (vec!["a".to_owned()], vec!["b".to_owned()]));
}

#[test]
fn a_cooldown_puts_it_off_and_does_not_lose_it() {
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({"throttle": {"cooldown": "10m"}})));
    line.event(0, &down());
    assert_eq!(line.tick(60), ["fired shop/Deployment/web by deploy"]);
    line.event(100, &up());
    line.event(110, &down());
    assert_eq!(line.tick(600), ["cooldown shop/Deployment/web", "postponed(660000000) shop/deployment/web"]);
    assert_eq!(line.progress().active_total, 0);
    assert_eq!(line.tick(660), ["fired shop/Deployment/web by deploy"]);
}

#[test]
fn a_step_does_not_come_before_a_firing_that_was_put_off() {
    let action = json!([{"name": "a", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]);
    let trigger = json!({"for": "1m", "steps": [{"after": "5m", "actions": action}]});
    let mut line = Timeline::of(held(trigger, json!({"throttle": {"cooldown": "20m"}})));
    line.event(0, &down());
    line.tick(60);
    line.event(100, &up());
    line.event(110, &down());
    line.tick(3000);
    let at: Vec<_> = line.fired.iter().map(|firing| (firing.step, firing.stamp.at / SECOND)).collect();
    assert_eq!(at, [(None, 60), (None, 1260), (Some(0), 1260)]);
}

#[test]
fn an_edit_of_the_repeat_counts_from_the_last_firing_and_fires_for_no_time_before_the_edit() {
    let repeat = |text: &str| held(json!({"for": "1m"}), json!({"repeat": text}));
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
    line.event(0, &down());
    line.tick(60);
    let at = |line: &Timeline| line.fired.iter().map(|firing| firing.stamp.at / SECOND).collect::<Vec<_>>();
    // One that had none gets one.
    line.put(100, 2, repeat("10m"));
    line.tick(700);
    assert_eq!(at(&line), [60, 660]);
    // A shorter one is due at once and once, not for each time before.
    line.put(1000, 3, repeat("1m"));
    line.restart();
    line.tick(1059);
    assert_eq!(at(&line), [60, 660, 1000]);
    line.put(1059, 4, repeat("1h"));
    line.tick(2000);
    assert_eq!(at(&line), [60, 660, 1000]);
    line.put(2000, 5, held(json!({"for": "1m"}), json!({})));
    assert_eq!(line.engine.next_deadline(), None);
    line.put(2001, 6, repeat("1h"));
    assert_eq!(line.engine.next_deadline(), Some(4600 * SECOND));
}

#[test]
fn what_cannot_be_told_changes_nothing() {
    let when = json!([{"name": "down", "expression": "object.status.unavailableReplicas > 0"}]);
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({"when": when})));
    line.event(0, &down());
    let mut bare = down();
    Arc::get_mut(&mut bare.event).expect("one owner").data["object"]["status"] = json!({});
    assert!(line.event(10, &bare)[0].starts_with("error when[down]"));
    assert_eq!(line.tick(60), ["fired shop/Deployment/web by deploy"]);
}

#[test]
fn after_a_start_it_waits_until_the_sources_have_caught_up_or_a_minute() {
    let begun = || {
        let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
        line.event(0, &down());
        line.restart();
        line.fold(500, &Record::Started);
        assert_eq!(line.tick(520), [""; 0]);
        line
    };
    let mut line = begun();
    // What happened meanwhile is told before the source says that it has caught up.
    assert_eq!(line.event(521, &up()), ["ended(521000000) shop/deployment/web"]);
    let mut line = begun();
    let source = SourceRef { rule: rule_ref("web").uid, generation: 1, source: "deploy".into() };
    line.restart();
    line.fold(530, &Record::Baseline(source));
    assert_eq!(line.tick(531), ["fired shop/Deployment/web by deploy"]);
    assert_eq!(line.fired[0].stamp.at, 530 * SECOND);
    let mut line = begun();
    line.restart();
    assert_eq!(line.tick(560), ["fired shop/Deployment/web by deploy"], "no source may hold it back for ever");
}

#[test]
fn an_edit_of_the_condition_closes_it_and_an_edit_of_a_text_does_not() {
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
    line.event(0, &down());
    line.tick(60);
    line.put(
        61,
        2,
        held(
            json!({"for": "1m"}),
            json!({"resolveActions": [{"name": "x", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]}),
        ),
    );
    assert_eq!((line.engine.take_closed().len(), line.progress().active_total), (0, 1));
    line.put(62, 3, held(json!({"for": "2m"}), json!({})));
    let closed = line.engine.take_closed();
    assert_eq!(closed, [(rule_ref("web"), "shop/Deployment/web".to_owned())]);
    assert_eq!((line.progress().active_total, line.engine.next_deadline()), (0, None));
    // And what is suspended is not caught up.
    line.event(63, &down());
    line.put(64, 4, held(json!({"for": "2m"}), json!({"suspend": true})));
    line.put(65, 5, held(json!({"for": "2m"}), json!({})));
    assert_eq!(line.tick(1000), [""; 0]);
}

#[test]
fn an_own_write_does_not_begin_it_but_may_end_it() {
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
    let write = |line: &mut Timeline, second: i64, version: u64| {
        let (firing, action) = (FiringId("f".into()), "grow".to_owned());
        let writes = Some(Writes { rule: rule_ref("web").uid, object: "shop/Deployment/web".into() });
        line.fold(
            second,
            &Record::Intent(Intent {
                firing: firing.clone(),
                action: action.clone(),
                rendering: 0,
                request: json!({}),
                writes,
                deadline: None,
                remember: None,
            }),
        );
        let effect = Effect {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: Some("shop".into()),
            name: "web".into(),
            uid: "u".into(),
            resource_version: Some(version.to_string()),
            found: false,
            gone: false,
            reason: "r".into(),
        };
        line.fold(
            second,
            &Record::Outcome(Outcome {
                firing,
                action,
                outcome: ActionOutcome::Succeeded,
                message: String::new(),
                result: Value::Null,
                effect: Some(effect),
                reason: None,
                remember: None,
            }),
        );
    };
    let seen = |mut input: EventInput, version| {
        input.origin.seen = Some(Seen {
            version,
            ..serde_json::from_value(json!({"version": version, "count": 0, "name": "web"})).expect("seen")
        });
        input
    };
    write(&mut line, 1, 7);
    assert_eq!(line.event(2, &seen(down(), 7)), ["own write shop/Deployment/web"]);
    line.event(3, &seen(down(), 8));
    line.tick(63);
    write(&mut line, 64, 9);
    assert_eq!(line.event(65, &seen(up(), 9)), ["resolved shop/Deployment/web"]);
}

#[test]
fn what_is_wrong_with_it_is_said_all_at_once() {
    let step = json!([{"name": "a", "notify": {"sinkRef": {"name": "oncall"}, "text": "t"}}]);
    let body = held(
        json!({"for": "5m", "steps": [{"after": "5m", "actions": step}, {"after": "4m", "actions": []}]}),
        json!({
            "sources": [{"name": "deploy", "resource": {"apiVersion": "apps/v1", "kind": "Deployment", "operations": ["Create"], "changedExpressions": ["object.spec"], "onGap": "Skip"}}],
            "when": [{"name": "late", "expression": "now > timestamp(object.metadata.creationTimestamp)"}], "repeat": "0s",
        }),
    );
    let faults = compile(&rule_ref("web"), 1, &spec(body)).expect_err("faults");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for path in [
        "spec.when[0].expression",
        "spec.repeat",
        "spec.sources[0].resource.operations",
        "spec.sources[0].resource.changedExpressions",
        "spec.sources[0].resource.onGap",
        "spec.trigger.held.steps[0].after",
        "spec.trigger.held.steps[1].after",
        "spec.trigger.held.steps[1].actions",
    ] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
    let now = faults.iter().find(|fault| fault.path.contains("when")).expect("the condition");
    assert!(now.message.contains("as time passes"), "{}", now.message);
    let edge = json!({"repeat": "1h", "resolveActions": step});
    let faults = compile(&rule_ref("web"), 1, &spec(edge)).expect_err("no end");
    assert_eq!(
        faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(),
        ["spec.repeat", "spec.resolveActions"]
    );
    let none = compile(&rule_ref("web"), 1, &spec(json!({"trigger": {}}))).expect_err("no kind");
    assert!(none[0].message.starts_with("exactly one of"), "{}", none[0].message);
}

#[test]
fn a_repeat_of_less_than_a_second_is_refused() {
    for repeat in ["0s", "500ns", "999ms"] {
        let body = held(json!({"for": "5m"}), json!({"repeat": repeat}));
        let faults = compile(&rule_ref("web"), 1, &spec(body)).expect_err("a fault");
        let said: Vec<_> = faults.iter().map(|fault| (fault.path.as_str(), fault.message.as_str())).collect();
        assert_eq!(said, [("spec.repeat", "must be at least 1s")], "{repeat}");
    }
}

#[test]
fn a_namespace_whose_groups_take_too_much_takes_no_new_ones_and_goes_on_with_those_it_has() {
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
    let large = |name: &str, down: u32| {
        let mut input = deployment("Update", name, down);
        Arc::get_mut(&mut input.event).expect("one owner").data["object"]["spec"] = json!("x".repeat(8 << 20));
        input
    };
    let names: Vec<String> = (0..8).map(|number| format!("d{number}")).collect();
    for name in &names {
        assert!(line.event(0, &large(name, 1))[0].starts_with("holds"), "{name}");
    }
    assert_eq!(line.event(1, &deployment("Update", "small", 1)), ["too much shop/Deployment/small"]);
    assert!(line.event(1, &large("d0", 1))[0].starts_with("holds"), "it is known");
    line.restart();
    assert_eq!(line.event(2, &deployment("Update", "small", 1)), ["too much shop/Deployment/small"]);
    assert_eq!(line.progress().counts.suppressed.too_much_state, 2);
    line.event(3, &deployment("Update", "d0", 0));
    assert!(line.event(4, &deployment("Update", "small", 1))[0].starts_with("holds"));
    assert_eq!(line.tick(60).len(), 7);
}

#[test]
fn a_list_of_what_exists_that_was_taken_before_a_change_does_not_count() {
    let mut line = Timeline::of(held(json!({"for": "1m"}), json!({})));
    let of_version = |mut input: EventInput, uid: &str, version: u64| {
        input.origin.uid = uid.into();
        input.origin.seen =
            Some(serde_json::from_value(json!({"version": version, "count": 0, "name": "web"})).expect("seen"));
        input
    };
    let listed = |mut input: EventInput| {
        input.only = Some(SourceRef { rule: rule_ref("web").uid, generation: 1, source: "deploy".into() });
        input
    };
    line.event(0, &of_version(up(), "u1", 8));
    let mut gone = of_version(deployment("Delete", "d2", 0), "u2", 9);
    gone.origin.seen = None;
    line.event(0, &gone);
    line.restart();
    assert_eq!(line.event(1, &listed(of_version(down(), "u1", 7))), [""; 0]);
    assert_eq!(line.event(1, &listed(of_version(deployment("Create", "d2", 1), "u2", 7))), [""; 0]);
    // What was not seen since is as the list says.
    assert_eq!(
        line.event(1, &listed(of_version(deployment("Create", "d3", 1), "u3", 5))),
        ["holds(1000000) shop/deployment/d3"]
    );
}
