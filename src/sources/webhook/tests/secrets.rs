//! Secrets that are read beside the requests, and the memory of sources that are gone.

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    api::USABLE_LABEL,
    kubernetes::{
        Cluster,
        fake::{Fake, failure},
    },
};

/// What the API server says of the Secret: its token, or a failure.
type Secret = Arc<Mutex<Result<&'static str, u16>>>;

fn api_server(secret: &Secret) -> Fake {
    let secret = Arc::clone(secret);
    Fake::new(move |seen| {
        if *secret.lock() == Err(500) {
            return failure(500, "InternalError", "etcd is away");
        }
        if seen.path.ends_with("/selfsubjectaccessreviews") {
            return (201, json!({"spec": {}, "status": {"allowed": true}}));
        }
        if seen.path.contains("/serviceaccounts/") {
            return (200, json!({"metadata": {"name": "ops", "labels": {USABLE_LABEL: "true"}}}));
        }
        assert_eq!(seen.user.as_deref(), Some("system:serviceaccount:shop:signalbox-rules"), "{}", seen.path);
        match *secret.lock() {
            Ok(token) => {
                let token = data_encoding::BASE64.encode(token.as_bytes());
                (200, json!({"metadata": {"name": "hook"}, "data": {"token": token}}))
            }
            Err(404) => failure(404, "NotFound", "no"),
            Err(code) => failure(code, "Forbidden", "secrets \"hook\" is forbidden"),
        }
    })
}

fn bearer() -> Value {
    json!({"auth": {"bearer": {"secretRefs": [{"name": "hook", "key": "token"}]}}})
}

/// Reads Secrets until the test ends.
fn keep(stage: &Stage, secret: &Secret, listed: bool) -> CancellationToken {
    let (stop, cluster) = (CancellationToken::new(), Cluster::with_client(api_server(secret).client()));
    let (hooks, told) = (stage.hooks.clone(), stop.clone());
    let known = hooks.clone();
    tokio::spawn(async move { hooks.keep(cluster, move || listed.then(|| known.known()), told).await });
    stop
}

async fn with(stage: &Stage, token: &str) -> Result<Received, Refusal> {
    stage.send(&[("authorization", &format!("Bearer {token}"))], "{}").await
}

/// As long as a change of a Secret may take to be known.
async fn a_minute() {
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_read_as_the_account_and_followed_within_a_minute() {
    let stage = Stage::new(bearer());
    assert!(matches!(with(&stage, "one").await, Err(Refusal::Unavailable(_))), "nobody knows yet");
    let secret = Secret::new(Mutex::new(Ok("one")));
    let _stop = keep(&stage, &secret, true);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(with(&stage, "one").await, taken(1, 0));
    assert_eq!(with(&stage, "nothing").await, Err(Refusal::Unauthenticated));
    *secret.lock() = Ok("two");
    a_minute().await;
    assert_eq!(with(&stage, "one").await, Err(Refusal::Unauthenticated));
    assert_eq!(with(&stage, "two").await, taken(1, 0));
    assert_eq!(stage.hooks.fault(&stage.hook()), None);
    stage.hooks.set("shop", "github", "u-1", 2, &spec(bearer())).expect("a version more");
    assert_eq!(with(&stage, "two").await, taken(1, 0), "it reads the same Secret");
}

#[tokio::test(start_paused = true)]
async fn of_two_keys_one_is_enough_and_what_lacks_is_told() {
    let keys = [json!({"name": "hook", "key": "next"}), json!({"name": "hook", "key": "token"})];
    let stage = Stage::new(json!({"auth": {"bearer": {"secretRefs": keys}}}));
    assert!(stage.hooks.closed("shop", "github").is_some(), "nothing was read yet");
    let secret = Secret::new(Mutex::new(Ok("one")));
    let _stop = keep(&stage, &secret, true);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(with(&stage, "one").await, taken(1, 0));
    assert!(stage.hooks.fault(&stage.hook()).is_some_and(|fault| fault.contains("the key next")));
    assert_eq!(stage.hooks.closed("shop", "github"), None);
    stage.hooks.hold("shop", "github", Some("not now".to_owned()));
    assert_eq!(stage.hooks.closed("shop", "github").as_deref(), Some("not now"));
    stage.hooks.hold("shop", "github", None);
    *secret.lock() = Err(404);
    a_minute().await;
    assert!(stage.hooks.closed("shop", "github").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_gone_empty_or_forbidden_lets_nobody_in() {
    for (gone, why) in [(Err(404), "does not exist"), (Ok(" \n"), "has no value"), (Err(403), "secrets")] {
        let stage = Stage::new(bearer());
        let secret = Secret::new(Mutex::new(Ok("one")));
        let _stop = keep(&stage, &secret, true);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(with(&stage, "one").await, taken(1, 0));
        *secret.lock() = gone;
        a_minute().await;
        for token in ["one", "", " "] {
            assert_eq!(with(&stage, token).await, Err(Refusal::Unauthenticated), "{gone:?}");
        }
        let fault = stage.hooks.fault(&stage.hook()).expect("a fault");
        assert!(fault.contains(why) && !fault.contains("one"), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_can_match_nothing_is_told_and_lets_nobody_in() {
    let refs = json!({"secretRefs": [{"name": "hook", "key": "token"}]});
    for (auth, value, why) in [
        (json!({"standardWebhooks": refs}), "no base64!", "is no Base64"),
        (json!({"standardWebhooks": refs}), "whsec_", "is no Base64"),
        (json!({"bearer": refs}), "two\nlines", "control characters"),
        (json!({"token": {"header": "X-Token", "secretRefs": refs["secretRefs"]}}), "two\nlines", "control characters"),
    ] {
        let stage = Stage::new(json!({"auth": auth}));
        let _stop = keep(&stage, &Secret::new(Mutex::new(Ok(value))), true);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let closed = stage.hooks.closed("shop", "github").expect("it lets nobody in");
        assert!(closed.starts_with("key token of Secret shop/hook ") && closed.contains(why), "{closed}");
        assert!(value == "whsec_" || !closed.contains(value), "{closed}");
        assert_eq!(with(&stage, value.lines().next().unwrap_or_default()).await, Err(Refusal::Unauthenticated));
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_what_was_read_counts() {
    let stage = Stage::new(bearer());
    let secret = Secret::new(Mutex::new(Ok("one")));
    let _stop = keep(&stage, &secret, true);
    tokio::time::sleep(Duration::from_millis(1)).await;
    *secret.lock() = Err(500);
    for _ in 0..10 {
        a_minute().await;
        assert_eq!(with(&stage, "one").await, taken(1, 0));
    }
    assert_eq!(with(&stage, "two").await, Err(Refusal::Unauthenticated));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_source_that_is_gone_is_forgotten_once_all_are_known() {
    let stage = Stage::new(cloud_events());
    assert_eq!(stage.batch(&["m-1"]).await, taken(1, 0));
    let origins = stage.bus.log.origins();
    for (listed, kept) in [(false, taken(0, 1)), (true, taken(1, 0))] {
        let again = Stage::after(&origins, cloud_events());
        again.hooks.remove("shop", "github");
        let stop = keep(&again, &Secret::new(Mutex::new(Ok("one"))), listed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        stop.cancel();
        again.hooks.set("shop", "github", "u-1", 1, &spec(cloud_events())).expect("a spec");
        assert_eq!(again.batch(&["m-1"]).await, kept, "listed: {listed}");
        let forgot = again.bus.log.short().iter().filter(|record| record.starts_with("seen -u-1/")).count();
        assert_eq!(forgot, usize::from(listed));
    }
}
