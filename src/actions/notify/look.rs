//! What the cluster tells of the object that an event is about, read as the rule's account: its controller, the end of its log, its Events. What the account
//! may not see, or what does not come in time, is left out.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Event as KubernetesEvent, Pod};
use kube::{
    Api,
    api::{ListParams, LogParams},
};

use super::story::{LINES, Log, Seen};
use crate::{
    actions::{Context, lead::about},
    event::{Named, TYPE_KUBERNETES_EVENT, is_label, is_subdomain},
    kubernetes::REPORTING_CONTROLLER,
};

/// How long it may take in all: the notification is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of a log that are read: all of its last 10 lines, for what is read is cut at its end. Kubelets count a line of more than 16 KiB as several.
const LOG_BYTES: i64 = 160 << 10;
/// Events of an object that are looked at.
const EVENTS: u32 = 50;

/// Looks at the object that the event is about, if it is about one.
pub(super) async fn look(cx: &Context) -> Seen {
    let Ok(about) = about(&cx.event) else { return Seen::default() };
    let named = about.named;
    // Names come from events, and would be part of a question.
    if !is_subdomain(&named.name) || !named.namespace.as_deref().is_none_or(is_label) {
        return Seen::default();
    }
    let owner = async {
        let top = cx.services.cluster.top_controller(&cx.account, &named, about.metadata);
        within(top).await?.ok().map(|top| top.to_string())
    };
    let (owner, pod, events) = tokio::join!(owner, within(pod(cx, &named)), within(events(cx, &named)));
    let (node, log) = pod.flatten().unwrap_or_default();
    Seen { owner, node, log, events: events.flatten().unwrap_or_default() }
}

async fn within<T>(reading: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, reading).await.ok()
}

/// The node of a Pod, and the end of the log of the container that the event is about, or of the one that is not well.
async fn pod(cx: &Context, named: &Named) -> Option<(Option<String>, Option<Log>)> {
    let namespace = named.namespace.as_deref().filter(|_| named.kind == "Pod" && named.api_version == "v1")?;
    let pods: Api<Pod> = Api::namespaced(cx.services.cluster.as_account(&cx.account), namespace);
    let pod = pods.get(&named.name).await.inspect_err(|error| tracing::debug!(%error, "a Pod cannot be seen")).ok()?;
    let spec = pod.spec.as_ref()?;
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let told = told_container(cx).filter(|name| spec.containers.iter().any(|one| one.name == *name));
    let ill = statuses.iter().find(|status| !status.ready).map(|status| status.name.as_str());
    let container = told.or(ill).or_else(|| spec.containers.first().map(|one| one.name.as_str()))?.to_owned();
    let before = statuses.iter().find(|status| status.name == container).is_some_and(is_between_lives);
    let params = LogParams {
        container: Some(container.clone()),
        previous: before,
        tail_lines: i64::try_from(LINES).ok(),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    let log = pods.logs(&named.name, &params).await;
    let log = log.inspect_err(|error| tracing::debug!(%error, "a log cannot be read")).ok();
    Some((spec.node_name.clone(), log.map(|text| Log { container, before, text })))
}

/// Whether it waits to be restarted: its own log has nothing yet.
fn is_between_lives(status: &ContainerStatus) -> bool {
    status.restart_count > 0
        && status.state.as_ref().is_some_and(|state| state.running.is_none() && state.terminated.is_none())
}

/// `web` of `spec.containers{web}`.
fn told_container(cx: &Context) -> Option<&str> {
    let path = cx.event.data.pointer("/regarding/fieldPath").filter(|_| cx.event.type_ == TYPE_KUBERNETES_EVENT)?;
    path.as_str()?.strip_prefix("spec.containers{")?.strip_suffix('}')
}

async fn events(cx: &Context, named: &Named) -> Option<Vec<String>> {
    // Those of what has no namespace are in this one.
    let namespace = named.namespace.as_deref().unwrap_or("default");
    let api: Api<KubernetesEvent> = Api::namespaced(cx.services.cluster.as_account(&cx.account), namespace);
    let of = format!("involvedObject.kind={},involvedObject.name={}", named.kind, named.name);
    let list = api.list(&ListParams::default().fields(&of).limit(EVENTS)).await;
    let list = list.inspect_err(|error| tracing::debug!(%error, "the Events of an object cannot be seen")).ok()?;
    let own = |event: &KubernetesEvent| event.reporting_component.as_deref() == Some(REPORTING_CONTROLLER);
    let mut told: Vec<_> = list.items.iter().filter(|event| !own(event)).filter_map(line).collect();
    told.sort();
    Some(told.split_off(told.len().saturating_sub(LINES / 2)))
}

/// With its time first, so that lines sort by it.
fn line(event: &KubernetesEvent) -> Option<String> {
    let series = event.series.as_ref();
    let time = series
        .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
    let time = time.strftime("%Y-%m-%dT%H:%M:%SZ");
    let count = series.and_then(|series| series.count).or(event.count).filter(|count| *count > 1);
    let count = count.map(|count| format!(" ({count} times)")).unwrap_or_default();
    let (type_, reason) = (event.type_.as_deref().unwrap_or_default(), event.reason.as_deref().unwrap_or_default());
    let message = event.message.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    Some(format!("{time} {type_} {reason}{count}: {message}"))
}
