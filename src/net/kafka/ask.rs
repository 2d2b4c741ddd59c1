//! Questions to a cluster over a connection that was made for them, before librdkafka is let loose: it connects to whatever brokers the first one names, and
//! forgets that one.

use std::io;

use rdkafka::{error::RDKafkaErrorCode, types::RDKafkaRespErr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use crate::api::KafkaMechanism;

use super::{
    ANSWER, FOREIGN, Fault, Login, Places, Settings, fault,
    scram::{Hash, Scram},
    topic_fault,
    wire::{Broken, Connection, Question, Reading, Writing},
};

const METADATA: Question = Question(3, 4);
const FIND_COORDINATOR: Question = Question(10, 1);
const SASL_HANDSHAKE: Question = Question(17, 1);
const SASL_AUTHENTICATE: Question = Question(36, 0);

/// What a cluster says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Hosts and ports of its brokers, and of the coordinator of the group.
    pub(super) brokers: Vec<(String, u16)>,
    /// The topics: an error's number, or 0, and the partitions.
    topics: Vec<(String, i16, Vec<i32>)>,
}

impl Answer {
    /// The partitions of each topic.
    ///
    /// # Errors
    /// Names the topic that there is none of, or that may not be read.
    pub(super) fn places(&self) -> Result<Places, Fault> {
        let topic = |(name, error, partitions): &(String, i16, Vec<i32>)| match code(*error) {
            None => Ok((name.clone(), partitions.clone())),
            Some(code) => Err(topic_fault(name, code)),
        };
        self.topics.iter().map(topic).collect()
    }
}

/// Asks a broker for the cluster's brokers, these topics and, where one is named, where this group is; it logs in before. It takes [`ANSWER`] at most.
///
/// # Errors
/// In the broker's words, or with what may be wrong where it has none.
///
/// # Cancel safety
/// Dropped, the connection ends.
pub(super) async fn ask<S>(
    stream: S,
    settings: &Settings<'_>,
    topics: &[String],
    group: Option<&str>,
) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = async {
        let mut broker = Connection::new(stream, &settings.client_id);
        if let Some(login) = &settings.login {
            log_in(&mut broker, login).await?;
        }
        let fields = Writing::default().texts(topics).i8(0);
        let answer = broker.ask(METADATA, &fields).await.map_err(|error| silent(&error))?;
        let mut answer = metadata(&mut Reading(&answer)).ok_or_else(foreign)?;
        if let Some(group) = group {
            answer.brokers.extend(coordinator(&mut broker, group).await?);
        }
        answer.brokers.sort_unstable();
        answer.brokers.dedup();
        Ok(answer)
    };
    let late = |_| Fault::Unreachable(format!("no answer within {} s", ANSWER.as_secs()));
    timeout(ANSWER, asked).await.map_err(late)?
}

async fn log_in<S>(broker: &mut Connection<S>, login: &Login<'_>) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = broker.ask(SASL_HANDSHAKE, &Writing::default().text(login.mechanism.name())).await;
    let answer = answer.map_err(|error| silent(&error))?;
    let mut answer = Reading(&answer);
    let (error, known) = (answer.i16(), answer.list(Reading::text));
    let (Some(error), Some(known)) = (error, known) else { return Err(foreign()) };
    match code(error) {
        None => {}
        Some(RDKafkaErrorCode::UnsupportedSASLMechanism) => {
            let (ours, known) = (login.mechanism.name(), known.join(", "));
            return Err(Fault::Unauthenticated(format!("the broker does not take {ours}, but {known}")));
        }
        Some(code) => return Err(Fault::Unauthenticated(format!("the broker takes no login here: {code}"))),
    }
    let hash = match login.mechanism {
        KafkaMechanism::Plain => {
            let token = format!("\0{}\0{}", login.username, login.password);
            return authenticate(broker, token.as_bytes()).await.map(drop);
        }
        KafkaMechanism::ScramSha256 => Hash::Sha256,
        KafkaMechanism::ScramSha512 => Hash::Sha512,
    };
    let scram = Scram::new(hash, login.username, login.password).map_err(Fault::Unreachable)?;
    let challenge = authenticate(broker, scram.first().as_bytes()).await?;
    let (last, wanted) = scram.last(&challenge).map_err(Fault::Unauthenticated)?;
    let proof = authenticate(broker, last.as_bytes()).await?;
    if proof == wanted.as_bytes() {
        Ok(())
    } else {
        let why = "the broker does not know the password by itself: it may be none of the cluster's";
        Err(Fault::Unauthenticated(why.to_owned()))
    }
}

/// Shows a token; gives the broker's.
async fn authenticate<S>(broker: &mut Connection<S>, token: &[u8]) -> Result<Vec<u8>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = broker.ask(SASL_AUTHENTICATE, &Writing::default().bytes(token)).await;
    let answer = answer.map_err(|error| silent(&error))?;
    let mut answer = Reading(&answer);
    let fields = (answer.i16(), answer.text(), answer.bytes());
    let (Some(error), Some(words), Some(token)) = fields else { return Err(foreign()) };
    match code(error) {
        None => Ok(token.to_vec()),
        Some(code) => Err(fault(code, &words)),
    }
}

