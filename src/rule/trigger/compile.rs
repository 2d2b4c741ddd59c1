//! From `trigger` of a spec to a trigger: what can be wrong with it is said here and in the rooms of the kinds.

use super::{
    Absent, All, Anomaly, Batch, Count, DueAt, Held, Measure, Sequence, Trigger,
    level::{self, course},
    sequence::Matcher,
    value::Bound,
};
use crate::{
    api::{self, AnomalyTrigger, Duration, EventMatch, EventRuleSpec, ValueTrigger},
    rule::{compile::Compiler, fault::Fault, groups::micros},
};

impl Trigger {
    /// Compiles the trigger of a rule, with the names that conditions may use; faults are added with their paths.
    pub(in crate::rule) fn compile(spec: &EventRuleSpec, compiler: &mut Compiler) -> Option<Self> {
        let limits = spec.groups.clone().unwrap_or_default();
        if limits.max == Some(0) {
            compiler.fault("spec.groups.max", "must be at least 1");
        }
        if limits.forget_after.is_some_and(|time| time.get().is_zero()) {
            compiler.fault("spec.groups.forgetAfter", "must be longer than 0s");
        }
        level::check(spec, &mut compiler.faults);
        let trigger = spec.trigger.as_deref()?;
        let api::Trigger { count, held, absent, value, anomaly, sequence, all, batch, due } = trigger;
        if trigger.kinds() != 1 {
            let message =
                "exactly one of count, held, absent, value, anomaly, sequence, all, batch and due must be set";
            compiler.fault("spec.trigger", message);
            return None;
        }
        let faults = &mut compiler.faults;
        if let Some(count) = count {
            return Count::compile(count, &limits, faults).map(Self::Count);
        }
        if let Some(held) = held {
            return Held::compile(held, spec.repeat, faults).map(Self::Held);
        }
        if let Some(absent) = absent {
            return Absent::compile(absent, &limits, spec.repeat, faults).map(Self::Absent);
        }
        if let Some(batch) = batch {
            return Batch::compile(batch, faults).map(Self::Batch);
        }
        if let Some(value) = value {
            return compiler.value(value, spec).map(Self::Value);
        }
        if let Some(anomaly) = anomaly {
            return compiler.anomaly(anomaly, spec).map(Self::Anomaly);
        }
        if let Some(sequence) = sequence {
            let path = "trigger.sequence";
            let steps = compiler.matchers(spec, &sequence.steps, &format!("{path}.steps"));
            let unless = sequence.unless.as_slice();
            let unless = compiler.matchers(spec, unless, &format!("{path}.unless")).pop();
            let within = compiler.time(sequence.within, &format!("spec.{path}.within"));
            return Some(Self::Sequence(Sequence { within, steps, unless }));
        }
        if let Some(all) = all {
            let of = compiler.matchers(spec, &all.of, "trigger.all.of");
            return Some(Self::All(All { within: compiler.time(all.within, "spec.trigger.all.within"), of }));
        }
        let at = compiler.program(&due.as_ref()?.at_expression, "spec.trigger.due.atExpression")?;
        Some(Self::Due(DueAt { at }))
    }
}

impl Compiler {
    /// A time that must not be nothing, in microseconds.
    fn time(&mut self, time: Duration, path: &str) -> i64 {
        if time.get().is_zero() {
            self.fault(path, "must be longer than 0s");
        }
        micros(time.get())
    }

    fn matchers(&mut self, spec: &EventRuleSpec, events: &[EventMatch], path: &str) -> Vec<Matcher> {
        let is_one = path.ends_with("unless");
        if !is_one && !(2..=8).contains(&events.len()) {
            self.fault(format!("spec.{path}"), "must have 2 to 8 events");
        }
        let mut matchers = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let place = if is_one { path.to_owned() } else { format!("{path}[{index}]") };
            if let Some(source) = &event.source
                && !spec.sources.iter().any(|known| known.name == *source)
            {
                self.fault(format!("spec.{place}.source"), format!("the rule has no source {source:?}"));
            }
            if is_one && event.source.is_none() && event.when.is_empty() {
                self.fault(format!("spec.{place}"), "must say source or when: otherwise no sequence could go on");
            }
            self.unique(&format!("spec.{place}.when"), event.when.iter().map(|one| one.name.as_str()));
            let conditions = self.conditions(&event.when, &format!("spec.{place}.when"));
            matchers.push(Matcher { place, source: event.source.clone(), conditions });
        }
        matchers
    }

    fn value(&mut self, value: &ValueTrigger, spec: &EventRuleSpec) -> Option<Measure> {
        let before = self.faults.len();
        let path = "spec.trigger.value";
        let expression = self.program(&value.expression, &format!("{path}.expression"));
        let within = micros(value.within.get());
        if within < 1_000_000 {
            self.fault(format!("{path}.within"), "must be at least 1s");
        }
        let mut number = |text: &Option<String>, field: &str| {
            let text = text.as_ref()?;
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            if number.is_none() {
                self.faults
                    .push(Fault::new(format!("{path}.{field}"), format!("{text:?} is no number, such as \"0.5\"")));
            }
            number
        };
        let (above, below) = (number(&value.above, "above"), number(&value.below, "below"));
        let clear = number(&value.clear, "clear");
        if value.above.is_some() == value.below.is_some() {
            self.fault(path, "exactly one of above and below must be set");
        }
        let bound = match (above, below) {
            (Some(from), None) => Bound::Above { from, clear: clear.unwrap_or(from) },
            (None, Some(from)) => Bound::Below { from, clear: clear.unwrap_or(from) },
            _ => return None,
        };
        match bound {
            Bound::Above { from, clear } if clear > from => {
                self.fault(format!("{path}.clear"), "must not be greater than above");
            }
            Bound::Below { from, clear } if clear < from => {
                self.fault(format!("{path}.clear"), "must not be less than below");
            }
            Bound::Above { .. } | Bound::Below { .. } => {}
        }
        let keep = spec.groups.clone().unwrap_or_default().forget_after(value.within);
        let measure = Measure {
            expression: expression?,
            aggregation: value.aggregation,
            within,
            bound,
            no_data: value.no_data,
            course: course(value.for_.unwrap_or(Duration::from_secs(0)), spec.repeat),
            keep: micros(keep.get()).max(within.saturating_mul(2)),
        };
        (self.faults.len() == before).then_some(measure)
    }

    fn anomaly(&mut self, anomaly: &AnomalyTrigger, spec: &EventRuleSpec) -> Option<Anomaly> {
        let path = "spec.trigger.anomaly";
        if anomaly.deviations == 0 {
            self.fault(format!("{path}.deviations"), "must be at least 1");
        }
        if anomaly.warmup < 10 {
            self.fault(format!("{path}.warmup"), "must be at least 10");
        }
        let keep = spec.groups.clone().unwrap_or_default().forget_after(Duration::from_secs(0));
        Some(Anomaly {
            expression: self.program(&anomaly.expression, &format!("{path}.expression"))?,
            deviations: anomaly.deviations.into(),
            direction: anomaly.direction,
            warmup: anomaly.warmup.into(),
            keep: micros(keep.get()),
            course: course(Duration::from_secs(0), spec.repeat),
        })
    }
}
