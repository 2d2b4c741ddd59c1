//! `http` of an action: a request to any HTTP endpoint.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{Header, SecretKeyRef, Tls, schema};

/// Sends a request to an HTTP endpoint; the answer is the result. Every request of one action of one firing has the same `Idempotency-Key`. Redirects
/// are not followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.tls) || !self.url.startsWith('http://')").message("tls is for addresses that begin with https://"))]
pub struct Http {
    /// The address, `http://` or `https://`; may hold `${ }` behind the host, where values are percent-encoded, or be exactly one `${ }`.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^(https?://|\$\{)"))]
    pub url: String,
    /// The method.
    #[serde(default)]
    pub method: HttpMethod,
    /// Headers of the request; their values may hold `${ }`. For `Authorization` there is `authSecretRef`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Map(vec!["name".into()]))]
    pub headers: Vec<Header>,
    /// The body; its texts may hold `${ }`. A text is sent as it is, anything else as JSON. `GET` and `HEAD` have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::anything")]
    pub body: Option<Value>,
    /// CEL expression over `response` (`status`, `headers` by their names in lower case, `body`) that says whether the answer is the one hoped for;
    /// default: the status is 2xx. Where it gives false the action has failed; after 408, 425, 429 and 5xx the request is repeated as `retry` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_expression")]
    pub expect_expression: Option<String>,
    /// The Secret that holds a token, read as the rule's account and sent as `Authorization: Bearer <token>`. A value of two words, such as
    /// `Basic dXNlcjpwYXNz`, is sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<SecretKeyRef>,
    /// TLS for an `https://` address, such as the certificate that the request shows (mTLS); its Secrets are read as the rule's account. Default: the authorities
    /// that the operator's image trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What to do when it cannot be known whether a request was received: no answer came in time, the connection broke, or the operator was restarted.
    #[serde(default)]
    pub on_unknown: OnUnknown,
}

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// The default.
    #[default]
    Post,
    /// Reads.
    Get,
    /// Replaces.
    Put,
    /// Changes in part.
    Patch,
    /// Removes.
    Delete,
    /// Reads status and headers only.
    Head,
}

/// What happens when it cannot be known whether a request was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnUnknown {
    /// It is sent again, with the same `Idempotency-Key`: for receivers that remember the key, and for requests that do no harm twice.
    #[default]
    Retry,
    /// The action has failed, and the request is not sent again.
    Fail,
}

impl HttpMethod {
    /// Whether its requests have a body.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::Get | Self::Head)
    }
}

impl fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Post => "POST",
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Head => "HEAD",
        })
    }
}
