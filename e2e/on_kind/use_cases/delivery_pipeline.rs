//! `delivery-pipeline`: pushes as GitHub sends them, a real Job, and rollouts that come up or do not.

use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::api::{Api, ListParams};
use serde_json::json;

use super::UseCase;
use crate::{on_kind::cluster::PATIENCE, support::eventually};

const KEY: &str = "s3cret";

/// A push of this commit to the main branch, delivered by GitHub.
async fn push(case: &UseCase, commit: &str) {
    let body = json!({"ref": "refs/heads/main", "after": commit, "repository": {"full_name": "acme/web"}}).to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).expect("keys may have any length");
    mac.update(body.as_bytes());
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        "Content-Type: application/json",
        "X-GitHub-Event: push",
        &format!("X-GitHub-Delivery: delivery-{commit}"),
        &format!("X-Hub-Signature-256: sha256={digest}"),
    ];
    case.post("github", &headers, &body).await;
}

/// Waits until all pods of `web` are ready and have this image; gives how many Jobs there are.
async fn web_runs(case: &UseCase, image: &str) -> usize {
    let deployments: Api<Deployment> = Api::namespaced(case.shop.client.clone(), &case.shop.name);
    eventually(&format!("web runs {image}"), PATIENCE, async || {
        let web = deployments.get("web").await.ok()?;
        let (spec, status) = (web.spec, web.status?);
        let asked = spec.template.spec?.containers.first()?.image.clone()?;
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        (asked == image && all == [spec.replicas; 3] && status.observed_generation == web.metadata.generation)
            .then_some(())
    })
    .await;
    let jobs: Api<Job> = Api::namespaced(case.shop.client.clone(), &case.shop.name);
    jobs.list(&ListParams::default()).await.expect("list Jobs").items.len()
}

#[tokio::test]
async fn what_is_pushed_is_built_and_rolled_out_and_rolled_back_when_it_does_not_come_up() {
    let case = UseCase::prepare("delivery-pipeline", "e2e-delivery").await;
    case.secret("github-webhook", "key", KEY);
    case.begin(&["delivery-pipeline"], &[("{rollout: {}, timeout: 5m}", "{rollout: {}, timeout: 45s}")]).await;

    push(&case, "2").await;
    let told = case.told("title", "web runs 2").await;
    assert_eq!(told["text"], "It was signalbox-demo/tools:1; the build said: building acme/web at 2");
    assert_eq!(web_runs(&case, "signalbox-demo/tools:2").await, 1);

    // There is no such image: its pods never begin.
    push(&case, "3").await;
    let told = case.told("title", "web does not run 3: deploy (TimedOut)").await;
    assert_eq!(told["severity"], "Error");
    assert_eq!(web_runs(&case, "signalbox-demo/tools:2").await, 1, "the Job of what failed is taken back with it");

    // The same commit again is no second delivery.
    push(&case, "2").await;
    let titles: Vec<_> = case.inbox().await.iter().map(|alert| alert["title"].clone()).collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
}
