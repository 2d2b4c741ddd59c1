//! Properties that hold for any rules and events.

use super::*;

fn any_source() -> impl Strategy<Value = Value> {
    let reasons = prop::collection::vec(prop::sample::select(vec!["A", "B", "C"]), 0..3);
    let namespaces = prop::sample::select(vec![
        json!({}),
        json!({"from": "All"}),
        json!({"from": "All", "clusterScoped": "Include"}),
        json!({"from": "Names", "names": ["shop", "orders"]}),
        json!({"from": "Names", "names": ["orders"], "clusterScoped": "Include"}),
        json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}),
        json!({"from": "Names", "names": (0..64).map(|n| format!("n{n}")).chain(["shop".to_owned()]).take(64).collect::<Vec<_>>()}),
    ]);
    let kinds = prop::sample::select(vec!["Deployment", "StatefulSet"]);
    let references = (prop::sample::select(vec!["x", "y"]), prop::sample::select(vec![json!([]), json!(["*.a"])]));
    prop_oneof![
        references.prop_map(|(name, types)| json!({"name": "s", "ref": {"name": name, "types": types}})),
        (reasons, namespaces.clone()).prop_map(|(reasons, namespaces)| json!({"name": "s", "kubernetesEvent": {"reasons": reasons, "namespaces": namespaces}})),
        (kinds, namespaces).prop_map(|(kind, namespaces)| json!({"name": "s", "resource": {"apiVersion": "apps/v1", "kind": kind, "namespaces": namespaces}})),
    ]
}

fn any_input() -> impl Strategy<Value = EventInput> {
    let namespace = prop::sample::select(vec!["shop", "orders", "n3", ""]);
    let labels = prop::option::of(prop::sample::select(vec![json!({"a": "b"}), json!({})]));
    let event = (namespace.clone(), prop::sample::select(vec!["A", "B", "D"]))
        .prop_map(|(namespace, reason)| about(namespace, "p", reason, json!({})));
    let object = (namespace, prop::sample::select(vec!["Deployment", "Job"])).prop_map(|(namespace, kind)| {
        change("Update", kind, (!namespace.is_empty()).then_some(namespace), "p", json!({}))
    });
    let types = prop::sample::select(vec!["com.a", "com.b"]);
    let sent = (prop::sample::select(vec!["shop", "orders"]), prop::sample::select(vec!["x", "y"]), types)
        .prop_map(|(namespace, name, type_)| references::sent(namespace, name, type_, None, json!({})));
    (prop_oneof![event, object, sent], labels).prop_map(|(mut input, labels)| {
        input.lookups.namespace_labels = labels.map(|labels| serde_json::from_value(labels).expect("labels"));
        input
    })
}

