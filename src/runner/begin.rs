//! Whether a firing begins, and as what: late, under a breaker, by the rule as it was when the firing was decided.

use std::{sync::Arc, time::Duration};

use super::Inner;
use crate::{
    api::{EventRuleSpec, RuleMode},
    clock::Stamp,
    record::OpenFiring,
    rule::{Rule, compile},
    text,
};

/// Whether the breaker of the rule lets the firing be carried out. One that has begun goes on as it began, and what is to be given back is.
pub(super) fn is_let(inner: &Inner, open: &OpenFiring, rule: &Rule) -> bool {
    let firing = &open.firing;
    firing.restores.is_some()
        || firing.closes
        || rule.spec.mode == RuleMode::Observe
        || is_begun(open)
        || inner.gates.lock().lets(&firing.rule.uid, &firing.id)
}

/// Whether the firing, if it begins now, is only a dry run.
pub(super) fn will_observe(inner: &Inner, open: &OpenFiring) -> bool {
    let firing = &open.firing;
    open.spec.mode == RuleMode::Observe || !inner.gates.lock().would_let(&firing.rule.uid, &firing.id)
}

fn is_begun(open: &OpenFiring) -> bool {
    open.steps.values().any(|step| step.intent.is_some() || step.outcome.is_some())
}

/// The firing as the ledger has it when it is only observed.
pub(super) fn observing(open: &OpenFiring) -> OpenFiring {
    let spec = EventRuleSpec { mode: RuleMode::Observe, ..EventRuleSpec::clone(&open.spec) };
    OpenFiring { spec: Arc::new(spec), ..open.clone() }
}

/// The rule as it was when the firing was decided. One that is compiled serves the next firing of the same version.
pub(super) fn compiled(inner: &Inner, open: &OpenFiring) -> Result<Arc<Rule>, String> {
    let OpenFiring { firing, spec, .. } = open;
    let fits = |rule: &&Arc<Rule>| rule.generation == firing.generation && rule.spec == *spec;
    if let Some(rule) = inner.compiled.lock().get(&firing.rule.uid).filter(fits) {
        return Ok(Arc::clone(rule));
    }
    let rule = compile(&firing.rule, firing.generation, spec).map_err(text::join)?;
    inner.compiled.lock().insert(firing.rule.uid.clone(), Arc::clone(&rule));
    Ok(rule)
}

/// Why the firing is not to begin any more. One that has begun is finished.
pub(super) fn expired(open: &OpenFiring, rule: &Rule, now: Stamp) -> Option<String> {
    let deadline = rule.spec.starting_deadline.filter(|_| open.firing.restores.is_none())?.get();
    let since = open.firing.planned.unwrap_or(open.firing.stamp.wall);
    let late = Duration::from_micros(u64::try_from(now.wall.saturating_sub(since)).unwrap_or(0));
    let seconds = late.as_secs();
    let of = if open.firing.planned.is_some() { "the time that it was planned for" } else { "its event" };
    (open.steps.is_empty() && late > deadline).then(|| {
        format!("not carried out: it could begin only {seconds} s after {of}, later than startingDeadline allows")
    })
}

/// Whether nothing is changed. What was changed before the rule was told to observe is given back.
pub(super) fn observes(rule: &Rule, open: &OpenFiring) -> bool {
    rule.spec.mode == RuleMode::Observe && open.firing.restores.is_none()
}
