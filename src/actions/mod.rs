//! What a firing does: one file per kind of action.
//!
//! An action first renders its request with absolute values, reading what it must; the request is recorded; then it is executed, after a crash
//! once more with the same request. Everything is done with the rights of the rule's account. Actions know no sources, no log and no other action.

mod apply;
mod by_hand;
mod cordon;
mod create;
mod created;
mod delete;
mod deletion;
mod drain;
mod emit;
mod evict;
mod eviction;
mod failure;
mod fields;
mod gitops;
mod http;
mod job;
mod lead;
mod manifest;
mod name;
mod node;
mod notify;
mod patch;
mod pods;
mod publish;
mod recording;
mod rehearsal;
mod rollout;
mod scale;
mod secrets;
mod selected;
mod set_image;
mod sink;
mod taint;
mod target;
mod text;
mod undo;
mod users;
mod wait;
mod wait_for;
mod write;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use by_hand::{ByHand, NotTaken, Notice, Taken, send as send_by_hand};
pub use failure::{Failure, FailureKind};
pub use lead::{lead, lead_to};
pub use rehearsal::{rehearse, without_sink};
pub use scale::Scales;
pub use selected::{Keep, Selected};
pub use undo::{Back, Undo};
pub use users::Users;
pub use wait_for::{Look, Waiting};

use crate::{
    api::{self, ActionKind, ActionOutcome},
    bus::Permit,
    clock::Clock,
    event::Event,
    kubernetes::{Cluster, Right},
    net::Http,
    record::{Account, Change, Effect, FailureReason, FiringId, RuleRef},
    sinks::Registry,
};

/// How long one attempt may take when the action sets no `retry.attemptTimeout`.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Annotation of what a firing created: `<namespace>/<rule>/<firing>/<action>`.
const CAUSED_BY: &str = "signalbox.dev/caused-by";

/// A kind of action.
///
/// To add a kind: a file here with a type that implements this; a field in [`api::Action`] and a variant in [`ActionKind`]; an arm in
/// [`build`], which does not compile without; a sample under `deploy/samples/`.
pub trait Action: Send + Sync {
    /// Makes the request of the action's fields after their texts were filled in. Absolute values only: executed twice it must ask for the same.
    /// May read from the cluster, must not write. Secrets are kept as references.
    ///
    /// # Cancel safety
    /// Nothing was changed.
    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>>;

    /// Carries the request out. The permit proves that the request is on stable storage.
    ///
    /// # Cancel safety
    /// Whether it was carried out is unknown; the next attempt is [`Attempt::Again`].
    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>>;

    /// Tells what [`Action::execute`] would do, for `mode: Observe`: changes nothing and tells nobody. What would be written to the API server is sent
    /// to it as a dry run, so that a missing right or a wrong value shows. Ends as [`ActionOutcome::Observed`], without an effect.
    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>>;

    /// Rights that [`rights`] gives, but for waiting.
    fn rights<'a>(&'a self, _cluster: &'a Cluster, _namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async { Vec::new() })
    }

    /// What the step with these fields will change, when no other step may be about to change it at the same time. `namespace` is the rule's.
    fn target(&self, _namespace: &str, _filled: &Value) -> Option<String> {
        None
    }

    /// The same for a request that was recorded.
    fn target_again(&self, _namespace: &str, _request: &Value) -> Option<String> {
        None
    }

    /// The object that the request writes, as `<namespace>/<kind>/<name>`: while it does, the rule waits with what it hears of the object. `namespace` is
    /// the rule's, also for kinds that have none.
    fn object(&self, namespace: &str, request: &Value) -> Option<String> {
        self.target_again(namespace, request)
    }

    /// How long one [`Action::execute`] may take.
    fn patience(&self, action: &api::Action) -> Duration {
        action.retry.attempt_timeout.map_or(TIMEOUT, api::Duration::get)
    }

    /// Whether [`Action::execute`] does nothing but wait: then the firing has no place of its rule meanwhile, and ends with the rule.
    fn only_waits(&self) -> bool {
        false
    }

    /// Whether [`Action::execute`] goes on changing things for long, looking each time what there is to change: then it is broken off when the rule is gone,
    /// and when nothing is to be done for a while, after which it goes on.
    fn goes_on(&self) -> bool {
        false
    }

    /// Whether [`Action::settle`] has something to do for this request.
    fn settles(&self, _request: &Value) -> bool {
        false
    }

    /// Called when the outcome is on stable storage, after a crash possibly again: what would hinder a repetition is done here.
    fn settle<'a>(
        &'a self,
        _cx: &'a Context,
        _request: &'a Value,
        _result: &'a Value,
        _permit: Permit,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    /// What carrying the request out has changed, if that can be taken back: each kind says so here, and nowhere else. `effect` is what it wrote, as far as
    /// that is known.
    fn changed(&self, _cx: &Context, _request: &Value, _effect: Option<&Effect>) -> Undo {
        Undo::Never("it cannot be undone")
    }

    /// Makes the request that takes the change back, which [`Action::execute`] carries out, unless somebody else has changed the object since.
    ///
    /// # Cancel safety
    /// Nothing was changed.
    fn take_back<'a>(&'a self, _cx: &'a Context, _change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(async { Err(Failure::last("it cannot be undone")) })
    }

    /// Rights that it takes to undo it, beside those of [`Action::rights`].
    fn undo_rights<'a>(&'a self, _cluster: &'a Cluster, _namespace: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async { Vec::new() })
    }

    /// Called when the request was executed, has failed for good and will not be executed again.
    fn gave_up(&self, _cx: &Context, _failure: &Failure) {}
}

