//! A connection as a client.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::timeout,
};
use tokio_util::{bytes::BytesMut, codec::FramedRead};

use super::{
    Error, Qos, Version, codec,
    frames::Frames,
    packet::{Incoming, Outgoing},
};

/// How long the broker may take to answer CONNECT, and to take what is sent. Brokers that ask others for credentials take a second or two.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a packet beside the payload: fixed header 5, topic 64 KiB, properties of as much again ([`codec::MAX_PROPERTIES`]).
const AROUND: usize = 128 << 10;

/// What CONNECT says.
#[derive(Clone, Copy)]
pub struct Connect<'a> {
    /// Names the session at the broker.
    pub client_id: &'a str,
    /// User name and password.
    pub login: Option<(&'a str, &'a str)>,
    /// For how many seconds the broker keeps the session when there is no connection (MQTT 3.1.1: for as long as it will); without it, a new session begins
    /// and ends with the connection.
    pub session: Option<u32>,
    /// After how many seconds without a packet the broker takes us for gone, half as much again.
    pub keep_alive: u16,
    /// How many messages of QoS 1 and 2 the broker may send that are not acknowledged. MQTT 3.1.1 leaves it to the broker.
    pub in_flight: u16,
    /// Bytes that a message's payload may have.
    pub max_payload: usize,
}

/// What the broker answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The broker still has the session, with what was subscribed to.
    pub session: bool,
    /// How often something must be sent.
    pub keep_alive: Duration,
    /// What may be sent.
    pub limits: Limits,
}

/// What a broker takes of what is published. MQTT 3.1.1 has no way to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages of QoS 1 and 2 that are not acknowledged: 1 or more.
    pub in_flight: u16,
    /// Bytes of a packet.
    pub packet: Option<u32>,
    /// The highest QoS.
    pub qos: Qos,
    /// Whether messages may be retained.
    pub retain: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: u16::MAX, packet: None, qos: Qos::ExactlyOnce, retain: true }
    }
}

/// A connection. Dropped, it is closed without a word: the broker keeps the session.
#[derive(Debug)]
pub struct Client<S> {
    version: Version,
    packets: FramedRead<ReadHalf<S>, Frames>,
    out: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Client<S> {
    /// Says who we are, and waits for the broker's answer.
    ///
    /// # Errors
    /// When the broker does not want us, or does not answer in 20 s.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the connection is closed.
    pub async fn connect(stream: S, version: Version, connect: Connect<'_>) -> Result<(Self, Greeting), Error> {
        let (read, out) = tokio::io::split(stream);
        let packets = FramedRead::new(read, Frames::new(connect.max_payload.saturating_add(AROUND)));
        let mut client = Self { version, packets, out };
        let mut bytes = BytesMut::new();
        codec::write_connect(version, &connect, &mut bytes)?;
        let answer = async {
            client.flush(&bytes).await?;
            let frame = client.packets.next().await.ok_or(Error::Closed)??;
            codec::read_connack(version, frame)
        };
        let answer = timeout(PATIENCE, answer).await.unwrap_or(Err(Error::Silent(PATIENCE)));
        let (session, keep_alive, limits) = answer?;
        let keep_alive = Duration::from_secs(keep_alive.unwrap_or(connect.keep_alive).into());
        Ok((client, Greeting { session, keep_alive, limits }))
    }

    /// The next packet.
    ///
    /// # Errors
    /// When the connection ended, or what comes is no MQTT.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, nothing is lost.
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        let frame = self.packets.next().await.ok_or(Error::Closed)??;
        codec::read(self.version, frame)
    }

    /// Sends packets, in order.
    ///
    /// # Errors
    /// When one cannot be sent, the connection ended, or the broker takes nothing for 20 s.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, a packet may have been sent in part: the connection is of no use any more.
    pub async fn send(&mut self, packets: impl IntoIterator<Item = Outgoing>) -> Result<(), Error> {
        let mut bytes = BytesMut::new();
        for packet in packets {
            codec::write(self.version, packet, &mut bytes)?;
        }
        timeout(PATIENCE, self.flush(&bytes)).await.unwrap_or(Err(Error::Silent(PATIENCE)))
    }

    async fn flush(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).await?;
        Ok(self.out.flush().await?)
    }
}
