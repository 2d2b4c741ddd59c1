use super::*;
use crate::kubernetes::Cluster;

/// The Jobs of the namespace, and a CronJob `nightly` whose image is what the cell holds.
fn serve_cron(world: &Arc<Mutex<World>>, image: &Arc<Mutex<&'static str>>) -> Fake {
    let (world, image) = (world.clone(), image.clone());
    Fake::new(move |seen| match seen.path.strip_prefix("/apis/batch/v1/namespaces/shop/cronjobs/") {
        Some("nightly") => {
            let container = json!({"name": "c", "image": *image.lock(), "args": ["$(HOME)"]});
            let template = json!({"metadata": {"labels": {"l": "1"}, "annotations": {"a": "1"}, "creationTimestamp": null},
                "spec": {"ttlSecondsAfterFinished": 60, "template": {"spec": {"containers": [container], "restartPolicy": "OnFailure"}}}});
            (
                200,
                json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop"},
                "spec": {"suspend": true, "schedule": "0 3 * * *", "jobTemplate": template}}),
            )
        }
        Some("hidden") => status(403, "Forbidden", "cronjobs.batch \"hidden\" is forbidden: User \"x\" cannot get"),
        Some(name) => status(404, "NotFound", &format!("cronjobs.batch \"{name}\" not found")),
        None => common(seen).unwrap_or_else(|| world.lock().answer(seen)),
    })
}

fn from(name: &str) -> Value {
    json!({"name": "act", "job": {"from": {"cronJob": name}}})
}

#[tokio::test]
async fn a_cron_job_is_run_as_it_was_when_the_request_was_rendered() {
    let (world, image) = (Arc::<Mutex<World>>::default(), Arc::new(Mutex::new("backup:1")));
    let fake = serve_cron(&world, &image);
    let spec = from("nightly");
    let request = render(&fake, &spec).await.expect("a request");
    *image.lock() = "backup:2";
    for attempt in [Attempt::First, Attempt::Again] {
        let done = execute(&fake, &spec, &request, attempt).await.expect("created");
        assert_eq!(done.outcome, ActionOutcome::Succeeded, "{}", done.message);
    }
    let job = only(&world);
    let annotations = &job["metadata"]["annotations"];
    assert_eq!((&annotations["cronjob.kubernetes.io/instantiate"], &annotations["a"]), (&json!("manual"), &json!("1")));
    assert_eq!(
        (&job["metadata"]["labels"]["l"], &job["metadata"]["ownerReferences"][0]["uid"]),
        (&json!("1"), &json!("rule-uid"))
    );
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!((&pod["restartPolicy"], &pod["serviceAccountName"]), (&json!("OnFailure"), &json!("shop-ops")));
    let container = &pod["containers"][0];
    assert_eq!((&container["image"], &container["args"]), (&json!("backup:1"), &json!(["$(HOME)"])));
    assert!(container["env"].as_array().expect("variables").iter().any(|one| one["name"] == "SIGNALBOX_EVENT"));
    assert_eq!(request["ttlSeconds"], 60);
}

#[tokio::test]
async fn a_cron_job_that_is_missing_or_hidden_is_told() {
    let fake = serve_cron(&Arc::default(), &Arc::new(Mutex::new("i")));
    for (name, message) in [
        ("gone", "make a Job of CronJob shop/gone: cronjobs.batch \"gone\" not found"),
        (
            "hidden",
            "make a Job of CronJob shop/hidden: ServiceAccount shop/shop-ops may not get cronjobs.batch in namespace shop",
        ),
        ("../x", "no target: \"../x\" is not the name of a CronJob"),
    ] {
        let failure = render(&fake, &from(name)).await.expect_err(message);
        assert_eq!(failure.kind, FailureKind::Final);
        assert!(failure.message.starts_with(message), "{failure}");
    }
}

#[tokio::test]
async fn the_right_to_read_the_cron_job_is_told_before_it_is_needed() {
    let cluster = Cluster::with_client(Fake::new(|_| (500, Value::Null)).client());
    let told = async |spec: Value| {
        let rights = action(spec).rights(&cluster, "shop").await;
        rights.into_iter().map(|right| (right.verb, right.resource, right.name)).collect::<Vec<_>>()
    };
    let read = ("get".to_owned(), "cronjobs".to_owned(), Some("nightly".to_owned()));
    assert!(told(from("nightly")).await.contains(&read));
    assert!(told(from("${event.subject}")).await.iter().all(|(_, resource, _)| resource == "jobs"));
}
