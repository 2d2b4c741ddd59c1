//! The kind `webhook`: events that others send by HTTP.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Duration, SecretKeyRef};

/// Type of the events of a webhook with preset `Generic` unless it says otherwise.
pub const DEFAULT_WEBHOOK_TYPE: &str = "dev.signalbox.webhook";
/// Bytes that a body may have unless the webhook says otherwise: 1 MiB.
const DEFAULT_MAX_BODY_BYTES: u32 = 1 << 20;

/// A way in by HTTP. What is answered with 2xx is on stable storage; anything else is to be sent again by the sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("self.preset == 'Generic' || (!has(self.type) && !has(self.idHeader) && !has(self.headers))")
    .message("type, idHeader and headers are for preset Generic: what comes by the other presets has its own type and id"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.alerts) || self.preset in ['Alertmanager', 'Grafana']")
    .message("alerts is for the presets Alertmanager and Grafana"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.auth.hmac) || has(self.auth.hmac.header) || self.preset == 'GitHub'")
    .message("auth.hmac.header must be set: only preset GitHub knows its own"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.auth.token) || has(self.auth.token.header) || self.preset == 'GitLab'")
    .message("auth.token.header must be set: only preset GitLab knows its own"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.auth.standardWebhooks) || !has(self.idHeader)")
    .message("idHeader is not to be set with standardWebhooks: webhook-id is the delivery's id"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.type) || self.type == 'dev.signalbox.webhook' || !self.type.startsWith('dev.signalbox.')")
    .message("type must not begin with dev.signalbox., except the default dev.signalbox.webhook: those are Signalbox's own events"))]
pub struct WebhookSource {
    /// What the requests are. `Generic`: each is one event whose `data` is its body: JSON as it is, a form as a map of texts (one with nothing but
    /// `payload` as the JSON in it), text as text, anything else as bytes; `event.subject` is the EventSource, `shop/EventSource/github`.
    /// `CloudEvents`: CloudEvents 1.0 over HTTP, structured, batch, or binary; the last not with `hmac` and `standardWebhooks`, which sign the body only.
    /// The others are senders by name; types, subjects and ids of their events are in the README.
    #[serde(default)]
    pub preset: WebhookPreset,
    /// With the presets `Alertmanager` and `Grafana`: `Each` alert of a notification is an event, or the alerts are `Grouped` in one event for the
    /// notification. Default: `Each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Alerts>,
    /// How a sender shows that it may send.
    pub auth: WebhookAuth,
    /// With preset `Generic`: CloudEvents `type` of the events; default: `dev.signalbox.webhook`. Other types must not begin with `dev.signalbox.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub type_: Option<String>,
    /// With preset `Generic`: the header whose value is the delivery's id: what comes again with the same id within 24 hours is answered with 2xx
    /// and is no second event. Default: `Idempotency-Key`, else `webhook-id`; a request that has none is an event of its own. With
    /// `auth.standardWebhooks` it is `webhook-id`, which is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub id_header: Option<String>,
    /// With preset `Generic`: headers of the request that are kept with the event, each as an extension named as it is in lower case without dashes:
    /// `X-GitHub-Event` is `event.xgithubevent`, and absent where the request has none. Headers that show who may send cannot be kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$")))]
    pub headers: Vec<String>,
    /// Bytes that a body may have, after decompression too: 1 KiB to 4 MiB; default: 1 MiB. What is larger is answered with 413.
    #[serde(default = "default_max_body_bytes")]
    #[schemars(range(min = 1024, max = 4_194_304))]
    pub max_body_bytes: u32,
    /// How many events are taken in a time; what comes beyond is answered with 429 and `Retry-After`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

impl WebhookSource {
    /// The keys of Secrets that senders are checked by: one that has a value is enough.
    pub fn secrets(&self) -> &[SecretKeyRef] {
        match self.auth.kind() {
            Some(AuthKind::Hmac(HmacAuth { secret_refs: keys, .. }))
            | Some(AuthKind::StandardWebhooks(StandardWebhooksAuth { secret_refs: keys, .. }))
            | Some(AuthKind::Token(TokenAuth { secret_refs: keys, .. }))
            | Some(AuthKind::Bearer(BearerAuth { secret_refs: keys }))
            | Some(AuthKind::Basic(BasicAuth { password_secret_refs: keys, .. })) => keys,
            Some(AuthKind::None) | None => &[],
        }
    }
}

fn default_max_body_bytes() -> u32 {
    DEFAULT_MAX_BODY_BYTES
}

/// What the requests of a webhook are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WebhookPreset {
    /// Each request is one event; its body is `event.data`.
    #[default]
    Generic,
    /// CloudEvents 1.0 over HTTP: binary, structured and batch.
    CloudEvents,
    /// GitHub: `com.github.push`, `com.github.workflow_run.completed`; the subject is the repository. A ping is answered and is no event.
    GitHub,
    /// GitLab: `com.gitlab.push`, `com.gitlab.pipeline.failed`; the subject is the project.
    GitLab,
    /// Prometheus' Alertmanager: `io.prometheus.alert.firing` and `.resolved`; the subject is the alert's name and fingerprint.
    Alertmanager,
    /// Alerts of Grafana: `com.grafana.alert.firing` and `.resolved`; the subject is the alert's name and fingerprint.
    Grafana,
    /// Falco, also through Falcosidekick: `falco.rule.output.v1`; the subject is the Pod, or the node.
    Falco,
    /// Harbor, in both of its payload formats: `harbor.artifact.pushed`, `harbor.scan.completed`; the subject is the repository.
    Harbor,
    /// Docker Hub: `com.docker.hub.push`; the subject is the repository.
    DockerHub,
}

