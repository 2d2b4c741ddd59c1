//! Packets are read and written here, in whichever version of the protocol they are.

#[cfg(test)]
mod tests;

use rumqttc::{
    mqttbytes::v4,
    v5::mqttbytes::{QoS as QoS5, v5},
};
use tokio_util::bytes::BytesMut;

use super::{
    Error, Qos, Version, Words,
    client::{Connect, Limits},
    frames::{Frame, PUBLISH},
    packet::{Incoming, Outgoing, Properties, Published, Receipt},
};

/// Bytes that the properties of a message may have. One of five bytes takes a hundred in memory.
pub(super) const MAX_PROPERTIES: usize = 64 << 10;
/// Bytes of memory that a user property takes beside its own: two texts, each allocated.
const AROUND_PROPERTY: usize = 112;

/// What the broker answered to CONNECT: whether it has the session, how often it wants to hear from us (seconds) if it says so, and what it takes.
pub(super) fn read_connack(version: Version, frame: Frame) -> Result<(bool, Option<u16>, Limits), Error> {
    let Frame::Whole(mut bytes) = frame else { return Err(not_connack()) };
    // Brokers that know nothing of MQTT 5 answer by the version that they know, without properties.
    let version = if bytes.get(1) == Some(&CONNACK_311) { Version::V311 } else { version };
    match version {
        Version::V311 => match v4::Packet::read(&mut bytes, usize::MAX).map_err(malformed)? {
            v4::Packet::ConnAck(ack) => {
                let words = || Words::new(&ack.code, None);
                match ack.code {
                    v4::ConnectReturnCode::Success => Ok((ack.session_present, None, Limits::default())),
                    v4::ConnectReturnCode::BadUserNamePassword | v4::ConnectReturnCode::NotAuthorized => {
                        Err(Error::Unauthenticated(words()))
                    }
                    _ => Err(Error::Refused(words())),
                }
            }
            _ => Err(not_connack()),
        },
        Version::V5 => match v5::Packet::read(&mut bytes, None).map_err(malformed)? {
            v5::Packet::ConnAck(ack) => {
                use v5::ConnectReturnCode::{BadAuthenticationMethod, BadUserNamePassword, NotAuthorized, Success};
                let properties = ack.properties.as_ref();
                let words = || Words::new(&ack.code, properties.and_then(|all| all.reason_string.clone()));
                match ack.code {
                    Success => {
                        let limits = properties.map(limits).unwrap_or_default();
                        Ok((ack.session_present, properties.and_then(|all| all.server_keep_alive), limits))
                    }
                    BadUserNamePassword | NotAuthorized | BadAuthenticationMethod => {
                        Err(Error::Unauthenticated(words()))
                    }
                    _ => Err(Error::Refused(words())),
                }
            }
            _ => Err(not_connack()),
        },
    }
}

fn limits(said: &v5::ConnAckProperties) -> Limits {
    Limits {
        in_flight: said.receive_max.unwrap_or(u16::MAX).max(1),
        packet: said.max_packet_size,
        qos: said.max_qos.map_or(Qos::ExactlyOnce, Qos::of),
        retain: said.retain_available != Some(0),
    }
}

/// What a packet says.
pub(super) fn read(version: Version, frame: Frame) -> Result<Incoming, Error> {
    let mut bytes = match frame {
        Frame::Oversized(head, whole) => return Ok(Incoming::Unread(receipt_of(&head), Ok(whole))),
        Frame::Whole(bytes) => bytes,
    };
    if bytes[0] >> 4 == DISCONNECT {
        return Err(ended(version, &mut bytes));
    }
    let receipt = (bytes[0] >> 4 == PUBLISH).then(|| receipt_of(&bytes));
    if let (Version::V5, Some(receipt)) = (version, receipt)
        && let Some(length) = properties(&bytes).filter(|length| *length > MAX_PROPERTIES)
    {
        return Ok(Incoming::Unread(receipt, Ok(length)));
    }
    let size = bytes.len();
    let read = match version {
        Version::V311 => {
            v4::Packet::read(&mut bytes, usize::MAX).map_err(malformed).map(|packet| incoming4(packet, size))
        }
        Version::V5 => v5::Packet::read(&mut bytes, None).map_err(malformed).and_then(|packet| incoming5(packet, size)),
    };
    match (read, receipt) {
        // The broker would send it again, for ever.
        (Err(Error::Malformed(why)), Some(receipt)) => Ok(Incoming::Unread(receipt, Err(why))),
        (read, _) => read,
    }
}

const DISCONNECT: u8 = 14;
/// The length of CONNACK of MQTT 3.1.1 behind the fixed header: that of MQTT 5 has one more at least.
const CONNACK_311: u8 = 2;

