//! The kind `prometheus`: what a query gives, again and again.

use std::time::Duration as Span;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Login, Tls};
use crate::api::{Duration, SecretKeyRef};

/// Samples of Prometheus, or of a server with its HTTP API, such as Thanos and Mimir. Each series that the query gives is an event of type
/// `dev.signalbox.sample`: `event.data.value` is a number, `event.data.labels` has the labels, and `event.subject` is the series, `up{job="web"}`, so that without
/// `groupBy` each series is a group of its own. What is no number (NaN, an infinity) is no sample and no event; neither is an empty answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.tls) || self.url.startsWith('https://')").message("tls is for addresses that begin with https://"))]
pub struct PrometheusSource {
    /// The server's address, without `/api/v1/query`: `http://prometheus.monitoring.svc:9090`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s?#@]+$"))]
    pub url: String,
    /// The query (PromQL), which gives an instant vector or a scalar: at most 1,000 series. Let it give a series also when all is well, and compare in the
    /// rule (`trigger.value`): one that gives nothing makes the source `Ready=False, NoData`.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// How often it is asked: `5s` to `1h`; default: `30s`. Samples are taken at whole multiples of it since 1970, so that a restart takes none twice. What
    /// falls into a time in which nobody asks is not made up for.
    #[serde(default = "default_interval")]
    pub interval: Duration,
    /// How many series the query may give. `Each` of them is an event (default); with `One`, more than one is an error, and no event.
    #[serde(default)]
    pub series: Series,
    /// The credentials. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrometheusAuth>,
    /// TLS for an `https://` address. Default: the authorities that the operator's image trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn default_interval() -> Duration {
    Duration::from_secs(30)
}

/// How many series a query may give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Series {
    /// Each is an event.
    #[default]
    Each,
    /// One; more are an error.
    One,
}

/// Credentials of Prometheus. Exactly one is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.tokenSecretRef) != has(self.login)").message("exactly one of tokenSecretRef and login must be set"))]
pub struct PrometheusAuth {
    /// A token: `Authorization: Bearer <token>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// A user name and a password: `Authorization: Basic …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

impl PrometheusSource {
    /// How often it may be asked.
    pub const INTERVAL: std::ops::RangeInclusive<Span> = Span::from_secs(5)..=Span::from_hours(1);

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let auth = self.auth.iter();
        let auth = auth.flat_map(|auth| {
            auth.token_secret_ref.iter().chain(auth.login.as_ref().map(|login| &login.password_secret_ref))
        });
        auth.chain(self.tls.iter().flat_map(Tls::secrets)).cloned().collect()
    }
}
