//! What an EventSource of kind `mqtt` asks of its broker, and what it makes of messages.

use std::collections::HashSet;

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};

use super::super::{feed::Feed, kind::kept, link::Down};
use crate::{
    api::{MqttPayload, MqttProtocol, MqttRetained, MqttSource},
    event::message::{Message, Told},
    net::mqtt::{Published, Qos, Receipt, Subscription, Version, topic},
};

/// The content type of CloudEvents in structured mode.
const STRUCTURED: &str = "application/cloudevents+json";
/// The user property that says how many steps of rules led to the message.
const HOPS: &str = "signalbox-hops";
/// The user property by which a CloudEvent in binary mode is known.
const SPEC_VERSION: &str = "specversion";

/// The attributes that CloudEvents have by themselves.
const OWN: [&str; 8] = [SPEC_VERSION, "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// What is asked of the broker.
pub(super) struct Plan<'a> {
    source: &'a MqttSource,
    /// CloudEvents `source` of the events.
    event_source: String,
    /// Names the session.
    pub(super) client_id: String,
    pub(super) version: Version,
    /// For how many seconds the broker keeps the session.
    pub(super) session_expiry: u32,
    /// Filters of which no two ask for the same.
    filters: Vec<&'a str>,
    /// What is put before a filter to make it shared.
    share: String,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// Lists what cannot be done.
    pub(super) fn new(source: &'a MqttSource, feed: &Feed) -> Result<Self, Down> {
        Ok(Self {
            source,
            event_source: feed.source(),
            client_id: client_id(source, feed.identity()),
            version: match source.protocol {
                MqttProtocol::V5 => Version::V5,
                MqttProtocol::V311 => Version::V311,
            },
            session_expiry: u32::try_from(source.session_expiry().get().as_secs()).unwrap_or(u32::MAX),
            filters: apart(&source.topics).map_err(|faults| Down::refused(faults.join("; ")))?,
            share: source.shared_group.as_ref().map(|group| format!("$share/{group}/")).unwrap_or_default(),
        })
    }

    /// What is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        let qos = Qos::of(self.source.qos);
        self.filters.iter().map(|filter| Subscription { filter: format!("{}{filter}", self.share), qos }).collect()
    }

    /// The filters that are subscribed to, as the source has them.
    pub(super) fn filters(&self) -> &[&'a str] {
        &self.filters
    }

    /// Whether a topic is one that is asked for: a session has also what an earlier version of the source subscribed to.
    pub(super) fn asks_for(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| topic::matches(filter, topic))
    }

    /// All that an earlier version can have subscribed to by which a message of this topic comes.
    pub(super) fn strays(&self, topic: &str) -> Vec<String> {
        let plain = topic::filters_of(topic).into_iter();
        plain.map(|filter| format!("{}{filter}", self.share)).collect()
    }

    /// Whether a message is to be an event.
    pub(super) fn takes(&self, message: &Published) -> bool {
        !message.retained || self.source.retained == MqttRetained::Take
    }

    /// What the message is told by when it comes again; nothing for one that does not.
    ///
    /// With QoS 2 that is the packet identifier, which is no other message's until we let the broker use it again. With QoS 1 nothing is: the broker uses
    /// the identifier again as soon as it has the acknowledgement, perhaps for a message that holds the same, and nobody knows which of the two has come.
    /// Better it is twice there than not at all.
    pub(super) fn told(&self, message: &Published) -> Option<Told> {
        match message.receipt {
            // The broker sends it for each connection again, whatever was acknowledged.
            _ if message.retained => {
                let length = (message.topic.len() as u64).to_be_bytes();
                let hash = Sha256::new().chain_update(length).chain_update(&message.topic);
                let content = HEXLOWER.encode(&hash.chain_update(&message.payload).finalize()[..16]);
                Some(Told { by: format!("retained {content}"), again: true })
            }
            Receipt::None | Receipt::Acknowledge(_) => None,
            Receipt::Receive(id) => Some(Told { by: self.held(id), again: message.again }),
        }
    }

    /// What a message of QoS 2 is told by, by its packet identifier.
    pub(super) fn held(&self, id: u16) -> String {
        format!("{} {id}", self.client_id)
    }

    /// What is said of a connection: with whom it is, what the broker grants less of than was asked for, and whether it has lost the session.
    pub(super) fn words(&self, broker: &str, granted: &[Qos], lost: bool) -> String {
        let asked = Qos::of(self.source.qos);
        let less: Vec<&str> =
            self.filters.iter().zip(granted).filter(|(_, qos)| **qos < asked).map(|(filter, _)| *filter).collect();
        let mut words = broker.to_owned();
        if lost {
            words += "; the broker lost the session: what was published meanwhile may be lost";
        }
        if !less.is_empty() {
            words += "; the broker grants a lower QoS than is asked for: ";
            words += &less.join(", ");
        }
        words
    }

    /// The message as the way into the log takes it.
    pub(super) fn message<'m>(&'m self, message: &'m Published) -> Message<'m> {
        let structured = self.source.payload == MqttPayload::CloudEvents;
        let properties = &message.properties;
        let topic = message.topic.as_str().into();
        let mut extensions = vec![("mqtttopic".to_owned(), topic), ("retained".to_owned(), message.retained.into())];
        let mut keep = |name: &str, text: Option<String>| {
            extensions.extend(text.filter(|text| !text.is_empty()).map(|text| (name.to_owned(), text.into())));
        };
        keep("responsetopic", properties.response_topic.clone());
        keep("correlationdata", properties.correlation_data.as_ref().map(|bytes| text_of(bytes)));
        extensions.extend(kept(&self.source.user_properties, &properties.user));
        Message {
            told: self.told(message),
            source: self.event_source.clone(),
            type_: self.source.event_type(),
            subject: Some(message.topic.clone()),
            content_type: if structured { Some(STRUCTURED) } else { properties.content_type.as_deref() },
            headers: if structured { Vec::new() } else { attributes(&properties.user) },
            extensions,
            body: &message.payload,
            ..Message::default()
        }
    }
}

