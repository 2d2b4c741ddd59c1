//! `delivery-pipeline`: pushes as GitHub sends them, a real Job, and rollouts that come up or do not.

use hmac::{Hmac, KeyInit as _, Mac as _};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::UseCase;
use crate::{
    on_kind::cluster::{PATIENCE, within},
    support::eventually,
};

const KEY: &str = "s3cret";

/// A push of this commit to the main branch, delivered by GitHub under this id.
async fn push(case: &UseCase, commit: &str, delivery: &str) {
    let body = json!({"ref": "refs/heads/main", "after": commit, "repository": {"full_name": "acme/web"}}).to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).expect("keys may have any length");
    mac.update(body.as_bytes());
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        "Content-Type: application/json",
        "X-GitHub-Event: push",
        &format!("X-GitHub-Delivery: {delivery}"),
        &format!("X-Hub-Signature-256: sha256={digest}"),
    ];
    case.post("github", &headers, &body).await;
}

/// Waits until all pods of `web` are ready and have this image, and there is one Job: that of what was delivered.
async fn web_runs(case: &UseCase, image: &str) {
    let deployments: Api<Deployment> = Api::namespaced(case.shop.client.clone(), &case.shop.name);
    let jobs: Api<Job> = Api::namespaced(case.shop.client.clone(), &case.shop.name);
    eventually(&format!("web runs {image}, built by one Job"), PATIENCE, async || {
        let built = jobs.list(&ListParams::default()).await.ok()?.items.len();
        let web = deployments.get("web").await.ok()?;
        let (spec, status) = (web.spec, web.status?);
        let asked = spec.template.spec?.containers.first()?.image.clone()?;
        let all = [status.replicas, status.updated_replicas, status.available_replicas];
        let seen = status.observed_generation == web.metadata.generation;
        (built == 1 && asked == image && all == [spec.replicas; 3] && seen).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_pushed_is_built_and_rolled_out_and_rolled_back_when_it_does_not_come_up() {
    let case = UseCase::prepare("delivery-pipeline", "e2e-delivery").await;
    case.secret("github-webhook", "key", KEY);
    case.begin(&["delivery-pipeline"], &[("{rollout: {}, timeout: 5m}", "{rollout: {}, timeout: 45s}")]).await;

    push(&case, "2", "first").await;
    let told = case.told("title", "web runs 2").await;
    assert_eq!(told["text"], "It was signalbox-demo/tools:1; the build said: building acme/web at 2");
    web_runs(&case, "signalbox-demo/tools:2").await;

    // There is no such image: its pods never begin.
    push(&case, "3", "second").await;
    let told = case.told("title", "web does not run 3: deploy (TimedOut)").await;
    assert_eq!(told["severity"], "Error");
    // And the Job of what failed is taken back with it.
    web_runs(&case, "signalbox-demo/tools:2").await;

    // The same commit again is not delivered again.
    push(&case, "2", "third").await;
    let left_out = |status: &Value| status["counts"]["suppressed"]["dedupe"] == 1;
    within(&case.shop, "delivery-pipeline", "the same commit is left out", left_out).await;
    let titles: Vec<_> = case.inbox().await.iter().map(|alert| alert["title"].clone()).collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
}
