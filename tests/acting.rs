//! The runner and its actions on a real API server and a real log: what is done, with whose rights, and that nothing is done twice.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, ResourceQuota},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use signalbox::api::FiringOutcome;
use support::{PATIENCE, control_plane::shared, sink::Sink, stage::Stage};

mod support;

const RULES: &str = r#"[{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "patch"]},
    {"apiGroups": ["signalbox.dev"], "resources": ["eventsinks"], "verbs": ["get"]}]"#;

fn grow() -> Value {
    json!({"name": "grow", "scale": {"target": {"kind": "Deployment", "name": "web"}, "by": "2"}})
}

fn collect() -> Value {
    json!({"name": "collect", "job": {"script": {"image": "example.invalid/tools:1", "run": "cat $SIGNALBOX_EVENT_FILE"}, "ttl": "1h"}})
}

#[tokio::test]
async fn a_firing_scales_launches_a_job_and_notifies() {
    let mut stage = Stage::new("acting", RULES).await;
    let sink = Sink::start().await;
    let spec = serde_json::from_value(json!({"webhook": {"url": sink.url("/alerts")}})).expect("a sink");
    stage.sinks.set(&stage.namespace, "oncall", 1, &spec).expect("a sink");
    let tell = json!({"name": "tell", "notify": {"sinkRef": {"name": "oncall"},
        "text": "${event.data.message}, now ${string(actions.grow.to)} replicas; see Job ${actions.collect.name}"}});

    let open = stage.firing("f0", json!([grow(), collect(), tell]));
    let finished = stage.run(open).await;

    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert_eq!(stage.replicas().await, Some(4));
    let jobs = stage.jobs().await;
    let name = jobs[0].metadata.name.clone().expect("a name");
    assert_eq!(jobs[0].spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished), Some(3600));
    let alert = sink.await_requests(1).await.remove(0);
    assert_eq!(alert.json()["text"], format!("Back-off \"web\"\n, now 4 replicas; see Job {name}"));
    assert_eq!(alert.header("idempotency-key"), Some("f0-tell"));
}

#[tokio::test]
async fn what_a_crash_left_open_is_not_done_twice() {
    let mut stage = Stage::new("again", RULES).await;
    let open = stage.firing("f1", json!([grow(), collect()]));
    stage.run(open.clone()).await;
    assert_eq!((stage.replicas().await, stage.jobs().await.len()), (Some(4), 1));

    // Both requests were carried out and neither outcome was recorded.
    let finished = stage.again(open, &["grow", "collect"]).await;

    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert!(finished.message.starts_with("scaled Deployment"), "{}", finished.message);
    assert_eq!((stage.replicas().await, stage.jobs().await.len()), (Some(4), 1));
}

#[tokio::test]
async fn a_missing_right_ends_the_firing_and_the_lines_it_tells_grant_it() {
    let mut stage =
        Stage::new("rights", r#"[{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]}]"#)
            .await;
    let open = stage.firing("f2", json!([grow()]));
    let finished = stage.run(open).await;
    assert_eq!((finished.outcome, finished.failed_at.as_deref()), (FiringOutcome::Failed, Some("actions[grow]")));
    assert_eq!(stage.replicas().await, Some(2));

    let (_, lines) = finished.message.split_once("grant it with: ").expect("the lines that grant it");
    for line in lines.split("&&") {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = shared().await.kubectl(&words).await;
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // The API server's authorizer learns of a new Role by a watch of its own.
    let mut attempt = 0;
    loop {
        let open = stage.firing(&format!("f3-{attempt}"), json!([grow()]));
        let finished = stage.run(open).await;
        if finished.outcome == FiringOutcome::Succeeded {
            break;
        }
        attempt += 1;
        assert!(attempt < 50, "{}", finished.message);
    }
    assert_eq!(stage.replicas().await, Some(4));
}

#[tokio::test]
async fn a_firing_restarts_a_deployment_once_also_after_a_crash() {
    let rules = r#"[{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}]"#;
    let mut stage = Stage::new("rollout", rules).await;
    let restart = json!({"name": "restart", "rollout": {"target": {"kind": "Deployment", "name": "web"}}});
    let open = stage.firing("f4", json!([restart]));
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);

    let at = stage.intent("restart").request["to"].as_str().expect("a time").to_owned();
    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let web = deployments.get("web").await.expect("get the Deployment");
    let template = web.spec.template.metadata.expect("metadata");
    assert_eq!(template.annotations.expect("annotations")["kubectl.kubernetes.io/restartedAt"], at);

    let finished = stage.again(open, &["restart"]).await;
    assert!(finished.message.starts_with("restarted Deployment"), "{}", finished.message);
    let again = deployments.get("web").await.expect("get the Deployment");
    assert_eq!(again.metadata.generation, web.metadata.generation);
}

/// A workload of this kind that nobody runs.
fn workload(kind: &str, image: &str) -> Value {
    let pod =
        json!({"metadata": {"labels": {"app": "back"}}, "spec": {"containers": [{"name": "app", "image": image}]}});
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "back"},
        "spec": {"selector": {"matchLabels": {"app": "back"}}, "template": pod}})
}

