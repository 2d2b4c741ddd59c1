//! An engine on a line of time: what is due is judged as the shard does it.

use std::collections::BTreeMap;

use super::*;
use crate::{api::RuleMode, record::OpenFiring};

/// One rule, `web`, and the time.
pub(super) struct Timeline {
    pub(super) engine: Engine,
    /// All that fired.
    pub(super) fired: Vec<Firing>,
    /// The subjects of what was gathered for those.
    pub(super) events: Vec<Vec<String>>,
    position: u64,
    view: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl Timeline {
    pub(super) fn of(rule: Value) -> Self {
        Self { engine: engine_with(rule), fired: Vec::new(), events: Vec::new(), position: 10, view: BTreeMap::new() }
    }

    /// What is decided before and by an event at this second.
    pub(super) fn event(&mut self, second: i64, input: &EventInput) -> Vec<String> {
        let head = self.next(second);
        let mut decisions = self.due(&head);
        let judged = self.engine.judge(&head, input);
        self.gather(&judged.decisions, Some(input));
        self.engine.decide(&head, input, &judged.seen, &read(&head, None, &judged.decisions));
        decisions.extend(judged.decisions);
        self.words(decisions)
    }

    /// What is decided up to this second.
    pub(super) fn tick(&mut self, second: i64) -> Vec<String> {
        let head = self.next(second);
        let decisions = self.due(&head);
        self.words(decisions)
    }

    /// Takes in a record, without what is due before it.
    pub(super) fn fold(&mut self, second: i64, record: &Record) {
        let head = self.next(second);
        self.engine.fold(&head, record);
    }

    /// A firing of the version in force ends, carried out or observed only.
    pub(super) fn end(&mut self, second: i64, outcome: FiringOutcome, mode: RuleMode) -> OpenFiring {
        let generation = self.rule().generation;
        self.end_of(second, outcome, mode, generation)
    }

    /// A firing of this version ends.
    pub(super) fn end_of(
        &mut self,
        second: i64,
        outcome: FiringOutcome,
        mode: RuleMode,
        generation: i64,
    ) -> OpenFiring {
        let input = about("shop", "p", "R", json!({}));
        let head = self.next(second);
        let judged = self.engine.judge(&head, &input);
        let Some(Decision::Fired(firing)) = judged.decisions.last().cloned() else { panic!("it does not fire") };
        let firing = Firing { generation, ..firing };
        let spec = EventRuleSpec { mode, ..EventRuleSpec::clone(&self.rule().spec) };
        let open =
            OpenFiring { firing, event: input.event, events: Vec::new(), spec: Arc::new(spec), steps: BTreeMap::new() };
        let (firing, rule) = (open.firing.id.clone(), open.firing.rule.uid.clone());
        let finished = Finished { firing, rule, outcome, message: "it failed".into(), failed_at: None };
        self.engine.ended(&head, &open, &finished);
        open
    }

    /// Another version of the rule, in force at once.
    pub(super) fn put(&mut self, second: i64, generation: i64, body: Value) {
        let spec = spec(body);
        let rule = rule_ref("web");
        self.fold(second, &Record::RulePut(RulePut { rule: rule.clone(), generation, spec: Arc::clone(&spec) }));
        for source in &spec.sources {
            let source = SourceRef { rule: rule.uid.clone(), generation, source: source.name.clone() };
            self.fold(second, &Record::Baseline(source));
        }
    }

    /// The engine as its rows tell it.
    pub(super) fn restart(&mut self) {
        for (table, key, row) in self.engine.dirty() {
            match row {
                Some(row) => self.view.insert((table, key), row),
                None => self.view.remove(&(table, key)),
            };
        }
        let saved = self.view.iter().map(|((table, key), row)| (*table, key.clone(), row.clone()));
        let (engine, damage) = Engine::restore(log(), saved);
        assert!(damage.is_empty(), "{damage:?}");
        self.engine = engine;
    }

    pub(super) fn rule(&self) -> &Arc<Rule> {
        self.engine.rule(&rule_ref("web").uid).expect("in force")
    }

    pub(super) fn progress(&self) -> Progress {
        self.engine.progress(&rule_ref("web").uid).expect("the rule")
    }

    fn next(&mut self, second: i64) -> Head {
        self.position += 1;
        head(self.position, second)
    }

    fn due(&mut self, head: &Head) -> Vec<Decision> {
        let mut all = Vec::new();
        while let Some(deadline) = self.engine.due(head) {
            let decisions = self.engine.judge_due(head, &deadline);
            self.gather(&decisions, None);
            self.engine.decide_due(head, &deadline, &read(head, Some(&deadline), &decisions));
            all.extend(decisions);
        }
        all
    }

    /// What the shard asks of the engine before it takes the decisions in.
    fn gather(&mut self, decisions: &[Decision], input: Option<&EventInput>) {
        for decision in decisions {
            if let Decision::Fired(firing) = decision {
                assert!(self.engine.event_of(firing, input).is_some(), "a firing is about something");
                let subjects = self.engine.events_of(firing, input);
                self.events.push(subjects.iter().map(|event| event.subject.clone().unwrap_or_default()).collect());
            }
        }
    }

    /// The aggregate of the group `shop/Pod/p`, of a rule with `trigger.value`.
    pub(super) fn aggregate(&self) -> Option<f64> {
        let row = self.engine.kept(&rule_ref("web").uid, "shop/Pod/p").expect("something is kept");
        let trigger::Trigger::Value(measure) = self.rule().trigger.as_ref().expect("a trigger") else {
            panic!("another")
        };
        let trigger::Kept::Value(window) = row else { panic!("another") };
        measure.told(window)
    }

    fn words(&mut self, decisions: Vec<Decision>) -> Vec<String> {
        let words = decisions.iter().map(word).collect();
        self.fired.extend(decisions.into_iter().filter_map(|decision| match decision {
            Decision::Fired(firing) => Some(firing),
            _ => None,
        }));
        words
    }
}

/// The decisions as the log holds them.
fn read(head: &Head, deadline: Option<&Deadline>, decisions: &[Decision]) -> Vec<Decision> {
    let judgement = match deadline {
        Some(deadline) => Judgement::of_deadline(head, deadline, decisions),
        None => Judgement::of(head, None, decisions),
    };
    let mut bytes = Vec::new();
    crate::record::encode(&Record::Judgement(judgement), &mut bytes).expect("encode");
    let Record::Judgement(judgement) = crate::record::decode(&bytes).expect("decode") else { panic!("another record") };
    judgement.decisions
}

/// What happens to a rule in a property.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Event(Box<EventInput>),
    Nothing,
    /// Taken in by both.
    Record(Box<Record>),
    Restart,
}

