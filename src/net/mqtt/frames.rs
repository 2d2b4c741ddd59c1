//! A stream of bytes as packets, each with all its bytes, none larger than is taken.
//!
//! A message that is larger is read past, and told with its head, so that it can be acknowledged: a broker sends again what was not, for ever.

use tokio_util::{
    bytes::{Buf as _, BytesMut},
    codec::Decoder,
};

use super::Error;

/// The type of a packet that carries a message, in the upper half of its first byte.
pub(super) const PUBLISH: u8 = 3;
/// Bytes of the length behind the first byte, at most.
const MAX_LENGTH: usize = 4;

/// A packet.
#[derive(Debug)]
pub(super) enum Frame {
    /// With all its bytes.
    Whole(BytesMut),
    /// A message of so many bytes, of which the head is left: up to its packet identifier.
    Oversized(BytesMut, usize),
}

/// Cuts packets out of the stream.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that a packet may have.
    max: usize,
    /// What is read past: the head, how many bytes the packet has, and how many of them are still to come.
    skipping: Option<(BytesMut, usize, usize)>,
}

impl Frames {
    /// Of packets of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, skipping: None }
    }

    fn skip(&mut self, bytes: &mut BytesMut) -> Option<Frame> {
        let (head, whole, left) = self.skipping.take()?;
        let here = left.min(bytes.len());
        bytes.advance(here);
        if here == left {
            return Some(Frame::Oversized(head, whole));
        }
        self.skipping = Some((head, whole, left - here));
        None
    }
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if self.skipping.is_some() {
            return Ok(self.skip(bytes));
        }
        let Some((header, length)) = header(bytes)? else { return Ok(None) };
        let whole = header + length;
        if whole <= self.max {
            if bytes.len() < whole {
                bytes.reserve(whole - bytes.len());
                return Ok(None);
            }
            return Ok(Some(Frame::Whole(bytes.split_to(whole))));
        }
        if bytes[0] >> 4 != PUBLISH {
            return Err(Error::Malformed(format!("a packet that is no message has {whole} bytes")));
        }
        let Some(head) = head(bytes, header)? else { return Ok(None) };
        self.skipping = Some((BytesMut::from(&bytes[..head]), whole, whole));
        Ok(self.skip(bytes))
    }
}

/// The length of the fixed header, and what it says of the bytes behind it; nothing while they are not all there.
fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(MAX_LENGTH).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, length)));
        }
    }
    if bytes.len() > MAX_LENGTH {
        Err(Error::Malformed("a length has more than four bytes".to_owned()))
    } else {
        Ok(None)
    }
}

/// How many bytes a message's head has, with topic and packet identifier; nothing while they are not all there.
fn head(bytes: &[u8], header: usize) -> Result<Option<usize>, Error> {
    let Some(length) = bytes.get(header..header + 2) else { return Ok(None) };
    let topic = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let head = header + 2 + topic + if bytes[0] & 0b110 == 0 { 0 } else { 2 };
    Ok((bytes.len() >= head).then_some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when the bytes come in parts of this many.
    fn cut(bytes: &[u8], part: usize, max: usize) -> Result<Vec<(usize, usize)>, Error> {
        let (mut frames, mut buffer, mut out) = (Frames::new(max), BytesMut::new(), Vec::new());
        for part in bytes.chunks(part) {
            buffer.extend_from_slice(part);
            while let Some(frame) = frames.decode(&mut buffer)? {
                out.push(match frame {
                    Frame::Whole(bytes) => (bytes.len(), 0),
                    Frame::Oversized(head, whole) => (head.len(), whole),
                });
            }
        }
        assert!(buffer.len() <= max, "{} bytes are kept", buffer.len());
        Ok(out)
    }

    fn publish(topic: &str, payload: usize) -> Vec<u8> {
        let length = 2 + topic.len() + 2 + payload;
        let mut bytes = vec![0x32];
        let mut left = length;
        loop {
            let more = if left > 127 { 0x80 } else { 0 };
            bytes.push((left % 128) as u8 | more);
            left /= 128;
            if left == 0 {
                break;
            }
        }
        bytes.extend((topic.len() as u16).to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend([0, 7]);
        bytes.extend(std::iter::repeat_n(b'x', payload));
        bytes
    }

    #[test]
    fn packets_are_the_same_however_their_bytes_come() {
        let pong = [0xd0, 0];
        let bytes =
            [publish("a/b", 3), pong.to_vec(), publish("a", 300), pong.to_vec(), publish("ccc", 20_000)].concat();
        for part in [1, 2, 3, 7, 1_000, bytes.len()] {
            let all = cut(&bytes, part, 300).expect("packets");
            assert_eq!(all, [(12, 0), (2, 0), (8, 308), (2, 0), (11, 20_011)], "{part}");
        }
    }

    #[test]
    fn what_is_no_packet_ends_the_stream() {
        assert!(matches!(cut(&[0x32, 0x80, 0x80, 0x80, 0x80, 1], 1, 300), Err(Error::Malformed(_))));
        assert!(matches!(cut(&[0x90, 0x80, 0x08, 0, 0], 9, 300), Err(Error::Malformed(_))), "no message");
    }
}
