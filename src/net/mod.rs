//! The way out to addresses that users give: an HTTP client, and connections for other protocols, each of which passes a guard.
//!
//! The guard judges the resolved address at the moment of connecting, so a name that resolves to something else the next time gains
//! nothing. This module knows no rule, no sink and no Kubernetes.

#[cfg(feature = "amqp")]
pub mod amqp;
mod connector;
mod guard;
mod header;
mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "redis")]
pub mod redis;
mod tls;
mod wire;

pub use self::connector::{ConnectError, Connector};
pub use self::guard::{Cidr, Guard, ParseCidrError, Refusal};
pub use self::header::{HOPS, HeaderFault, IDEMPOTENCY_KEY, TRACEPARENT, header_name};
pub use self::http::{Call, Http, HttpError, HttpErrorKind, MAX_RESPONSE, Response, address};
pub use self::tls::{Identity, TlsError, client_config, system_roots, tls_of};
pub use self::wire::{Wire, WireError, open};