/// Whether an engine that is restored at any time, and asked for what is due at other times, decides as one that is not.
pub(super) fn goes_on_the_same(rule: &Value, happenings: &[(i64, Happening)]) -> Result<(), TestCaseError> {
    let (mut one, mut other) = (Timeline::of(rule.clone()), Timeline::of(rule.clone()));
    let (mut second, mut left, mut right) = (0, Vec::new(), Vec::new());
    for (wait, happening) in happenings {
        second += wait;
        match happening {
            Happening::Event(input) => {
                left.extend(one.event(second, input));
                right.extend(other.event(second, input));
            }
            // Whether somebody asked before makes no difference.
            Happening::Nothing => right.extend(other.tick(second)),
            Happening::Record(record) => {
                left.extend(one.tick(second));
                right.extend(other.tick(second));
                [&mut one, &mut other].into_iter().for_each(|line| line.fold(second, record));
            }
            Happening::Restart => other.restart(),
        }
    }
    left.extend(one.tick(second + 100_000));
    right.extend(other.tick(second + 100_000));
    prop_assert_eq!(left, right);
    let ids = |line: &Timeline| {
        line.fired.iter().map(|firing| (firing.stamp, firing.kind, firing.group.clone())).collect::<Vec<_>>()
    };
    prop_assert_eq!(ids(&one), ids(&other));
    let (one, other) = (one.progress(), other.progress());
    prop_assert_eq!((one.counts, one.active), (other.counts, other.active));
    Ok(())
}
