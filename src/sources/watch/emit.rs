//! What a watch has seen, on its way to the log.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use super::memory::Observed;
use crate::{
    bus::{Bus, BusError},
    event::{Event, Origin, WatchKey},
    record::{EventInput, Lookups, Record, SourceRef},
    rule::{Concern, Followed, Interest},
    sources::{NearMisses, append, lookups::Looker},
    telemetry::Metrics,
};

/// Memories in one record, about 100 bytes each: 50 kB.
const BATCH: usize = 500;
/// How long memories wait for company. After a crash, what was not written is compared with the list once more.
const LINGER: Duration = Duration::from_millis(200);

/// Appends events that somebody may be concerned with, and in batches what is only remembered; in the order in which it was seen.
#[derive(Clone)]
pub(in crate::sources) struct Emitter {
    watch: WatchKey,
    bus: Arc<dyn Bus>,
    interest: watch::Receiver<Arc<Interest>>,
    looker: Looker,
    misses: Option<NearMisses>,
    metrics: Arc<Metrics>,
    pending: Vec<Origin>,
    flush_at: Option<Instant>,
}

impl Emitter {
    pub(in crate::sources) fn new(
        watch: WatchKey,
        bus: Arc<dyn Bus>,
        interest: watch::Receiver<Arc<Interest>>,
        looker: Looker,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { watch, bus, interest, looker, misses: None, metrics, pending: Vec::new(), flush_at: None }
    }

    /// Tells what rules nearly took of the events that concern nobody.
    pub(in crate::sources) fn with_near_misses(self, misses: Option<NearMisses>) -> Self {
        Self { misses, ..self }
    }

    /// When [`Emitter::flush`] is to be called.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// What has to be followed of the objects.
    pub(super) fn followed(&self) -> Arc<[Followed]> {
        self.interest.borrow().followed(&self.watch)
    }

    /// Waits until rules change; for ever, when nobody tells any more.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the change is told again.
    pub(super) async fn rules_changed(&mut self) {
        if self.interest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes what an object in sight meant.
    pub(in crate::sources) async fn observed(&mut self, observed: Observed) -> Result<(), BusError> {
        let Observed { origin, events } = observed;
        let mut told = false;
        for event in events {
            let concern = self.concern(&origin, &event);
            if concern.any {
                told |= self.append(event, origin.clone(), None, &concern).await?;
            } else {
                self.explain(event, &origin);
            }
        }
        if told { Ok(()) } else { self.remember(origin).await }
    }

    /// Takes an event that is for one source only. What it is about is remembered by the watch itself.
    pub(in crate::sources) async fn event_for(
        &mut self,
        only: &SourceRef,
        event: Event,
        origin: Origin,
    ) -> Result<(), BusError> {
        let concern = self.concern(&origin, &event);
        if concern.any {
            self.append(event, origin, Some(only.clone()), &concern).await?;
        }
        Ok(())
    }

    /// Takes what is only remembered.
    pub(in crate::sources) async fn remember(&mut self, origin: Origin) -> Result<(), BusError> {
        let Origin { watch, uid, seen, .. } = origin;
        let origin = Origin::new(watch, uid, seen);
        self.pending.push(origin);
        if self.pending.len() >= BATCH {
            return self.flush().await;
        }
        self.flush_at.get_or_insert_with(|| Instant::now() + LINGER);
        Ok(())
    }

    /// Appends what is waiting.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, it is still waiting.
    pub(in crate::sources) async fn flush(&mut self) -> Result<(), BusError> {
        if !self.pending.is_empty() {
            append(&self.bus, Record::Seen(self.pending.clone())).await?;
            self.pending.clear();
        }
        self.flush_at = None;
        Ok(())
    }

    fn concern(&self, origin: &Origin, event: &Event) -> Concern {
        self.interest.borrow().concern(origin, event)
    }

    /// An event that no filter takes is not appended: nobody but us can tell why.
    fn explain(&self, event: Event, origin: &Origin) {
        let Some(misses) = &self.misses else { return };
        let interest = Arc::clone(&self.interest.borrow());
        let event = Arc::new(event);
        let input = || EventInput {
            event: Arc::clone(&event),
            origin: origin.clone(),
            only: None,
            lookups: Lookups::default(),
        };
        misses.look(&interest, (&self.watch, &event), Timestamp::now(), input);
    }

    /// Appends the event; false when the log cannot take one so large.
    async fn append(
        &mut self,
        event: Event,
        origin: Origin,
        only: Option<SourceRef>,
        concern: &Concern,
    ) -> Result<bool, BusError> {
        self.flush().await?;
        let lookups = self.looker.look_up(&event, concern).await;
        let event = Arc::new(event);
        let input = EventInput { event: event.clone(), origin, only, lookups };
        match append(&self.bus, Record::Event(Box::new(input))).await {
            Ok(_) => Ok(true),
            Err(error @ (BusError::TooLarge(_) | BusError::TooDeep)) => {
                self.metrics.object_unreadable();
                tracing::error!(event.id = event.id, event.source = event.source, %error, "event left out");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
