//! Timetables: an event at each instant.
//!
//! The last instant that was dealt with is remembered in the log, so that an instant comes once, also across restarts, and a missed one is known.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::watch::{Emitter, Observed};
use crate::{
    api::Missed,
    bus::BusError,
    clock::Clock,
    event::{Origin, Seen, WatchKey, schedule, schedule::Schedule},
    rule::Timetable,
};

/// The longest sleep: a clock that is set, and a machine that slept, are noticed after so long.
const NAP: Duration = Duration::from_secs(30);
/// The shortest, so that a clock that runs slower than ours does not make us spin.
const WINK: Duration = Duration::from_millis(1);

/// Up to which instant each timetable was dealt with.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached(Arc<Mutex<HashMap<String, (Origin, Timestamp)>>>);

impl Reached {
    /// What the log remembers of timetables, taken out of what it remembers of all.
    pub(super) fn take(memory: &mut HashMap<WatchKey, HashMap<String, Seen>>) -> Self {
        let is_schedule = |watch: &WatchKey| watch.api_version == schedule::API_VERSION && watch.kind == schedule::KIND;
        let watches: Vec<WatchKey> = memory.keys().filter(|watch| is_schedule(watch)).cloned().collect();
        let mut reached = HashMap::new();
        for watch in watches {
            for (uid, seen) in memory.remove(&watch).into_iter().flatten() {
                let instant = Schedule::reached_by(&seen).unwrap_or_default();
                let gone = Origin::new(watch.clone(), uid.clone(), None);
                reached.insert(uid, (gone, instant));
            }
        }
        Self(Arc::new(Mutex::new(reached)))
    }

    /// Forgets the timetables that are not needed; gives what the log is to forget.
    pub(super) fn forget(&self, needed: &HashSet<String>) -> Vec<Origin> {
        let mut reached = self.0.lock();
        let unneeded: Vec<String> = reached.keys().filter(|uid| !needed.contains(*uid)).cloned().collect();
        unneeded.into_iter().filter_map(|uid| reached.remove(&uid)).map(|(gone, _)| gone).collect()
    }

    fn get(&self, uid: &str) -> Option<Timestamp> {
        self.0.lock().get(uid).map(|(_, instant)| *instant)
    }

    fn set(&self, schedule: &Schedule, instant: Timestamp) {
        self.0.lock().insert(schedule.uid(), (schedule.gone(), instant));
    }
}

/// One timetable that runs.
pub(super) struct Ticker {
    pub(super) schedule: Schedule,
    pub(super) missed: Missed,
    pub(super) reached: Reached,
    pub(super) emitter: Emitter,
    pub(super) clock: Clock,
}

impl Ticker {
    /// Appends an event at each instant, until it is told to stop. A timetable that is new begins now.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), BusError> {
        // The controller compiles rules before it hands them on, so there is a timetable.
        let Ok(timetable) = Timetable::new(&self.schedule) else { return Ok(()) };
        let mut reached = match self.reached.get(&self.schedule.uid()) {
            Some(reached) => reached,
            None => self.begin().await?,
        };
        loop {
            let now = self.clock.now().timestamp();
            if let Some(due) = timetable.due(reached, now, self.missed) {
                reached = due.planned;
                // First, so that another version of the rule that begins meanwhile does not tell of it once more.
                self.reached.set(&self.schedule, reached);
                let observed = Observed {
                    origin: self.schedule.reached(reached),
                    events: vec![self.schedule.event(due.planned, due.missed)],
                };
                self.emitter.observed(observed).await?;
                self.emitter.flush().await?;
            }
            let next = timetable.after(reached.max(now));
            let wait = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok()).unwrap_or(NAP);
            if stop.run_until_cancelled(tokio::time::sleep(wait.clamp(WINK, NAP))).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn begin(&mut self) -> Result<Timestamp, BusError> {
        let now = self.clock.now().timestamp();
        self.emitter.remember(self.schedule.reached(now)).await?;
        self.emitter.flush().await?;
        self.reached.set(&self.schedule, now);
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        clock::Stamp,
        kubernetes::Cluster,
        sources::{
            lookups::Looker,
            testing::{Collected, Server, interest, rule},
        },
    };

    fn sources(cron: &str) -> serde_json::Value {
        json!([{"name": "at", "schedule": {"cron": cron}}])
    }

    fn clock_at(instant: &str) -> Clock {
        let wall = instant.parse::<Timestamp>().expect("an instant").as_microsecond();
        Clock::simulated(Stamp { at: wall, wall })
    }

