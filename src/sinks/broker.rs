//! What sinks of brokers share: the way to the server, connections that are kept, and how long everything may take.

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::{Connections, Delivered, Key, Publication, Publisher, REQUEST_TIMEOUT, Reach, Secrets, SinkError};
use crate::{
    api::{AddressFault, Login, SecretKeyRef, Tls},
    net::{Wire, open, tls_of},
    text::line,
};

/// A sink of a broker: an event goes to one place there.
pub(super) trait Broker: Send + Sync {
    /// The Secrets that it needs.
    fn needed(&self) -> &[SecretKeyRef];

    /// Where an event for this topic goes, or, without one, where the sink itself says.
    ///
    /// # Errors
    /// As [`Publisher::check`].
    fn place<'t>(&'t self, topic: Option<&'t str>) -> Result<&'t str, String>;

    /// As [`Publisher::publish`]; what it says of an error need not be fit to be shown.
    fn send(
        &self,
        place: &str,
        publication: &Publication,
        secrets: &Secrets,
        reach: Reach<'_>,
    ) -> impl Future<Output = Result<Delivered, SinkError>> + Send;
}

impl<B: Broker> Publisher for B {
    fn secrets(&self) -> Vec<SecretKeyRef> {
        self.needed().to_vec()
    }

    fn check(&self, topic: Option<&str>) -> Result<(), String> {
        self.place(topic).map(drop)
    }

    fn publish<'a>(
        &'a self,
        publication: &'a Publication,
        secrets: &'a Secrets,
        reach: Reach<'a>,
    ) -> BoxFuture<'a, Result<Delivered, SinkError>> {
        Box::pin(async move {
            let place = self.place(publication.topic.as_deref());
            let place = place.map_err(|why| SinkError::never(format!("the sink {why}")))?;
            let sent = self.send(place, publication, secrets, reach).await;
            sent.map_err(|error| shown(error, secrets))
        })
    }
}

/// A server of a broker, and how to get in.
pub(super) struct Server {
    host: String,
    port: u16,
    tls: Option<Tls>,
    login: Option<Login>,
}

/// A connection that is kept.
pub(super) trait Kept: Send + Sync + 'static {
    /// Whether it has ended: another one is made then.
    fn is_over(&self) -> bool;
}

impl Server {
    /// Notes what is wrong; `path` is the field of the address, such as `mqtt.address`.
    pub(super) fn new(
        path: &str,
        address: Result<(String, u16), AddressFault>,
        (tls, login): (Option<&Tls>, Option<&Login>),
        faults: &mut Vec<String>,
    ) -> Option<Self> {
        if let Some(tls) = tls {
            tls.faults(&format!("{}.tls", path.split('.').next().unwrap_or_default()), faults);
        }
        let (host, port) = address.map_err(|fault| faults.push(format!("{path}: {fault}"))).ok()?;
        Some(Self { host, port, tls: tls.cloned(), login: login.cloned() })
    }

    /// `host:port`, for messages.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What a connection to it is kept by. `more` is what else makes connections differ.
    pub(super) fn key(
        &self,
        kind: &'static str,
        secrets: (&Secrets, &[SecretKeyRef]),
        more: &[String],
    ) -> Result<Key, SinkError> {
        let own = [self.name(), format!("{:?}", self.login.as_ref().map(|login| &login.username))];
        key(kind, self.tls.as_ref(), secrets, &[own.as_slice(), more].concat())
    }

    /// A connection, past the guard.
    pub(super) async fn open(&self, secrets: &Secrets, reach: Reach<'_>) -> Result<Box<dyn Wire>, SinkError> {
        let tls = match &self.tls {
            None => None,
            Some(tls) => {
                let read = |key: &SecretKeyRef| secrets.get(key).map(|value| value.bytes());
                Some(tls_of(tls, &self.host, &reach.http.roots(), read)?)
            }
        };
        Ok(open(reach.http.connector(), (&self.host, self.port), tls).await?)
    }

    /// User name and password.
    pub(super) fn login<'a>(&'a self, secrets: &'a Secrets) -> Result<Option<(&'a str, &'a str)>, SinkError> {
        let Some(Login { username, password_secret_ref }) = &self.login else { return Ok(None) };
        Ok(Some((username, secrets.text(password_secret_ref)?)))
    }
}

