//! What every kind of sink that speaks HTTP holds to.

#[cfg(all(
    feature = "amqp",
    feature = "email",
    feature = "kafka",
    feature = "mqtt",
    feature = "nats",
    feature = "redis"
))]
mod brokers;

use std::time::Duration;

use super::{
    testing::{Service, http, notification, sink, tell},
    *,
};
use crate::net::Guard;

/// A spec of each kind; `URL` stands for the service's address. What it reads out of a Secret is the address under the key `url`, else a credential.
const KINDS: [&str; 9] = [
    r#"{"slack": {"urlSecretRef": {"name": "s", "key": "url"}}}"#,
    r#"{"slack": {"tokenSecretRef": {"name": "s", "key": "token"}, "channel": "C0123", "apiUrl": "URL"}}"#,
    r#"{"teams": {"urlSecretRef": {"name": "s", "key": "url"}}}"#,
    r#"{"discord": {"urlSecretRef": {"name": "s", "key": "url"}}}"#,
    r#"{"pagerduty": {"routingKeySecretRef": {"name": "s", "key": "token"}, "url": "URL"}}"#,
    r#"{"alertmanager": {"urlSecretRef": {"name": "s", "key": "url"}}}"#,
    r#"{"webhook": {"url": "URL", "headers": [{"name": "Authorization", "valueSecretRef": {"name": "s", "key": "token"}}]}}"#,
    r#"{"webhook": {"urlSecretRef": {"name": "s", "key": "url"}, "signing": {"secretRef": {"name": "s", "key": "token"}}}}"#,
    r#"{"cloudEvents": {"urlSecretRef": {"name": "s", "key": "url"}}}"#,
];

fn of(spec: &str, url: &str) -> (Sink, Secrets) {
    let sink = build(&sink(&spec.replace("URL", url))).expect("a sink");
    let mut secrets = Secrets::default();
    for key in sink.secrets() {
        let value = if key.key == "url" { format!("{url}/canary-77") } else { "canary-77".to_owned() };
        secrets.insert(key, value.as_bytes());
    }
    (sink, secrets)
}

async fn told(spec: &str, answer: (u16, &'static str)) -> (Result<Delivered, SinkError>, Service) {
    let service = Service::new(&[answer]).await;
    let (sink, secrets) = of(spec, &service.url);
    (tell(&sink, &notification(), &secrets, &http()).await, service)
}

#[tokio::test]
async fn what_may_get_better_is_retried_and_refused_credentials_are_read_anew() {
    for spec in KINDS {
        for (status, retry) in [
            (429, Retry::After(Some(Duration::from_secs(30)))),
            (500, Retry::After(None)),
            (502, Retry::After(None)),
            (503, Retry::After(None)),
            (401, Retry::FreshSecrets),
            (403, Retry::FreshSecrets),
            (302, Retry::Never),
            (400, Retry::Never),
            (413, Retry::Never),
        ] {
            let error = told(spec, (status, "words")).await.0.expect_err(spec);
            assert_eq!(error.retry, retry, "{spec} {status}: {error}");
        }
        let (sink, secrets) = of(spec, "http://127.0.0.1:1");
        let error = tell(&sink, &notification(), &secrets, &http()).await.expect_err("nobody listens");
        assert_eq!(error.retry, Retry::After(None), "{spec}: {error}");
    }
}

#[tokio::test]
async fn no_secret_is_in_an_error_whatever_the_service_says() {
    for spec in KINDS {
        for status in [400, 403, 404, 429, 500] {
            let error = told(spec, (status, "you sent canary-77 to me")).await.0.expect_err(spec);
            assert!(!format!("{error:?} {error}").contains("canary"), "{spec}: {error:?}");
        }
        // An address that is public in the spec is not one of them.
        for url in
            ["http://127.0.0.1:1", "ftp://canary-77", "http://u:canary@h"].iter().filter(|_| !spec.contains("URL"))
        {
            let (sink, secrets) = of(spec, url);
            let error = tell(&sink, &notification(), &secrets, &http()).await.expect_err(url);
            assert!(!format!("{error:?} {error}").contains("canary"), "{spec}: {error:?}");
        }
    }
}

#[tokio::test]
async fn addresses_that_are_not_allowed_are_refused_for_good() {
    for spec in KINDS {
        let service = Service::new(&[(200, "{\"ok\": true}")]).await;
        let (sink, secrets) = of(spec, &service.url);
        let guarded = Http::new(Guard::default());
        let error = tell(&sink, &notification(), &secrets, &guarded).await.expect_err(spec);
        assert_eq!(error.retry, Retry::Never, "{spec}: {error}");
        assert!(error.message.contains("loopback"), "{spec}: {error}");
        assert!(service.requests().is_empty());
    }
}

#[tokio::test]
async fn a_repetition_is_the_same_to_the_service_also_from_another_process() {
    for spec in KINDS {
        let service = Service::new(&[(200, "{\"ok\": true, \"ts\": \"1.2\"}")]).await;
        for _ in 0..2 {
            let (sink, secrets) = of(spec, &service.url);
            tell(&sink, &notification(), &secrets, &http()).await.expect(spec);
        }
        let posts: Vec<_> = service.requests().into_iter().zip(service.paths()).collect();
        let (first, second) = posts.split_at(posts.len() / 2);
        for (((headers, body), path), ((again, same), same_path)) in first.iter().zip(second) {
            assert_eq!((body, path), (same, same_path), "{spec}");
            assert_eq!(headers.get("idempotency-key"), again.get("idempotency-key"), "{spec}");
        }
    }
}

#[tokio::test]
async fn what_is_cancelled_sends_nothing_more() {
    for spec in KINDS {
        let service = Service::silent().await;
        let (sink, secrets) = of(spec, &service.url);
        let notification = notification();
        let http = http();
        let telling = tell(&sink, &notification, &secrets, &http);
        tokio::select! {
            told = telling => unreachable!("{spec}: {told:?}"),
            () = service.asked() => {}
        }
        service.hung_up().await;
        assert_eq!(service.requests().len(), 1, "{spec}");
    }
}

#[tokio::test]
async fn only_sinks_of_events_take_events() {
    for spec in KINDS {
        let (sink, _) = of(spec, "http://h");
        let publication = Parcel::Publication(Box::new(Publication::of(&notification())));
        let refused = sink.check("kind", &publication).err();
        let takes = spec.contains("cloudEvents");
        assert_eq!(refused.is_none(), takes, "{spec}");
        assert!(refused.is_none_or(|why| why.contains("takes notifications and no events")));
        sink.check("kind", &Parcel::Notification(Box::new(notification()))).expect("notifications are taken by all");
    }
}
