//! A rule tried on events, in virtual time: the operator's engine and what fills actions in, without an operator and without a cluster.
//!
//! What the operator learns from the API server is passed in: objects that exist, and what happens to them. Nothing is done: actions are filled in, as far
//! as that needs nothing of a cluster. Knows no files and no clock.

mod archive;
mod backtest;
mod cases;
mod compare;
mod explain;
mod given;
mod render;
mod tell;
mod world;

use std::{collections::HashSet, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub use archive::{Rerun, Unknown, Wants};
pub use backtest::{Backtest, backtest};
pub use cases::{Case, CaseError, Cases, Errors, Load, Unlike, Verdict, elapsed, run};
pub use compare::Difference;
pub use explain::{Explanation, SourceSaid, explain};
pub use given::{Given, InputError, Maker, read};

use crate::{
    api::Existing,
    clock::Stamp,
    event::{Event, Origin, event_source, rule_event, schedule::Schedule},
    record::{
        Decision, EventInput, Finished, Firing, Head, LogId, OpenFiring, Position, Record, Results, RulePut, SourceRef,
    },
    rule::{Concern, Engine, Interest, Judged, Rule, Timetable, explained as explained_of},
    sources::{Plan, plan},
};
use world::{Seen, World};

/// Firings of a case, and instants at which something was due in it: beyond that it is given up, for something may be due each microsecond.
const MOST: usize = 10_000;
/// The same of events that really happened.
const MOST_OF_DUMP: usize = 1_000_000;
/// What is said of a trial, but for errors.
const MOST_SAID: usize = 10_000;

/// A rule under trial.
pub struct Trial {
    engine: Engine,
    rule: Arc<Rule>,
    world: World,
    /// The timetables of its sources, and the last instant of each.
    schedules: Vec<(Schedule, Timetable, Timestamp)>,
    /// Results of actions that later ones use.
    results: Results,
    /// Events of EventSources that came: they come once.
    came: HashSet<(String, String)>,
    start: i64,
    now: i64,
    position: u64,
    due: usize,
    most: usize,
    firings: Vec<Tried>,
    said: Vec<Said>,
    /// What sources said, where somebody asks.
    explained: Option<Vec<SourceSaid>>,
}

/// A firing, with its actions filled in.
#[derive(Clone, Debug)]
pub struct Tried {
    /// How long after the start, in microseconds.
    pub at: i64,
    /// The firing.
    pub firing: Firing,
    /// What became of its actions: `name`, the kind with its fields filled in, or `outcome` and `message`.
    pub actions: Vec<Value>,
}

/// Something that happened beside firings: why it did not fire, or what the rule noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How long after the start, in microseconds.
    pub at: i64,
    /// What is to be said.
    pub text: String,
    /// An expression could not be evaluated.
    pub error: bool,
}

/// A trial cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// The input is no event, or not of this rule's world.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Too much happens.
    #[error("more than {0} firings and timers: end it earlier")]
    TooMuch(usize),
}

impl Trial {
    /// Puts the rule in force at `start`, when these objects exist. `results` are those of its actions, by name.
    ///
    /// # Errors
    /// When an object is none, or what exists makes it fire too often.
    pub fn begin(
        rule: &Arc<Rule>,
        start: Timestamp,
        existing: Vec<Value>,
        results: Results,
    ) -> Result<Self, TrialError> {
        let start = start.as_microsecond();
        let schedules = schedules(rule, instant(start));
        let mut trial = Self {
            engine: Engine::new(LogId("trial".to_owned())),
            rule: Arc::clone(rule),
            world: World::new(&rule.rule.namespace),
            schedules,
            results,
            came: HashSet::new(),
            start,
            now: start,
            position: 0,
            due: 0,
            most: MOST,
            firings: Vec::new(),
            said: Vec::new(),
            explained: None,
        };
        let put = RulePut { rule: rule.rule.clone(), generation: rule.generation, spec: Arc::clone(&rule.spec) };
        trial.fold(&Record::RulePut(put));
        if rule.spec.suspend {
            trial.say("the rule is suspended: nothing is evaluated", false);
        }
        trial.listen(existing)?;
        Ok(trial)
    }

    /// Its firings so far.
    pub fn firings(&self) -> &[Tried] {
        &self.firings
    }

    /// What else happened so far.
    pub fn said(&self) -> &[Said] {
        &self.said
    }

