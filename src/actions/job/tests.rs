mod cron;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::*;
use crate::{
    actions::{
        FailureKind,
        testing::{action, common, context},
    },
    kubernetes::fake::{Fake, Seen, failure as status},
};

const JOBS: &str = "/apis/batch/v1/namespaces/shop/jobs";

/// The Jobs of the namespace.
#[derive(Default)]
struct World {
    jobs: BTreeMap<String, Value>,
    /// What the Jobs' status becomes when somebody looks.
    end: Option<Value>,
    pods: Vec<Value>,
}

fn serve(world: &Arc<Mutex<World>>) -> Fake {
    let world = world.clone();
    Fake::new(move |seen| common(seen).unwrap_or_else(|| world.lock().answer(seen)))
}

impl World {
    fn answer(&mut self, seen: &Seen) -> (u16, Value) {
        let missing = || status(404, "NotFound", "not found");
        if seen.path.starts_with("/api/v1/namespaces/shop/serviceaccounts/") {
            let labels = if seen.path.ends_with("/trusted") {
                json!({"signalbox.dev/usable-by-rules": "true"})
            } else {
                json!({})
            };
            return (200, json!({"metadata": {"name": "x", "labels": labels}}));
        }
        if seen.path == "/api/v1/namespaces/shop/pods" {
            return (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods}));
        }
        if seen.path.ends_with("/log") {
            return (200, json!("last words"));
        }
        let name = seen.path.strip_prefix(JOBS).unwrap_or_default().trim_start_matches('/').to_owned();
        match seen.method.as_str() {
            "POST" => {
                let mut job = seen.body.clone();
                let name = job["metadata"]["name"].as_str().expect("a name").to_owned();
                if self.jobs.contains_key(&name) {
                    return status(409, "AlreadyExists", "already exists");
                }
                job["metadata"]["uid"] = "job-uid".into();
                self.jobs.insert(name, job.clone());
                (201, job)
            }
            "GET" => match self.jobs.get_mut(&name) {
                Some(job) => {
                    if let Some(end) = &self.end {
                        job["status"] = end.clone();
                    }
                    (200, job.clone())
                }
                None => missing(),
            },
            "PATCH" => match self.jobs.get_mut(&name) {
                Some(job) => {
                    job["spec"]["ttlSecondsAfterFinished"] = seen.body["spec"]["ttlSecondsAfterFinished"].clone();
                    (200, job.clone())
                }
                None => missing(),
            },
            _ => missing(),
        }
    }
}

fn script(more: Value) -> Value {
    let mut job = json!({"script": {"image": "busybox", "run": "echo $HOME"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        job[key] = value.clone();
    }
    json!({"name": "act", "job": job})
}

fn template(pod: Value) -> Value {
    json!({"name": "act", "job": {"template": {"spec": {"ttlSecondsAfterFinished": 60, "template": {"spec": pod}}}}})
}

async fn render(fake: &Fake, spec: &Value) -> Result<Value, Failure> {
    action(spec.clone()).render(&context(fake), &spec["job"]).await
}

async fn execute(fake: &Fake, spec: &Value, request: &Value, attempt: Attempt) -> Result<Done, Failure> {
    action(spec.clone()).execute(&context(fake), request, attempt, Permit::for_test()).await
}

fn only(world: &Mutex<World>) -> Value {
    let world = world.lock();
    assert_eq!(world.jobs.len(), 1);
    world.jobs.values().next().expect("one").clone()
}

#[tokio::test]
async fn a_script_becomes_a_job_that_restricted_namespaces_admit() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({}));
    let request = render(&fake, &spec).await.expect("a request");
    assert!(!request.to_string().contains("Back-off"), "the event is not repeated in the log");
    let done = execute(&fake, &spec, &request, Attempt::First).await.expect("created");
    let job = only(&world);
    let name = job["metadata"]["name"].as_str().expect("a name");
    assert_eq!(done.message, format!("created Job shop/{name}"));
    assert_eq!(done.result, json!({"name": name}));
    assert_eq!(done.effect.expect("an effect").reason, "CreatedByRule");
    assert!(name.starts_with("web-crashloop-") && name.len() <= 63);
    let owner = &job["metadata"]["ownerReferences"][0];
    assert_eq!(
        owner,
        &json!({"apiVersion": "signalbox.dev/v1alpha1", "kind": "EventRule", "name": "web-crashloop", "uid": "rule-uid",
            "controller": false, "blockOwnerDeletion": false})
    );
    let annotations = &job["metadata"]["annotations"];
    assert_eq!(annotations["signalbox.dev/caused-by"], "shop/web-crashloop/0123456789abcdef0123/act");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!((&pod["serviceAccountName"], &pod["restartPolicy"]), (&json!("shop-ops"), &json!("Never")));
    assert_eq!(job["spec"]["backoffLimit"], 0);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(pod["containers"][0]["command"], json!(["/bin/sh", "-ec", "echo $$HOME"]));
}

