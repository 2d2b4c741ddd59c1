//! Harbor, in both of its payload formats: one event for each resource, of the type that Harbor's CloudEvents have.
//!
//! `event.data` is Harbor's `event_data` with the one `resource` in place of the list, the `operator` and the `image` in parts; the subject is the
//! repository.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    image::{DIGEST, Image},
    preset::{Delivery, Request, Told, text},
};
use crate::event::cloud_events::{self, DecodeError};

/// What Harbor calls its events, and the type of its CloudEvents for the same.
const TYPES: [(&str, &str); 10] = [
    ("PUSH_ARTIFACT", "harbor.artifact.pushed"),
    ("PULL_ARTIFACT", "harbor.artifact.pulled"),
    ("DELETE_ARTIFACT", "harbor.artifact.deleted"),
    ("SCANNING_COMPLETED", "harbor.scan.completed"),
    ("SCANNING_FAILED", "harbor.scan.failed"),
    ("SCANNING_STOPPED", "harbor.scan.stopped"),
    ("QUOTA_EXCEED", "harbor.quota.exceeded"),
    ("QUOTA_WARNING", "harbor.quota.warned"),
    ("REPLICATION", "harbor.replication.status.changed"),
    ("TAG_RETENTION", "harbor.tag_retention.finished"),
];

/// What a request says once, for all its resources.
struct Notice {
    id: String,
    type_: String,
    time: Option<Timestamp>,
    operator: Option<Value>,
    data: Map<String, Value>,
}

pub(super) fn decode(request: Request<'_>) -> Result<Delivery, DecodeError> {
    let Notice { id, type_, time, operator, mut data } = notice(request)?;
    let resources = match data.remove("resources") {
        Some(Value::Array(resources)) => resources,
        _ => Vec::new(),
    };
    if let Some(operator) = operator {
        data.insert("operator".to_owned(), operator);
    }
    let repository = data.get("repository").and_then(|repository| text(repository.get("repo_full_name")));
    let repository = repository.map(str::to_owned);
    let told = |id, data: Map<String, Value>| {
        let (type_, subject) = (type_.clone(), repository.clone());
        Told { id: Some(id), type_, subject, time, data: data.into(), ..Told::default() }
    };
    if resources.is_empty() {
        return Ok(told(id, data).into());
    }
    let shared = Value::Object(data.clone());
    request.may_repeat(&shared, resources.len())?;
    let events = resources.into_iter().enumerate().map(|(index, resource)| {
        let (resource, image) = normalised(resource, repository.as_deref());
        let mut data = data.clone();
        data.insert("resource".to_owned(), resource);
        data.extend(image.map(|image| ("image".to_owned(), image.json())));
        told(format!("{id}/{index}"), data)
    });
    Ok(Delivery { events: events.collect(), ..Delivery::default() })
}

fn notice(request: Request<'_>) -> Result<Notice, DecodeError> {
    let mut document = request.document()?;
    if document.contains_key("specversion") {
        let event = cloud_events::decode(request.headers, request.body)?.pop();
        let event = event.ok_or_else(|| DecodeError::Malformed("the batch has no event".to_owned()))?;
        let Value::Object(data) = event.data else {
            return Err(DecodeError::Malformed("data must be a map, as Harbor sends it".to_owned()));
        };
        let operator = event.extensions.get("operator").cloned();
        return Ok(Notice { id: event.id, type_: event.type_, time: event.time, operator, data });
    }
    let name =
        text(document.get("type")).filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    let (Some(name), Some(Value::Object(data))) = (name.map(str::to_owned), document.remove("event_data")) else {
        let why = "type or event_data is missing or odd: preset Harbor is for webhooks of Harbor";
        return Err(DecodeError::Malformed(why.to_owned()));
    };
    let known = TYPES.iter().find(|(harbor, _)| *harbor == name).map(|(_, type_)| (*type_).to_owned());
    let type_ = known.unwrap_or_else(|| format!("harbor.{}", name.to_ascii_lowercase()));
    let time = document.get("occur_at").and_then(Value::as_i64).and_then(|time| Timestamp::from_second(time).ok());
    // No id of its own: the same body has the same time in it.
    Ok(Notice { id: request.digest(), type_, time, operator: document.remove("operator"), data })
}

