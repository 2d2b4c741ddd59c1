//! `nats`: subjects of NATS, and streams of JetStream.

use std::{collections::VecDeque, convert::Infallible, error::Error as _, net::SocketAddr, time::Duration};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event as Told, ServerAddr, ServerError,
    jetstream::{
        self, AckKind, Context,
        consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    },
};
use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, interval, interval_at, timeout},
};

use super::{
    feed::{Feed, Taken},
    kind::{kept, kept_faults, type_fault},
    link::Down,
};
use crate::{
    api::{DEFAULT_NATS_TYPE, JetStream, NatsCore, NatsDeliverPolicy, NatsSource, Tls, address},
    event::{cloud_events::attribute, message::Message},
    telemetry::Rejection,
};

/// The port of servers.
const PORT: u16 = 4222;
/// How long one server may take until it has taken the credentials.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one address of a server may take, where it has several; all of them have this time.
const EACH: Duration = Duration::from_secs(3);
/// How long the server may take to answer what is asked about streams and consumers.
const ANSWER: Duration = Duration::from_secs(10);
/// Messages that are taken together. A server takes messages of 1 MiB, unless it is told otherwise: 64 MiB at most.
const BATCH: usize = 64;
/// Bytes that JetStream is asked for at once: one message of the largest size, with what the server counts beside its body.
const BYTES: usize = 65 << 20;
/// Bytes of a subject that are kept while others are stored, but for the last message: what comes then is not taken.
const HELD: usize = 16 << 20;
/// Messages of a subject that are kept so.
const HELD_MESSAGES: usize = 16_384;
/// For how long the server keeps what asks for messages; it is asked anew then.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server says that it is there while it has nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often the server is asked how much waits while nothing comes.
const LAG: Duration = Duration::from_secs(30);
/// What the server has told and was not looked at yet; more of it is left out, but for the end of the connection, which ends the channel too.
const TOLD: usize = 64;
/// When the server removes a consumer that was made here and that nobody asks: 30 days.
const FORGOTTEN: Duration = Duration::from_hours(720);
/// The header by which publishers tell JetStream that a message is the same.
const MSG_ID: &str = "Nats-Msg-Id";

/// What the schema cannot tell.
pub(super) fn faults(spec: &NatsSource) -> Vec<String> {
    let mut faults = Vec::new();
    for server in &spec.servers {
        faults.extend(address(server, PORT).err().map(|fault| format!("nats.servers: {fault}")));
    }
    if spec.servers.is_empty() {
        faults.push("nats.servers: at least one must be named".to_owned());
    }
    if let Some(tls) = &spec.tls {
        tls.faults("nats.tls", &mut faults);
    }
    if spec.core.is_some() == spec.jet_stream.is_some() {
        faults.push("nats: exactly one of core and jetStream must be set".to_owned());
    }
    let wait = spec.jet_stream.as_ref().and_then(|of| of.ack_wait);
    if wait.is_some_and(|wait| !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&wait.get())) {
        faults.push("nats.jetStream.ackWait: must be 1s to 1h".to_owned());
    }
    faults.extend(type_fault("nats.type", spec.type_.as_deref(), DEFAULT_NATS_TYPE));
    kept_faults("nats.headers", &spec.headers, &mut faults);
    faults
}

/// Connects, and takes messages until the connection breaks.
pub(super) async fn run(spec: &NatsSource, feed: &Feed) -> Result<Infallible, Down> {
    let (client, server, mut told) = connect(spec, feed).await?;
    let work = async {
        match (&spec.core, &spec.jet_stream) {
            (Some(core), _) => subscribe(spec, core, feed, &client, &server).await,
            (None, Some(of)) => consume(spec, of, feed, &client, &server).await,
            (None, None) => Err(Down::refused("exactly one of core and jetStream must be set")),
        }
    };
    tokio::select! {
        ended = work => ended,
        down = broken(&mut told, feed, &server) => Err(down),
    }
}

// === Connecting ===

async fn connect(spec: &NatsSource, feed: &Feed) -> Result<(Client, String, mpsc::Receiver<Told>), Down> {
    let mut last = Down::refused("nats.servers: at least one must be named");
    for server in &spec.servers {
        match connect_to(server, spec, feed).await {
            Ok((client, told)) => return Ok((client, server.clone(), told)),
            Err(down) => last = down,
        }
    }
    Err(last)
}