/// How many events a notification of alerts is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Alerts {
    /// One for each alert, with the alert's own status; the notification's other fields are in `event.data.group`, except Grafana's `message`, the text of
    /// all alerts, and the largest ones where all copies would be much more than was sent: `event.data.group.leftOut` is their number then.
    #[default]
    Each,
    /// One, of type `io.prometheus.alertgroup.firing` or `.resolved` (`com.grafana.alertgroup…`); `event.data` is the notification.
    Grouped,
}

/// How a sender shows that it may send. Exactly one of `hmac`, `standardWebhooks`, `token`, `bearer`, `basic` and `none` is set. Where a Secret is missing, nothing is accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("[has(self.hmac), has(self.standardWebhooks), has(self.token), has(self.bearer), has(self.basic), has(self.none)].filter(set, set).size() == 1")
    .message("exactly one of hmac, standardWebhooks, token, bearer, basic and none must be set"))]
pub struct WebhookAuth {
    /// A header carries an HMAC of the body's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<HmacAuth>,
    /// Signed as www.standardwebhooks.com says: `webhook-signature` carries signatures `v1,<Base64>` of `webhook-id`, `webhook-timestamp` and
    /// the body. The signed id is the delivery's id, so `idHeader` is not to be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_webhooks: Option<StandardWebhooksAuth>,
    /// A header carries a token as it is, such as `X-Gitlab-Token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
    /// `Authorization: Bearer <token>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<BearerAuth>,
    /// `Authorization: Basic <user name and password>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// Whoever reaches the operator's port may send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoAuth>,
}

