//! GitLab: `event.data` is the payload, times in it as RFC 3339 says, the subject the project.
//!
//! The type is `com.gitlab.` and the kind of object, with what was done to it or how it is after a dot: `com.gitlab.push`,
//! `com.gitlab.merge_request.open`, `com.gitlab.pipeline.failed`.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::preset::{Delivery, Request, Told, text, word};
use crate::event::cloud_events::DecodeError;

pub(super) fn decode(request: Request<'_>) -> Result<Delivery, DecodeError> {
    let header = request.header("x-gitlab-event")?;
    let document = request.document()?;
    let named = text(document.get("object_kind")).or_else(|| text(document.get("event_name"))).and_then(word);
    let kind = named.or_else(|| {
        let header = header.as_deref()?;
        word(&header.strip_suffix(" Hook").unwrap_or(header).replace(' ', "_"))
    });
    let Some(kind) = kind else {
        let why = "object_kind and X-Gitlab-Event are missing or odd: preset GitLab is for webhooks of GitLab";
        return Err(DecodeError::Malformed(why.to_owned()));
    };
    let attributes = document.get("object_attributes");
    let of = |field: &str| text(attributes.and_then(|attributes| attributes.get(field)));
    let more = match kind.as_str() {
        "pipeline" => of("status"),
        "build" => text(document.get("build_status")),
        "deployment" => text(document.get("status")),
        _ => of("action").or_else(|| text(document.get("action"))),
    };
    let more = more.and_then(word);
    let type_ = more.map_or_else(|| format!("com.gitlab.{kind}"), |more| format!("com.gitlab.{kind}.{more}"));
    let path = |value: Option<&Value>| text(value?.get("path_with_namespace")).map(str::to_owned);
    let subject = path(document.get("project"))
        .or_else(|| text(document.get("path_with_namespace")).map(str::to_owned))
        .or_else(|| text(document.get("group")?.get("full_path")).map(str::to_owned));
    Ok(Told { type_, subject, data: with_times(document).into(), ..Told::default() }.into())
}

/// The same with times that expressions can read: GitLab writes `2026-11-02 07:02:11 UTC` in fields whose names end in `_at`.
fn with_times(members: Map<String, Value>) -> Map<String, Value> {
    let one = |(name, value): (String, Value)| {
        let value = match value {
            Value::String(text) if name.ends_with("_at") => rfc3339(&text).unwrap_or(text).into(),
            other => inside(other),
        };
        (name, value)
    };
    members.into_iter().map(one).collect()
}

fn inside(value: Value) -> Value {
    match value {
        Value::Object(members) => with_times(members).into(),
        Value::Array(items) => items.into_iter().map(inside).collect::<Vec<_>>().into(),
        other => other,
    }
}

/// Nothing for what is not written as GitLab writes times, such as one that is right already.
fn rfc3339(text: &str) -> Option<String> {
    let zoned = text.strip_suffix(" UTC").map_or_else(|| text.to_owned(), |time| format!("{time} +0000"));
    Timestamp::strptime("%Y-%m-%d %H:%M:%S %z", &zoned).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::webhook::tests::{headers, one};

    fn decoded(header: &str, body: &Value) -> Result<Delivery, DecodeError> {
        let headers = headers(&[("content-type", "application/json"), ("x-gitlab-event", header)]);
        decode(Request { headers: &headers, body: body.to_string().as_bytes() })
    }

    #[test]
    fn kinds_that_nobody_has_heard_of_are_events_too() {
        let cases = [
            ("Push Hook", json!({"object_kind": "push"}), "com.gitlab.push"),
            (
                "Emoji Hook",
                json!({"object_kind": "emoji", "object_attributes": {"action": "award"}}),
                "com.gitlab.emoji.award",
            ),
            ("Job Hook", json!({"object_kind": "build", "build_status": "failed"}), "com.gitlab.build.failed"),
            ("System Hook", json!({"event_name": "project_create"}), "com.gitlab.project_create"),
            ("Quite New Hook", json!({"object_kind": null}), "com.gitlab.quite_new"),
        ];
        for (header, body, type_) in cases {
            assert_eq!(one(decoded(header, &body)).type_, type_);
        }
        assert!(matches!(decoded("", &json!({})), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn times_can_be_read_and_other_texts_stay_as_they_are() {
        let body = json!({"object_kind": "push", "created_at": "2026-11-02 07:02:11 UTC", "title": "2026-11-02 07:02:11 UTC",
            "builds": [{"started_at": "2026-11-02 08:02:11 +0100", "finished_at": null, "updated_at": "2026-11-02T07:02:11Z"}]});
        let data = one(decoded("Push Hook", &body)).data;
        assert_eq!((&data["created_at"], &data["title"]), (&json!("2026-11-02T07:02:11Z"), &body["title"]));
        let build =
            json!({"started_at": "2026-11-02T07:02:11Z", "finished_at": null, "updated_at": "2026-11-02T07:02:11Z"});
        assert_eq!(data["builds"][0], build);
    }
}
