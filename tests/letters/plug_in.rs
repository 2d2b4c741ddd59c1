//! The plug-in: letters, and sinks that are tried.

use super::*;

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
    assert!(!String::from_utf8_lossy(&output.stderr).contains("run again before"), "there were none: {output:?}");
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
    assert!(!operator.log().contains('\u{1b}'), "colours are for terminals: {}", operator.log());
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

    let said = refused(&["test-sink", "gone"], &["error: get EventSink"]).await;
    assert!(said.contains("eventsinks.signalbox.dev \"gone\" not found") && !said.contains("Status {"), "{said}");

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
