//! `mqtt`: an event as a message of MQTT 3.1.1 or 5, with QoS 1.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/mqtt-protocol-binding.md>

mod session;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use self::session::Session;
use super::{
    BuildError, Delivered, Publication, Reach, STRUCTURED, Secrets, SinkError,
    broker::{Broker, Server, by, connected, deadline},
    topics::{Topics, Words},
};
use crate::{
    api::{MqttMode, MqttProtocol, MqttSink, SecretKeyRef},
    net::{
        HOPS,
        mqtt::{Client, Connect, Limits, Message, Properties, Qos, Version, topic},
    },
};

/// After how many seconds without a packet the broker takes us for gone, half as much again.
const KEEP_ALIVE: u16 = 60;
/// Bytes of a message's payload that are taken: nothing is subscribed to.
const MAX_PAYLOAD: usize = 1 << 10;
/// Bytes that a text of MQTT may have.
const MAX_TEXT: usize = 65_535;

/// The sink.
pub(super) struct Mqtt {
    spec: MqttSink,
    version: Version,
    server: Server,
    topics: Topics,
    needed: Vec<SecretKeyRef>,
}

impl Mqtt {
    pub(super) fn new(spec: &MqttSink) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let way = (spec.tls.as_ref(), spec.login.as_ref());
        let server = Server::new("mqtt.address", spec.broker(), way, &mut faults);
        let version = match spec.protocol {
            MqttProtocol::V5 => Version::V5,
            MqttProtocol::V311 => Version::V311,
        };
        if version == Version::V311 && spec.mode == MqttMode::Binary {
            faults.push(
                "mqtt.mode: Binary is for protocol V5: MQTT 3.1.1 has no properties; set mode to Structured or Data"
                    .to_owned(),
            );
        }
        faults
            .extend(spec.topic.as_ref().and_then(|topic| literal(topic).err()).map(|why| format!("mqtt.topic: {why}")));
        for filter in &spec.allowed_topics {
            faults.extend(topic::check(filter).err().map(|fault| format!("mqtt.allowedTopics {filter:?}: {fault}")));
        }
        let words = Words { kind: "mqtt", topic: "topic", allowed: "allowedTopics" };
        let topics = Topics::new(words, spec.topic.as_ref(), &spec.allowed_topics, topic::matches);
        let needed = spec.secrets().cloned().collect();
        match server {
            Some(server) if faults.is_empty() => Ok(Self { spec: spec.clone(), version, server, topics, needed }),
            _ => Err(BuildError(faults)),
        }
    }

    /// Where it is published.
    fn topic<'t>(&'t self, named: Option<&'t str>) -> Result<&'t str, String> {
        let topic = self.topics.of(named)?;
        literal(topic).map_err(|why| format!("cannot publish to {topic:?}: {why}"))?;
        Ok(topic)
    }

    fn message(&self, topic: &str, publication: &Publication) -> Message {
        let content_type = || publication.content_type().map(str::to_owned);
        let (payload, content_type, user) = match self.spec.mode {
            MqttMode::Structured => (publication.structured(), Some(STRUCTURED.to_owned()), Vec::new()),
            MqttMode::Binary => (publication.body(), content_type(), publication.attributes()),
            MqttMode::Data => {
                (publication.body(), content_type(), vec![(HOPS.to_string(), publication.hops.to_string())])
            }
        };
        Message {
            topic: topic.to_owned(),
            payload: payload.into(),
            retain: self.spec.retain,
            properties: match self.version {
                Version::V5 => Properties { content_type, user, ..Properties::default() },
                Version::V311 => Properties::default(),
            },
        }
    }

    async fn connect(&self, secrets: &Secrets, reach: Reach<'_>) -> Result<Session, SinkError> {
        let stream = self.server.open(secrets, reach).await?;
        let client_id = self.spec.client_id.clone().unwrap_or_else(own_name);
        let connect = Connect {
            client_id: &client_id,
            login: self.server.login(secrets)?,
            session: None,
            keep_alive: KEEP_ALIVE,
            in_flight: 1,
            max_payload: MAX_PAYLOAD,
        };
        let (client, greeting) =
            Client::connect(stream, self.version, connect).await.map_err(|error| session::failed(&error))?;
        Ok(Session::begin(client, greeting))
    }
}

impl Broker for Mqtt {
    fn needed(&self) -> &[SecretKeyRef] {
        &self.needed
    }

    fn place<'t>(&'t self, topic: Option<&'t str>) -> Result<&'t str, String> {
        self.topic(topic)
    }

    async fn send(
        &self,
        topic: &str,
        publication: &Publication,
        secrets: &Secrets,
        reach: Reach<'_>,
    ) -> Result<Delivered, SinkError> {
        let message = self.message(topic, publication);
        let (deadline, name) = (deadline(), format!("the broker {}", self.server.name()));
        let own = [format!("{:?}", self.version), self.spec.client_id.clone().unwrap_or_default()];
        let key = self.server.key("mqtt", (secrets, &self.needed), &own)?;
        let making = connected(reach.connections, key, || self.connect(secrets, reach));
        let session = by(deadline, &name, making).await?;
        fits(&message, session.limits())?;
        let taken = by(deadline, &name, session.publish(message)).await;
        match taken {
            Ok(words) => Ok(Delivered { status: 0, note: words.map(|words| words.to_string()) }),
            Err(error) => {
                // Whoever says nothing is not asked over the same connection again.
                if tokio::time::Instant::now() >= deadline {
                    reach.connections.discard(key, &session);
                }
                Err(error)
            }
        }
    }
}

/// Whether it is a topic and no filter.
fn literal(topic: &str) -> Result<(), &'static str> {
    if topic.contains(['+', '#']) {
        return Err("a topic that is published to has no wildcards + and #");
    }
    if topic.is_empty() || topic.len() > MAX_TEXT || topic.chars().any(char::is_control) {
        return Err("a topic has 1 to 65535 bytes and no control characters");
    }
    Ok(())
}

/// Whether the broker takes it: it would end the connection, with all else that is on its way.
fn fits(message: &Message, limits: Limits) -> Result<(), SinkError> {
    let Properties { content_type, user, .. } = &message.properties;
    let texts = user.iter().flat_map(|(name, value)| [name, value]).chain(content_type).chain([&message.topic]);
    let (mut size, mut longest) = (0, 0);
    for text in texts {
        (size, longest) = (size + text.len() + 3, longest.max(text.len()));
    }
    // Fixed header, packet identifier, length of properties.
    let size = size + message.payload.len() + 5 + 2 + 4;
    let most = limits.packet.map_or(usize::MAX, |most| most as usize);
    let why = if longest > MAX_TEXT {
        format!("an attribute has {longest} bytes; {MAX_TEXT} are possible by MQTT")
    } else if size > most {
        format!("the message has {size} bytes; the broker takes {most}")
    } else if message.retain && !limits.retain {
        "the broker keeps no messages: set mqtt.retain to false".to_owned()
    } else if limits.qos == Qos::AtMostOnce {
        "the broker takes QoS 0 only, which nobody acknowledges: let it take QoS 1".to_owned()
    } else {
        return Ok(());
    };
    Err(SinkError::never(why))
}

/// A client identifier that nobody else has. 3.1.1 brokers take 23 characters in any case.
fn own_name() -> String {
    format!("sb-{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests;
