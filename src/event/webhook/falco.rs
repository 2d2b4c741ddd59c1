//! Falco's JSON output, by itself or through Falcosidekick: `event.data` is the alert as it is, `event.priority` its priority, the subject the Pod, or
//! the node where there is none.
//!
//! The type is the one that Falcosidekick gives the CloudEvents that it makes.

use serde_json::Value;

use super::preset::{Delivery, Request, Told, text};
use crate::event::cloud_events::{DecodeError, attribute};

const TYPE: &str = "falco.rule.output.v1";

pub(super) fn decode(request: Request<'_>) -> Result<Delivery, DecodeError> {
    let document = request.document()?;
    let (Some(_), Some(priority)) = (text(document.get("rule")), text(document.get("priority"))) else {
        let why = "rule or priority is missing: preset Falco is for Falco's output with json_output: true";
        return Err(DecodeError::Malformed(why.to_owned()));
    };
    attribute("priority", priority)?;
    let extensions = [("priority".to_owned(), priority.into())].into();
    let time = text(document.get("time"));
    // Falco gives none, Falcosidekick does. With a time in nanoseconds in it the same body is the same alert.
    let id = text(document.get("uuid")).map(str::to_owned).or_else(|| time.map(|_| request.digest()));
    let time = time.and_then(|time| time.parse().ok());
    // Of a process of the host these are null.
    let field = |name: &str| text(document.get("output_fields")?.get(name));
    let subject = match (field("k8s.ns.name"), field("k8s.pod.name")) {
        (Some(namespace), Some(pod)) => Some(format!("{namespace}/Pod/{pod}")),
        _ => text(document.get("hostname")).map(|node| format!("Node/{node}")),
    };
    Ok(Told { id, type_: TYPE.to_owned(), subject, time, data: Value::Object(document), extensions }.into())
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
    fn an_alert_of_a_pod_is_about_the_pod() {
        let fields = json!({"k8s.ns.name": "orders", "k8s.pod.name": "pump-1"});
        let told =
            one(decoded(&json!({"rule": "r", "priority": "Critical", "output_fields": fields, "hostname": "n7"})));
        assert_eq!(
            (told.subject.as_deref(), &told.extensions["priority"]),
            (Some("orders/Pod/pump-1"), &json!("Critical"))
        );
        assert_eq!((told.id, told.time), (None, None), "without a time nothing tells two alerts apart");
        let bare = one(decoded(&json!({"rule": "r", "priority": "Notice", "uuid": "u-1"})));
        assert_eq!((bare.subject, bare.id.as_deref()), (None, Some("u-1")));
    }

    #[test]
    fn what_is_no_alert_is_refused() {
        for body in
            [json!({"rule": "r"}), json!({"priority": "Notice", "rule": 7}), json!({"rule": "r", "priority": "a\nb"})]
        {
            assert!(matches!(decoded(&body), Err(DecodeError::Malformed(_))), "{body}");
        }
    }
}