/// The state as its rows tell it.
fn rows(engine: &mut Engine, view: &mut std::collections::BTreeMap<(Table, Vec<u8>), Vec<u8>>) {
    for (table, key, row) in engine.dirty() {
        match row {
            Some(row) => view.insert((table, key), row),
            None => view.remove(&(table, key)),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_finds_what_a_look_at_every_rule_finds(sources in prop::collection::vec(any_source(), 1..12), inputs in prop::collection::vec(any_input(), 1..12)) {
        let mut engine = Engine::new(log());
        let mut rules = Vec::new();
        for (number, source) in sources.into_iter().enumerate() {
            let name = format!("r{number:02}");
            put(&mut engine, &name, 1, &spec(json!({"sources": [source]})));
            listen(&mut engine, &name, 1, "s", true);
            rules.push(Arc::clone(engine.rule(&rule_ref(&name).uid).expect("in force")));
        }
        // One is replaced and one removed, so that what is taken out of the index is tried as well.
        put(&mut engine, "r00", 2, &spec(json!({})));
        listen(&mut engine, "r00", 2, "any", true);
        rules[0] = Arc::clone(engine.rule(&rule_ref("r00").uid).expect("in force"));
        if rules.len() > 1 {
            engine.fold(&head(1, 0), &Record::RuleRemove(rules.remove(1).rule.uid.clone()));
        }
        for input in &inputs {
            let expected: Vec<RuleUid> = rules.iter()
                .filter(|rule| rule.sources[0].filter.passes(&input.origin, &input.event, input.lookups.namespace_labels.as_ref(), None))
                .map(|rule| rule.rule.uid.clone())
                .collect();
            prop_assert_eq!(engine.seen_by(&engine.judge(&head(5, 0), input).seen), expected.clone());
            let concern = engine.interest().concern(&input.origin, &input.event);
            prop_assert!(concern.any || expected.is_empty(), "interest misses an event that a rule takes");
        }
    }

    #[test]
    fn a_restored_engine_is_the_one_that_was_saved(steps in prop::collection::vec((0u8..8, 0u8..3, 1i64..40), 1..60), cut in 0usize..60) {
        let mut one = Engine::new(log());
        let mut other: Option<Engine> = None;
        let mut view = std::collections::BTreeMap::new();
        let mut generation = 0;
        let mut time = 0;
        let mut fired: Vec<FiringId> = Vec::new();
        for (number, (step, which, wait)) in steps.iter().enumerate() {
            if number == cut {
                rows(&mut one, &mut view);
                let (restored, damage) = Engine::restore(log(), view.iter().map(|((table, key), row)| (*table, key.clone(), row.clone())));
                prop_assert!(damage.is_empty(), "{:?}", damage);
                other = Some(restored);
            }
            time += wait;
            let head = head(number as u64 + 100, time);
            let pod = format!("p{which}");
            let input = about("shop", &pod, "R", json!({"count": wait}));
            let record = match step {
                0 => {
                    generation += 1;
                    let body = json!({"historyLimit": which, "throttle": {"cooldown": format!("{}s", 10 * (generation % 2 + 1))},
                        "when": [{"name": "w", "expression": "event.data.count > 2 && event.data.coutn == 1 || event.data.count > 5"}]});
                    Some(Record::RulePut(RulePut { rule: rule_ref("web"), generation, spec: spec(body) }))
                }
                1 | 2 => {
                    let source = SourceRef { rule: rule_ref("web").uid, generation, source: "any".into() };
                    Some(if *which == 0 { Record::Deaf(source) } else { Record::Baseline(source) })
                }
                3 => fired.pop().map(|firing| Record::Finished(Finished { firing, rule: rule_ref("web").uid, outcome: FiringOutcome::Failed, message: "m".into(), failed_at: None })),
                4 if *which == 0 && *wait > 30 => Some(Record::RuleRemove(rule_ref("web").uid)),
                _ => None,
            };
            for engine in std::iter::once(&mut one).chain(&mut other) {
                if let Some(record) = &record {
                    engine.fold(&head, record);
                }
            }
            if record.is_none() {
                let judged = one.judge(&head, &input);
                if let Some(other) = &mut other {
                    prop_assert_eq!(&other.judge(&head, &input), &judged);
                    other.decide(&head, &input, &judged.seen, &judged.decisions);
                }
                one.decide(&head, &input, &judged.seen, &judged.decisions);
                fired.extend(judged.decisions.iter().filter_map(|decision| match decision {
                    Decision::Fired(firing) => Some(firing.id.clone()),
                    _ => None,
                }));
            }
        }
        if let Some(mut other) = other {
            let mut copy = view.clone();
            rows(&mut one, &mut view);
            rows(&mut other, &mut copy);
            prop_assert_eq!(view, copy);
            prop_assert_eq!(one.progress(&rule_ref("web").uid), other.progress(&rule_ref("web").uid));
        }
    }

    #[test]
    fn a_restart_at_any_point_changes_no_decision_of_a_rule_that_counts(
        events in prop::collection::vec((0u8..4, 0i64..30, 1u32..5, 0i64..200), 1..80),
        cuts in prop::collection::vec(any::<bool>(), 80),
        (at_least, within, max, forget, cooldown) in (1u32..6, 1i64..60, 1u32..4, 1i64..80, prop::option::of(1i64..40)),
        budget in prop::option::of((1u32..3, 1i64..80, prop::sample::select(vec!["Group", "Rule"]))),
    ) {
        let mut body = json!({"trigger": {"count": {"atLeast": at_least, "within": format!("{within}s")}},
            "groups": {"max": max, "forgetAfter": format!("{forget}s")}});
        if let Some(cooldown) = cooldown {
            body["throttle"] = json!({"cooldown": format!("{cooldown}s")});
        }
        if let Some((firings, per, scope)) = budget {
            body["throttle"]["budget"] = json!({"firings": firings, "per": format!("{per}s"), "scope": scope});
        }
        let (mut one, mut restarted) = (engine_with(body.clone()), engine_with(body));
        let mut view = std::collections::BTreeMap::new();
        let mut time = 0;
        for (number, ((which, wait, delta, late), cut)) in events.iter().zip(cuts).enumerate() {
            time += wait;
            let head = head(number as u64 + 100, time);
            let mut input = about("shop", &format!("p{which}"), "R", json!({"delta": delta}));
            Arc::get_mut(&mut input.event).expect("one owner").time = Some(self::head(0, time - late).stamp.timestamp());
            let judged = one.judge(&head, &input);
            one.decide(&head, &input, &judged.seen, &judged.decisions);
            if cut {
                rows(&mut restarted, &mut view);
                let saved = view.iter().map(|((table, key), row)| (*table, key.clone(), row.clone()));
                restarted = Engine::restore(log(), saved).0;
            }
            prop_assert_eq!(&restarted.judge(&head, &input), &judged);
            // As the log holds them.
            let judgement = Record::Judgement(crate::record::Judgement::of(&head, None, &judged.decisions));
            let mut bytes = Vec::new();
            crate::record::encode(&judgement, &mut bytes).expect("encode");
            let Record::Judgement(read) = crate::record::decode(&bytes).expect("decode") else { panic!("another record") };
            restarted.decide(&head, &input, &judged.seen, &read.decisions);
        }
    }

    /// What counts for a group, by looking at all of its occurrences.
    #[test]
    fn a_group_fires_when_all_its_occurrences_say_so(
        events in prop::collection::vec((0i64..12, 1u32..4), 1..80),
        (at_least, within, cooldown) in (1u64..6, 1i64..40, prop::option::of(1i64..40)),
    ) {
        let mut body = json!({"trigger": {"count": {"atLeast": at_least, "within": format!("{within}s")}}});
        if let Some(cooldown) = cooldown {
            body["throttle"] = json!({"cooldown": format!("{cooldown}s")});
        }
        let mut engine = engine_with(body);
        let (mut time, mut all, mut until) = (0, Vec::<(i64, u32)>::new(), 0);
        for (number, (wait, delta)) in events.into_iter().enumerate() {
            time += wait;
            let head = head(number as u64 + 100, time);
            let input = about("shop", "p", "R", json!({"delta": delta}));
            let judged = engine.judge(&head, &input);
            engine.decide(&head, &input, &judged.seen, &judged.decisions);
            all.push((time, delta));
            let count: u64 = all.iter().filter(|(at, _)| *at >= time - within).map(|(_, times)| u64::from(*times)).sum();
            let expected = match count >= at_least {
                false => "counted shop/Pod/p".to_owned(),
                true if time < until => "cooldown shop/Pod/p".to_owned(),
                true => {
                    all.clear();
                    until = time + cooldown.unwrap_or(0);
                    "fired".to_owned()
                }
            };
            let found = word(&judged.decisions[0]);
            prop_assert!(found.starts_with(&expected), "{} is not {} at {}", found, expected, time);
        }
    }

    #[test]
    fn a_filter_that_refuses_says_why_and_one_that_takes_does_not(mut source in any_source(), input in any_input(), narrow in 0u8..8) {
        let more = [("regarding", json!({"names": ["q"]})), ("regarding", json!({"selector": {}})), ("types", json!(["Normal"])), ("regarding", json!({"kind": "Node"})),
            ("names", json!(["q*"])), ("operations", json!(["Create"])), ("selector", json!({"matchLabels": {"a": "b"}})), ("names", json!(["?"]))];
        let (field, value) = more[usize::from(narrow)].clone();
        let events = source.get("kubernetesEvent").is_some();
        if source.get("ref").is_none() && events == (narrow < 4) {
            source[if events { "kubernetesEvent" } else { "resource" }][field] = value;
        }
        let rule = compile(&rule_ref("web"), 1, &spec(json!({"sources": [source]}))).expect("compiles");
        let filter = &rule.sources[0].filter;
        for input in [wide(input.clone()), input] {
            let watch = &input.origin.watch;
            let of_kind = match filter.kind() {
                filter::Kind::KubernetesEvent { .. } => filter::is_kubernetes_event(watch, &input.event),
                filter::Kind::Reference { .. } | filter::Kind::Schedule(_) | filter::Kind::Rules { .. } => filter.looks_at(&input.origin, &input.event),
                filter::Kind::Resource { api_version, kind, .. } => watch.api_version == *api_version && watch.kind == *kind,
            };
            if of_kind && filter.namespaces().scopes.contains(&watch.namespace) {
                let labels = input.lookups.namespace_labels.as_ref();
                prop_assert_eq!(filter.refusal(&input.event, &input.origin, labels, None).is_none(), filter.passes(&input.origin, &input.event, labels, None));
            }
        }
    }

    #[test]
    fn globs_match_as_regular_expressions_do(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
        let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
        let expected = regex::Regex::new(&regex).expect("a pattern").is_match(&name);
        prop_assert_eq!(filter::Glob::new(&pattern).matches(&name), expected);
    }

    #[test]
    fn restarts_and_ticks_change_no_decision_of_any_trigger(
        happenings in prop::collection::vec((0i64..30, 0u8..10, 0u8..3, 0i64..20), 1..60),
        trigger in any_trigger(),
        cooldown in prop::option::of(1i64..80),
        max in 1u32..4,
    ) {
        let mut body = json!({"trigger": trigger, "groups": {"max": max}});
        if let Some(cooldown) = cooldown {
            body["throttle"] = json!({"cooldown": format!("{cooldown}s")});
        }
        let mut second = 0;
        let happenings: Vec<_> = happenings.into_iter().map(|(wait, what, which, v)| {
            second += wait;
            let reason = ["A", "B", "C"][usize::from(what % 3)];
            let at = head(0, second + v * 5).stamp.timestamp().to_string();
            let mut input = about("shop", &format!("p{which}"), reason, json!({"v": v, "at": at}));
            Arc::get_mut(&mut input.event).expect("one owner").time = Some(head(0, second - v * 2).stamp.timestamp());
            (wait, match what {
                0..6 => timeline::Happening::Event(Box::new(input)),
                6 | 7 => timeline::Happening::Nothing,
                _ => timeline::Happening::Restart,
            })
        }).collect();
        timeline::goes_on_the_same(&body, &happenings)?;
    }
}

pub(super) fn any_trigger() -> impl Strategy<Value = Value> {
    let event =
        |reason: &str| json!({"when": [{"name": "is", "expression": format!("event.data.reason == '{reason}'")}]});
    let value = |aggregation: &str, more: Value| {
        let mut value = json!({"expression": "double(event.data.v)", "within": "60s", "aggregation": aggregation});
        more.as_object().into_iter().flatten().for_each(|(key, more)| value[key] = more.clone());
        json!({"value": value})
    };
    prop::sample::select(vec![
        json!({"count": {"atLeast": 3, "within": "40s"}}),
        json!({"absent": {"for": "50s"}}),
        json!({"batch": {"wait": "20s", "maxWait": "50s", "maxEvents": 4}}),
        json!({"sequence": {"within": "80s", "steps": [event("A"), event("B")], "unless": event("C")}}),
        json!({"all": {"within": "60s", "of": [event("A"), event("B"), event("C")]}}),
        json!({"due": {"atExpression": "timestamp(event.data.at)"}}),
        json!({"anomaly": {"expression": "double(event.data.v)", "deviations": 1, "direction": "Both", "warmup": 10}}),
        value("Avg", json!({"above": "9", "clear": "6", "for": "15s"})),
        value("Count", json!({"above": "3", "noData": "Clear"})),
        value("Sum", json!({"below": "20", "noData": "Fire"})),
        value("P90", json!({"above": "12"})),
        value("Rate", json!({"above": "0.1"})),
    ])
}
