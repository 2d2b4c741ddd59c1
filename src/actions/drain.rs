//! `drain`: cordons a Node and evicts its Pods until none is left, but for those that belong to the Node.
//!
//! Nothing about the Pods is recorded: whichever there are is seen again and again, also after a restart, until the end that was recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{ListParams, PostParams},
    core::{ApiResource, DynamicObject},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Action, Attempt, Back, Context, Done, Failure, FailureKind, Undo,
    cordon::unschedulable,
    eviction::{Answer, Pod},
    fields::{self, Fields, Verb},
    node, recording,
    target::key,
    write::{self, Change as _},
};
use crate::{
    api::{self, ActionOutcome, PatchType},
    bus::Permit,
    kubernetes::{Cluster, Right},
    record::{Change, Effect, FailureReason},
    text::join,
};

/// Reason of the Kubernetes Event, as of `evict`.
const REASON: &str = "EvictedByRule";
/// How long it may take when the action sets no `timeout`.
const LIMIT: Duration = Duration::from_secs(900);
/// For cordoning the Node, beside evicting its Pods.
const GRACE: Duration = Duration::from_secs(30);
/// Waits between two rounds; in fifteen minutes that is about 185 rounds.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// Pods that a message names.
const NAMED: usize = 3;
/// What makes a drain leave none alone.
const FORCE: &str = "force: true evicts such Pods as well";
/// Annotation of a static Pod, which the API server only mirrors.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The action.
pub(super) struct Drain {
    spec: api::Drain,
    timeout: Option<api::Duration>,
}

impl Drain {
    pub(super) fn new(spec: &api::Drain, timeout: Option<api::Duration>) -> Self {
        Self { spec: spec.clone(), timeout }
    }

    fn limit(&self) -> Duration {
        self.timeout.map_or(LIMIT, api::Duration::get)
    }
}

/// What is recorded before the Node is cordoned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    cordon: Fields,
    force: bool,
    /// How many Pods there were to evict.
    pods: usize,
    /// Microseconds since 1970 at which it ends.
    deadline: i64,
}

impl Action for Drain {
    fn rights<'a>(&'a self, _: &'a Cluster, _: &'a str) -> BoxFuture<'a, Vec<Right>> {
        Box::pin(async {
            let mut rights = node::rights(self.spec.node.as_deref(), &["get", "patch"]);
            rights.extend([list_right(), Right::new("create", "", "pods").on("eviction")]);
            rights
        })
    }

    fn target_again(&self, namespace: &str, request: &Value) -> Option<String> {
        key(namespace, "Node", request.get("cordon").unwrap_or(request))
    }

    fn render<'a>(&'a self, cx: &'a Context, filled: &'a Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let step = node::step(cx, filled).await?;
            let now = step.get().await?;
            let pods = movable(cx, &step.aim.name, self.spec.force).await?;
            if let Some(alone) = alone(&pods) {
                let message = format!("drain Node {}: {alone}; none was evicted. {FORCE}", step.aim.name);
                return Err(Failure::last(message));
            }
            let cordon = Fields::new(&step, &now, Verb::Cordon, PatchType::Merge, unschedulable(Verb::Cordon));
            let limit = i64::try_from(self.limit().as_micros()).unwrap_or(i64::MAX);
            let request = Request {
                cordon: cordon.keeping(&step, &now).await?,
                force: self.spec.force,
                pods: pods.len(),
                deadline: cx.services.clock.now().wall.saturating_add(limit),
            };
            recording::of(&request)
        })
    }

    fn execute<'a>(
        &'a self,
        cx: &'a Context,
        request: &'a Value,
        attempt: Attempt,
        permit: Permit,
    ) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            // The way back from it is a patch of the Node.
            let Ok(request) = Request::deserialize(request) else {
                return write::execute::<Fields>(cx, request, attempt, permit).await;
            };
            let recorded = request.cordon.to_request()?;
            let cordon = tokio::time::timeout(GRACE, write::execute::<Fields>(cx, &recorded, attempt, permit));
            let cordon = cordon.await.map_err(|_| Failure::retryable("cordon the Node: no answer in time"))??;
            if cordon.outcome == ActionOutcome::Superseded {
                return Ok(cordon);
            }
            if let Some(effect) = &cordon.effect {
                (cx.wrote)(effect);
            }
            drain(cx, &request, cordon).await
        })
    }

    fn observe<'a>(&'a self, cx: &'a Context, request: &'a Value) -> BoxFuture<'a, Result<Done, Failure>> {
        Box::pin(async move {
            let request = read(request)?;
            let cordon = Fields::observe(cx, &request.cordon.to_request()?).await?;
            let pods = request.pods;
            Ok(Done::observed(format!("{}; would evict {}", cordon.message, counted(pods)), result(&request, pods)))
        })
    }

    fn patience(&self, _: &api::Action) -> Duration {
        // The deadline ends it, with words of its own.
        self.limit() + GRACE
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn changed(&self, cx: &Context, request: &Value, _: Option<&Effect>) -> Undo {
        let cordon = read(request).and_then(|request| request.cordon.to_request());
        cordon.map_or(Undo::Nothing, |cordon| Fields::changed(cx, &cordon))
    }

    fn take_back<'a>(&'a self, cx: &'a Context, change: &'a Change) -> BoxFuture<'a, Result<Back, Failure>> {
        Box::pin(fields::take_back(cx, change, Verb::Uncordon))
    }
}

