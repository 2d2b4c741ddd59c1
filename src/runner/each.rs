//! An action with several objects: they are found once, and each is a step of its own, one after the other.
//!
//! What was found is recorded before the first is changed, so that a restart goes on with the same objects where it stopped.

use serde_json::{Value, json};

use super::{
    halt::{self, Halt},
    step::Part,
    undo::{self, Made},
    way::Way,
};
use crate::{
    actions::{Done, Users},
    api::{self, ActionOutcome},
    record::{Outcome, Record, part},
    rule::CompiledAction,
};

/// What became of one object.
struct Ended {
    outcome: ActionOutcome,
    message: String,
    /// For `actions.<name>.targets`.
    told: Value,
}

impl<'a> Way<'a> {
    /// Carries the action out on every object that the event leads to. `intent` is what an earlier process has found.
    pub(super) async fn each(
        &mut self,
        spec: &'a api::Action,
        compiled: &'a CompiledAction,
        intent: Option<(u32, Value)>,
    ) -> Result<Outcome, Halt> {
        let finding = self.step(spec, compiled, &spec.name, Part::Find);
        let (found, request) = finding.run(intent, &mut None).await?;
        let request = request.unwrap_or_default();
        let targets = Users::found(&request);
        if targets.is_empty() || found.outcome != ActionOutcome::Unchanged {
            return Ok(found);
        }
        let mut all = Vec::with_capacity(targets.len());
        for (number, target) in targets.iter().enumerate() {
            let (outcome, message) = self.one(spec, compiled, &part(&spec.name, number), target).await?;
            let mut told = target.clone();
            told["outcome"] = json!(outcome);
            all.push(Ended { outcome, message, told });
        }
        Ok(self.step(spec, compiled, &spec.name, Part::Find).done(sum(all)))
    }

    /// What became of one object, now or in an earlier process.
    async fn one(
        &mut self,
        spec: &'a api::Action,
        compiled: &'a CompiledAction,
        name: &str,
        target: &Value,
    ) -> Result<(ActionOutcome, String), Halt> {
        let known = self.open.steps.get(name);
        if let Some((outcome, step)) = known.and_then(|step| Some((step.outcome?, step))) {
            let (request, effect) = undo::known(step);
            self.made.extend(Made::of(spec, compiled, name, request, (outcome, effect)));
            return Ok((outcome, step.message.clone()));
        }
        let intent = known.and_then(|step| step.intent.clone());
        let mut held = intent.as_ref().and_then(|_| self.held.take());
        let (outcome, request) = self.step(spec, compiled, name, Part::Of(target)).run(intent, &mut held).await?;
        let ended = (outcome.outcome, outcome.message.clone());
        self.made.extend(Made::of(spec, compiled, name, request, (outcome.outcome, outcome.effect.clone())));
        halt::record(self.inner, Record::Outcome(outcome)).await?;
        Ok(ended)
    }
}

/// What became of them all: failed when one has, done when one was.
fn sum(all: Vec<Ended>) -> Done {
    use ActionOutcome::{Failed, Observed, Succeeded, Superseded, Unchanged};
    let first = |wanted| all.iter().find(|one| one.outcome == wanted);
    let outcome = [Failed, Succeeded, Observed, Superseded].into_iter().find(|&wanted| first(wanted).is_some());
    let messages = || all.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; ");
    let message = match first(Failed) {
        Some(failed) => {
            let count = all.iter().filter(|one| one.outcome == Failed).count();
            format!("{count} of {} failed: {}", all.len(), failed.message)
        }
        None => messages(),
    };
    let targets: Vec<Value> = all.into_iter().map(|one| one.told).collect();
    Done {
        outcome: outcome.unwrap_or(Unchanged),
        message,
        result: json!({"targets": targets}),
        effect: None,
        reason: None,
    }
}
