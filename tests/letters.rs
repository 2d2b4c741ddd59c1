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

#[tokio::test]
async fn the_plug_in_shows_what_failed_and_runs_it_again() {
    let (site, sink) = (Site::start().await, Sink::start().await);
    let operator = site.setup.start_ready().await;
    let shop = failed(&site, &sink, "plugin", &["a", "b"]).await;
    let address = format!("http://{}", operator.address());
    let run =
        async |args: &[&str]| plugin(site.plane.kubeconfig(), &shop, &[args, &["--address", &address]].concat()).await;

    let table = printed(&run(&["deadletters"]).await);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["RULE", "FIRING", "AGE", "GROUP", "FAILED", "AT", "MESSAGE"]);
    assert_eq!((lines.len(), lines[1][0], lines[1][4]), (3, "letters", "actions[tell]"), "{table}");
    let firing = lines[1][1].to_owned();
    let tree = printed(&run(&["trace", &firing]).await);
    for part in ["event dev.signalbox.kubernetes.event", "├─ grow Succeeded", "Deployment", "└─ tell Failed"] {
        assert!(tree.contains(part), "{part} is not in {tree}");
    }
    let all: Value =
        serde_json::from_str(&printed(&run(&["deadletters", "letters", "-o", "json"]).await)).expect("JSON");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2));

    sink.answer(Answer::status(200));
    let again = printed(&run(&["replay", "letters", &firing]).await);
    assert!(again.contains(&firing), "{again}");
    let output = run(&["replay", "letters", &firing]).await;
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no dead letter"),
        "{output:?}"
    );
    printed(&run(&["replay", "letters", "--all"]).await);
    shop.rule_status("letters", "all are done", |status| status["counts"]["succeeded"] == 2).await;
    assert!(printed(&run(&["deadletters"]).await).starts_with("No dead letters"));
    let history = printed(&run(&["history", "letters"]).await);
    assert_eq!(history.matches("Succeeded").count(), 2, "{history}");

    // The usual way, through the API server: it reaches endpoints on loopback addresses only by a relay.
    let relay = Relay::start(operator.address()).await;
    site.plane.apply(&relay.service()).await;
    let patch = ["patch", "pod", "signalbox-0", "-n", "signalbox-system", "--subresource=status", "--type=merge", "-p"];
    let patched = site.plane.kubectl(&[&patch[..], &[&relay.status()]].concat()).await;
    assert!(patched.status.success(), "{patched:?}");
    let last = std::sync::Mutex::new(String::new());
    let by_proxy = async || {
        let output = plugin(site.plane.kubeconfig(), &shop, &["history", "letters"]).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        *last.lock().expect("not poisoned") = format!("{output:?}");
        output.status.success().then_some(said)
    };
    let reached = tokio::time::timeout(
        support::PATIENCE,
        support::eventually("through the API server", support::PATIENCE * 2, by_proxy),
    )
    .await;
    let reached = reached.unwrap_or_else(|_| panic!("{}", last.lock().expect("not poisoned")));
    assert_eq!(reached.matches("Succeeded").count(), 2, "{reached}");

    // Somebody who may read rules, and may not make tokens.
    let reader = site.plane.service_account_token(&shop.name, "default").await;
    let grant =
        ["create", "role", "reader", "--verb=get,list", "--resource=eventrules.signalbox.dev", "-n", &shop.name];
    assert!(site.plane.kubectl(&grant).await.status.success());
    let account = format!("--serviceaccount={}:default", shop.name);
    let bind = ["create", "rolebinding", "reader", "--role=reader", &account, "-n", &shop.name];
    assert!(site.plane.kubectl(&bind).await.status.success());
    let kubeconfig = site.plane.kubeconfig_for_token(&reader);
    for missing in
        ["serviceaccounts/token --resource-name=signalbox-rules", "services/proxy --resource-name=signalbox:http"]
    {
        let told = async || {
            let output = plugin(&kubeconfig, &shop, &["history", "letters"]).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            said.contains(missing).then_some(said)
        };
        let said = support::eventually("it is told what is missing", support::PATIENCE, told).await;
        for line in said.lines().filter_map(|line| line.trim().strip_prefix("kubectl create ")) {
            let line = line.replace("--user=YOU", &account);
            let granted = site.plane.kubectl(&[&["create"][..], &line.split(' ').collect::<Vec<_>>()].concat()).await;
            assert!(granted.status.success(), "{line}: {granted:?}");
        }
    }
    let reached = async || plugin(&kubeconfig, &shop, &["history", "letters"]).await.status.success().then_some(());
    support::eventually("what was told is what was missing", support::PATIENCE, reached).await;
}