#[tokio::test]
async fn the_event_comes_in_as_environment_and_file_and_expands_nothing() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({}));
    let request = render(&fake, &spec).await.expect("a request");
    execute(&fake, &spec, &request, Attempt::First).await.expect("created");
    let job = only(&world);
    let event = serde_json::to_string(&*context(&fake).event).expect("JSON");
    assert_eq!(job["spec"]["template"]["metadata"]["annotations"]["signalbox.dev/event"], event);
    let pod = &job["spec"]["template"]["spec"];
    let field = &pod["volumes"][0]["downwardAPI"]["items"][0];
    assert_eq!(field["fieldRef"]["fieldPath"], "metadata.annotations['signalbox.dev/event']");
    let env = &pod["containers"][0]["env"];
    assert_eq!(env[0]["value"].as_str().map(|value| value.replace("$$", "$")), Some(event));
    assert!(env[0]["value"].as_str().expect("text").contains("$$(PASSWORD)"));
    assert_eq!(env[1], json!({"name": "SIGNALBOX_EVENT_FILE", "value": "/run/signalbox/event.json"}));
    let parent = "00-1fb1ae81ce81bc8663fb91ae4d98abb7-4b2165114f29f121-01";
    assert_eq!(env[2], json!({"name": "TRACEPARENT", "value": parent}), "the span of the step");
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/run/signalbox");
}

#[tokio::test]
async fn a_large_event_is_in_the_file_only_and_a_larger_one_fails() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({}));
    let mut cx = context(&fake);
    let mut with = |size: usize| {
        let mut event = (*cx.event).clone();
        event.data = json!({"message": "x".repeat(size)});
        cx.event = Arc::new(event);
        manifest::with_event(&cx, json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}))
    };
    let job = with(150 * 1024).expect("it fits");
    let env = job.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array).expect("variables");
    assert_eq!(env.len(), 2);
    let failure = with(300 * 1024).expect_err("too large");
    assert_eq!(failure.kind, FailureKind::Final);
    assert!(failure.message.contains("262144 are allowed"), "{failure}");
    render(&fake, &spec).await.expect("others are fine");
}

#[tokio::test]
async fn a_template_keeps_what_the_user_wrote() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let mut spec = template(json!({"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i",
        "args": ["--msg=${event.data.message}", "$(HOME)", "${event.data.count}"], "env": [{"name": "A", "value": "b"}]}]}));
    spec["job"]["template"]["metadata"] = json!({"labels": {"team": "shop"}, "ownerReferences": [{"name": "x"}]});
    let mut filled = spec["job"].clone();
    filled["template"]["spec"]["template"]["spec"]["containers"][0]["args"] =
        json!(["--msg=a b $(PASSWORD)", "$(HOME)", 3]);
    let request = action(spec.clone()).render(&context(&fake), &filled).await.expect("a request");
    execute(&fake, &spec, &request, Attempt::First).await.expect("created");
    let job = only(&world);
    assert_eq!(job["metadata"]["labels"]["team"], "shop");
    assert_eq!(job["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1));
    assert_eq!(job["spec"]["ttlSecondsAfterFinished"], Value::Null, "not before the outcome is recorded");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "OnFailure");
    assert_eq!(pod["containers"][0]["args"], json!(["--msg=a b $$(PASSWORD)", "$(HOME)", "3"]));
    assert_eq!(pod["containers"][0]["env"][3], json!({"name": "A", "value": "b"}));
}

#[tokio::test]
async fn a_repetition_finds_the_job_that_is_there() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({}));
    let request = render(&fake, &spec).await.expect("a request");
    let first = execute(&fake, &spec, &request, Attempt::First).await.expect("created");
    let again = execute(&fake, &spec, &request, Attempt::Again).await.expect("found");
    assert_eq!(first.result, again.result);
    only(&world);
}

#[tokio::test]
async fn somebody_elses_job_of_our_name_is_left_alone_and_reported() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({}));
    let request = render(&fake, &spec).await.expect("a request");
    let name = manifest::name(&request["job"]).to_owned();
    let foreign = json!({"metadata": {"name": name, "annotations": {"signalbox.dev/caused-by": "shop/web-crashloop/0123456789abcdef0123/act"}}});
    world.lock().jobs.insert(name.clone(), foreign.clone());
    let done = execute(&fake, &spec, &request, Attempt::First).await.expect("created");
    assert_eq!(done.message, format!("created Job shop/{name}-2 (somebody else's Job has the name {name})"));
    assert_eq!(world.lock().jobs[&name], foreign);
    let again = execute(&fake, &spec, &request, Attempt::Again).await.expect("found");
    assert_eq!(again.result, json!({"name": format!("{name}-2")}));
    assert_eq!(world.lock().jobs.len(), 2);
}