/// The one way of a [`WebhookAuth`].
#[derive(Clone, Copy, Debug)]
pub enum AuthKind<'a> {
    /// `hmac`
    Hmac(&'a HmacAuth),
    /// `standardWebhooks`
    StandardWebhooks(&'a StandardWebhooksAuth),
    /// `token`
    Token(&'a TokenAuth),
    /// `bearer`
    Bearer(&'a BearerAuth),
    /// `basic`
    Basic(&'a BasicAuth),
    /// `none`
    None,
}

impl WebhookAuth {
    /// The way that is set, or nothing when not exactly one is.
    pub fn kind(&self) -> Option<AuthKind<'_>> {
        let Self { hmac, standard_webhooks, token, bearer, basic, none } = self;
        let ways = [
            hmac.as_ref().map(AuthKind::Hmac),
            standard_webhooks.as_ref().map(AuthKind::StandardWebhooks),
            token.as_ref().map(AuthKind::Token),
            bearer.as_ref().map(AuthKind::Bearer),
            basic.as_ref().map(AuthKind::Basic),
            none.map(|NoAuth {}| AuthKind::None),
        ];
        let mut set = ways.into_iter().flatten();
        set.next().filter(|_| set.next().is_none())
    }
}

/// A header carries an HMAC of the body's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.header) || (!has(self.prefix) && !has(self.timestamp) && self.algorithm == 'SHA256' && self.encoding == 'Hex')")
    .message("algorithm, encoding, prefix and timestamp say how a header is written: name the header, too"))]
pub struct HmacAuth {
    /// The header that carries the signature, such as `X-Signature`. May be left out with preset `GitHub`: then it is `X-Hub-Signature-256`, as GitHub
    /// writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub header: Option<String>,
    /// The hash of the HMAC.
    #[serde(default)]
    pub algorithm: HmacAlgorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: SignatureEncoding,
    /// What stands before the signature in the header, such as `sha256=`; default: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub prefix: String,
    /// The keys: one, or two while the sender changes from one to the other; either may match.
    #[schemars(length(min = 1, max = 2))]
    pub secret_refs: Vec<SecretKeyRef>,
    /// A time that is signed with the body, so that what somebody has overheard cannot be sent again later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<SignedTimestamp>,
}

/// The hash of an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HmacAlgorithm {
    /// SHA-256.
    #[default]
    #[serde(rename = "SHA256")]
    Sha256,
    /// SHA-512.
    #[serde(rename = "SHA512")]
    Sha512,
    /// SHA-1, for senders that know nothing better.
    #[serde(rename = "SHA1")]
    Sha1,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SignatureEncoding {
    /// Hexadecimal, in lower or upper case.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// A time that is signed with the body: the HMAC is that of `prefix`, the header's value, `separator` and the body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedTimestamp {
    /// The header that carries the time, as seconds since 1970.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub header: String,
    /// What is signed before the time, such as `v0:`; default: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub prefix: String,
    /// What is signed between the time and the body; default: `.`.
    #[serde(default = "default_separator")]
    #[schemars(length(max = 64))]
    pub separator: String,
    /// How far the time may be from the operator's, to either side: `1s` to `24h`; default: `5m`.
    #[serde(default = "default_tolerance")]
    pub tolerance: Duration,
}

/// Signed as Standard Webhooks says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandardWebhooksAuth {
    /// The keys as the sender shows them, Base64 with or without `whsec_` before it: one, or two while the sender changes from one to the other; either
    /// may match.
    #[schemars(length(min = 1, max = 2))]
    pub secret_refs: Vec<SecretKeyRef>,
    /// How far `webhook-timestamp` may be from the operator's time, to either side: `1s` to `24h`; default: `5m`.
    #[serde(default = "default_tolerance")]
    pub tolerance: Duration,
}

fn default_separator() -> String {
    ".".to_owned()
}

fn default_tolerance() -> Duration {
    Duration::from_secs(300)
}

/// A header carries a token as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// The header. May be left out with preset `GitLab`: then it is `X-Gitlab-Token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub header: Option<String>,
    /// The tokens: one, or two while the sender changes from one to the other; either may match.
    #[schemars(length(min = 1, max = 2))]
    pub secret_refs: Vec<SecretKeyRef>,
}

/// `Authorization: Bearer <token>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BearerAuth {
    /// The tokens: one, or two while the sender changes from one to the other; either may match.
    #[schemars(length(min = 1, max = 2))]
    pub secret_refs: Vec<SecretKeyRef>,
}

/// `Authorization: Basic <user name and password>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The user name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^:]+$"))]
    pub username: String,
    /// The passwords: one, or two while the sender changes from one to the other; either may match.
    #[schemars(length(min = 1, max = 2))]
    pub password_secret_refs: Vec<SecretKeyRef>,
}

/// Has no fields: `none: {}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoAuth {}

/// How many events in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// How many events; so many may also come at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub events: u32,
    /// In which time: `1s` to `24h`; default: `1s`.
    #[serde(default = "default_per")]
    pub per: Duration,
}

fn default_per() -> Duration {
    Duration::from_secs(1)
}