    /// Lets something happen so long after the start, in microseconds; earlier than what happened before it is at once.
    ///
    /// # Errors
    /// When it is no event, or the rule fires too often.
    pub fn happen(&mut self, at: i64, given: &Given) -> Result<(), TrialError> {
        self.advance(at)?;
        let time = instant(self.now.saturating_sub(given.late()));
        let seen = match given {
            Given::Object { object, .. } => self.world.change(object.clone(), time, &self.engine.interest())?,
            Given::Deleted { object } => self.world.delete(object, time, &self.engine.interest())?,
            Given::CloudEvent { event, from: Some(Maker::Rule(rule)), .. } => {
                let namespace = &self.rule.rule.namespace;
                let event = given::of_rule(event, (namespace, rule), time, self.position)?;
                vec![Seen { origin: rule_event::origin(namespace, &event.id), events: vec![event] }]
            }
            Given::CloudEvent { event, from, .. } => {
                let event = given::cloud_event(event, time, self.position)?;
                let name = if let Some(Maker::EventSource(name)) = from { Some(name.as_str()) } else { None };
                vec![self.accept(event, name)?]
            }
        };
        if seen.is_empty() {
            self.say("nobody looks at this kind in this namespace", false);
        }
        for Seen { origin, events } in seen {
            for event in events {
                self.take(event, &origin, None)?;
            }
        }
        Ok(())
    }

    /// Lets time pass until so long after the start, in microseconds: what is due meanwhile is done.
    ///
    /// # Errors
    /// When too much is due.
    pub fn advance(&mut self, to: i64) -> Result<(), TrialError> {
        let to = self.start.saturating_add(to).max(self.now);
        loop {
            let planned =
                self.schedules.iter().enumerate().filter_map(|(index, (_, timetable, last))| {
                    Some((timetable.after(*last)?.as_microsecond(), index))
                });
            let planned = planned.min().filter(|(at, _)| *at <= to);
            let due = self.engine.next_deadline().filter(|at| *at <= to);
            match (due, planned) {
                (None, None) => break,
                (Some(due), planned) if planned.is_none_or(|(at, _)| due <= at) => {
                    self.now = self.now.max(due);
                    self.fall_due()?;
                }
                (_, Some((at, index))) => {
                    self.now = self.now.max(at);
                    let (schedule, _, last) = &mut self.schedules[index];
                    *last = instant(at);
                    let (event, origin) = (schedule.event(*last, false), schedule.reached(*last));
                    self.count()?;
                    self.take(event, &origin, None)?;
                }
                (Some(_), None) => break,
            }
        }
        self.now = to;
        Ok(())
    }

    /// The listening of all sources begins with what exists.
    fn listen(&mut self, existing: Vec<Value>) -> Result<(), TrialError> {
        let plans = plan(&self.rule.spec, &self.rule.rule.namespace);
        let interest = self.engine.interest();
        self.world.begin(&plans, existing, instant(self.now), &interest)?;
        let source = |name: &str| SourceRef {
            rule: self.rule.rule.uid.clone(),
            generation: self.rule.generation,
            source: name.to_owned(),
        };
        let sources: Vec<SourceRef> = plans.iter().map(|plan| source(plan.source())).collect();
        for source in &sources {
            self.fold(&Record::Baseline(source.clone()));
        }
        for (plan, source) in plans.iter().zip(&sources) {
            let Plan::Watch(plan) = plan else { continue };
            if plan.existing == Existing::Fire {
                for (event, origin) in self.world.existing(plan, instant(self.now))? {
                    self.take(event, &origin, Some(source))?;
                }
            }
        }
        Ok(())
    }

