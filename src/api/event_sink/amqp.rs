//! `amqp` of an EventSink.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{CloudEventsMode, SecretKeyRef, binary};
use crate::api::{AddressFault, Login, Tls, address, schema};

/// The ports of brokers, without TLS and with it.
const PORTS: (u16, u16) = (5672, 5671);

/// An exchange of a broker of AMQP 0.9.1, such as RabbitMQ. An event is delivered when the broker confirms it, as a message that outlives its restart in
/// durable queues; one that no queue takes is an error. The CloudEvents `id` is the property `message-id`: what has to be sent again may come twice, with
/// the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmqpSink {
    /// The broker: `rabbitmq.shop.svc`, `rabbitmq.shop.svc:5672` or `[fd00::7]:5672`. Default port: 5672, with `tls` 5671.
    #[schemars(length(min = 1, max = 262), regex(pattern = schema::ADDRESS))]
    pub address: String,
    /// The virtual host; default: `/`.
    #[serde(default = "default_virtual_host")]
    #[schemars(length(min = 1, max = 255))]
    pub virtual_host: String,
    /// The exchange, which must be there. Default: the broker's own, where the routing key is the name of a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub exchange: Option<String>,
    /// The routing key, unless `topic` of the action says otherwise. Default: none, then each action must say it; `notify` cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub routing_key: Option<String>,
    /// What `topic` of actions may be; of the words between dots `*` stands for one, and `#` at the end for any number: what an event says goes nowhere else
    /// then. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f]+$")))]
    pub allowed_routing_keys: Vec<String>,
    /// Binary (default): the data as the body, the attributes of CloudEvents as headers `cloudEvents:id` and so on. Structured: the whole CloudEvent as JSON.
    #[serde(default = "binary")]
    pub mode: CloudEventsMode,
    /// User name and password; default: `guest`, whom brokers let in from their own host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// TLS. Without it, events and the password are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn default_virtual_host() -> String {
    "/".to_owned()
}

impl AmqpSink {
    /// The host and the port of the broker.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn place(&self) -> Result<(String, u16), AddressFault> {
        address(&self.address, if self.tls.is_some() { PORTS.1 } else { PORTS.0 })
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let login = self.login.iter().map(|login| &login.password_secret_ref);
        login.chain(self.tls.iter().flat_map(Tls::secrets))
    }
}
