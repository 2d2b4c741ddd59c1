//! A connection to the broker that several deliveries share: each waits for its own acknowledgement.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::super::{REQUEST_TIMEOUT, Retry, SinkError, broker::Kept};
use crate::net::{
    Wire,
    mqtt::{Client, Error, Greeting, Incoming, Limits, Message, Outgoing, Words},
};

/// Deliveries that wait for their turn, beside those that wait for an acknowledgement.
const WAITING: usize = 16;
/// Messages that are not acknowledged, at most: of some KiB each, 4 MiB at most. Brokers may want fewer.
const IN_FLIGHT: u16 = 16;

/// What became of a message: taken, perhaps with something to say about it.
type Answer = Result<Option<Words>, SinkError>;

/// A connection. Dropped, it is closed.
pub(super) struct Session {
    requests: mpsc::Sender<Request>,
    limits: Limits,
    _serving: AbortOnDropHandle<()>,
}

struct Request {
    message: Box<Message>,
    answer: oneshot::Sender<Answer>,
}

impl Session {
    pub(super) fn begin(client: Client<Box<dyn Wire>>, greeting: Greeting) -> Self {
        let (requests, asked) = mpsc::channel(WAITING);
        let Greeting { keep_alive, limits, .. } = greeting;
        let keep_alive = if keep_alive.is_zero() { Duration::from_secs(super::KEEP_ALIVE.into()) } else { keep_alive };
        let in_flight = usize::from(limits.in_flight.min(IN_FLIGHT));
        let serving =
            tokio::spawn(serve(Line { client, keep_alive, in_flight, last: 0, waiting: HashMap::new() }, asked));
        Self { requests, limits, _serving: AbortOnDropHandle::new(serving) }
    }

    /// What the broker takes.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Publishes with QoS 1, and waits until the broker has it.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the message may or may not have been sent.
    pub(super) async fn publish(&self, message: Message) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ended = || SinkError::later("the connection to the broker ended before the message was sent");
        self.requests.send(Request { message: Box::new(message), answer }).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Kept for Session {
    fn is_over(&self) -> bool {
        self.requests.is_closed()
    }
}

struct Line {
    client: Client<Box<dyn Wire>>,
    keep_alive: Duration,
    /// Messages that may be on their way.
    in_flight: usize,
    /// The last packet identifier.
    last: u16,
    /// Who waits for which, and since when.
    waiting: HashMap<u16, (Instant, oneshot::Sender<Answer>)>,
}

/// Serves until nobody can ask any more, or the connection ends.
async fn serve(mut line: Line, mut requests: mpsc::Receiver<Request>) {
    let Err(error) = line.run(&mut requests).await else {
        // How it ends changes nothing.
        let _ = line.client.send([Outgoing::Disconnect]).await;
        return;
    };
    let error = failed(&error);
    tracing::debug!(%error, "the connection of a sink to its broker ended");
    // Whoever asks from now on makes another one; those who wait hear why.
    requests.close();
    for (_, (_, answer)) in line.waiting {
        let _ = answer.send(Err(error.clone()));
    }
    while let Ok(request) = requests.try_recv() {
        let _ = request.answer.send(Err(error.clone()));
    }
}

impl Line {
    async fn run(&mut self, requests: &mut mpsc::Receiver<Request>) -> Result<(), Error> {
        let (mut heard, mut ping_at) = (Instant::now(), Instant::now() + self.keep_alive / 2);
        loop {
            tokio::select! {
                request = requests.recv(), if self.waiting.len() < self.in_flight => {
                    let Some(Request { message, answer }) = request else { return Ok(()) };
                    // Who has given up meanwhile wants nothing sent.
                    if !answer.is_closed() {
                        let id = self.free();
                        match self.client.send([Outgoing::Publish(id, message)]).await {
                            // Nothing was sent, and the others go on.
                            Err(error @ Error::Unsendable(_)) => drop(answer.send(Err(failed(&error)))),
                            sent => {
                                self.waiting.insert(id, (Instant::now(), answer));
                                sent?;
                            }
                        }
                    }
                }
                packet = self.client.next() => {
                    heard = Instant::now();
                    if let Incoming::Taken(id, taken) = packet?
                        && let Some((_, answer)) = self.waiting.remove(&id)
                    {
                        let _ = answer.send(taken.map_err(|words| refused(&words)));
                    }
                }
                () = sleep_until(ping_at) => {
                    if heard.elapsed() > self.keep_alive {
                        return Err(Error::Silent(self.keep_alive));
                    }
                    // Whoever waited for it may have given up long ago, and it would take the place of others for ever.
                    if self.waiting.values().any(|(since, _)| since.elapsed() > REQUEST_TIMEOUT) {
                        return Err(Error::Silent(REQUEST_TIMEOUT));
                    }
                    ping_at = Instant::now() + self.keep_alive / 2;
                    self.client.send([Outgoing::Ping]).await?;
                }
            }
        }
    }

    /// A packet identifier that no message on its way has.
    fn free(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

/// Why the broker took no message.
fn refused(words: &Words) -> SinkError {
    let message = format!("the broker refuses the message: {words}");
    match words.code.as_str() {
        "not authorized" => SinkError::never(format!("{message}: let the user publish to the topic")),
        "topic name invalid" | "payload format invalid" => SinkError::never(message),
        _ => SinkError::later(message),
    }
}

/// What an end of the connection means for what was on its way, or an attempt at one for what was to be sent.
pub(super) fn failed(error: &Error) -> SinkError {
    let message = error.to_string();
    match error {
        Error::Unauthenticated(_) => SinkError { retry: Retry::FreshSecrets, message },
        Error::Refused(words) => match words.code.as_str() {
            code if code.contains("protocol version") => SinkError::never(format!(
                "{message}: set mqtt.protocol to a version of MQTT that the broker speaks; Mosquitto before 1.6 speaks V311 only"
            )),
            "client identifier not valid" | "bad client id" => {
                SinkError::never(format!("{message}: set mqtt.clientId to one it takes"))
            }
            "banned" => SinkError::never(message),
            _ => SinkError::later(message),
        },
        Error::Ended(words) if words.code == "session taken over" => SinkError::later(format!(
            "{message}: another client has the same identifier: give one of them another mqtt.clientId"
        )),
        Error::Malformed(_) => {
            SinkError::later(format!("{message}: look whether the port is that of MQTT, and whether it wants TLS"))
        }
        Error::Unsendable(_) => SinkError::never(message),
        Error::Ended(_) | Error::Io(_) | Error::Closed | Error::Silent(_) => SinkError::later(message),
    }
}
