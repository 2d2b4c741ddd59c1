//! AMQP 0.9.1 over a stream that is there already.
//!
//! `lapin` opens its own sockets, past the guard of this folder, and its TLS would bring in a second provider of cryptography. It takes streams of any
//! kind only from a runtime that makes them: here is one that hands out what it was given, once.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
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
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// Seconds without a word after which either side takes the other for gone.
const HEARTBEAT: u16 = 30;

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
