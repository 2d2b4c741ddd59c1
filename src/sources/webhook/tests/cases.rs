//! Senders that are known by name: requests as they send them, byte for byte, out of tests/payloads.

use std::fs;

use super::*;
use crate::{api::SecretKeyRef, event::Event, sources::webhook::hook::Reading};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/payloads");

/// What stands in requests.yaml of one request.
struct Sample {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    secret: String,
}

fn sample(name: &str) -> Sample {
    let all = fs::read_to_string(format!("{FOLDER}/requests.yaml")).expect("the requests");
    let all: Value = serde_saphyr::from_str(&all).expect("YAML");
    let one = all.as_array().expect("a list").iter().find(|one| one["name"] == name).expect(name);
    let header = |(name, value): (&String, &Value)| (name.clone(), value.as_str().expect("a text").to_owned());
    Sample {
        headers: one["headers"].as_object().expect("headers").iter().map(header).collect(),
        body: fs::read(format!("{FOLDER}/{}", one["body_file"].as_str().expect("a file"))).expect("a body"),
        secret: one["secret"].as_str().unwrap_or_default().to_owned(),
    }
}

impl Sample {
    fn headers(&self) -> HeaderMap {
        header_map(&self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
    }

    /// The same with another value of a header.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Stage {
    /// With this under the key that the spec names.
    fn knowing(webhook: Value, secret: &str) -> Self {
        let stage = Self::new(webhook);
        let mut secrets = crate::sinks::Secrets::default();
        secrets.insert(SecretKeyRef { name: "hook".to_owned(), key: "key".to_owned() }, secret.as_bytes());
        stage.hook().read(Reading { secrets: Some(Arc::new(secrets)), fault: None, due: Instant::now() });
        stage
    }

    async fn post(&self, sample: &Sample) -> Result<Received, Refusal> {
        self.hooks.receive(&self.hook(), &sample.headers(), &sample.body).await
    }

    /// The events in the log.
    fn events(&self) -> Vec<Event> {
        self.bus.log.events().iter().map(|input| (*input.event).clone()).collect()
    }
}

fn keys() -> Value {
    json!([{"name": "hook", "key": "key"}])
}

fn github() -> Stage {
    let auth = json!({"hmac": {"secretRefs": keys()}});
    Stage::knowing(json!({"preset": "GitHub", "auth": auth}), &sample("github ping").secret)
}

fn open(preset: &str) -> Stage {
    Stage::new(json!({"preset": preset}))
}

#[tokio::test]
async fn a_ping_of_github_is_answered_told_of_and_no_event() {
    let stage = github();
    assert_eq!(stage.hook().figures().last_ping, None);
    assert_eq!(stage.post(&sample("github ping")).await, taken(0, 0));
    assert_eq!(stage.hook().figures().last_ping.map(|time| time.as_microsecond()), Some(NOW));
    assert_eq!((stage.events(), stage.hook().figures().last_event), (Vec::new(), None));
}

#[tokio::test]
async fn a_push_of_github_is_the_same_event_as_form_and_as_json_and_once_however_often_it_is_delivered() {
    let stage = github();
    assert_eq!(stage.post(&sample("github push, form-encoded")).await, taken(1, 0));
    assert_eq!(stage.post(&sample("same delivery id again (redelivery)")).await, taken(0, 1));
    let events = stage.events();
    let [event] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!((event.id.as_str(), event.type_.as_str()), ("11111111-aaaa-11f1-8000-000000000002", "com.github.push"));
    assert_eq!(event.subject.as_deref(), Some("acme-water/pump-api"));
    let message = "Bump flow limit & \"burst\" = 100% + ümlaut\n\nSigned-off-by: Robin Doe <robin@example.com>";
    assert_eq!(event.data["head_commit"]["message"], message);
    assert_eq!(event.data["repository"]["pushed_at"], 1793603703);
    // The same as JSON, signed by nobody: only what is made of it counts here.
    let plain = Sample { body: event.data.to_string().into_bytes(), ..sample("github push, form-encoded") };
    let unsigned = open("GitHub");
    assert_eq!(unsigned.post(&plain.with("content-type", "application/json")).await, taken(1, 0));
    assert_eq!(unsigned.events(), events);
}

#[tokio::test]
async fn only_the_newer_signature_of_the_bytes_as_they_came_lets_github_in() {
    let stage = github();
    for name in [
        "signature computed over the decoded JSON instead of the raw form body",
        "only the sha1 signature present while a secret is configured",
    ] {
        assert_eq!(stage.post(&sample(name)).await, Err(Refusal::Unauthenticated), "{name}");
    }
    let twice = sample("github workflow_run");
    let mut headers = twice.headers();
    let signature = headers["x-hub-signature-256"].clone();
    headers.append("x-hub-signature-256", signature);
    assert_eq!(stage.hooks.receive(&stage.hook(), &headers, &twice.body).await, Err(Refusal::Unauthenticated));
    assert_eq!((stage.events().len(), stage.hook().figures().rejected.unauthenticated), (0, 3));
    assert_eq!(stage.post(&twice).await, taken(1, 0));
    let event = &stage.events()[0];
    assert_eq!(event.type_, "com.github.workflow_run.completed");
    assert_eq!(event.data["workflow_run"]["id"].to_string(), "19876543210", "every digit");
}

#[tokio::test]
async fn what_cannot_be_stored_of_a_sender_that_does_not_send_again_is_counted_as_lost() {
    for (preset, lost) in [("GitHub", 1), ("Alertmanager", 0)] {
        let stage = open(preset);
        stage.bus.full.store(true, Ordering::Relaxed);
        let body = json!({"alerts": [{"status": "firing", "startsAt": "x", "fingerprint": "y"}]}).to_string();
        let refused = stage.send(&[("x-github-event", "push")], &body).await;
        assert!(matches!(refused, Err(Refusal::Unavailable(_))), "{refused:?}");
        assert!(stage.metrics.encode().contains(&format!("webhook_lost_total {lost}")), "{preset}");
    }
}

fn gitlab() -> Value {
    json!({"preset": "GitLab", "auth": {"token": {"secretRefs": keys()}}})
}

#[tokio::test]
async fn a_token_of_gitlab_is_enough_where_no_signature_is_asked_for_and_a_retry_is_no_second_event() {
    let first = sample("legacy token only (webhook-id and webhook-timestamp present, no signature)");
    let stage = Stage::knowing(gitlab(), &first.secret);
    assert_eq!(stage.post(&sample("wrong token")).await, Err(Refusal::Unauthenticated));
    assert_eq!(stage.post(&first).await, taken(1, 0));
    let retry = "retry of the same delivery: same Idempotency-Key, new webhook-timestamp";
    assert_eq!(stage.post(&sample(retry)).await, taken(0, 1));
    let events = stage.events();
    let [event] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!(
        (event.id.as_str(), event.type_.as_str()),
        ("0c1d2e3f-0000-4000-8000-0000000000bb", "com.gitlab.pipeline.failed")
    );
    assert_eq!(event.subject.as_deref(), Some("acme/telemetry"));
    let pipeline = &event.data["object_attributes"];
    assert_eq!((&pipeline["created_at"], &pipeline["name"]), (&json!("2026-11-02T07:02:11Z"), &Value::Null));
    assert_eq!(event.data["builds"][0]["runner"], Value::Null);
    for auth in [json!({}), json!({"X-Gitlab-Token": ""})] {
        let mut bare = sample("wrong token");
        bare.headers.retain(|(name, _)| name != "X-Gitlab-Token");
        bare.headers.extend(auth.as_object().into_iter().flatten().map(|(name, _)| (name.clone(), String::new())));
        assert_eq!(stage.post(&bare).await, Err(Refusal::Unauthenticated));
    }
    // Older versions of GitLab send no Idempotency-Key.
    let mut older = sample("legacy token only (webhook-id and webhook-timestamp present, no signature)");
    older.headers.retain(|(name, _)| name != "Idempotency-Key");
    assert_eq!((stage.post(&older).await, stage.post(&older).await), (taken(1, 0), taken(0, 1)));
    assert_eq!(stage.events()[1].id, "0c1d2e3f-0000-4000-8000-0000000000aa");
}

#[tokio::test]
async fn where_gitlab_is_to_sign_a_token_is_not_enough_and_an_old_signature_neither() {
    let signed = sample("signing token only");
    let auth = json!({"standardWebhooks": {"secretRefs": keys()}});
    let stage = Stage::knowing(json!({"preset": "GitLab", "auth": auth}), &signed.secret);
    let legacy = sample("legacy token only (webhook-id and webhook-timestamp present, no signature)");
    assert_eq!(stage.post(&legacy).await, Err(Refusal::Unauthenticated), "no downgrade");
    let late = sample("signing token only").with("webhook-timestamp", "1793603098");
    assert_eq!(stage.post(&late).await, Err(Refusal::Unauthenticated));
    let both =
        format!("v1,{} {}", "A".repeat(43) + "=", signed.headers()["webhook-signature"].to_str().expect("a text"));
    assert_eq!(stage.post(&sample("signing token only").with("webhook-signature", &both)).await, taken(1, 0));
    assert_eq!(stage.post(&signed).await, taken(0, 1));
    // Whoever has overheard it can put another key beside it.
    assert_eq!(stage.post(&signed.with("Idempotency-Key", "another")).await, taken(0, 1));
}

#[tokio::test]
async fn each_alert_is_an_event_of_its_own_status_and_its_repetition_is_none() {
    let stage = open("Alertmanager");
    assert_eq!(stage.post(&sample("mixed group")).await, taken(2, 0));
    assert_eq!(stage.post(&sample("the same group again after repeat_interval")).await, taken(0, 2));
    assert!(stage.metrics.encode().contains("webhook_truncated_alerts_total 0"));
    assert_eq!(stage.post(&sample("resolved, 7 alerts truncated")).await, taken(1, 0));
    assert!(stage.metrics.encode().contains("webhook_truncated_alerts_total 7"));
    let events = stage.events();
    let told: Vec<(&str, Option<&str>)> =
        events.iter().map(|event| (event.type_.as_str(), event.subject.as_deref())).collect();
    let (eu, us) = (Some("QueueBacklog/a1f0b2c3d4e5f607"), Some("QueueBacklog/b2c3d4e5f607a1f0"));
    let types = ["io.prometheus.alert.firing", "io.prometheus.alert.resolved"];
    assert_eq!(told, [(types[0], eu), (types[1], us), (types[1], eu)], "the end is about the same alert");
    assert_eq!((events[0].data.get("endsAt"), &events[1].data["endsAt"]), (None, &json!("2026-11-02T07:01:12.482Z")));
    let group = &events[0].data["group"];
    assert_eq!((&group["status"], &group["groupLabels"]), (&json!("firing"), &json!({"alertname": "QueueBacklog"})));
    assert_eq!(events[2].data["group"]["truncatedAlerts"], 7);
}

#[tokio::test]
async fn a_notification_is_one_event_where_the_source_groups_alerts() {
    let stage = Stage::new(json!({"preset": "Alertmanager", "alerts": "Grouped"}));
    assert_eq!(stage.post(&sample("mixed group")).await, taken(1, 0));
    assert_eq!(stage.post(&sample("the same group again after repeat_interval")).await, taken(0, 1));
    let event = &stage.events()[0];
    assert_eq!(
        (event.type_.as_str(), event.data["alerts"].as_array().map(Vec::len)),
        ("io.prometheus.alertgroup.firing", Some(2))
    );
    assert_eq!(event.data["alerts"][0].get("endsAt"), None);
}

#[tokio::test]
async fn grafana_sends_the_same_with_a_name_of_its_own() {
    let stage = open("Grafana");
    assert_eq!(stage.post(&sample("mixed group")).await, taken(2, 0));
    assert_eq!(stage.events()[0].type_, "com.grafana.alert.firing");
}

#[tokio::test]
async fn a_tag_that_is_a_digest_is_no_tag_and_the_image_can_be_pulled() {
    let push = sample("push by robot: tag holds the digest");
    let auth = json!({"bearer": {"secretRefs": keys()}});
    let stage = Stage::knowing(json!({"preset": "Harbor", "auth": auth}), &push.secret);
    assert_eq!(stage.post(&push).await, taken(1, 0));
    assert_eq!(stage.post(&push).await, taken(0, 1), "Harbor sends again what was not answered in time");
    assert_eq!(stage.post(&sample("scan completed: key with dots, slash, semicolon and space")).await, taken(1, 0));
    let events = stage.events();
    let digest = "sha256:80cd0bedfb1868a671e6f43b193bcd2a0611277547fc1efffde44e635553bed9";
    let (pushed, scanned) = (&events[0], &events[1]);
    assert_eq!((pushed.type_.as_str(), pushed.subject.as_deref()), ("harbor.artifact.pushed", Some("acme/pump-api")));
    assert_eq!((pushed.data["resource"].get("tag"), pushed.data["image"].get("tag")), (None, None));
    assert_eq!(pushed.data["image"]["reference"], format!("harbor.example.com/acme/pump-api@{digest}"));
    assert_eq!(pushed.time.map(|time| time.as_second()), Some(1793603400));
    assert_eq!(scanned.type_, "harbor.scan.completed");
    let report =
        &scanned.data["resource"]["scan_overview"]["application/vnd.security.vulnerability.report; version=1.1"];
    assert_eq!(report["summary"]["summary"]["Critical"], 2);
}

#[tokio::test]
async fn nulls_and_long_numbers_of_falco_stay_what_they_are() {
    let stage = open("Falco");
    let alert = sample("falco nulls and sentinels");
    assert_eq!((stage.post(&alert).await, stage.post(&alert).await), (taken(1, 0), taken(0, 1)));
    let event = &stage.events()[0];
    assert_eq!((event.type_.as_str(), event.subject.as_deref()), ("falco.rule.output.v1", Some("Node/node-7")));
    assert_eq!(event.extensions["priority"], "Warning");
    let fields = &event.data["output_fields"];
    assert_eq!(
        (fields["evt.time"].to_string(), fields["user.uid"].to_string()),
        ("1793603780123456789".to_owned(), "4294967295".to_owned())
    );
    assert_eq!((&fields["k8s.ns.name"], &fields["proc.sid"]), (&Value::Null, &json!(-1)));
    assert_eq!(event.time.map(|time| time.as_nanosecond()), Some(1793603780123456789));
}

#[tokio::test]
async fn a_batch_of_cloudevents_is_all_of_its_events_or_none() {
    let stage = open("CloudEvents");
    assert_eq!(stage.post(&sample("batch of 4, one repeated (source,id)")).await, taken(3, 1));
    let events = stage.events();
    assert_eq!((events[1].subject.as_deref(), events[2].bytes.as_ref().map(|bytes| bytes.0.len())), (None, Some(9)));
    let refused = stage.post(&sample("batch of 2, second has no id")).await;
    assert_eq!(refused, Err(Refusal::Malformed("event 1 of the batch: id is missing".to_owned())));
    assert_eq!(stage.post(&sample("empty batch")).await, taken(0, 0));
    let refused = stage.post(&sample("array sent as single-event content type")).await;
    assert!(matches!(refused, Err(Refusal::Malformed(_))), "{refused:?}");
    assert_eq!(stage.events().len(), 3);
}

#[tokio::test]
async fn what_is_none_of_the_senders_payloads_is_refused_in_words_by_each() {
    for preset in ["GitHub", "GitLab", "Alertmanager", "Grafana", "Falco", "Harbor", "DockerHub"] {
        let stage = open(preset);
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for body in ["", "[]", "{}", "null", "{\"a\":1e999}", "{\"a\":1,\"a\":2}", &deep] {
            let headers = [("content-type", "application/json"), ("x-github-event", "push")];
            let refused = stage.send(&headers, body).await;
            let is_fine = (preset, body) == ("GitHub", "{}") && refused == taken(1, 0);
            assert!(
                is_fine || matches!(&refused, Err(Refusal::Malformed(why)) if why.len() > 15),
                "{preset} {body}: {refused:?}"
            );
        }
        let form = [("content-type", "application/x-www-form-urlencoded"), ("x-github-event", "push")];
        for body in ["payload=%7B", "a=1&a=2", "payload=%5B%5D"] {
            let refused = stage.send(&form, body).await;
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{preset} {body}: {refused:?}");
        }
    }
}

#[test]
fn what_does_not_go_with_a_preset_is_a_fault() {
    let none = json!({"none": {}});
    let hmac = |more: Value| {
        let mut hmac = json!({"secretRefs": keys()});
        hmac.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        json!({"hmac": hmac})
    };
    let token = json!({"token": {"secretRefs": keys()}});
    let cases = [
        (json!({"preset": "GitHub", "auth": none, "type": "a"}), "type, idHeader and headers are for preset Generic"),
        (
            json!({"preset": "Falco", "auth": none, "headers": ["X-A"]}),
            "type, idHeader and headers are for preset Generic",
        ),
        (json!({"preset": "Falco", "auth": none, "alerts": "Each"}), "alerts is for the presets"),
        (json!({"auth": hmac(json!({}))}), "hmac.header: must be set"),
        (json!({"preset": "GitLab", "auth": hmac(json!({}))}), "hmac.header: must be set"),
        (json!({"preset": "GitHub", "auth": token}), "token.header: must be set"),
        (json!({"preset": "GitHub", "auth": hmac(json!({"algorithm": "SHA1"}))}), "name the header"),
        (json!({"preset": "GitHub", "auth": hmac(json!({"prefix": "sha1="}))}), "name the header"),
    ];
    for (webhook, fault) in cases {
        let told = Webhook::new(&spec(webhook.clone())).expect_err(fault).0;
        assert!(told.len() == 1 && told[0].contains(fault), "{webhook}: {told:?}");
    }
    for webhook in [
        json!({"preset": "GitHub", "auth": hmac(json!({"header": "X-Gitea-Signature"}))}),
        json!({"preset": "Grafana", "alerts": "Grouped", "auth": {"token": {"header": "X-Token", "secretRefs": keys()}}}),
    ] {
        Webhook::new(&spec(webhook)).expect("no fault");
    }
}
