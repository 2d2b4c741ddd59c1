//! Events of MQTT brokers: topics are subscribed to, and what is published is acknowledged once it is stored.

mod plan;
mod session;

use std::{convert::Infallible, time::Duration};

use super::{
    feed::{Feed, MAX_BODY},
    kind::{kept_faults, type_fault},
    link::Down,
};
use crate::{
    api::{DEFAULT_MQTT_TYPE, MqttSource},
    net::mqtt::{Client, Connect, Error},
};
use plan::Plan;
use session::Session;

/// After how many seconds without a packet the broker takes us for gone, half as much again.
const KEEP_ALIVE: u16 = 30;
/// Messages of QoS 1 and 2 that a broker of MQTT 5 may send ahead: as many as go into a few batches. Mosquitto sends 20 unless told otherwise.
const IN_FLIGHT: u16 = 256;
/// For how long a broker may be asked to keep a session: a year.
const MAX_EXPIRY: Duration = Duration::from_hours(8760);

/// What the schema cannot tell.
pub(super) fn faults(source: &MqttSource) -> Vec<String> {
    let mut faults = Vec::new();
    faults.extend(source.broker().err().map(|fault| format!("mqtt.address: {fault}")));
    faults.extend(plan::apart(&source.topics).err().into_iter().flatten().map(|fault| format!("mqtt.topics: {fault}")));
    if let Some(tls) = &source.tls {
        tls.faults("mqtt.tls", &mut faults);
    }
    if source.session_expiry().get() > MAX_EXPIRY {
        faults.push("mqtt.sessionExpiry: must be at most 8760h".to_owned());
    }
    faults.extend(type_fault("mqtt.type", source.type_.as_deref(), DEFAULT_MQTT_TYPE));
    kept_faults("mqtt.userProperties", &source.user_properties, &mut faults);
    faults
}

/// Takes messages until the connection ends. Dropped, it ends: what was not acknowledged comes again.
pub(super) async fn run(source: &MqttSource, feed: &Feed) -> Result<Infallible, Down> {
    let plan = Plan::new(source, feed)?;
    let (host, port) = source.broker().map_err(|fault| Down::refused(fault.to_string()))?;
    let stream = feed.open(&host, port, source.tls.as_ref()).await?;
    let password = source.login.as_ref().map(|login| feed.secret(&login.password_secret_ref)).transpose()?;
    let connect = Connect {
        client_id: &plan.client_id,
        login: source.login.as_ref().zip(password).map(|(login, password)| (login.username.as_str(), password)),
        session: Some(plan.session_expiry),
        keep_alive: KEEP_ALIVE,
        in_flight: IN_FLIGHT,
        max_payload: MAX_BODY,
    };
    let (client, greeting) = match Client::connect(stream, plan.version, connect).await {
        Ok(connected) => connected,
        Err(error) => return Err(plan.down(error)),
    };
    let broker = format!("{host}:{port} as {}", plan.client_id);
    match Session::new(&plan, feed, client, greeting).run(&broker).await {
        Ok(never) => match never {},
        Err(session::End::Down(down)) => Err(down),
        Err(session::End::Connection(error)) => Err(plan.down(error)),
    }
}

impl Plan<'_> {
    /// What the source's condition is to say of an error.
    fn down(&self, error: Error) -> Down {
        match &error {
            Error::Unauthenticated(_) => Down::unauthenticated(error.to_string()),
            Error::Refused(words) if words.code.contains("protocol version") => Down::refused(format!(
                "{error}: set protocol to a version of MQTT that the broker speaks; Mosquitto before 1.6 speaks V311 only"
            )),
            Error::Ended(words) if words.code == "session taken over" => Down::refused(format!(
                "{error}: another client connects as {}: give one of them another clientId",
                self.client_id
            )),
            Error::Refused(_) | Error::Ended(_) | Error::Unsendable(_) => Down::refused(error.to_string()),
            Error::Malformed(_) => {
                Down::unreachable(format!("{error}: look whether the port is that of MQTT, and whether it wants TLS"))
            }
            Error::Io(_) | Error::Closed | Error::Silent(_) => Down::unreachable(error.to_string()),
        }
    }
}
