//! Attributes that only some events have.

use super::*;

#[test]
fn extensions_and_bytes_are_seen_and_what_was_not_sent_is_absent() {
    let mut event = Event::new("m-1", "/sensors", "com.example.frame", Value::Null);
    event.bytes = Some(k8s_openapi::ByteString(b"\x00frame".to_vec()));
    event.extensions.insert("traceparent".to_owned(), json!("00-af"));
    event.extensions.insert("level".to_owned(), json!(3));
    let rule = rule_ref();
    let scope = Scope::new(&event, "in", &rule, now());
    let names = Names::conditions().with_extensions();
    for (source, expected) in [
        ("event.traceparent == '00-af' && event.level == 3", true),
        ("event.data == b'\\x00frame' && size(event.data) == 6", true),
        ("has(event.subject) || has(event.time) || has(event.other)", false),
        ("'level' in event && !('time' in event)", true),
        ("event.?time.orValue('never') == 'never'", true),
    ] {
        let value = Program::compile(source, &names).expect(source).evaluate(&scope);
        assert_eq!(value.expect(source), json!(expected), "{source}");
    }
    let fault = Program::compile("event.tracparent == ''", &Names::conditions()).expect_err("unknown");
    assert!(fault.message.contains("`event` has no `tracparent`"), "{fault}");
}