async fn connect_to(server: &str, spec: &NatsSource, feed: &Feed) -> Result<(Client, mpsc::Receiver<Told>), Down> {
    let (host, port) = address(server, PORT).map_err(|fault| Down::refused(fault.to_string()))?;
    let addresses = feed.resolve(&host, port).await?;
    // Beyond what was checked it connects to nothing: not to other addresses of the name, nor to servers that the server tells of. A connection
    // that breaks is given up: the next begins with the name.
    let servers: Vec<ServerAddr> = addresses.iter().filter_map(|address| url(address).parse().ok()).collect();
    let (each, all) = patience(servers.len());
    let (tell, told) = mpsc::channel(TOLD);
    let mut options = ConnectOptions::new()
        .name(format!("signalbox {}/{}", feed.namespace, feed.name))
        .ignore_discovered_servers()
        .retain_servers_order()
        .max_reconnects(servers.len())
        .connection_timeout(each)
        .request_timeout(Some(ANSWER))
        .subscription_capacity(BATCH * 16)
        .event_callback(move |event| {
            let _ = tell.try_send(event);
            std::future::ready(())
        });
    options = match &spec.tls {
        Some(tls) => options.require_tls(true).tls_client_config(feed.tls(tls, &host)?),
        // The server may ask for it.
        None => match feed.tls(&Tls::default(), &host) {
            Ok(config) => options.tls_client_config(config),
            Err(_) => options,
        },
    };
    options = authenticated(options, spec, feed)?;
    let connecting = async_nats::connect_with_options(servers, options);
    match timeout(all, connecting).await {
        Ok(Ok(client)) => Ok((client, told)),
        Ok(Err(error)) => Err(refusal(server, &error)),
        Err(_) => Err(Down::unreachable(format!("{server}: no answer within {} s", all.as_secs()))),
    }
}

/// How long one of so many addresses may take, and all of them.
fn patience(addresses: usize) -> (Duration, Duration) {
    if addresses > 1 {
        (EACH, CONNECT.max(EACH * u32::try_from(addresses).unwrap_or(u32::MAX)))
    } else {
        (CONNECT, CONNECT)
    }
}

fn url(address: &SocketAddr) -> String {
    format!("nats://{address}")
}

fn authenticated(options: ConnectOptions, spec: &NatsSource, feed: &Feed) -> Result<ConnectOptions, Down> {
    let Some(auth) = &spec.auth else { return Ok(options) };
    if let Some(login) = &auth.login {
        let password = feed.secret(&login.password_secret_ref)?;
        return Ok(options.user_and_password(login.username.clone(), password.to_owned()));
    }
    if let Some(key) = &auth.token_secret_ref {
        return Ok(options.token(feed.secret(key)?.to_owned()));
    }
    if let Some(key) = &auth.nkey_secret_ref {
        return Ok(options.nkey(feed.secret(key)?.trim().to_owned()));
    }
    let Some(key) = &auth.credentials_secret_ref else { return Ok(options) };
    let wrong = format!("key {} of Secret {} is no credentials file of NATS", key.key, key.name);
    options.credentials(feed.secret(key)?).map_err(|_| Down::unauthenticated(wrong))
}

fn refusal(server: &str, error: &async_nats::ConnectError) -> Down {
    let why = error.source().map_or_else(|| error.to_string(), |source| format!("{}: {source}", error.kind()));
    let message = format!("{server}: {why}");
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Down::unauthenticated(message),
        ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => Down::refused(message),
        _ => Down::unreachable(message),
    }
}

/// Waits until the connection breaks, or the server refuses something.
async fn broken(told: &mut mpsc::Receiver<Told>, feed: &Feed, server: &str) -> Down {
    let mut said = String::new();
    loop {
        match told.recv().await {
            Some(Told::ServerError(error)) => {
                let text = error.to_string();
                if text.to_ascii_lowercase().contains("permissions violation") {
                    return Down::refused(format!("{server}: {text}: give the user this right"));
                }
                if matches!(error, ServerError::AuthorizationViolation) || text.to_ascii_lowercase().contains("auth") {
                    return Down::unauthenticated(format!("{server}: {text}"));
                }
                said = format!(": {text}");
            }
            // What was published meanwhile is lost: the client has no room for it.
            Some(Told::SlowConsumer(_)) => feed.rejected(Rejection::Unavailable),
            Some(Told::Disconnected | Told::Closed) | None => {
                return Down::unreachable(format!("{server}: the connection broke{said}"));
            }
            Some(_) => {}
        }
    }
}

