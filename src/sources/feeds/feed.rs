//! What a kind works with: Secrets, connections that pass the guard, the way into the log, and status.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use tokio::{sync::Semaphore, time::sleep};

use super::{
    lines::{Line, Lines},
    link::{Down, Link, Shared},
    pod_logs,
};
use crate::{
    api::{EventSourceSpec, SecretKeyRef, Tls},
    bus::BusError,
    event::{
        Event, event_source,
        message::{self, DecodeError, Message},
    },
    kubernetes::Cluster,
    net::{ConnectError, Connector, Http, TlsError, Wire, WireError, open, system_roots, tls_of},
    poison,
    record::{Account, Position},
    sinks::{Key, Secrets},
    sources::{
        accept::{Accept, By, Put},
        figures::Received,
        ids::{self, Hash},
    },
    telemetry::Rejection,
    text::line,
};

/// How long to wait before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait for another that stores the same event.
const TWIN_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a message that is taken: what is larger might not fit into a record of the log. Webhooks may have as much.
pub(super) const MAX_BODY: usize = 4 << 20;
/// Characters that tell what is not taken.
const MAX_INCOMPLETE: usize = 1000;

/// What became of a message. In every case it is not needed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is on stable storage, or came before, or nobody asks for it.
    Stored,
    /// It is no event and would be none the next time; it is counted. Why, for whoever keeps such messages.
    Poison(String),
}

/// An event, and what it is told by when it comes again.
type Told = (Event, Option<Hash>);
/// Why a message is no event: for figures, and in words.
type Fault = (Rejection, String);

/// One version of an EventSource, from when it begins to connect to its end.
pub(super) struct Feed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// The kind as it is in YAML, for metrics.
    pub(super) kind: &'static str,
    pub(super) spec: Arc<EventSourceSpec>,
    pub(super) cluster: Cluster,
    /// Who it is in the cluster.
    pub(super) account: Account,
    pub(super) secrets: Secrets,
    pub(super) accept: Accept,
    pub(super) net: Arc<Net>,
    pub(super) shared: Arc<Shared>,
}

/// The way out.
pub(super) struct Net {
    connector: Connector,
    /// What the system trusts, read when it is first asked for.
    roots: OnceLock<Arc<RootCertStore>>,
    /// Connections that are shared.
    lines: Lines,
    /// Places for logs that are read at once.
    pub(super) readings: Semaphore,
}

impl Net {
    pub(super) fn new(connector: Connector) -> Self {
        let readings = Semaphore::new(pod_logs::ALL_READINGS);
        Self { connector, roots: OnceLock::new(), lines: Lines::default(), readings }
    }
}

#[allow(dead_code, reason = "which kinds are built decides what is used")]
impl Feed {
    // === What it is ===

    /// The CloudEvents `source` of messages that are no CloudEvents.
    pub(super) fn source(&self) -> String {
        event_source::event_source(&self.namespace, &self.name)
    }

    /// A name for who asks: the same as long as the EventSource exists, and no other's.
    pub(super) fn identity(&self) -> String {
        format!("signalbox-{}", self.uid)
    }

    // === Secrets ===

    /// The value of a key, as text, without white space at its end.
    ///
    /// # Errors
    /// When it is no text.
    pub(super) fn secret(&self, key: &SecretKeyRef) -> Result<&str, Down> {
        self.secrets.text(key).map_err(|error| Down::unauthenticated(error.message))
    }

    /// The value of a key.
    pub(super) fn bytes(&self, key: &SecretKeyRef) -> Result<&[u8], Down> {
        self.secrets.get(key).map(|value| value.bytes()).map_err(|error| Down::unauthenticated(error.message))
    }

    // === Connections ===

