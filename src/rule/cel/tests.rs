mod evaluator;
mod extensions;
mod functions;
mod hostile;
mod kinds;

use serde_json::{Value, json};

use super::*;
use crate::event::Event;

fn event(data: Value) -> Event {
    Event {
        subject: Some("shop/Pod/web-1".into()),
        time: Some("2026-11-02T07:16:20Z".parse().expect("time")),
        ..Event::new("u/1", "/api/v1/events", "dev.signalbox.resource.updated", data)
    }
}

fn rule_ref() -> crate::record::RuleRef {
    crate::record::RuleRef { uid: crate::record::RuleUid("uid-1".into()), namespace: "shop".into(), name: "web".into() }
}

fn now() -> k8s_openapi::jiff::Timestamp {
    "2026-11-02T08:00:00Z".parse().expect("time")
}

/// Evaluates an expression with `data` as `event.data`.
fn evaluate(data: Value, source: &str) -> Result<Value, EvalError> {
    let program = Program::compile(source, &Names::conditions()).expect(source);
    let event = event(data);
    let rule = rule_ref();
    program.evaluate(&Scope::new(&event, "crash", &rule, now()))
}

#[track_caller]
fn check(data: Value, source: &str, expected: Value) {
    assert_eq!(evaluate(data, source), Ok(expected), "{source}");
}

#[track_caller]
fn fails(data: Value, source: &str, part: &str) {
    let error = evaluate(data, source).expect_err(source).to_string();
    assert!(error.contains(part), "{source}: {error:?} does not say {part:?}");
}

#[track_caller]
fn refused(source: &str, line: usize, column: usize, part: &str) {
    let fault = Program::compile(source, &Names::conditions()).expect_err(source);
    assert!(fault.message.contains(part), "{source}: {:?} does not say {part:?}", fault.message);
    assert_eq!((fault.line, fault.column), (line, column), "{source}: {fault}");
}