#[tokio::test]
async fn a_workload_goes_back_by_one_revision_once_also_after_a_crash() {
    let rules = r#"[{"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["get", "patch"]},
        {"apiGroups": ["apps"], "resources": ["replicasets", "controllerrevisions"], "verbs": ["list"]}]"#;
    let mut stage = Stage::new("undo", rules).await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
        let mut generation = Some(0);
        for image in ["example.invalid/app:1", "example.invalid/app:2", "example.invalid/app:3"] {
            let apply = Patch::Apply(workload(kind, image));
            let applied = api.patch("back", &PatchParams::apply("tests"), &apply).await.expect("apply");
            generation = applied.metadata.generation;
            support::eventually(&format!("{kind} {image} is seen"), support::PATIENCE, async || {
                let now = api.get("back").await.ok()?;
                (now.data["status"]["observedGeneration"].as_i64() == generation).then_some(())
            })
            .await;
        }
        let undo = |revision: Value| {
            json!([{"name": "undo", "rollout": {"operation": "Undo", "revision": revision,
                "target": {"kind": kind, "name": "back"}}}])
        };
        let image = async || {
            let now = api.get("back").await.expect("get");
            (now.data["spec"]["template"]["spec"]["containers"][0]["image"].clone(), now.metadata.generation)
        };
        let open = stage.firing(&format!("u-{kind}"), undo(Value::Null));
        let finished = stage.run(open.clone()).await;
        assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
        assert!(finished.message.ends_with("/back to revision 2"), "{}", finished.message);
        let (written, once) = image().await;
        assert_eq!((written.as_str(), once), (Some("example.invalid/app:2"), generation.map(|number| number + 1)));

        let finished = stage.again(open, &["undo"]).await;
        assert!(finished.message.starts_with(&format!("rolled back {kind}")), "{}", finished.message);
        assert_eq!(image().await.1, once, "{kind} was written once");

        let open = stage.firing(&format!("v-{kind}"), undo(json!(1)));
        let finished = stage.run(open).await;
        assert_eq!(image().await.0, "example.invalid/app:1", "{}", finished.message);
    }
}

