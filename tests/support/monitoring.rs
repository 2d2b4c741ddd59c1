//! Prometheus and Alertmanager as Debian packages them, on loopback, and what they scrape.

use std::process::Command;

use super::{
    PATIENCE, eventually,
    http::{free_port, get},
    process::{Process, Workspace},
    sink::{Answer, Sink},
};

/// Both servers. Prometheus scrapes `target` each second, and alerts on what is above 100.
pub struct Monitoring {
    pub target: Sink,
    prometheus: u16,
    _processes: [Process; 2],
    _workspace: Workspace,
}

impl Monitoring {
    /// Starts both and waits until they answer. Alerts go to the URL, with this token.
    pub async fn start(webhook: &str, token: &str) -> Self {
        let (workspace, target) = (Workspace::new("monitoring"), Sink::start().await);
        let [prometheus, alertmanager] = [(); 2].map(|()| free_port());
        let rules = workspace.write(
            "rules.yml",
            "groups: [{name: queues, rules: [{alert: QueueBacklog, expr: 'queue_depth > 100', labels: {severity: critical}, \
             annotations: {summary: 'the queue is long'}}]}]",
        );
        let config = workspace.write(
            "prometheus.yml",
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
                 alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
                 scrape_configs: [{{job_name: queues, static_configs: [{{targets: ['{}']}}]}}]\n",
                rules.display(),
                target.address()
            ),
        );
        let alerts = workspace.write(
            "alertmanager.yml",
            format!(
                "route: {{receiver: signalbox, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 2s}}\n\
                 receivers: [{{name: signalbox, webhook_configs: [{{url: '{webhook}', http_config: {{authorization: {{credentials: '{token}'}}}}}}]}}]\n"
            ),
        );
        let folder = |name: &str| workspace.path().join(name).display().to_string();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder("prometheus")));
        command.arg(format!("--web.listen-address=127.0.0.1:{prometheus}"));
        let first = workspace.spawn("prometheus", command);
        let mut command = Command::new("prometheus-alertmanager");
        command.arg(format!("--config.file={}", alerts.display()));
        command.arg(format!("--storage.path={}", folder("alertmanager")));
        command.arg(format!("--web.listen-address=127.0.0.1:{alertmanager}")).arg("--cluster.listen-address=");
        let second = workspace.spawn("alertmanager", command);
        for port in [prometheus, alertmanager] {
            let ready =
                async || get(&format!("127.0.0.1:{port}"), "/-/ready").await.filter(|(status, _)| *status == 200);
            eventually("the server answers", PATIENCE, ready).await;
        }
        Self { target, prometheus, _processes: [first, second], _workspace: workspace }
    }

    /// Where Prometheus is asked.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.prometheus)
    }

    /// What the target says from now on of the length of its queue, as the exposition format writes it.
    pub fn depth(&self, depth: &str) {
        self.target.answer(Answer::status(200).body(&format!("queue_depth{{queue=\"eu\"}} {depth}\n")));
    }
}
