use std::sync::Arc;

use serde_json::from_slice;

use super::*;
use crate::{
    actions::testing::{action, common, context},
    kubernetes::fake::{Fake, failure},
    sinks::testing::{Service, sink as spec_of},
};

fn api_server() -> Fake {
    Fake::new(|seen| common(seen).unwrap_or_else(|| failure(404, "NotFound", "not found")))
}

fn cx(service: &Service) -> Context {
    let cx = context(&api_server());
    cx.services
        .sinks
        .set("shop", "broker", 1, &spec_of(&format!(r#"{{"cloudEvents": {{"url": "{}"}}}}"#, service.url)))
        .expect("a sink");
    cx
}

async fn render(cx: &Context, publish: &Value) -> Result<Value, String> {
    let act = action(json!({"name": "act", "publish": publish}));
    act.render(cx, publish).await.map_err(|failure| failure.message)
}

async fn run(cx: &Context, publish: Value, attempt: Attempt) -> Result<Done, Failure> {
    let act = action(json!({"name": "act", "publish": publish}));
    let request = act.render(cx, &publish).await?;
    act.execute(cx, &request, attempt, Permit::for_test()).await
}

#[tokio::test]
async fn an_event_is_published_as_the_rule_says_with_the_same_id_whenever_it_is_repeated() {
    let service = Service::new(&[(202, "")]).await;
    let cx = cx(&service);
    let publish = json!({"sinkRef": {"name": "broker"}, "type": "com.acme.scaled", "subject": "web", "key": "shop/web", "data": {"to": 3}});
    for attempt in [Attempt::First, Attempt::Again] {
        let done = run(&cx, publish.clone(), attempt).await.expect("published");
        assert_eq!(done.message, "published com.acme.scaled to EventSink broker");
        assert_eq!(done.result, json!({"id": "0123456789abcdef0123-act", "type": "com.acme.scaled"}));
    }
    let bodies = service.bodies();
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(
        bodies[0],
        json!({
            "specversion": "1.0", "id": "0123456789abcdef0123-act", "type": "com.acme.scaled", "subject": "web",
            "source": "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventrules/web-crashloop",
            "time": "2026-11-25T10:00:00Z", "datacontenttype": "application/json", "partitionkey": "shop/web",
            "signalboxhops": "1", "data": {"to": 3},
        })
    );
    assert_eq!(cx.services.sinks.get("shop", "broker").expect("there").deliveries().delivered, 2);
}

#[tokio::test]
async fn what_is_not_said_is_that_of_the_event() {
    let service = Service::new(&[(202, "")]).await;
    let mut cx = cx(&service);
    run(&cx, json!({"sinkRef": {"name": "broker"}}), Attempt::First).await.expect("published");
    let body = service.bodies().remove(0);
    assert_eq!((&body["type"], &body["subject"]), (&json!("dev.signalbox.publication"), &json!("shop/Pod/web-1")));
    assert_eq!((&body["data"], &body["datacontenttype"]), (&cx.event.data, &json!("application/json")));
    // Bytes go on as bytes.
    let mut event = (*cx.event).clone();
    (event.data, event.bytes) = (Value::Null, Some(k8s_openapi::ByteString(vec![0, 159])));
    event.extensions.insert(CONTENT_TYPE.into(), "image/png".into());
    cx.event = Arc::new(event);
    run(&cx, json!({"sinkRef": {"name": "broker"}}), Attempt::First).await.expect("published");
    let body: Value = from_slice(&service.requests()[1].1).expect("JSON");
    assert_eq!((&body["data_base64"], &body["datacontenttype"]), (&json!("AJ8="), &json!("image/png")));
}

#[tokio::test]
async fn null_that_the_rule_gives_is_not_the_data_of_the_event() {
    let service = Service::new(&[(202, "")]).await;
    let cx = cx(&service);
    let act = action(json!({"name": "act", "publish": {"sinkRef": {"name": "broker"}, "data": "${event.data.?x}"}}));
    let request = act.render(&cx, &json!({"data": null})).await.expect("rendered");
    act.execute(&cx, &request, Attempt::First, Permit::for_test()).await.expect("published");
    assert_eq!(service.bodies()[0].get("data"), None);
}

#[tokio::test]
async fn a_text_of_another_content_type_is_sent_as_it_is() {
    let service = Service::new(&[(202, "")]).await;
    let cx = context(&api_server());
    let spec = format!(r#"{{"cloudEvents": {{"url": "{}", "mode": "Binary"}}}}"#, service.url);
    cx.services.sinks.set("shop", "broker", 1, &spec_of(&spec)).expect("a sink");
    let publish = json!({"sinkRef": {"name": "broker"}, "contentType": "text/plain", "data": "open"});
    run(&cx, publish, Attempt::First).await.expect("published");
    let (headers, body) = service.requests().remove(0);
    assert_eq!((headers["content-type"].as_bytes(), &*body), (&b"text/plain"[..], &b"open"[..]));
    assert_eq!(headers["ce-id"], "0123456789abcdef0123-act");
}

#[tokio::test]
async fn what_a_sink_does_not_take_is_refused_before_it_is_recorded() {
    let service = Service::new(&[(202, "")]).await;
    let cx = cx(&service);
    let slack = spec_of(r#"{"slack": {"urlSecretRef": {"name": "slack", "key": "url"}}}"#);
    cx.services.sinks.set("shop", "chat", 1, &slack).expect("a sink");
    for (publish, why) in [
        (json!({"sinkRef": {"name": "gone"}}), "there is no EventSink gone in namespace shop"),
        (
            json!({"sinkRef": {"name": "chat"}}),
            "EventSink chat is of kind slack, which takes notifications and no events: use the action notify",
        ),
        (
            json!({"sinkRef": {"name": "broker"}, "type": "dev.signalbox.resource.deleted"}),
            "publish: type must not begin with",
        ),
        (json!({"sinkRef": {"name": "broker"}, "subject": "a\nb"}), "publish: subject has control characters"),
        (
            json!({"sinkRef": {"name": "broker"}, "topic": "orders"}),
            "EventSink broker is of kind cloudEvents, whose address says where events go: leave publish.topic out",
        ),
        (json!({"sinkRef": {"name": "broker"}, "key": null}), "key is null"),
        (json!({"sinkRef": {"name": "broker"}, "data": "x".repeat(MAX_DATA)}), "65536 are allowed"),
    ] {
        // A field that was set and gives null is told from one that is not set.
        let spec = json!({"name": "act", "publish": replace_null(&publish)});
        let said = action(spec).render(&cx, &publish).await.expect_err(why).message;
        assert!(said.contains(why), "{said}");
    }
    assert!(service.requests().is_empty());
    render(&cx, &json!({"sinkRef": {"name": "broker"}})).await.expect("taken");
}

fn replace_null(publish: &Value) -> Value {
    let fields = publish.as_object().into_iter().flatten();
    fields.map(|(key, value)| (key.clone(), if value.is_null() { json!("${x}") } else { value.clone() })).collect()
}

#[tokio::test]
async fn in_observe_mode_nothing_is_sent() {
    let service = Service::new(&[(202, "")]).await;
    let cx = cx(&service);
    let act = action(json!({"name": "act", "publish": {"sinkRef": {"name": "broker"}}}));
    let request = act.render(&cx, &json!({})).await.expect("rendered");
    let done = act.observe(&cx, &request).await.expect("observed");
    assert_eq!(done.message, "would publish dev.signalbox.publication to EventSink broker");
    assert!(service.requests().is_empty());
}