    /// The addresses of a host that may be connected to, one or more: for clients that connect by themselves.
    ///
    /// # Errors
    /// When there is none.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Down> {
        self.net.connector.resolve(host, port).await.map_err(|error| refusal(host, port, &error))
    }

    /// For who connects, or judges addresses, without a feed.
    pub(super) fn connector(&self) -> &Connector {
        &self.net.connector
    }

    /// The connection of all EventSources of the namespace that have the same way to a server: the kind, whatever tells the server and how to get in (`way`),
    /// and the values of the Secrets. `make` makes it where there is none.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) async fn line<T: Send + Sync + 'static>(
        &self,
        kind: &'static str,
        way: &impl Serialize,
        make: impl Future<Output = Result<Line<T>, Down>>,
    ) -> Result<Arc<Line<T>>, Down> {
        let way = serde_json::to_vec(way).map_err(|error| Down::refused(format!("the way to the server: {error}")))?;
        let mut parts = vec![self.namespace.as_bytes(), &way];
        let keys = self.spec.secrets();
        for key in &keys {
            parts.push(self.bytes(key)?);
        }
        self.net.lines.get(Key::of(kind, parts), make).await
    }

    /// What a client calls itself whose connection is shared: the broker shows it to those who look after it.
    pub(super) fn shared_name(&self) -> String {
        format!("signalbox {}", self.namespace)
    }

    /// A connection, by TLS where `tls` says so.
    ///
    /// # Errors
    /// As [`Feed::tls`], when nobody accepts, when the operator's settings do not allow it, and when the server's certificate is not one to trust.
    pub(super) async fn open(&self, host: &str, port: u16, tls: Option<&Tls>) -> Result<Box<dyn Wire>, Down> {
        let tls = tls.map(|tls| self.tls(tls, host)).transpose()?;
        Ok(open(&self.net.connector, (host, port), tls).await?)
    }

    /// How to speak TLS with a host. Certificates are checked for `tls.serverName`, or else `host`, also by a client that connects to an address.
    ///
    /// # Errors
    /// When a certificate or a key cannot be used.
    pub(super) fn tls(&self, tls: &Tls, host: &str) -> Result<ClientConfig, Down> {
        tls_of(tls, host, self.roots(), |key| self.bytes(key))
    }

    /// The authorities that the system trusts.
    pub(super) fn roots(&self) -> &Arc<RootCertStore> {
        self.net.roots.get_or_init(|| Arc::new(system_roots()))
    }

    // === Status ===

    /// There is a connection, and events come over it: to whom, and what there is to know. May be told again.
    pub(super) fn connected(&self, to: impl AsRef<str>) {
        let link = Link::Up(self.secrets.redact(&line(to.as_ref())));
        if self.shared.link() == link {
            return;
        }
        if let Link::Up(words) = &link {
            tracing::info!(source = %self.name, namespace = %self.namespace, to = %words, "an EventSource is connected");
        }
        self.shared.set(link);
    }

    /// There is a connection, and not everything that is there comes over it: what, and what to do about it. May be told again.
    pub(super) fn incomplete(&self, what: impl AsRef<str>) {
        let link = Link::Partial(self.secrets.redact(&crate::text::cut(what.as_ref(), MAX_INCOMPLETE)));
        if self.shared.link() == link {
            return;
        }
        if let Link::Partial(words) = &link {
            tracing::warn!(source = %self.name, namespace = %self.namespace, what = %words, "an EventSource does not take everything");
        }
        self.shared.set(link);
    }

    /// Whether there was a connection since this process started.
    pub(super) fn was_connected(&self) -> bool {
        self.shared.was_connected()
    }

    /// There is a connection, and nothing comes over it that could be an event: why.
    pub(super) fn no_data(&self, why: impl AsRef<str>) {
        let words = self.secrets.redact(&line(why.as_ref()));
        tracing::warn!(source = %self.name, namespace = %self.namespace, why = %words, "an EventSource has no data");
        self.shared.set(Link::Mute(words));
    }

    /// A client for HTTP. Its connections pass the guard, and end with it.
    pub(super) fn http(&self, tls: ClientConfig) -> Http {
        Http::over(self.net.connector.clone(), tls)
    }

    /// How many messages wait where they come from; nothing when that cannot be told.
    pub(super) fn lag(&self, messages: impl Into<Option<u64>>) {
        self.shared.counted.lag(messages.into());
    }

    /// Counts a message that is not taken. [`Feed::take`] does so by itself.
    pub(super) fn rejected(&self, why: Rejection) {
        self.shared.counted.rejected(why);
        self.accept.metrics().feeds().rejected(self.kind, why);
    }

    // === Events ===

    /// Takes messages, in their order; what became of each. When this gives a result, all of them are on stable storage and will be judged once, whatever
    /// happens from then on: only then are they to be acknowledged. It waits while the log has no room: nothing more is to be read meanwhile.
    ///
    /// # Errors
    /// When the log takes nothing any more. Nothing of this was acknowledged.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, messages may have been stored or not. Those that can be told by an id are no second event when they come again.
    pub(super) async fn take(&self, messages: &[Message<'_>]) -> Result<Vec<Taken>, Down> {
        let (mut taken, mut last) = (Vec::with_capacity(messages.len()), Position::default());
        for message in messages {
            taken.push(match self.decode(message) {
                Err(poison) => self.poisoned(poison),
                Ok(events) => {
                    let (position, fault) = self.append(events).await?;
                    last = last.max(position);
                    fault.map_or(Taken::Stored, |fault| self.poisoned(fault))
                }
            });
        }
        if last > Position::default() {
            self.accept.bus().durable(last).await.map_err(|_| stopping())?;
        }
        Ok(taken)
    }

    /// Whether any message of the EventSource is remembered.
    pub(super) fn remembers(&self) -> bool {
        self.accept.remembers(self.by())
    }

    /// Messages without an id that were stored cannot come again, and others may be told by the same (`told`) from now on: this is on stable storage when
    /// it is ready. Only then may the broker be allowed to use it again: another message would be taken for the one that was stored, and be lost.
    ///
    /// # Errors
    /// When the log takes nothing any more.
    pub(super) async fn settled(&self, told: impl IntoIterator<Item = String>) -> Result<(), Down> {
        let hashes: Vec<Hash> = told.into_iter().map(|by| ids::told(&by)).collect();
        self.accept.settled(self.by(), &hashes).await.map_err(|_| stopping())
    }

    fn by(&self) -> By<'_> {
        By { namespace: &self.namespace, name: &self.name, uid: &self.uid }
    }

    fn poisoned(&self, (why, message): Fault) -> Taken {
        let message = self.secrets.redact(&line(&message));
        tracing::debug!(source = %self.name, namespace = %self.namespace, why = %message, "a message is no event");
        self.rejected(why);
        Taken::Poison(message)
    }

    /// The events, and by what each is told when it comes again.
    fn decode(&self, message: &Message<'_>) -> Result<Vec<Told>, Fault> {
        if message.body.len() > MAX_BODY {
            let why = format!("the message has {} bytes; {MAX_BODY} are taken", message.body.len());
            return Err((Rejection::TooLarge, why));
        }
        let mut made = false;
        let decoded = poison::caught(|| {
            message::decode(message, || {
                made = true;
                self.accept.next_id()
            })
        });
        let mut events = match decoded {
            Ok(Ok(events)) => events,
            Ok(Err(error @ DecodeError::TooMany(_))) => return Err((Rejection::TooLarge, error.to_string())),
            Ok(Err(error)) => return Err((Rejection::Malformed, error.to_string())),
            Err(poisoned) => return Err((Rejection::Malformed, poisoned.to_string())),
        };
        if made {
            // As a request that says no time.
            events.iter_mut().for_each(|event| event.time = event.time.or(Some(self.accept.clock().now().timestamp())));
        }
        let hash = |event: &Event| match &message.told {
            Some(told) if made => {
                let hash = ids::told(&told.by);
                if !told.again {
                    self.accept.anew(self.by(), hash);
                }
                Some(hash)
            }
            _ => (!made).then(|| ids::hash(event)),
        };
        let hashed = |event: Event| (hash(&event), event);
        Ok(events.into_iter().map(hashed).map(|(hash, event)| (event, hash)).collect())
    }

    /// Appends the events of one message; gives up to where the log must be durable, and why one of them is none that can be kept, if there is such a one:
    /// the others are.
    async fn append(&self, events: Vec<Told>) -> Result<(Position, Option<Fault>), Down> {
        let (by, mut last, mut fault) = (self.by(), Position::default(), None);
        let (mut received, mut seen) = (Received::default(), HashSet::new());
        for (event, hash) in events {
            if hash.is_some_and(|hash| !seen.insert(hash)) {
                received.duplicates += 1;
                continue;
            }
            let event = Arc::new(event);
            loop {
                match self.accept.put(by, &event, hash, self.accept.now()).await {
                    Ok(Put::UnderWay) => {
                        sleep(TWIN_PAUSE).await;
                        continue;
                    }
                    Ok(Put::Before(position)) => {
                        received.duplicates += 1;
                        last = last.max(position);
                    }
                    Ok(Put::Unwanted) => received.new += 1,
                    Ok(Put::New(position)) => {
                        received.new += 1;
                        last = last.max(position);
                        self.accept.shed().await.map_err(|_| stopping())?;
                    }
                    Err(BusError::Full) => {
                        tracing::warn!("a source waits: the log's disk is full");
                        sleep(FULL_PAUSE).await;
                        continue;
                    }
                    Err(error @ BusError::TooLarge(_)) => fault = Some((Rejection::TooLarge, error.to_string())),
                    Err(error @ BusError::TooDeep) => fault = Some((Rejection::Malformed, error.to_string())),
                    Err(_) => return Err(stopping()),
                }
                break;
            }
        }
        self.shared.counted.received(received, self.accept.clock().now().timestamp());
        self.accept.metrics().feeds().received(self.kind, received.new, received.duplicates);
        Ok((last, fault))
    }
}

fn stopping() -> Down {
    Down::unreachable("the log takes nothing any more: signalbox is stopping")
}

impl From<TlsError> for Down {
    fn from(error: TlsError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<WireError> for Down {
    fn from(error: WireError) -> Self {
        if error.is_transient() { Self::unreachable(error.to_string()) } else { Self::refused(error.to_string()) }
    }
}

fn refusal(host: &str, port: u16, error: &ConnectError) -> Down {
    match error {
        ConnectError::Refused(refusal) => Down::refused(format!("{host}:{port}: {refusal}")),
        other => Down::unreachable(format!("{host}:{port}: {other}")),
    }
}
