//! A log in memory.

use futures::future::BoxFuture;

use super::*;
use crate::{
    bus::{Permit, Reader, Recovery, Stats},
    record::{Delta, Head, Table},
};

/// A log in memory, which is durable at once.
pub(super) struct MemoryBus {
    pub(super) id: LogId,
    pub(super) story: Story,
    pub(super) records: Mutex<Vec<Record>>,
    /// What [`Bus::record`] answers next instead of appending.
    pub(super) troubles: Mutex<Vec<BusError>>,
    /// What the view answers, the last first; then nothing is in it.
    pub(super) rows: Mutex<Vec<Result<Option<Vec<u8>>, BusError>>>,
}

impl Bus for MemoryBus {
    fn id(&self) -> &LogId {
        &self.id
    }

    fn append(&self, record: Record) -> BoxFuture<'_, Result<Head, BusError>> {
        Box::pin(async move { self.record(record) })
    }

    fn record(&self, record: Record) -> Result<Head, BusError> {
        if let Some(trouble) = self.troubles.lock().pop() {
            return Err(trouble);
        }
        match &record {
            Record::Intent(intent) => self.story.lock().push(format!("intent {} {}", intent.action, intent.rendering)),
            Record::Outcome(outcome) => {
                self.story.lock().push(format!("outcome {} {:?}", outcome.action, outcome.outcome))
            }
            _ => {}
        }
        let mut records = self.records.lock();
        records.push(record);
        Ok(Head { position: Position(records.len() as u64), stamp: Stamp::default() })
    }

    fn durable(&self, _: Position) -> BoxFuture<'_, Result<Permit, BusError>> {
        Box::pin(async {
            self.story.lock().push("durable".into());
            Ok(Permit::for_test())
        })
    }

    fn reader(&self) -> Option<Box<dyn Reader>> {
        None
    }

    fn recover(&self) -> Result<Recovery, BusError> {
        Ok(Recovery::default())
    }

    fn commit(&self, _: Delta, _: Position) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }

    fn row(&self, _: Table, _: Vec<u8>) -> BoxFuture<'_, Result<Option<Vec<u8>>, BusError>> {
        Box::pin(async { self.rows.lock().pop().unwrap_or(Ok(None)) })
    }

    fn read(&self, _: Table, _: &[u8]) -> Result<Option<Vec<u8>>, BusError> {
        Ok(None)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async { Ok(()) })
    }
}