/// The action that the spec describes; nothing when it has not exactly one kind, or is `approve`.
pub fn build(spec: &api::Action) -> Option<Box<dyn Action>> {
    Some(match spec.kind()? {
        ActionKind::Scale(spec) => Box::new(scale::Scale::new(spec)),
        ActionKind::Rollout(spec) => Box::new(rollout::Rollout::new(spec)),
        ActionKind::SetImage(spec) => Box::new(set_image::SetImage::new(spec)),
        ActionKind::Patch(spec) => Box::new(patch::Patch::new(spec)),
        ActionKind::Apply(spec) => Box::new(apply::Apply::new(spec)),
        ActionKind::Create(spec) => Box::new(create::Create::new(spec)),
        ActionKind::Delete(spec) => Box::new(delete::Delete::new(spec)),
        ActionKind::Evict(spec) => Box::new(evict::Evict::new(spec)),
        ActionKind::Cordon(spec) => Box::new(cordon::Cordon::new(spec)),
        ActionKind::Uncordon(spec) => Box::new(cordon::Cordon::back(spec)),
        ActionKind::Taint(spec) => Box::new(taint::Taint::new(spec)),
        ActionKind::Drain(drain) => Box::new(drain::Drain::new(drain, spec.timeout)),
        ActionKind::Job(job) => Box::new(job::Job::new(job, spec.timeout)),
        ActionKind::Http(http) => Box::new(http::Http::new(http, spec.retry.attempt_timeout)),
        ActionKind::Notify(spec) => Box::new(notify::Notify::new(spec)),
        ActionKind::Publish(spec) => Box::new(publish::Publish::new(spec)),
        ActionKind::Emit(spec) => Box::new(emit::Emit::new(spec)),
        ActionKind::Wait(spec) => Box::new(wait::Wait::new(spec)),
        // Nothing is done: the runner waits.
        ActionKind::Approve(_) => return None,
    })
}

/// The rights that the account needs for an action and that the rule alone tells: on what stands in it as it is, without `${ }`.
pub async fn rights(spec: &api::Action, cluster: &Cluster, namespace: &str) -> Vec<Right> {
    let Some(action) = build(spec) else { return Vec::new() };
    let mut rights = action.rights(cluster, namespace).await;
    if spec.restore().is_some() {
        rights.extend(action.undo_rights(cluster, namespace).await);
    }
    match spec.target() {
        Some(target) if target.selector.is_some() => {
            let aim = target::fixed(cluster, target, namespace).await;
            rights.extend(aim.map(|aim| aim.right("list")));
        }
        Some(target) if target.is_several() => rights.extend(Users::rights(namespace)),
        _ => {}
    }
    if let (Some(_), Some(target)) = (&spec.wait_for, spec.target())
        && let Some(aim) = target::fixed(cluster, target, namespace).await
    {
        rights.push(aim.right("get"));
    }
    rights
}

/// The rights that the account needs, beside those, to undo the action.
pub async fn undo_rights(spec: &api::Action, cluster: &Cluster, namespace: &str) -> Vec<Right> {
    match build(spec) {
        Some(action) => action.undo_rights(cluster, namespace).await,
        None => Vec::new(),
    }
}

/// What all actions share.
pub struct Services {
    /// The cluster.
    pub cluster: Cluster,
    /// The EventSinks.
    pub sinks: Registry,
    /// The way out to addresses that users give.
    pub http: Http,
    /// The time.
    pub clock: Clock,
    /// What scales were when they were last seen.
    pub scales: Scales,
}

