//! MQTT 3.1.1 and 5: one connection as a client, for sources that subscribe and sinks that publish.
//!
//! Packets are read and written by `rumqttc`; what it does around them is done here, because it opens its own sockets (past the guard of
//! this folder), acknowledges by itself, and ends the connection for good over one message that is too large. The caller gives a stream, says when a
//! message is acknowledged, and connects again when a connection ended. What is subscribed to and what events are made of messages is not known here.

mod client;
mod codec;
mod frames;
mod packet;
pub mod topic;

use std::{fmt, io};

pub use client::{Client, Connect, Greeting, Limits};
pub use packet::{Incoming, Message, Outgoing, Properties, Published, Receipt, Subscription};

/// Which version of the protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1
    V311,
    /// MQTT 5
    V5,
}

/// How often a message may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0: at most once, and not acknowledged.
    AtMostOnce,
    /// 1: at least once.
    AtLeastOnce,
    /// 2: once for each session.
    ExactlyOnce,
}

impl Qos {
    /// That of the number that stands for it; what is above 2 is taken for 2.
    pub fn of(number: u8) -> Self {
        match number {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            _ => Self::ExactlyOnce,
        }
    }
}

/// Why a connection ended, or none was made. What the broker says is in it as it came: the caller cuts it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker closed the connection, and gave no reason.
    #[error("the broker closed the connection")]
    Closed,
    /// The broker ended the session, with a reason.
    #[error("the broker ended the connection: {0}")]
    Ended(Words),
    /// The broker does not know the user, or the password is another one.
    #[error("the broker refuses the credentials: {0}")]
    Unauthenticated(Words),
    /// The broker refuses the connection for another reason.
    #[error("the broker refuses the connection: {0}")]
    Refused(Words),
    /// What came is no MQTT.
    #[error("what the broker sent is no MQTT: {0}")]
    Malformed(String),
    /// A packet that cannot be sent.
    #[error("the packet cannot be sent: {0}")]
    Unsendable(String),
    /// The broker did not answer in time.
    #[error("the broker did not answer in {} s", .0.as_secs())]
    Silent(std::time::Duration),
}

/// A reason: the name of its code, and the broker's own words where it has some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The code's name, in words.
    pub code: String,
    /// What the broker adds.
    pub words: Option<String>,
}

impl Words {
    /// Of a code by its name in `CamelCase`.
    fn new(code: &impl fmt::Debug, words: Option<String>) -> Self {
        let mut text = String::new();
        for letter in format!("{code:?}").chars() {
            if letter.is_ascii_uppercase() && !text.is_empty() {
                text.push(' ');
            }
            text.push(letter.to_ascii_lowercase());
        }
        Self { code: text, words }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{} ({words})", self.code),
            None => f.write_str(&self.code),
        }
    }
}
