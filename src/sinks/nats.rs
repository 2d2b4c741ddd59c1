//! `nats`: an event as a message of a subject of NATS, stored by JetStream or not.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md>, and for binary mode the version after it.

use std::{error::Error as _, str::FromStr as _, time::Duration};

use async_nats::{
    Client, Event, HeaderMap, HeaderValue, RequestErrorKind,
    jetstream::{self, context::PublishErrorKind},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BuildError, Delivered, Publication, Reach, Retry, STRUCTURED, Secrets, SinkError,
    broker::{self, Broker, Kept, by, connected, deadline},
    cloud_events::encoded,
    topics::{Topics, Words},
};
use crate::{
    api::{CloudEventsMode, NATS_PORT as PORT, NatsAcknowledge, NatsSink, SecretKeyRef, Tls, address},
    net::{
        WireError,
        nats::{ANSWER, Encryption, Fault, Login, Way, connect},
        tls_of,
    },
};

/// The header by which JetStream knows what is sent again.
const MSG_ID: &str = "Nats-Msg-Id";
/// The header that says what the body is.
const CONTENT_TYPE: &str = "content-type";
/// What the server has said and no delivery has heard yet.
const SAID: usize = 16;
/// How long what the server says against a message may come after what it says to the next one: the client tells it by another task.
const GRACE: Duration = Duration::from_millis(50);

/// The sink.
pub(super) struct Nats {
    spec: NatsSink,
    servers: Vec<(String, u16)>,
    topics: Topics,
    needed: Vec<SecretKeyRef>,
}

/// A connection. Dropped, it is closed.
struct Line {
    client: Client,
    said: broadcast::Sender<String>,
    listening: AbortOnDropHandle<()>,
}

impl Kept for Line {
    fn is_over(&self) -> bool {
        self.listening.is_finished()
    }
}

impl Nats {
    pub(super) fn new(spec: &NatsSink) -> Result<Self, BuildError> {
        let mut faults = Vec::new();
        let servers = spec.servers.iter().filter_map(|server| address(server, PORT).ok()).collect();
        spec.cluster().faults("nats", &mut faults);
        faults
            .extend(spec.subject.as_ref().and_then(|one| literal(one).err()).map(|why| format!("nats.subject: {why}")));
        broker::odd_patterns("nats.allowedSubjects", &spec.allowed_subjects, ("*", ">"), &mut faults);
        let words = Words { kind: "nats", topic: "subject", allowed: "allowedSubjects" };
        let topics = Topics::new(words, spec.subject.as_ref(), &spec.allowed_subjects, |pattern, subject| {
            broker::fits(pattern, subject, ("*", ">"))
        });
        let needed = spec.cluster().secrets();
        if faults.is_empty() {
            Ok(Self { spec: spec.clone(), servers, topics, needed })
        } else {
            Err(BuildError(faults))
        }
    }

    fn subject<'t>(&'t self, named: Option<&'t str>) -> Result<&'t str, String> {
        let subject = self.topics.of(named)?;
        literal(subject).map_err(|why| format!("cannot publish to {subject:?}: {why}"))?;
        Ok(subject)
    }

    fn message(&self, publication: &Publication) -> Result<(HeaderMap, Vec<u8>), SinkError> {
        let mut headers = HeaderMap::new();
        let mut set = |name: String, value: &str| {
            let odd = |_| SinkError::never(format!("what the event says of {name} is no header of NATS"));
            let value = HeaderValue::from_str(value).map_err(odd)?;
            headers.insert(name, value);
            Ok::<_, SinkError>(())
        };
        set(MSG_ID.to_owned(), &publication.event.id)?;
        if self.spec.mode == CloudEventsMode::Structured {
            set(CONTENT_TYPE.to_owned(), STRUCTURED)?;
            return Ok((headers, publication.structured()));
        }
        if let Some(content_type) = publication.content_type() {
            set(CONTENT_TYPE.to_owned(), content_type)?;
        }
        for (name, value) in publication.attributes() {
            set(format!("ce-{name}"), &encoded(&value))?;
        }
        Ok((headers, publication.body()))
    }