// === Core ===

async fn subscribe(
    spec: &NatsSource,
    core: &NatsCore,
    feed: &Feed,
    client: &Client,
    server: &str,
) -> Result<Infallible, Down> {
    let failed =
        |error: &dyn std::fmt::Display| Down::refused(format!("{server}: subscribe to {}: {error}", core.subject));
    let subscribed = match &core.queue_group {
        Some(group) => client.queue_subscribe(core.subject.clone(), group.clone()).await,
        None => client.subscribe(core.subject.clone()).await,
    };
    let mut subscription = subscribed.map_err(|error| failed(&error))?;
    client.flush().await.map_err(|error| failed(&error))?;
    feed.connected(format!(
        "connected to {server}, subscribed to {}: what is published while there is no connection is lost",
        core.subject
    ));
    let (mut held, ended) = (Held::default(), || Down::unreachable(format!("{server}: the subscription ended")));
    loop {
        if held.messages.is_empty() {
            held.keep(subscription.next().await.ok_or_else(ended)?);
        }
        let chunk = held.take();
        let messages: Vec<Message<'_>> = chunk.iter().map(|one| message(spec, feed.source(), one, None)).collect();
        let mut taking = std::pin::pin!(feed.take(&messages));
        // It is read all the while, so that what waits has a bound in bytes.
        loop {
            tokio::select! {
                biased;
                taken = &mut taking => break drop(taken?),
                next = subscription.next() => if !held.keep(next.ok_or_else(ended)?) {
                    feed.rejected(Rejection::Unavailable);
                },
            }
        }
    }
}

/// What came while others were stored.
#[derive(Default)]
struct Held {
    messages: VecDeque<async_nats::Message>,
    bytes: usize,
}

impl Held {
    /// Whether there was room for it.
    fn keep(&mut self, message: async_nats::Message) -> bool {
        let room = self.bytes < HELD && self.messages.len() < HELD_MESSAGES;
        if room {
            self.bytes += message.length;
            self.messages.push_back(message);
        }
        room
    }

    /// The first of them.
    fn take(&mut self) -> Vec<async_nats::Message> {
        let count = self.messages.len().min(BATCH);
        let taken: Vec<_> = self.messages.drain(..count).collect();
        self.bytes -= taken.iter().map(|message| message.length).sum::<usize>();
        taken
    }
}

// === JetStream ===

async fn consume(
    spec: &NatsSource,
    of: &JetStream,
    feed: &Feed,
    client: &Client,
    server: &str,
) -> Result<Infallible, Down> {
    let mut context = match &of.domain {
        Some(domain) => jetstream::with_domain(client.clone(), domain),
        None => jetstream::new(client.clone()),
    };
    context.set_timeout(ANSWER);
    let consumer = consumer(of, feed, &context, server).await?;
    let info = consumer.cached_info();
    let (name, ack_wait) = (info.name.clone(), info.config.ack_wait);
    feed.connected(format!("connected to {server}, takes from stream {} by consumer {name}", of.stream));
    feed.lag(info.num_pending);
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Down::unreachable(format!("{server}: {what} consumer {name} of stream {}: {error}", of.stream))
    };
    // One that has a limit of its own refuses to be asked for more.
    let bytes =
        usize::try_from(info.config.max_bytes).ok().filter(|limit| *limit > 0).map_or(BYTES, |limit| limit.min(BYTES));
    let pulling = consumer.stream().max_messages_per_batch(BATCH).max_bytes_per_batch(bytes);
    let pulling = pulling.expires(EXPIRES).heartbeat(HEARTBEAT);
    let stream = pulling.messages().await.map_err(|error| failed("ask", &error))?;
    let mut chunks = stream.ready_chunks(BATCH);
    let mut look = interval_at(Instant::now() + LAG, LAG);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk.ok_or_else(|| failed("read", &"it ended"))?,
            _ = look.tick() => {
                let info = consumer.get_info().await.map_err(|error| failed("look at", &error))?;
                feed.lag(info.num_pending);
                continue;
            }
        };
        let (mut fetched, mut ended) = (Vec::with_capacity(chunk.len()), None);
        for one in chunk {
            match one {
                Ok(one) => fetched.push(one),
                Err(error) => ended = Some(failed("read", &error)),
            }
        }
        store(spec, feed, &fetched, ack_wait).await?;
        if let Some(down) = ended {
            return Err(down);
        }
    }
}

