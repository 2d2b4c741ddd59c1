//! Alertmanager, and Grafana, which sends the same: one event for each alert of a notification, or one for the notification.
//!
//! An alert is told by its fingerprint, its start and its status: the repetition of a notification is no second event, the end of an alert is one. The
//! type is `io.prometheus.alert.firing` or `.resolved` (`com.grafana.alert…`), the status the alert's own, for a notification that is `firing` may
//! hold alerts that have ended. The group's fields are in `event.data.group`.

use serde_json::{Map, Value};

use super::preset::{Delivery, Request, Told, digest, text, word};
use crate::{
    api::Alerts,
    event::cloud_events::{DecodeError, MAX_BATCH, attribute},
};

/// What Go writes for a time that is not set: the alert has not ended.
const NO_TIME: &str = "0001-01-01";
/// The text that Grafana makes of all alerts of a notification.
const RENDERED: &str = "message";
/// Bytes of a member beside its name and its value: two quotes, a colon and a comma, and some for letters that are escaped.
const AROUND: usize = 8;

/// `of`: what types begin with.
pub(super) fn decode(of: &str, each: Alerts, request: Request<'_>) -> Result<Delivery, DecodeError> {
    let mut document = request.document()?;
    let Some(Value::Array(alerts)) = document.remove("alerts") else {
        let why = "alerts must be a list: the preset is for webhooks of Alertmanager and Grafana";
        return Err(DecodeError::Malformed(why.to_owned()));
    };
    if alerts.len() > MAX_BATCH {
        return Err(DecodeError::TooMany(alerts.len()));
    }
    let truncated = document.get("truncatedAlerts").and_then(Value::as_u64).unwrap_or(0);
    let alerts = alerts.into_iter().enumerate().map(|(index, alert)| Alert::read(index, alert));
    let alerts = alerts.collect::<Result<Vec<Alert>, DecodeError>>()?;
    let events = match each {
        Alerts::Grouped => vec![grouped(of, document, alerts)?],
        Alerts::Each => {
            let group = Value::Object(shared(document, request.may_share(alerts.len())));
            alerts.into_iter().map(|alert| alert.told(of, &group)).collect()
        }
    };
    Ok(Delivery { events, truncated, ..Delivery::default() })
}

/// What goes with each alert of a notification: so many bytes at most. What Grafana renders of all alerts does not; of what is still too much the
/// largest fields are left out, and `leftOut` tells how many. A refusal would come again for ever, and none of the alerts ever.
fn shared(mut document: Map<String, Value>, most: usize) -> Map<String, Value> {
    document.remove(RENDERED);
    let size = |name: &str, value: &Value| name.len() + value.to_string().len() + AROUND;
    let mut sizes: Vec<(usize, String)> =
        document.iter().map(|(name, value)| (size(name, value), name.clone())).collect();
    let mut whole: usize = sizes.iter().map(|(size, _)| size).sum();
    sizes.sort_unstable();
    let mut left_out = 0_u64;
    while let Some((size, name)) = sizes.pop_if(|_| whole > most) {
        document.remove(&name);
        whole -= size;
        left_out += 1;
    }
    if left_out > 0 {
        document.insert("leftOut".to_owned(), left_out.into());
    }
    document
}

/// One alert, with what it is told by.
struct Alert {
    fingerprint: String,
    starts: String,
    status: String,
    fields: Map<String, Value>,
}

impl Alert {
    fn read(index: usize, alert: Value) -> Result<Self, DecodeError> {
        let odd = |why: &str| DecodeError::Malformed(format!("alert {index}: {why}"));
        let Value::Object(mut fields) = alert else { return Err(odd("it must be a map")) };
        let status = text(fields.get("status")).and_then(word).ok_or_else(|| odd("status is missing or odd"))?;
        if text(fields.get("endsAt")).is_some_and(|time| time.starts_with(NO_TIME)) {
            fields.remove("endsAt");
        }
        let starts = text(fields.get("startsAt")).ok_or_else(|| odd("startsAt is missing"))?.to_owned();
        let fingerprint = text(fields.get("fingerprint")).map(str::to_owned);
        // Old versions send none. It is one of the labels, as this is.
        let labels = || fields.get("labels").map(Value::to_string).unwrap_or_default();
        let fingerprint = fingerprint.unwrap_or_else(|| digest(labels().as_bytes()));
        Ok(Self { fingerprint, starts, status, fields })
    }