fn read(request: &Value) -> Result<Request, Failure> {
    recording::read(request)
}

fn list_right() -> Right {
    Right::new("list", "", "pods")
}

/// A Pod that is to leave the Node.
struct Movable {
    pod: Pod,
    /// Whether it goes already.
    leaves: bool,
    /// Whether nothing would make it anew, so that it stays.
    alone: bool,
}

/// The Pods of the Node but for those that belong to it. With `force` none is left alone.
async fn movable(cx: &Context, node: &str, force: bool) -> Result<Vec<Movable>, Failure> {
    let mut pods: Vec<Movable> = list(cx, node, "").await?.into_iter().filter_map(Movable::of).collect();
    if force {
        pods.iter_mut().for_each(|one| one.alone = false);
    } else if pods.iter().any(|one| one.alone) {
        // What has ended has nothing to lose.
        let running = list(cx, node, ",status.phase!=Succeeded,status.phase!=Failed").await?;
        let running: BTreeSet<String> = running.into_iter().filter_map(|pod| pod.uid).collect();
        pods.iter_mut().for_each(|one| one.alone &= running.contains(&one.pod.uid));
    }
    Ok(pods)
}

/// The Pods of the Node of which `and` holds as well.
async fn list(cx: &Context, node: &str, and: &str) -> Result<Vec<ObjectMeta>, Failure> {
    let kind = ApiResource::erase::<core::Pod>(&());
    let pods: Api<DynamicObject> = Api::all_with(cx.services.cluster.as_account(&cx.account), &kind);
    let listed = pods.list_metadata(&ListParams::default().fields(&format!("spec.nodeName={node}{and}"))).await;
    let listed = listed.map_err(|error| {
        Failure::of_kube(&error, &format!("find the Pods on Node {node}"), &cx.account, list_right())
    })?;
    Ok(listed.items.into_iter().map(|pod| pod.metadata).collect())
}

impl Movable {
    /// Nothing of a Pod that a DaemonSet would put on the Node again, or that only mirrors one of the Node's own.
    fn of(metadata: ObjectMeta) -> Option<Self> {
        let mut owners = metadata.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let of_node =
            controller.is_some_and(|owner| owner.kind == "DaemonSet" && owner.api_version.starts_with("apps/"));
        if of_node || metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR)) {
            return None;
        }
        let leaves = metadata.deletion_timestamp.is_some();
        Some(Self {
            leaves,
            alone: controller.is_none() && !leaves,
            pod: Pod { namespace: metadata.namespace?, name: metadata.name?, uid: metadata.uid? },
        })
    }
}

/// Those that are left alone, in words.
fn alone(pods: &[Movable]) -> Option<String> {
    let alone: Vec<&Movable> = pods.iter().filter(|one| one.alone).collect();
    let (count, named) = (counted(alone.len()), join(alone.iter().take(NAMED).map(|one| one.pod.title())));
    (!alone.is_empty()).then(|| format!("nothing would make {count} anew, such as {named}"))
}

/// Evicts until there is nothing to evict, or until the end that was recorded.
async fn drain(cx: &Context, request: &Request, cordon: Done) -> Result<Done, Failure> {
    let now = cx.services.clock.now().wall;
    let left = Duration::from_micros(u64::try_from(request.deadline.saturating_sub(now)).unwrap_or(0));
    let began = Instant::now();
    let node = &request.cordon.object().name;
    let mut unsure = Unsure::new();
    loop {
        let mut pause = (began.elapsed() / 10).clamp(SHORTEST, LONGEST);
        let (still, last) = match movable(cx, node, request.force).await {
            // Why a Pod went is asked as long as there is time.
            Ok(pods) if pods.is_empty() && (unsure.is_empty() || began.elapsed() >= left) => {
                let message = format!("{}; {} went", cordon.message, counted(request.pods));
                return Ok(Done { outcome: ActionOutcome::Succeeded, message, result: result(request, 0), ..cordon });
            }
            Ok(pods) => {
                let (why, after) = round(cx, &pods, &mut unsure).await?;
                pause = after.map_or(pause, |after| after.max(pause));
                let goes = pods.iter().find(|one| !one.alone);
                let why = why.or_else(|| goes.map(|one| format!("{} still goes", one.pod.title())));
                let last = [why, alone(&pods).map(|alone| format!("{alone}; {FORCE}"))];
                let last = last.into_iter().flatten().collect::<Vec<_>>().join("; ");
                if goes.is_none() && unsure.is_empty() && !pods.is_empty() {
                    return Ok(kept(request, cordon, pods.len(), &last));
                }
                (pods.len(), last)
            }
            Err(failure) if failure.kind == FailureKind::Final => return Err(failure),
            Err(failure) => (request.pods, failure.message),
        };
        if began.elapsed() >= left {
            return Ok(late(request, cordon, still, &last));
        }
        tokio::select! {
            () = cx.stop.cancelled() => {
                let message = format!("draining Node {node} goes on after the restart");
                return Err(Failure { kind: FailureKind::Interrupted, message });
            }
            () = tokio::time::sleep(pause.min(left.saturating_sub(began.elapsed()))) => {}
        }
    }
}