/// Runs a Job of one container to its end, and tells the results to the sink `told`.
fn run_job(spec: Value, timeout: &str) -> Value {
    let asked = ["succeeded", "reason", "exitCode", "startTime", "completionTime", "log"];
    let texts = asked.map(|name| format!("{name}=${{string(actions.run.?{name}.orValue('none'))}}"));
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/tools:1"}]});
    let mut template = json!({"spec": {"backoffLimit": 3, "template": {"spec": pod}}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        template["spec"][field] = value.clone();
    }
    json!([{"name": "run", "timeout": timeout, "onError": "Continue", "job": {"wait": "Completed", "template": template}},
        {"name": "tell", "notify": {"sinkRef": {"name": "told"}, "text": texts.join(" ")}}])
}

/// In place of a kubelet: the Job's pod has ended with this exit code.
async fn end_pod(client: &kube::Client, namespace: &str, phase: &str, code: i32) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let name = support::eventually("the Job has a pod", PATIENCE, async || {
        pods.list(&ListParams::default()).await.ok()?.items.pop()?.metadata.name
    })
    .await;
    let ended = json!({"terminated": {"exitCode": code, "reason": "Error", "startedAt": "2026-11-30T08:00:00Z", "finishedAt": "2026-11-30T08:00:01Z"}});
    let status =
        json!({"name": "main", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": ended});
    let patch = json!({"status": {"phase": phase, "containerStatuses": [status]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("write the pod's status");
}

const JOB_RULES: &str = r#"[{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]},
    {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list"]},
    {"apiGroups": ["signalbox.dev"], "resources": ["eventsinks"], "verbs": ["get"]}]"#;

async fn told(stage: &Stage) -> Sink {
    let sink = Sink::start().await;
    let spec = serde_json::from_value(json!({"webhook": {"url": sink.url("/told")}})).expect("a sink");
    stage.sinks.set(&stage.namespace, "told", 1, &spec).expect("a sink");
    sink
}

#[tokio::test]
async fn what_a_job_that_was_waited_for_came_to_is_known_to_later_actions() {
    let policy = json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}});
    for (id, phase, code, expected) in [
        ("j0", "Succeeded", 0, "succeeded=true reason=none exitCode=0 startTime=20"),
        ("j1", "Failed", 42, "succeeded=false reason=PodFailurePolicy exitCode=42 startTime=20"),
    ] {
        let mut stage = Stage::new("results", JOB_RULES).await;
        // Controllers have a part in it, and the runner looks every ten seconds.
        stage.patience = PATIENCE * 3;
        let sink = told(&stage).await;
        let open = stage.firing(id, run_job(policy.clone(), "1m"));
        // The firing is on its way when the pod ends.
        let (client, namespace) = (stage.client.clone(), stage.namespace.clone());
        let (finished, ()) = tokio::join!(stage.run(open), end_pod(&client, &namespace, phase, code));

        let alert = sink.await_requests(1).await.remove(0).json();
        let text = alert["text"].as_str().expect("a text");
        assert!(text.starts_with(expected) && text.contains("completionTime=20"), "{text}");
        assert!(text.ends_with("log=none"), "the account may not read it: {text}");
        for part in ["its log: ServiceAccount", "/ops may not get pods/log in namespace", "--resource=pods/log"] {
            assert!(finished.message.contains(part), "{part}: {}", finished.message);
        }
        assert_eq!(
            finished.message.contains("failed: PodFailurePolicy: ") && finished.message.contains(", exit code 42"),
            code == 42,
            "{}",
            finished.message
        );
    }
}

#[tokio::test]
async fn a_quota_that_lets_no_pod_or_no_job_be_made_is_told() {
    let mut stage = Stage::new("quota", JOB_RULES).await;
    let _sink = told(&stage).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let put = async |resource: &str| {
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": resource.split('/').next()}, "spec": {"hard": {resource: "0"}}});
        let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
        let name = quota.metadata.name.clone().expect("a name");
        quotas.create(&PostParams::default(), &quota).await.expect("a quota");
        support::eventually("the quota is in force", PATIENCE, async || quotas.get(&name).await.ok()?.status?.hard)
            .await;
    };
    put("pods").await;
    // Time for a controller on a busy machine to try, and to tell that it may not.
    let finished = stage.run(stage.firing("q0", run_job(json!({}), "10s"))).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    for part in ["did not finish in time", "it has no pod: ", "exceeded quota: pods"] {
        assert!(finished.message.contains(part), "{part}: {}", finished.message);
    }
    put("count/jobs.batch").await;
    let finished = stage.run(stage.firing("q1", run_job(json!({}), "3s"))).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    for part in ["create Job", "exceeded quota: count"] {
        assert!(finished.message.contains(part), "{part}: {}", finished.message);
    }
    assert_eq!(stage.jobs().await.len(), 1);
}

const CRON_RULES: &str = r#"[{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "patch"]},
    {"apiGroups": ["batch"], "resources": ["cronjobs"], "resourceNames": ["smoke-test"], "verbs": ["get"]}]"#;

/// A suspended CronJob whose pods have this image and run as this account.
async fn cron_job(stage: &Stage, image: &str, account: Value) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("batch", "v1", "CronJob"));
    let jobs: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind);
    let pod = json!({"restartPolicy": "Never", "serviceAccountName": account, "containers": [{"name": "test", "image": image}]});
    let template =
        json!({"metadata": {"annotations": {"team": "shop"}}, "spec": {"backoffLimit": 1, "template": {"spec": pod}}});
    let object = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "smoke-test"},
        "spec": {"schedule": "0 3 * * *", "suspend": true, "jobTemplate": template}});
    jobs.patch("smoke-test", &PatchParams::apply("tests"), &Patch::Apply(object)).await.expect("apply");
}

