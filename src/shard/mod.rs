//! One shard: the loop that reads the log, judges, records, checkpoints and hands firings to the runner.
//!
//! It knows neither kinds of sources nor kinds of actions. `state` is the pure fold, `recovery` the start.

mod backlog;
mod brakes;
mod desk;
mod letters;
mod recovery;
#[cfg(test)]
mod simulation;
mod state;
mod stories;
mod suppressed;
mod telling;
#[cfg(test)]
mod tests;
mod ticks;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use backlog::Backlog;
pub use desk::{Desk, Questions, desk};
pub use letters::{Kept, Letters, MAX_LETTERS, MAX_OF_RULE, Place};
pub use recovery::{Recovered, RecoveryError, WatchMemory, recover};
pub use state::State;
pub use suppressed::Suppressions;
pub use ticks::Ticks;

use crate::{
    bus::{Bus, BusError, Reader},
    clock::Clock,
    record::{Control, Entry, EventInput, Finished, Head, Judgement, Position, Record},
    rule::{Interest, Judged},
    runner::Runner,
    sources::NearMisses,
    status::StatusQueue,
    telemetry::{Metrics, traces::Traces},
};

/// How often changed rows are written to the view. A restart reads at most this much log, so it is short against a restart and long against a
/// commit of the view (a few milliseconds).
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// How often the view is written although nothing has changed, so that a start can tell how long the operator was away. Short against the hour that the
/// API server keeps Events.
const ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// How many records one turn of the loop takes: status and interest are published once per turn.
const TURN: usize = 256;

/// How many firings may be held in memory because the view does not have them yet: when there are more, it is written before anything else is read. At
/// about 4 KiB each this is 8 MiB, which the view takes in some 50 ms.
const MAX_FRESH: usize = 2_048;

/// How much of what is open memory may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Firings that may be open before inputs have to wait. Memory holds some 500 bytes of each.
    pub open: usize,
    /// Firings that memory may hold whole because the view does not have them yet.
    pub fresh: usize,
}

impl Bounds {
    /// So many firings may be open.
    pub fn open(open: usize) -> Self {
        Self { open, fresh: MAX_FRESH }
    }
}

/// What the loop works with.
pub struct Shard {
    /// The log.
    pub bus: Arc<dyn Bus>,
    /// The state after the recovered records.
    pub state: State,
    /// Carries firings out.
    pub runner: Runner,
    /// How much of what is open memory may hold.
    pub bounds: Bounds,
    /// Where progress is told.
    pub status: StatusQueue,
    /// Where sources learn what rules are concerned with.
    pub interest: watch::Sender<Arc<Interest>>,
    /// Where samples of events are explained.
    pub misses: NearMisses,
    /// What did not fire.
    pub suppressions: Suppressions,
    /// What is asked about the state.
    pub questions: Questions,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Traces of firings.
    pub traces: Traces,
    /// The time.
    pub clock: Clock,
    /// When a record is asked for.
    pub ticks: Ticks,
}

