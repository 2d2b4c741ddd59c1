//! What the evaluator makes of failures, loops and bindings.

use super::*;

#[test]
fn a_side_that_decides_makes_up_for_a_failure_of_the_other() {
    let data = json!({"t": true, "f": false});
    for (source, expected) in [
        ("event.data.x || event.data.t", true),
        ("event.data.t || event.data.x", true),
        ("event.data.x && event.data.f", false),
        ("event.data.f && event.data.x", false),
        ("[1, 'a', 2].exists(x, x > 1)", true),
        ("[1, 'a', 0].all(x, x > 0)", false),
        ("event.data.t ? true : event.data.x", true),
    ] {
        check(data.clone(), source, json!(expected));
    }
    for source in [
        "event.data.x || event.data.f",
        "event.data.x && event.data.t",
        "[1, 'a'].all(x, x > 0)",
        "[1, 'a'].exists(x, x > 5)",
        "[2, 'a'].exists_one(x, x > 1)",
        "event.data.x ? true : true",
    ] {
        evaluate(data.clone(), source).expect_err(source);
    }
}

#[test]
fn nothing_makes_up_for_a_budget_that_is_used_up() {
    let data = json!({"l": (0..9_000).collect::<Vec<_>>()});
    fails(data.clone(), "event.data.l.all(a, event.data.l.all(b, a != b + 1000000)) || true", "costs more than");
    fails(data, "event.data.l.exists(a, event.data.l.exists(b, a == b + 1000000)) || true", "costs more than");
}

#[test]
fn two_names_stand_for_index_and_element_or_key_and_value() {
    let data = json!({"l": ["a", "b", "c"], "m": {"x": 1, "y": 2}});
    for (source, expected) in [
        ("event.data.l.all(i, e, event.data.l[i] == e)", json!(true)),
        ("event.data.l.exists(i, e, i == 2 && e == 'c')", json!(true)),
        ("event.data.m.exists_one(k, v, v > 1)", json!(true)),
        ("event.data.m.all(k, v, v < 2)", json!(false)),
        ("event.data.l.transformList(i, e, e + string(i))", json!(["a0", "b1", "c2"])),
        ("event.data.l.transformList(i, e, i > 0, e)", json!(["b", "c"])),
        ("event.data.m.transformMap(k, v, v * 10)", json!({"x": 10, "y": 20})),
        ("event.data.m.transformMap(k, v, v > 1, v * 10)", json!({"y": 20})),
        ("event.data.l.transformMapEntry(i, e, {e: i})", json!({"a": 0, "b": 1, "c": 2})),
        ("cel.bind(x, event.data.m.x + 1, x * x)", json!(4)),
        ("[1, 2].map(x, cel.bind(y, x, [3].map(x, x + y)[0]))", json!([4, 5])),
        ("['b', 'a'].map(event, event).sort()", json!(["a", "b"])),
        ("['b'].map(event, .event.id)", json!(["u/1"])),
    ] {
        check(data.clone(), source, expected);
    }
    fails(data, "event.data.l.transformMapEntry(i, e, {'k': i})", "stands twice");
    refused("[1].all(x, x, true)", 1, 12, "stands for two things");
    refused("[1].map(x.y, 1)", 1, 10, "a plain name");
}

#[test]
fn optionals_go_on_as_optionals() {
    let data = json!({"m": {"a": {"b": 1}}, "n": null});
    for (source, expected) in [
        ("event.data.?m.a.b.orValue(0) + event.data.?m.c.b.orValue(5)", json!(6)),
        ("has(event.data.?m.a.b) && !has(event.data.?m.a.c)", json!(true)),
        ("[1, ?event.data.?x, ?event.data.?m.a.b]", json!([1, 1])),
        ("{?'x': event.data.?x, ?'b': event.data.?m.a.b}", json!({"b": 1})),
        ("event.data.?x.or(event.data.?m).value().a.b", json!(1)),
        ("event.data.?m.optFlatMap(m, m.?a).value().b", json!(1)),
        ("[1, 2].first().value() + [1, 2].last().value() + [].first().orValue(7)", json!(10)),
        ("[optional.of(1), optional.none()].unwrapOpt()", json!([1])),
        ("optional.ofNonZeroValue('').hasValue()", json!(false)),
        ("event.data.?n.hasValue()", json!(true)),
    ] {
        check(data.clone(), source, expected);
    }
    fails(data.clone(), "event.data.?x.value()", "use orValue()");
    fails(data.clone(), "event.data.n.x == 1", "event.data.n is null and has no field x");
    fails(data, "event.data.m.a.b.c == 1", "event.data.m.a.b is a int and has no field c");
}