fn from(name: &str) -> Value {
    json!([{"name": "test", "job": {"from": {"cronJob": name}}}])
}

#[tokio::test]
async fn a_suspended_cron_job_is_run_once_as_it_was_then() {
    let mut stage = Stage::new("cron", CRON_RULES).await;
    cron_job(&stage, "example.invalid/test:1", Value::Null).await;
    let open = stage.firing("c0", from("${'smoke-' + 'test'}"));
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    cron_job(&stage, "example.invalid/test:2", Value::Null).await;
    let finished = stage.again(open, &["test"]).await;
    assert!(finished.message.starts_with("created Job "), "{}", finished.message);

    let jobs = stage.jobs().await;
    assert_eq!(jobs.len(), 1);
    let annotations = jobs[0].metadata.annotations.as_ref().expect("annotations");
    assert_eq!((&*annotations["cronjob.kubernetes.io/instantiate"], &*annotations["team"]), ("manual", "shop"));
    let owners = jobs[0].metadata.owner_references.as_ref().expect("owners");
    assert_eq!((owners.len(), &*owners[0].kind), (1, "EventRule"));
    let pod = jobs[0].spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a pod");
    assert_eq!(pod.service_account_name.as_deref(), Some("ops"));
    assert_eq!(pod.containers[0].image.as_deref(), Some("example.invalid/test:1"));
    assert!(pod.containers[0].env.iter().flatten().any(|one| one.name == "SIGNALBOX_EVENT"));
}

#[tokio::test]
async fn a_cron_job_that_cannot_be_run_is_told_with_what_to_do() {
    let mut stage = Stage::new("nocron", CRON_RULES).await;
    cron_job(&stage, "example.invalid/test:1", json!("default")).await;
    let missing = format!("make a Job of CronJob {}/smoke-test: cronjobs.batch", stage.namespace);
    for (name, words) in [
        ("nightly", vec!["may not get cronjobs.batch in namespace", "kubectl create role"]),
        ("smoke-test", vec!["run pods as another account", "ServiceAccount", "default is not labelled"]),
        ("gone", vec![&missing, "not found"]),
    ] {
        if name == "gone" {
            let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("batch", "v1", "CronJob"));
            let jobs: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind);
            jobs.delete("smoke-test", &DeleteParams::default()).await.expect("delete");
        }
        let open = stage.firing(&format!("c1-{name}"), from(if name == "gone" { "smoke-test" } else { name }));
        let finished = stage.run(open).await;
        assert_eq!(finished.outcome, FiringOutcome::Failed);
        for part in words {
            assert!(finished.message.contains(part), "{part}: {}", finished.message);
        }
    }
    assert!(stage.jobs().await.is_empty());
}

#[tokio::test]
async fn the_sample_of_a_cron_job_runs_it() {
    let mut stage = Stage::new("cronsample", CRON_RULES).await;
    cron_job(&stage, "example.invalid/test:1", Value::Null).await;
    let sample = std::fs::read_to_string("deploy/samples/job-from-cronjob.yaml").expect("the sample");
    let rule: Value = serde_saphyr::from_str(&sample).expect("one rule");
    stage.compile(&rule["spec"]);
    let mut actions = rule["spec"]["actions"].clone();
    // Nobody runs pods here.
    actions[0]["job"]["wait"] = "Created".into();
    let open = stage.firing("c2", actions);
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert_eq!(stage.jobs().await[0].spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished), Some(7200));
}
