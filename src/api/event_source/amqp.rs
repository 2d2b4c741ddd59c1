//! EventSources of kind `amqp`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressFault, Login, Tls, address};
use crate::api::{SecretKeyRef, schema};

/// Type of the events of an AMQP source unless it says otherwise.
pub const DEFAULT_AMQP_TYPE: &str = "dev.signalbox.amqp";
/// Messages that are on their way at once unless the source says otherwise: enough for a batch while the next one comes.
const DEFAULT_PREFETCH: u16 = 20;
/// The ports of brokers, without TLS and with it.
const PORTS: (u16, u16) = (5672, 5671);

/// Consumes a queue of an AMQP 0.9.1 broker, such as RabbitMQ. Each message is an event whose `data` is its body: what its content type says, and without
/// one JSON if it is some, else text if it is UTF-8, else bytes. `event.subject` is the routing key, or the queue where there is none. Where the sender set
/// them, there are also `event.amqpexchange`, `event.amqproutingkey`, `event.correlationid`, `event.replyto` and `event.datacontenttype`, and the message's
/// time is the event's. CloudEvents are recognised, and have their own `subject`, if any: structured by content type `application/cloudevents+json`,
/// binary by headers that begin with `cloudEvents:`, `cloudEvents_` or `ce_`.
///
/// A message is acknowledged once its event is on stable storage. One that is no event (it has more than 4 MiB, or is not what its content type says) is rejected, and
/// goes where the queue's dead letters go. The property `message-id` is the event's id: what comes again with the same within 24 hours is no second event.
/// A message without one may be two events: what was not acknowledged when the connection ended comes again, and cannot be told from another that holds
/// the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.type) || self.type == 'dev.signalbox.amqp' || !self.type.startsWith('dev.signalbox.')")
    .message("type must not begin with dev.signalbox., except the default dev.signalbox.amqp: those are Signalbox's own events"))]
pub struct AmqpSource {
    /// The broker: `rabbitmq.shop.svc`, `rabbitmq.shop.svc:5672` or `[fd00::7]:5672`. Default port: 5672, with `tls` 5671.
    #[schemars(length(min = 1, max = 262), regex(pattern = schema::ADDRESS))]
    pub address: String,
    /// The virtual host; default: `/`.
    #[serde(default = "default_virtual_host")]
    #[schemars(length(min = 1, max = 255))]
    pub virtual_host: String,
    /// The queue that is consumed. Other consumers of it take messages away from this one.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub queue: String,
    /// Makes the queue if it is not there. One that is there and other than this says is left as it is, and the source is not connected. Default: the queue
    /// is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declare: Option<AmqpQueue>,
    /// Binds the queue to exchanges, which must be there. What was bound before stays bound. Default: it is bound already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub bindings: Vec<AmqpBinding>,
    /// How many messages the broker sends that are not acknowledged: 1 to 1000; default: 20. They are held in memory: while they have more than 16 MiB
    /// together, nothing more is read than the rest of a message.
    #[serde(default = "default_prefetch")]
    #[schemars(range(min = 1, max = 1000))]
    pub prefetch: u16,
    /// CloudEvents `type` of the events that are no CloudEvents; default: `dev.signalbox.amqp`. Other types must not begin with `dev.signalbox.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub type_: Option<String>,
    /// Headers of the message that are kept with the event, each as an extension named as it is in lower case without other characters than letters and
    /// digits: `x-tenant` is `event.xtenant`. Texts, numbers, true and false are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$")))]
    pub headers: Vec<String>,
    /// User name and password; default: `guest`, whom brokers let in from their own host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// TLS. Without it, messages and the password are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

pub(super) fn default_virtual_host() -> String {
    "/".to_owned()
}

fn default_prefetch() -> u16 {
    DEFAULT_PREFETCH
}

/// A queue that is made: durable, and kept when nobody consumes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmqpQueue {
    /// How the broker keeps it.
    #[serde(default)]
    pub queue_type: AmqpQueueType,
    /// The exchange that rejected messages go to, by the routing key that they came with. Default: they are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub dead_letter_exchange: Option<String>,
}

/// How a broker keeps a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AmqpQueueType {
    /// On one node.
    #[default]
    Classic,
    /// On several nodes, in RabbitMQ.
    Quorum,
}

/// What a queue is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmqpBinding {
    /// The exchange.
    #[schemars(length(min = 1, max = 255))]
    pub exchange: String,
    /// Routing keys, or patterns of them where the exchange is of type topic: `orders.*.created`, `orders.#`. Default: the empty one, for exchanges that look
    /// at none.
    #[serde(default = "default_routing_keys")]
    #[schemars(length(min = 1, max = 16), inner(length(max = 255)))]
    pub routing_keys: Vec<String>,
}

fn default_routing_keys() -> Vec<String> {
    vec![String::new()]
}

/// A broker of AMQP 0.9.1, and how to get in.
#[derive(Clone, Copy, Debug)]
pub struct AmqpBroker<'a> {
    /// Its address.
    pub address: &'a str,
    /// The virtual host.
    pub virtual_host: &'a str,
    /// User name and password.
    pub login: Option<&'a Login>,
    /// By TLS.
    pub tls: Option<&'a Tls>,
}

impl AmqpSource {
    /// The broker.
    pub fn broker(&self) -> AmqpBroker<'_> {
        let (login, tls) = (self.login.as_ref(), self.tls.as_ref());
        AmqpBroker { address: &self.address, virtual_host: &self.virtual_host, login, tls }
    }

    /// CloudEvents `type` of the events that are no CloudEvents.
    pub fn event_type(&self) -> &str {
        self.type_.as_deref().unwrap_or(DEFAULT_AMQP_TYPE)
    }
}

impl AmqpBroker<'_> {
    /// The host and the port.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn place(&self) -> Result<(String, u16), AddressFault> {
        address(self.address, if self.tls.is_some() { PORTS.1 } else { PORTS.0 })
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let password = self.login.iter().map(|login| &login.password_secret_ref);
        password.chain(self.tls.into_iter().flat_map(Tls::secrets)).cloned().collect()
    }

    /// Notes what is wrong with it below `path`, such as `amqp`.
    pub fn faults(&self, path: &str, faults: &mut Vec<String>) {
        faults.extend(self.place().err().map(|fault| format!("{path}.address: {fault}")));
        if let Some(tls) = self.tls {
            tls.faults(&format!("{path}.tls"), faults);
        }
    }
}