/// What one step of one firing is about.
pub struct Context {
    /// What all actions share.
    pub services: Arc<Services>,
    /// The rule.
    pub rule: RuleRef,
    /// The account whose rights the rule has.
    pub account: Account,
    /// The firing.
    pub firing: FiringId,
    /// `actions[].name`, or a [`crate::record::part`] of it.
    pub action: String,
    /// The group that fired.
    pub group: String,
    /// How often it happened, of rules that count.
    pub count: Option<u64>,
    /// What the actions before it did, in words.
    pub said: Arc<[String]>,
    /// Whether it tells that what the rule had fired for is over: it is one of `resolveActions`.
    pub resolves: bool,
    /// Whether it only ends incidents: the rule was deleted or suspended.
    pub closes: bool,
    /// The event that made the rule fire.
    pub event: Arc<Event>,
    /// How many steps of rules led to the firing.
    pub hops: u64,
    /// Is told what was written by a step that then waits for what comes of it.
    pub wrote: Arc<dyn Fn(&Effect) + Send + Sync>,
    /// Is told when a step begins and ends with one more object, as [`Action::object`] names it, beside that of its request.
    pub beside: TellBeside,
    /// Whether what it changes must be known to be given back.
    pub keeps: bool,
    /// Cancelled when the process is about to stop: what only waits ends then with [`FailureKind::Interrupted`].
    pub stop: CancellationToken,
}

/// Takes the name of an object, and where the step is with it.
pub type TellBeside = Arc<dyn Fn(&str, Side<'_>) + Send + Sync>;

/// Where a step is with an object that it writes beside that of its request.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// It is about to write it.
    Begins,
    /// It has an answer: what was done to the object, if anything was.
    Over(Option<&'a Effect>),
}

impl Context {
    /// Of no firing: what is done with it is not recorded.
    fn alone(
        services: &Arc<Services>,
        (rule, account): (RuleRef, Account),
        (firing, action): (&str, &str),
        event: Event,
    ) -> Self {
        Self {
            services: Arc::clone(services),
            rule,
            account,
            firing: FiringId(firing.into()),
            action: action.to_owned(),
            group: String::new(),
            count: None,
            said: Arc::new([]),
            resolves: false,
            closes: false,
            event: Arc::new(event),
            hops: 0,
            wrote: Arc::new(|_| ()),
            beside: Arc::new(|_, _| ()),
            keeps: false,
            stop: CancellationToken::new(),
        }
    }

    /// Takes one more object away: what comes of it is no reason for the rule to fire. `taking` tells whether the object goes.
    ///
    /// # Cancel safety
    /// That of `taking`; the rule then waits with what it hears of the object until the step has its outcome.
    async fn beside<T>(&self, effect: Effect, taking: impl Future<Output = (T, bool)>) -> T {
        self.begins(&effect);
        let (answer, goes) = taking.await;
        self.over(&effect, goes);
        answer
    }

    /// It is about to take one more object away: the rule waits with what it hears of it until [`Context::over`] tells whether it goes, or the step has its
    /// outcome.
    fn begins(&self, effect: &Effect) {
        (self.beside)(&self.object_of(effect), Side::Begins);
    }

    /// Whether an object that was to be taken away goes.
    fn over(&self, effect: &Effect, goes: bool) {
        (self.beside)(&self.object_of(effect), Side::Over(goes.then_some(effect)));
    }

    /// As [`Action::object`] names it.
    fn object_of(&self, effect: &Effect) -> String {
        let namespace = effect.namespace.as_deref().unwrap_or(&self.rule.namespace);
        format!("{namespace}/{}/{}", effect.kind, effect.name)
    }

    /// `<firing>-<action>`: the same for every repetition of the step.
    pub fn key(&self) -> String {
        format!("{}-{}", self.firing, self.action)
    }

    /// What [`CAUSED_BY`] says of the step.
    fn cause(&self) -> String {
        format!("{}/{}/{}", self.rule, self.firing, self.action)
    }

    /// The field manager that names the step.
    fn manager(&self) -> String {
        self.firing.manager(&self.action)
    }
}

/// Which attempt of a request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The first: nothing was sent yet.
    First,
    /// An earlier attempt may have been carried out: in this process, or before a crash.
    Again,
}

/// The request was carried out, or there is a reason why it needs no more attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// What became of it. `Failed` for what was carried out and failed by itself, such as a Job.
    pub outcome: ActionOutcome,
    /// What was done, or why not.
    pub message: String,
    /// `actions.<name>` for later expressions.
    pub result: Value,
    /// The object that was written.
    pub effect: Option<Effect>,
    /// Why it failed, if there is more to say than [`FailureReason::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailureReason>,
}

impl Done {
    /// It was found done: an earlier attempt did it.
    fn found(mut self) -> Self {
        if let Some(effect) = &mut self.effect {
            effect.found = true;
        }
        self
    }

    /// What would have been done.
    fn observed(message: String, result: Value) -> Self {
        Self { outcome: ActionOutcome::Observed, message, result, effect: None, reason: None }
    }
}

#[cfg(test)]
pub(crate) mod testing;
