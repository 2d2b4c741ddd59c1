//! What strangers send, through every decoder, the log and the engine: nothing panics, and what is taken can be read again.

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::{
    api::Operation,
    event::{
        MAX_LEVELS, cloud_events, event_source, kubernetes_event::from_kubernetes_event, levels, resource,
        resource::Change, webhook,
    },
    poison::bait,
    record,
};

/// Values that fit nowhere, or just.
fn odd() -> impl Strategy<Value = Value> {
    let nested = |levels: usize| {
        (0..levels).fold(json!(1), |inside, level| if level % 2 == 0 { json!([inside]) } else { json!({"a": inside}) })
    };
    prop_oneof![
        2 => Just(Value::Null),
        4 => prop::sample::select(vec![
            json!(true), json!(0), json!(-1), json!(i64::MIN), json!(i64::MAX), json!(u64::MAX), json!(1e308), json!(-0.0), json!(5e-324), json!(1.5),
            json!(""), json!(" "), json!("a\u{0}b"), json!("\u{feff}\u{202e}😀"), json!("x".repeat(5_000)), json!("/"), json!("a/b/c"), json!("${event.id}"),
            json!([]), json!({}), json!([[]]), json!({"": {"": null}}), json!([null, {"a": 1}, "x", 1e300]),
        ]),
        3 => prop::sample::select(vec![
            "9999-12-31T23:59:59.999999999Z", "-009999-01-02T01:59:59Z", "0001-01-01T00:00:00Z", "2026-06-30T23:59:60Z", "2026-02-30T00:00:00Z",
            "2026-11-02T07:20:00+25:59", "10000-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "T", "2026-11-02", "99999999999999999999", "-1",
        ]).prop_map(Value::from),
        2 => (80..130_usize).prop_map(nested),
        1 => any::<f64>().prop_map(|number| json!(number)),
        1 => "\\PC{0,20}".prop_map(Value::from),
    ]
}

/// All places of a document.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), out))
        }
        Value::Object(members) => members.iter().for_each(|(name, item)| places(item, &format!("{at}/{name}"), out)),
        _ => {}
    }
}

/// The document with some of its values replaced by odd ones.
fn spoilt(document: Value) -> impl Strategy<Value = Value> {
    let mut all = Vec::new();
    places(&document, "", &mut all);
    prop::collection::vec((prop::sample::select(all), odd()), 0..5).prop_map(move |changes| {
        let mut document = document.clone();
        for (place, value) in changes {
            if let Some(found) = document.pointer_mut(&place) {
                *found = value;
            }
        }
        document
    })
}

fn kubernetes_event() -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "BackOff", "message": "m", "note": "n", "action": "a", "count": 3,
        "metadata": {"name": "e", "namespace": "shop", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-11-02T07:16:20Z",
            "managedFields": [{"manager": "signalbox-x"}], "labels": {"a": "b"}},
        "series": {"count": 4, "lastObservedTime": "2026-11-02T07:16:20.000001Z"}, "eventTime": "2026-11-02T07:16:20.000001Z",
        "firstTimestamp": "2026-11-02T07:16:20Z", "lastTimestamp": "2026-11-02T07:16:20Z", "deprecatedCount": 1,
        "deprecatedLastTimestamp": null, "reportingComponent": "kubelet", "source": {"component": "kubelet", "host": "n1"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "p", "fieldPath": "spec"},
        "related": {"kind": "Node", "name": "n1"}})
}

fn secret() -> Value {
    json!({"metadata": {"name": "s", "namespace": "shop", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-11-02T07:16:20Z",
            "labels": {"app": "web"}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "signalbox-0123-grow", "fieldsV1": {"f:spec": {}}}]},
        "type": "Opaque", "data": {"a": "AA==", "b": null}, "stringData": {"c": "d"}, "spec": {"replicas": 3}, "status": {"conditions": [{"type": "Ready"}]}})
}

fn cloud_event() -> Value {
    json!({"specversion": "1.0", "id": "m-1", "source": "/s", "type": "com.example.temp", "subject": "t17", "time": "2026-11-02T07:20:00Z",
        "datacontenttype": "application/json", "dataschema": "/x", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "level": 3, "data": {"celsius": 71.5, "list": [1, {"a": "b"}]}, "data_base64": null})
}

