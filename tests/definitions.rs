//! The definitions and the samples, held against a real API server.

use std::{fs, path::PathBuf, process::Output};

use support::control_plane::{ControlPlane, shared};

mod support;

/// A control plane that knows our kinds.
async fn plane() -> &'static ControlPlane {
    static ONCE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let plane = shared().await;
    ONCE.get_or_init(|| support::install_definitions(plane)).await;
    plane
}

/// What the API server says to a rule whose spec is `spec`, without storing it.
async fn try_rule(spec: &str) -> String {
    let manifest = format!(
        "{{apiVersion: signalbox.dev/v1alpha1, kind: EventRule, metadata: {{name: tried, namespace: default}}, spec: {spec}}}"
    );
    words(&plane().await.try_apply(&manifest).await)
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const SOURCE: &str = "sources: [{name: crash, kubernetesEvent: {reasons: [BackOff]}}]";
const ACTION: &str = "actions: [{name: grow, scale: {target: {kind: Deployment, name: web}, to: 3}}]";

#[tokio::test]
async fn a_plain_rule_is_taken() {
    let said = try_rule(&format!("{{{SOURCE}, {ACTION}}}")).await;
    assert!(said.contains("serverside-applied") || said.contains("created"), "{said}");
}

#[tokio::test]
async fn a_source_of_no_kind_or_of_two_is_refused_in_words() {
    for source in ["{name: a}", "{name: a, kubernetesEvent: {}, resource: {apiVersion: v1, kind: Pod}}"] {
        let said = try_rule(&format!("{{sources: [{source}], {ACTION}}}")).await;
        assert!(
            said.contains("exactly one of kubernetesEvent, resource, ref, schedule and events must be set"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_sink_of_no_kind_or_of_two_is_refused_in_words() {
    let (alerts, events) = ("alertmanager: {url: \"http://a/\"}", "cloudEvents: {url: \"http://b/\"}");
    for (spec, taken) in [(String::new(), false), (format!("{alerts}, {events}"), false), (events.to_owned(), true)] {
        let manifest = format!(
            "{{apiVersion: signalbox.dev/v1alpha1, kind: EventSink, metadata: {{name: tried, namespace: default}}, spec: {{{spec}}}}}"
        );
        let output = plane().await.try_apply(&manifest).await;
        let said = words(&output);
        let refused = said.contains(
            "exactly one of slack, teams, discord, pagerduty, email, webhook, alertmanager, cloudEvents, nats, kafka, mqtt, amqp and redis must be set",
        );
        assert_eq!((output.status.success(), refused), (taken, !taken), "{spec}: {said}");
    }
}

#[tokio::test]
async fn what_does_not_go_together_in_a_sink_is_refused_in_words() {
    let secret = |key: &str| format!("{key}: {{name: s, key: k}}");
    let (url, token) = (secret("urlSecretRef"), secret("tokenSecretRef"));
    let mail = "server: mail.example.com, from: a@example.com, to: [b@example.com]";
    let login = "login: {username: u, passwordSecretRef: {name: s, key: k}}";
    for (spec, refusal) in [
        (format!("slack: {{{url}}}"), ""),
        (format!("slack: {{{token}, channel: C0123, apiUrl: \"http://h/api\"}}"), ""),
        (
            format!("slack: {{{url}, {token}, channel: C0123}}"),
            "exactly one of urlSecretRef and tokenSecretRef must be set",
        ),
        (format!("slack: {{{token}}}"), "channel is for a bot: set it with tokenSecretRef"),
        (format!("slack: {{{token}, channel: \"#ops\"}}"), "channel"),
        (format!("slack: {{{url}, apiUrl: \"http://h/\"}}"), "apiUrl is for a bot"),
        (format!("teams: {{{url}}}"), ""),
        (format!("discord: {{{url}}}"), ""),
        (format!("pagerduty: {{{}}}", secret("routingKeySecretRef")), ""),
        (format!("email: {{{mail}}}"), ""),
        (format!("email: {{{mail}, {login}, security: Tls}}"), ""),
        (format!("email: {{{mail}, {login}, security: None}}"), "login is for a connection by TLS"),
        (
            format!("email: {{{mail}, {}, security: None}}", secret("caSecretRef")),
            "caSecretRef is for a connection by TLS",
        ),
        ("email: {server: \"a b\", from: a@b.c, to: [a@b.c]}".to_owned(), "server"),
        ("email: {server: a, from: \"a@b.c\\nBcc: x@y.z\", to: [a@b.c]}".to_owned(), "from"),
        ("email: {server: a, from: a@b.c, to: []}".to_owned(), "to"),
        (
            format!("webhook: {{url: \"http://h/\", signing: {{scheme: StandardWebhooks, {}}}}}", secret("secretRef")),
            "",
        ),
        (
            format!(
                "webhook: {{url: \"http://h/\", signing: {{scheme: StandardWebhooks, header: X-A, {}}}}}",
                secret("secretRef")
            ),
            "header is for scheme Body",
        ),
    ] {
        let manifest = format!(
            "{{apiVersion: signalbox.dev/v1alpha1, kind: EventSink, metadata: {{name: tried, namespace: default}}, spec: {{{spec}}}}}"
        );
        let output = plane().await.try_apply(&manifest).await;
        let said = words(&output);
        assert_eq!((output.status.success(), said.contains(refusal)), (refusal.is_empty(), true), "{spec}: {said}");
    }
}

#[tokio::test]
async fn a_webhook_says_in_one_way_who_may_send_and_takes_no_type_of_our_own() {
    let (none, token) = ("none: {}", "bearer: {secretRefs: [{name: s, key: token}]}");
    let signed =
        "hmac: {header: X-Sig, secretRefs: [{name: s, key: a}, {name: s, key: b}], timestamp: {header: X-Time}}";
    let many = "bearer: {secretRefs: [{name: s, key: a}, {name: s, key: b}, {name: s, key: c}]}";
    for (webhook, refusal) in [
        (format!("auth: {{{none}}}"), ""),
        (format!("preset: CloudEvents, auth: {{{token}}}, rateLimit: {{events: 10}}"), ""),
        (format!("auth: {{{signed}}}, type: com.acme.push, idHeader: X-Id, maxBodyBytes: 1024"), ""),
        (format!("auth: {{{none}}}, type: dev.signalbox.webhook"), ""),
        (String::new(), "auth: Required value"),
        ("auth: {}".to_owned(), "exactly one of hmac, standardWebhooks, token, bearer, basic and none must be set"),
        (
            format!("auth: {{{none}, {token}}}"),
            "exactly one of hmac, standardWebhooks, token, bearer, basic and none must be set",
        ),
        (format!("auth: {{{many}}}"), "must have at most 2 items"),
        ("auth: {bearer: {secretRefs: []}}".to_owned(), "should have at least 1 items"),
        ("auth: {basic: {username: \"a:b\", passwordSecretRefs: [{name: s, key: a}]}}".to_owned(), "basic.username"),
        (
            format!("preset: CloudEvents, auth: {{{none}}}, type: a"),
            "type, idHeader and headers are for preset Generic",
        ),
        (
            format!("preset: CloudEvents, auth: {{{none}}}, idHeader: a"),
            "type, idHeader and headers are for preset Generic",
        ),
        (format!("auth: {{{none}}}, type: dev.signalbox.resource.created"), "type must not begin with dev.signalbox."),
        (format!("preset: CloudEvents, auth: {{{none}}}, headers: [X-A]"), "headers are for preset Generic"),
        (format!("auth: {{{none}}}, headers: [X-A, X-B]"), ""),
        (format!("auth: {{{none}}}, headers: [\"a b\"]"), "headers[0]"),
        ("auth: {standardWebhooks: {secretRefs: [{name: a, key: k}]}}".to_owned(), ""),
        ("auth: {standardWebhooks: {secretRefs: []}}".to_owned(), "at least 1"),
        (
            "auth: {standardWebhooks: {secretRefs: [{name: a, key: k}]}}, idHeader: X-Id".to_owned(),
            "idHeader is not to be set with standardWebhooks",
        ),
        (format!("auth: {{{none}}}, maxBodyBytes: 1023"), "greater than or equal to 1024"),
        (format!("auth: {{{none}}}, maxBodyBytes: 4194305"), "less than or equal to 4194304"),
        (format!("auth: {{{none}}}, rateLimit: {{events: 0}}"), "greater than or equal to 1"),
        (format!("auth: {{{none}}}, preset: Github"), "Unsupported value: \"Github\""),
        ("preset: GitHub, auth: {hmac: {secretRefs: [{name: s, key: a}]}}".to_owned(), ""),
        ("preset: GitLab, auth: {token: {secretRefs: [{name: s, key: a}]}}".to_owned(), ""),
        (format!("preset: Grafana, alerts: Grouped, auth: {{{token}}}"), ""),
        ("preset: GitLab, auth: {hmac: {secretRefs: [{name: s, key: a}]}}".to_owned(), "auth.hmac.header must be set"),
        (
            "preset: Harbor, auth: {token: {secretRefs: [{name: s, key: a}]}}".to_owned(),
            "auth.token.header must be set",
        ),
        (
            "preset: GitHub, auth: {hmac: {algorithm: SHA1, secretRefs: [{name: s, key: a}]}}".to_owned(),
            "name the header, too",
        ),
        (format!("preset: Falco, alerts: Each, auth: {{{none}}}"), "alerts is for the presets"),
        (format!("preset: Falco, auth: {{{none}}}, type: a"), "type, idHeader and headers are for preset Generic"),
        (format!("auth: {{{none}}}, secret: x"), "secret"),
    ] {
        let said = try_source(&format!("{{webhook: {{{webhook}}}}}")).await;
        let taken = said.contains("serverside-applied") || said.contains("created");
        assert_eq!(taken, refusal.is_empty(), "{webhook}: {said}");
        assert!(said.contains(refusal), "{webhook}: {said}");
    }
    let said = try_source("{}").await;
    assert!(said.contains("exactly one kind of source must be set: webhook"), "{said}");
}

/// What the API server says to an EventSource whose spec is `spec`, without storing it.
async fn try_source(spec: &str) -> String {
    let manifest = format!(
        "{{apiVersion: signalbox.dev/v1alpha1, kind: EventSource, metadata: {{name: tried, namespace: default}}, spec: {spec}}}"
    );
    words(&plane().await.try_apply(&manifest).await)
}

#[tokio::test]
async fn an_action_of_no_kind_is_refused_in_words() {
    let said = try_rule(&format!("{{{SOURCE}, actions: [{{name: grow}}]}}")).await;
    assert!(said.contains("exactly one of scale, rollout, setImage, patch,"), "{said}");
}

#[tokio::test]
async fn a_scale_says_in_one_way_how_many() {
    for (amount, taken) in [
        ("to: 3, by: \"1\"", false),
        ("to: 3, toExpression: \"4\"", false),
        ("toExpression: \"4\", by: \"1\"", false),
        ("min: 1", false),
        ("toExpression: int(event.data.count), max: 9", true),
    ] {
        let action = format!("{{name: grow, scale: {{target: {{kind: Deployment, name: web}}, {amount}}}}}");
        let said = try_rule(&format!("{{{SOURCE}, actions: [{action}]}}")).await;
        let refused = said.contains("exactly one of to, toExpression and by must be set");
        assert_eq!(refused, !taken, "{amount}: {said}");
    }
}

#[tokio::test]
async fn a_namespace_from_the_event_without_bounds_is_refused_in_words() {
    let action = "{name: grow, scale: {target: {kind: Deployment, name: web, namespace: \"${event.subject}\"}, to: 3}}";
    let said = try_rule(&format!("{{{SOURCE}, actions: [{action}]}}")).await;
    assert!(said.contains("needs allowedNamespaces"), "{said}");
}

#[tokio::test]
async fn a_rollout_of_what_cannot_be_rolled_out_is_refused_in_words() {
    for (rollout, words) in [
        ("{target: {kind: ReplicaSet, name: web}}", "rollout is for a Deployment, a StatefulSet or a DaemonSet"),
        ("{target: {kind: DaemonSet, name: web}, operation: Pause}", "only a Deployment can be paused and resumed"),
        ("{target: {kind: Deployment, name: web}, revision: 2}", "revision is for operation Undo"),
    ] {
        let said = try_rule(&format!("{{{SOURCE}, actions: [{{name: a, rollout: {rollout}}}]}}")).await;
        assert!(said.contains(words), "{rollout}: {said}");
    }
}

#[tokio::test]
async fn a_patch_is_taken_in_any_shape_and_force_with_apply_only() {
    let target = "target: {kind: Deployment, name: web}";
    for (patch, refusal) in [
        ("patch: {spec: {replicas: \"${1 + 2}\"}}", None),
        ("type: JSON, patch: [{op: add, path: /spec/replicas, value: 3}]", None),
        ("type: Apply, force: true, patch: {spec: {replicas: 3}}", None),
        ("force: true, patch: {spec: {replicas: 3}}", Some("force is for type Apply")),
        ("subresource: scale, patch: {spec: {replicas: 3}}", Some("use the action scale")),
        ("type: Json, patch: []", Some("Unsupported value: \"Json\"")),
        ("type: Merge", Some("patch: Required value")),
    ] {
        let said = try_rule(&format!("{{{SOURCE}, actions: [{{name: a, patch: {{{target}, {patch}}}}}]}}")).await;
        match refusal {
            Some(words) => assert!(said.contains(words), "{patch}: {said}"),
            None => assert!(said.contains("serverside-applied") || said.contains("created"), "{patch}: {said}"),
        }
    }
}

#[tokio::test]
async fn a_publication_has_no_type_of_ours() {
    for (publish, refusal) in [
        ("", ""),
        ("topic: \"a/${event.subject}\", key: \"${event.subject}\", type: com.acme.paid, data: [1]", ""),
        ("type: dev.signalbox.publication, contentType: text/plain; charset=utf-8, data: x", ""),
        ("type: dev.signalbox.schedule", "must not begin with dev.signalbox."),
        ("contentType: text, data: x", "contentType"),
    ] {
        let said =
            try_rule(&format!("{{{SOURCE}, actions: [{{name: a, publish: {{sinkRef: {{name: s}}, {publish}}}}}]}}"))
                .await;
        let taken = said.contains("serverside-applied") || said.contains("created");
        assert_eq!((taken, said.contains(refusal)), (refusal.is_empty(), true), "{publish}: {said}");
    }
}

#[tokio::test]
async fn a_job_of_two_origins_is_refused_in_words() {
    let (script, from) = ("script: {image: i, run: x}", "from: {cronJob: nightly}");
    for (job, taken) in [(String::new(), false), (format!("{script}, {from}"), false), (from.to_owned(), true)] {
        let said = try_rule(&format!("{{{SOURCE}, actions: [{{name: a, job: {{{job}}}}}]}}")).await;
        assert_eq!(!said.contains("exactly one of template, script and from must be set"), taken, "{job}: {said}");
    }
}

#[tokio::test]
async fn a_misspelt_field_is_refused_by_name() {
    let said = try_rule(&format!("{{{SOURCE}, {ACTION}, wen: []}}")).await;
    assert!(said.contains("wen"), "{said}");
}

#[tokio::test]
async fn a_timetable_with_seconds_is_refused_in_words() {
    for (cron, taken) in [("*/5 * * * * *", false), ("*/5 * * * *", true), ("@daily", true), ("0 0", false)] {
        let source = format!("sources: [{{name: at, schedule: {{cron: \"{cron}\"}}}}]");
        let said = try_rule(&format!("{{{source}, {ACTION}}}")).await;
        assert_eq!(!said.contains("cron must have 5 fields"), taken, "{cron}: {said}");
    }
}

#[tokio::test]
async fn two_sources_of_one_name_are_refused() {
    let source = "{name: a, kubernetesEvent: {}}";
    let said = try_rule(&format!("{{sources: [{source}, {source}], {ACTION}}}")).await;
    assert!(said.contains("uplicate"), "{said}");
}

#[tokio::test]
async fn a_name_that_yaml_makes_a_boolean_is_refused() {
    let said =
        try_rule(&format!("{{{SOURCE}, actions: [{{name: on, notify: {{sinkRef: {{name: s}}, text: t}}}}]}}")).await;
    assert!(said.contains("actions[0].name") || said.contains("boolean") || said.contains("expected string"), "{said}");
}

#[tokio::test]
async fn every_field_is_explained() {
    for path in [
        "eventrule.spec.sources.kubernetesEvent.regarding.selector",
        "eventrule.spec.actions.job",
        "eventrule.spec.actions.http.headers",
        "eventrule.spec.actions.patch.patch",
        "eventrule.spec.actions.waitFor",
        "eventrule.spec.sources.ref",
        "eventsink.spec.webhook",
        "eventsource.spec.webhook.auth.hmac.timestamp",
        "eventsource.status.rejected",
    ] {
        let said = words(&plane().await.kubectl(&["explain", path]).await);
        assert!(said.contains("DESCRIPTION") && !said.contains("<empty>"), "{path}: {said}");
    }
}

#[tokio::test]
async fn every_sample_is_taken() {
    let plane = plane().await;
    let mut taken = 0;
    let mut folders = vec![PathBuf::from("deploy/samples")];
    let mut samples = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the samples") {
            let path = entry.expect("a sample").path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(ending) if ending == "yaml" => samples.push(path),
                // Beside samples there is what tells how to try them.
                _ => assert!(path.ends_with("README.md"), "{}", path.display()),
            }
        }
    }
    for path in samples {
        let sample = fs::read_to_string(&path).expect("read a sample");
        let namespace = plane.namespace("sample").await;
        let output = plane
            .kubectl(&[
                "apply",
                "--dry-run=server",
                "--validate=strict",
                "-n",
                &namespace,
                "-f",
                &path.to_string_lossy(),
            ])
            .await;
        assert!(output.status.success(), "{}: {}\n{sample}", path.display(), words(&output));
        taken += 1;
    }
    assert!(taken > 0, "no sample was found");
}
