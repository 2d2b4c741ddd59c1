//! Redis over a stream that is there already.

mod bound;

use std::{pin::Pin, time::Duration};

use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult, aio::MultiplexedConnection};

use self::bound::Bounded;
use super::Wire;

/// What goes on with a connection; the connection ends with it, or when it is dropped.
pub type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who asks for what.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The number of the database.
    pub database: u32,
    /// The user of the access control list, if it is not `default`, and the password.
    pub credentials: Option<(Option<&'a str>, &'a str)>,
}

/// Opens a connection on the stream. What the server answers is bounded, and comes within `answer`: of what is larger than 16 MiB texts and lists are left
/// out.
///
/// # Errors
/// When the server refuses the credentials or the database, or speaks no RESP 2.
///
/// # Cancel safety
/// Dropped before it is ready, the stream is closed.
pub async fn connect(
    stream: Box<dyn Wire>,
    login: Login<'_>,
    answer: Duration,
) -> RedisResult<(MultiplexedConnection, Driver)> {
    let mut info = RedisConnectionInfo::default().set_db(login.database.into());
    if let Some((username, password)) = login.credentials {
        info = info.set_password(password);
        if let Some(name) = username {
            info = info.set_username(name);
        }
    }
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(answer));
    let connecting = MultiplexedConnection::new_with_config(&info, Bounded::new(stream), config);
    let (connection, driver) = connecting.await?;
    Ok((connection, Box::pin(driver)))
}
