//! `email`: a mail by SMTP.
//!
//! The headers are made by the mail library of parts, never of text, so what an event says cannot become one. A thread needs no memory: the first mail and
//! all that follow refer to one id, that of the incident (RFC 5322, 3.6.4).

use std::error::Error as _;

use futures::future::BoxFuture;
use lettre::{
    Message,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        extension::ClientId,
    },
};
use sha2::{Digest, Sha256};

use super::{
    BuildError, Delivered, Notification, Notifier, REQUEST_TIMEOUT, Reach, Retry, Secrets, SinkError,
    fit::{PLAIN, one_line},
};
use crate::{
    api::{self, EmailSecurity, Login, SecretKeyRef, address},
    net::ConnectError,
};

/// Characters of a subject: what readers show of it, and no line of it is longer than a header's may be, for it is folded.
const SUBJECT: usize = 200;
/// Characters of the text.
const TEXT: usize = 100_000;
/// What errors call the server.
const NAME: &str = "the mail server";

/// The sink.
pub(super) struct Email {
    host: String,
    port: u16,
    security: EmailSecurity,
    ca: Option<SecretKeyRef>,
    login: Option<Login>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    pub(super) fn new(spec: &api::Email) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let mut mailbox = |path: &str, text: &str| match text.parse::<Mailbox>() {
            Ok(mailbox) => Some(mailbox),
            Err(error) => {
                faults.push(format!("email.{path}: {text:?} is no address of mail: {error}"));
                None
            }
        };
        let from = mailbox("from", &spec.from);
        let to: Vec<Mailbox> =
            spec.to.iter().enumerate().filter_map(|(index, to)| mailbox(&format!("to[{index}]"), to)).collect();
        let address =
            address(&spec.server, spec.security.port()).map_err(|fault| faults.push(format!("email.server: {fault}")));
        if spec.security == EmailSecurity::None && (spec.login.is_some() || spec.ca_secret_ref.is_some()) {
            faults.push(
                "email: login and caSecretRef are for a connection by TLS: set security to StartTls or Tls".to_owned(),
            );
        }
        if spec.to.is_empty() {
            faults.push("email.to: there must be a recipient".to_owned());
        }
        match (from, address) {
            (Some(from), Ok((host, port))) if faults.is_empty() => Ok(Self {
                host,
                port,
                security: spec.security,
                ca: spec.ca_secret_ref.clone(),
                login: spec.login.clone(),
                from,
                to,
            }),
            _ => Err(BuildError(faults)),
        }
    }

    /// The mail.
    fn message(&self, notification: &Notification) -> Result<Message, SinkError> {
        let domain = self.from.email.domain();
        let thread = format!("<{}@{domain}>", thread(&notification.incident));
        let subject = PLAIN.fit(&visible(&one_line(&notification.headline())), SUBJECT);
        let mut mail = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .date_now()
            .message_id(Some(format!("<{}@{domain}>", notification.id)))
            .in_reply_to(thread.clone())
            .references(thread)
            .header(ContentType::TEXT_PLAIN)
            // RFC 3834: who is away answers no machine.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        mail.body(text(notification)).map_err(|error| SinkError::never(format!("the mail cannot be written: {error}")))
    }

    async fn send(&self, mail: &Message, secrets: &Secrets, reach: Reach<'_>) -> Result<Delivered, SinkError> {
        let addresses = reach.http.connector().resolve(&self.host, self.port).await.map_err(unreachable)?;
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let tls = match self.security {
            EmailSecurity::None => None,
            _ => Some(self.tls(secrets)?),
        };
        let at_once = tls.clone().filter(|_| self.security == EmailSecurity::Tls);
        let wrong = |error| failed(error, secrets);
        let connected =
            AsyncSmtpConnection::connect_tokio1(&addresses[..], Some(REQUEST_TIMEOUT), &hello, at_once, None);
        let mut connection = connected.await.map_err(wrong)?;
        if let (EmailSecurity::StartTls, Some(tls)) = (self.security, tls) {
            if !connection.can_starttls() {
                let why = "offers no STARTTLS: set email.security to Tls, or, where the way to it is safe, to None";
                return Err(SinkError::never(format!("{NAME} {why}")));
            }
            connection.starttls(tls, &hello).await.map_err(wrong)?;
        }
        if let Some(Login { username, password_secret_ref }) = &self.login {
            let credentials = Credentials::new(username.clone(), secrets.text(password_secret_ref)?.to_owned());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| {
                let refused = error.is_permanent();
                let error = wrong(error);
                if refused { SinkError { retry: Retry::FreshSecrets, ..error } } else { error }
            })?;
        }
        let answer = connection.send(mail.envelope(), &mail.formatted()).await.map_err(wrong)?;
        // It is taken; how the connection ends changes nothing.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), connection.quit()).await;
        Ok(Delivered { status: u16::from(answer.code()), note: None })
    }

    fn tls(&self, secrets: &Secrets) -> Result<TlsParameters, SinkError> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(key) = &self.ca {
            let odd = || SinkError::never(format!("key {} of Secret {} has no certificate in PEM", key.key, key.name));
            let certificate = Certificate::from_pem(secrets.get(key)?.bytes()).map_err(|_| odd())?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        builder.build_rustls().map_err(|error| failed(error, secrets))
    }
}

