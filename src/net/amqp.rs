//! AMQP 0.9.1 over a stream that is there already.
//!
//! `lapin` opens its own sockets, past the guard of this folder, and its TLS would bring in a second provider of cryptography. It takes streams of any
//! kind only from a runtime that makes them: here is one that hands out what it was given, once.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    pin::pin,
    time::{Duration, Instant},
};

use async_rs::{Runtime, Tokio, traits::Reactor, util::RuntimeParts};
use futures::{
    Stream,
    io::{AsyncRead, AsyncWrite},
};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use parking_lot::Mutex;
use rustls::AlertDescription;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// Seconds without a word after which either side takes the other for gone.
const HEARTBEAT: u16 = 30;

/// How long after the stream takes nothing any more what the broker said before is looked for, and how long the client may take to say why it ended.
pub const LAST_WORDS: Duration = Duration::from_secs(2);

/// A stream of any kind.
trait Bytes: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Bytes for S {}

type Boxed = Compat<Box<dyn Bytes>>;

/// Who speaks, and to which part of the broker.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The user's name.
    pub username: &'a str,
    /// The user's password.
    pub password: &'a str,
    /// The virtual host: `/` unless the broker has others.
    pub virtual_host: &'a str,
}

/// Opens a connection on the stream. `name` is shown by the broker to those who look after it. Dropped, the connection is closed.
///
/// # Errors
/// When the broker refuses the credentials or the virtual host, or speaks no AMQP 0.9.1.
///
/// # Cancel safety
/// Dropped before it is ready, the stream is closed.
pub async fn connect(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    login: Login<'_>,
    name: &str,
) -> lapin::Result<Connection> {
    let tokio = Tokio::current();
    let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), Given(tokio)));
    let boxed: Box<dyn Bytes> = Box::new(stream);
    let given = Mutex::new(Some(boxed.compat()));
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: login.username.to_owned(), password: login.password.to_owned() },
            host: String::new(),
            port: 0,
        },
        vhost: login.virtual_host.to_owned(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT), ..AMQPQueryString::default() },
    };
    let take = async move |_: AMQPUri, _: Runtime<RuntimeParts<Tokio, Given>>| match given.lock().take() {
        Some(stream) => Ok(AsyncTcpStream::Plain(stream)),
        None => Err(lapin::Error::from(elsewhere())),
    };
    Connection::connector(uri, runtime, take, ConnectionProperties::default().with_connection_name(name.into())).await
}

/// Carries bytes to and from the broker until either way ends, and tells how. Where nothing can be sent any more, what the broker said before that comes
/// first: an alert of TLS tells why.
///
/// # Errors
/// Those of the streams.
///
/// # Cancel safety
/// Dropped, bytes may be lost: the streams are of no use any more.
pub async fn carried(
    inward: impl Future<Output = io::Result<()>>,
    outward: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let mut inward = pin!(inward);
    let sent = tokio::select! {
        ended = &mut inward => return ended,
        ended = outward => ended,
    };
    let Err(broken) = sent else { return Ok(()) };
    match timeout(LAST_WORDS, inward).await {
        Ok(Err(said)) => Err(said),
        Ok(Ok(())) | Err(_) => Err(broken),
    }
}

/// What TLS says of the connection's end, if it ended by that. The client knows only that there are no bytes any more.
pub fn said_by_tls(error: &io::Error) -> Option<String> {
    let said = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match said {
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!(
                "{said}: it wants to be shown a certificate: set tls.clientCertificateSecretRef and clientKeySecretRef"
            )
        }
        _ => said.to_string(),
    })
}

/// A reactor that connects to nothing: its streams are given.
#[derive(Clone, Debug)]
struct Given(Tokio);

impl Reactor for Given {
    type TcpStream = Boxed;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Boxed, _>(elsewhere())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(elsewhere()))
    }
}

fn elsewhere() -> io::Error {
    io::Error::other("the connection ended: another one is made by who asked for it")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn alert() -> io::Error {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        io::Error::new(io::ErrorKind::InvalidData, alert)
    }

    fn pipe() -> io::Error {
        io::ErrorKind::BrokenPipe.into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_broker_said_last_comes_before_that_it_takes_nothing_any_more() {
        let later = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(alert())
        };
        let ended = carried(later, ready(Err(pipe()))).await.expect_err("it broke");
        let told = said_by_tls(&ended).expect("an alert");
        assert!(told.contains("tls.clientCertificateSecretRef"), "{told}");
        let ended = carried(pending(), ready(Err(pipe()))).await.expect_err("it broke");
        assert_eq!((ended.kind(), said_by_tls(&ended)), (io::ErrorKind::BrokenPipe, None));
        carried(pending(), ready(Ok(()))).await.expect("the client has ended it");
        carried(ready(Ok(())), pending()).await.expect("the broker has ended it");
    }
}
