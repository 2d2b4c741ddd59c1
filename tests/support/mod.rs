//! What the integration tests stand on: a control plane, the operator as a process, a recording sink.
//!
//! Nothing here knows what a rule is. Each test target uses a part of it: `mod support;`.

#![allow(dead_code, reason = "every test target compiles the whole and uses a part")]
#![allow(clippy::panic, reason = "a test that cannot go on ends")]

pub mod control_plane;
mod credentials;
pub mod http;
pub mod monitoring;
pub mod operator;
pub mod process;
pub mod proxy;
pub mod sink;
pub mod site;
pub mod stage;

use std::time::Duration;

use tokio::time::Instant;

/// How long a condition may take that holds within a second on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `probe` gives `Some`, and returns what it gave.
///
/// # Panics
/// When `what` has not come true within `limit`.
pub async fn eventually<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(200));
    }
}

/// Applies the definitions in `crds/` and waits until the API server serves them.
///
/// # Panics
/// When it does not.
pub async fn install_definitions(plane: &control_plane::ControlPlane) {
    let output = plane.kubectl(&["apply", "--server-side", "-f", "crds"]).await;
    assert!(output.status.success(), "apply crds: {}", String::from_utf8_lossy(&output.stderr));
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd",
        "eventrules.signalbox.dev",
        "eventsinks.signalbox.dev",
        "eventsources.signalbox.dev",
    ];
    let output = plane.kubectl(&wait).await;
    assert!(output.status.success(), "wait for crds: {}", String::from_utf8_lossy(&output.stderr));
    // Established is said before discovery and the documentation know the kinds.
    eventually("the kinds are served and explained", PATIENCE, async || {
        for kind in ["eventrule", "eventsink", "eventsource"] {
            plane.kubectl(&["explain", kind]).await.status.success().then_some(())?;
            plane.kubectl(&["get", kind, "-n", "default"]).await.status.success().then_some(())?;
        }
        Some(())
    })
    .await;
}
