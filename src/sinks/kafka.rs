//! `kafka`: an event as a record of a topic of Apache Kafka.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>

use std::{collections::HashSet, slice, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
    util::Timeout,
};
use tokio::time::Instant;

use super::{
    BuildError, Delivered, Publication, Reach, Retry, STRUCTURED, Secrets, SinkError,
    broker::{self, Broker, Kept, by, connected, deadline},
    topics::{Topics, Words},
};
use crate::{
    api::{CloudEventsMode, KafkaSink, KafkaTls, SecretKeyRef},
    net::kafka::{self, Fault, Listener, Outside, Settings, sorted},
};

/// What names of headers that hold attributes begin with.
const PREFIX: &str = "ce_";
/// The header that says what the value is.
const CONTENT_TYPE: &str = "content-type";
/// How long a producer is used: the next one looks at the cluster anew, and whether its brokers may be connected to.
const AGE: Duration = Duration::from_mins(1);
/// Milliseconds until a record is given up: less than a delivery has, so that the client tells what is wrong.
const PATIENCE_MS: u32 = 18_000;
/// Milliseconds until a broker that says nothing is taken for gone, and connected to again.
const SILENCE_MS: u32 = 10_000;

/// The sink.
pub(super) struct Kafka {
    spec: KafkaSink,
    topics: Topics,
    needed: Vec<SecretKeyRef>,
}

/// A producer, with connections of its own. Dropped, they are closed.
struct Line {
    producer: Outside<FutureProducer<Listener>>,
    listener: Listener,
    made: Instant,
    /// Topics that are there: the client would have brokers make others that are set so.
    known: Mutex<HashSet<String>>,
}

impl Kept for Line {
    fn is_over(&self) -> bool {
        self.made.elapsed() > AGE || self.producer.client().fatal_error().is_some()
    }
}

impl Kafka {
    pub(super) fn new(spec: &KafkaSink) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        spec.cluster().faults("kafka", &mut faults);
        faults.extend(spec.topic.as_ref().and_then(|topic| name(topic).err()).map(|why| format!("kafka.topic: {why}")));
        let words = Words { kind: "kafka", topic: "topic", allowed: "allowedTopics" };
        let topics = Topics::new(words, spec.topic.as_ref(), &spec.allowed_topics, |allowed, topic| allowed == topic);
        let needed = spec.cluster().secrets();
        if faults.is_empty() { Ok(Self { spec: spec.clone(), topics, needed }) } else { Err(BuildError(faults)) }
    }

    fn topic<'t>(&'t self, named: Option<&'t str>) -> Result<&'t str, String> {
        let topic = self.topics.of(named)?;
        name(topic).map_err(|why| format!("cannot publish to {topic:?}: {why}"))?;
        Ok(topic)
    }

    /// The headers and the value of a record. The value is never none at all, which would be a tombstone.
    fn record(&self, publication: &Publication) -> (OwnedHeaders, Vec<u8>) {
        let with =
            |headers: OwnedHeaders, name: &str, value: &str| headers.insert(Header { key: name, value: Some(value) });
        let headers = OwnedHeaders::new();
        if self.spec.mode == CloudEventsMode::Structured {
            return (with(headers, CONTENT_TYPE, STRUCTURED), publication.structured());
        }
        let headers = match publication.content_type() {
            Some(content_type) => with(headers, CONTENT_TYPE, content_type),
            None => headers,
        };
        let attributes = publication.attributes();
        let headers =
            attributes.iter().fold(headers, |headers, (name, value)| with(headers, &format!("{PREFIX}{name}"), value));
        (headers, publication.body())
    }

    fn settings<'a>(&'a self, secrets: &'a Secrets) -> Result<Settings<'a>, SinkError> {
        Settings::of(self.spec.cluster(), "signalbox".to_owned(), |key| secrets.text(key))
    }

    /// Looks whether there is the topic, and whether all brokers of the cluster may be connected to: by a connection that passes the guard.
    async fn look(&self, topic: &str, secrets: &Secrets, reach: Reach<'_>) -> Result<(), SinkError> {
        let settings = self.settings(secrets)?;
        let topic = topic.to_owned();
        let asked = (slice::from_ref(&topic), None);
        kafka::look::<SinkError>(&settings, asked, reach.http.connector(), &reach.http.roots()).await.map(drop)
    }

    async fn connect(&self, topic: &str, secrets: &Secrets, reach: Reach<'_>) -> Result<Line, SinkError> {
        self.look(topic, secrets, reach).await?;
        let listener = Listener::default();
        let config = producing(self.settings(secrets)?.config());
        let producer = FutureProducer::from_config_and_context(&config, listener.clone());
        let producer = producer.map_err(|error| SinkError::from(sorted(&error)))?;
        let known = Mutex::new(HashSet::from([topic.to_owned()]));
        Ok(Line { producer: Outside::new(producer), listener, made: Instant::now(), known })
    }
}

