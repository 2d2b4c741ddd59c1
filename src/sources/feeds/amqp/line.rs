//! A connection to a broker, with channels for several EventSources.
//!
//! The client has a thread of its own, which ends with its stream. So that the stream ends with the line, the client has only one end of a pipe; what carries
//! bytes between that and the broker is what drives the line.

use std::sync::{Arc, OnceLock};

use futures::FutureExt as _;
use lapin::{Channel, Connection};
use tokio::{
    io::{DuplexStream, duplex},
    time::timeout,
};

use super::{
    super::{
        feed::Feed,
        lines::Line,
        link::{Down, DownReason},
    },
    ACCESS_REFUSED, code, down, in_time,
    pump::{Held, InHand, pump},
    short,
};
use crate::{
    api::AmqpBroker,
    net::{
        Wire,
        amqp::{self, LAST_WORDS, Login, said_by_tls},
    },
};

/// Bytes between the stream and the client: a frame is 128 KiB at most.
const BETWEEN: usize = 128 << 10;
/// The user that brokers come with.
const GUEST: &str = "guest";

/// A connection that EventSources share.
pub(in crate::sources::feeds) struct Broker {
    // It is closed when it is dropped.
    connection: Connection,
    held: Arc<Held>,
    by_tls: ByTls,
}

/// What TLS said of the connection's end.
type ByTls = Arc<OnceLock<String>>;

impl Broker {
    /// A new channel. Dropped, it is closed.
    pub(in crate::sources::feeds) async fn channel(&self) -> Result<Channel, Down> {
        self.connection.create_channel().await.map_err(down)
    }

    /// Adds up the bodies that come over a channel from now on.
    pub(super) fn hold(&self, channel: &Channel) -> InHand {
        InHand::new(&self.held, channel.id())
    }
}

/// The connection of all EventSources of the namespace that get in this way.
pub(in crate::sources::feeds) async fn share(broker: AmqpBroker<'_>, feed: &Feed) -> Result<Arc<Line<Broker>>, Down> {
    let make = async {
        let (host, port) = broker.place().map_err(|fault| Down::refused(fault.to_string()))?;
        let stream = feed.open(&host, port, broker.tls).await?;
        let (near, far) = duplex(BETWEEN);
        let (held, by_tls) = (Arc::<Held>::default(), ByTls::default());
        let driver = drive(stream, far, Arc::clone(&held), Arc::clone(&by_tls)).shared();
        let connection = during(driver.clone(), &by_tls, in_time(Box::pin(log_in(broker, feed, near)))).await?;
        Ok(Line::new(Broker { connection, held, by_tls }, driver))
    };
    feed.line("amqp", &(broker.address, broker.virtual_host, broker.login, broker.tls), Box::pin(make)).await
}

/// Does `work` over the connection until either ends.
pub(in crate::sources::feeds) async fn over<T>(
    line: &Line<Broker>,
    work: impl Future<Output = Result<T, Down>>,
) -> Result<T, Down> {
    during(line.ended(), &line.client.by_tls, work).await
}

/// The same with what drives it.
async fn during<T>(
    driver: impl Future<Output = Down>,
    by_tls: &ByTls,
    work: impl Future<Output = Result<T, Down>>,
) -> Result<T, Down> {
    tokio::pin!(work);
    let ended = tokio::select! {
        done = &mut work => return done,
        ended = driver => ended,
    };
    // The client may know why.
    match (timeout(LAST_WORDS, work).await, by_tls.get()) {
        (Ok(Err(Down { reason: DownReason::Unreachable, .. })) | Err(_), Some(_)) | (Err(_), None) => Err(ended),
        (Ok(said), _) => said,
    }
}

async fn drive(stream: Box<dyn Wire>, mut far: DuplexStream, held: Arc<Held>, by_tls: ByTls) -> Down {
    let ended = pump(stream, &mut far, &held).await;
    let said = ended.as_ref().err().and_then(said_by_tls);
    let why = match (&said, ended) {
        (Some(said), _) => said.clone(),
        (None, Ok(())) => "the broker closed the connection".to_owned(),
        (None, Err(error)) => error.to_string(),
    };
    if let Some(said) = said {
        by_tls.get_or_init(|| said);
    }
    Down::unreachable(why)
}

async fn log_in(broker: AmqpBroker<'_>, feed: &Feed, stream: DuplexStream) -> Result<Connection, Down> {
    let (username, password) = match broker.login {
        Some(login) => (login.username.as_str(), feed.secret(&login.password_secret_ref)?),
        None => (GUEST, GUEST),
    };
    short("virtualHost", broker.virtual_host)?;
    let login = Login { username, password, virtual_host: broker.virtual_host };
    amqp::connect(stream, login, &feed.shared_name()).await.map_err(|error| match code(&error) {
        Some(ACCESS_REFUSED) => Down::unauthenticated(error.to_string()),
        Some(_) => Down::refused(error.to_string()),
        None => Down::unreachable(format!("{error}: look whether the port is that of AMQP, and whether it wants TLS")),
    })
}