/// Pods that were asked for without an answer, by uid: they may go because of that, or not.
type Unsure = BTreeMap<String, Pod>;

/// Asks once for every Pod that does not go yet and is not left alone, and again for those of which no answer came. Gives what stood in the way, and when
/// to ask again; what is said of one Pod does not keep the others.
///
/// # Errors
/// Final when a right is missing.
async fn round(
    cx: &Context,
    pods: &[Movable],
    unsure: &mut Unsure,
) -> Result<(Option<String>, Option<Duration>), Failure> {
    let (mut refused, mut said, mut soonest) = (None, None, None);
    let mut asked: Vec<Pod> = unsure.values().cloned().collect();
    let new = pods.iter().filter(|one| !one.leaves && !one.alone && !unsure.contains_key(&one.pod.uid));
    asked.extend(new.map(|one| one.pod.clone()));
    for pod in asked {
        match ask(cx, &pod, unsure).await {
            Ok(Answer::Accepted | Answer::Gone) => {}
            // If it is there, it is asked for again in the next round.
            Ok(Answer::Another(why)) => said = Some(why),
            Ok(Answer::Refused(why)) => refused = Some(why),
            Ok(Answer::NotNow { why, after }) => {
                said = Some(why);
                soonest = soonest.max(after);
            }
            Err(failure) if failure.kind == FailureKind::Final => return Err(failure),
            Err(failure) => said = Some(failure.message),
        }
    }
    Ok((refused.or(said), soonest))
}

/// Asks for one Pod. Its eviction may have been carried out though the answer was lost, so the rule waits with what it hears of the Pod until it is known
/// whether it goes.
async fn ask(cx: &Context, pod: &Pod, unsure: &mut Unsure) -> Result<Answer, Failure> {
    let effect = pod.taken(REASON);
    let again = unsure.contains_key(&pod.uid);
    if !again {
        cx.begins(&effect);
    } else if went(cx, pod).await? {
        // It did not go before it was asked for: an earlier round did it, for all that can be told.
        unsure.remove(&pod.uid);
        cx.over(&effect, true);
        return Ok(Answer::Accepted);
    }
    let answer = pod.evict(cx, &PostParams { dry_run: false, field_manager: Some(cx.manager()) }).await;
    if answer.as_ref().is_err_and(|failure| failure.kind != FailureKind::Final) {
        unsure.insert(pod.uid.clone(), pod.clone());
        return answer;
    }
    unsure.remove(&pod.uid);
    let goes = match answer {
        Ok(Answer::Accepted) => true,
        Ok(Answer::Gone | Answer::Another(_)) => again,
        Ok(Answer::Refused(_) | Answer::NotNow { .. }) | Err(_) => false,
    };
    cx.over(&effect, goes);
    answer
}

/// Whether the Pod goes or has gone. It is not asked to go for that: a budget is charged before the API server looks at the uid.
async fn went(cx: &Context, pod: &Pod) -> Result<bool, Failure> {
    let kind = ApiResource::erase::<core::Pod>(&());
    let pods: Api<DynamicObject> =
        Api::namespaced_with(cx.services.cluster.as_account(&cx.account), &pod.namespace, &kind);
    let listed = pods.list_metadata(&ListParams::default().fields(&format!("metadata.name={}", pod.name))).await;
    let listed = listed
        .map_err(|error| Failure::of_kube(&error, &format!("look at {}", pod.title()), &cx.account, list_right()))?;
    let stays = |now: &ObjectMeta| now.uid.as_ref() == Some(&pod.uid) && now.deletion_timestamp.is_none();
    Ok(!listed.items.iter().any(|now| stays(&now.metadata)))
}

fn late(request: &Request, cordon: Done, still: usize, last: &str) -> Done {
    let node = request.cordon.object().title();
    let message = format!("{node} was not drained in time, {} left: {last}; it stays cordoned", counted(still));
    let (outcome, reason) = (ActionOutcome::Failed, Some(FailureReason::TimedOut));
    Done { outcome, message, result: result(request, still), reason, ..cordon }
}

/// Nothing is left but what is left alone.
fn kept(request: &Request, cordon: Done, still: usize, last: &str) -> Done {
    let node = request.cordon.object().title();
    let message = format!("{node} was drained but for {}: {last}; it stays cordoned", counted(still));
    Done { outcome: ActionOutcome::Failed, message, result: result(request, still), ..cordon }
}

fn counted(pods: usize) -> String {
    if pods == 1 { "1 Pod".to_owned() } else { format!("{pods} Pods") }
}

fn result(request: &Request, left: usize) -> Value {
    let node = &request.cordon.object().name;
    json!({"node": node, "pods": request.pods, "left": left})
}

#[cfg(test)]
mod tests;
