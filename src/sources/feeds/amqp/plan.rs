//! What is made of messages.

use std::collections::HashSet;

use data_encoding::HEXLOWER;
use k8s_openapi::jiff::Timestamp;
use lapin::{
    message::Delivery,
    types::{AMQPValue, ShortString},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::feed::Feed;
use crate::{
    api::AmqpSource,
    event::message::{Message, Told, extension_named},
};

/// What is the same for all messages.
pub(super) struct Plan<'a> {
    pub(super) source: &'a AmqpSource,
    event_source: String,
    /// Headers that are kept, and as what.
    kept: Vec<(&'a str, String)>,
}

/// A message's content, and which it is of those that hold the same.
pub(super) type Number = (String, u32);

/// Messages without an id that are not known to be acknowledged, by what they hold: of those that hold the same, each has a number.
#[derive(Default)]
pub(super) struct Numbers(HashSet<Number>);

impl Numbers {
    /// The first number that none of the same content has.
    pub(super) fn take(&mut self, content: String) -> Number {
        let free = (0..).find(|number| !self.0.contains(&(content.clone(), *number)));
        let taken = (content, free.unwrap_or_default());
        self.0.insert(taken.clone());
        taken
    }

    /// The numbers are free again.
    pub(super) fn give(&mut self, taken: &[Number]) {
        for taken in taken {
            self.0.remove(taken);
        }
    }
}

/// What such a message is told by when it comes again.
pub(super) fn by((content, number): &Number) -> String {
    format!("{content} {number}")
}

/// What a message without an id is told by: all that stays the same when it comes again.
pub(super) fn content(queue: &str, delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default();
    let head = [
        queue.to_owned(),
        delivery.exchange.as_str().to_owned(),
        delivery.routing_key.as_str().to_owned(),
        text(properties.content_type()),
        text(properties.correlation_id()),
        format!("{:?}", properties.timestamp()),
    ];
    let mut hash = Sha256::new();
    for part in head {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(&delivery.data);
    HEXLOWER.encode(&hash.finalize()[..16])
}

impl<'a> Plan<'a> {
    pub(super) fn new(source: &'a AmqpSource, feed: &Feed) -> Self {
        let kept = source.headers.iter().filter_map(|name| Some((name.as_str(), extension_named(name)?))).collect();
        Self { source, event_source: feed.source(), kept }
    }

    /// The message as the way into the log takes it.
    pub(super) fn message<'m>(&'m self, delivery: &'m Delivery, number: Option<&Number>) -> Message<'m> {
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref().map(|table| table.inner());
        let mut extensions: Vec<(String, Value)> = Vec::new();
        for (name, extension) in &self.kept {
            let value = headers.and_then(|headers| headers.get(*name)).and_then(value);
            extensions.extend(value.map(|value| (extension.clone(), value)));
        }
        let known = [
            ("amqpexchange", Some(&delivery.exchange)),
            ("amqproutingkey", Some(&delivery.routing_key)),
            ("correlationid", properties.correlation_id().as_ref()),
            ("replyto", properties.reply_to().as_ref()),
        ];
        for (name, text) in known {
            let text = text.map(ShortString::as_str).filter(|text| !text.is_empty());
            extensions.extend(text.map(|text| (name.to_owned(), text.into())));
        }
        let key = delivery.routing_key.as_str();
        Message {
            id: id(delivery),
            told: number.map(|number| Told { by: by(number), again: delivery.redelivered }),
            source: self.event_source.clone(),
            type_: self.source.event_type(),
            subject: Some(if key.is_empty() { self.source.queue.clone() } else { key.to_owned() }),
            time: properties.timestamp().and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok()),
            content_type: properties.content_type().as_ref().map(ShortString::as_str),
            headers: headers
                .into_iter()
                .flatten()
                .filter_map(|(name, header)| Some((name.as_str().to_owned(), text(&value(header)?))))
                .collect(),
            extensions,
            body: &delivery.data,
        }
    }
}

/// The property `message-id`.
pub(super) fn id(delivery: &Delivery) -> Option<String> {
    let id = delivery.properties.message_id().as_ref().map(ShortString::as_str);
    id.filter(|id| !id.is_empty()).map(str::to_owned)
}

/// A header that an extension can hold.
fn value(header: &AMQPValue) -> Option<Value> {
    Some(match header {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::Float(value) => value.to_string().into(),
        AMQPValue::Double(value) => value.to_string().into(),
        AMQPValue::ShortString(value) => value.as_str().into(),
        AMQPValue::LongString(value) => std::str::from_utf8(value.as_bytes()).ok()?.into(),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => return None,
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_hold_the_same_have_numbers_of_their_own_until_they_are_settled() {
        let mut numbers = Numbers::default();
        let [first, second, other] = ["a", "a", "b"].map(|content| numbers.take(content.to_owned()));
        assert_eq!((first.1, second.1, other.1), (0, 1, 0));
        assert_eq!((by(&first), by(&second)), ("a 0".to_owned(), "a 1".to_owned()));
        numbers.give(&[first]);
        assert_eq!(numbers.take("a".to_owned()).1, 0);
        assert_eq!(numbers.take("a".to_owned()).1, 2);
    }

    #[test]
    fn what_is_said_of_a_message_is_part_of_its_content_and_how_often_it_came_is_not() {
        let delivery = |key: &str, again: bool| Delivery::mock(7, "orders".into(), key.into(), again, b"1".to_vec());
        assert_eq!(content("q", &delivery("a", false)), content("q", &delivery("a", true)));
        assert_ne!(content("q", &delivery("a", false)), content("q", &delivery("b", false)));
        assert_ne!(content("q", &delivery("a", false)), content("p", &delivery("a", false)));
    }
}