/// The consumer that is named, or the one of this EventSource, made if it is not there.
async fn consumer(
    of: &JetStream,
    feed: &Feed,
    context: &Context,
    server: &str,
) -> Result<Consumer<pull::Config>, Down> {
    let failed = |what: String, error: &dyn std::fmt::Display| Down::refused(format!("{server}: {what}: {error}"));
    let what = || format!("look for stream {}", of.stream);
    let stream = context.get_stream(&of.stream).await.map_err(|error| failed(what(), &error))?;
    let consumer = match &of.consumer {
        Some(name) => {
            let found = stream.get_consumer::<pull::Config>(name).await;
            found.map_err(|error| {
                let what =
                    format!("look for consumer {name} of stream {} (it must exist, and be a pull consumer)", of.stream);
                failed(what, &error)
            })?
        }
        None => {
            let mut config = config(of, feed);
            // Where one that is there began cannot be changed, and does not matter to it any more.
            if let Ok(known) = stream.consumer_info(feed.identity()).await {
                config.deliver_policy = known.config.deliver_policy;
            }
            let made = stream.create_consumer(config).await;
            made.map_err(|error| failed(format!("make consumer {} of stream {}", feed.identity(), of.stream), &error))?
        }
    };
    let info = consumer.cached_info();
    if info.config.ack_policy != AckPolicy::Explicit {
        let (name, stream) = (&info.name, &of.stream);
        return Err(Down::refused(format!(
            "{server}: consumer {name} of stream {stream} must have ack policy explicit, or what is lost on its way is not sent again"
        )));
    }
    Ok(consumer)
}

fn config(of: &JetStream, feed: &Feed) -> pull::Config {
    pull::Config {
        durable_name: Some(feed.identity()),
        description: Some(format!("EventSource {}/{} of signalbox", feed.namespace, feed.name)),
        deliver_policy: match of.deliver_policy.unwrap_or_default() {
            NatsDeliverPolicy::New => DeliverPolicy::New,
            NatsDeliverPolicy::All => DeliverPolicy::All,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: of.ack_wait.map_or(Duration::from_secs(30), |wait| wait.get()),
        max_ack_pending: of.max_ack_pending.unwrap_or(256).into(),
        filter_subjects: of.filter_subjects.clone(),
        inactive_threshold: FORGOTTEN,
        ..pull::Config::default()
    }
}

/// Takes messages and acknowledges them. As long as the log has no room, the server is told that they are worked on.
async fn store(spec: &NatsSource, feed: &Feed, fetched: &[jetstream::Message], ack_wait: Duration) -> Result<(), Down> {
    let info = |one: &jetstream::Message| one.info().ok().map(Place::of);
    let places: Vec<Option<Place>> = fetched.iter().map(info).collect();
    let messages: Vec<Message<'_>> =
        fetched.iter().zip(&places).map(|(one, place)| message(spec, feed.source(), one, place.as_ref())).collect();
    let mut taking = std::pin::pin!(feed.take(&messages));
    let half = (ack_wait / 2).max(Duration::from_millis(100));
    let mut progress = interval(half);
    progress.reset();
    let taken = loop {
        tokio::select! {
            taken = &mut taking => break taken?,
            _ = progress.tick() => for one in fetched {
                acknowledge(one, AckKind::Progress).await?;
            },
        }
    };
    for (one, taken) in fetched.iter().zip(taken) {
        acknowledge(one, if taken == Taken::Stored { AckKind::Ack } else { AckKind::Term }).await?;
    }
    if let Some(place) = places.last().and_then(Option::as_ref) {
        feed.lag(place.pending);
    }
    Ok(())
}

/// One that does not reach the server is sent again, and known.
async fn acknowledge(one: &jetstream::Message, kind: AckKind) -> Result<(), Down> {
    one.ack_with(kind).await.map_err(|error| Down::unreachable(format!("acknowledge a message: {error}")))
}

/// Where JetStream keeps a message.
struct Place {
    stream: String,
    sequence: u64,
    published: Option<Timestamp>,
    pending: u64,
}

impl Place {
    fn of(info: jetstream::message::Info<'_>) -> Self {
        let published = Timestamp::from_nanosecond(info.published.unix_timestamp_nanos()).ok();
        Self { stream: info.stream.to_owned(), sequence: info.stream_sequence, published, pending: info.pending }
    }

    /// A stream that was made anew counts from 1 again.
    fn id(&self) -> String {
        format!("{}/{}/{}", self.stream, self.sequence, self.published.map_or(0, |published| published.as_second()))
    }
}

fn message<'m>(
    spec: &'m NatsSource,
    source: String,
    one: &'m async_nats::Message,
    place: Option<&Place>,
) -> Message<'m> {
    let headers: Vec<(String, String)> =
        one.headers.iter().flat_map(|headers| headers.iter()).flat_map(pairs).collect();
    let mut extensions: Vec<(String, Value)> = vec![("natssubject".to_owned(), one.subject.as_str().into())];
    if let Some(place) = place {
        extensions.push(("natsstream".to_owned(), place.stream.as_str().into()));
        extensions.push(("natssequence".to_owned(), place.sequence.into()));
    }
    // Within its window JetStream keeps one of those with the same, and after it others: it tells no message by itself.
    let msg_id = headers.iter().find(|(name, value)| name.eq_ignore_ascii_case(MSG_ID) && !value.is_empty());
    let msg_id = msg_id.filter(|(_, id)| attribute(MSG_ID, id).is_ok());
    extensions.extend(msg_id.map(|(_, id)| ("natsmsgid".to_owned(), id.as_str().into())));
    extensions.extend(kept(&spec.headers, &headers));
    Message {
        // What core NATS sends does not come again.
        id: place.map(Place::id),
        told: None,
        source,
        type_: spec.type_.as_deref().unwrap_or(DEFAULT_NATS_TYPE),
        subject: Some(one.subject.to_string()),
        time: place.and_then(|place| place.published),
        content_type: None,
        headers,
        extensions,
        body: &one.payload,
    }
}