fn metadata(answer: &mut Reading<'_>) -> Option<Answer> {
    // For how long the broker held the answer back.
    answer.i32()?;
    let brokers = answer.list(|broker| {
        broker.i32()?;
        let place = place(broker)?;
        // Its rack.
        broker.text()?;
        Some(place)
    })?;
    // The cluster's id, and its controller.
    answer.text()?;
    answer.i32()?;
    let topics = answer.list(|topic| {
        let (error, name) = (topic.i16()?, topic.text()?);
        topic.bool()?;
        let partitions = topic.list(|partition| {
            partition.i16()?;
            let number = partition.i32()?;
            // Its leader, its replicas, and those that are in step.
            partition.i32()?;
            partition.list(Reading::i32)?;
            partition.list(Reading::i32)?;
            Some(number)
        })?;
        Some((name, error, partitions))
    })?;
    Some(Answer { brokers, topics })
}

fn place(broker: &mut Reading<'_>) -> Option<(String, u16)> {
    Some((broker.text()?, u16::try_from(broker.i32()?).ok()?))
}

/// Where the coordinator of a group is; nothing while there is none.
async fn coordinator<S>(broker: &mut Connection<S>, group: &str) -> Result<Option<(String, u16)>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = broker.ask(FIND_COORDINATOR, &Writing::default().text(group).i8(0)).await;
    let answer = answer.map_err(|error| silent(&error))?;
    let mut answer = Reading(&answer);
    let fields = (answer.i32(), answer.i16(), answer.text());
    let (Some(_), Some(error), Some(words)) = fields else { return Err(foreign()) };
    match code(error).map(|code| fault(code, &words)) {
        // It has an id before its place.
        None => answer.i32().and_then(|_| place(&mut answer)).map(Some).ok_or_else(foreign),
        Some(Fault::Unreachable(_)) => Ok(None),
        Some(fault) => Err(fault),
    }
}

fn code(error: i16) -> Option<RDKafkaErrorCode> {
    if error == 0 {
        return None;
    }
    Some(RDKafkaRespErr::try_from(i32::from(error)).map_or(RDKafkaErrorCode::Unknown, RDKafkaErrorCode::from))
}

fn foreign() -> Fault {
    silent(&Broken::Foreign)
}

/// Whoever is there says nothing that tells what is wrong.
fn silent(error: &Broken) -> Fault {
    use io::ErrorKind as Kind;
    Fault::Unreachable(match error {
        Broken::Foreign => FOREIGN.to_owned(),
        Broken::Ended(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            format!("{error}: a broker ends TLS so where it wants a certificate, or another one ({SHOWN})")
        }
        Broken::Ended(error)
            if matches!(error.kind(), Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe) =>
        {
            format!(
                "the connection was ended instead of an answer: a broker does so where it wants a login (sasl), TLS (tls) or a certificate ({SHOWN}), or none"
            )
        }
        Broken::Ended(error) => error.to_string(),
    })
}

/// Where a certificate to show is named.
const SHOWN: &str = "tls.clientCertificateSecretRef";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const HOST: &[u8] = b"\0\x04host";

    fn answer(port: &[u8], error: &[u8]) -> Vec<u8> {
        let broker = [&b"\0\0\0\x01"[..], HOST, port, b"\xff\xff"].concat();
        let partition = b"\0\0\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01";
        let topic = [error, b"\0\x06orders\0\0\0\0\x01", partition].concat();
        [&b"\0\0\0\0\0\0\0\x01"[..], &broker, b"\0\x02id\0\0\0\x01\0\0\0\x01", &topic].concat()
    }

    #[test]
    fn a_cluster_says_where_its_brokers_and_which_its_partitions_are() {
        let read = |bytes: &[u8]| metadata(&mut Reading(bytes));
        let whole = answer(b"\0\0\x23\x84", b"\0\0");
        let told = read(&whole).expect("an answer");
        assert_eq!(told.brokers, [("host".to_owned(), 9092)]);
        assert_eq!(told.places(), Ok(vec![("orders".to_owned(), vec![7])]));
        let missing = read(&answer(b"\0\0\x23\x84", b"\0\x03")).expect("an answer").places();
        assert!(matches!(&missing, Err(Fault::Refused(words)) if words.contains("no topic orders: create it")));
        let unknown = read(&answer(b"\0\0\x23\x84", b"\x7f\xff")).expect("an answer").places();
        assert!(unknown.is_err(), "a number that nobody knows");
        assert_eq!(read(&answer(b"\0\x01\0\x50", b"\0\0")), None, "port 65616 is none");
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end} bytes of it");
        }
    }

    #[tokio::test]
    async fn who_does_not_speak_the_protocol_is_told_so() {
        let settings = Settings { brokers: Vec::new(), tls: None, login: None, client_id: "me".to_owned() };
        for (says, told) in [(&b"HTTP/1.0 400 Bad Request"[..], "does not speak Kafka's protocol"), (b"", "login")] {
            let (near, mut far) = tokio::io::duplex(1 << 10);
            far.write_all(says).await.expect("room");
            far.shutdown().await.expect("an end");
            let fault = ask(near, &settings, &[], Some("group")).await.expect_err("no answer");
            assert!(matches!(&fault, Fault::Unreachable(words) if words.contains(told)), "{fault}");
        }
    }
}
