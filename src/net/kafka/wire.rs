//! Kafka's protocol, as far as it is needed to ask a broker some questions: in versions that every broker since 0.11 (2017) speaks, all of which are of the
//! older kind without tagged fields. <https://kafka.apache.org/protocol>
//!
//! It is written by hand since what is read comes from anywhere: kafka-protocol (0.18) makes room for as many elements as an answer announces, which may be
//! more than there is memory.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of an answer: 16 topics of 10,000 partitions with three replicas each need half of it.
const MAX_ANSWER: usize = 16 << 20;
/// Elements of a list. Each takes several times the memory of what is sent, and of brokers each is asked for by name.
const MAX_ELEMENTS: i32 = 100_000;

/// What can be asked: number and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question(pub(super) i16, pub(super) i16);

/// A connection to a broker, for one question after the other.
pub(super) struct Connection<S> {
    stream: S,
    client_id: String,
    asked: i32,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection broke.
    #[error("{0}")]
    Ended(#[from] io::Error),
    /// What came is no answer.
    #[error("no answer of Kafka's protocol")]
    Foreign,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Over this stream; the broker writes `client_id` into its log.
    pub(super) fn new(stream: S, client_id: &str) -> Self {
        Self { stream, client_id: client_id.to_owned(), asked: 0 }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, question: Question, fields: &Writing) -> Result<Vec<u8>, Broken> {
        self.asked += 1;
        let head = Writing::default().i16(question.0).i16(question.1).i32(self.asked).text(&self.client_id);
        let asked = Writing::default().bytes(&[head.0, fields.0.clone()].concat());
        self.stream.write_all(&asked.0).await?;
        self.stream.flush().await?;
        let size = usize::try_from(self.stream.read_i32().await?).unwrap_or_default();
        if !(4..=MAX_ANSWER).contains(&size) || self.stream.read_i32().await? != self.asked {
            return Err(Broken::Foreign);
        }
        // Room is made for what has come, not for what is announced.
        let (size, mut answer) = (size - 4, Vec::new());
        (&mut self.stream).take(size as u64).read_to_end(&mut answer).await?;
        if answer.len() < size { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(answer) }
    }
}

/// Fields one after the other.
#[derive(Clone, Default)]
pub(super) struct Writing(Vec<u8>);

impl Writing {
    pub(super) fn i8(mut self, number: i8) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn i16(mut self, number: i16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn i32(mut self, number: i32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// At most 32 KiB of it: names are shorter.
    pub(super) fn text(self, text: &str) -> Self {
        let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
        let mut all = self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        all.0.extend(text);
        all
    }

    /// At most 2 GiB of them.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut all = self.i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        all.0.extend(bytes);
        all
    }

    pub(super) fn texts(self, texts: &[String]) -> Self {
        let all = self.i32(i32::try_from(texts.len()).unwrap_or(i32::MAX));
        texts.iter().fold(all, |all, text| all.text(text))
    }
}

/// Fields that are read one after the other; each is nothing where the bytes are none.
pub(super) struct Reading<'a>(pub(super) &'a [u8]);

impl<'a> Reading<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        Some(self.take(1)?[0] != 0)
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A text; none at all is an empty one.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.i16()?;
        let bytes = self.take(usize::try_from(length.max(0)).ok()?)?;
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }

    /// Bytes; none at all are no bytes.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.i32()?;
        self.take(usize::try_from(length.max(0)).ok()?)
    }

    /// As many as are announced, each of which takes at least a byte; [`MAX_ELEMENTS`] at most.
    pub(super) fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.i32()?.max(0);
        if count > MAX_ELEMENTS {
            return None;
        }
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(one(self)?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a question to a server that says this.
    async fn answered(says: &[u8]) -> Result<Vec<u8>, Broken> {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        far.write_all(says).await.expect("room");
        far.shutdown().await.expect("an end");
        Connection::new(near, "me").ask(Question(3, 4), &Writing::default().i8(1)).await
    }

    #[tokio::test]
    async fn an_answer_is_what_is_announced_and_all_else_is_told_apart() {
        assert_eq!(answered(b"\0\0\0\x06\0\0\0\x01ok").await.expect("an answer"), b"ok");
        for foreign in [
            &b"HTTP/1.0 400 Bad"[..],
            b"\xff\xff\xff\xff\0\0\0\x01",
            b"\0\0\0\x03\0\0\0\x01",
            b"\0\0\0\x06\0\0\0\x02ok",
        ] {
            assert!(matches!(answered(foreign).await, Err(Broken::Foreign)), "{foreign:?}");
        }
        for cut in [&b""[..], b"\0\0", b"\0\0\0\x07\0\0\0\x01ok", b"\x01\0\0\0\0\0\0\x01ok"] {
            assert!(matches!(answered(cut).await, Err(Broken::Ended(_))), "{cut:?}");
        }
    }

    #[tokio::test]
    async fn a_question_is_a_frame_with_a_head() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        drop(tokio::spawn(async move {
            let mut connection = Connection::new(near, "me");
            connection.ask(Question(3, 4), &Writing::default().texts(&["a".to_owned()]).i8(0)).await
        }));
        let mut asked = vec![0; 24];
        far.read_exact(&mut asked).await.expect("a question");
        assert_eq!(asked, b"\0\0\0\x14\0\x03\0\x04\0\0\0\x01\0\x02me\0\0\0\x01\0\x01a\0");
    }

    #[test]
    fn fields_that_are_not_there_are_none() {
        let mut all = Reading(b"\0\x02ab\xff\xff\0\0\0\x01c\0\0\0\x02\0\x01\0\x02\x01");
        assert_eq!((all.text().as_deref(), all.text().as_deref()), (Some("ab"), Some("")));
        assert_eq!((all.bytes(), all.list(Reading::i16)), (Some(&b"c"[..]), Some(vec![1, 2])));
        assert_eq!((all.bool(), all.bool()), (Some(true), None));
        // No room is made for two thousand millions.
        assert_eq!(Reading(b"\x7f\xff\xff\xff\0\x01").list(Reading::i16), None);
        let mut many = (MAX_ELEMENTS + 1).to_be_bytes().to_vec();
        many.resize(300_000, 0);
        assert_eq!(Reading(&many).list(Reading::i16), None);
        assert_eq!((Reading(b"\0\x05ab").text(), Reading(b"\0\x01\xff").text()), (None, None));
    }
}
