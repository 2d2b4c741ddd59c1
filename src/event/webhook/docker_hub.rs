//! Docker Hub: `event.data` is the payload with the `image` in parts, the subject the repository.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{
    image::Image,
    preset::{Delivery, Request, Told, text},
};
use crate::event::cloud_events::DecodeError;

/// The only thing that Docker Hub tells of.
const TYPE: &str = "com.docker.hub.push";
const REGISTRY: &str = "docker.io";

pub(super) fn decode(request: Request<'_>) -> Result<Delivery, DecodeError> {
    let mut document = request.document()?;
    let push = document.get("push_data");
    let repository = document.get("repository").and_then(|repository| text(repository.get("repo_name")));
    let (Some(push), Some(repository)) = (push, repository) else {
        let why = "push_data or repository.repo_name is missing: preset DockerHub is for webhooks of Docker Hub";
        return Err(DecodeError::Malformed(why.to_owned()));
    };
    let (repository, tag) = (repository.to_owned(), text(push.get("tag")).map(str::to_owned));
    // Old payloads have 1.417566161e+09.
    let pushed = push.get("pushed_at").and_then(Value::as_f64);
    let time = pushed.filter(|time| time.abs() < 1e11).and_then(|time| Timestamp::from_second(time as i64).ok());
    // No id of its own: the same body has the same time in it.
    let id = time.map(|_| request.digest());
    let image = Image { registry: Some(REGISTRY.to_owned()), repository: repository.clone(), tag, digest: None };
    document.insert("image".to_owned(), image.json());
    Ok(Told { id, type_: TYPE.to_owned(), subject: Some(repository), time, data: document.into(), ..Told::default() }
        .into())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::event::webhook::tests::one;

    fn decoded(body: &Value) -> Result<Delivery, DecodeError> {
        decode(Request { headers: &HeaderMap::new(), body: body.to_string().as_bytes() })
    }

    #[test]
    fn a_push_names_its_image() {
        for at in [json!(1417566161), json!(1.417566161e9)] {
            let body = json!({"push_data": {"pushed_at": at, "pusher": "builder", "tag": "2.0"}, "repository": {"repo_name": "acme/pump"}});
            let told = one(decoded(&body));
            let image = json!({"registry": "docker.io", "repository": "acme/pump", "tag": "2.0", "reference": "docker.io/acme/pump:2.0"});
            assert_eq!((&told.data["image"], told.subject.as_deref()), (&image, Some("acme/pump")));
            assert_eq!(told.time.map(|time| time.to_string()).as_deref(), Some("2014-12-03T00:22:41Z"));
            assert_eq!(told.id, one(decoded(&body)).id);
        }
    }

    #[test]
    fn what_is_no_push_is_refused() {
        for body in [json!({"push_data": {}}), json!({"repository": {"repo_name": "a/b"}}), json!("x")] {
            assert!(matches!(decoded(&body), Err(DecodeError::Malformed(_))), "{body}");
        }
    }
}