    async fn connect(&self, secrets: &Secrets, reach: Reach<'_>) -> Result<Line, SinkError> {
        let mut last = SinkError::never("nats.servers: at least one must be named");
        for (host, port) in &self.servers {
            match self.connect_to((host, *port), secrets, reach).await {
                Ok(line) => return Ok(line),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        (host, port): (&str, u16),
        secrets: &Secrets,
        reach: Reach<'_>,
    ) -> Result<Line, SinkError> {
        let server = format!("{host}:{port}");
        let addresses = reach.http.connector().resolve(host, port).await;
        let addresses = addresses.map_err(|error| SinkError::from(WireError::Connect(server.clone(), error)))?;
        let roots = reach.http.roots();
        let config = |tls: &Tls| tls_of(tls, host, &roots, |key| secrets.get(key).map(|value| value.bytes()));
        let tls = match &self.spec.tls {
            Some(tls) => Encryption::Must(Box::new(config(tls)?)),
            None => Encryption::May(config(&Tls::default()).ok().map(Box::new)),
        };
        let login = Login::of(self.spec.auth.as_ref(), |key| secrets.text(key))?;
        let name = "signalbox".to_owned();
        let way = Way { server: &server, addresses: &addresses, name, tls, login, waiting: SAID };
        let (client, told) = connect(way).await.map_err(unconnected)?;
        let (said, _) = broadcast::channel(SAID);
        let listening = AbortOnDropHandle::new(tokio::spawn(listen(told, said.clone())));
        Ok(Line { client, said, listening })
    }
}

impl Broker for Nats {
    fn needed(&self) -> &[SecretKeyRef] {
        &self.needed
    }

    fn place<'t>(&'t self, topic: Option<&'t str>) -> Result<&'t str, String> {
        self.subject(topic)
    }

    async fn send(
        &self,
        subject: &str,
        publication: &Publication,
        secrets: &Secrets,
        reach: Reach<'_>,
    ) -> Result<Delivered, SinkError> {
        let (headers, body) = self.message(publication)?;
        let (deadline, name) = (deadline(), format!("NATS at {}", self.spec.servers.join(", ")));
        let user = self.spec.auth.as_ref().and_then(|auth| auth.login.as_ref()).map(|login| login.username.as_str());
        let parts = [self.spec.servers.join(","), format!("{user:?} {:?}", which(&self.spec))];
        let key = broker::key("nats", self.spec.tls.as_ref(), (secrets, &self.needed), &parts)?;
        let making = connected(reach.connections, key, || self.connect(secrets, reach));
        let line = by(deadline, &name, making).await?;
        let taken = async {
            let publishing = async {
                match self.spec.acknowledge {
                    NatsAcknowledge::JetStream => line.store(subject, headers, body).await,
                    NatsAcknowledge::Server => line.tell(subject, headers, body).await,
                }
            };
            let refusal = line.refusal(subject);
            tokio::select! {
                taken = publishing => taken,
                error = refusal => Err(error),
            }
        };
        let taken = by(deadline, &name, taken).await;
        if taken.is_err() && tokio::time::Instant::now() >= deadline {
            reach.connections.discard(key, &line);
        }
        taken.map(|note| Delivered { status: 0, note })
    }
}

/// Which of the credentials there are: the values alone do not tell what they are for.
fn which(spec: &NatsSink) -> [bool; 4] {
    let Some(auth) = &spec.auth else { return [false; 4] };
    [
        auth.login.is_some(),
        auth.token_secret_ref.is_some(),
        auth.nkey_secret_ref.is_some(),
        auth.credentials_secret_ref.is_some(),
    ]
}

/// Passes on what the server says, until the connection ends.
async fn listen(mut told: mpsc::Receiver<Event>, said: broadcast::Sender<String>) {
    while let Some(event) = told.recv().await {
        match event {
            // Nobody listens while nothing is sent.
            Event::ServerError(error) => drop(said.send(error.to_string())),
            Event::Disconnected | Event::Closed => return,
            _ => {}
        }
    }
}

impl Line {
    /// Has a stream of JetStream store it.
    async fn store(&self, subject: &str, headers: HeaderMap, body: Vec<u8>) -> Result<Option<String>, SinkError> {
        let mut context = jetstream::new(self.client.clone());
        context.set_timeout(ANSWER);
        let failed = |error: jetstream::context::PublishError| {
            let why = error.source().map_or_else(|| error.to_string(), |source| format!("{}: {source}", error.kind()));
            match error.kind() {
                PublishErrorKind::StreamNotFound => SinkError::never(format!(
                    "no stream of JetStream takes the subject {subject}: make one, or set nats.acknowledge to Server"
                )),
                PublishErrorKind::MaxPayloadExceeded => SinkError::never(why),
                _ => SinkError::later(why),
            }
        };
        let sent = context.publish_with_headers(subject.to_owned(), headers, body.into()).await.map_err(failed)?;
        let stored = sent.await.map_err(failed)?;
        Ok(stored.duplicate.then(|| format!("stream {} had it already", stored.stream)))
    }

    /// Sends it, and waits until the server has seen it: it takes one thing after another, and answers what nobody listens to at once.
    async fn tell(&self, subject: &str, headers: HeaderMap, body: Vec<u8>) -> Result<Option<String>, SinkError> {
        let sent = self.client.publish_with_headers(subject.to_owned(), headers, body.into()).await;
        sent.map_err(|error| match error.kind() {
            async_nats::PublishErrorKind::Send => SinkError::later(error.to_string()),
            _ => SinkError::never(error.to_string()),
        })?;
        let mut said = self.said.subscribe();
        let nobody = self.client.new_inbox();
        let answer = async {
            match self.client.request(nobody.clone(), "".into()).await {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
                Err(error) => Err(SinkError::later(error.to_string())),
            }
        };
        // A user who may not publish there is told so, which is as good.
        tokio::select! {
            answer = answer => answer?,
            () = async { while !next(&mut said).await.contains(&nobody) {} } => {}
        }
        sleep(GRACE).await;
        Ok(None)
    }

    /// Waits until the server refuses what is sent to the subject.
    async fn refusal(&self, subject: &str) -> SinkError {
        let (mut said, about) = (self.said.subscribe(), format!("\"{subject}\""));
        loop {
            let words = next(&mut said).await;
            let lower = words.to_ascii_lowercase();
            if lower.contains("permissions violation for subscription") {
                return SinkError::never(format!("{words}: let the user subscribe to _INBOX.>, where answers come"));
            }
            if lower.contains("permissions violation") && words.contains(&about) {
                return SinkError::never(format!("{words}: let the user publish to it"));
            }
        }
    }
}

/// What the server says next.
async fn next(said: &mut broadcast::Receiver<String>) -> String {
    loop {
        match said.recv().await {
            Ok(words) => return words,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn unconnected(fault: Fault) -> SinkError {
    let message = fault.to_string();
    match fault {
        Fault::Unreachable(_) => SinkError::later(message),
        Fault::Unauthenticated(_) => SinkError { retry: Retry::FreshSecrets, message },
        // A certificate may be renewed.
        Fault::Refused(_) => SinkError::later(message),
    }
}

/// Whether it is one subject, and none of the server's own.
fn literal(subject: &str) -> Result<(), &'static str> {
    if subject.starts_with('$') {
        return Err("subjects that begin with $ are those of the server itself");
    }
    let odd = |token: &str| token.is_empty() || token == "*" || token == ">";
    if subject.split('.').any(odd) || subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a subject is made of tokens with dots between them, without white space and wildcards");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::notification;

    #[test]
    fn an_event_is_a_message_with_headers_or_one_document() {
        let of = |spec: &str| {
            let spec = serde_json::from_str(spec).expect("a spec");
            let sink = Nats::new(&spec).unwrap_or_else(|error| unreachable!("{error}"));
            sink.message(&Publication::of(&notification())).expect("a message")
        };
        let get = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let (headers, body) = of(r#"{"servers": ["h"], "subject": "a"}"#);
        assert_eq!(get(&headers, MSG_ID).as_deref(), Some("0123456789abcdef0123-tell"));
        assert_eq!(get(&headers, "ce-signalboxhops").as_deref(), Some("3"));
        assert_eq!((get(&headers, CONTENT_TYPE).as_deref(), body[0]), (Some("application/json"), b'{'));
        let (headers, _) = of(r#"{"servers": ["h"], "mode": "Structured"}"#);
        assert_eq!((get(&headers, CONTENT_TYPE).as_deref(), get(&headers, "ce-id")), (Some(STRUCTURED), None));
        assert!(get(&headers, MSG_ID).is_some());
    }

    #[test]
    fn an_event_leads_to_no_subject_of_the_server_and_to_no_wildcard() {
        for subject in ["orders.paid", "a", "a.b-c_d.e"] {
            assert_eq!(literal(subject), Ok(()), "{subject}");
        }
        for subject in ["$JS.API.STREAM.DELETE.JOBS", "a.*", ">", "a..b", "", "a b", "a.\n"] {
            assert!(literal(subject).is_err(), "{subject}");
        }
    }
}