fn pairs<'h>(
    (name, values): (&'h async_nats::HeaderName, &'h Vec<async_nats::HeaderValue>),
) -> impl Iterator<Item = (String, String)> + 'h {
    values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn received(headers: &[(&str, &str)], length: usize) -> async_nats::Message {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let (subject, payload) = ("jobs.run".into(), "1".into());
        let (reply, status, description) = (None, None, None);
        async_nats::Message { subject, reply, payload, headers: Some(map), status, description, length }
    }

    #[test]
    fn what_waits_while_others_are_stored_has_a_bound_in_bytes() {
        let mut held = Held::default();
        let kept = (0..20).filter(|_| held.keep(received(&[], 1 << 20))).count();
        assert_eq!((kept, held.bytes), (16, HELD));
        assert_eq!((held.take().len(), held.bytes), (16, 0));
        assert!(held.keep(received(&[], 1)));
    }

    #[test]
    fn many_small_messages_are_bounded_too() {
        let mut held = Held::default();
        let kept = (0..=HELD_MESSAGES).filter(|_| held.keep(received(&[], 1))).count();
        assert_eq!((kept, held.take().len()), (HELD_MESSAGES, BATCH));
    }

    #[test]
    fn each_address_has_its_time() {
        assert_eq!(patience(1), (CONNECT, CONNECT));
        assert_eq!(patience(2), (EACH, CONNECT));
        assert_eq!(patience(7), (EACH, Duration::from_secs(21)));
    }

    #[test]
    fn a_message_is_told_by_its_place_whatever_its_publisher_calls_it() {
        let spec: NatsSource =
            serde_json::from_value(serde_json::json!({"servers": ["nats:4222"], "jetStream": {"stream": "JOBS"}}))
                .expect("a spec");
        let place = Place { stream: "JOBS".to_owned(), sequence: 7, published: None, pending: 0 };
        let told = |id: &str| {
            let one = received(&[(MSG_ID, id)], 1);
            let message = message(&spec, "/here".to_owned(), &one, Some(&place));
            let msg_id = message.extensions.iter().find(|(name, _)| name == "natsmsgid");
            (message.id.clone(), msg_id.map(|(_, value)| value.clone()))
        };
        assert_eq!(told("j-1"), (Some("JOBS/7/0".to_owned()), Some("j-1".into())));
        assert_eq!(
            told(&"x".repeat(9_000)),
            (Some("JOBS/7/0".to_owned()), None),
            "no attribute, and no reason to lose it"
        );
    }
}
