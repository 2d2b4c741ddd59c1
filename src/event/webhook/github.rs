//! GitHub: `event.data` is the payload as GitHub documents it, the type as the CloudEvents adapter for GitHub says, the subject the repository.
//!
//! <https://github.com/cloudevents/spec/blob/main/cloudevents/adapters/github.md>

use serde_json::Value;

use super::preset::{Delivery, Request, Told, text, word};
use crate::event::cloud_events::DecodeError;

pub(super) fn decode(request: Request<'_>) -> Result<Delivery, DecodeError> {
    let name = request.header("x-github-event")?.as_deref().and_then(word);
    let Some(name) = name else {
        let why = "X-GitHub-Event is missing or odd: preset GitHub is for webhooks of GitHub";
        return Err(DecodeError::Malformed(why.to_owned()));
    };
    let document = request.document()?;
    if name == "ping" {
        return Ok(Delivery { ping: true, ..Delivery::default() });
    }
    let more = match name.as_str() {
        "create" | "delete" => document.get("ref_type"),
        "deployment_status" => document.get("deployment_status").and_then(|status| status.get("state")),
        "status" => document.get("state"),
        "deployment" | "repository_import" => None,
        _ => document.get("action"),
    };
    let more = text(more).and_then(word);
    let name = if name == "issues" { "issue" } else { &name };
    let type_ = more.map_or_else(|| format!("com.github.{name}"), |more| format!("com.github.{name}.{more}"));
    let of = |owner: &str, field: &str| text(document.get(owner)?.get(field)).map(str::to_owned);
    let subject = of("repository", "full_name").or_else(|| of("organization", "login")).or_else(|| {
        let account = document.get("installation")?.get("account")?;
        text(account.get("login")).map(str::to_owned)
    });
    Ok(Told { type_, subject, data: Value::Object(document), ..Told::default() }.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::webhook::tests::{headers, one};

    fn decoded(name: &str, body: &Value) -> Result<Delivery, DecodeError> {
        let headers = headers(&[("content-type", "application/json"), ("x-github-event", name)]);
        decode(Request { headers: &headers, body: body.to_string().as_bytes() })
    }

    #[test]
    fn types_are_those_of_the_cloudevents_adapter() {
        let cases = [
            ("push", json!({"ref": "refs/heads/main"}), "com.github.push"),
            ("issues", json!({"action": "opened"}), "com.github.issue.opened"),
            ("create", json!({"ref_type": "tag", "action": "x"}), "com.github.create.tag"),
            ("deployment", json!({"action": "created"}), "com.github.deployment"),
            (
                "deployment_status",
                json!({"deployment_status": {"state": "success"}}),
                "com.github.deployment_status.success",
            ),
            ("pull_request", json!({"action": "a b"}), "com.github.pull_request"),
        ];
        for (name, body, type_) in cases {
            assert_eq!(one(decoded(name, &body)).type_, type_);
        }
        for name in ["", "a b", "x.y"] {
            assert!(matches!(decoded(name, &json!({})), Err(DecodeError::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn the_subject_is_what_the_event_is_about() {
        let cases = [
            (json!({"repository": {"full_name": "acme/pump"}, "organization": {"login": "acme"}}), Some("acme/pump")),
            (json!({"repository": null, "organization": {"login": "acme"}}), Some("acme")),
            (json!({"installation": {"account": {"login": "acme"}}}), Some("acme")),
            (json!({"action": "published"}), None),
        ];
        for (body, subject) in cases {
            assert_eq!(one(decoded("push", &body)).subject.as_deref(), subject);
        }
    }
}
