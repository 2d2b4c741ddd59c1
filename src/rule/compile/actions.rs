//! The actions of a rule: those of firings, of steps, and of ends.

use super::{CompiledAction, Compiler, Mode, Template};
use crate::api::{Action, ActionKind, EventRuleSpec, Job, JobWait, Notify, Retry, Rollout, Scale};

/// The texts of an action kind that may hold `${ }`.
pub(super) const TARGET_TEXTS: &[&str] = &["target.name", "target.namespace"];
pub(super) const NODE_TEXTS: &[&str] = &["node"];
const NOTIFY_TEXTS: &[&str] = &["title", "text", "fields.value", "dedupKey"];

impl Compiler {
    pub(super) fn names_of_actions(&mut self, spec: &EventRuleSpec) {
        self.names = std::mem::take(&mut self.names).and_of_actions();
        spec.group_by.iter().for_each(|key| self.names.add_group(&key.name));
        let trigger = spec.trigger.clone().unwrap_or_default();
        let names = [
            ("count", trigger.count.is_some() || trigger.batch.is_some()),
            ("events", trigger.batch.is_some()),
            ("value", trigger.value.is_some() || trigger.anomaly.is_some()),
            ("baseline", trigger.anomaly.is_some()),
        ];
        for (name, _) in names.into_iter().filter(|(_, known)| *known) {
            self.names = std::mem::take(&mut self.names).with(name);
        }
        // An action is an instant, whatever the conditions are.
        self.names = std::mem::take(&mut self.names).with("now");
    }

