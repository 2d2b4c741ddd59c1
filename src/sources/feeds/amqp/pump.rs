//! Bytes between the stream and the client, no more messages than memory is meant for.
//!
//! A prefetch bounds how many messages are on their way, not how large they are, and the client has each in memory before anybody can look at it. So the
//! bodies that go by are added up here, and while too much of them is not settled nothing more is read.

use std::{collections::HashMap, io, sync::Arc};

use lapin::types::ChannelId;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, copy, split},
    sync::Notify,
};

use crate::net::amqp::carried;

/// Bytes of bodies that are not settled: nothing more is read while there are more, and a message that can be settled.
const MAX_HELD: usize = 16 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 32 << 10;
/// Bytes before a frame's payload: type, channel, length.
const HEAD: usize = 7;
/// The type of a frame that holds a part of a body.
const BODY: u8 = 3;

/// What is in memory of messages that came and are not settled, over all channels of a connection.
#[derive(Debug, Default)]
pub(super) struct Held {
    channels: Mutex<HashMap<ChannelId, Count>>,
    settled: Notify,
}

/// The same of one channel.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    bytes: usize,
    messages: usize,
}

impl Held {
    /// Bytes of bodies went to the client. Those of a channel that nobody holds are thrown away there.
    fn passed(&self, channel: ChannelId, bytes: usize) {
        if let Some(count) = self.channels.lock().get_mut(&channel) {
            count.bytes += bytes;
        }
    }

    /// Too much is there. Without a whole message it is one that is larger than all together may be: the rest of it must come.
    fn is_full(&self) -> bool {
        let channels = self.channels.lock();
        let bytes: usize = channels.values().map(|count| count.bytes).sum();
        bytes > MAX_HELD && channels.values().any(|count| count.messages > 0)
    }

    async fn room(&self) {
        while self.is_full() {
            self.settled.notified().await;
        }
    }
}

/// What came over one channel and is not settled. Dropped, all of it is.
#[derive(Debug)]
pub(super) struct InHand {
    held: Arc<Held>,
    channel: ChannelId,
}

impl InHand {
    /// Nothing yet.
    pub(super) fn new(held: &Arc<Held>, channel: ChannelId) -> Self {
        held.channels.lock().insert(channel, Count::default());
        Self { held: Arc::clone(held), channel }
    }

    /// A message is there as a whole.
    pub(super) fn came(&self) {
        if let Some(count) = self.held.channels.lock().get_mut(&self.channel) {
            count.messages += 1;
        }
    }

    /// A message with a body of so many bytes is settled.
    pub(super) fn settled(&self, bytes: usize) {
        if let Some(count) = self.held.channels.lock().get_mut(&self.channel) {
            count.bytes = count.bytes.saturating_sub(bytes);
            count.messages = count.messages.saturating_sub(1);
        }
        self.held.settled.notify_one();
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.held.channels.lock().remove(&self.channel);
        self.held.settled.notify_one();
    }
}