impl Broker for Kafka {
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
        let (deadline, name) = (deadline(), format!("Kafka at {}", self.spec.brokers.join(", ")));
        let user = self.spec.sasl.as_ref().map(|sasl| (sasl.mechanism, &sasl.username));
        let (tls, parts) =
            (self.spec.tls.as_ref().map(KafkaTls::tls), [self.spec.brokers.join(","), format!("{user:?}")]);
        let key = broker::key("kafka", tls.as_ref(), (secrets, &self.needed), &parts)?;
        let making = connected(reach.connections, key, || self.connect(topic, secrets, reach));
        let line = by(deadline, &name, making).await?;
        if !line.known.lock().contains(topic) {
            by(deadline, &name, self.look(topic, secrets, reach)).await?;
            line.known.lock().insert(topic.to_owned());
        }
        let (headers, value) = self.record(publication);
        let sent = by(deadline, &name, line.send(topic, publication.key.as_deref(), headers, &value)).await;
        if sent.as_ref().is_err_and(|error| error.retry != Retry::Never) {
            reach.connections.discard(key, &line);
        }
        sent.map(|()| Delivered::default())
    }
}

impl Line {
    async fn send(&self, topic: &str, key: Option<&str>, headers: OwnedHeaders, value: &[u8]) -> Result<(), SinkError> {
        let mut record = FutureRecord::<str, [u8]>::to(topic).headers(headers).payload(value);
        record.key = key;
        // While there is no room the record waits here, for as long as the delivery may take.
        match self.producer.send(record, Timeout::Never).await {
            Ok(_) => {
                self.listener.words.clear();
                Ok(())
            }
            Err((error, _)) => Err(self.failed(topic, &error)),
        }
    }

    /// Why a record was not taken. That its time is over says less than what the client has said last.
    fn failed(&self, topic: &str, error: &KafkaError) -> SinkError {
        let fatal = self.producer.client().fatal_error();
        match (fatal, error.rdkafka_error_code()) {
            (Some((code, words)), _) => failed(topic, code, &words),
            (None, Some(RDKafkaErrorCode::MessageTimedOut)) => match self.listener.words.fault() {
                Some(fault) => fault.into(),
                None => SinkError::later(format!(
                    "the cluster did not take it for topic {topic} in time: look whether enough replicas are in step (min.insync.replicas)"
                )),
            },
            (None, Some(code)) => failed(topic, code, ""),
            (None, None) => SinkError::later(format!("publish to topic {topic}: {error}")),
        }
    }
}

/// What a code of librdkafka or of a broker means for a record.
fn failed(topic: &str, code: RDKafkaErrorCode, words: &str) -> SinkError {
    use RDKafkaErrorCode as Code;
    let words = if words.is_empty() { code.to_string() } else { words.to_owned() };
    let message = format!("publish to topic {topic}: {words}");
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            SinkError::never(format!("there is no topic {topic}: create it, or name another"))
        }
        Code::TopicAuthorizationFailed => SinkError::never(format!("{message}: let the user write to it")),
        Code::ClusterAuthorizationFailed => {
            SinkError::never(format!("{message}: let the user write idempotently (IDEMPOTENT_WRITE on the cluster)"))
        }
        Code::MessageSizeTooLarge => {
            SinkError::never(format!("{message}: let the topic take larger records (max.message.bytes)"))
        }
        Code::InvalidRecord | Code::InvalidTopic | Code::PolicyViolation | Code::UnsupportedFeature => {
            SinkError::never(message)
        }
        Code::Authentication | Code::SaslAuthenticationFailed => SinkError { retry: Retry::FreshSecrets, message },
        _ => SinkError::later(message),
    }
}

/// What a producer is told beside the way into the cluster.
fn producing(mut config: ClientConfig) -> ClientConfig {
    config.set("acks", "all").set("enable.idempotence", "true");
    // Whoever asked waits for each record.
    config.set("linger.ms", "0").set("message.timeout.ms", PATIENCE_MS.to_string());
    config.set("socket.timeout.ms", SILENCE_MS.to_string()).set("request.timeout.ms", SILENCE_MS.to_string());
    // An event has 4 MiB at most; what is too large for a topic, its brokers say.
    config.set("message.max.bytes", "8388608").set("queue.buffering.max.kbytes", "16384");
    // The partition of a key is the one that Java's clients choose.
    config.set("partitioner", "murmur2_random");
    config.set("allow.auto.create.topics", "false").set("topic.metadata.propagation.max.ms", "5000");
    config
}

