//! The kind `kafka`, and what else is said of a Kafka cluster.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{self, Tls, address};
use crate::api::SecretKeyRef;

/// Type of the events of a source of kind `kafka` unless it says otherwise.
pub const DEFAULT_KAFKA_TYPE: &str = "dev.signalbox.kafka";
/// The port of brokers that are named without one.
pub const KAFKA_PORT: u16 = 9092;

/// Takes records of topics of Apache Kafka as a member of a consumer group: the group goes on after a record once its event is on stable storage. The value
/// is `event.data`: JSON, else text, else bytes; a header `content-type` is believed, and CloudEvents (binary and structured) are what they say. Without
/// a subject of its own, `event.subject` is the topic. `event.topic`, `event.partition` and `event.offset` tell where the record is; `event.key` is its key,
/// `event.keybase64` where that is no text; neither where it has none, or one of more than 3 KiB. `event.tombstone` is true where it has no value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.type) || self.type == 'dev.signalbox.kafka' || !self.type.startsWith('dev.signalbox.')")
    .message("type must not begin with dev.signalbox., except the default dev.signalbox.kafka: those are Signalbox's own events"))]
pub struct KafkaSource {
    /// Brokers to begin with, as `kafka.shop.svc:9092`; default port: 9092. They tell where the others are.
    #[schemars(schema_with = "common::addresses")]
    pub brokers: Vec<String>,
    /// The topics, which must exist.
    #[schemars(schema_with = "topics")]
    pub topics: Vec<String>,
    /// The consumer group. It should be the EventSource's own: of the members of a group, each gets a part of the records. Other members must use the
    /// cooperative protocol.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[!-~]+$"))]
    pub group: String,
    /// Where a group begins that has taken nothing of a topic yet: `Latest`: with what comes from now on; `Earliest`: with the oldest record there is.
    #[serde(default)]
    pub start: KafkaStart,
    /// TLS. Without it what is said, and the password of `Plain`, can be read by whoever can read along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Logs in by SASL. Default: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// CloudEvents `type` of records that are no CloudEvents; default: `dev.signalbox.kafka`. Other types must not begin with `dev.signalbox.`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub type_: Option<String>,
    /// Headers of records that are kept, each as an extension named by its letters, in lower case, and digits: `Trace-Id` is `event.traceid`, and absent
    /// where the record has none. The values of several of one name are joined by `, ` in their order; a null is an empty text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$")))]
    pub headers: Vec<String>,
}

/// The names of topics.
pub(super) fn topics(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let one =
        schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": 249, "pattern": "^[A-Za-z0-9._-]+$"});
    schemars::json_schema!({"type": "array", "minItems": 1, "maxItems": 16, "items": one})
}

/// Where a consumer group begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KafkaStart {
    /// With what comes from now on.
    #[default]
    Latest,
    /// With the oldest record there is.
    Earliest,
}

/// A login by SASL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSasl {
    /// How the password is shown: `Plain` as it is, so use `tls` with it; `ScramSha256` and `ScramSha512` only that it is known.
    pub mechanism: KafkaMechanism,
    /// The user name.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// The password.
    pub password_secret_ref: SecretKeyRef,
}

/// Mechanisms of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KafkaMechanism {
    /// PLAIN.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl KafkaMechanism {
    /// As Kafka calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Connections by TLS. `tls: {}` trusts the authorities that the operator's image trusts. A broker's certificate must be for the host that it is connected to
/// by, its name or its IPv4 address; there is no way to leave the check out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// The certificates (PEM) of the authorities that are trusted, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The certificate (PEM, with those between it and its authority) that the operator shows; together with `clientKeySecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<SecretKeyRef>,
    /// The private key (PEM) of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_secret_ref: Option<SecretKeyRef>,
}

impl KafkaTls {
    /// As other kinds say it.
    pub fn tls(&self) -> Tls {
        Tls {
            ca_secret_ref: self.ca_secret_ref.clone(),
            client_certificate_secret_ref: self.client_certificate_secret_ref.clone(),
            client_key_secret_ref: self.client_key_secret_ref.clone(),
            server_name: None,
        }
    }
}

/// A Kafka cluster, and how to get in.
#[derive(Clone, Copy, Debug)]
pub struct KafkaCluster<'a> {
    /// Brokers to begin with.
    pub brokers: &'a [String],
    /// TLS.
    pub tls: Option<&'a KafkaTls>,
    /// By SASL.
    pub sasl: Option<&'a KafkaSasl>,
}

impl KafkaSource {
    /// The cluster.
    pub fn cluster(&self) -> KafkaCluster<'_> {
        KafkaCluster { brokers: &self.brokers, tls: self.tls.as_ref(), sasl: self.sasl.as_ref() }
    }
}

impl KafkaCluster<'_> {
    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> Vec<SecretKeyRef> {
        let tls = self.tls.map(KafkaTls::tls).unwrap_or_default();
        let password = self.sasl.map(|sasl| &sasl.password_secret_ref);
        tls.secrets().chain(password).cloned().collect()
    }

    /// Notes what is wrong with it below `path`, such as `kafka`.
    pub fn faults(&self, path: &str, faults: &mut Vec<String>) {
        if self.brokers.is_empty() {
            faults.push(format!("{path}.brokers: name at least one"));
        }
        if let Some(tls) = self.tls {
            tls.tls().faults(&format!("{path}.tls"), faults);
        }
        for broker in self.brokers {
            match address(broker, KAFKA_PORT) {
                Err(fault) => faults.push(format!("{path}.brokers: {fault}")),
                // librdkafka looks for the brackets in the certificate, too.
                Ok((host, _)) if self.tls.is_some() && host.contains(':') => faults.push(format!(
                    "{path}.brokers: {broker} cannot be checked by its certificate: with tls, name it, or write an IPv4 address"
                )),
                Ok(_) => {}
            }
        }
    }
}