/// Bytes that are nearly a document: with tokens put in somewhere that JSON does not have, or hardly.
fn bytes_of(document: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<u8>> {
    let tokens: Vec<Vec<u8>> = vec![
        b"1e999".to_vec(),
        b"-1e999".to_vec(),
        b"18446744073709551616".to_vec(),
        b"\xff\xfe".to_vec(),
        b"\"\\ud800\"".to_vec(),
        b"NaN".to_vec(),
        b"\0".to_vec(),
        b"{\"id\":1,\"id\":2}".to_vec(),
        vec![b'['; 10_000],
        b"{\"a\":".repeat(10_000),
        b"%00%ff&payload=%7B".to_vec(),
        b",".to_vec(),
        b"]}".to_vec(),
    ];
    let token = prop::option::of((any::<prop::sample::Index>(), prop::sample::select(tokens), 0..3_usize));
    (document, token).prop_map(|(document, token)| {
        let mut bytes = document.to_string().into_bytes();
        if let Some((index, token, gone)) = token {
            let at = index.index(bytes.len() + 1);
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, token);
        }
        bytes
    })
}

fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
    let pair = |(name, value): &(&str, &[u8])| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    pairs.iter().filter_map(pair).collect()
}

/// Three rules that look at all that there is, one for each kind of source.
fn curious() -> Engine {
    let body = |source: Value, object: &str| {
        let text = "${event.id} ${event.time} ${event.data} ${count} ${group.g} ${rule.name} ${now}";
        json!({
            "sources": [source],
            "variables": [{"name": "v", "expression": "event.data"}, {"name": "s", "expression": "string(event.data.count)"}],
            "when": [{"name": "w", "expression": format!("{object} || variables.v != null || size(variables.s) > 0")}],
            "groupBy": [{"name": "g", "expression": "has(event.subject) ? event.subject : event.id"}],
            "trigger": {"count": {"atLeast": 1, "within": "10m"}},
            "throttle": {"cooldown": "1m"},
            "actions": [
                {"name": "tell", "notify": {"sinkRef": {"name": "oncall"}, "text": text}},
                {"name": "change", "patch": {"target": {"kind": "Deployment", "name": "${event.data.regarding.name}"}, "patch": {"metadata": {"annotations": {"a": "${event.data}"}}}}},
            ],
        })
    };
    let mut engine = Engine::new(log());
    let sources = [
        (
            "event",
            json!({"name": "s", "kubernetesEvent": {"namespaces": {"from": "All", "clusterScoped": "Include"}}}),
            "event.data.delta > 0",
        ),
        (
            "object",
            json!({"name": "s", "resource": {"apiVersion": "v1", "kind": "Secret", "changedExpressions": ["object.?spec.replicas"], "namespaces": {"from": "All", "clusterScoped": "Include"}}}),
            "object.metadata.name != ''",
        ),
        ("sent", json!({"name": "s", "ref": {"name": "floor"}}), "event.type != ''"),
    ];
    for (name, source, object) in sources {
        put(&mut engine, name, 1, &spec(body(source, object)));
        listen(&mut engine, name, 1, "s", true);
    }
    engine
}

