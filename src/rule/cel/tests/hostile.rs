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