/// How many bytes the properties of a message of MQTT 5 have; nothing where its bytes say nothing of the kind.
fn properties(bytes: &[u8]) -> Option<usize> {
    let header = 1 + bytes.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let topic = usize::from(u16::from_be_bytes([*bytes.get(header)?, *bytes.get(header + 1)?]));
    let id = if bytes.first()? & 0b110 == 0 { 0 } else { 2 };
    let mut length = 0;
    for (at, byte) in bytes.get(header + 2 + topic + id..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

/// What is owed for a message, read out of the bytes of its head.
fn receipt_of(bytes: &[u8]) -> Receipt {
    let header = 1 + bytes.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let id = number(header).and_then(|topic| number(header + 2 + usize::from(topic))).filter(|id| *id != 0);
    match (bytes[0] >> 1 & 0b11, id) {
        (1, Some(id)) => Receipt::Acknowledge(id),
        (2, Some(id)) => Receipt::Receive(id),
        _ => Receipt::None,
    }
}

fn incoming4(packet: v4::Packet, size: usize) -> Incoming {
    match packet {
        v4::Packet::Publish(publish) => Incoming::Message(Published {
            receipt: receipt(publish.qos as u8, publish.pkid),
            topic: publish.topic,
            payload: publish.payload,
            retained: publish.retain,
            again: publish.dup,
            size,
            properties: Properties::default(),
        }),
        v4::Packet::PubRel(release) => Incoming::Released(release.pkid),
        v4::Packet::PubAck(ack) => Incoming::Taken(ack.pkid, Ok(None)),
        v4::Packet::SubAck(ack) => Incoming::Subscribed(
            ack.pkid,
            ack.return_codes
                .iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => Ok(Qos::of(*qos as u8)),
                    v4::SubscribeReasonCode::Failure => Err(Words::new(code, None)),
                })
                .collect(),
        ),
        v4::Packet::UnsubAck(ack) => Incoming::Unsubscribed(ack.pkid),
        v4::Packet::PingResp => Incoming::Pong,
        _ => Incoming::Other,
    }
}

fn incoming5(packet: v5::Packet, size: usize) -> Result<Incoming, Error> {
    Ok(match packet {
        v5::Packet::Publish(publish) => {
            let topic = String::from_utf8(publish.topic.to_vec());
            let all = publish.properties.unwrap_or_default();
            Incoming::Message(Published {
                receipt: receipt(publish.qos as u8, publish.pkid),
                topic: topic.map_err(|_| Error::Malformed("the topic is no UTF-8".to_owned()))?,
                payload: publish.payload,
                retained: publish.retain,
                again: publish.dup,
                size: size + AROUND_PROPERTY * all.user_properties.len(),
                properties: Properties {
                    content_type: all.content_type,
                    response_topic: all.response_topic,
                    correlation_data: all.correlation_data,
                    user: all.user_properties,
                },
            })
        }
        v5::Packet::PubRel(release) => Incoming::Released(release.pkid),
        v5::Packet::PubAck(ack) => {
            let words = ack.properties.and_then(|all| all.reason_string);
            let taken = match ack.reason {
                v5::PubAckReason::Success => Ok(None),
                // Nobody subscribes: it is published all the same.
                v5::PubAckReason::NoMatchingSubscribers => Ok(Some(Words::new(&ack.reason, words))),
                reason => Err(Words::new(&reason, words)),
            };
            Incoming::Taken(ack.pkid, taken)
        }
        v5::Packet::SubAck(ack) => {
            let words = ack.properties.and_then(|all| all.reason_string);
            let each = ack.return_codes.iter().map(|code| match code {
                v5::SubscribeReasonCode::Success(qos) => Ok(Qos::of(*qos as u8)),
                code => Err(Words::new(code, words.clone())),
            });
            Incoming::Subscribed(ack.pkid, each.collect())
        }
        v5::Packet::UnsubAck(ack) => Incoming::Unsubscribed(ack.pkid),
        v5::Packet::PingResp(_) => Incoming::Pong,
        _ => Incoming::Other,
    })
}

fn receipt(qos: u8, id: u16) -> Receipt {
    match qos {
        0 => Receipt::None,
        1 => Receipt::Acknowledge(id),
        _ => Receipt::Receive(id),
    }
}

/// Why the broker ended the connection.
fn ended(version: Version, bytes: &mut BytesMut) -> Error {
    let short = bytes.get(2).copied().filter(|_| bytes.len() == 3);
    if version == Version::V311 || bytes.len() == 2 {
        return Error::Closed;
    }
    // One without properties is taken for one that is cut off.
    if let Some(code) = short {
        return match v5::DisconnectReasonCode::try_from(code) {
            Ok(code) => Error::Ended(Words::new(&code, None)),
            Err(_) => Error::Closed,
        };
    }
    match v5::Packet::read(bytes, None) {
        Ok(v5::Packet::Disconnect(end)) => {
            Error::Ended(Words::new(&end.reason_code, end.properties.and_then(|all| all.reason_string)))
        }
        _ => Error::Closed,
    }
}

