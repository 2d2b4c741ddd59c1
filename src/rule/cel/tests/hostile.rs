//! Expressions that are written to do harm.

use super::*;

/// Nothing but a value or an error comes of it, and the budget holds.
fn bounded(data: Value, source: &str) {
    if let Ok(program) = Program::compile(source, &Names::conditions()) {
        let (event, rule) = (event(data), rule_ref());
        let scope = Scope::new(&event, "s", &rule, now());
        let _ = program.evaluate(&scope);
        let _ = program.saw(&scope);
    }
}

#[test]
fn brackets_within_brackets_are_refused_or_parsed_at_once() {
    refused(&"(".repeat(10_000), 1, 1, "4096 are allowed");
    refused(&"[".repeat(4_000), 1, 33, "nested more than 32");
    for (open, close) in [("[{'a':b(", ")}]"), ("(a?", ":1)"), ("a[b.c[", "]]"), ("{1:[a(", ")]}"), ("[[[", "]]]")] {
        for times in [4, 5, 10] {
            bounded(json!({}), &format!("{}1{}", open.repeat(times), close.repeat(times)));
        }
    }
    bounded(json!({}), &"-".repeat(4_000));
    bounded(json!({}), &format!("{}true", "!".repeat(4_000)));
    bounded(json!({}), &format!("1{}", "?1:1".repeat(1_000)));
}

#[test]
fn loops_that_multiply_use_up_their_budget() {
    let data = json!({"l": vec![1; 10_000]});
    let l = "event.data.l";
    refused(&format!("{l}.all(a, {l}.all(b, {l}.all(c, {l}.all(d, true))))"), 1, 57, "loops are nested");
    for source in [
        format!("{l}.map(a, {l})") + &format!(".map(x, x.map(y, y)).size() > 0 || {l} == {l}"),
        format!("{l}.transformMapEntry(i, e, {{i: {l}}}).all(k, v, v == {l})"),
        format!("{l}.map(a, {l}).flatten().size() == 0"),
        format!("{l}.map(a, string(a) + 'x').join(',').split(',').map(a, {l}.indexOf(9)).sum() == 0"),
        format!("{l}.sortBy(a, string({l})).size() == 0"),
        format!("sets.equivalent({l}.map(a, [a]), {l}.map(i, {l}.indexOf(0)))"),
    ] {
        evaluate(data.clone(), &source).expect_err(&source);
    }
}

#[test]
fn values_that_double_are_not_written_out() {
    let doubled = |first: &str, join: fn(&str) -> String, last: &str| {
        let names =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];
        let binds: Vec<String> =
            names.windows(2).map(|pair| format!("cel.bind({}, {}, ", pair[1], join(pair[0]))).collect();
        format!("cel.bind(a, {first}, {}{last}{}", binds.concat(), ")".repeat(names.len()))
    };
    let lists = |last: &str| doubled("[1, 1]", |name| format!("[{name}, {name}]"), last);
    fails(json!({}), &lists("t"), "larger than 256 KiB");
    fails(json!({}), &lists("t == t"), "costs more than");
    fails(json!({}), &lists("'%s'.format([t])"), "costs more than");
    fails(json!({}), &lists("t.flatten(30)"), "");
    fails(json!({}), &doubled("'xxxxxxxxxxxxxxxx'", |name| format!("{name} + {name}"), "t"), "longer than");
    fails(json!({}), &doubled("[1]", |name| format!("{name} + {name}"), "t.size()"), "longer than");
}

#[test]
fn maps_have_few_keys_that_are_none_twice() {
    let keys: Vec<String> = (0..300).map(|key| format!("{key}: 1")).collect();
    refused(&format!("{{{}}}", keys.join(", ")), 1, 1, "256 are allowed");
    refused("{1: 'a', [1]: 'b'}", 1, 10, "a list cannot be a key");
    fails(json!({}), "{1: 'a', 1u: 'b'}", "stands twice");
    fails(json!({"k": {}}), "{event.data.k: 1}", "cannot be a key");
    let data = json!({"l": vec!["x".repeat(100_000); 5_000]});
    evaluate(data, "event.data.l.transformMapEntry(i, e, {e + string(i): e})").expect_err("half a gigabyte of keys");
}