#[tokio::test]
async fn the_ttl_is_set_when_the_outcome_is_recorded() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({"ttl": "2m"}));
    let request = render(&fake, &spec).await.expect("a request");
    let done = execute(&fake, &spec, &request, Attempt::First).await.expect("created");
    let act = action(spec.clone());
    assert!(act.settles(&request));
    act.settle(&context(&fake), &request, &done.result, Permit::for_test()).await.expect("settled");
    assert_eq!(only(&world)["spec"]["ttlSecondsAfterFinished"], 120);
    assert!(!act.settles(&render(&fake, &script(json!({}))).await.expect("a request")));
    let own = template(json!({"containers": []}));
    assert_eq!(render(&fake, &own).await.expect("a request")["ttlSeconds"], 60);
}

#[tokio::test]
async fn pods_run_as_another_account_only_if_it_opted_in() {
    let fake = serve(&Arc::default());
    for field in ["serviceAccountName", "serviceAccount"] {
        let stronger = template(json!({field: "admin", "containers": []}));
        let failure = render(&fake, &stronger).await.expect_err("not labelled");
        assert_eq!(failure.kind, FailureKind::Final);
        assert!(failure.message.contains("kubectl label serviceaccount admin"), "{failure}");
        let request = render(&fake, &template(json!({field: "trusted", "containers": []}))).await.expect("labelled");
        assert_eq!(
            request["job"]["spec"]["template"]["spec"],
            json!({"serviceAccountName": "trusted", "containers": [], "restartPolicy": "Never"})
        );
    }
}

fn ended(kind: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]})
}

fn pod(code: i32) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "script"}]}, "status": {"containerStatuses": [{"name": "script",
        "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]}})
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_job_and_gives_exit_code_and_log() {
    for (kind, code, outcome) in [("Complete", 0, ActionOutcome::Succeeded), ("Failed", 3, ActionOutcome::Failed)] {
        let world = Arc::<Mutex<World>>::default();
        world.lock().pods = vec![pod(code)];
        let fake = serve(&world);
        let spec = script(json!({"wait": "Completed"}));
        let request = render(&fake, &spec).await.expect("a request");
        let ends = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            world.lock().end = Some(ended(kind));
        };
        let (done, ()) = tokio::join!(execute(&fake, &spec, &request, Attempt::First), ends);
        let done = done.expect("ended");
        assert_eq!(
            (done.outcome, &done.result["exitCode"], &done.result["log"]),
            (outcome, &json!(code), &json!("\"last words\""))
        );
        assert_eq!(done.result["succeeded"], code == 0);
        assert_eq!(done.result.get("reason"), (code != 0).then_some(&json!("BackoffLimitExceeded")));
        if code != 0 {
            assert!(done.message.ends_with("failed: BackoffLimitExceeded: m, exit code 3"), "{}", done.message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_deadline_and_with_the_process() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({"wait": "Completed"}));
    let request = render(&fake, &spec).await.expect("a request");
    let before = tokio::time::Instant::now();
    let done = execute(&fake, &spec, &request, Attempt::First).await.expect("ended");
    assert_eq!(before.elapsed().as_secs(), 3600);
    assert_eq!(done.outcome, ActionOutcome::Failed);
    assert!(done.message.contains("did not finish in time"), "{}", done.message);
    assert!(done.message.ends_with("left out: exit code and log: it has no pod"), "{}", done.message);
    assert_eq!((&done.result["succeeded"], &done.result["reason"]), (&json!(false), &json!("TimedOut")));

    let cx = context(&fake);
    cx.stop.cancel();
    let failure = action(spec).execute(&cx, &request, Attempt::Again, Permit::for_test()).await.expect_err("stopped");
    assert_eq!(failure.kind, FailureKind::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_put_in_the_place_of_ours_is_not_waited_for() {
    let world = Arc::<Mutex<World>>::default();
    let fake = serve(&world);
    let spec = script(json!({"wait": "Completed"}));
    let request = render(&fake, &spec).await.expect("a request");
    let replaced = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let mut world = world.lock();
        world.end = Some(ended("Complete"));
        for job in world.jobs.values_mut() {
            job["metadata"]["uid"] = "another".into();
        }
    };
    let (done, ()) = tokio::join!(execute(&fake, &spec, &request, Attempt::First), replaced);
    let done = done.expect("ended");
    assert_eq!((done.outcome, &done.result["reason"]), (ActionOutcome::Failed, &json!("Deleted")));
}
