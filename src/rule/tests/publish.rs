//! What can be wrong with a `publish` action.

use super::*;

fn faults(publish: &str) -> Vec<String> {
    let publish = format!(r#"{{"sinkRef": {{"name": "s"}}{publish}}}"#);
    let publish: Value = serde_json::from_str(&publish).expect("JSON");
    let body = spec(json!({"actions": [{"name": "tell", "publish": publish}]}));
    match compile(&rule_ref("web"), 1, &body) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (publish, fault) in [
        ("", None),
        (
            r#", "type": "com.acme.${event.subject}", "topic": "a.${rule.name}", "key": "a", "data": {"n": "${event.data}"}"#,
            None,
        ),
        (r#", "type": "dev.signalbox.publication""#, None),
        (r#", "contentType": "text/plain", "data": "${event.data.message}""#, None),
        (r#", "type": "dev.signalbox.schedule""#, Some("spec.actions[0].publish.type")),
        (r#", "contentType": "text/plain""#, Some("publish.contentType:1:1: is for data")),
        (r#", "contentType": "text/plain", "data": {"a": 1}"#, Some("publish.data:1:1: must be a text")),
        (r#", "contentType": "a/${event.id}", "data": "x""#, Some("publish.contentType:1:1: takes no `${ }`")),
        (r#", "data": {"n": "${event.}"}"#, Some("publish.data.n")),
    ] {
        let said = faults(publish).join("; ");
        assert_eq!(said.is_empty(), fault.is_none(), "{publish}: {said}");
        assert!(said.contains(fault.unwrap_or_default()), "{publish}: {said}");
    }
}
