//! Clients of Kafka: what librdkafka is told of a cluster, and what it says of it.
//!
//! librdkafka resolves names and connects by itself, and tells nobody before it does. Whoever makes a client first lets the guard judge the brokers to
//! begin with, then asks one of those for the cluster's brokers and the group's coordinator over a connection of its own ([`look()`]), and lets it judge these:
//! the client connects to no other, unless the cluster names others later or a name's addresses change. Those it is to be asked for ([`brokers`]) all the
//! time; what it says to them until then is how Kafka's protocol begins, and nothing of what they say is shown.

mod ask;
mod look;
mod scram;
mod settings;
mod wire;

use std::{net::IpAddr, ops::Deref, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::{Metadata, MetadataBroker, MetadataTopic},
};
use tokio::runtime::Handle;

pub use look::{allowed, look};
pub use settings::{Login, Settings, Trust};

/// Topics and their partitions.
pub type Places = Vec<(String, Vec<i32>)>;

/// How long a question to a cluster may take.
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long one attempt of [`metadata`] may take, between which it is looked what the client has to say.
const ATTEMPT: Duration = Duration::from_millis(500);

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody answers, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The credentials were not taken.
    #[error("{0}")]
    Unauthenticated(String),
    /// There is no such thing, it may not be used, or the settings are wrong.
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    /// The same, of whoever is there.
    fn at(self, place: &str) -> Self {
        match self {
            Self::Unreachable(words) => Self::Unreachable(format!("{place}: {words}")),
            Self::Unauthenticated(words) => Self::Unauthenticated(format!("{place}: {words}")),
            Self::Refused(words) => Self::Refused(format!("{place}: {words}")),
        }
    }
}

/// A client that is dropped in a thread where it may block: it says goodbye, and waits for the answer for some seconds.
pub struct Outside<T: Send + Sync + 'static>(Option<Arc<T>>);

impl<T: Send + Sync + 'static> Outside<T> {
    /// Keeps the client.
    pub fn new(client: T) -> Self {
        Self(Some(Arc::new(client)))
    }

    /// The client, for a thread of its own.
    pub fn share(&self) -> Arc<T> {
        Arc::clone(self.0.as_ref().expect("it is there until it is dropped"))
    }
}

impl<T: Send + Sync + 'static> Deref for Outside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + Sync + 'static> Drop for Outside<T> {
    fn drop(&mut self) {
        let Some(client) = self.0.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
            Err(_) => drop(client),
        }
    }
}

/// What a client has said last of what is wrong. A clone is the same.
#[derive(Clone, Default)]
pub struct Words(Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>);

impl Words {
    /// Notes what the client says.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        // The same code is said of what a connection brings and of a record.
        let (code, reason) = match code {
            RDKafkaErrorCode::BadMessage if !OF_RECORDS.iter().any(|words| reason.starts_with(*words)) => {
                (RDKafkaErrorCode::BrokerTransportFailure, format!("{reason}: {FOREIGN}"))
            }
            code => (code, reason.to_owned()),
        };
        let mut last = self.0.lock();
        // That all brokers are down says less than why one is.
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, reason));
        }
    }

    /// What it said last of why nothing comes of it.
    pub fn fault(&self) -> Option<Fault> {
        self.0.lock().as_ref().map(|(code, reason)| fault(*code, reason))
    }

    /// Whether the credentials are not taken: no patience helps.
    pub fn is_unauthenticated(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|(code, _)| *code == RDKafkaErrorCode::Authentication)
    }

    /// Forgets what was said: it works now.
    pub fn clear(&self) {
        *self.0.lock() = None;
    }
}

/// A client that is in no group; it notes what it has to say.
#[derive(Clone, Default)]
pub struct Listener {
    /// What it has said.
    pub words: Words,
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.note(&error, reason);
    }
}

impl ConsumerContext for Listener {}

/// Passes on a line that librdkafka logs.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
            tracing::debug!(facility, message, "librdkafka says");
        }
        // What is wrong, status says; these are its details.
        _ => tracing::info!(facility, message, "librdkafka warns"),
    }
}

/// Sorts an error of librdkafka or of a broker.
pub fn fault(code: RDKafkaErrorCode, words: &str) -> Fault {
    use RDKafkaErrorCode as Code;
    let words = if words.is_empty() { code.to_string() } else { words.to_owned() };
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Fault::Unauthenticated(words),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::InvalidTopic
        | Code::InvalidGroupId
        | Code::InconsistentGroupProtocol
        | Code::UnsupportedFeature
        | Code::NotImplemented => Fault::Refused(words),
        _ if is_stuck(code) => Fault::Refused(format!("{words}: {STUCK}")),
        _ => Fault::Unreachable(words),
    }
}

/// How begins what librdkafka says of a record.
const OF_RECORDS: [&str; 2] = ["Message", "Decompression"];

/// What is said of whoever answers what no broker does.
const FOREIGN: &str = "whoever answers there does not speak Kafka's protocol, or wants TLS";

/// What helps where a partition stands still.
const STUCK: &str = "a record cannot be read, and none behind it is taken: move the group past it, or compress and size its records otherwise";

