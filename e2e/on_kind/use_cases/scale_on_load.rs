//! `scale-on-load`: a metric of a real pod, which a real Prometheus asks for.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;

use super::UseCase;
use crate::{on_kind::cluster::PATIENCE, support::eventually};

/// Waits until the workers are so many, and ready.
async fn workers(case: &UseCase, wanted: i32) {
    let deployments: Api<Deployment> = Api::namespaced(case.shop.client.clone(), &case.shop.name);
    eventually(&format!("there are {wanted} workers"), PATIENCE, async || {
        let status = deployments.get("worker-eu").await.ok()?.status?;
        (status.replicas == Some(wanted) && status.ready_replicas == Some(wanted)).then_some(())
    })
    .await;
}

fn queue_is(case: &UseCase, depth: u32) {
    let command = format!("echo 'queue_depth{{queue=\"eu\"}} {depth}' >/www/metrics.txt");
    case.kubectl(&["exec", "deployment/queue", "--", "sh", "-c", &command]);
}

#[tokio::test]
async fn a_queue_that_a_pod_tells_of_has_workers_started_and_stopped_again() {
    let case = UseCase::prepare("scale-on-load", "e2e-load").await;
    case.begin(&["scale-on-load"], &[("interval: 15s", "interval: 5s"), ("for: 30s", "for: 1s")]).await;
    workers(&case, 1).await;
    queue_is(&case, 500);
    workers(&case, 3).await;
    // Between the two bounds what was so stays so; whether it does is shown without a cluster.
    queue_is(&case, 3);
    workers(&case, 1).await;
}
