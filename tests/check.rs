//! `signalbox check` against a real API server, with an account that has no rights.

use std::path::Path;
use std::process::{Command, Output};

use support::{control_plane::ControlPlane, site::Site};

mod support;

async fn check(kubeconfig: &Path, url: &str, timeout: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.env("KUBECONFIG", kubeconfig).args(["check", "--url", url, "--timeout", timeout]);
    tokio::task::spawn_blocking(move || command.output().expect("run the program")).await.expect("no panic")
}

async fn nobody(plane: &ControlPlane) -> std::path::PathBuf {
    let token = plane.service_account_token("default", "default").await;
    plane.kubeconfig_for_token(&token)
}

#[tokio::test]
async fn an_installation_that_works_is_well() {
    let site = Site::start().await;
    let operator = site.setup.start();
    let url = format!("http://{}/readyz", operator.address());
    let output = check(&nobody(&site.plane).await, &url, "30s").await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("ok: the operator is ready"), "{said}");
    assert!(said.contains("ok: the API server serves eventrules.signalbox.dev/v1alpha1"), "{said}");
    assert!(said.contains("eventsinks.signalbox.dev/v1alpha1"), "{said}");
}

#[tokio::test]
async fn what_is_missing_is_said_all_at_once() {
    let plane = ControlPlane::start().await;
    let output = check(&nobody(&plane).await, "http://127.0.0.1:9/readyz", "2s").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(said.contains("http://127.0.0.1:9/readyz") && said.contains("refused"), "{said}");
    assert!(said.contains("eventrules of signalbox.dev/v1alpha1") && said.contains("crds/"), "{said}");
}
