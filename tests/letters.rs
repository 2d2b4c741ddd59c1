//! Dead letters on a real API server: who may see them, and what running one again does.

use std::{net::SocketAddr, path::Path, process::Output};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::{
    sink::{Answer, Sink},
    site::{Shop, Site},
};

mod support;

#[path = "letters/archive.rs"]
mod archive;
#[path = "letters/canary.rs"]
mod canary;
#[path = "letters/plug_in.rs"]
mod plug_in;

/// A token of an account of the shop.
async fn token(shop: &Shop, account: &str, audience: &str) -> String {
    let spec = TokenRequestSpec { audiences: Some(vec![audience.to_owned()]), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let accounts: Api<ServiceAccount> = Api::namespaced(shop.client.clone(), &shop.name);
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await.expect("a token");
    made.status.and_then(|status| status.token).expect("the answer holds a token")
}

async fn ask(address: &str, method: Method, path: &str, token: Option<&str>) -> (StatusCode, Value) {
    let address: SocketAddr = address.parse().expect("an address");
    let client: Client<_, Empty<&'static [u8]>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = client.request(request.body(Empty::new()).expect("a request")).await.expect("an answer");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// A rule that scales, and then tells a sink that refuses.
fn rule() -> Value {
    json!({
        "sources": [{"name": "crash", "kubernetesEvent": {"types": ["Warning"], "reasons": ["BackOff"]}}],
        "actions": [
            {"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "1"}},
            {"name": "tell", "retry": {"limit": 100, "backoff": "100ms", "maxBackoff": "200ms"},
                "notify": {"sinkRef": {"name": "oncall"}, "text": "${event.data.regarding.name} ${actions.grow.to}"}},
        ],
    })
}

/// A shop whose rule `letters` has failed for good for each pod.
async fn failed(site: &Site, sink: &Sink, prefix: &str, pods: &[&str]) -> Shop {
    let shop = site.namespace(prefix).await;
    sink.answer(Answer::status(400));
    shop.sink("oncall", &sink.url("/")).await;
    shop.deployment("web", 0).await;
    shop.rule("letters", rule()).await;
    for (number, pod) in (1..).zip(pods) {
        shop.event(&format!("{pod}.1"), pod, "BackOff").await;
        shop.rule_status("letters", "it failed", |status| status["counts"]["deadLettered"] == number).await;
    }
    shop
}

#[tokio::test]
async fn letters_are_for_a_token_of_the_rules_account_and_for_nobody_else() {
    let (site, sink) = (Site::start().await, Sink::start().await);
    let operator = site.setup.start_ready().await;
    let shop = failed(&site, &sink, "letters", &["a", "b", "c"]).await;
    let list = format!("/v1/namespaces/{}/rules/letters/deadletters", shop.name);
    let own = token(&shop, "signalbox-rules", "signalbox").await;
    let get = async |path: &str, token: Option<&str>| ask(operator.address(), Method::GET, path, token).await;

    let (status, body) = get(&list, None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body["message"].to_string().contains("--audience=signalbox"), "{body}");
    for account in ["default", "signalbox-rules"] {
        let elsewhere = token(&shop, account, "elsewhere").await;
        assert_eq!(get(&list, Some(&elsewhere)).await.0, StatusCode::UNAUTHORIZED, "{account}: of another audience");
    }
    let other = token(&shop, "default", "signalbox").await;
    let of_other_namespace = token(&site.namespace("stranger").await, "signalbox-rules", "signalbox").await;
    let (_, all) = get(&list, Some(&own)).await;
    let id = all["items"][0]["id"].as_str().expect("an id").to_owned();
    let (replay, trace) = (format!("{list}/{id}/replay"), format!("/v1/namespaces/{}/firings/{id}", shop.name));
    for token in [&other, &of_other_namespace] {
        for path in [&list, &list.replace("deadletters", "history"), &trace] {
            assert_eq!(get(path, Some(token)).await.0, StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(ask(operator.address(), Method::POST, &replay, Some(token)).await.0, StatusCode::FORBIDDEN);
    }
    let none = list.replace("letters/", "nothing/");
    assert_eq!(get(&none, Some(&own)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&none, Some(&of_other_namespace)).await.0, StatusCode::FORBIDDEN, "whether it exists is not told");

    let subjects = |body: &Value| {
        let items = body["items"].as_array().expect("items").iter();
        items.map(|item| item["event"]["subject"].as_str().expect("a subject").to_owned()).collect::<Vec<_>>()
    };
    let of = |pods: &[&str]| pods.iter().map(|pod| format!("{}/Pod/{pod}", shop.name)).collect::<Vec<_>>();
    assert_eq!(subjects(&all), of(&["c", "b", "a"]), "newest first");
    let (_, first) = get(&format!("{list}?limit=2"), Some(&own)).await;
    assert_eq!(subjects(&first), of(&["c", "b"]));
    let rest = format!("{list}?limit=2&continue={}", first["continue"].as_str().expect("there is more"));
    let (_, rest) = get(&rest, Some(&own)).await;
    assert_eq!((subjects(&rest), &rest["continue"]), (of(&["a"]), &Value::Null));

    let (_, history) = get(&list.replace("deadletters", "history"), Some(&own)).await;
    assert_eq!(history["recent"].as_array().expect("recent").len(), 3);
    let (_, tree) = get(&trace, Some(&own)).await;
    assert_eq!((&tree["event"]["data"]["reason"], &tree["failedAt"]), (&json!("BackOff"), &json!("actions[tell]")));
    let grow = &tree["actions"][0];
    assert_eq!((&grow["outcome"], &grow["object"]["name"]), (&json!("Succeeded"), &json!("web")), "{tree:#}");
    // The rule acts as somebody else from now on, who could not see what it saw.
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    let to_other = json!({"spec": {"serviceAccountName": "default"}});
    rules.patch("letters", &PatchParams::default(), &Patch::Merge(&to_other)).await.expect("change the account");
    let let_in = async || get(&list, Some(&other)).await.1["items"].as_array().map(Vec::len);
    assert_eq!(support::eventually("the new account is let in", support::PATIENCE, let_in).await, 0);
    assert_eq!(get(&list, Some(&own)).await.0, StatusCode::FORBIDDEN, "the old one is not any more");
    assert_eq!(get(&trace, Some(&other)).await.0, StatusCode::FORBIDDEN);
    let (status, body) = ask(operator.address(), Method::POST, &replay, Some(&other)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body["message"].to_string().contains("set serviceAccountName back"), "{body}");

    for body in [&all, &history, &tree] {
        assert!(!body.to_string().contains("\"request\"") && !body.to_string().contains("\"result\""), "{body}");
    }
}

#[tokio::test]
async fn a_letter_that_is_run_again_does_what_was_left_once_also_across_a_kill() {
    let (site, sink) = (Site::start().await, Sink::start().await);
    let operator = site.setup.start_ready().await;
    let shop = failed(&site, &sink, "again", &["a"]).await;
    assert_eq!((shop.replicas("web").await, sink.requests().len()), (1, 1));
    let list = format!("/v1/namespaces/{}/rules/letters/deadletters", shop.name);
    let own = token(&shop, "signalbox-rules", "signalbox").await;
    let (_, all) = ask(operator.address(), Method::GET, &list, Some(&own)).await;
    let replay = format!("{list}/{}/replay", all["items"][0]["id"].as_str().expect("an id"));

    // The user has mended the rule; the sink hesitates, and the operator ends meanwhile.
    let mended = json!({"spec": {"actions": [rule()["actions"][0], {"name": "tell", "retry": {"limit": 100, "backoff": "100ms"},
        "notify": {"sinkRef": {"name": "oncall"}, "text": "mended ${actions.grow.to}"}}]}});
    let rules = shop.api("signalbox.dev/v1alpha1", "EventRule");
    rules.patch("letters", &PatchParams::default(), &Patch::Merge(&mended)).await.expect("mend the rule");
    shop.rule_ready("letters").await;
    sink.answer(Answer::status(503));
    let (status, body) = ask(operator.address(), Method::POST, &replay, Some(&own)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let firing = body["firing"].as_str().expect("a firing").to_owned();
    let (status, body) = ask(operator.address(), Method::POST, &replay, Some(&own)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "a second time there is nothing to be run: {body}");
    sink.await_requests(3).await;
    operator.kill();
    sink.answer(Answer::status(200));
    let operator = site.setup.start_ready().await;

    let status = shop.rule_status("letters", "it is done", |status| status["counts"]["succeeded"] == 1).await;
    let counts = &status["counts"];
    assert_eq!((&counts["fired"], &counts["failed"], &counts["deadLettered"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!((&status["recent"][0]["id"], &status["recent"][0]["outcome"]), (&json!(firing), &json!("Succeeded")));
    assert_eq!(shop.replicas("web").await, 1, "what had been done was not done again");
    let told = sink.requests();
    assert!(told[1..].iter().all(|request| request.json()["text"] == "mended 1"), "{told:?}");
    let keys: Vec<_> = told.iter().map(|request| request.header("idempotency-key")).collect();
    assert_ne!(keys[0], keys[1], "it is another firing");
    assert!(keys[1..].windows(2).all(|pair| pair[0] == pair[1]), "and one: {keys:?}");
    let events = shop.api("v1", "Event").list(&ListParams::default()).await.expect("list Events").items;
    assert!(events.iter().any(|event| event.data["reason"] == "Replayed"), "the rule's story tells of it");
    let path = format!("/v1/namespaces/{}/firings/{firing}", shop.name);
    let (_, tree) = ask(operator.address(), Method::GET, &path, Some(&own)).await;
    assert_eq!(tree["outcome"], "Succeeded", "{tree:#}");
}

/// Runs the plug-in as this user.
async fn plugin(kubeconfig: &Path, shop: &Shop, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-signalbox"));
    command.env("KUBECONFIG", kubeconfig).args(args).args(["-n", &shop.name]);
    command.output().await.expect("run the plug-in")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
