//! Bytes between the stream and the client, no larger answers than memory is meant for.
//!
//! An entry of a stream may have 1 GiB, the client holds an answer as a whole before anybody can look at it, and there is no question by which Redis would tell
//! how large an entry is. So answers go by here, and of one that has more than [`ROOM`] the texts and the lists for which there is no room any more are
//! replaced by a status, [`LEFT_OUT`], which entries never hold. Everything else comes as it was sent: above all the ids, without which nobody gets rid of an
//! entry.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of texts that an answer may have, lists counted by [`ELEMENT`]. An entry that can be an event has 4 MiB.
const ROOM: usize = 16 << 20;
/// Bytes that the client needs for each element of a list beside its text.
const ELEMENT: usize = 64;
/// What stands for a text, or for a list.
const LEFT_OUT: &[u8] = b"+left out\r\n";
/// Bytes that are read at once.
const CHUNK: usize = 32 << 10;
/// Bytes that a line may have: statuses, errors, numbers and lengths.
const LINE: usize = 64 << 10;
/// How deep lists may lie in each other; those of streams lie four deep.
const DEPTH: usize = 16;

/// A stream to a server that speaks RESP 2.
pub(super) struct Bounded<S> {
    inner: S,
    answers: Answers,
    chunk: Vec<u8>,
    /// What went by and was not read yet, and how much of it was.
    passed: Vec<u8>,
    read: usize,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, answers: Answers::new(), chunk: vec![0; CHUNK], passed: Vec::new(), read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, answers, chunk, passed, read } = self.get_mut();
        while passed.len() == *read {
            passed.clear();
            *read = 0;
            let mut came = ReadBuf::new(chunk);
            ready!(Pin::new(&mut *inner).poll_read(context, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            answers.pass(came.filled(), passed)?;
        }
        let here = into.remaining().min(passed.len() - *read);
        into.put_slice(&passed[*read..*read + here]);
        *read += here;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Where in the answers the bytes are.
struct Answers {
    /// Bytes for which this answer has room.
    room: usize,
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// Bytes of a text, and its end, that are still to come.
    text: u64,
    /// The text is left out.
    mute: bool,
    /// Of each list that is open, how many elements are still to come.
    lists: Vec<u64>,
    /// Which of them is left out, with all that is in it.
    out: Option<usize>,
}

impl Answers {
    fn new() -> Self {
        Self { room: ROOM, line: Vec::new(), text: 0, mute: false, lists: Vec::new(), out: None }
    }

    /// Passes bytes on, which follow those before.
    ///
    /// # Errors
    /// When this is not what Redis says.
    fn pass(&mut self, mut bytes: &[u8], passed: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.text > 0 {
                let here = bytes.len().min(usize::try_from(self.text).unwrap_or(usize::MAX));
                if !self.mute {
                    passed.extend_from_slice(&bytes[..here]);
                }
                bytes = &bytes[here..];
                self.text -= here as u64;
                if self.text == 0 {
                    self.ends();
                }
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let here = end.unwrap_or(bytes.len());
            if self.line.len() + here > LINE {
                return Err(foreign("a line has no end"));
            }
            self.line.extend_from_slice(&bytes[..here]);
            bytes = &bytes[here..];
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.begins(&line, passed)?;
            }
        }
        Ok(())
    }

    /// An element begins, or is a line by itself.
    fn begins(&mut self, line: &[u8], passed: &mut Vec<u8>) -> io::Result<()> {
        let (kind, length) = (line[0], if matches!(line[0], b'$' | b'*') { length(line)? } else { None });
        let cost = match (kind, length) {
            (b'$', Some(bytes)) => bytes,
            (b'*', Some(elements)) => elements.saturating_mul(ELEMENT as u64),
            (b'$' | b'*' | b'+' | b'-' | b':', _) => 0,
            _ => return Err(foreign("that is no RESP 2")),
        };
        let cost = usize::try_from(cost).unwrap_or(usize::MAX);
        let (in_one, too_much) = (self.out.is_some(), cost > self.room);
        match (in_one, too_much) {
            (true, _) => {}
            (false, true) => passed.extend_from_slice(LEFT_OUT),
            (false, false) => {
                passed.extend_from_slice(line);
                self.room -= cost;
            }
        }
        match (kind, length) {
            (b'$', Some(bytes)) => {
                (self.text, self.mute) = (bytes.saturating_add(2), in_one || too_much);
            }
            (b'*', Some(elements)) if elements > 0 => {
                if self.lists.len() == DEPTH {
                    return Err(foreign("lists lie too deep in each other"));
                }
                if too_much && !in_one {
                    self.out = Some(self.lists.len());
                }
                self.lists.push(elements);
            }
            _ => self.ends(),
        }
        Ok(())
    }

    /// An element has ended, and perhaps lists of which it was the last.
    fn ends(&mut self) {
        while let Some(left) = self.lists.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.lists.pop();
            if self.out == Some(self.lists.len()) {
                self.out = None;
            }
        }
        self.room = ROOM;
    }
}

