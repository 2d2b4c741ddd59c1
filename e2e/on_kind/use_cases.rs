//! The use cases of `deploy/samples/use-cases`, from a fresh namespace to what their walk-throughs promise: as users have them, with the rights
//! of their own accounts.

use std::fs;

use serde_json::Value;
use tokio::sync::RwLockReadGuard;

use super::cluster::{PATIENCE, in_force, installed, kubectl, kubectl_ok, posted_to, words};
use crate::support::{
    eventually,
    process::{Process, Workspace},
    site::Shop,
};

mod delivery_pipeline;
mod iot_device;
mod scale_on_load;
mod security_alert;
mod stream_analytics;

/// Images of the samples, and what the cluster has instead: nothing is pulled.
pub(super) const IMAGES: [(&str, &str); 6] = [
    ("busybox:1.37", "signalbox-demo/tools:1"),
    ("registry.example.com/acme/web", "signalbox-demo/tools"),
    ("prom/prometheus:v3.5.0", "signalbox-demo/servers:1"),
    ("prom/alertmanager:v0.28.1", "signalbox-demo/servers:1"),
    ("eclipse-mosquitto:2.0", "signalbox-demo/servers:1"),
    ("nats:2-alpine", "signalbox-demo/servers:1"),
];

/// A use case in its namespace, and the release that serves it.
struct UseCase {
    name: &'static str,
    shop: Shop,
    _release: RwLockReadGuard<'static, bool>,
}

impl UseCase {
    /// What its walk-through acts on is there, and it itself is not yet.
    async fn prepare(name: &'static str, namespace: &str) -> Self {
        let release = installed().await;
        let client = kube::Client::try_default().await.expect("a client of the cluster");
        let case = Self { name, shop: Shop { name: namespace.to_owned(), client }, _release: release };
        case.apply("inbox.yaml", &[]);
        case.apply(&format!("{name}/demo.yaml"), &[]);
        case.kubectl(&["wait", "--for=condition=Available", "deployment", "--all", "--timeout=120s"]);
        case
    }

    /// Applies it, in a hurry: with other times than those that users have. Waits until its rules are in force.
    async fn begin(&self, rules: &[&str], hurry: &[(&str, &str)]) {
        self.apply(&format!("{0}/{0}.yaml", self.name), hurry);
        for rule in rules {
            in_force(&self.shop, rule).await;
        }
    }

    /// Applies a file of the use cases with some texts changed.
    fn apply(&self, file: &str, changes: &[(&str, &str)]) {
        let mut text = fs::read_to_string(format!("deploy/samples/use-cases/{file}")).expect("a sample");
        for (from, to) in changes {
            assert!(text.contains(from), "{file} has no {from}");
            text = text.replace(from, to);
        }
        for (image, ours) in IMAGES {
            text = text.replace(image, ours);
        }
        let namespace = &self.shop.name;
        let here = text
            .replace(".shop.svc", &format!(".{namespace}.svc"))
            .replace("namespace: shop", &format!("namespace: {namespace}"));
        kubectl_ok(&["apply", "-n", namespace, "-f", "-"], &here);
    }

    /// Runs `kubectl` in the namespace; it has to succeed.
    fn kubectl(&self, args: &[&str]) -> String {
        kubectl_ok(&[&["-n", &self.shop.name], args].concat(), "")
    }

    /// Makes a Secret with one key.
    fn secret(&self, name: &str, key: &str, value: &str) {
        self.kubectl(&["create", "secret", "generic", name, &format!("--from-literal={key}={value}")]);
    }

    /// Sends a webhook from within the cluster, until it is taken: other tests start the operator anew meanwhile.
    async fn post(&self, source: &str, headers: &[&str], body: &str) {
        let url = format!("http://signalbox-hooks.signalbox-system.svc/hooks/{}/{source}", self.shop.name);
        let mut args = vec!["exec", "-n", &self.shop.name, "deployment/inbox", "--", "wget", "-q", "-O", "-"];
        for header in headers {
            args.extend(["--header", header]);
        }
        args.extend(["--post-data", body, &url]);
        eventually("the webhook is taken", PATIENCE, async || {
            let output = kubectl(&args, "");
            if !output.status.success() {
                eprintln!("{url}: {}", words(&output).trim());
            }
            output.status.success().then_some(())
        })
        .await;
    }

    /// What has arrived at the inbox.
    async fn inbox(&self) -> Vec<Value> {
        posted_to(&self.shop, "inbox").await
    }

    /// Waits until something with this value of a field has arrived at the inbox.
    async fn told(&self, field: &str, value: &str) -> Value {
        let what = format!("the inbox has {value}");
        let arrived = async || self.inbox().await.into_iter().find(|alert| alert[field] == value);
        eventually(&what, PATIENCE, arrived).await
    }

    /// A way from here to a port of a Service.
    async fn forward(&self, service: &str, port: u16) -> Forward {
        let workspace = Workspace::new("forward");
        let mut command = std::process::Command::new("kubectl");
        command.args(["port-forward", "-n", &self.shop.name, &format!("service/{service}"), &format!(":{port}")]);
        let process = workspace.spawn("port-forward", command);
        let port = eventually("the port is forwarded", PATIENCE, async || {
            let log = process.log();
            let (_, rest) = log.split_once("Forwarding from 127.0.0.1:")?;
            rest.split_once(' ')?.0.parse().ok()
        })
        .await;
        Forward { port, _process: process, _workspace: workspace }
    }
}

/// A port on loopback that leads into the cluster. Dropping it closes it.
struct Forward {
    port: u16,
    _process: Process,
    _workspace: Workspace,
}