#[tokio::test]
async fn the_plug_in_tests_a_sink_for_who_may_read_its_secrets_and_tells_what_it_answered() {
    let (site, sink) = (Site::start().await, Sink::start().await);
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("tested").await;
    let secret = json!({"stringData": {"token": "open-sesame"}});
    shop.create("v1", "Secret", "door", secret).await;
    let headers = json!([{"name": "X-Token", "valueSecretRef": {"name": "door", "key": "token"}}]);
    let webhook = json!({"url": sink.url("/"), "headers": headers});
    shop.create("signalbox.dev/v1alpha1", "EventSink", "oncall", json!({"spec": {"webhook": webhook}})).await;
    let address = format!("http://{}", operator.address());
    let run =
        async |args: &[&str]| plugin(site.plane.kubeconfig(), &shop, &[args, &["--address", &address]].concat()).await;
    let refused = async |args: &[&str], parts: &[&str]| {
        let probe = async || {
            let output = run(args).await;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{output:?}");
            parts.iter().all(|part| said.contains(part)).then_some(said)
        };
        support::eventually(&format!("{args:?} is refused with {parts:?}"), support::PATIENCE, probe).await
    };

    // Neither the sink's own account nor another one may read the Secret so far: nothing leaves.
    refused(&["test-sink", "oncall"], &["signalbox-rules may not get secrets door", "--resource-name=door"]).await;
    let own = ["create", "role", "door", "--verb=get", "--resource=secrets", "--resource-name=door", "-n", &shop.name];
    assert!(site.plane.kubectl(&own).await.status.success());
    let account = format!("--serviceaccount={}:signalbox-rules", shop.name);
    let bind = ["create", "rolebinding", "door", "--role=door", &account, "-n", &shop.name];
    assert!(site.plane.kubectl(&bind).await.status.success());
    refused(&["test-sink", "oncall", "--account", "default"], &["default may not get eventsinks.signalbox.dev oncall"])
        .await;
    assert!(sink.requests().is_empty());

    let taken = async || {
        let output = run(&["test-sink", "oncall"]).await;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let taken = support::eventually("the test is taken", support::PATIENCE, taken).await;
    assert_eq!(taken, format!("EventSink {}/oncall of kind webhook took it and answered 200.\n", shop.name));
    let arrived = sink.await_requests(1).await.remove(0);
    assert_eq!(arrived.header("x-token"), Some("open-sesame"));
    assert!(arrived.json()["text"].to_string().contains("This is a test of EventSink"), "{}", arrived.text());
    printed(&run(&["send", "oncall", "--title", "by hand", "--text", "hello", "--severity", "Critical"]).await);
    let arrived = sink.await_requests(2).await.remove(1).json();
    assert_eq!(
        (&arrived["title"], &arrived["text"], &arrived["severity"]),
        (&json!("by hand"), &json!("hello"), &json!("Critical"))
    );

    sink.answer(Answer::status(401));
    let said = refused(
        &["test-sink", "oncall"],
        &["answered 401", "kubectl edit secret door", "kubectl edit eventsink oncall"],
    )
    .await;
    assert!(!said.contains("open-sesame"), "{said}");
    refused(&["send", "gone", "--text", "x", "--account", "signalbox-rules"], &["there is no EventSink gone"]).await;
    let of_other_namespace = token(&site.namespace("stranger").await, "signalbox-rules", "signalbox").await;
    let path = format!("/v1/namespaces/{}/sinks/oncall/deliveries", shop.name);
    assert_eq!(ask(operator.address(), Method::POST, &path, Some(&of_other_namespace)).await.0, StatusCode::FORBIDDEN);
}

/// Passes connections from an address that the API server may send to on to the operator.
struct Relay {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn start(operator: &str) -> Self {
        // Nothing is sent: it only tells the address of this machine.
        let way = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        way.connect("192.0.2.1:9").expect("a way out");
        let own = way.local_addr().expect("an address").ip();
        let listener = tokio::net::TcpListener::bind((own, 0)).await.expect("listen");
        let address = listener.local_addr().expect("know the port");
        let operator = operator.to_owned();
        let task = tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let operator = operator.clone();
                passing.spawn(async move {
                    let mut to = tokio::net::TcpStream::connect(&operator).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
        Self { address, task }
    }

    /// The chart's Service, and what a cluster would make of it if the operator were a pod.
    fn service(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        let manifests = std::fs::read_to_string("deploy/manifests/signalbox.yaml").expect("the rendered chart");
        let service = manifests.split("\n---").find(|one| one.lines().any(|line| line == "kind: Service"));
        let meta = "{name: signalbox, namespace: signalbox-system}";
        format!(
            "{}\n---\n{{apiVersion: v1, kind: Endpoints, metadata: {meta}, subsets: [{{addresses: [{{ip: {ip}, \
             targetRef: {{kind: Pod, namespace: signalbox-system, name: signalbox-0}}}}], ports: [{{name: http, port: {port}}}]}}]}}\n---\n\
             {{apiVersion: v1, kind: Pod, metadata: {{name: signalbox-0, namespace: signalbox-system}}, \
             spec: {{containers: [{{name: signalbox, image: example.invalid/signalbox:1}}]}}}}",
            without_selector(service.expect("a Service"))
        )
    }

    /// The API server sends only to addresses that are those of a pod.
    fn status(&self) -> String {
        let ip = self.address.ip();
        format!(r#"{{"status": {{"phase": "Running", "podIP": "{ip}", "podIPs": [{{"ip": "{ip}"}}]}}}}"#)
    }
}

/// The Service without what chooses its pods: by that, the cluster's controller would take the endpoints away that are made here.
fn without_selector(service: &str) -> String {
    let indented = |line: &&str| line.starts_with("    ");
    let (before, after) = service.split_once("\n  selector:\n").expect("a selector");
    let rest: Vec<&str> = after.lines().skip_while(indented).collect();
    format!("{before}\n{}", rest.join("\n"))
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
