//! `nats`: subjects of NATS, and streams of JetStream.

mod connect;
mod jet_stream;
mod subject;

use std::{convert::Infallible, time::Duration};

use serde_json::Value;

use self::{
    connect::{broken, connect},
    jet_stream::{Place, consume},
    subject::subscribe,
};
pub(super) use self::{
    connect::{ended, share},
    jet_stream::context,
};
use super::{
    feed::Feed,
    kind::{kept, kept_faults, type_fault},
    link::Down,
};
use crate::{
    api::{DEFAULT_NATS_TYPE, NATS_PORT as PORT, NatsSource},
    event::{cloud_events::attribute, message::Message},
};

/// Messages that are taken together. A server takes messages of 1 MiB, unless it is told otherwise: 64 MiB at most.
const BATCH: usize = 64;
/// The header by which publishers tell JetStream that a message is the same.
const MSG_ID: &str = "Nats-Msg-Id";

/// What the schema cannot tell.
pub(super) fn faults(spec: &NatsSource) -> Vec<String> {
    let mut faults = Vec::new();
    spec.cluster().faults("nats", &mut faults);
    if spec.core.is_some() == spec.jet_stream.is_some() {
        faults.push("nats: exactly one of core and jetStream must be set".to_owned());
    }
    let wait = spec.jet_stream.as_ref().and_then(|of| of.ack_wait);
    if wait.is_some_and(|wait| !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&wait.get())) {
        faults.push("nats.jetStream.ackWait: must be 1s to 1h".to_owned());
    }
    faults.extend(type_fault("nats.type", spec.type_.as_deref(), DEFAULT_NATS_TYPE));
    kept_faults("nats.headers", &spec.headers, &mut faults);
    faults
}

/// Connects, and takes messages until the connection breaks.
pub(super) async fn run(spec: &NatsSource, feed: &Feed) -> Result<Infallible, Down> {
    match (&spec.core, &spec.jet_stream) {
        (Some(core), _) => {
            let name = format!("signalbox {}/{}", feed.namespace, feed.name);
            let (client, server, mut told) = connect(spec.cluster(), feed, name).await?;
            tokio::select! {
                ended = subscribe(spec, core, feed, &client, &server) => ended,
                down = broken(&mut told, feed, &server) => Err(down),
            }
        }
        (None, Some(of)) => {
            let line = share(spec.cluster(), feed).await?;
            let ended = ended(&line, &of.stream);
            tokio::select! {
                ended = consume(spec, of, feed, &line.client.client, &line.client.address) => ended,
                down = ended => Err(down),
            }
        }
        (None, None) => Err(Down::refused("exactly one of core and jetStream must be set")),
    }
}

fn message<'m>(
    spec: &'m NatsSource,
    source: String,
    one: &'m async_nats::Message,
    place: Option<&Place>,
) -> Message<'m> {
    let headers: Vec<(String, String)> =
        one.headers.iter().flat_map(|headers| headers.iter()).flat_map(pairs).collect();
    let mut extensions: Vec<(String, Value)> = vec![("natssubject".to_owned(), one.subject.as_str().into())];
    if let Some(place) = place {
        extensions.push(("natsstream".to_owned(), place.stream.as_str().into()));
        extensions.push(("natssequence".to_owned(), place.sequence.into()));
    }
    // Within its window JetStream keeps one of those with the same, and after it others: it tells no message by itself.
    let msg_id = headers.iter().find(|(name, value)| name.eq_ignore_ascii_case(MSG_ID) && !value.is_empty());
    let msg_id = msg_id.filter(|(_, id)| attribute(MSG_ID, id).is_ok());
    extensions.extend(msg_id.map(|(_, id)| ("natsmsgid".to_owned(), id.as_str().into())));
    extensions.extend(kept(&spec.headers, &headers));
    Message {
        // What core NATS sends does not come again.
        id: place.map(Place::id),
        told: None,
        source,
        type_: spec.type_.as_deref().unwrap_or(DEFAULT_NATS_TYPE),
        subject: Some(one.subject.to_string()),
        time: place.and_then(|place| place.published),
        content_type: None,
        headers,
        extensions,
        body: &one.payload,
    }
}

fn pairs<'h>(
    (name, values): (&'h async_nats::HeaderName, &'h Vec<async_nats::HeaderValue>),
) -> impl Iterator<Item = (String, String)> + 'h {
    values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    pub(super) fn received(headers: &[(&str, &str)], length: usize) -> async_nats::Message {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let (subject, payload) = ("jobs.run".into(), "1".into());
        let (reply, status, description) = (None, None, None);
        async_nats::Message { subject, reply, payload, headers: Some(map), status, description, length }
    }

    #[test]
    fn a_message_is_told_by_its_place_whatever_its_publisher_calls_it() {
        let spec: NatsSource =
            serde_json::from_value(serde_json::json!({"servers": ["nats:4222"], "jetStream": {"stream": "JOBS"}}))
                .expect("a spec");
        let place = Place { stream: "JOBS".to_owned(), sequence: 7, published: None, pending: 0 };
        let told = |id: &str| {
            let one = received(&[(MSG_ID, id)], 1);
            let message = message(&spec, "/here".to_owned(), &one, Some(&place));
            let msg_id = message.extensions.iter().find(|(name, _)| name == "natsmsgid");
            (message.id.clone(), msg_id.map(|(_, value)| value.clone()))
        };
        assert_eq!(told("j-1"), (Some("JOBS/7/0".to_owned()), Some("j-1".into())));
        assert_eq!(
            told(&"x".repeat(9_000)),
            (Some("JOBS/7/0".to_owned()), None),
            "no attribute, and no reason to lose it"
        );
    }
}
