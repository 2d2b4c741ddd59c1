//! `signalbox check`: whether an installation works, as `helm test` asks.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::Instant;

use crate::{api, kubernetes::Cluster, text};

/// How often it is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks until everything is well, at most for `timeout`, and says what is.
///
/// # Errors
/// What is not, all of it.
pub(super) async fn run(url: &Uri, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let cluster = Cluster::connect().await.context("connect to the API server")?;
    let (ready, served) = tokio::join!(until(deadline, || ready(url)), until(deadline, || served(&cluster)));
    let (good, bad): (Vec<_>, Vec<_>) = [ready, served].into_iter().partition(Result::is_ok);
    for said in good.into_iter().flatten() {
        println!("ok: {said}");
    }
    let faults: Vec<_> = bad.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if !faults.is_empty() {
        bail!("not within {timeout:?}: {}", text::join(faults));
    }
    Ok(())
}

/// The answer, or the last error when the time is over.
async fn until(deadline: Instant, ask: impl AsyncFn() -> anyhow::Result<String>) -> anyhow::Result<String> {
    loop {
        let answer =
            tokio::time::timeout(PATIENCE, ask()).await.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"));
        if answer.is_ok() || Instant::now() + AGAIN > deadline {
            return answer;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn ready(url: &Uri) -> anyhow::Result<String> {
    let client: Client<HttpConnector, Empty<&'static [u8]>> = Client::builder(TokioExecutor::new()).build_http();
    let ask = || format!("ask {url} whether the operator is ready");
    let request = Request::get(url.clone()).body(Empty::new()).with_context(ask)?;
    let answer = client.request(request).await.with_context(ask)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.with_context(ask)?.to_bytes();
    if !status.is_success() {
        bail!("the operator is not ready, {url} says {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(format!("the operator is ready ({url})"))
}

async fn served(cluster: &Cluster) -> anyhow::Result<String> {
    let mut all = Vec::new();
    for definition in api::custom_resource_definitions() {
        let plural = definition.spec.names.plural;
        for version in definition.spec.versions.into_iter().filter(|version| version.served) {
            let group = format!("{}/{}", definition.spec.group, version.name);
            let named =
                || format!("find the resource {plural} of {group}, of which the chart has the definition in crds/");
            let known = cluster.own().list_api_group_resources(&group).await.with_context(named)?;
            if !known.resources.iter().any(|one| one.name == plural) {
                bail!("{}: it is not served", named());
            }
            all.push(format!("{plural}.{group}"));
        }
    }
    Ok(format!("the API server serves {}", text::join(all)))
}
