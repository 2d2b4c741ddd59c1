//! What packets say, whichever version of the protocol they are of.

use tokio_util::bytes::Bytes;

use super::{Qos, Words};

/// What the broker sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Message(Published),
    /// A message that was not read: it is larger than is taken, or its properties are (so many bytes), or no MQTT (in words).
    Unread(Receipt, Result<usize, String>),
    /// The broker knows that a message of QoS 2 arrived: it is forgotten, and its identifier is free.
    Released(u16),
    /// The broker has a message that was sent to it, perhaps with something to say about it; or it has it not, and says why.
    Taken(u16, Result<Option<Words>, Words>),
    /// What became of each filter that was subscribed to with this identifier: the QoS that is granted, or why it is refused.
    Subscribed(u16, Vec<Result<Qos, Words>>),
    /// The subscriptions that were given up with this identifier have ended, or were not there.
    Unsubscribed(u16),
    /// All that was sent before the last [`Outgoing::Ping`] was seen.
    Pong,
    /// Nothing that anybody waits for.
    Other,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where it was published.
    pub topic: String,
    /// What was published.
    pub payload: Bytes,
    /// What is owed for it.
    pub receipt: Receipt,
    /// It was kept by the broker from before the subscription.
    pub retained: bool,
    /// It was perhaps sent before.
    pub again: bool,
    /// About how many bytes of memory it takes.
    pub size: usize,
    /// What only MQTT 5 has.
    pub properties: Properties,
}

/// What is owed for a message, with its packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// Nothing: QoS 0.
    None,
    /// [`Outgoing::Acknowledge`]: QoS 1.
    Acknowledge(u16),
    /// [`Outgoing::Receive`]: QoS 2.
    Receive(u16),
}

/// Properties of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// What the payload is.
    pub content_type: Option<String>,
    /// Where an answer is to go.
    pub response_topic: Option<String>,
    /// What an answer is to carry.
    pub correlation_data: Option<Bytes>,
    /// Names and values as the sender chose them, in order; a name may be there twice.
    pub user: Vec<(String, String)>,
}

/// A filter that is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The filter, with `$share/<group>/` where it is shared.
    pub filter: String,
    /// The highest QoS that messages are to come with.
    pub qos: Qos,
}

/// What is sent to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// PUBACK
    Acknowledge(u16),
    /// PUBREC
    Receive(u16),
    /// PUBCOMP
    Complete(u16),
    /// PINGREQ
    Ping,
    /// SUBSCRIBE with this packet identifier, which is not 0 and no other packet's that was not answered; never none.
    Subscribe(u16, Vec<Subscription>),
    /// UNSUBSCRIBE, likewise.
    Unsubscribe(u16, Vec<String>),
    /// PUBLISH with this packet identifier; 0: with QoS 0, else with QoS 1.
    Publish(u16, Box<Message>),
    /// DISCONNECT
    Disconnect,
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// Whether the broker keeps it for those who subscribe later.
    pub retain: bool,
    /// Properties; MQTT 3.1.1 has none.
    pub properties: Properties,
}