/// What a connection is kept by: all that makes connections differ, with the values of these keys of Secrets.
pub(super) fn key(
    kind: &'static str,
    tls: Option<&Tls>,
    (secrets, needed): (&Secrets, &[SecretKeyRef]),
    parts: &[String],
) -> Result<Key, SinkError> {
    // Which of the secrets are there, and what for, makes a difference, not what they are called.
    let tls = tls.map(|tls| (&tls.server_name, tls.ca_secret_ref.is_some(), tls.client_key_secret_ref.is_some()));
    let tls = format!("{tls:?}");
    let mut all: Vec<&[u8]> = parts.iter().chain([&tls]).map(String::as_bytes).collect();
    for key in needed {
        all.push(secrets.get(key)?.bytes());
    }
    Ok(Key::of(kind, all))
}

/// Whether a name is one that a pattern stands for: of the parts between dots, `one` stands for any, and `rest` at the end for what follows: as for NATS
/// and AMQP, where it may be nothing with the latter.
#[cfg(any(feature = "amqp", feature = "nats"))]
pub(super) fn fits(pattern: &str, name: &str, (one, rest): (&str, &str)) -> bool {
    let mut parts = name.split('.');
    let mut wanted = pattern.split('.').peekable();
    while let Some(part) = wanted.next() {
        if part == rest && wanted.peek().is_none() {
            return rest == "#" || parts.next().is_some();
        }
        match parts.next() {
            Some(known) if part == one || part == known => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// Notes the patterns of the field `path` that [`fits`] does not know.
#[cfg(any(feature = "amqp", feature = "nats"))]
pub(super) fn odd_patterns(path: &str, patterns: &[String], (one, rest): (&str, &str), faults: &mut Vec<String>) {
    let odd = |pattern: &String| {
        let mut parts = pattern.split('.').peekable();
        std::iter::from_fn(|| parts.next().map(|part| (part, parts.peek().is_none()))).any(|(part, last)| match part {
            "" => true,
            part if part == rest => !last,
            part => part != one && (part.contains(one) || part.contains(rest)),
        })
    };
    faults.extend(patterns.iter().filter(|pattern| odd(pattern)).map(|pattern| {
        format!("{path} {pattern:?}: is made of words with dots between them; {one} stands for a whole word, {rest} for all that follow, at the end")
    }));
}

/// The connection of this key: the one that is kept, if it has not ended, or else a new one.
pub(super) async fn connected<C: Kept, M>(
    connections: &Connections,
    key: Key,
    make: impl Fn() -> M,
) -> Result<std::sync::Arc<C>, SinkError>
where
    M: Future<Output = Result<C, SinkError>>,
{
    let kept = connections.get(key, &make).await?;
    if !kept.is_over() {
        return Ok(kept);
    }
    connections.discard(key, &kept);
    connections.get(key, make).await
}

/// By when a delivery that begins now must be done.
pub(super) fn deadline() -> Instant {
    Instant::now() + REQUEST_TIMEOUT
}

/// What comes of it by then.
pub(super) async fn by<T>(
    deadline: Instant,
    name: &str,
    work: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        Err(SinkError::later(format!("{name} did not answer within {} s", REQUEST_TIMEOUT.as_secs())))
    })
}

/// The error in words that can be shown: what a broker says is cut, made one line, and holds no secret.
pub(super) fn shown(error: SinkError, secrets: &Secrets) -> SinkError {
    SinkError { message: line(&secrets.redact(&error.message)), ..error }
}

#[cfg(all(test, any(feature = "amqp", feature = "nats")))]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_parts_between_dots() {
        for (pattern, name, is) in [
            ("orders.*", "orders.paid", true),
            ("orders.*", "orders.paid.7", false),
            ("orders.*", "orders", false),
            ("orders.>", "orders.paid.7", true),
            ("orders.>", "orders", false),
            ("orders", "orders", true),
            ("orders", "order", false),
            (">", "a.b", true),
        ] {
            assert_eq!(fits(pattern, name, ("*", ">")), is, "{pattern} {name}");
        }
        assert!(fits("orders.#", "orders", ("*", "#")) && fits("#", "a.b", ("*", "#")));
    }

    #[test]
    fn a_pattern_that_would_stand_for_nothing_is_refused() {
        let patterns = ["a", "a.*", "*.b", "a.>", ">", "a.>.b", "a*", "a..b", "", "a.b>"].map(str::to_owned);
        let mut faults = Vec::new();
        odd_patterns("nats.allowedSubjects", &patterns, ("*", ">"), &mut faults);
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(faults[0].starts_with("nats.allowedSubjects \"a.>.b\": is made of words"), "{}", faults[0]);
    }
}
