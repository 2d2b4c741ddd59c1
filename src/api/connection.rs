//! What several kinds of sources and sinks that connect have: addresses, TLS, and credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{SecretKeyRef, schema};

/// A connection by TLS. `tls: {}` is one that trusts the authorities that the operator's image trusts. There is no way to leave the check out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The certificates (PEM) of the authorities that are trusted, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The certificate (PEM, with those between it and its authority) that the operator shows; together with `clientKeySecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret_ref: Option<SecretKeyRef>,
    /// The private key (PEM) of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_secret_ref: Option<SecretKeyRef>,
    /// The name, or address, that the server's certificate must be for. Default: the host that is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9.:_-]+$"))]
    pub server_name: Option<String>,
}

/// A user name and a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The user name.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// The password.
    pub password_secret_ref: SecretKeyRef,
}

impl Tls {
    /// The keys of Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        [&self.ca_secret_ref, &self.client_certificate_secret_ref, &self.client_key_secret_ref].into_iter().flatten()
    }

    /// Notes what is wrong with it below `path`, such as `nats.tls`.
    pub fn faults(&self, path: &str, faults: &mut Vec<String>) {
        if self.client_certificate_secret_ref.is_some() != self.client_key_secret_ref.is_some() {
            faults.push(format!(
                "{path}: clientCertificateSecretRef and clientKeySecretRef belong together: set both, or none"
            ));
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write it as nats.shop.svc:4222 or [fd00::7]:4222")]
pub struct AddressFault(String);

/// The host and the port of an address, `host`, `host:port` or `[IPv6 address]:port`.
///
/// # Errors
/// When it is none.
pub fn address(text: &str, default_port: u16) -> Result<(String, u16), AddressFault> {
    let wrong = || AddressFault(text.to_owned());
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
        Some(_) => return Err(wrong()),
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
        None if port.is_empty() => default_port,
        None => return Err(wrong()),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// The schema of a list of addresses, 1 to 16.
pub(in crate::api) fn addresses(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let one = one_address(generator);
    schemars::json_schema!({"type": "array", "minItems": 1, "maxItems": 16, "items": one})
}

/// The schema of an address.
pub(in crate::api) fn one_address(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "minLength": 1, "maxLength": 262, "pattern": schema::ADDRESS})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
        let read = |text| address(text, 4222).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(read("nats.shop.svc").as_deref(), Ok("nats.shop.svc 4222"));
        assert_eq!(read("10.0.0.7:4333").as_deref(), Ok("10.0.0.7 4333"));
        assert_eq!(read("[fd00::7]").as_deref(), Ok("fd00::7 4222"));
        assert_eq!(read("[fd00::7]:1").as_deref(), Ok("fd00::7 1"));
        for text in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "fd00::7",
            "nats://a",
            "a/b",
            "u@a",
            "a b",
            "[a]:1",
            "[fd00::7",
            "[fd00::7]1",
            "ü",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