/// User properties as headers that the way into the log knows. The binding for MQTT 5 gives attributes no prefix.
fn attributes(user: &[(String, String)]) -> Vec<(String, String)> {
    let hops = user.iter().filter(|(name, _)| name.eq_ignore_ascii_case(HOPS)).cloned();
    if !user.iter().any(|(name, _)| name == SPEC_VERSION) {
        return hops.collect();
    }
    let is_attribute = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    // A name may be there twice in MQTT 5: of others the first counts. Of its own a CloudEvent has one, or is none.
    let mut seen = HashSet::new();
    let mut is_one = |name: &str| is_attribute(name) && (OWN.contains(&name) || seen.insert(name.to_owned()));
    let attributes = user.iter().filter(|(name, _)| is_one(name));
    attributes.map(|(name, value)| (format!("ce_{name}"), value.clone())).chain(hops).collect()
}

/// Bytes as a text: as it is, or else in Base64.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => BASE64.encode(bytes),
    }
}

/// The session's name.
fn client_id(source: &MqttSource, identity: String) -> String {
    match (&source.client_id, &source.shared_group) {
        (Some(id), _) => id.clone(),
        // A session stays in the group that it is in.
        (None, Some(group)) => format!("{identity}-{}", HEXLOWER.encode(&Sha256::digest(group)[..4])),
        (None, None) => identity,
    }
}

