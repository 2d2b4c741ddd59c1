//! The headers of our requests: those that we set, and which ones users may.

use http::{HeaderName, header};

/// The same for every repetition of a request: a receiver that remembers it does once what is asked for.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How many steps of rules led to this request, itself counted: 1 or more. Who is asked by more than 8 does not take it.
pub const HOPS: HeaderName = HeaderName::from_static("signalbox-hops");
/// Which trace a request is part of, and which span of it has made it: <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What the client itself sets, and what would change where the request ends.
const RESERVED: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    IDEMPOTENCY_KEY,
    HOPS,
];

/// Why users may not set a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It is ours.
    #[error("header {0} is set by signalbox itself")]
    Reserved(HeaderName),
    /// There cannot be one of this name.
    #[error("{0:?} is not the name of a header")]
    NoName(String),
}

/// The header's name.
///
/// # Errors
/// When it is none, or one that is not for users to set.
pub fn header_name(name: &str) -> Result<HeaderName, HeaderFault> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) if RESERVED.contains(&name) => Err(HeaderFault::Reserved(name)),
        Ok(name) => Ok(name),
        Err(_) => Err(HeaderFault::NoName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_change_where_a_request_ends_are_not_for_users() {
        for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "Idempotency-Key", "Signalbox-Hops"] {
            assert!(matches!(header_name(name), Err(HeaderFault::Reserved(_))), "{name}");
        }
        for name in ["", "X Y", "X:Y", "X\r\nY", "ü"] {
            assert!(matches!(header_name(name), Err(HeaderFault::NoName(_))), "{name:?}");
        }
        assert_eq!(header_name("X-Environment").expect("a name"), "x-environment");
    }
}
