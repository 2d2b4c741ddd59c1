//! Reads records and hands them on in batches. While a batch is stored the next is collected; when that is full, fetching stops, and the member stays in
//! the group: it is polled all the time.

use std::{collections::BTreeMap, convert::Infallible, mem, pin::pin, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use rdkafka::{
    consumer::{Consumer as _, MessageStream},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _, Message as _},
};
use tokio::time::{Instant, sleep_until};

use super::{
    down,
    group::{Group, Member},
    record::{Common, Record},
};
use crate::{
    net::kafka::{Fault, fault, sorted},
    poison,
    sources::feeds::{feed::Feed, link::Down},
    telemetry::Rejection,
};

/// Records of one batch.
const RECORDS: usize = 500;
/// Bytes of one batch, but for the last record. Two batches of each source are held at most.
const BYTES: usize = 1 << 20;
/// How long another member waits for partitions whose records are being stored: the log may have no room.
const HANDOVER: Duration = Duration::from_secs(5);

/// Asks a cluster how it is; gives how many records wait, if that could be told.
pub(super) type Survey<'a> = Box<dyn Fn() -> BoxFuture<'a, Result<Option<u64>, Down>> + Send + Sync + 'a>;

/// How long after one survey has begun the next does.
const SURVEYS: Duration = Duration::from_secs(10);

/// Records on their way from a member into the log.
pub(super) struct Reader<'a> {
    member: &'a Member,
    feed: &'a Feed,
    stream: MessageStream<'a, Group>,
    held: Vec<BorrowedMessage<'a>>,
    bytes: usize,
    /// When partitions that are to go are given back at the latest.
    leave_by: Option<Instant>,
    survey: Survey<'a>,
    surveying: Option<BoxFuture<'a, Result<Option<u64>, Down>>>,
    survey_at: Instant,
}

impl<'a> Reader<'a> {
    /// Of a member that has subscribed.
    pub(super) fn new(member: &'a Member, feed: &'a Feed, survey: Survey<'a>) -> Self {
        let stream = member.client().stream();
        let survey_at = Instant::now();
        Self { member, feed, stream, held: Vec::new(), bytes: 0, leave_by: None, survey, surveying: None, survey_at }
    }

    /// Takes what comes, until the connection breaks.
    pub(super) async fn run(mut self, common: &Common) -> Result<Infallible, Down> {
        loop {
            self.give_back();
            while self.held.is_empty() {
                self.step().await?;
                self.give_back();
            }
            self.fill()?;
            let batch = self.batch();
            let records: Vec<Record<'_>> = batch.iter().filter_map(|message| self.read(message)).collect();
            let messages: Vec<_> = records.iter().map(|record| record.message(common)).collect();
            let mut taking = pin!(self.feed.take(&messages));
            loop {
                tokio::select! {
                    taken = &mut taking => break drop(taken?),
                    stepped = self.step_aside() => stepped?,
                }
            }
            self.stored(&batch);
            self.member.pause(false).map_err(|error| down(sorted(&error)))?;
        }
    }

    /// Waits until something has come.
    ///
    /// # Cancel safety
    /// Dropped, nothing is lost.
    async fn step(&mut self) -> Result<(), Down> {
        let group = self.member.group();
        let survey = async {
            if self.surveying.is_none() {
                sleep_until(self.survey_at).await;
                self.survey_at = Instant::now() + SURVEYS;
                self.surveying = Some((self.survey)());
            }
            match &mut self.surveying {
                Some(surveying) => surveying.await,
                None => Ok(None),
            }
        };
        tokio::select! {
            next = self.stream.next() => self.next(next),
            () = group.changed.notified() => Ok(()),
            surveyed = survey => {
                self.surveying = None;
                if let Some(lag) = surveyed? {
                    self.feed.lag(lag);
                }
                Ok(())
            }
        }
    }

