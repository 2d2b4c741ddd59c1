//! `security-alert`: a pod that really crashes, a webhook as Falco sends it, and a real Alertmanager.

use serde_json::{Value, json};

use super::UseCase;
use crate::{on_kind::cluster::PATIENCE, support::eventually};

/// Waits until Alertmanager has an alert of the rule about the Pod that is not over, or none.
async fn alert(case: &UseCase, rule: &str, pod: &str, wanted: bool) -> Value {
    let path = format!("/api/v1/namespaces/{}/services/alertmanager:9093/proxy/api/v2/alerts", case.shop.name);
    let subject = format!("{}/Pod/{pod}", case.shop.name);
    eventually(&format!("{rule} alerts of {pod}: {wanted}"), PATIENCE, async || {
        let request = http::Request::get(path.as_str()).body(Vec::new()).expect("a request");
        let alerts: Vec<Value> = case.shop.client.request(request).await.ok()?;
        let labels = |alert: &Value| alert["labels"]["alertname"] == rule && alert["labels"]["subject"] == subject;
        let found = alerts.into_iter().find(labels);
        (found.is_some() == wanted).then(|| found.unwrap_or_default())
    })
    .await
}

#[tokio::test]
async fn a_crash_and_a_breach_are_alerts_until_nothing_more_comes() {
    let case = UseCase::prepare("security-alert", "e2e-security").await;
    case.secret("falco-webhook", "token", "t0ken");
    // The kubelet tells each ten seconds or so, and one is enough here.
    case.begin(&["security-breach", "pod-errors"], &[("within: 10m", "within: 30s"), ("above: \"2\"", "above: \"0\"")])
        .await;
    case.kubectl(&["run", "crash", "--image=signalbox-demo/tools:1", "--", "sh", "-c", "exit 1"]);

    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let fields = json!({"k8s.ns.name": case.shop.name, "k8s.pod.name": "web-1", "proc.cmdline": "sh -c id"});
    let breach = json!({"rule": "Terminal shell in container", "priority": "Warning", "source": "syscall", "time": now,
        "output": "A shell was spawned in web-1", "output_fields": fields});
    case.post("falco", &["Authorization: Bearer t0ken", "Content-Type: application/json"], &breach.to_string()).await;
    let told = alert(&case, "security-breach", "web-1", true).await;
    assert_eq!((&told["labels"]["severity"], &told["labels"]["team"]), (&json!("critical"), &json!("security")));
    assert_eq!(told["annotations"]["description"], "A shell was spawned in web-1");

    let told = alert(&case, "pod-errors", "crash", true).await;
    assert!(told["annotations"]["description"].to_string().contains("restarting failed container"), "{told}");
    case.kubectl(&["delete", "pod", "crash", "--grace-period=1"]);
    alert(&case, "security-breach", "web-1", false).await;
    alert(&case, "pod-errors", "crash", false).await;
}
