//! What the operator has kept of events, for a rule that is tried on them.

use http_body_util::{BodyExt as _, Empty};

use super::*;

fn kept() -> Value {
    json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"reasons": ["BackOff"]}}],
        "actions": [{"name": "say", "emit": {"type": "com.acme.crash"}}],
    })
}

/// The lines of an answer: what the archive is, the events, how it ended.
async fn lines(address: &str, path: &str, token: &str) -> (StatusCode, Vec<Value>) {
    let client: Client<_, Empty<&'static [u8]>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{address}{path}")).header("authorization", format!("Bearer {token}"));
    let answer = client.request(request.body(Empty::new()).expect("a request")).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (status, lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect())
}

#[tokio::test]
async fn a_rule_is_tried_on_what_was_kept_and_sees_nothing_of_another_namespace() {
    let site = Site::start().await;
    let operator = site.setup.start_ready().await;
    let (shop, bank) = (site.namespace("shop").await, site.namespace("bank").await);
    for (place, pods) in [(&shop, &["web-1", "web-2", "web-3"][..]), (&bank, &["safe-1", "safe-2"])] {
        place.rule("kept", kept()).await;
        for pod in pods {
            place.event(&format!("{pod}.1"), pod, "BackOff").await;
        }
        place.rule_status("kept", "all were taken", |status| status["counts"]["succeeded"] == pods.len()).await;
    }

    let token = token(&bank, "signalbox-rules", "signalbox").await;
    let get = async |of: &str, query: &str| {
        lines(operator.address(), &format!("/v1/namespaces/{of}/events?since=3600{query}"), &token).await
    };
    let (status, own) = get(&bank.name, &format!("&of=v1/Event@{}&rules=true", bank.name)).await;
    let named = |text: &str| own.iter().filter(|line| line.to_string().contains(text)).count();
    // Each event, and what the rule has emitted for it.
    assert_eq!((status, named("safe-"), named(&shop.name), named("web-")), (StatusCode::OK, 4, 0, 0), "{own:#?}");
    assert!(own[0]["archive"]["begins"].is_string() && own[own.len() - 1]["end"]["cut"].is_null(), "{own:#?}");
    let (_, nothing) = get(&bank.name, "").await;
    assert_eq!(nothing[1]["end"]["events"], 0, "what is not asked for is not told");
    for (of, query) in [
        (&shop.name, format!("&of=v1/Event@{}", shop.name)),
        (&bank.name, format!("&of=v1/Event@{}", shop.name)),
        (&bank.name, "&of=v1/Event@*".to_owned()),
    ] {
        let (status, told) = get(of, &query).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{query}");
        assert!(told.len() == 1 && told[0]["message"].to_string().contains("bank"), "{told:?}");
    }

    let rule = json!({
        "apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "metadata": {"name": "new"},
        "spec": {"sources": kept()["sources"], "groupBy": [], "trigger": {"count": {"atLeast": 2, "within": "10m"}},
            "throttle": {"cooldown": "1h"}, "actions": kept()["actions"]},
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rule.json");
    std::fs::write(&file, rule.to_string()).expect("write the rule");
    let (file, address) = (file.display().to_string(), format!("http://{}", operator.address()));
    let run = async |shop: &Shop| {
        let args = ["backtest", &file, "--since", "1h", "--address", &address];
        printed(&plugin(site.plane.kubeconfig(), shop, &args).await)
    };
    let said = run(&shop).await;
    assert!(said.contains("3 events from") && said.contains("the archive begins at"), "{said}");
    assert!(
        said.contains("note: events that no rule asks for are not kept: rule kept has had the same sources since"),
        "{said}"
    );
    let said = run(&bank).await;
    assert!(said.contains("2 events from") && !said.contains("web-"), "{said}");
}
