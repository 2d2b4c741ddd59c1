//! `redis` of an EventSink.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CloudEventsMode, SecretKeyRef, binary};
use crate::api::{AddressFault, RedisAuth, Tls, address, connection::one_address};

/// The port of servers.
const PORT: u16 = 6379;

/// A stream of Redis: an event is added by `XADD`, and delivered when the server has answered. Redis knows no ids of ours: what has to be sent again may be
/// there twice, with the same CloudEvents `id`. Whether an entry outlives a crash of the server is for its `appendfsync` to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSink {
    /// The server, `redis.shop.svc:6379`; the port may be left out.
    #[schemars(schema_with = "one_address")]
    pub server: String,
    /// The number of the database, 0 to 1023; default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 1023))]
    pub database: u32,
    /// The key of the stream, unless `topic` of the action says otherwise. It is made when it is not there. Default: none, then each action must say it;
    /// `notify` cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub stream: Option<String>,
    /// What `topic` of actions may be: keys as they are. Default: any that the user may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub allowed_streams: Vec<String>,
    /// About how many entries the stream keeps, 1 or more: older ones go (`MAXLEN ~`). Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_length: Option<u64>,
    /// The field that holds the data, or the whole event; the others are attributes of CloudEvents, `ce_id` and so on.
    #[serde(default = "default_field")]
    #[schemars(length(min = 1, max = 253))]
    pub field: String,
    /// Binary (default): the data in `field`, the attributes of CloudEvents as other fields. Structured: the whole CloudEvent as JSON in `field`.
    #[serde(default = "binary")]
    pub mode: CloudEventsMode,
    /// The credentials. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RedisAuth>,
    /// TLS. Without it the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn default_field() -> String {
    "data".to_owned()
}

impl RedisSink {
    /// The host and the port of the server.
    ///
    /// # Errors
    /// When `server` is no address.
    pub fn place(&self) -> Result<(String, u16), AddressFault> {
        address(&self.server, PORT)
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let password = self.auth.iter().map(|auth| &auth.password_secret_ref);
        password.chain(self.tls.iter().flat_map(Tls::secrets))
    }
}
