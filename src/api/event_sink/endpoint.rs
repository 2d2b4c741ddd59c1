//! `webhook`, `alertmanager` and `cloudEvents` of an EventSink: HTTP endpoints that users name.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SecretKeyRef;
use crate::api::schema;

/// An HTTP endpoint that gets a POST with JSON for each notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.url) != has(self.urlSecretRef)")
    .message("exactly one of url and urlSecretRef must be set"))]
pub struct Webhook {
    /// The address, `http://` or `https://`. No `${ }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub url: Option<String>,
    /// The Secret that holds the address, when the address is a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
    /// The body, a JSON object whose texts may hold `${ }` with the names `notification` (operation, dedupKey, severity, title,
    /// text, fields), `event`, `rule` and `firing`. Default: operation, dedupKey, severity, title, text, fields, rule, firing and event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_form")]
    pub body: Option<Value>,
    /// Signs the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
}

/// A header of a request. Exactly one of `value` and `valueSecretRef` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.value) != has(self.valueSecretRef)")
    .message("exactly one of value and valueSecretRef must be set"))]
pub struct Header {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// The Secret that holds its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_secret_ref: Option<SecretKeyRef>,
}

/// How the request is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.header) || self.scheme == 'Body'")
    .message("header is for scheme Body: Standard Webhooks says what the headers are"))]
pub struct Signing {
    /// The Secret that holds the key; with `StandardWebhooks` in Base64, with or without `whsec_` before it.
    pub secret_ref: SecretKeyRef,
    /// What is signed, and how.
    #[serde(default)]
    pub scheme: SigningScheme,
    /// With `Body`, the header that carries the signature; default `X-Signalbox-Signature-256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub header: Option<String>,
}

/// How a request is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SigningScheme {
    /// `sha256=` and the hexadecimal HMAC-SHA256 of the body's bytes, as GitHub signs.
    #[default]
    Body,
    /// As <https://www.standardwebhooks.com> says: the headers `webhook-id`, the same for every repetition, `webhook-timestamp` and `webhook-signature`.
    StandardWebhooks,
}

/// Prometheus' Alertmanager, by its API v2. An alert has the labels `alertname` (the rule's name), `namespace`, `severity`, `subject` (the event's)
/// and those given here; alerts with the same labels are one. Title, text and fields are annotations. What resolves (`resolveActions`, `operation: Resolve`) ends
/// the alert of the rule and the subject, whatever its severity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.url) != has(self.urlSecretRef)")
    .message("exactly one of url and urlSecretRef must be set"))]
pub struct Alertmanager {
    /// The address without `/api/v2/alerts`, `http://` or `https://`. No `${ }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s?#]+$"))]
    pub url: Option<String>,
    /// The Secret that holds the address, when the address is a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// Headers of the request, such as `Authorization`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
    /// Further labels of every alert, such as the cluster's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub labels: Vec<AlertLabel>,
    /// `generatorURL` of every alert: where a person finds out more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub generator_url: Option<String>,
}

/// A label of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertLabel {
    /// Name of the label; not `alertname`, `namespace`, `severity` or `subject`.
    #[schemars(schema_with = "schema::identifier")]
    pub name: String,
    /// Its value.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// An HTTP endpoint that gets CloudEvents: those that are published, and one of type `dev.signalbox.notification` for each notification, whose `source` is
/// the rule, whose `subject` and `time` are the event's, and whose data has operation, dedupKey, severity, title, text, fields, rule, firing and event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.url) != has(self.urlSecretRef)")
    .message("exactly one of url and urlSecretRef must be set"))]
pub struct CloudEvents {
    /// The address, `http://` or `https://`. No `${ }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub url: Option<String>,
    /// The Secret that holds the address, when the address is a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// Headers of the request, such as `Authorization`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
    /// How the event is sent.
    #[serde(default)]
    pub mode: CloudEventsMode,
}

/// How an event is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CloudEventsMode {
    /// The whole event is the body, as `application/cloudevents+json`.
    #[default]
    Structured,
    /// The attributes are headers (`ce-id`), the body is the data.
    Binary,
}