/// Whether a partition stands still over a record that cannot be read: nobody passes over it.
fn is_stuck(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::BadCompression | Code::BadMessage | Code::MessageSizeTooLarge)
}

/// Sorts an error. What a client is told may be secret, and is not in the words.
pub fn sorted(error: &KafkaError) -> Fault {
    match error {
        KafkaError::ClientConfig(_, _, key, _) => {
            Fault::Refused(format!("{key} cannot be used: it is not as it must be"))
        }
        KafkaError::ClientCreation(why) => Fault::Refused(why.clone()),
        other => match other.rdkafka_error_code() {
            Some(code) => fault(code, ""),
            None => Fault::Unreachable(other.to_string()),
        },
    }
}

/// Asks a cluster for its brokers and these topics. Blocks, for [`ANSWER`] at most; a client whose credentials are not taken is told so at once.
///
/// # Errors
/// In the words of whoever was asked.
pub fn metadata(client: &BaseConsumer<Listener>, topics: &[String]) -> Result<Vec<Metadata>, Fault> {
    let words = &client.context().words;
    let until = std::time::Instant::now() + ANSWER;
    let mut all = Vec::with_capacity(topics.len());
    for topic in topics {
        all.push(loop {
            let error = match client.fetch_metadata(Some(topic), ATTEMPT) {
                Ok(metadata) => break metadata,
                Err(error) => error,
            };
            // What the client has to say it says when it is polled.
            while client.poll(Duration::ZERO).is_some() {}
            if words.is_unauthenticated() || std::time::Instant::now() >= until {
                return Err(words.fault().unwrap_or_else(|| sorted(&error)));
            }
        });
    }
    Ok(all)
}

/// Hosts and ports of the brokers that the answers name, each once; port 0 for what is none.
pub fn brokers(answers: &[Metadata]) -> Vec<(String, u16)> {
    let all = answers.iter().flat_map(|metadata| metadata.brokers());
    let place = |broker: &MetadataBroker| (broker.host().to_owned(), u16::try_from(broker.port()).unwrap_or_default());
    let mut brokers: Vec<(String, u16)> = all.map(place).collect();
    brokers.sort_unstable();
    brokers.dedup();
    brokers
}

/// Whether this is a host as librdkafka and all others read it: a cluster may name anything, and librdkafka makes something of `[::1]` and cuts long names.
pub fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    text.parse::<IpAddr>().is_ok() || (1..=253).contains(&text.len()) && text.bytes().all(fits)
}

/// The partitions of each topic.
///
/// # Errors
/// Names the topic that there is none of, or that may not be read.
pub fn partitions(answers: &[Metadata]) -> Result<Places, Fault> {
    let topic = |topic: &MetadataTopic| match topic.error() {
        None => Ok((topic.name().to_owned(), topic.partitions().iter().map(|partition| partition.id()).collect())),
        Some(error) => Err(topic_fault(topic.name(), RDKafkaErrorCode::from(error))),
    };
    answers.iter().flat_map(|metadata| metadata.topics()).map(topic).collect()
}

fn topic_fault(name: &str, code: RDKafkaErrorCode) -> Fault {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition => {
            Fault::Refused(format!("there is no topic {name}: create it, or name another"))
        }
        code => fault(code, &format!("topic {name}: {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_nobody_can_read_is_told_with_what_helps() {
        for code in
            [RDKafkaErrorCode::BadCompression, RDKafkaErrorCode::BadMessage, RDKafkaErrorCode::MessageSizeTooLarge]
        {
            let told = fault(code, "");
            assert!(matches!(&told, Fault::Refused(words) if words.contains("move the group past it")), "{told:?}");
        }
        let gone = fault(RDKafkaErrorCode::BrokerTransportFailure, "");
        assert!(matches!(gone, Fault::Unreachable(_)), "another broker may have it: {gone:?}");
    }
    #[test]
    fn what_a_connection_brings_is_no_record() {
        let said = |reason: &str| {
            let words = Words::default();
            words.note(&KafkaError::Global(RDKafkaErrorCode::BadMessage), reason);
            words.fault()
        };
        let foreign = said("169.254.169.254:80/1: Receive failed: Invalid response size 1213486160 (0..100000000)");
        assert!(
            matches!(&foreign, Some(Fault::Unreachable(words)) if words.contains("does not speak Kafka's protocol"))
        );
        for reason in [
            "MessageSet at offset 7 (61 bytes) failed CRC32C check",
            "Decompression (codec 0x3) of message at 7 of 61 bytes failed: Local: Bad message format",
        ] {
            let stuck = said(reason);
            let told = matches!(&stuck, Some(Fault::Refused(words)) if words.contains("move the group past it"));
            assert!(told, "{stuck:?}");
        }
    }

    #[test]
    fn a_host_is_what_nobody_reads_otherwise() {
        for host in ["kafka-0.kafka.shop.svc", "my_broker", "10.0.0.7", "fd00::7"] {
            assert!(is_host(host), "{host}");
        }
        for other in
            ["", "[::1]", "[::ffff:169.254.169.254]", "169.254.169.254:80", "PLAINTEXT://a", "a b", &"a".repeat(254)]
        {
            assert!(!is_host(other), "{other}");
        }
    }
}