/// Whether it is the name of a topic.
fn name(topic: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=249).contains(&topic.len()) && topic.bytes().all(fits) && !matches!(topic, "." | "..") {
        return Ok(());
    }
    Err("a topic has 1 to 249 letters, digits, dots, dashes and underscores, and is not . or ..")
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        let message = fault.to_string();
        match fault {
            Fault::Unreachable(_) => Self::later(message),
            Fault::Unauthenticated(_) => Self { retry: Retry::FreshSecrets, message },
            Fault::Refused(_) => Self::never(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;
    use crate::sinks::{Publisher as _, testing::notification};

    fn of(spec: &str) -> Kafka {
        let spec = serde_json::from_str(spec).expect("a spec");
        Kafka::new(&spec).unwrap_or_else(|error| unreachable!("{error}"))
    }

    #[test]
    fn an_event_is_a_record_with_headers_or_one_document() {
        let told = |spec: &str| {
            let (headers, value) = of(spec).record(&Publication::of(&notification()));
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers: Vec<(String, String)> =
                headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect();
            (headers, value)
        };
        let (headers, value) = told(r#"{"brokers": ["h"], "topic": "a"}"#);
        for (name, value) in [
            (CONTENT_TYPE, "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", "0123456789abcdef0123-tell"),
            ("ce_signalboxhops", "3"),
        ] {
            assert!(headers.contains(&(name.to_owned(), value.to_owned())), "{name}: {headers:?}");
        }
        assert_eq!(value[0], b'{');
        let (headers, _) = told(r#"{"brokers": ["h"], "mode": "Structured"}"#);
        assert_eq!(headers, [(CONTENT_TYPE.to_owned(), STRUCTURED.to_owned())]);
    }

    #[test]
    fn a_topic_is_one_that_kafka_knows_and_that_is_allowed() {
        let sink = of(r#"{"brokers": ["h"], "topic": "orders", "allowedTopics": ["orders.paid", "orders paid"]}"#);
        for topic in [None, Some("orders"), Some("orders.paid")] {
            assert_eq!(sink.check(topic), Ok(()), "{topic:?}");
        }
        for topic in ["orders.late", "orders paid", ""] {
            assert!(sink.check(Some(topic)).is_err(), "{topic:?}");
        }
        let any = of(r#"{"brokers": ["h"]}"#);
        for topic in ["..", "a/b", "größe", &"a".repeat(250)] {
            assert!(any.check(Some(topic)).is_err(), "{topic}");
        }
    }

    #[test]
    fn what_may_be_otherwise_later_is_tried_again_and_what_is_refused_is_not() {
        use RDKafkaErrorCode as Code;
        for (code, retry, words) in [
            (Code::UnknownTopic, Retry::Never, "there is no topic a: create it"),
            (Code::MessageSizeTooLarge, Retry::Never, "max.message.bytes"),
            (Code::TopicAuthorizationFailed, Retry::Never, "let the user write to it"),
            (Code::Authentication, Retry::FreshSecrets, "publish to topic a"),
            (Code::NotEnoughReplicas, Retry::After(None), "publish to topic a"),
            (Code::BrokerTransportFailure, Retry::After(None), "publish to topic a"),
        ] {
            let error = failed("a", code, "");
            assert!(error.retry == retry && error.message.contains(words), "{code}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_producer_takes_what_it_is_told() {
        let (sink, secrets) = (of(r#"{"brokers": ["127.0.0.1:1"], "topic": "a"}"#), Secrets::default());
        let config = producing(sink.settings(&secrets).expect("no secrets").config());
        let producer = FutureProducer::from_config_and_context(&config, Listener::default());
        let made: Outside<FutureProducer<Listener>> = Outside::new(producer.expect("librdkafka knows all of it"));
        assert!(made.client().fatal_error().is_none());
    }

    #[test]
    fn with_tls_a_broker_is_not_named_by_an_ipv6_address() {
        let spec = serde_json::from_str(r#"{"brokers": ["[fd00::7]:9093"], "tls": {}}"#).expect("a spec");
        let said = Kafka::new(&spec).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("[fd00::7]:9093 cannot be checked by its certificate"), "{said}");
    }
}
