//! EventSources of kind `mqtt`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressFault, Login, Tls, address};
use crate::api::{Duration, SecretKeyRef, schema};

/// Type of the events of an MQTT source unless it says otherwise.
pub const DEFAULT_MQTT_TYPE: &str = "dev.signalbox.mqtt";
/// How long a broker keeps a session unless the source says otherwise: a day, as long as ids are remembered.
const DEFAULT_SESSION_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
/// The ports of brokers, without TLS and with it.
const PORTS: (u16, u16) = (1883, 8883);

/// Subscribes to topics of an MQTT broker. Each message is an event whose `data` is its payload: JSON if it is some, else text if it is UTF-8, else bytes;
/// null when it is empty, as when a retained message is cleared. `event.subject` is the topic, so that each topic is a group of its own; `event.mqtttopic` is
/// the topic too, also of a CloudEvent, and `event.retained` tells whether the broker had kept the message from before the subscription. Of MQTT 5 also `event.datacontenttype`,
/// `event.responsetopic` and `event.correlationdata` (bytes that are no UTF-8 in Base64), where the sender set them. CloudEvents are recognised: structured by
/// content type `application/cloudevents+json`, binary by the user property `specversion`.
///
/// A message of QoS 1 or 2 is acknowledged once its event is on stable storage, and the session stays at the broker while the operator is away: what is
/// published meanwhile comes afterwards, as far as the broker keeps it. What the broker sends again over a connection that
/// takes the place of another may be a second event, unless it comes with QoS 2 or is a CloudEvent, which has an id; RabbitMQ knows no QoS 2: consume its queues by kind
/// `amqp`. A message of more than 4 MiB, or with more than 64 KiB of properties, is acknowledged, counted as rejected, and no event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.sessionExpiry) || self.protocol == 'V5'")
    .message("sessionExpiry is for protocol V5: MQTT 3.1.1 leaves it to the broker how long it keeps a session"))]
#[x_kube(validation = Rule::new("!has(self.userProperties) || self.protocol == 'V5'")
    .message("userProperties are for protocol V5: MQTT 3.1.1 has none"))]
#[x_kube(validation = Rule::new("!has(self.sharedGroup) || self.retained == 'Ignore'")
    .message("retained: Take is not for shared subscriptions: brokers send them no retained messages"))]
#[x_kube(validation = Rule::new("self.payload == 'Any' || (!has(self.type) && !has(self.userProperties))")
    .message("type and userProperties are for payload Any: a CloudEvent has its own type and extensions"))]
#[x_kube(validation = Rule::new("!has(self.type) || self.type == 'dev.signalbox.mqtt' || !self.type.startsWith('dev.signalbox.')")
    .message("type must not begin with dev.signalbox., except the default dev.signalbox.mqtt: those are Signalbox's own events"))]
#[x_kube(validation = Rule::new("!has(self.clientId) || !has(oldSelf.clientId) || self.clientId != oldSelf.clientId || (has(self.sharedGroup) ? self.sharedGroup : '') == (has(oldSelf.sharedGroup) ? oldSelf.sharedGroup : '')")
    .message("with another sharedGroup, set another clientId: the session at the broker stays in the group it is in"))]
pub struct MqttSource {
    /// The broker: `mosquitto.iot.svc`, `mosquitto.iot.svc:1883` or `[fd00::7]:1883`. Default port: 1883, with `tls` 8883.
    #[schemars(length(min = 1, max = 262), regex(pattern = schema::ADDRESS))]
    pub address: String,
    /// The version of MQTT that is spoken with the broker. Devices may speak another.
    #[serde(default)]
    pub protocol: MqttProtocol,
    /// Topics, with the wildcards of MQTT: `plant/+/state`, `plant/#`. `#` does not stand for `$SYS/…`. One that another one holds in full is left to
    /// that; two that overlap in part are refused: brokers send a message for each of them.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 1024), regex(pattern = r"^(([^/+#]*|\+)/)*([^/+#]*|\+|#)$"))
    )]
    pub topics: Vec<String>,
    /// The highest QoS that messages come with: 0, 1 or 2; default: 1. They come with no higher one than they were published with. With 0 what is
    /// published while there is no connection is lost.
    #[serde(default = "default_qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: u8,
    /// Makes the subscriptions shared: of all clients in this group, each message goes to one. It stands for `$share/<sharedGroup>/<topic>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub shared_group: Option<String>,
    /// The name of the session at the broker, which no other client may have. Default: one made of the EventSource's `metadata.uid` and `sharedGroup`.
    /// A session that is not used any more stays at the broker until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._:-]+$"))]
    pub client_id: Option<String>,
    /// With protocol V5: how long the broker keeps the session, and what is published for it, while there is no connection; `0s` to `8760h`; default:
    /// `24h`. The broker may keep it for less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_expiry: Option<Duration>,
    /// What becomes of retained messages: those that the broker had kept from before the subscription. What is published later is an event in any case.
    #[serde(default)]
    pub retained: MqttRetained,
    /// What payloads are.
    #[serde(default)]
    pub payload: MqttPayload,
    /// CloudEvents `type` of the events; default: `dev.signalbox.mqtt`. Other types must not begin with `dev.signalbox.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub type_: Option<String>,
    /// With protocol V5: user properties that are kept with the event, each as an extension named as it is in lower case without other characters than
    /// letters and digits: `Firmware-Version` is `event.firmwareversion`. Of one that is there twice, the first is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._-]+$")))]
    pub user_properties: Vec<String>,
    /// User name and password; default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// TLS. Without it, messages and the password are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn default_qos() -> u8 {
    1
}

/// A version of MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MqttProtocol {
    /// MQTT 5.
    #[default]
    V5,
    /// MQTT 3.1.1, for brokers that know nothing newer.
    V311,
}

/// What becomes of retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MqttRetained {
    /// They are no events: they tell of what was, perhaps long ago.
    #[default]
    Ignore,
    /// Each is an event, with `event.retained` true, once for its topic and content within 24 hours. With protocol V311 brokers send it at each connection
    /// again: after 24 hours without one it is an event once more. With V5 it comes only to a session that is new.
    Take,
}

/// What payloads are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MqttPayload {
    /// JSON, text or bytes, as they look; CloudEvents where the properties of MQTT 5 say so.
    #[default]
    Any,
    /// Each is a CloudEvent in JSON (structured mode), whatever the properties say: the way of MQTT 3.1.1.
    CloudEvents,
}

impl MqttSource {
    /// The host and the port of the broker.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn broker(&self) -> Result<(String, u16), AddressFault> {
        address(&self.address, if self.tls.is_some() { PORTS.1 } else { PORTS.0 })
    }

    /// How long the broker keeps the session.
    pub fn session_expiry(&self) -> Duration {
        self.session_expiry.unwrap_or(DEFAULT_SESSION_EXPIRY)
    }

    /// CloudEvents `type` of the events.
    pub fn event_type(&self) -> &str {
        self.type_.as_deref().unwrap_or(DEFAULT_MQTT_TYPE)
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let login = self.login.iter().map(|login| &login.password_secret_ref);
        login.chain(self.tls.iter().flat_map(Tls::secrets))
    }
}
