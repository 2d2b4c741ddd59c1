//! A look at a cluster before librdkafka is let loose on it: where its brokers are, whether all of them may be connected to, and whether topics are there.

use std::sync::Arc;

use rustls::RootCertStore;

use super::{
    Fault, Places,
    ask::{Answer, ask},
    is_host,
    settings::Settings,
};
use crate::net::{ConnectError, Connector, TlsError, WireError, open};

/// Asks for the cluster's brokers, the partitions of these topics and, where one is named, the coordinator of the group, and looks whether all of these
/// brokers may be connected to. Until then nobody connects to any but those to begin with. `roots` are the authorities that the system trusts.
///
/// # Errors
/// When no broker to begin with answers, the credentials are not taken, there is no such topic, or a broker is where nobody may connect to.
///
/// # Cancel safety
/// Dropped, the connection ends.
pub async fn look<E>(
    settings: &Settings<'_>,
    (topics, group): (&[String], Option<&str>),
    connector: &Connector,
    roots: &Arc<RootCertStore>,
) -> Result<Places, E>
where
    E: From<Fault> + From<TlsError> + From<WireError>,
{
    allowed(&settings.brokers, connector).await?;
    let answer: Answer = ask_any::<E>(settings, (topics, group), connector, roots).await?;
    let places = answer.places()?;
    allowed(&answer.brokers, connector).await?;
    Ok(places)
}

/// Asks the brokers to begin with, one after the other, until one answers.
async fn ask_any<E>(
    settings: &Settings<'_>,
    (topics, group): (&[String], Option<&str>),
    connector: &Connector,
    roots: &Arc<RootCertStore>,
) -> Result<Answer, E>
where
    E: From<Fault> + From<TlsError> + From<WireError>,
{
    let mut first = None;
    for (host, port) in &settings.brokers {
        let tls = settings.tls.as_ref().map(|trust| trust.config(host, roots)).transpose()?;
        let stream = match open(connector, (host, *port), tls).await {
            Ok(stream) => stream,
            Err(error) if error.is_transient() => {
                first = first.or(Some(E::from(error)));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match ask(stream, settings, topics, group).await.map_err(|fault| fault.at(&format!("{host}:{port}"))) {
            Ok(answer) => return Ok(answer),
            Err(fault @ Fault::Unreachable(_)) => first = first.or(Some(E::from(fault))),
            // The others would say the same.
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(first.unwrap_or_else(|| Fault::Refused("there are no brokers to begin with: name one".to_owned()).into()))
}

/// Looks whether all addresses of these hosts may be connected to. One that has none now, nobody connects to.
///
/// # Errors
/// Names the first that may not be.
pub async fn allowed(brokers: &[(String, u16)], connector: &Connector) -> Result<(), Fault> {
    for (host, port) in brokers {
        if !is_host(host) {
            return Err(Fault::Refused(format!("the cluster says that a broker is at {host:?}, which is no host")));
        }
        if let Err(ConnectError::Refused(refusal)) = connector.permits(host, *port).await {
            return Err(Fault::Refused(format!("{host}:{port}: {refusal}")));
        }
    }
    Ok(())
}
