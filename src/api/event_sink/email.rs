//! `email` of an EventSink.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;
use crate::api::Login;

/// Mail, by SMTP. A mail has the same `Message-ID` whenever it has to be sent again, and mails of one incident name it in `References`, so that readers show
/// them as one thread. Each mail has a connection of its own. When one recipient is refused, none gets it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.login) || self.security != 'None'")
    .message("login is for a connection by TLS: set security to StartTls or Tls"))]
#[x_kube(validation = kube::core::cel::Rule::new("!has(self.caSecretRef) || self.security != 'None'")
    .message("caSecretRef is for a connection by TLS: set security to StartTls or Tls"))]
pub struct Email {
    /// The mail server, `host` or `host:port`. Default port: 587 with `StartTls`, 465 with `Tls`, 25 with `None`.
    #[schemars(length(min = 1, max = 262), regex(pattern = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?$"))]
    pub server: String,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub security: EmailSecurity,
    /// The Secret that holds the certificates (PEM) of the authorities that are trusted, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Who sends, where the server asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// The sender, `alerts@example.com` or `Alerts <alerts@example.com>`.
    #[schemars(length(min = 3, max = 320), regex(pattern = r"^[^\r\n]+@[^\r\n]+$"))]
    pub from: String,
    /// The recipients, 1 to 50, written as `from` is.
    #[schemars(length(min = 1, max = 50), inner(length(min = 3, max = 320), regex(pattern = r"^[^\r\n]+@[^\r\n]+$")))]
    pub to: Vec<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EmailSecurity {
    /// It begins plain and must become TLS before anything is sent.
    #[default]
    StartTls,
    /// TLS from the beginning.
    Tls,
    /// Not at all.
    None,
}

impl EmailSecurity {
    /// The port at which servers commonly wait.
    pub fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}
