//! How much waits for a consumer of NATS JetStream. The client takes nothing from it.

use std::convert::Infallible;

use async_nats::jetstream::{context::ConsumerInfoErrorKind, stream::Stream};

use super::{
    super::{
        feed::Feed,
        link::Down,
        nats::{context, ended, share},
    },
    Ask, Depth, Sampler,
};
use crate::api::JetStreamLag;

/// A client that asks about a consumer.
struct Consumer<'a> {
    place: &'a JetStreamLag,
    server: &'a str,
    stream: Stream<()>,
}

/// Connects, and samples until the connection breaks.
pub(super) async fn run(place: &JetStreamLag, sampler: Sampler<'_>) -> Result<Infallible, Down> {
    let line = share(place.cluster(), sampler.feed).await?;
    let (ended, server) = (ended(&line, &place.stream), &line.client.address);
    let work = async {
        let stream = context(&line.client.client, place.domain.as_deref()).get_stream_no_info(&place.stream).await;
        let stream = stream.map_err(|error| Down::refused(format!("queueLag.jetStream.stream: {error}")))?;
        sampler.run(Consumer { place, server, stream }).await
    };
    tokio::select! {
        ended = work => ended,
        down = ended => Err(down),
    }
}

impl Ask for Consumer<'_> {
    async fn depth(&mut self, _: &Feed) -> Result<Depth, Down> {
        let JetStreamLag { stream, consumer, .. } = self.place;
        let info = self.stream.consumer_info(consumer).await.map_err(|error| self.down(error.kind()))?;
        // What is on its way to a worker is not done: it would be lost to a rule that takes the workers away.
        let unacknowledged = u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
        Ok(Depth {
            told: format!("connected to {}, consumer {consumer} of stream {stream}", self.server),
            queue: consumer.clone(),
            lag: info.num_pending.saturating_add(unacknowledged),
            more: vec![("unacknowledged", unacknowledged.into())],
        })
    }
}

impl Consumer<'_> {
    fn down(&self, kind: ConsumerInfoErrorKind) -> Down {
        let JetStreamLag { stream, consumer, .. } = self.place;
        let (server, what) = (self.server, format!("look at consumer {consumer} of stream {stream}"));
        match kind {
            ConsumerInfoErrorKind::StreamNotFound => Down::refused(format!(
                "{server}: {what}: there is no such stream: make it (nats stream add {stream}), or mend stream or domain"
            )),
            ConsumerInfoErrorKind::NotFound => Down::refused(format!(
                "{server}: {what}: the stream has no such consumer: workers or nats consumer add {stream} {consumer} make it; or mend consumer"
            )),
            ConsumerInfoErrorKind::NoResponders => Down::refused(format!(
                "{server}: {what}: nobody answers for JetStream: turn it on for the server and the account, or mend domain"
            )),
            ConsumerInfoErrorKind::InvalidName => Down::refused(format!("{server}: {what}: {kind}")),
            ConsumerInfoErrorKind::JetStream(error) => Down::refused(format!("{server}: {what}: {error}")),
            kind => Down::unreachable(format!("{server}: {what}: {kind}")),
        }
    }
}