    /// The same while a batch is being stored.
    async fn step_aside(&mut self) -> Result<(), Down> {
        if self.is_full() {
            self.member.pause(true).map_err(|error| down(sorted(&error)))?;
        }
        if self.leave_by.is_none() && self.member.group().is_leaving() {
            self.leave_by = Some(Instant::now() + HANDOVER);
        }
        let Some(leave_by) = self.leave_by else { return self.step().await };
        tokio::select! {
            stepped = self.step() => stepped,
            () = sleep_until(leave_by) => {
                self.give_back();
                Ok(())
            }
        }
    }

    fn give_back(&mut self) {
        self.leave_by = None;
        if self.member.group().is_leaving() {
            self.member.give_back();
        }
    }

    fn next(&mut self, next: Option<KafkaResult<BorrowedMessage<'a>>>) -> Result<(), Down> {
        match next {
            Some(Ok(message)) => {
                self.bytes += size(&message);
                self.held.push(message);
                Ok(())
            }
            Some(Err(error)) => self.heed(&error),
            None => Ok(()),
        }
    }

    /// Whether an error means that nothing more comes.
    fn heed(&self, error: &KafkaError) -> Result<(), Down> {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        // What the client has said last is more than the error's name.
        let said = self.member.group().words.fault();
        let is_passing = |fault: &Fault| matches!(fault, Fault::Unreachable(_));
        let ends = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => true,
            // Of a record, or of what a connection brings.
            Some(RDKafkaErrorCode::BadMessage) => !said.as_ref().is_some_and(is_passing),
            // That of one broker, or of one request: librdkafka asks again, and others.
            Some(code) => fatal || !is_passing(&fault(code, "")),
            None => false,
        };
        if ends {
            return Err(down(said.unwrap_or_else(|| sorted(error))));
        }
        tracing::debug!(%error, source = self.feed.name, "librdkafka reports an error");
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.held.len() >= RECORDS || self.bytes >= BYTES
    }

    /// Takes what has come already.
    fn fill(&mut self) -> Result<(), Down> {
        while !self.is_full() {
            let Some(next) = self.stream.next().now_or_never() else { break };
            self.next(next)?;
        }
        Ok(())
    }

    /// What is held, but for partitions that are not ours any more: another member gets their records.
    fn batch(&mut self) -> Vec<BorrowedMessage<'a>> {
        self.member.group().words.clear();
        self.bytes = 0;
        let group = self.member.group();
        let mut batch = mem::take(&mut self.held);
        batch.retain(|message| group.is_ours(message.topic(), message.partition()));
        batch
    }

    /// The record; nothing when it cannot be read, which is counted.
    fn read<'b>(&self, message: &'b BorrowedMessage<'_>) -> Option<Record<'b>> {
        Record::read(message)
            .inspect_err(|error| {
                let (place, offset) = (message.partition(), message.offset());
                tracing::warn!(%error, topic = message.topic(), partition = place, offset, "a record cannot be read");
                self.feed.rejected(Rejection::Malformed);
            })
            .ok()
    }

    /// Notes that the group goes on after these. It is told to the broker within a second, and when a partition is given back.
    fn stored(&self, batch: &[BorrowedMessage<'_>]) {
        let mut last: BTreeMap<(&str, i32), i64> = BTreeMap::new();
        for message in batch {
            last.insert((message.topic(), message.partition()), message.offset());
        }
        for ((topic, partition), offset) in last {
            // It is refused where the partition has gone meanwhile: then its records come again, to whoever has it now.
            if let Err(error) = self.member.client().store_offset(topic, partition, offset) {
                tracing::debug!(%error, topic, partition, offset, "records were stored that others get as well");
            }
        }
    }
}

/// Bytes of a record: value, key and headers. Of headers that cannot be read, none.
fn size(message: &BorrowedMessage<'_>) -> usize {
    let headers = poison::caught(|| {
        let of = |header: rdkafka::message::Header<'_, &[u8]>| header.key.len() + header.value.map_or(0, <[u8]>::len);
        message.headers().map_or(0, |headers| headers.iter().map(of).sum::<usize>())
    });
    message.payload_len() + message.key_len() + headers.unwrap_or_default()
}