/// Appends CONNECT.
pub(super) fn write_connect(version: Version, connect: &Connect<'_>, bytes: &mut BytesMut) -> Result<(), Error> {
    let written = match version {
        Version::V311 => {
            let mut packet = v4::Connect::new(connect.client_id);
            packet.keep_alive = connect.keep_alive;
            packet.clean_session = connect.session.is_none();
            if let Some((username, password)) = connect.login {
                packet.set_login(username, password);
            }
            v4::Packet::Connect(packet).write(bytes, usize::MAX).map_err(unsendable)
        }
        Version::V5 => {
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = connect.session;
            properties.receive_maximum = Some(connect.in_flight);
            let packet = v5::Connect {
                keep_alive: connect.keep_alive,
                client_id: connect.client_id.to_owned(),
                clean_start: connect.session.is_none(),
                properties: Some(properties),
            };
            let login = connect.login.map(|(username, password)| v5::Login::new(username, password));
            v5::Packet::Connect(packet, None, login).write(bytes, None).map_err(unsendable)
        }
    };
    written.map(|_| ())
}

/// Appends a packet.
pub(super) fn write(version: Version, packet: Outgoing, bytes: &mut BytesMut) -> Result<(), Error> {
    let written = match version {
        Version::V311 => outgoing4(packet).write(bytes, usize::MAX).map_err(unsendable),
        Version::V5 => outgoing5(packet).write(bytes, None).map_err(unsendable),
    };
    written.map(|_| ())
}

fn outgoing4(packet: Outgoing) -> v4::Packet {
    use rumqttc::mqttbytes::QoS;
    let qos = |qos| match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    };
    match packet {
        Outgoing::Acknowledge(id) => v4::Packet::PubAck(v4::PubAck::new(id)),
        Outgoing::Receive(id) => v4::Packet::PubRec(v4::PubRec::new(id)),
        Outgoing::Complete(id) => v4::Packet::PubComp(v4::PubComp::new(id)),
        Outgoing::Ping => v4::Packet::PingReq,
        Outgoing::Subscribe(pkid, all) => {
            let filters = all.into_iter().map(|one| v4::SubscribeFilter::new(one.filter, qos(one.qos)));
            v4::Packet::Subscribe(v4::Subscribe { pkid, filters: filters.collect() })
        }
        Outgoing::Unsubscribe(pkid, topics) => v4::Packet::Unsubscribe(v4::Unsubscribe { pkid, topics }),
        Outgoing::Publish(pkid, message) => {
            let qos = if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            let publish = v4::Publish::from_bytes(message.topic, qos, message.payload);
            v4::Packet::Publish(v4::Publish { pkid, retain: message.retain, ..publish })
        }
        Outgoing::Disconnect => v4::Packet::Disconnect,
    }
}

fn outgoing5(packet: Outgoing) -> v5::Packet {
    let qos = |qos| match qos {
        Qos::AtMostOnce => QoS5::AtMostOnce,
        Qos::AtLeastOnce => QoS5::AtLeastOnce,
        Qos::ExactlyOnce => QoS5::ExactlyOnce,
    };
    match packet {
        Outgoing::Acknowledge(id) => v5::Packet::PubAck(v5::PubAck::new(id, None)),
        Outgoing::Receive(id) => v5::Packet::PubRec(v5::PubRec::new(id, None)),
        Outgoing::Complete(id) => v5::Packet::PubComp(v5::PubComp::new(id, None)),
        Outgoing::Ping => v5::Packet::PingReq(v5::PingReq),
        Outgoing::Subscribe(pkid, all) => {
            // What is retained comes when a filter is new to the session, and not at each connection again.
            let filters = all.into_iter().map(|one| v5::Filter {
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
                ..v5::Filter::new(one.filter, qos(one.qos))
            });
            v5::Packet::Subscribe(v5::Subscribe { pkid, filters: filters.collect(), properties: None })
        }
        Outgoing::Unsubscribe(pkid, filters) => {
            v5::Packet::Unsubscribe(v5::Unsubscribe { pkid, filters, properties: None })
        }
        Outgoing::Publish(pkid, message) => {
            let qos = if pkid == 0 { QoS5::AtMostOnce } else { QoS5::AtLeastOnce };
            let all = message.properties;
            let properties = v5::PublishProperties {
                content_type: all.content_type,
                response_topic: all.response_topic,
                correlation_data: all.correlation_data,
                user_properties: all.user,
                ..v5::PublishProperties::default()
            };
            let publish = v5::Publish::new(message.topic, qos, message.payload, Some(properties));
            v5::Packet::Publish(v5::Publish { pkid, retain: message.retain, ..publish })
        }
        Outgoing::Disconnect => {
            v5::Packet::Disconnect(v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection))
        }
    }
}

fn not_connack() -> Error {
    Error::Malformed("the first packet is no CONNACK".to_owned())
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

fn unsendable(error: impl std::fmt::Display) -> Error {
    Error::Unsendable(error.to_string())
}
