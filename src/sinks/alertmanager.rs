//! `alertmanager`: an alert of Prometheus' Alertmanager, by its API v2.
//!
//! Alertmanager takes alerts with the same labels for one, so what may differ from one firing to the next is in annotations. An alert that is not
//! told again is over after Alertmanager's `resolve_timeout`, by default five minutes; what ends an incident ends its alerts at once.
//! <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{BuildError, Delivered, Notification, Notifier, Reach, Secrets, SinkError, endpoint::Endpoint, level};
use crate::api::{self, NotifyOperation, SecretKeyRef, Severity};

/// After the address, which may have a path of its own.
const PATH: &str = "/api/v2/alerts";
/// What every alert has; a label of the sink's that has such a name would make alerts one that are not.
const OWN: [&str; 4] = ["alertname", "namespace", "severity", "subject"];

/// The sink.
pub(super) struct Alertmanager {
    endpoint: Endpoint,
    labels: BTreeMap<String, String>,
    generator: Option<String>,
}

impl Alertmanager {
    pub(super) fn new(spec: &api::Alertmanager) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let address = (spec.url.as_ref(), spec.url_secret_ref.as_ref());
        let endpoint = Endpoint::new("alertmanager", address, &spec.headers, &mut faults);
        for label in spec.labels.iter().filter(|label| OWN.contains(&label.name.as_str())) {
            faults.push(format!("alertmanager.labels[{}]: signalbox itself sets this label", label.name));
        }
        let labels = spec.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(Self { endpoint, labels, generator: spec.generator_url.clone() }),
            _ => Err(BuildError(faults)),
        }
    }

    /// The alert; or the end of each that the incident may have: the severity is one of the labels, and what ends it need not have that of what began it.
    fn alerts(&self, notification: &Notification, now: Timestamp) -> Vec<Value> {
        if notification.operation != NotifyOperation::Resolve {
            return vec![self.alert(notification, notification.severity, None)];
        }
        let all = [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];
        all.into_iter().map(|severity| self.alert(notification, severity, Some(now))).collect()
    }

    fn alert(&self, notification: &Notification, severity: Severity, ends: Option<Timestamp>) -> Value {
        let Notification { title, text, fields, event, rule, firing, .. } = notification;
        let mut labels = self.labels.clone();
        labels.insert("alertname".to_owned(), rule.name.clone());
        labels.insert("namespace".to_owned(), rule.namespace.clone());
        labels.insert("severity".to_owned(), level(severity).to_owned());
        labels.extend(event.subject.clone().map(|subject| ("subject".to_owned(), subject)));
        let fields = fields.iter().map(|field| format!("{}: {}", field.name, field.value));
        let description: Vec<String> = std::iter::once(text.trim_end().to_owned()).chain(fields).collect();
        let mut alert = json!({
            "labels": labels,
            "annotations": {"summary": title, "description": description.join("\n"), "firing": firing},
        });
        match (ends, event.time) {
            // When it began is known to Alertmanager.
            (Some(now), _) => alert["endsAt"] = json!(now.to_string()),
            (None, Some(time)) => alert["startsAt"] = json!(time.to_string()),
            // Alertmanager takes the time at which the alert comes.
            (None, None) => {}
        }
        if let Some(generator) = &self.generator {
            alert["generatorURL"] = json!(generator);
        }
        alert
    }
}

impl Notifier for Alertmanager {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        self.endpoint.secrets().cloned().collect()
    }

    fn keeps_incidents(&self) -> bool {
        true
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            if notification.operation == NotifyOperation::Acknowledge {
                // Posted, it would be one more alert.
                let note = Some("nothing was sent: Alertmanager knows no acknowledgement".to_owned());
                return Ok(Delivered { status: 0, note });
            }
            let headers = self.endpoint.headers((&notification.id, notification.hops), secrets)?;
            let body = Value::from(self.alerts(notification, Timestamp::now())).to_string().into_bytes();
            self.endpoint.post(reach.http, secrets, PATH, headers, body).await
        })
    }
}

#[cfg(test)]
mod tests;