    fn id(&self) -> String {
        format!("{}/{}/{}", self.fingerprint, self.starts, self.status)
    }

    fn told(mut self, of: &str, group: &Value) -> Told {
        let id = self.id();
        let name = text(self.fields.get("labels").and_then(|labels| labels.get("alertname")));
        // The fingerprint goes with it: other alerts have the same name.
        let subject = name.map_or_else(|| self.fingerprint.clone(), |name| format!("{name}/{}", self.fingerprint));
        let subject = if attribute("subject", &subject).is_ok() { subject } else { self.fingerprint.clone() };
        self.fields.insert("group".to_owned(), group.clone());
        let type_ = format!("{of}.alert.{}", self.status);
        Told { id: Some(id), type_, subject: Some(subject), data: self.fields.into(), ..Told::default() }
    }
}

/// The notification as one event. The same alerts in the same state are the same one, in whichever order they come.
fn grouped(of: &str, mut document: Map<String, Value>, alerts: Vec<Alert>) -> Result<Told, DecodeError> {
    let status = text(document.get("status")).and_then(word);
    let status = status.ok_or_else(|| DecodeError::Malformed("status is missing or odd".to_owned()))?;
    let key = text(document.get("groupKey")).unwrap_or_default().to_owned();
    let mut ids: Vec<String> = alerts.iter().map(Alert::id).collect();
    ids.sort_unstable();
    let id = digest(format!("{key}\n{}", ids.join("\n")).as_bytes());
    let alerts: Vec<Value> = alerts.into_iter().map(|alert| alert.fields.into()).collect();
    document.insert("alerts".to_owned(), alerts.into());
    // A key that is too long for an attribute is told by its digest, so that groups stay apart.
    let subject = if attribute("subject", &key).is_ok() { key } else { digest(key.as_bytes()) };
    let type_ = format!("{of}.alertgroup.{status}");
    Ok(Told { id: Some(id), type_, subject: Some(subject), data: document.into(), ..Told::default() })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn decoded(each: Alerts, body: &Value) -> Result<Delivery, DecodeError> {
        decode("io.prometheus", each, Request { headers: &HeaderMap::new(), body: body.to_string().as_bytes() })
    }

    fn alert(status: &str, fingerprint: &str) -> Value {
        json!({"status": status, "labels": {"alertname": "Backlog"}, "startsAt": "2026-11-02T07:00:12Z", "fingerprint": fingerprint})
    }

    fn ids(each: Alerts, alerts: &[Value]) -> Vec<String> {
        let body = json!({"status": "firing", "groupKey": "{}:{}", "alerts": alerts});
        let events = decoded(each, &body).expect("events").events;
        events.into_iter().map(|told| told.id.expect("an id")).collect()
    }

    #[test]
    fn an_alert_is_told_by_what_it_is_and_how_it_is() {
        let (firing, resolved) = (alert("firing", "a1"), alert("resolved", "a1"));
        assert_eq!(ids(Alerts::Each, std::slice::from_ref(&firing)), ids(Alerts::Each, std::slice::from_ref(&firing)));
        let both = ids(Alerts::Each, &[firing.clone(), resolved.clone()]);
        assert_eq!(both, ["a1/2026-11-02T07:00:12Z/firing", "a1/2026-11-02T07:00:12Z/resolved"]);
        let mut bare = firing.clone();
        bare.as_object_mut().expect("a map").remove("fingerprint");
        let mut other = bare.clone();
        other["labels"]["queue"] = json!("eu-1");
        let told = ids(Alerts::Each, &[bare, other]);
        assert_ne!(told[0], told[1], "without a fingerprint by its labels");
    }

    #[test]
    fn a_group_is_the_same_in_whichever_order_its_alerts_come_and_another_when_one_has_ended() {
        let (one, two, ended) = (alert("firing", "a1"), alert("firing", "b2"), alert("resolved", "b2"));
        let first = ids(Alerts::Grouped, &[one.clone(), two.clone()]);
        assert_eq!(first, ids(Alerts::Grouped, &[two, one.clone()]));
        assert_ne!(first, ids(Alerts::Grouped, &[one, ended]));
        let body = json!({"status": "firing", "groupKey": "k".repeat(5000), "alerts": [alert("firing", "a1")]});
        let told = decoded(Alerts::Grouped, &body).expect("an event").events;
        assert_eq!(
            (told[0].type_.as_str(), told[0].subject.as_ref().map(String::len)),
            ("io.prometheus.alertgroup.firing", Some(32))
        );
    }

    #[test]
    fn what_is_no_notification_is_refused_with_the_place_of_what_lacks() {
        let cases = [
            (json!({"status": "firing"}), "alerts must be a list"),
            (json!({"alerts": [1]}), "alert 0: it must be a map"),
            (json!({"alerts": [alert("firing", "a"), {"startsAt": "x"}]}), "alert 1: status is missing"),
            (json!({"alerts": [{"status": "firing"}]}), "alert 0: startsAt is missing"),
        ];
        for (body, why) in cases {
            let said = decoded(Alerts::Each, &body).expect_err(why).to_string();
            assert!(said.contains(why), "{said}: {why}");
        }
        let many = json!({"alerts": vec![alert("firing", "a"); MAX_BATCH + 1]});
        assert_eq!(decoded(Alerts::Each, &many).expect_err("too many"), DecodeError::TooMany(MAX_BATCH + 1));
    }

    #[test]
    fn what_alerts_share_does_not_make_a_small_body_a_large_one() {
        let (url, alerts) = ("x".repeat(100_000), vec![alert("firing", "a"); 500]);
        let shared = json!({"externalURL": url, "receiver": "all", "alerts": alerts});
        let told = decoded(Alerts::Each, &shared).expect("events").events;
        assert_eq!((told.len(), &told[499].data["group"]), (500, &json!({"receiver": "all", "leftOut": 1})));
        let honest = json!({"commonLabels": {"severity": "critical"}, "alerts": vec![alert("firing", "a"); 1_000]});
        assert_eq!(decoded(Alerts::Each, &honest).expect("events").events.len(), 1_000);
    }

    #[test]
    fn the_text_that_grafana_makes_of_all_alerts_does_not_go_with_each_of_them() {
        let alerts: Vec<Value> = (0..40).map(|n| alert("firing", &format!("a{n}"))).collect();
        let message = "x".repeat(40 * 600);
        let body = json!({"status": "firing", "groupKey": "{}:{}", "message": message, "alerts": alerts});
        let told = decoded(Alerts::Each, &body).expect("events").events;
        assert_eq!(told.len(), 40);
        assert_eq!(told[39].data["group"], json!({"status": "firing", "groupKey": "{}:{}"}));
        let whole = decoded(Alerts::Grouped, &body).expect("an event").events;
        assert_eq!(whole[0].data["message"], body["message"], "the notification has it once");
    }

    #[test]
    fn names_that_cannot_be_a_subject_are_left_out_of_it() {
        let mut odd = alert("firing", "a1");
        odd["labels"]["alertname"] = json!("two\nlines");
        let body = json!({"alerts": [odd]});
        assert_eq!(decoded(Alerts::Each, &body).expect("an event").events[0].subject.as_deref(), Some("a1"));
    }
}