impl Notifier for Email {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        let password = self.login.as_ref().map(|login| &login.password_secret_ref);
        self.ca.iter().chain(password).cloned().collect()
    }

    fn is_for_people(&self) -> bool {
        true
    }

    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let mail = self.message(notification)?;
            let sending = tokio::time::timeout(REQUEST_TIMEOUT, self.send(&mail, secrets, reach));
            sending.await.unwrap_or_else(|_| {
                let message = format!("{NAME} did not answer within {} s", REQUEST_TIMEOUT.as_secs());
                Err(SinkError { retry: Retry::After(None), message })
            })
        })
    }
}

/// What the mails of an incident refer to.
fn thread(incident: &str) -> String {
    Sha256::digest(incident.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text, facts, and where it comes from.
fn text(notification: &Notification) -> String {
    let Notification { severity, text, fields, event, rule, firing, .. } = notification;
    let mut parts = vec![text.trim_end().to_owned()];
    let facts: Vec<String> = fields.iter().map(|field| format!("{}: {}", one_line(&field.name), field.value)).collect();
    parts.push(facts.join("\n"));
    let subject = event.subject.as_ref().map(|subject| format!("\nSubject: {subject}")).unwrap_or_default();
    parts.push(format!("-- \nSeverity: {severity:?}\nRule: {rule}{subject}\nFiring: {}", firing.0));
    parts.retain(|part| !part.trim().is_empty());
    PLAIN.fit(&parts.join("\n\n"), TEXT)
}

/// The text without control characters.
fn visible(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn unreachable(error: ConnectError) -> SinkError {
    let retry = if matches!(error, ConnectError::Refused(_)) { Retry::Never } else { Retry::After(None) };
    SinkError { retry, message: format!("connect to {NAME}: {error}") }
}

/// <https://www.rfc-editor.org/rfc/rfc5321#section-4.2.1>: 4xx may be otherwise later, 5xx is for good.
fn failed(error: lettre::transport::smtp::Error, secrets: &Secrets) -> SinkError {
    let retry = if error.is_permanent() || error.is_client() { Retry::Never } else { Retry::After(None) };
    let mut words = error.to_string();
    // What some kinds say has what the server said in it, and what others say has not.
    if let Some(source) = error.source().map(ToString::to_string).filter(|source| !words.contains(source)) {
        words = format!("{words}: {source}");
    }
    let words: String = visible(&one_line(&words)).chars().take(250).collect();
    SinkError { retry, message: secrets.redact(&format!("{NAME} refused the mail: {words}")) }
}

#[cfg(test)]
mod tests;