#[test]
fn numbers_are_exact_and_do_not_overflow() {
    let data = json!({"i": i64::MAX, "u": u64::MAX, "d": 9_007_199_254_740_992.0});
    for (source, expected) in [
        ("event.data.i < event.data.u && event.data.u > event.data.i", json!(true)),
        ("9007199254740993 > event.data.d && event.data.d < 9007199254740993", json!(true)),
        ("9223372036854775807 == 9223372036854775808.0", json!(false)),
        ("1 == 1.0 && 1u == 1 && 1.0 == 1u", json!(true)),
        ("int('-9223372036854775808') % -1 == 0", json!(false)),
        ("7 / -2 == -3 && 7 % -2 == 1", json!(true)),
    ] {
        if source.contains("% -1") {
            fails(data.clone(), source, "out of range");
        } else {
            check(data.clone(), source, expected);
        }
    }
    for source in ["event.data.i + 1", "-event.data.i - 2", "event.data.u * 2u", "0u - 1u"] {
        fails(data.clone(), source, "out of range");
    }
    fails(data.clone(), "1 / (event.data.i - event.data.i)", "division by zero");
    fails(data.clone(), "1 % (event.data.i - event.data.i)", "modulus by zero");
    fails(data, "event.data.i + event.data.d", "'_+_'");
}

#[test]
fn times_have_their_bounds_and_parts() {
    for (source, expected) in [
        ("timestamp('2026-03-29T01:30:00Z').getHours('Europe/Berlin')", json!(3)),
        ("timestamp('2026-03-29T01:30:00Z').getHours('-05:30')", json!(20)),
        ("timestamp('2026-11-02T07:16:20.5+01:00') == timestamp('2026-11-02T06:16:20.500Z')", json!(true)),
        ("duration('1h30m') == duration('90m') && duration('-1.5s') == duration('-1500ms')", json!(true)),
        ("string(duration('1h1.5s'))", json!("3601.5s")),
        ("string(timestamp('2026-01-01T00:00:00Z') + duration('36h'))", json!("2026-01-02T12:00:00Z")),
        ("(timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z')).getHours()", json!(24)),
        (
            "string(timestamp('9999-12-31T23:59:59.5Z')) + string(timestamp('9999-12-31T00:00:00Z').getHours('Europe/Berlin'))",
            json!("9999-12-31T23:59:59.5Z1"),
        ),
        ("timestamp(0).getFullYear() + int(timestamp('1970-01-01T00:00:05Z'))", json!(1975)),
    ] {
        check(json!({}), source, expected);
    }
    for source in [
        "timestamp('2026-11-02 07:16:20Z')",
        "timestamp('2026-02-30T00:00:00Z')",
        "timestamp('9999-12-31T23:59:59Z') + duration('1s')",
        "timestamp('0001-01-01T00:00:00Z') - duration('1ns')",
        "duration('315576000001s')",
        "duration('1d')",
        "duration('')",
        "now.getHours('Mars/Base')",
    ] {
        evaluate(json!({}), source).expect_err(source);
    }
}

#[test]
fn the_parts_of_an_expression_are_told_with_their_values() {
    let source = "event.data.count >= 3 && (event.data.name.startsWith('web') || event.data.nothing)";
    let program = Program::compile(source, &Names::conditions()).expect(source);
    let (event, rule) = (event(json!({"count": 4, "name": "db"})), rule_ref());
    let explained = program.explain(&Scope::new(&event, "s", &rule, now()));
    let told: Vec<String> = explained
        .iter()
        .map(|part| match &part.value {
            Ok(value) => format!("{} = {value}", part.expression),
            Err(error) => format!("{}: {error}", part.expression),
        })
        .collect();
    assert_eq!(
        told,
        [
            "(event.data.count >= 3) && (event.data.name.startsWith('web') || event.data.nothing): no such field: event.data.nothing",
            "event.data = {\"count\":4,\"name\":\"db\"}",
            "event.data.count = 4",
            "event.data.count >= 3 = true",
            "event.data.name = \"db\"",
            "event.data.name.startsWith('web') = false",
            "event.data.nothing: no such field: event.data.nothing",
            "event.data.name.startsWith('web') || event.data.nothing: no such field: event.data.nothing",
        ]
    );
    // What was not looked at is not told, and loops cannot fill the memory.
    let items: Vec<i64> = (0..5_000).collect();
    let data = super::event(json!({"l": items}));
    let program = Program::compile("false && event.id == '' || event.data.l.all(x, x >= 0)", &Names::conditions());
    let explained = program.expect("it compiles").explain(&Scope::new(&data, "s", &rule, now()));
    assert!(explained.len() <= 256 && explained[0].value == Ok(json!(true)), "{explained:?}");
    assert!(explained.iter().all(|part| !part.expression.starts_with("event.id")), "{explained:?}");
}

#[test]
fn types_that_do_not_fit_are_refused_with_their_place() {
    refused("event.type + 1 == 'x'", 1, 12, "'_+_' applied to '(string, int)'");
    refused("event.type == 1", 1, 12, "'_==_' applied to '(string, int)'");
    refused("event.id.getHours() == 1", 1, 18, "'getHours' applied to '(string)'");
    refused("now - event.time < duration('1h')", 1, 5, "'_-_' applied to '(timestamp, string)'");
    refused("event.type && true", 1, 6, "'_&&_' applied to '(string)'");
    refused("event.id.x == 1", 1, 9, "a string has no field `x`");
    refused("event.id.size().startsWith('a')", 1, 27, "'startsWith' applied to '(int, string)'");
    refused("{1.5: 1}", 1, 2, "a double cannot be a key");
    refused("['a'].all(x, 'b')", 1, 14, "'all' applied to '(string)'");
    refused("'a'.map(x, x)", 1, 8, "'map' applied to '(string)'");
    refused("variables", 1, 1, "variables.<name>");
}