#[test]
fn patterns_out_of_data_cannot_be_made_to_cost_much() {
    let data = json!({"s": "a".repeat(100_000), "big": "x{1000}{1000}{1000}", "l": vec!["(a|b)*"; 10_000]});
    fails(data.clone(), "event.data.s.matches(event.data.big)", "bytes when compiled");
    refused("'a'.matches('x{1000}{1000}{1000}')", 1, 12, "bytes when compiled");
    check(data.clone(), "event.data.s.matches('(a+)+b$')", json!(false));
    fails(data.clone(), "event.data.l.exists(p, event.data.s.matches(p + 'c$'))", "costs more than");
    fails(data, "event.data.l.exists(p, 'x'.matches(p + string(event.data.l.indexOf(p))) && false)", "");
}

/// As [`evaluate`], of an event whose body is no JSON.
fn evaluate_body(body: Vec<u8>, source: &str) -> Result<Value, EvalError> {
    let program = Program::compile(source, &Names::conditions()).expect(source);
    let event = Event { bytes: Some(k8s_openapi::ByteString(body)), ..event(Value::Null) };
    program.evaluate(&Scope::new(&event, "crash", &rule_ref(), now()))
}

#[test]
fn a_body_that_is_bytes_is_not_copied_when_it_is_used() {
    let body = vec![7; 4 << 20];
    // Copied each time, this would take 40 GB.
    let size = evaluate_body(body.clone(), "lists.range(10000).map(i, event.data).size()");
    assert_eq!(size, Ok(json!(10_000)));
    assert_eq!(evaluate_body(body.clone(), "event.data.size()"), Ok(json!(4 << 20)));
    let written = "lists.range(10000).exists(i, '%s'.format([event.data]) == '')";
    assert!(evaluate_body(body, written).is_err());
}

#[test]
fn an_address_takes_the_room_and_the_steps_of_its_text() {
    let data =
        json!({"u": format!("https://a/{}", "x".repeat(900 << 10)), "v": format!("1.0.0-{}", "x".repeat(900 << 10))});
    let all = "lists.range(10000)";
    fails(data.clone(), &format!("cel.bind(u, url(event.data.u), {all}.map(i, u))"), "larger than 256 KiB");
    fails(data.clone(), &format!("cel.bind(v, semver(event.data.v), {all}.map(i, v))"), "larger than 256 KiB");
    for one in ["u.getEscapedPath()", "string(u)", "u == url(event.data.u)"] {
        fails(data.clone(), &format!("cel.bind(u, url(event.data.u), {all}.map(i, {one}).size())"), "costs more than");
    }
    for one in ["string(v)", "v == v", "v.compareTo(v)"] {
        fails(
            data.clone(),
            &format!("cel.bind(v, semver(event.data.v), {all}.map(i, {one}).size())"),
            "costs more than",
        );
    }
}

#[test]
fn values_are_not_nested_deeper_than_the_stack_allows() {
    let nested = |open: &str, close: &str, last: &str| {
        let names = "abcdef";
        let mut source = String::from("cel.bind(z, [1], ");
        let mut before = 'z';
        for (index, name) in names.chars().enumerate() {
            let times = 28 - index;
            source += &format!("cel.bind({name}, {}{before}{}, ", open.repeat(times), close.repeat(times));
            before = name;
        }
        source + last + &")".repeat(names.len() + 1)
    };
    for last in ["f", "f == f", "f.flatten(1000)", "'%s'.format([f])", "1"] {
        fails(json!({}), &nested("[", "]", last), "nested more than 128 deep");
    }
    fails(json!({}), &nested("{1:", "}", "f"), "nested more than 128 deep");
    fails(json!({}), &nested("optional.of(", ")", "f"), "nested more than 128 deep");
    let deep =
        format!("cel.bind(a, {}1{}, {}a{} == [a])", "[".repeat(20), "]".repeat(20), "[".repeat(20), "]".repeat(20));
    check(json!({}), &deep, json!(false));
}

