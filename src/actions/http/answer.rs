//! What an answer says, and whether it is the one hoped for.

use serde_json::{Map, Value, json};

use super::transient;
use crate::{
    actions::{Done, Failure},
    api::ActionOutcome,
    net::Response,
    rule::cel::{Names, Program, Scope},
    sinks::Secrets,
};

/// What a result may have when written as JSON.
const RESULT: usize = 16 * 1024;
/// What of it is for status and headers.
const HEADERS: usize = 4 * 1024;
/// Stands at the end of a body that was cut.
const CUT: &str = "… (cut)";

/// An answer, without what Secrets hold.
pub(super) struct Answer<'a> {
    /// The request, for messages.
    name: String,
    response: &'a Response,
    /// `response` in expressions.
    value: Value,
    words: String,
}

impl<'a> Answer<'a> {
    pub(super) fn new(name: String, response: &'a Response, secrets: &Secrets) -> Self {
        let value = json!({
            "status": response.status.as_u16(),
            "headers": headers(response, secrets),
            "body": without(body(response), secrets),
        });
        Self { name, response, value, words: secrets.redact(&response.words()) }
    }

    /// What the answer means: an expectation that is met makes any status good.
    pub(super) fn judge(self, expectation: Option<&str>) -> Result<Done, Failure> {
        let why = match expectation {
            None if self.response.status.is_success() => return Ok(self.done(ActionOutcome::Succeeded, "")),
            None => String::new(),
            Some(source) => match expected(source, &self.value) {
                Ok(true) => return Ok(self.done(ActionOutcome::Succeeded, "")),
                Ok(false) => "expectExpression gives false: ".to_owned(),
                Err(error) => format!("expectExpression: {error}: "),
            },
        };
        if self.response.is_transient() {
            return Err(transient(self.response, format!("{why}{}", self.told())));
        }
        Ok(self.done(ActionOutcome::Failed, &why))
    }

    fn told(&self) -> String {
        let Self { name, response, words, .. } = self;
        let hint = if response.status.is_redirection() { " (redirects are not followed)" } else { "" };
        match words.as_str() {
            "" => format!("{name} answered {}{hint}", response.status),
            words => format!("{name} answered {}{hint}: {words}", response.status),
        }
    }

    fn done(self, outcome: ActionOutcome, why: &str) -> Done {
        let message = match outcome {
            ActionOutcome::Succeeded => format!("{} answered {}", self.name, self.response.status),
            _ => format!("{why}{}", self.told()),
        };
        Done { outcome, message, result: result(self.value, self.response.cut), effect: None, reason: None }
    }
}

fn expected(source: &str, response: &Value) -> Result<bool, String> {
    let program = Program::compile(source, &Names::of(&["response"])).map_err(|fault| fault.to_string())?;
    program.test(&Scope::empty().with_value("response", response)).map_err(|error| error.to_string())
}

/// Headers by their names in lower case; values of one name are joined. Cookies are credentials and are left out.
fn headers(response: &Response, secrets: &Secrets) -> Map<String, Value> {
    let mut headers = Map::new();
    let mut room = HEADERS;
    for name in response.headers.keys().filter(|name| **name != http::header::SET_COOKIE) {
        let values = response.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let value = secrets.redact(&values.collect::<Vec<_>>().join(", "));
        // Its value escaped, quotes, colon and comma.
        let size = name.as_str().len() + written(&value) + 6;
        if size <= room {
            room -= size;
            headers.insert(name.as_str().to_owned(), value.into());
        }
    }
    headers
}

/// The body: what its JSON says where the content type says that it is JSON, and else a text.
fn body(response: &Response) -> Value {
    let type_ = response.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let type_ = type_.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let says_json = type_ == "application/json" || type_.ends_with("+json");
    let parsed = says_json.then(|| serde_json::from_slice(&response.body).ok()).flatten();
    parsed.unwrap_or_else(|| String::from_utf8_lossy(&response.body).into_owned().into())
}

fn without(value: Value, secrets: &Secrets) -> Value {
    match value {
        Value::String(text) => secrets.redact(&text).into(),
        Value::Array(items) => items.into_iter().map(|item| without(item, secrets)).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(key, item)| (secrets.redact(&key), without(item, secrets))).collect()
        }
        other => other,
    }
}

/// The answer as a result. A body that is too large becomes text, of which the beginning is kept, and `truncated` says so.
fn result(mut answer: Value, cut: bool) -> Value {
    let fits = answer.to_string().len() <= RESULT;
    if fits && !cut {
        return answer;
    }
    let body = match answer["body"].take() {
        Value::String(text) => text,
        body => body.to_string(),
    };
    answer["truncated"] = true.into();
    let room = RESULT - (answer.to_string().len() + CUT.len()).min(RESULT);
    answer["body"] = (beginning(&body, room).to_owned() + CUT).into();
    answer
}