/// The resource without the tag that is none, and the image that it is.
fn normalised(resource: Value, repository: Option<&str>) -> (Value, Option<Image>) {
    let Value::Object(mut fields) = resource else { return (resource, None) };
    if text(fields.get("tag")).is_none_or(|tag| tag.starts_with(DIGEST)) {
        fields.remove("tag");
    }
    let named = text(fields.get("resource_url")).and_then(Image::parse);
    let image = named.or_else(|| Some(Image { repository: repository?.to_owned(), ..Image::default() }));
    let image = image.map(|mut image| {
        image.tag = text(fields.get("tag")).map(str::to_owned).or(image.tag);
        image.digest = text(fields.get("digest")).map(str::to_owned).or(image.digest);
        image
    });
    (fields.into(), image)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::webhook::tests::{headers, one};

    fn decoded(kind: &str, body: &Value) -> Result<Delivery, DecodeError> {
        let headers = headers(&[("content-type", kind)]);
        decode(Request { headers: &headers, body: body.to_string().as_bytes() })
    }

    fn event_data(tags: &[&str]) -> Value {
        let resource = |tag: &&str| json!({"digest": "sha256:ab", "tag": tag, "resource_url": format!("h.example/acme/pump:{tag}")});
        let resources: Vec<Value> = tags.iter().map(resource).collect();
        json!({"resources": resources, "repository": {"name": "pump", "repo_full_name": "acme/pump"}})
    }

    #[test]
    fn both_formats_give_the_same() {
        let plain = json!({"type": "PUSH_ARTIFACT", "occur_at": 1793603400, "operator": "robot", "event_data": event_data(&["1.2"])});
        let event = json!({"specversion": "1.0", "id": "c-1", "source": "/projects/1/webhook/policies/3", "type": "harbor.artifact.pushed",
            "time": "2026-11-02T07:10:00Z", "operator": "robot", "datacontenttype": "application/json", "data": event_data(&["1.2"])});
        let (plain, event) =
            (one(decoded("application/json", &plain)), one(decoded("application/cloudevents+json", &event)));
        assert_eq!((&plain.data, &plain.type_, &plain.subject), (&event.data, &event.type_, &event.subject));
        assert_eq!((event.id.as_deref(), event.time), (Some("c-1/0"), plain.time));
        let image = json!({"registry": "h.example", "repository": "acme/pump", "tag": "1.2", "digest": "sha256:ab", "reference": "h.example/acme/pump:1.2"});
        assert_eq!((&plain.data["image"], &plain.data["operator"]), (&image, &json!("robot")));
    }

    #[test]
    fn each_resource_is_an_event_and_what_has_none_is_one_too() {
        let body = json!({"type": "PUSH_ARTIFACT", "occur_at": 1, "event_data": event_data(&["1", "2"])});
        let told = decoded("application/json", &body).expect("events").events;
        let ids: Vec<&str> = told.iter().filter_map(|told| told.id.as_deref()).collect();
        assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
        assert_eq!(told[1].data["resource"]["tag"], "2");
        let quota =
            json!({"type": "QUOTA_EXCEED", "occur_at": 1, "event_data": {"custom_attributes": {"Details": "x"}}});
        let told = one(decoded("application/json", &quota));
        assert_eq!((told.type_.as_str(), told.data.get("image"), told.subject), ("harbor.quota.exceeded", None, None));
        let other = json!({"type": "ODD_THING", "event_data": {}});
        assert_eq!(one(decoded("application/json", &other)).type_, "harbor.odd_thing");
    }

    #[test]
    fn what_is_not_harbors_is_refused() {
        for body in [
            json!({"type": "PUSH_ARTIFACT"}),
            json!({"event_data": {}}),
            json!({"type": "push it", "event_data": {}}),
            json!([]),
        ] {
            assert!(matches!(decoded("application/json", &body), Err(DecodeError::Malformed(_))), "{body}");
        }
    }
}