    /// The actions of one list: each may use the results of those before it.
    pub(super) fn actions(&mut self, actions: &[Action], path: &str) -> Vec<CompiledAction> {
        let before = self.names.clone();
        let mut compiled = Vec::with_capacity(actions.len());
        for (index, action) in actions.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let if_expression = action.if_expression.as_ref();
            let if_expression =
                if_expression.and_then(|source| self.condition(source, &format!("{path}.ifExpression")));
            let wait_for = self.wait_for(action, &path).or_else(|| self.wait_expression(action, &path));
            let fails_when = self.fails_when(action, &path);
            let filter = self.filter(action, &path);
            if let Some(body) = self.body(action, &path) {
                let name = action.name.clone();
                compiled.push(CompiledAction { name, if_expression, wait_for, fails_when, filter, body });
            }
            self.times(action, &path);
            self.names.add_action(&action.name);
        }
        self.names = before;
        compiled
    }

    /// How often and how long.
    fn times(&mut self, action: &Action, path: &str) {
        let Retry { limit, attempt_timeout, .. } = &action.retry;
        if *limit > 100 {
            self.fault(format!("{path}.retry.limit"), "must be at most 100");
        }
        let times = [("timeout", action.timeout), ("retry.attemptTimeout", *attempt_timeout)];
        for (name, _) in times.into_iter().filter(|(_, time)| time.is_some_and(|time| time.get().is_zero())) {
            self.fault(format!("{path}.{name}"), "must be longer than 0s");
        }
        if action.drain.is_some() && attempt_timeout.is_some() {
            self.fault(format!("{path}.retry.attemptTimeout"), "is not for drain: timeout says how long it may take");
        }
        let waits = action.job.as_ref().is_some_and(|job| job.wait == JobWait::Completed);
        if waits && attempt_timeout.is_some() {
            self.fault(
                format!("{path}.retry.attemptTimeout"),
                "is not for a Job that is waited for: timeout says how long it may take",
            );
        }
    }

    fn body(&mut self, action: &Action, path: &str) -> Option<Template> {
        match action.kind() {
            Some(ActionKind::Scale(scale)) => self.scale(scale, &format!("{path}.scale")),
            Some(ActionKind::Rollout(rollout)) => self.rollout(rollout, &format!("{path}.rollout")),
            Some(ActionKind::Patch(patch)) => self.patch(patch, &format!("{path}.patch")),
            Some(ActionKind::SetImage(spec)) => self.set_image(spec, &format!("{path}.setImage")),
            Some(ActionKind::Apply(spec)) => self.manifest(spec, spec.faults(&spec.manifest), &format!("{path}.apply")),
            Some(ActionKind::Create(spec)) => {
                self.manifest(spec, spec.faults(&spec.manifest), &format!("{path}.create"))
            }
            Some(ActionKind::Delete(spec)) => self.delete(spec, &format!("{path}.delete")),
            Some(ActionKind::Evict(spec)) => self.evict(spec, &format!("{path}.evict")),
            Some(ActionKind::Cordon(spec)) => self.fields(spec, NODE_TEXTS, &format!("{path}.cordon")),
            Some(ActionKind::Uncordon(spec)) => self.fields(spec, NODE_TEXTS, &format!("{path}.uncordon")),
            Some(ActionKind::Taint(spec)) => self.taint(spec, &format!("{path}.taint")),
            Some(ActionKind::Drain(spec)) => self.fields(spec, NODE_TEXTS, &format!("{path}.drain")),
            Some(ActionKind::Notify(notify)) => self.notify(notify, &format!("{path}.notify")),
            Some(ActionKind::Http(http)) => self.http(http, &format!("{path}.http")),
            Some(ActionKind::Publish(publish)) => self.publish(publish, &format!("{path}.publish")),
            Some(ActionKind::Emit(emit)) => self.emit(emit, &format!("{path}.emit")),
            Some(ActionKind::Approve(approve)) => self.approve(action, approve, path),
            Some(ActionKind::Job(job)) => self.job(job, &format!("{path}.job")),
            Some(ActionKind::Wait(wait)) => self.wait(action, wait, path),
            None => {
                self.fault(
                    path,
                    "exactly one of scale, rollout, setImage, patch, apply, create, delete, job, evict, cordon, uncordon, taint, drain, http, notify, publish, emit, wait and approve must be set",
                );
                None
            }
        }
    }

    fn scale(&mut self, scale: &Scale, path: &str) -> Option<Template> {
        if let Some(fault) = scale.fault() {
            self.fault(path, fault);
        }
        if matches!((scale.min, scale.max), (Some(min), Some(max)) if min > max) {
            self.fault(format!("{path}.min"), "must not be greater than max");
        }
        self.target(&scale.target, path);
        let mut fields = Vec::new();
        let mut whole = true;
        for (key, value) in self.json(scale, path)? {
            let path = format!("{path}.{key}");
            let field = match (key.as_str(), &scale.to_expression) {
                ("toExpression", Some(source)) => self.whole_number(source, &path),
                ("target", _) => self.fields(&value, &["name", "namespace"], &path),
                _ => {
                    self.refuse_elsewhere(&value, &[], "", &path);
                    Some(Template::fixed(value, &path))
                }
            };
            whole &= field.is_some();
            fields.extend(field.map(|field| (key, field)));
        }
        whole.then(|| Template::object(fields, path))
    }

    /// What an expression gives that says how many.
    fn whole_number(&mut self, source: &str, path: &str) -> Option<Template> {
        let program = self.program(source, path)?;
        if let Some(other) = program.surely_not_whole() {
            self.fault(path, format!("gives {other}, not a whole number; of a double int() makes one"));
        }
        Some(Template::evaluated(program, path))
    }

    fn rollout(&mut self, rollout: &Rollout, path: &str) -> Option<Template> {
        if let Some(fault) = rollout.fault() {
            self.fault(path, fault);
        }
        self.target(&rollout.target, path);
        self.fields(rollout, TARGET_TEXTS, path)
    }

    fn notify(&mut self, notify: &Notify, path: &str) -> Option<Template> {
        self.fields(notify, NOTIFY_TEXTS, path)
    }

    fn job(&mut self, job: &Job, path: &str) -> Option<Template> {
        if !job.has_one_origin() {
            self.fault(path, "exactly one of template, script and from must be set");
        }
        let mut fields = Vec::new();
        for (key, value) in self.json(job, path)? {
            let path = format!("{path}.{key}");
            fields.push(match key.as_str() {
                "template" => (key, self.template(&value, Mode::Typed, &path)?),
                "from" => (key, self.fields(&value, &["cronJob"], &path)?),
                _ => (key, Template::fixed(value, &path)),
            });
        }
        Some(Template::object(fields, path))
    }
}