    /// Starts the daily timetable of a rule, with what the log remembers.
    fn start(log: &Arc<Collected>, clock: &Clock, missed: Missed, reached: Reached) -> CancellationToken {
        let put = rule("r", 1, sources("0 7 * * *"));
        let spec = put.spec.sources[0].schedule.clone().expect("a schedule");
        let schedule = Schedule::new("r", "shop", "r", "at", &spec);
        let (_, interest) = watch::channel(interest(&[put]));
        let looker = Looker::new(Cluster::with_client(Server::script([]).client()));
        let emitter = Emitter::new(schedule.watch(), log.clone(), interest, looker, Arc::default());
        let (stop, clock) = (CancellationToken::new(), clock.clone());
        let ticker = Ticker { schedule, missed, reached, emitter, clock };
        tokio::spawn({
            let stop = stop.clone();
            async move { ticker.run(stop).await }
        });
        stop
    }

    /// What a restart finds in the log.
    fn remembered(log: &Collected) -> Reached {
        let mut memory: HashMap<WatchKey, HashMap<String, Seen>> = HashMap::new();
        for origin in log.origins() {
            memory.entry(origin.watch).or_default().extend(origin.seen.map(|seen| (origin.uid, seen)));
        }
        Reached::take(&mut memory)
    }

    const DAY: Duration = Duration::from_hours(24);

    #[tokio::test(start_paused = true)]
    async fn an_instant_comes_once_also_across_a_restart() {
        let (log, clock) = (Collected::new(), clock_at("2027-01-01T06:59:00Z"));
        let stop = start(&log, &clock, Missed::Once, Reached::default());
        log.wait(1).await;
        clock.advance(Duration::from_mins(1));
        let told = log.wait(2).await;
        assert_eq!(told[1], "schedule 2027-01-01T07:00:00Z");
        stop.cancel();

        let _stop = start(&log, &clock, Missed::Once, remembered(&log));
        clock.advance(DAY);
        let told = log.wait(3).await;
        assert_eq!(told[2], "schedule 2027-01-02T07:00:00Z", "and nothing in between");
        let event = &log.events()[1].event;
        assert_eq!(event.source, "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventrules/r#at");
        assert_eq!((&event.data["timeZone"], &event.data["missed"]), (&json!("UTC"), &json!(false)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_passed_while_nobody_listened_comes_once_or_not_at_all() {
        for (missed, expected) in [(Missed::Once, "2027-01-04T07:00:00Z"), (Missed::Skip, "2027-01-05T07:00:00Z")] {
            let (log, clock) = (Collected::new(), clock_at("2027-01-01T06:59:00Z"));
            start(&log, &clock, missed, Reached::default()).cancel();
            log.wait(1).await;
            clock.advance(3 * DAY + DAY / 2);
            let _stop = start(&log, &clock, missed, remembered(&log));
            if missed == Missed::Once {
                log.wait(2).await;
            }
            clock.advance(DAY / 2 + Duration::from_mins(1));
            let told = log.wait(2).await;
            assert_eq!(told[1], format!("schedule {expected}"), "{missed:?}");
            assert_eq!(log.events()[0].event.data["missed"], json!(missed == Missed::Once));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_repeats_nothing() {
        let (log, clock) = (Collected::new(), clock_at("2027-01-01T06:59:00Z"));
        let stop = start(&log, &clock, Missed::Once, Reached::default());
        log.wait(1).await;
        clock.advance(Duration::from_mins(2));
        log.wait(2).await;
        stop.cancel();
        let _stop = start(&log, &clock_at("2027-01-01T06:00:00Z"), Missed::Once, remembered(&log));
        let later = clock_at("2027-01-02T07:00:00Z");
        let _later = start(&log, &later, Missed::Once, remembered(&log));
        assert_eq!(log.wait(3).await[2], "schedule 2027-01-02T07:00:00Z");
    }

    #[test]
    fn what_no_rule_needs_is_forgotten() {
        let spec = serde_json::from_value(json!({"cron": "0 7 * * *"})).expect("a schedule");
        let schedule = Schedule::new("r", "shop", "r", "at", &spec);
        let mut memory = HashMap::from([(
            schedule.watch(),
            HashMap::from([(schedule.uid(), schedule.reached(Timestamp::UNIX_EPOCH).seen.expect("memory"))]),
        )]);
        let reached = Reached::take(&mut memory);
        assert!(memory.is_empty(), "the watches do not see it");
        assert!(reached.forget(&HashSet::from([schedule.uid()])).is_empty());
        assert_eq!(reached.forget(&HashSet::new()), [schedule.gone()]);
        assert_eq!(reached.get(&schedule.uid()), None);
    }
}
