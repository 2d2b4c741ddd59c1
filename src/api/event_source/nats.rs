//! The kind `nats`: subjects of NATS, and streams of JetStream.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Login, Tls, address, addresses};
use crate::api::{Duration, SecretKeyRef};

/// Type of the events of a NATS source unless it says otherwise.
pub const DEFAULT_NATS_TYPE: &str = "dev.signalbox.nats";
/// The port of servers that are named without one.
pub const NATS_PORT: u16 = 4222;

/// Messages of NATS. Each is an event: a CloudEvent where it is one (`content-type: application/cloudevents+json`, or headers that begin with `ce-`); of any
/// other `event.data` is the body, JSON if it is some, else text, else bytes, and `event.subject` its subject. `event.natssubject` is its subject always,
/// `event.natsstream` and `event.natssequence` say where JetStream keeps it, by which it is known when it comes again; `event.natsmsgid` is its header
/// `Nats-Msg-Id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("has(self.core) != has(self.jetStream)").message("exactly one of core and jetStream must be set"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.type) || self.type == 'dev.signalbox.nats' || !self.type.startsWith('dev.signalbox.')")
    .message("type must not begin with dev.signalbox., except the default dev.signalbox.nats: those are Signalbox's own events"))]
pub struct NatsSource {
    /// Servers of one cluster, `nats.shop.svc:4222` each; the port may be left out. Servers that these tell of are not asked.
    #[schemars(schema_with = "addresses")]
    pub servers: Vec<String>,
    /// TLS. Without it the connection is not encrypted, unless the server asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The credentials. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuth>,
    /// Subscribes to a subject. What is published while nobody is connected, as during a restart, is lost: that is how core NATS is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<NatsCore>,
    /// Takes from a stream of JetStream. A message is acknowledged when it is on stable storage; one that is no event is terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jet_stream: Option<JetStream>,
    /// CloudEvents `type` of the events of messages that are no CloudEvents; default: `dev.signalbox.nats`. Others must not begin with `dev.signalbox.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub type_: Option<String>,
    /// Headers of messages that are kept with the event, each as an extension named as it is in lower case without dashes: `Trace-Id` is `event.traceid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]+$")))]
    pub headers: Vec<String>,
}

/// Credentials of NATS. Exactly one is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new(
    "[has(self.login), has(self.tokenSecretRef), has(self.nkeySecretRef), has(self.credentialsSecretRef)].filter(set, set).size() == 1")
    .message("exactly one of login, tokenSecretRef, nkeySecretRef and credentialsSecretRef must be set"))]
pub struct NatsAuth {
    /// A user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
    /// The seed of an NKey, `SU…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey_secret_ref: Option<SecretKeyRef>,
    /// A credentials file (`.creds`): a user's JWT and the seed of its NKey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretKeyRef>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsCore {
    /// The subject; `*` stands for one token, `>` for all that follow.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s]+$"))]
    pub subject: String,
    /// A queue group: of its members one gets each message. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s]+$"))]
    pub queue_group: Option<String>,
}

/// A stream, and the consumer that it is read by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new(
    "!has(self.consumer) || (!has(self.filterSubjects) && !has(self.deliverPolicy) && !has(self.ackWait) && !has(self.maxAckPending))")
    .message("filterSubjects, deliverPolicy, ackWait and maxAckPending are for a consumer that is made: leave them or consumer out"))]
pub struct JetStream {
    /// The stream. It must exist.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub stream: String,
    /// A durable pull consumer that exists, with explicit acknowledgements. Default: one is made for this EventSource, `signalbox-<uid>`; the server
    /// removes it when nobody has asked for 720 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub consumer: Option<String>,
    /// The domain of JetStream; default: that of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s.*>/\\]+$"))]
    pub domain: Option<String>,
    /// Of the consumer that is made: only messages of these subjects; `*` and `>` as in `core.subject`. Default: all of the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = r"^[^\s]+$")))]
    pub filter_subjects: Vec<String>,
    /// Of the consumer that is made: where it begins. `New` (default): with what comes after it is made. `All`: with what the stream has. For one that is
    /// there, a change changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_policy: Option<NatsDeliverPolicy>,
    /// Of the consumer that is made: after which time the server sends again what was not acknowledged, `1s` to `1h`; default: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_wait: Option<Duration>,
    /// Of the consumer that is made: how many messages may be on their way unacknowledged, 1 to 10000; default: 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_ack_pending: Option<u32>,
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NatsDeliverPolicy {
    /// With what comes after it is made.
    #[default]
    New,
    /// With what the stream has.
    All,
}

/// A cluster of NATS, and how to get in.
#[derive(Clone, Copy, Debug)]
pub struct NatsCluster<'a> {
    /// Servers of it.
    pub servers: &'a [String],
    /// By TLS.
    pub tls: Option<&'a Tls>,
    /// The credentials.
    pub auth: Option<&'a NatsAuth>,
}

impl NatsSource {
    /// The cluster.
    pub fn cluster(&self) -> NatsCluster<'_> {
        NatsCluster { servers: &self.servers, tls: self.tls.as_ref(), auth: self.auth.as_ref() }
    }
}

impl NatsCluster<'_> {
    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let auth = self.auth.iter().flat_map(|auth| {
            let password = auth.login.as_ref().map(|login| &login.password_secret_ref);
            [&auth.token_secret_ref, &auth.nkey_secret_ref, &auth.credentials_secret_ref]
                .into_iter()
                .flatten()
                .chain(password)
        });
        auth.chain(self.tls.into_iter().flat_map(Tls::secrets)).cloned().collect()
    }

    /// Notes what is wrong with it below `path`, such as `nats`.
    pub fn faults(&self, path: &str, faults: &mut Vec<String>) {
        if self.servers.is_empty() {
            faults.push(format!("{path}.servers: at least one must be named"));
        }
        let wrong = self.servers.iter().filter_map(|server| address(server, NATS_PORT).err());
        faults.extend(wrong.map(|fault| format!("{path}.servers: {fault}")));
        if let Some(tls) = self.tls {
            tls.faults(&format!("{path}.tls"), faults);
        }
    }
}