/// The filters without those that others hold in full.
///
/// # Errors
/// Lists those that are no filters, and those that overlap in part: the broker may send a message for each of them, and nobody can tell such from two
/// messages.
pub(super) fn apart(topics: &[String]) -> Result<Vec<&str>, Vec<String>> {
    let mut faults = Vec::new();
    for filter in topics {
        if let Err(fault) = topic::check(filter) {
            faults.push(format!("topic {filter:?}: {fault}"));
        }
    }
    let mut filters: Vec<&str> = Vec::new();
    for filter in topics.iter().map(String::as_str) {
        if filters.iter().any(|known| topic::covers(known, filter)) {
            continue;
        }
        filters.retain(|known| !topic::covers(filter, known));
        filters.push(filter);
    }
    for (at, one) in filters.iter().enumerate() {
        for other in filters[..at].iter().filter(|other| topic::overlap(one, other)) {
            faults.push(format!(
                "topics {other:?} and {one:?} overlap: the broker may send what both ask for twice; write one that holds both, and conditions in rules"
            ));
        }
    }
    if faults.is_empty() { Ok(filters) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_others_hold_are_left_out_and_those_that_overlap_in_part_are_told() {
        let apart = |topics: &[&str]| {
            let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            apart(&topics).map(|filters| filters.join(" "))
        };
        assert_eq!(apart(&["plant/+/state", "plant/#"]).as_deref(), Ok("plant/#"));
        assert_eq!(apart(&["plant/#", "plant/p1", "other", "other"]).as_deref(), Ok("plant/# other"));
        assert_eq!(apart(&["#", "$SYS/broker/uptime"]).as_deref(), Ok("# $SYS/broker/uptime"));
        let faults = apart(&["plant/+/state", "plant/p1/+", "a/#/b"]).expect_err("faults");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[1].contains("\"plant/+/state\" and \"plant/p1/+\" overlap"), "{faults:?}");
    }

    fn source(topics: &[&str]) -> MqttSource {
        let source = serde_json::json!({"address": "broker", "topics": topics});
        serde_json::from_value(source).expect("a source")
    }

    fn plan(source: &MqttSource) -> Plan<'_> {
        let filters = apart(&source.topics).expect("filters");
        let (client_id, share, event_source) = ("c".to_owned(), String::new(), "/s".to_owned());
        Plan { source, event_source, client_id, version: Version::V5, session_expiry: 0, filters, share }
    }

    #[test]
    fn a_message_of_qos_1_is_never_taken_for_another_and_one_of_qos_2_is_told_by_its_identifier() {
        let source = source(&["a"]);
        let message = |receipt, payload: &str| Published {
            topic: "a".to_owned(),
            payload: payload.to_owned().into(),
            receipt,
            retained: false,
            again: true,
            size: 1,
            properties: crate::net::mqtt::Properties::default(),
        };
        let told = |receipt, payload| plan(&source).told(&message(receipt, payload)).map(|told| told.by);
        assert_eq!(told(Receipt::Acknowledge(7), "1"), None);
        assert_eq!(told(Receipt::Receive(7), "1"), told(Receipt::Receive(7), "2"));
        assert_ne!(told(Receipt::Receive(7), "1"), told(Receipt::Receive(8), "1"));
    }

    #[test]
    fn what_the_broker_grants_less_of_and_a_session_that_is_lost_are_told() {
        let source = source(&["a", "b/#"]);
        let words = |granted: &[Qos], lost| plan(&source).words("broker", granted, lost);
        assert_eq!(words(&[Qos::AtLeastOnce, Qos::AtLeastOnce], false), "broker");
        let less = words(&[Qos::AtLeastOnce, Qos::AtMostOnce], false);
        assert_eq!(less, "broker; the broker grants a lower QoS than is asked for: b/#");
        assert!(words(&[Qos::AtLeastOnce; 2], true).contains("lost the session"));
    }

    #[test]
    fn properties_are_attributes_of_a_cloud_event_only_where_they_say_so() {
        let user = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(attributes(&user(&[("id", "x"), ("Signalbox-Hops", "2")])), user(&[("Signalbox-Hops", "2")]));
        let binary = user(&[("specversion", "1.0"), ("id", "x"), ("Firmware-Version", "7")]);
        assert_eq!(attributes(&binary), user(&[("ce_specversion", "1.0"), ("ce_id", "x")]));
        let twice =
            user(&[("specversion", "1.0"), ("traceparent", "a"), ("id", "x"), ("traceparent", "b"), ("id", "y")]);
        let first = [("ce_specversion", "1.0"), ("ce_traceparent", "a"), ("ce_id", "x"), ("ce_id", "y")];
        assert_eq!(attributes(&twice), user(&first), "one with two ids is refused");
        assert_eq!((text_of(b"c-1"), text_of(b"\xfe")), ("c-1".to_owned(), "/g==".to_owned()));
    }
}
