//! A cluster, and how to get in: what a spec and its Secrets say, and what librdkafka is told of it.

use std::sync::Arc;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use rustls::RootCertStore;

use crate::{
    api::{KAFKA_PORT, KafkaCluster, KafkaMechanism, SecretKeyRef, address},
    net::tls::{Identity, TlsError, client_config, system_pem},
};

/// A cluster, and how to get in.
pub struct Settings<'a> {
    /// Hosts and ports of brokers to begin with.
    pub brokers: Vec<(String, u16)>,
    /// By TLS.
    pub tls: Option<Trust<'a>>,
    /// By SASL.
    pub login: Option<Login<'a>>,
    /// What the client calls itself; the brokers write it into their logs.
    pub client_id: String,
}

/// A login by SASL.
pub struct Login<'a> {
    /// How the password is shown.
    pub mechanism: KafkaMechanism,
    /// The user name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
}

/// Whom to trust, and what to show; all PEM.
pub struct Trust<'a> {
    /// The certificates of authorities, instead of the system's.
    pub authorities: Option<&'a str>,
    /// The client's certificate, with those between it and its authority, and its key.
    pub identity: Option<(&'a str, &'a str)>,
}

impl<'a> Settings<'a> {
    /// What a spec says. `read` gives the values of Secrets.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn of<E>(
        cluster: KafkaCluster<'a>,
        client_id: String,
        read: impl Fn(&SecretKeyRef) -> Result<&'a str, E>,
    ) -> Result<Self, E> {
        let tls = match cluster.tls {
            None => None,
            Some(tls) => Some(Trust {
                authorities: tls.ca_secret_ref.as_ref().map(&read).transpose()?,
                identity: match (&tls.client_certificate_secret_ref, &tls.client_key_secret_ref) {
                    (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
                    _ => None,
                },
            }),
        };
        let login = match cluster.sasl {
            None => None,
            Some(sasl) => Some(Login {
                mechanism: sasl.mechanism,
                username: &sasl.username,
                password: read(&sasl.password_secret_ref)?,
            }),
        };
        let brokers = cluster.brokers.iter().filter_map(|broker| address(broker, KAFKA_PORT).ok()).collect();
        Ok(Self { brokers, tls, login, client_id })
    }

    /// What librdkafka is told.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        let servers: Vec<String> = self.brokers.iter().map(|(host, port)| written(host, *port)).collect();
        config.set("bootstrap.servers", servers.join(","));
        config.set("client.id", &self.client_id);
        config.set(
            "security.protocol",
            match (&self.tls, &self.login) {
                (None, None) => "plaintext",
                (None, Some(_)) => "sasl_plaintext",
                (Some(_), None) => "ssl",
                (Some(_), Some(_)) => "sasl_ssl",
            },
        );
        if let Some(tls) = &self.tls {
            config.set("ssl.ca.pem", tls.authorities.map_or_else(system_pem, str::to_owned));
            config.set("enable.ssl.certificate.verification", "true");
            config.set("ssl.endpoint.identification.algorithm", "https");
            if let Some((certificate, key)) = tls.identity {
                config.set("ssl.certificate.pem", certificate).set("ssl.key.pem", key);
            }
        }
        if let Some(login) = &self.login {
            config.set("sasl.mechanism", login.mechanism.name());
            config.set("sasl.username", login.username).set("sasl.password", login.password);
        }
        config.set("socket.keepalive.enable", "true");
        config.set("socket.connection.setup.timeout.ms", "10000");
        // Brokers that close idle connections are no news.
        config.set("log.connection.close", "false");
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }
}

impl Trust<'_> {
    /// How our own questions speak TLS with a broker: as librdkafka does, whose certificate must be for the host.
    ///
    /// # Errors
    /// When a certificate or the key cannot be used.
    pub(super) fn config(&self, host: &str, system: &Arc<RootCertStore>) -> Result<rustls::ClientConfig, TlsError> {
        let identity = self
            .identity
            .map(|(certificate, key)| Identity { certificate: certificate.as_bytes(), key: key.as_bytes() });
        client_config(host, self.authorities.map(str::as_bytes), system, identity)
    }
}

/// `host:port`, as librdkafka reads it.
fn written(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{KafkaSasl, KafkaTls};

    #[test]
    fn librdkafka_is_told_what_the_spec_and_its_secrets_say() {
        let key = |key: &str| SecretKeyRef { name: "kafka".to_owned(), key: key.to_owned() };
        let brokers = ["a".to_owned(), "[fd00::7]:9093".to_owned()];
        let tls = KafkaTls { ca_secret_ref: Some(key("ca")), ..KafkaTls::default() };
        let (mechanism, username) = (KafkaMechanism::ScramSha512, "u".to_owned());
        let sasl = KafkaSasl { mechanism, username, password_secret_ref: key("password") };
        let told = |tls: Option<&KafkaTls>, sasl: Option<&KafkaSasl>, name: &str| {
            let cluster = KafkaCluster { brokers: &brokers, tls, sasl };
            let read = |key: &SecretKeyRef| match key.key.as_str() {
                "ca" => Ok("PEM"),
                "password" => Ok("canary"),
                _ => Err(()),
            };
            let settings = Settings::of(cluster, "me".to_owned(), read).expect("all is there");
            settings.config().get(name).map(str::to_owned)
        };
        for (tls, sasl, protocol) in [
            (None, None, "plaintext"),
            (None, Some(&sasl), "sasl_plaintext"),
            (Some(&tls), None, "ssl"),
            (Some(&tls), Some(&sasl), "sasl_ssl"),
        ] {
            assert_eq!(told(tls, sasl, "security.protocol").as_deref(), Some(protocol));
            assert_eq!(told(tls, sasl, "ssl.ca.pem").as_deref(), tls.map(|_| "PEM"));
            assert_eq!(told(tls, sasl, "sasl.password").as_deref(), sasl.map(|_| "canary"));
        }
        assert_eq!(told(None, None, "bootstrap.servers").as_deref(), Some("a:9092,[fd00::7]:9093"));
        assert_eq!(told(None, Some(&sasl), "sasl.mechanism").as_deref(), Some("SCRAM-SHA-512"));
    }
}