    /// An event that an EventSource has accepted.
    fn accept(&mut self, event: Event, name: Option<&str>) -> Result<Seen, TrialError> {
        let namespace = &self.rule.rule.namespace;
        let names = self.rule.spec.sources.iter().filter_map(|source| source.reference.as_deref());
        let names: Vec<&str> = names.map(|reference| reference.name.as_str()).collect();
        let name = match (name, names.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, []) => {
                return Err(InputError::new(
                    "the rule has no source with ref, by which it could come; of a rule it is with fromRule",
                )
                .into());
            }
            (None, _) => {
                return Err(InputError::new("the rule has several EventSources: say which by eventSource").into());
            }
        };
        let uid = format!("{name}/{}/{}", event.source, event.id);
        let origin = event_source::origin(namespace, name, uid, self.now.unsigned_abs());
        let fresh = self.came.insert((format!("{name}/{}", event.source), event.id.clone()));
        if !fresh {
            self.say("an event of this source and id came before: it comes once", false);
        }
        Ok(Seen { origin, events: if fresh { vec![event] } else { Vec::new() } })
    }

    /// What becomes of an event, as between a source and the engine of the operator.
    fn take(&mut self, event: Event, origin: &Origin, only: Option<&SourceRef>) -> Result<(), TrialError> {
        let concern = self.engine.interest().concern(origin, &event);
        let lookups = self.world.look_up(&event, &concern);
        let input = EventInput { event: Arc::new(event), origin: origin.clone(), only: only.cloned(), lookups };
        self.judge(input, &concern)
    }

    /// The same, of an event for which everything was looked up.
    fn judge(&mut self, input: EventInput, concern: &Concern) -> Result<(), TrialError> {
        let interest = self.engine.interest();
        if let Some(explained) = &mut self.explained {
            let sources = explained_of(&self.rule, &input, instant(self.now));
            let (type_, subject) = (input.event.type_.clone(), input.event.subject.clone().unwrap_or_default());
            explained.push(SourceSaid { type_, subject, sources });
        }
        if !concern.any {
            self.nearly(&interest, &input);
            return Ok(());
        }
        let head = self.head();
        let Judged { seen, decisions } = self.engine.judge(&head, &input);
        if decisions.is_empty() {
            self.nearly(&interest, &input);
        }
        let opened = self.opened(Some(&input), &decisions);
        self.engine.decide(&head, &input, &seen, &decisions);
        self.decided(&decisions, opened)
    }

    /// All that is due at this instant.
    fn fall_due(&mut self) -> Result<(), TrialError> {
        let head = self.head();
        while let Some(deadline) = self.engine.due(&head) {
            self.count()?;
            let decisions = self.engine.judge_due(&head, &deadline);
            let opened = self.opened(None, &decisions);
            self.engine.decide_due(&head, &deadline, &decisions);
            self.decided(&decisions, opened)?;
        }
        Ok(())
    }

    /// The firings among the decisions, with what they are about: before the decisions are taken in.
    fn opened(&self, input: Option<&EventInput>, decisions: &[Decision]) -> Vec<OpenFiring> {
        let open = |decision: &Decision| {
            let Decision::Fired(firing) = decision else { return None };
            let (event, events) = (self.engine.event_of(firing, input)?, self.engine.events_of(firing, input));
            let (firing, spec) = (firing.clone(), Arc::clone(&self.rule.spec));
            Some(OpenFiring { firing, event, events, spec, steps: Default::default() })
        };
        decisions.iter().filter_map(open).collect()
    }

    /// Tells the decisions. A firing takes no time.
    fn decided(&mut self, decisions: &[Decision], opened: Vec<OpenFiring>) -> Result<(), TrialError> {
        for decision in decisions {
            if let Some((text, error)) = tell::decision(&self.engine, &self.rule, decision, self.now) {
                self.say(text, error);
            }
        }
        for open in opened {
            self.count()?;
            let finished = Finished {
                firing: open.firing.id.clone(),
                rule: self.rule.rule.uid.clone(),
                outcome: crate::api::FiringOutcome::Succeeded,
                message: String::new(),
                failed_at: None,
            };
            let actions = render::actions(&self.rule, &open, &self.results);
            self.firings.push(Tried { at: self.now - self.start, firing: open.firing, actions });
            self.fold(&Record::Finished(finished));
        }
        Ok(())
    }

    /// Says what refused an event.
    fn nearly(&mut self, interest: &Interest, input: &EventInput) {
        // Who asks for an explanation is told all of it.
        if self.explained.is_some() {
            return;
        }
        for miss in interest.near_misses(instant(self.now), input, 0, || true) {
            self.say(format!("{} said no: {}", miss.told.condition, miss.told.saw), false);
        }
    }

    fn say(&mut self, text: impl Into<String>, error: bool) {
        if error || self.said.len() < MOST_SAID {
            self.said.push(Said { at: self.now - self.start, text: text.into(), error });
        }
    }

    fn count(&mut self) -> Result<(), TrialError> {
        self.due += 1;
        if self.due > self.most { Err(TrialError::TooMuch(self.most)) } else { Ok(()) }
    }

    fn fold(&mut self, record: &Record) {
        let head = self.head();
        self.engine.fold(&head, record);
    }

    fn head(&mut self) -> Head {
        self.position += 1;
        Head { position: Position(self.position), stamp: Stamp { at: self.now, wall: self.now } }
    }
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

fn schedules(rule: &Rule, start: Timestamp) -> Vec<(Schedule, Timetable, Timestamp)> {
    let of = &rule.rule;
    let schedule = |source: &crate::api::Source| {
        let spec = source.schedule.as_deref().filter(|_| !rule.spec.suspend)?;
        let schedule = Schedule::new(&of.uid.0, &of.namespace, &of.name, &source.name, spec);
        // One that is not understood is a fault of the rule.
        let timetable = Timetable::new(&schedule).ok()?;
        Some((schedule, timetable, start))
    };
    rule.spec.sources.iter().filter_map(schedule).collect()
}