/// The length of a text or a list; nothing where there is none.
fn length(line: &[u8]) -> io::Result<Option<u64>> {
    let digits = line.get(1..line.len().saturating_sub(2)).and_then(|digits| std::str::from_utf8(digits).ok());
    match digits.map(str::parse::<i64>) {
        Some(Ok(length)) => Ok(u64::try_from(length).ok()),
        _ => Err(foreign("a length is no number")),
    }
}

fn foreign(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is not what Redis says: {what}"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        [format!("${bytes}\r\n").into_bytes(), vec![b'*'; bytes], b"\r\n".to_vec()].concat()
    }

    fn passed(bytes: &[u8], part: usize) -> Vec<u8> {
        let (mut answers, mut passed) = (Answers::new(), Vec::new());
        bytes.chunks(part).for_each(|part| answers.pass(part, &mut passed).expect("RESP"));
        passed
    }

    #[test]
    fn what_there_is_room_for_comes_as_it_was_sent() {
        let answers =
            [b"+OK\r\n-ERR no\r\n:7\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*1\r\n:1\r\n".to_vec(), text(0), text(9)].concat();
        for part in [1, 2, 3, 7, answers.len()] {
            assert_eq!(passed(&answers, part), answers, "{part}");
        }
    }

    #[test]
    fn a_text_or_a_list_without_room_is_left_out_and_what_follows_is_not() {
        let large = text(ROOM + 1);
        let entry = |value: &[u8]| [b"*2\r\n$3\r\n7-0\r\n*2\r\n$1\r\na\r\n", value].concat();
        let answers = [b"*2\r\n", &*entry(&large), &*entry(&text(9)), b":1\r\n"].concat();
        let wanted = [b"*2\r\n", &*entry(LEFT_OUT), &*entry(&text(9)), b":1\r\n"].concat();
        for part in [CHUNK, answers.len()] {
            assert!(passed(&answers, part) == wanted, "{part}");
        }
        let many = ROOM / ELEMENT + 1;
        let list = [format!("*{many}\r\n").into_bytes(), text(1).repeat(many - 1), b"*1\r\n:1\r\n".to_vec()].concat();
        let answers = [b"*2\r\n$3\r\n7-0\r\n", &*list, &*text(9)].concat();
        assert_eq!(passed(&answers, CHUNK), [b"*2\r\n$3\r\n7-0\r\n", LEFT_OUT, &*text(9)].concat());
    }

    #[test]
    fn room_is_that_of_one_answer_and_of_all_that_is_in_it() {
        let half = text(ROOM / 2);
        let three = half.repeat(3);
        assert!(passed(&three, CHUNK) == three, "three answers");
        let list = [b"*3\r\n", &*three].concat();
        let wanted = [b"*3\r\n", &*half, LEFT_OUT, LEFT_OUT].concat();
        assert!(passed(&list, CHUNK) == wanted, "the list itself takes room as well");
    }

    #[test]
    fn what_redis_does_not_say_is_refused() {
        for bytes in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"$\n", b"*1\r\n%1\r\n", &b"*1\r\n".repeat(DEPTH + 1)] {
            assert!(Answers::new().pass(bytes, &mut Vec::new()).is_err(), "{bytes:?}");
        }
        assert!(Answers::new().pass(&vec![b'+'; LINE + 1], &mut Vec::new()).is_err());
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_end() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (mut bounded, sent) = (Bounded::new(near), [text(ROOM + 1), text(70_000)].concat());
        let write = async {
            far.write_all(&sent).await.expect("written");
            drop(far);
        };
        let mut came = Vec::new();
        let (read, ()) = tokio::join!(bounded.read_to_end(&mut came), write);
        read.expect("read");
        assert!(came == [LEFT_OUT, &*text(70_000)].concat());
    }
}