#[test]
fn functions_and_keys_pay_for_the_texts_they_read() {
    let data = json!({
        "z": "0".repeat(1 << 20), "m": {"k": 1}, "long": {"0".repeat(1 << 20): 1},
        "v": format!("1.0.0-{}", "x".repeat(1 << 20)),
    });
    let each = |what: &str| format!("lists.range(10000).exists(i, {what})");
    for one in [
        "!isQuantity(event.data.z)",
        "quantity(event.data.z) == quantity('1')",
        "!isSemver(event.data.v)",
        "semver(event.data.v, true).major() == 2",
        "duration(event.data.z) == duration('1h')",
        "int(event.data.z) == 1",
        "uint(event.data.z) == 1u",
        "double(event.data.z) == 1.0",
        "timestamp(event.data.z).getHours() == 1",
        "isIP(event.data.z)",
        "isCIDR(event.data.z)",
        "format.named(event.data.z).hasValue()",
        "event.data.z in event.data.m && false",
        "event.data.long[event.data.z] == 2",
        "event.data.long == {'k': 1} || event.data.long != event.data.long",
        "event.data.long.exists(k, v, v == 2)",
        "{event.data.z: 1}.size() == 2",
    ] {
        fails(data.clone(), &each(one), "costs more than");
    }
    // What does not read its argument does not pay for it.
    for one in ["event.data.z.startsWith('x')", "string(event.data.z) == ''", "type(event.data.z) == int"] {
        check(data.clone(), &each(one), json!(false));
    }
}

#[test]
fn searches_pay_for_what_they_may_go_through() {
    let data = json!({
        "s": "A".repeat(1 << 20), "bits": "01".repeat(4 << 10), "short": "01".repeat(30), "long": "x".repeat(5 << 10),
        "words": "ab 12 cd 34 ".repeat(100), "bad": "(",
    });
    fails(data.clone(), "event.data.s.findAll('.*[^A-Z]|[A-Z]').size()", "costs more than");
    check(data.clone(), "event.data.words.findAll('[0-9]+').size()", json!(200));
    check(data.clone(), "event.data.s.findAll('[A-Z]', 1).size()", json!(1));
    fails(data.clone(), "event.data.bits.matches('[01]*1[01]{1000}$')", "costs more than");
    let often = "lists.range(10000).exists(i, event.data.short.matches('[01]*1[01]{1000}$'))";
    fails(data.clone(), often, "costs more than");
    check(data.clone(), "'2026-11-02T07:16:20Z'.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T.{9}$')", json!(true));
    fails(data.clone(), "'a'.matches(event.data.long)", "longer than 4096 bytes");
    fails(data.clone(), "'a'.matches(event.data.bad)", "not a regular expression: unclosed group");
    fails(data, "'a'.matches(event.data.bad)", "not a regular expression: unclosed group");
}

#[test]
fn texts_that_are_put_together_are_paid_for_once() {
    let data = json!({"l": vec!["x".repeat(100); 5_000], "w": vec!["x".repeat(300); 5_000]});
    check(data.clone(), "event.data.l.join(',').size()", json!(504_999));
    check(data.clone(), "'%s'.format([event.data.l]).size()", json!(510_000));
    fails(data.clone(), "event.data.w.join(',').size()", "longer than");
    let forms = "%s".repeat(1_000);
    check(data, &format!("'{forms}'.format(event.data.l).size()"), json!(100_000));
}

#[test]
fn text_that_looks_like_a_template_stays_text_and_reaches_nothing() {
    for message in ["{{ secret \"x\" }}", "${event.id}", "a\nb: c\n- d", "'\"`$(id)\\", "%s%n", "\u{202e}"] {
        let filled =
            fill(json!({"m": message}), json!({"a": "<${event.data.m}>", "b": "${event.data.m}"}), Mode::Typed);
        assert_eq!(filled, Ok(json!({"a": format!("<{message}>"), "b": message})));
    }
    for name in ["env('HOME')", "file('/etc/passwd')", "secret('x')", "http.get('http://a')", "include('x')"] {
        Program::compile(name, &Names::conditions()).expect_err(name);
    }
}