/// Goes on until either side ends.
///
/// # Errors
/// Those of the streams.
///
/// # Cancel safety
/// Dropped, bytes may be lost: the streams are of no use any more.
pub(super) async fn pump(
    stream: impl AsyncRead + AsyncWrite,
    client: &mut DuplexStream,
    held: &Held,
) -> io::Result<()> {
    let ((mut from_broker, mut to_broker), (mut from_client, mut to_client)) = (split(stream), split(client));
    let inward = async {
        let (mut frames, mut buffer) = (Frames::default(), vec![0; CHUNK]);
        loop {
            held.room().await;
            let count = from_broker.read(&mut buffer).await?;
            if count == 0 {
                return io::Result::Ok(());
            }
            frames.bodies(&buffer[..count], |channel, bytes| held.passed(channel, bytes));
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    let outward = async { copy(&mut from_client, &mut to_broker).await.map(drop) };
    carried(inward, outward).await
}

/// Where in the frames the bytes are.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are known.
    known: usize,
    /// Bytes of the payload, and the end of the frame, that are still to come.
    left: usize,
}

impl Frames {
    /// Tells of which channels how many of these bytes, which follow those before, are parts of bodies.
    fn bodies(&mut self, mut bytes: &[u8], mut tell: impl FnMut(ChannelId, usize)) {
        while let Some(first) = bytes.first() {
            if self.known < HEAD {
                self.head[self.known] = *first;
                self.known += 1;
                bytes = &bytes[1..];
                if self.known == HEAD {
                    let [_, _, _, length @ ..] = self.head;
                    self.left = u32::from_be_bytes(length) as usize + 1;
                }
                continue;
            }
            let here = self.left.min(bytes.len());
            self.left -= here;
            bytes = &bytes[here..];
            let ends = self.left == 0;
            if self.head[0] == BODY {
                let [_, high, low, ..] = self.head;
                tell(u16::from_be_bytes([high, low]), here - usize::from(ends));
            }
            if ends {
                self.known = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Of channel 1.
    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        frame_of(1, kind, payload)
    }

    fn frame_of(channel: u8, kind: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![kind, 0, channel];
        bytes.extend((payload as u32).to_be_bytes());
        bytes.extend(vec![3; payload]);
        bytes.push(0xce);
        bytes
    }

    #[test]
    fn bodies_are_as_many_bytes_however_they_come() {
        let bytes =
            [frame(1, 30), frame(2, 14), frame(BODY, 1_000), frame_of(2, BODY, 40), frame(8, 0), frame(BODY, 7)]
                .concat();
        for part in [1, 2, 6, 7, 8, 100, bytes.len()] {
            let (mut frames, mut bodies) = (Frames::default(), [0; 3]);
            for part in bytes.chunks(part) {
                frames.bodies(part, |channel, bytes| bodies[usize::from(channel)] += bytes);
            }
            assert_eq!(bodies, [0, 1_007, 40], "{part}");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_while_there_is_too_much_and_something_to_settle() {
        let held = Arc::<Held>::default();
        let hand = InHand::new(&held, 1);
        held.passed(1, MAX_HELD + 1);
        held.room().now_or_never().expect("the rest of a message must come");
        hand.came();
        assert!(held.room().now_or_never().is_none());
        hand.settled(1);
        held.room().now_or_never().expect("there is room");
    }

    #[tokio::test]
    async fn what_a_channel_had_in_hand_that_is_closed_takes_no_room_and_neither_does_what_still_comes() {
        let held = Arc::<Held>::default();
        let (hand, other) = (InHand::new(&held, 1), InHand::new(&held, 2));
        held.passed(1, MAX_HELD + 1);
        held.passed(2, 1);
        hand.came();
        other.came();
        assert!(held.is_full());
        drop(hand);
        held.passed(1, MAX_HELD + 1);
        assert!(!held.is_full());
        held.passed(2, MAX_HELD);
        assert!(held.is_full());
    }

    #[tokio::test]
    async fn large_messages_wait_at_the_broker_until_those_before_are_settled() {
        let held = Arc::<Held>::default();
        let hand = InHand::new(&held, 1);
        let (mut broker, stream) = tokio::io::duplex(CHUNK);
        let (mut near, mut client) = tokio::io::duplex(CHUNK);
        let message = frame(BODY, MAX_HELD + 1);
        let wrote = async {
            broker.write_all(&message).await.expect("written");
            broker.write_all(&frame(BODY, 8 * CHUNK)).await.expect("written");
            broker
        };
        let read = async {
            let mut first = vec![0; message.len()];
            near.read_exact(&mut first).await.expect("the first message");
            hand.came();
            // A part of the second may have been read with the end of the first: it is larger than what can be on its way.
            let mut rest = vec![0; 7 + 8 * CHUNK + 1];
            near.read_exact(&mut rest).await.expect("the second message");
            assert!(rest[7..][..8 * CHUNK].iter().all(|byte| *byte == 3));
        };
        let pumped = pump(stream, &mut client, &held);
        tokio::select! {
            _ = pumped => panic!("it ended"),
            ((), _broker) = async { tokio::join!(read, wrote) } => {}
            // What settles the first.
            () = async { loop {
                tokio::task::yield_now().await;
                if held.is_full() {
                    hand.settled(MAX_HELD + 1);
                }
            } } => {}
        }
        assert!(!held.is_full());
    }
}
