//! The kind `redis`: streams of Redis.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{AddressFault, Tls, address, one_address};
use crate::api::{Duration, SecretKeyRef};

/// Type of the events of a Redis source unless it says otherwise.
pub const DEFAULT_REDIS_TYPE: &str = "dev.signalbox.redis";
/// The port of servers that are named without one.
const PORT: u16 = 6379;

/// Entries of a stream of Redis (6.2 or later), taken by a consumer group: an entry is acknowledged when it is on stable storage. Each is an event whose
/// `event.data` is a map of its fields, all of them texts, unless `field` is set; `event.subject` and `event.redisstream` are the stream,
/// `event.redisid` the entry's id, which tells `event.time` too. An entry of more than 16 MiB is not read: it is counted (`rejected.tooLarge`) and acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.type) || self.type == 'dev.signalbox.redis' || !self.type.startsWith('dev.signalbox.')")
    .message("type must not begin with dev.signalbox., except the default dev.signalbox.redis: those are Signalbox's own events"))]
pub struct RedisSource {
    /// The server, `redis.shop.svc:6379`; the port may be left out.
    #[schemars(schema_with = "one_address")]
    pub server: String,
    /// TLS. Without it the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The credentials. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RedisAuth>,
    /// The number of the database, 0 to 1023; default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 1023))]
    pub database: u32,
    /// The key of the stream. It is made when it is not there.
    #[schemars(length(min = 1, max = 512))]
    pub stream: String,
    /// The consumer group. It is made when it is not there. Default: one for this EventSource, `signalbox-<uid>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub group: Option<String>,
    /// Where a group that is made begins.
    #[serde(default)]
    pub start_from: RedisStart,
    /// The field whose value is the message: a CloudEvent, JSON, text or bytes; the other fields are its headers. An entry without it is no event.
    /// Default: the entry as a map of texts is `event.data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub field: Option<String>,
    /// Entries that another consumer of the group has had for so long without acknowledging them are taken over: `1s` to `24h`; default: `5m`.
    #[serde(default = "default_claim_after")]
    pub claim_after: Duration,
    /// CloudEvents `type` of the events of entries that are no CloudEvents; default: `dev.signalbox.redis`. Others must not begin with `dev.signalbox.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub type_: Option<String>,
}

pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn default_claim_after() -> Duration {
    Duration::from_secs(300)
}

/// Credentials of Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisAuth {
    /// The user of the access control list; default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The password.
    pub password_secret_ref: SecretKeyRef,
}

/// Where a consumer group begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RedisStart {
    /// With what is added after it is made.
    #[default]
    New,
    /// With what the stream has.
    All,
}

/// A server of Redis, and how to get in.
#[derive(Clone, Copy, Debug)]
pub struct RedisServer<'a> {
    /// Its address.
    pub server: &'a str,
    /// By TLS.
    pub tls: Option<&'a Tls>,
    /// The credentials.
    pub auth: Option<&'a RedisAuth>,
    /// The number of the database.
    pub database: u32,
}

impl RedisSource {
    /// The server.
    pub fn server(&self) -> RedisServer<'_> {
        let (tls, auth) = (self.tls.as_ref(), self.auth.as_ref());
        RedisServer { server: &self.server, tls, auth, database: self.database }
    }
}

impl RedisServer<'_> {
    /// The host and the port.
    ///
    /// # Errors
    /// When `server` is no address.
    pub fn address(&self) -> Result<(String, u16), AddressFault> {
        address(self.server, PORT)
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let password = self.auth.iter().map(|auth| &auth.password_secret_ref);
        password.chain(self.tls.into_iter().flat_map(Tls::secrets)).cloned().collect()
    }

    /// Notes what is wrong with it below `path`, such as `redis`.
    pub fn faults(&self, path: &str, faults: &mut Vec<String>) {
        faults.extend(self.address().err().map(|fault| format!("{path}.server: {fault}")));
        if let Some(tls) = self.tls {
            tls.faults(&format!("{path}.tls"), faults);
        }
    }
}