/// As many whole characters of the text as have room when written as JSON.
fn beginning(text: &str, mut room: usize) -> &str {
    let end = text.char_indices().find_map(|(at, symbol)| match room.checked_sub(size(symbol)) {
        Some(left) => {
            room = left;
            None
        }
        None => Some(at),
    });
    &text[..end.unwrap_or(text.len())]
}

fn written(text: &str) -> usize {
    text.chars().map(size).sum()
}

/// Bytes of a character in a text of JSON.
fn size(symbol: char) -> usize {
    match symbol {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => symbol.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::api::SecretKeyRef;

    fn response(type_: &'static str, body: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(type_));
        headers.append("set-cookie", HeaderValue::from_static("session=canary"));
        headers.append("x-request-id", HeaderValue::from_static("7"));
        Response { status: StatusCode::OK, retry_after: None, headers, body: body.into(), cut: false }
    }

    fn answered(response: &Response) -> Done {
        Answer::new("GET https://h/".into(), response, &Secrets::default()).judge(None).expect("a result")
    }

    #[test]
    fn a_body_is_json_where_its_type_says_so_and_text_otherwise() {
        for (type_, body, seen) in [
            ("application/json; charset=utf-8", r#"{"a": [1]}"#, json!({"a": [1]})),
            ("application/problem+json", "7", json!(7)),
            ("application/json", "{", json!("{")),
            ("text/plain", "7", json!("7")),
            ("application/json", "", json!("")),
        ] {
            assert_eq!(answered(&response(type_, body)).result["body"], seen, "{type_}");
        }
        let result = answered(&response("text/plain", "x")).result;
        assert_eq!(result["headers"], json!({"content-type": "text/plain", "x-request-id": "7"}), "without cookies");
        assert_eq!(result["status"], 200);
    }

    #[test]
    fn a_large_body_is_cut_and_marked_and_fits() {
        for body in ["ü\"\n\u{1}".repeat(8000), format!("[{}]", vec!["\"\\n\""; 4000].join(","))] {
            let result = answered(&response("application/json", &body)).result;
            assert_eq!(result["truncated"], true);
            let text = result["body"].as_str().expect("a text");
            assert!(text.ends_with(CUT), "{text}");
            let size = result.to_string().len();
            assert!((RESULT - 16..=RESULT).contains(&size), "{size}");
        }
        let whole = answered(&response("text/plain", &"x".repeat(15 * 1024)));
        assert_eq!(whole.result.get("truncated"), None);
    }

    #[test]
    fn what_a_secret_holds_is_not_in_the_result() {
        let mut secrets = Secrets::default();
        secrets.insert(SecretKeyRef { name: "a".into(), key: "k".into() }, b"canary-7");
        let mut response = response("application/json", r#"{"you": ["sent canary-7"], "canary-7": 1}"#);
        response.headers.insert("x-echo", HeaderValue::from_static("canary-7"));
        response.status = StatusCode::FORBIDDEN;
        let done = Answer::new("GET https://h/".into(), &response, &secrets).judge(None).expect("a result");
        assert_eq!(done.outcome, ActionOutcome::Failed);
        assert!(!format!("{done:?}").contains("canary"), "{done:?}");
    }

    #[test]
    fn an_expectation_decides_and_tells_what_was_seen() {
        let judge = |status: u16, expectation| {
            let mut response = response("application/json", r#"{"state": "open"}"#);
            response.status = StatusCode::from_u16(status).expect("a status");
            Answer::new("GET https://h/".into(), &response, &Secrets::default()).judge(Some(expectation))
        };
        let outcome = |status, expectation| judge(status, expectation).map(|done| done.outcome);
        assert_eq!(outcome(404, "response.status in [200, 404]"), Ok(ActionOutcome::Succeeded));
        assert_eq!(outcome(200, "response.body.state == 'open'"), Ok(ActionOutcome::Succeeded));
        let failed = judge(200, "response.body.state == 'closed'").expect("final");
        assert_eq!(failed.outcome, ActionOutcome::Failed);
        let told = "expectExpression gives false: GET https://h/ answered 200 OK: {\"state\": \"open\"}";
        assert_eq!((failed.message.as_str(), &failed.result["status"]), (told, &json!(200)));
        let error = judge(200, "response.body.missing == 1").expect("final").message;
        assert!(error.contains("no such field: response.body.missing"), "{error}");
        assert!(judge(503, "response.status == 200").is_err(), "it is repeated");
    }
}
