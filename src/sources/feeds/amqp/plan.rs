//! What is made of messages.

use k8s_openapi::jiff::Timestamp;
use lapin::{
    message::Delivery,
    types::{AMQPValue, ShortString},
};
use serde_json::Value;

use crate::{
    api::AmqpSource,
    event::message::{Message, extension_named},
};

/// What is the same for all messages.
pub(super) struct Plan<'a> {
    pub(super) source: &'a AmqpSource,
    event_source: String,
    /// Headers that are kept, and as what.
    kept: Vec<(&'a str, String)>,
}

impl<'a> Plan<'a> {
    /// `event_source`: CloudEvents `source` of messages that are no CloudEvents.
    pub(super) fn new(source: &'a AmqpSource, event_source: String) -> Self {
        let kept = source.headers.iter().filter_map(|name| Some((name.as_str(), extension_named(name)?))).collect();
        Self { source, event_source, kept }
    }

    /// The message as the way into the log takes it.
    ///
    /// One without `message-id` cannot be told when it comes again: `redelivered` says no more than that the broker sent it to somebody before, whether
    /// it is the one that was stored or another that holds the same. Better it is twice there than not at all.
    pub(super) fn message<'m>(&'m self, delivery: &'m Delivery) -> Message<'m> {
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
            told: None,
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
fn id(delivery: &Delivery) -> Option<String> {
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

    fn source() -> AmqpSource {
        serde_json::from_value(serde_json::json!({"address": "broker", "queue": "q"})).expect("a source")
    }

    #[test]
    fn of_messages_that_hold_the_same_none_is_taken_for_another_whichever_come_again() {
        let source = source();
        let plan = Plan::new(&source, "/s".to_owned());
        for tag in 0..300 {
            // A batch was acknowledged; the next one was on its way when the connection was cut, and comes again.
            let again = (100..200).contains(&tag);
            let delivery = Delivery::mock(tag, "orders".into(), "a".into(), again, b"1".to_vec());
            let message = plan.message(&delivery);
            assert_eq!((message.id, message.told), (None, None), "{tag}");
        }
    }

    #[test]
    fn a_message_id_is_the_events_id_also_when_it_comes_again() {
        let source = source();
        let plan = Plan::new(&source, "/s".to_owned());
        for again in [false, true] {
            let mut delivery = Delivery::mock(1, "orders".into(), "a".into(), again, b"1".to_vec());
            delivery.properties = lapin::BasicProperties::default().with_message_id("m-1".into());
            assert_eq!(plan.message(&delivery).id.as_deref(), Some("m-1"));
        }
    }
}