impl Shard {
    /// Reads and judges until the bus is closed, or `shutdown`; then takes in what is left and writes the view once more.
    ///
    /// # Errors
    /// When the bus fails: the process must end.
    pub async fn run(mut self, mut reader: Box<dyn Reader>, shutdown: CancellationToken) -> Result<(), BusError> {
        let mut timer = tokio::time::interval(CHECKPOINT_INTERVAL);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut checkpoint: Option<BoxFuture<'static, Result<(), BusError>>> = None;
        let mut folded = Position(0);
        let mut committed = (Position(0), Instant::now());
        let mut backlog = Backlog::default();
        if self.state.engine.stopped().is_some() {
            self.switch();
        }
        self.publish_all();
        self.bus.record(Record::Started)?;
        loop {
            let due = self.tick()?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                done = async { checkpoint.as_mut().expect("guarded").await }, if checkpoint.is_some() => {
                    checkpoint = None;
                    done?;
                    self.state.committed();
                }
                entries = reader.next(TURN), if self.has_room() => {
                    let Some(entries) = entries else { break };
                    for entry in &entries {
                        self.take(entry)?;
                        folded = entry.head.position;
                    }
                    if !self.holds_inputs() {
                        reader.advance(folded);
                    }
                    self.publish();
                    self.explain(&entries);
                    self.questions.answer(&self.state);
                }
                () = ticks::sleep(due) => {}
                () = self.questions.come() => self.questions.answer(&self.state),
                () = std::future::ready(()), if checkpoint.is_none() && !self.has_room() => {
                    committed = (self.state.position(), Instant::now());
                    checkpoint = Some(self.checkpoint());
                }
                _ = timer.tick(), if checkpoint.is_none() => {
                    self.suppressions.tell(&self.status, &self.state.engine);
                    self.tell_of_open(&mut backlog);
                    if self.state.position() > committed.0 || committed.1.elapsed() >= ALIVE_INTERVAL {
                        committed = (self.state.position(), Instant::now());
                        checkpoint = Some(self.checkpoint());
                    }
                }
            }
        }
        if let Some(running) = checkpoint {
            running.await?;
            self.state.committed();
        }
        self.finish(reader).await
    }

    /// Takes in what was appended before the end and writes the view, so that the next start has no tail to read.
    async fn finish(mut self, mut reader: Box<dyn Reader>) -> Result<(), BusError> {
        let last = self.bus.stats().appended;
        while self.state.position() < last {
            let Some(entries) = reader.next(TURN).await else { break };
            for entry in &entries {
                self.take(entry)?;
            }
        }
        self.publish();
        self.suppressions.tell(&self.status, &self.state.engine);
        self.checkpoint().await
    }

    /// Whether inputs have to wait until firings have ended. Records of the ledger, which end them, never wait.
    fn holds_inputs(&self) -> bool {
        self.state.ledger.len() >= self.bounds.open
    }

    fn tell_of_open(&self, backlog: &mut Backlog) {
        let State { ledger, engine, .. } = &self.state;
        let held = self.holds_inputs();
        self.metrics.oldest_open_firing(ledger.open().map(|(_, brief)| brief.since).min());
        self.metrics.inputs_held(held);
        backlog.tell(held, ledger, engine, &self.status);
    }

    /// Whether memory may take in more firings that the view does not have.
    fn has_room(&self) -> bool {
        self.state.ledger.shelf().fresh() < self.bounds.fresh
    }

    fn take(&mut self, entry: &Entry) -> Result<(), BusError> {
        self.ticks.hear(entry);
        self.judge_due(entry)?;
        match &*entry.record {
            Record::Event(input) => self.judge(&entry.head, input)?,
            Record::RuleRemove(rule) => self.runner.remove(rule),
            Record::Intent(intent) => {
                self.traces.intended(&entry.head, intent);
                self.asked(intent);
            }
            Record::Outcome(outcome) => self.settled(&entry.head, outcome),
            Record::Finished(finished) => {
                self.ended(&entry.head, finished);
                self.metrics.firing_finished(finished.outcome);
            }
            _ => {}
        }
        self.state.fold(&entry.head, &entry.record);
        if let Record::Replay(replay) = &*entry.record {
            self.start_again(&entry.head, replay);
        }
        if let Record::Control(Control::Stop { .. } | Control::Release) = &*entry.record {
            self.switch();
        }
        self.tell_trips();
        for id in self.state.take_opened() {
            if let Some(brief) = self.state.ledger.brief(&id) {
                self.runner.start_alone(&id, brief);
            }
        }
        for (rule, group) in self.state.engine.take_closed() {
            stories::closed(&self.status, &rule, &group);
        }
        self.judge_released(&entry.head)?;
        self.append_sequels()
    }

    /// Appends the events that follow from what was taken in: they wait for no room, for the firings that wait for room may end by them.
    fn append_sequels(&mut self) -> Result<(), BusError> {
        for sequel in self.state.take_sequels() {
            self.bus.record(Record::Event(Box::new(sequel)))?;
        }
        Ok(())
    }

    /// Tells of the end of a firing. One that was not begun may not be in memory.
    fn ended(&self, head: &Head, finished: &Finished) {
        let State { ledger, engine, .. } = &self.state;
        let Some(brief) = ledger.brief(&finished.firing) else { return };
        if let Some(rule) = engine.rule(&finished.rule) {
            stories::finished(&self.status, &rule.rule, &brief.group, finished);
        }
        if let Some(open) = ledger.get(&finished.firing) {
            self.traces.finished(head, &open, finished);
        }
    }

    /// Judges what was due before the record.
    fn judge_due(&mut self, entry: &Entry) -> Result<(), BusError> {
        let is_event = matches!(&*entry.record, Record::Event(_));
        while let Some(deadline) = self.state.due(entry) {
            // What is due waits with the inputs, in its place: no event overtakes it.
            if self.holds_inputs() && !is_event {
                break;
            }
            let decisions = self.state.engine.judge_due(&entry.head, &deadline);
            self.metrics.decided(&decisions);
            self.suppressions.note(&self.state.engine, None, &decisions);
            // Also when it decides nothing: a start takes what is not in the log for what had to wait.
            let judgement = Judgement::of_deadline(&entry.head, &deadline, &decisions);
            self.bus.record(Record::Judgement(judgement))?;
            self.state.decide_due(&entry.head, &deadline, &decisions);
            self.tell(None, decisions);
        }
        Ok(())
    }

    /// Asks for a record before which what is due now is judged, unless one is on its way; tells how long until one has to be asked for.
    fn tick(&mut self) -> Result<Option<Duration>, BusError> {
        let next = self.state.engine.next_deadline().filter(|_| !self.holds_inputs());
        let wait = self.ticks.wait(next);
        let Some(next) = next.filter(|_| wait.is_some_and(|wait| wait.is_zero())) else { return Ok(wait) };
        match self.bus.record(Record::Tick) {
            Ok(_) => self.ticks.ask(next),
            // Tried again when anything else wakes the loop.
            Err(BusError::Full) => return Ok(Some(CHECKPOINT_INTERVAL)),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Judges an event.
    fn judge(&mut self, head: &Head, input: &EventInput) -> Result<(), BusError> {
        let judged = self.state.engine.judge(head, input);
        self.metrics.event_judged(input.event.type_label());
        self.decide(head, input, judged, None)
    }

    /// Judges the events whose waiting the record at `head` has ended.
    fn judge_released(&mut self, head: &Head) -> Result<(), BusError> {
        for released in self.state.engine.take_released() {
            let judged = self.state.engine.judge_released(head, &released);
            self.decide(&released.head(head), &released.input, judged, Some(head.position))?;
        }
        Ok(())
    }

    /// Records what was decided about the event at `head`, which has waited until `released` if that is set, and starts what fired.
    fn decide(
        &mut self,
        head: &Head,
        input: &EventInput,
        judged: Judged,
        released: Option<Position>,
    ) -> Result<(), BusError> {
        self.metrics.decided(&judged.decisions);
        self.suppressions.note(&self.state.engine, Some(input), &judged.decisions);
        if !judged.decisions.is_empty() {
            self.bus.record(Record::Judgement(Judgement::of(head, released, &judged.decisions)))?;
        }
        self.state.decide(head, input, &judged.seen, &judged.decisions);
        self.tell(Some((head, input)), judged.decisions);
        Ok(())
    }

    fn checkpoint(&mut self) -> BoxFuture<'static, Result<(), BusError>> {
        let (delta, position) = self.state.delta(self.clock.now());
        let bus = Arc::clone(&self.bus);
        // What was decided about the records up to there came into the log after them, and a start judges none of them again.
        let decided = bus.stats().appended;
        Box::pin(async move {
            bus.durable(decided).await?;
            bus.commit(delta, position).await
        })
    }
}
