//! `mqtt` of an EventSink.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;
use crate::api::{AddressFault, Login, MqttProtocol, Tls, address, schema};

/// The ports of brokers, without TLS and with it.
const PORTS: (u16, u16) = (1883, 8883);

/// A broker of MQTT. Events are published with QoS 1 and are delivered when the broker acknowledges them; a broker of MQTT 5 also says when nobody subscribes
/// to the topic, and why it refuses one. MQTT knows no ids: what has to be sent again may come twice, with the same CloudEvents `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Binary' || self.protocol == 'V5'")
    .message("mode Binary is for protocol V5: MQTT 3.1.1 has no properties; set mode to Structured or Data"))]
pub struct MqttSink {
    /// The broker: `mosquitto.iot.svc`, `mosquitto.iot.svc:1883` or `[fd00::7]:1883`. Default port: 1883, with `tls` 8883.
    #[schemars(length(min = 1, max = 262), regex(pattern = schema::ADDRESS))]
    pub address: String,
    /// The version of MQTT that is spoken with the broker. Devices may speak another.
    #[serde(default)]
    pub protocol: MqttProtocol,
    /// Where events are published unless `topic` of the action says otherwise, without wildcards. Default: none, then each action must say it; `notify` cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^+#\x00-\x1f]+$"))]
    pub topic: Option<String>,
    /// What `topic` of actions may be, with the wildcards of MQTT, such as `plant/+/command`: what an event says goes nowhere else then. Default: any topic
    /// that the user may publish to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 1024), regex(pattern = r"^(([^/+#]*|\+)/)*([^/+#]*|\+|#)$"))
    )]
    pub allowed_topics: Vec<String>,
    /// What is sent of an event.
    #[serde(default)]
    pub mode: MqttMode,
    /// Whether the broker keeps the last event of each topic for those who subscribe later.
    #[serde(default)]
    pub retain: bool,
    /// What the operator calls itself, which no other client may. Default: a name of each connection's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._:-]+$"))]
    pub client_id: Option<String>,
    /// User name and password; default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// TLS. Without it, events and the password are sent as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What is sent of an event by MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MqttMode {
    /// The data as the payload, the attributes of CloudEvents as user properties.
    #[default]
    Binary,
    /// The whole CloudEvent as JSON: the way of MQTT 3.1.1.
    Structured,
    /// The data alone, for devices that know nothing of CloudEvents. With MQTT 3.1.1 nobody is told how many steps of rules led to it: do not listen to
    /// the same topics.
    Data,
}

impl MqttSink {
    /// The host and the port of the broker.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn broker(&self) -> Result<(String, u16), AddressFault> {
        address(&self.address, if self.tls.is_some() { PORTS.1 } else { PORTS.0 })
    }

    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let login = self.login.iter().map(|login| &login.password_secret_ref);
        login.chain(self.tls.iter().flat_map(Tls::secrets))
    }
}
