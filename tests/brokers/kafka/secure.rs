//! TLS and SCRAM towards a real Apache Kafka.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    await_told, connected,
    server::{PASSWORD, USER, shared},
    source, telling,
};
use crate::{
    brokers::servers::Authority,
    secret_in,
    support::{
        sink::Sink,
        site::{Shop, Site, condition},
    },
};

/// A key of the Secret `kafka`.
fn key(key: &str) -> Value {
    json!({"name": "kafka", "key": key})
}

async fn edit(shop: &Shop, kafka: Value) {
    let (api, patch) =
        (shop.api("signalbox.dev/v1alpha1", "EventSource"), Patch::Merge(json!({"spec": {"kafka": kafka}})));
    api.patch("orders", &PatchParams::default(), &patch).await.expect("edit the EventSource");
}

/// Waits until the condition is false and says this.
async fn says(shop: &Shop, of: &str, what: &str) -> String {
    let says = |status: &Value| {
        let told = condition(status, of);
        told["status"] == "False" && told["message"].as_str().is_some_and(|words| words.contains(what))
    };
    let status = shop.status("EventSource", "orders", &format!("{of}: {what}"), says).await;
    condition(&status, of)["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_are_trusted_by_their_authority_and_name_and_shown_a_certificate() {
    let (site, kafka) = (Site::start().await, shared().await);
    let _operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("sealed", 1).await;
    let (certificate, private) = kafka.authority.sign("operator");
    let values =
        json!({"ca": kafka.authority.pem(), "other": Authority::new().pem(), "cert": certificate, "key": private});
    secret_in(&site.plane, &shop, "kafka", values).await;
    let shown = |ca: &str| json!({"caSecretRef": key(ca), "clientCertificateSecretRef": key("cert"), "clientKeySecretRef": key("key")});
    let spec = |broker: String, tls: Value| json!({"brokers": [broker], "topics": ["sealed"], "group": "sealed", "start": "Earliest", "tls": tls});
    source(&shop, spec(kafka.tls(), shown("other"))).await;
    telling(&shop, "${event.data}", json!([])).await;
    says(&shop, "Connected", "name its authority by tls.caSecretRef").await;
    edit(&shop, spec(kafka.stray(), shown("ca"))).await;
    says(&shop, "Connected", "connect by a name that it is for").await;
    let nothing = json!({"caSecretRef": key("ca"), "clientCertificateSecretRef": null, "clientKeySecretRef": null});
    edit(&shop, spec(kafka.tls(), nothing)).await;
    says(&shop, "Connected", "tls.clientCertificateSecretRef").await;
    edit(&shop, spec(kafka.tls(), Value::Null)).await;
    says(&shop, "Connected", "TLS").await;
    edit(&shop, spec(kafka.tls(), shown("ca"))).await;
    connected(&shop).await;
    kafka.tell("sealed", &["1"]).await;
    await_told(&shop, &sink, 1, &["1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_shown_by_scram_and_a_wrong_one_is_told_until_it_is_mended() {
    let (site, kafka) = (Site::start().await, shared().await);
    let operator = site.setup.start_ready().await;
    let (shop, sink) = (site.namespace("kafka").await, Sink::start().await);
    shop.sink("oncall", &sink.url("/")).await;
    kafka.topic("scram", 1).await;
    let values = json!({"ca": kafka.authority.pem(), "password": "not-the-password"});
    secret_in(&site.plane, &shop, "kafka", values).await;
    let spec = |mechanism: &str| {
        let sasl = json!({"mechanism": mechanism, "username": USER, "passwordSecretRef": key("password")});
        json!({"brokers": [kafka.scram()], "topics": ["scram"], "group": "scram", "start": "Earliest", "tls": {"caSecretRef": key("ca")}, "sasl": sasl})
    };
    source(&shop, spec("ScramSha512")).await;
    telling(&shop, "${event.data}", json!([])).await;
    let words = says(&shop, "Authenticated", "credentials").await;
    assert!(!words.contains("not-the-password"), "{words}");
    edit(&shop, spec("Plain")).await;
    says(&shop, "Authenticated", "does not take PLAIN, but SCRAM-SHA-").await;
    edit(&shop, spec("ScramSha512")).await;
    says(&shop, "Authenticated", "credentials").await;
    let patch = Patch::Merge(json!({"stringData": {"password": PASSWORD}}));
    shop.api("v1", "Secret").patch("kafka", &PatchParams::default(), &patch).await.expect("mend the Secret");
    connected(&shop).await;
    kafka.tell("scram", &["1"]).await;
    await_told(&shop, &sink, 1, &["1"]).await;
    edit(&shop, spec("ScramSha256")).await;
    kafka.tell("scram", &["2"]).await;
    await_told(&shop, &sink, 2, &["1", "2"]).await;
    assert!(!operator.log().contains(PASSWORD), "a password is in the log");
}