/// What the log takes of the event can be read again, and the engine judges it, fills in the actions and goes on.
fn lived_through(input: EventInput) -> Result<(), TestCaseError> {
    let record = Record::Event(Box::new(input));
    let mut bytes = Vec::new();
    if record::encode(&record, &mut bytes).is_err() {
        let Record::Event(input) = &record else { unreachable!() };
        prop_assert!(levels(&input.event.data) > MAX_LEVELS, "refused for its levels only");
        return Ok(());
    }
    let read = record::decode(&bytes);
    prop_assert!(read.is_ok(), "the log could not be opened any more: {:?}", read.err());
    let Ok(Record::Event(input)) = read else { unreachable!() };
    let mut again = Vec::new();
    record::encode(&Record::Event(input.clone()), &mut again).expect("what was read can be written");
    prop_assert_eq!(&again, &bytes, "the event is the same after a restart");

    let mut engine = curious();
    for (position, seconds) in [(10, 1), (11, 2), (12, i64::MAX / SECOND - 1_790_000_001)] {
        let head = head(position, seconds);
        let judged = engine.judge(&head, &input);
        for decision in &judged.decisions {
            let Decision::Fired(firing) = decision else { continue };
            let rule = Arc::clone(engine.rule(&firing.rule.uid).expect("in force"));
            let scope = cel::Scope::new(&input.event, "s", &firing.rule, head.stamp.timestamp())
                .with_variables(&rule)
                .with_group(&firing.group_values, firing.count);
            for action in &rule.actions {
                let _ = action.body.fill(&scope);
            }
        }
        engine.decide(&head, &input, &judged.seen, &judged.decisions);
        let judgement = record::Judgement::of(&head, None, &judged.decisions);
        let mut bytes = Vec::new();
        record::encode(&Record::Judgement(judgement), &mut bytes).expect("a judgement is shallow");
        prop_assert!(record::decode(&bytes).is_ok());
    }
    let rows = engine.dirty().into_iter().filter_map(|(table, key, row)| Some((table, key, row?)));
    let (_, lost) = Engine::restore(log(), rows.collect::<Vec<_>>());
    prop_assert_eq!(lost, Vec::<String>::new(), "all rows are read again");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_kubernetes_event_stops_a_watch_the_log_or_the_engine(raw in spoilt(kubernetes_event()), known in prop::option::of(any::<u32>())) {
        let watch = watch("v1", "Event", "");
        let known = known.map(|count| Seen::new(1, count, "shop/e"));
        let Ok(normalised) = from_kubernetes_event(raw, &watch, known.as_ref()) else { return Ok(()) };
        let Some(event) = normalised.event else { return Ok(()) };
        lived_through(EventInput { origin: normalised.origin, ..input(event, watch) })?;
    }

    #[test]
    fn no_object_stops_a_watch_the_log_or_the_engine(raw in spoilt(secret()), operation in prop::sample::select(vec![Operation::Create, Operation::Update, Operation::Delete]), kind in prop::sample::select(vec!["Secret", "ConfigMap"])) {
        let watch = watch("v1", kind, "");
        let seen_at = "2026-11-02T07:16:20Z".parse().expect("a time");
        let _ = resource::origin(&raw, &watch);
        let change = Change { watch: &watch, source: "/api/v1/secrets", operation, gap: true, seen_at };
        let Ok((event, origin)) = resource::from_object(raw, change) else { return Ok(()) };
        lived_through(EventInput { origin, ..input(event, watch.clone()) })?;
    }

    #[test]
    fn no_request_stops_a_webhook_the_log_or_the_engine(body in bytes_of(spoilt(cloud_event())), kind in prop::sample::select(vec![
        "application/cloudevents+json", "application/cloudevents-batch+json", "application/json", "text/plain; charset=", "application/x-www-form-urlencoded", "\"", ";;=",
    ]), odd in prop::collection::vec(32..=255_u8, 0..40)) {
        let structured = headers(&[("content-type", kind.as_bytes())]);
        let binary = headers(&[("content-type", kind.as_bytes()), ("ce-specversion", b"1.0"), ("ce-id", &odd), ("ce-source", b"/s"),
            ("ce-type", b"com.example.temp"), ("ce-time", b"2026-11-02T07:20:00Z"), ("ce-x", &odd), ("ce-subject", b"%ff%0a\\\"")]);
        let kept: Vec<webhook::KeptHeader> = vec![(HeaderName::from_static("ce-x"), "cex".to_owned())];
        let mut events = Vec::new();
        for headers in [&structured, &binary] {
            for body in [body.clone(), [b"[", &body[..], b"]"].concat()] {
                events.extend(cloud_events::decode(headers, &body).into_iter().flatten());
            }
            let id = String::from_utf8_lossy(&odd);
            events.extend(webhook::decode(headers, &body, &id, ("/source", "com.acme.push"), &kept));
        }
        for event in events {
            let origin = event_source::origin("shop", "floor", "u/1".to_owned(), 1);
            lived_through(EventInput { origin, ..input(event, watch("v1", "x", "")) })?;
        }
    }
}

#[test]
fn a_rule_that_panics_has_an_error_and_the_others_fire_also_by_the_next_event() {
    let mut engine = Engine::new(log());
    for name in ["a", "b"] {
        put(&mut engine, name, 1, &spec(json!({})));
        listen(&mut engine, name, 1, "any", true);
    }
    let events = [about("shop", "web", "BackOff", json!({})), about("shop", "web", "BackOff", json!({}))];
    let error = "error spec: this is a fault of signalbox, please report it: poison";
    let fired = "fired shop/Pod/web by any";
    // Where the filter that both have panics, each is asked by itself.
    bait::lay(0);
    assert_eq!(run(&mut engine, &events), [fired; 4]);
    bait::lay(1);
    assert_eq!(run(&mut engine, &events), [error, fired, fired, fired]);
    let seen = |name: &str| engine.progress(&rule_ref(name).uid).expect("known").counts.seen;
    assert_eq!((seen("a"), seen("b")), (4, 4));
}

#[test]
fn a_spec_that_panics_is_a_fault_of_its_rule() {
    let spec = spec(json!({}));
    bait::lay(0);
    let faults = compile(&rule_ref("web"), 1, &spec).expect_err("it panics");
    assert!(faults[0].to_string().contains("please report it: poison"), "{faults:?}");
    assert!(compile(&rule_ref("web"), 1, &spec).is_ok());
}