#[test]
fn labels_with_dots_and_slashes_are_read_and_absent_ones_are_absent() {
    let with = |labels: Value| json!({"operation": "Update", "object": {"metadata": {"labels": labels}}});
    let pump = with(json!({"app.kubernetes.io/name": "pump", "a.b": "1"}));
    let none = with(json!({}));
    let by_name = r#"object.metadata.labels[?"app.kubernetes.io/name"].orValue("") == "pump""#;
    check(pump.clone(), r#"object.metadata.labels["app.kubernetes.io/name"] == "pump""#, json!(true));
    fails(
        none.clone(),
        r#"object.metadata.labels["app.kubernetes.io/name"] == "pump""#,
        "no such field: object.metadata.labels[\"app.kubernetes.io/name\"]",
    );
    check(pump.clone(), by_name, json!(true));
    check(none.clone(), by_name, json!(false));
    check(pump.clone(), r#""a.b" in object.metadata.labels"#, json!(true));
    check(none.clone(), r#""a.b" in object.metadata.labels"#, json!(false));
    check(none, r#"object.metadata.labels[?"helm.sh/chart"].orValue("") != "x""#, json!(true));
    refused(r#"has(object.metadata.labels["helm.sh/chart"])"#, 1, 27, "has()");
}

#[test]
fn nulls_compare_and_integers_keep_every_digit() {
    let falco =
        json!({"output_fields": {"k8s.ns.name": null, "user.uid": 4294967295u64, "evt.time": 1793603780123456789i64}});
    check(falco.clone(), r#"event.data.output_fields["k8s.ns.name"] == "orders""#, json!(false));
    check(falco.clone(), r#"event.data.output_fields["k8s.ns.name"] != "orders""#, json!(true));
    check(falco.clone(), r#"event.data.output_fields["user.uid"] > 0"#, json!(true));
    check(falco.clone(), r#"event.data.output_fields["user.uid"]"#, json!(4294967295u64));
    check(falco, r#"event.data.output_fields["evt.time"]"#, json!(1793603780123456789i64));
    let data = json!({"id": 20200219, "big": 18446744073709551615u64, "f": 1.0, "s": "15", "t": "1500"});
    check(data.clone(), "int(event.data.s) > 9", json!(true));
    check(data.clone(), r#"event.data.s > "9""#, json!(false));
    check(data.clone(), "event.data.id", json!(20200219));
    check(data.clone(), "event.data.big", json!(18446744073709551615u64));
    check(data.clone(), "event.data.big > event.data.id", json!(true));
    fails(data, "event.data.s > 9", "'_>_'");
}

#[test]
fn maps_and_lists_are_equal_whichever_side_is_lazy() {
    let data = json!({"m": {"a": 1, "b": ["x"]}, "l": [1, {"k": null}]});
    check(data.clone(), "event.data.m == {'a': 1, 'b': ['x']}", json!(true));
    check(data.clone(), "{'a': 1, 'b': ['x']} == event.data.m", json!(true));
    check(data.clone(), "{'a': 2, 'b': ['x']} == event.data.m", json!(false));
    check(data.clone(), "{'a': 1} != event.data.m", json!(true));
    check(data.clone(), "[1, {'k': null}] == event.data.l", json!(true));
    check(data.clone(), "event.data == event.data", json!(true));
    check(data.clone(), "event.data.m == 'a'", json!(false));
    check(data, "{'k': null} in event.data.l", json!(true));
}

#[test]
fn elements_of_lists_are_reached_by_any_whole_number() {
    let data = json!({"l": [1, [2, 3], {"a": 4}], "n": 1u64});
    check(data.clone(), "event.data.l[1][0] + event.data.l[2].a + event.data.l[event.data.n][1]", json!(9));
    check(data.clone(), "event.data.l[0.0] + event.data.l[0u]", json!(2));
    check(data.clone(), "event.data.l[?7].orValue(5)", json!(5));
    check(data.clone(), "event.data.l + [6] == [1, [2, 3], {'a': 4}, 6]", json!(true));
    check(data.clone(), "[0] + event.data.l[1]", json!([0, 2, 3]));
    check(data.clone(), "[2, 3] in event.data.l && !(9 in event.data.l)", json!(true));
    fails(data.clone(), "event.data.l[7]", "out of bounds");
    fails(data, "event.data.l['a']", "no matching overload");
}

#[test]
fn functions_of_kubernetes_work() {
    let data = json!({"l": [3, 1, 2], "s": "a,b;a", "m": {"b": 1, "a": 2}, "d": [1.5, 2.0]});
    check(data.clone(), "event.data.l.sum()", json!(6));
    check(data.clone(), "event.data.d.sum()", json!(3.5));
    check(data.clone(), "event.data.l.min() + event.data.l.max()", json!(4));
    check(data.clone(), "event.data.l.isSorted()", json!(false));
    check(data.clone(), "event.data.l.sort().isSorted()", json!(true));
    check(
        data.clone(),
        "event.data.l.indexOf(2) + event.data.s.indexOf('b') + event.data.s.lastIndexOf('a')",
        json!(8),
    );
    check(data.clone(), "[1, 2, 1].lastIndexOf(1)", json!(2));
    check(data.clone(), "event.data.s.find('[b-z]+')", json!("b"));
    check(data.clone(), "event.data.s.findAll('[a-z]')", json!(["a", "b", "a"]));
    check(data.clone(), "event.data.s.findAll('[a-z]', 2).join('+')", json!("a+b"));
    check(data.clone(), "event.data.s.split(',')", json!(["a", "b;a"]));
    check(data.clone(), "'äöü'.split('')", json!(["ä", "ö", "ü"]));
    check(data.clone(), "event.data.s.replace('a', 'x', 1).upperAscii().trim()", json!("X,B;A"));
    check(data.clone(), "'%s has %d'.format(['web', 3])", json!("web has 3"));
    check(
        data.clone(),
        "sets.contains(event.data.l, [1, 2]) && !sets.equivalent([1], [2]) && sets.intersects([1], [1, 2])",
        json!(true),
    );
    check(data.clone(), "event.data.m.map(k, k).sort()", json!(["a", "b"]));
    check(
        data.clone(),
        "event.data.l.exists_one(x, x > 2) && event.data.l.all(x, x > 0) && event.data.l.filter(x, x > 1) == [3, 2]",
        json!(true),
    );
    check(data.clone(), "event.data.l.sortBy(x, -x)", json!([3, 2, 1]));
    check(data.clone(), "event.?data.?missing.optMap(x, x + 1).orValue(7)", json!(7));
    check(data.clone(), "size(event.data.m) + event.data.l.size() + size(event.data.s)", json!(10));
    check(data.clone(), "event.subject.matches('^shop/.*') && matches(event.subject, r'web-\\d')", json!(true));
    check(data.clone(), "event.subject.matches('^' + 'shop')", json!(true));
    check(data.clone(), "type(event.data.l[0]) == int && dyn(1) == 1", json!(true));
    check(data, "now - timestamp(event.time) > duration('40m') && now.getHours() == 8", json!(true));
}

#[test]
fn unknown_names_and_functions_are_faults_with_their_place() {
    refused(
        "evnt.type == 'x'",
        1,
        1,
        "unknown name `evnt`: known are event, now, object, oldObject, rule, source, variables",
    );
    refused("true &&\n  envt == 1", 2, 3, "unknown name `envt`");
    refused("event.tpye == 'x'", 1, 1, "`event` has no `tpye`: known are data, id, source, subject, time, type");
    refused("variables.x", 1, 1, "`variables` has no `x`: known are none");
    refused("event.type.frobnicate()", 1, 22, "unknown function `.frobnicate`");
    refused("startsWith(event.type, 'a')", 1, 11, "unknown function `startsWith`: write it behind a value");
    refused("event.data.x.exists(y)", 1, 20, "takes 2 arguments, not 1");
    refused("[1].map(x, y)", 1, 12, "unknown name `y`");
    refused("lists.rang(3)", 1, 11, "unknown function `lists.rang`");
    refused("quantities('1Mi')", 1, 11, "unknown function `quantities`");
    refused("math.greatest()", 1, 14, "takes 1 or more arguments, not 0");
    refused("event.type ==", 1, 14, "");
    refused("'abc", 1, 1, "no closing quote");
    refused("event.type.matches('(')", 1, 19, "not a regular expression");
    refused("event.type.matches('x{1000}{1000}{1000}')", 1, 19, "bytes when compiled");
}

#[test]
fn what_could_kill_the_parser_is_refused_before_it_is_parsed() {
    for bracket in ["(", "[", "{"] {
        let deep = bracket.repeat(200_000);
        assert!(Program::compile(&deep, &Names::conditions()).is_err());
        refused(&bracket.repeat(40), 1, 33, "nested more than 32");
    }
    refused(&format!("'{}'", "a".repeat(64 << 10)), 1, 1, "4096 are allowed");
    // The motifs of cel-rust issue 306, at the length where they took gigabytes.
    for motif in ["[{a:b(", "(a?", "a[a.", "!-a?[", "{1:[a("] {
        for times in [4, 5, 30] {
            let _ = Program::compile(&motif.repeat(times), &Names::conditions());
        }
    }
    assert!(Program::compile(&"!".repeat(3000), &Names::conditions()).is_err());
    refused(&vec!["1"; 1000].join("+"), 1, 1, "chained or nested");
    refused(&format!("[{}]", vec!["1"; 300].join(",")), 1, 1, "256 are allowed");
}

#[test]
fn sixty_operations_in_a_row_fit_on_the_stack() {
    check(json!({}), &vec!["1"; 60].join("+"), json!(60));
    check(json!({"a": true}), &vec!["event.data.a"; 200].join(" && "), json!(true));
}

#[test]
fn brackets_in_strings_and_comments_do_not_count() {
    let text = format!("'{}' != \"{}\" // {}", "(".repeat(100), "]".repeat(100), "{".repeat(100));
    check(json!({}), &text, json!(true));
    check(
        json!({}),
        r#"r'\' + "\"(" + '''it's ('''  + b'x'.size().string()"#.trim_end_matches(" + b'x'.size().string()"),
        json!("\\\"(it's ("),
    );
}

#[test]
fn what_costs_too_much_fails_and_nothing_worse() {
    let items: Vec<i64> = (0..9_000).collect();
    let data = json!({"l": items, "s": "x".repeat(200_000), "o": {"deep": vec![json!({"a": [1, 2, 3]}); 5_000]}});
    refused("[1].all(a, [1].all(b, [1].all(c, true)))", 1, 30, "loops are nested more than 2");
    fails(data.clone(), "event.data.l.all(a, event.data.l.all(b, a != b + 1000000))", "costs more than");
    fails(data.clone(), "event.data.l.map(a, event.data.l.map(b, 1)).size() > 0", "costs more than");
    fails(data.clone(), "event.data.l.map(a, event.data.s + 'y').size() > 0", "costs more than");
    fails(data.clone(), "event.data.l.map(a, event.data.s).join('').size() > 0", "");
    fails(data.clone(), "event.data.l.all(a, event.data.o == event.data.o)", "costs more than");
    fails(data.clone(), "event.data.l.all(a, !({'x': 1} in event.data.o.deep))", "costs more than");
    check(data.clone(), "event.data.l.all(a, event.data.l[a] == a)", json!(true));
    fails(data.clone(), "event.data.l.distinct().size() > 0", "costs more than");
    fails(data.clone(), "event.data.s.replace('x', event.data.s).size() > 0", "longer than");
    fails(data.clone(), "event.data.s.split('').size() > 0", "longer than expressions may use");
    fails(
        data,
        "event.data.s + event.data.s + event.data.s + event.data.s + event.data.s + event.data.s == ''",
        "longer than",
    );
    fails(json!({"l": vec![0; 10_001]}), "event.data.l.all(x, x == 0)", "10001 elements");
    fails(json!({"l": vec![0; 10_001]}), "1 in event.data.l", "10001 elements");
    check(json!({"l": vec![0; 10_001]}), "event.data.l.size()", json!(10_001));
}

#[test]
fn a_pattern_that_would_explode_elsewhere_is_matched_in_linear_time() {
    let text = format!("{}b", "a".repeat(100_000));
    check(json!({"s": text}), "event.data.s.matches('(a+)+$')", json!(false));
    check(json!({"s": text, "p": "(a+)+$"}), "event.data.s.matches(event.data.p)", json!(false));
    fails(json!({"p": "x{1000}{1000}{1000}"}), "'a'.matches(event.data.p)", "bytes when compiled");
}

#[test]
fn a_missing_field_is_an_error_that_names_its_path() {
    fails(json!({"regarding": {}}), "event.data.regarding.name == 'x'", "no such field: event.data.regarding.name");
    fails(json!({}), "event.data.a.b.c > 1", "no such field: event.data.a");
    check(json!({}), "event.data.a > 1 || true", json!(true));
    check(json!({}), "has(event.data.a) && event.data.a > 1", json!(false));
}

// === Texts ===

fn fill(data: Value, template: Value, mode: Mode) -> Result<Value, EvalError> {
    let template = Template::compile(&template, mode, &Names::conditions(), "spec.body").expect("compiles");
    let event = event(data);
    let rule = rule_ref();
    template.fill(&Scope::new(&event, "crash", &rule, now()))
}

const NASTY: &str = "Readiness probe failed: Get \"http://10.0.0.9:8080/ready?x={{ .Values.y }}\":\n\tdial tcp: C:\\tmp $(id) `whoami` ${event.id} $${x} </script> <!channel> *bold*\n";

#[test]
fn a_value_stays_data_whatever_it_looks_like() {
    let data = json!({"message": NASTY, "count": 3});
    let template = json!({
        "text": "${event.data.message}", "n": "${event.data.count}", "all": "${event}",
        "args": ["--msg=${event.data.message}"], "plain": "$${event.id} costs $5", "number": 1
    });
    let filled = fill(data.clone(), template.clone(), Mode::Typed).expect("fills");
    assert_eq!(filled["text"], json!(NASTY));
    assert_eq!(filled["n"], json!(3));
    assert_eq!(filled["all"]["data"], data);
    assert_eq!(filled["all"]["subject"], json!("shop/Pod/web-1"));
    assert_eq!(filled["args"], json!([format!("--msg={NASTY}")]));
    assert_eq!(filled["plain"], json!("${event.id} costs $5"));
    assert_eq!(filled["number"], json!(1));
    let text = fill(data, template, Mode::Text).expect("fills");
    assert_eq!(text["n"], json!("3"));
    assert!(text["all"].is_string());
}

#[test]
fn a_missing_or_null_value_is_an_error_with_its_field() {
    let error = fill(json!({}), json!({"a": [{"b c": "x ${event.data.message}"}]}), Mode::Typed).expect_err("missing");
    assert_eq!(error.to_string(), "spec.body.a[0][\"b c\"]: no such field: event.data.message");
    let error = fill(json!({"n": null}), json!("x ${event.data.n}"), Mode::Typed).expect_err("null");
    assert_eq!(error.to_string(), "spec.body: event.data.n is null");
    assert_eq!(fill(json!({"n": null}), json!("${event.data.n}"), Mode::Typed), Ok(Value::Null));
    let error = fill(json!({}), json!("${event.?data.?x}"), Mode::Typed).expect_err("an optional");
    assert!(error.message.contains(".orValue("), "{error}");
}

#[test]
fn the_end_of_an_expression_is_found_past_strings_and_maps() {
    let template = json!("a ${ {'k': '}'}['k'] + \"}\" } b ${'$' + '{'}");
    assert_eq!(fill(json!({}), template, Mode::Text), Ok(json!("a }} b ${")));
}

#[test]
fn faults_of_a_text_have_their_place_in_the_text() {
    let names = Names::conditions();
    let faults = Text::compile("ab\nc ${evnt.id} ${ event.di }", &names).expect_err("two faults");
    let places: Vec<_> = faults.iter().map(|fault| (fault.line, fault.column)).collect();
    assert_eq!(places, [(2, 5), (2, 17)], "{faults:?}");
    let faults = Text::compile("x ${event.id", &names).expect_err("no end");
    assert!(faults[0].message.contains("no closing `}`"), "{faults:?}");
    assert!(Text::compile(&"${event.id}".repeat(65), &names).is_err());
    let faults = Template::compile(&json!({"${event.id}": 1}), Mode::Typed, &names, "p").expect_err("a key");
    assert!(faults[0].message.contains("keys take no"), "{faults:?}");
}

#[test]
fn a_filled_template_is_limited_in_size() {
    let data = json!({"s": "x".repeat(100_000)});
    let error = fill(data, json!(vec!["${event.data.s}"; 3]), Mode::Text).expect_err("300 KB");
    assert!(error.message.contains("256 KiB"), "{error}");
}

#[test]
fn what_has_no_expression_is_static() {
    let compile = |value: Value| Template::compile(&value, Mode::Typed, &Names::conditions(), "p").expect("compiles");
    assert!(compile(json!({"a": ["$${x}", 1, null]})).is_static());
    assert!(!compile(json!({"a": ["${event.id}"]})).is_static());
}

#[test]
fn a_scope_has_what_was_added_and_nothing_else() {
    let names = Names::of(&["notification"]);
    let value = json!({"title": "t"});
    let program = Program::compile("notification.title", &names).expect("compiles");
    assert_eq!(program.evaluate(&Scope::empty().with_value("notification", &value)), Ok(json!("t")));
    assert!(Program::compile("event.id", &names).is_err());
}

proptest::proptest! {
    #[test]
    fn a_text_without_expressions_is_filled_in_as_itself(text in "[a-z $\\{\\}\n\"']{0,40}") {
        let escaped = text.replace("${", "$${");
        if let Ok(compiled) = Text::compile(&escaped, &Names::conditions()) {
            proptest::prop_assert_eq!(compiled.fill(&Scope::empty()), Ok(text));
        } else {
            proptest::prop_assert!(false, "{:?} does not compile", escaped);
        }
    }

    #[test]
    fn no_expression_makes_compile_or_evaluate_panic(source in "[ a-z0-9.()\\[\\]{}'\"?:+*/!=<>&|,$\\\\-]{0,60}") {
        if let Ok(program) = Program::compile(&source, &Names::conditions()) {
            let event = event(json!({"a": 1}));
            let rule = rule_ref();
            let _ = program.evaluate(&Scope::new(&event, "s", &rule, now()));
        }
    }

    #[test]
    fn json_that_is_filled_in_whole_is_the_same(number in proptest::num::i64::ANY, big in proptest::num::u64::ANY, text in ".{0,20}") {
        let data = json!({"n": number, "u": big, "s": text, "l": [text, null, true], "m": {"k": {text: 1}}});
        proptest::prop_assert_eq!(fill(data.clone(), json!("${event.data}"), Mode::Typed), Ok(data));
    }
}
