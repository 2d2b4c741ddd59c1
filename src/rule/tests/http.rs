//! Actions that send requests: what is refused, and how addresses are filled in.

use super::*;

fn faults(http: Value) -> Vec<String> {
    let body = spec(json!({"actions": [{"name": "call", "http": http}]}));
    match compile(&rule_ref("web"), 1, &body) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn what_would_send_a_request_elsewhere_is_refused_with_its_place() {
    let at = "spec.actions[0].http";
    for (url, message) in [
        ("file:///etc/passwd", "the address is not a URL"),
        ("gopher://h/", "the address must begin with http:// or https://"),
        ("unix:/run/x", "the address is not a URL"),
        ("https://user:secret@h/${event.id}", "the address must not hold a user name or password"),
        ("https://h/a b", "the address is not a URL"),
        ("https://${event.subject}/x", "`${ }` may stand behind the host only, or be the whole address"),
        ("https://h${event.subject}/x", "`${ }` may stand behind the host only, or be the whole address"),
        ("${event.source}/x", "`${ }` may stand behind the host only, or be the whole address"),
    ] {
        let found = faults(json!({"url": url}));
        assert!(found.contains(&format!("{at}.url:1:1: {message}")), "{url}: {found:?}");
    }
    let header = |name: &str, value: &str| {
        faults(json!({"url": "https://h/", "headers": [{"name": "X-A", "value": "1"}, {"name": name, "value": value}]}))
    };
    for (name, value, field, message) in [
        ("Host", "h", "name", "header host is set by signalbox itself"),
        ("Content-Length", "1", "name", "header content-length is set by signalbox itself"),
        ("transfer-encoding", "chunked", "name", "header transfer-encoding is set by signalbox itself"),
        ("Authorization", "x", "name", "a token is given as authSecretRef, out of a Secret"),
        ("x-a", "2", "name", "there is another x-a"),
        ("X B", "2", "name", "\"X B\" is not the name of a header"),
        ("X-B", "a\r\nX-Evil: 1", "value", "has a line break or a control character"),
    ] {
        assert_eq!(header(name, value), [format!("{at}.headers[1].{field}:1:1: {message}")]);
    }
}

#[test]
fn tls_is_for_https_and_a_certificate_has_a_key() {
    let certificate = json!({"clientCertificateSecretRef": {"name": "s", "key": "c"}});
    assert_eq!(
        faults(json!({"url": "http://h/", "tls": certificate})),
        [
            "spec.actions[0].http.tls:1:1: clientCertificateSecretRef and clientKeySecretRef belong together: set both, or none",
            "spec.actions[0].http.tls:1:1: is for addresses that begin with https://",
        ]
    );
    let templated = json!({"caSecretRef": {"name": "s", "key": "${event.id}"}});
    let found = faults(json!({"url": "https://h/", "tls": templated}));
    assert!(found.iter().any(|fault| fault.contains("http.tls.caSecretRef.key:1:1: takes no `${ }`")), "{found:?}");
    assert_eq!(faults(json!({"url": "${event.id}", "tls": {}})), Vec::<String>::new());
}

#[test]
fn all_faults_of_a_request_are_told_at_once_with_their_places() {
    let found = faults(json!({
        "url": "https://h/${event.ids}", "method": "GET", "body": {"a": ["${1 +}"]},
        "headers": [{"name": "X-A", "value": "${nobody}"}, {"name": "X-B", "valueSecretRef": {"name": "s", "key": "${event.id}"}}],
        "expectExpression": "response.status == 200 &&\n  event.id == ''",
    }));
    for part in [
        "http.url:1:13: ",
        "http.body:1:1: GET has no body",
        "http.body.a[0]:1:",
        "http.headers[0].value:1:3: ",
        "http.headers[1].valueSecretRef.key:1:1: takes no `${ }`",
        "http.expectExpression:2:3: ",
    ] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part}: {found:#?}");
    }
    let fault = faults(json!({"url": "https://h/", "expectExpression": "'200'"}));
    assert_eq!(fault, ["spec.actions[0].http.expectExpression:1:1: gives a text, not true or false"]);
    assert!(faults(json!({"url": "https://h/", "expectExpression": "response.code == 200"}))[0].contains("code"));
}

#[test]
fn what_is_filled_into_an_address_ends_no_part_of_it() {
    let names = cel::Names::of(&["event"]);
    let fill = |url: &str, id: &str| {
        let mut event = about("shop", "p", "R", json!({})).event.as_ref().clone();
        event.id = id.to_owned();
        let template = cel::Template::compile(&json!(url), cel::Mode::Url, &names, "url").expect("a template");
        let rule = rule_ref("web");
        template
            .fill(&cel::Scope::new(&event, "", &rule, Default::default()))
            .unwrap_or_else(|error| json!(error.message))
    };
    for id in [".", ".."] {
        let said = fill("https://h/a/${event.id}/b", id);
        assert!(said.as_str().is_some_and(|said| said.contains("would lead elsewhere")), "{said}");
    }
    assert_eq!(
        fill("https://h/a/${event.id}?q=${event.id}", "x/../é?&#%2f"),
        json!("https://h/a/x%2F..%2F%C3%A9%3F%26%23%252f?q=x%2F..%2F%C3%A9%3F%26%23%252f")
    );
    assert_eq!(fill("${event.id}", "https://other/x?y=1"), json!("https://other/x?y=1"), "the whole is as it is");
    assert_eq!(fill("https://h?q=${event.id}", "1-2_3.4~"), json!("https://h?q=1-2_3.4~"));
}
