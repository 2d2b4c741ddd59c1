//! `create`, `apply` and `delete`: what is written, once, and with whose rights.

use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};
use signalbox::{
    api::FiringOutcome,
    record::{FiringId, OpenFiring},
};

use super::{
    Stage,
    common::{api, meddle, observed, resource, theirs},
    support::{PATIENCE, control_plane::shared, eventually},
};

const RULES: &str = r#"[{"apiGroups": [""], "resources": ["configmaps", "secrets", "pods"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get", "create"]}]"#;

fn settings(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn create(manifest: Value) -> Value {
    json!([{"name": "make", "create": {"manifest": manifest}}])
}

fn apply(manifest: Value) -> Value {
    json!([{"name": "make", "apply": {"manifest": manifest}}])
}

fn delete(kind: &str, name: &str) -> Value {
    json!([{"name": "drop", "delete": {"target": {"kind": kind, "name": name}}}])
}

fn next(open: &OpenFiring, id: &str) -> OpenFiring {
    let mut next = open.clone();
    next.firing.id = FiringId(id.into());
    next
}

#[tokio::test]
async fn an_object_is_created_once_also_after_a_crash_and_says_what_caused_it() {
    let mut stage = Stage::new("create", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    let mut manifest = settings("made", json!({"event": "${event.id}", "size": "${string(size(event.id))}"}));
    manifest["metadata"]["labels"] = json!({"size": "${size(event.id)}"});
    // An empty key of YAML.
    manifest["metadata"]["annotations"] = Value::Null;
    let open = stage.firing("o0", create(manifest));
    let finished = stage.run(open.clone()).await;
    let title = format!("ConfigMap {}/made", stage.namespace);
    assert_eq!(finished.message, format!("created {title}"));
    let made = maps.get("made").await.expect("get");
    assert_eq!(made.data["data"], json!({"event": "uid-1/3", "size": "7"}));
    assert_eq!(made.metadata.labels.as_ref().expect("labels")["size"], "7", "a label is a text");
    let cause = &made.metadata.annotations.as_ref().expect("annotations")["signalbox.dev/caused-by"];
    assert_eq!(*cause, format!("{}/web-crashloop/o0/make", stage.namespace));

    let finished = stage.again(open.clone(), &["make"]).await;
    assert_eq!(finished.message, format!("created {title}"), "it is found");
    let again = maps.get("made").await.expect("get").metadata;
    assert_eq!((again.uid, again.resource_version), (made.metadata.uid, made.metadata.resource_version));

    let finished = stage.run(next(&open, "o1")).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed, "the next firing finds one that is not its own");
    assert!(finished.message.contains("there is one already, of somebody else"), "{}", finished.message);
}

#[tokio::test]
async fn a_generated_name_is_that_of_the_firing_and_leaves_those_of_others_alone() {
    let mut stage = Stage::new("generate", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    let mut manifest = settings("x", json!({"a": "b"}));
    manifest["metadata"] = json!({"generateName": "run-${size(event.id)}-"});
    let open = stage.firing("o2", create(manifest));
    // The name that it would get is taken by somebody else.
    observed(&mut stage, &open).await;
    let name =
        stage.intent("make").request["create"]["object"]["metadata"]["name"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("run-7-") && name.len() == 22, "{name}");
    theirs(&maps, &name, settings(&name, json!({"theirs": "1"}))).await;
    for _ in 0..2 {
        let finished = stage.again(open.clone(), &["make"]).await;
        let message = format!("created ConfigMap {}/{name}-2 (somebody else's has the name {name})", stage.namespace);
        assert_eq!(finished.message, message);
    }
    let all = maps.list(&ListParams::default()).await.expect("list").items;
    assert_eq!(
        all.iter().filter(|one| one.metadata.name.as_ref().is_some_and(|one| one.starts_with("run-"))).count(),
        2
    );
    assert_eq!(maps.get(&name).await.expect("get").data["data"], json!({"theirs": "1"}));
}

/// Texts that would be structure, an expression or a variable, were they not only filled in.
const HOSTILE: &str = "\"}\n  privileged: true\n- ${event.id} {{ .x }} $(PASSWORD) <b>\u{0}\\";

#[tokio::test]
async fn a_text_of_an_event_stays_a_text_whatever_stands_in_it() {
    let mut stage = Stage::new("hostile", RULES).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"example.com/why": "${event.data.message}"}},
        "spec": {"serviceAccountName": "ops", "containers": [{"name": "c", "image": "example.invalid/c:1",
            "env": [{"name": "PASSWORD", "value": "hunter2"}, {"name": "WHY", "value": "because ${event.data.message}"},
                {"name": "OURS", "value": "$(PASSWORD)"}],
            "command": ["echo", "${event.data.message}"], "args": "${event.data.list}"}]}});
    let mut open = stage.firing("o3", create(pod));
    let event = std::sync::Arc::make_mut(&mut open.event);
    let message = HOSTILE.replace('\u{0}', "");
    event.data = json!({"message": message, "list": ["$(PASSWORD)"]});
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    let made = api(&stage, "", "Pod").get("p").await.expect("get");
    assert_eq!(made.metadata.annotations.expect("annotations")["example.com/why"], message);
    let container = &made.data["spec"]["containers"][0];
    // Kubernetes gives `$(PASSWORD)` for `$$(PASSWORD)`, and does not replace it.
    let kept = message.replace('$', "$$");
    assert_eq!(container["command"], json!(["echo", kept]));
    assert_eq!(container["args"], json!(["$$(PASSWORD)"]));
    let of = |name: &str| container["env"].as_array().expect("env").iter().find(|one| one["name"] == name).cloned();
    assert_eq!(of("WHY").expect("WHY")["value"], json!(format!("because {kept}")));
    assert_eq!(of("OURS").expect("OURS")["value"], "$(PASSWORD)", "what stands in the rule is the rule's");
}

#[tokio::test]
async fn what_the_api_server_does_not_take_ends_the_firing_in_words() {
    let mut stage = Stage::new("refused", RULES).await;
    let namespace = stage.namespace.clone();
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"count/pods": "0"}}});
    theirs(&api(&stage, "", "ResourceQuota"), "none", quota).await;
    let pod = |account: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"serviceAccountName": account, "containers": [{"name": "c", "image": "example.invalid/c:1"}]}})
    };
    let mut misspelt = settings("m", json!({"a": "b"}));
    misspelt["dta"] = json!({});
    let mut elsewhere = settings("m", json!({"a": "b"}));
    elsewhere["metadata"]["namespace"] = json!("default");
    let mut long = settings("m", json!({}));
    long["metadata"]["name"] = json!("${event.data.message}");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": format!("{namespace}-mighty")},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let cases = [
        (misspelt, vec!["unknown field \"dta\""]),
        (settings("m", json!({"not a key": "b"})), vec!["a valid config key must consist of"]),
        (elsewhere, vec!["may not create configmaps in namespace default", "kubectl create role "]),
        (role, vec!["may not create clusterroles.rbac.authorization.k8s.io", "kubectl create clusterrole "]),
        (pod("default"), vec!["exceeded quota: none"]),
        (pod("stronger"), vec!["run pods as another account than the rule's"]),
        (long, vec!["is not the name of an object"]),
        (
            json!({"apiVersion": "example.com/v1", "kind": "Nothing", "metadata": {"name": "n"}}),
            vec!["has no kind Nothing"],
        ),
    ];
    theirs(
        &api(&stage, "", "ServiceAccount"),
        "default",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    )
    .await;
    theirs(
        &api(&stage, "", "ServiceAccount"),
        "stronger",
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stronger"}}),
    )
    .await;
    // The quota has no figures before somebody counts, and is not held before.
    let figures = json!({"status": {"hard": {"count/pods": "0"}, "used": {"count/pods": "0"}}});
    let quotas = api(&stage, "", "ResourceQuota");
    quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(figures)).await.expect("patch the status");
    for (index, (manifest, words)) in cases.into_iter().enumerate() {
        let open = stage.firing(&format!("o4-{index}"), create(manifest));
        let finished = stage.run(open).await;
        assert_eq!(finished.outcome, FiringOutcome::Failed, "{index}: {}", finished.message);
        for part in words {
            assert!(finished.message.contains(part), "{part}: {}", finished.message);
        }
    }
}

#[tokio::test]
async fn nothing_of_a_secret_that_is_refused_is_told() {
    let mut stage = Stage::new("secrets", RULES).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"hunter2 is no key": "hunter2"}});
    for (index, actions) in [create(secret.clone()), apply(secret)].into_iter().enumerate() {
        let open = stage.firing(&format!("o5-{index}"), actions);
        let finished = stage.run(open).await;
        assert_eq!(finished.outcome, FiringOutcome::Failed);
        assert!(
            !finished.message.contains("hunter2") && finished.message.contains("not shown for a Secret"),
            "{}",
            finished.message
        );
    }
}

#[tokio::test]
async fn what_is_applied_is_created_and_changed_and_loses_what_is_not_applied_any_more() {
    let mut stage = Stage::new("apply", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    let title = format!("ConfigMap {}/plan", stage.namespace);
    let open = stage.firing("o6", apply(settings("plan", json!({"a": "${event.id}", "b": "2"}))));
    let finished = stage.run(open.clone()).await;
    assert_eq!(finished.message, format!("created {title}"));
    let made = maps.get("plan").await.expect("get");
    assert!(made.metadata.annotations.as_ref().expect("annotations").contains_key("signalbox.dev/caused-by"));
    let manager = |object: &DynamicObject| {
        let entries = object.metadata.managed_fields.clone().expect("managed fields");
        entries.into_iter().map(|entry| entry.manager.expect("a manager")).collect::<Vec<_>>()
    };
    assert_eq!(manager(&made), ["signalbox/0b9d2d3c-rule"]);
    let finished = stage.again(open.clone(), &["make"]).await;
    assert_eq!(finished.message, format!("created {title}"));
    assert_eq!(maps.get("plan").await.expect("get").metadata.resource_version, made.metadata.resource_version);

    let finished = stage.run(next(&open, "o7")).await;
    assert_eq!(finished.message, format!("{title} is as the manifest says already"));

    meddle(&maps, "plan", json!({"data": {"theirs": "1"}})).await;
    let fewer = stage.firing("o8", apply(settings("plan", json!({"a": "3"}))));
    let seen = observed(&mut stage, &fewer).await;
    assert_eq!(seen.message, format!("would apply {title}: data.a: \"uid-1/3\" → \"3\"; data.b: \"2\" → none"));
    let finished = stage.run(fewer).await;
    assert_eq!(finished.message, format!("applied {title}"));
    let now = maps.get("plan").await.expect("get");
    assert_eq!(now.data["data"], json!({"a": "3", "theirs": "1"}));
    assert!(now.metadata.annotations.expect("annotations").contains_key("signalbox.dev/caused-by"), "it still says so");
}

#[tokio::test]
async fn what_others_hold_is_applied_only_by_force() {
    let mut stage = Stage::new("force", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    theirs(&maps, "plan", settings("plan", json!({"a": "theirs"}))).await;
    let mut actions = apply(settings("plan", json!({"a": "ours"})));
    let open = stage.firing("o9", actions.clone());
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    for part in ["\"their-tool\"", ".data.a", "force: true"] {
        assert!(finished.message.contains(part), "{part}: {}", finished.message);
    }
    actions[0]["apply"]["force"] = json!(true);
    let open = stage.firing("o10", actions);
    let finished = stage.run(open).await;
    assert_eq!(finished.outcome, FiringOutcome::Succeeded, "{}", finished.message);
    assert_eq!(maps.get("plan").await.expect("get").data["data"], json!({"a": "ours"}));
}

#[tokio::test]
async fn what_was_deleted_before_it_is_applied_after_a_crash_is_not_created_anew() {
    let mut stage = Stage::new("gone", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    theirs(&maps, "plan", settings("plan", json!({"theirs": "1"}))).await;
    let open = stage.firing("o11", apply(settings("plan", json!({"a": "ours"}))));
    observed(&mut stage, &open).await;
    maps.delete("plan", &DeleteParams::default()).await.expect("delete");
    let finished = stage.again(open.clone(), &["make"]).await;
    assert_eq!(finished.outcome, FiringOutcome::Failed);
    assert!(maps.get_opt("plan").await.expect("get").is_none(), "{}", finished.message);
    // Another one of its name is not the one that it was about.
    theirs(&maps, "plan", settings("plan", json!({"theirs": "2"}))).await;
    let finished = stage.again(open, &["make"]).await;
    assert!(finished.message.contains("was deleted and created anew meanwhile"), "{}", finished.message);
    assert_eq!(maps.get("plan").await.expect("get").data["data"], json!({"theirs": "2"}));
    // One that was not there and that somebody else has created meanwhile is theirs.
    let open = stage.firing("o12", apply(settings("other", json!({"a": "ours"}))));
    observed(&mut stage, &open).await;
    theirs(&maps, "other", settings("other", json!({"theirs": "3"}))).await;
    let finished = stage.again(open, &["make"]).await;
    assert!(finished.message.contains("was created by somebody else meanwhile"), "{}", finished.message);
    assert_eq!(maps.get("other").await.expect("get").data["data"], json!({"theirs": "3"}));
}

#[tokio::test]
async fn the_object_that_was_there_is_deleted_and_no_other() {
    let mut stage = Stage::new("delete", RULES).await;
    let maps = api(&stage, "", "ConfigMap");
    let title = format!("ConfigMap {}/old", stage.namespace);
    theirs(&maps, "old", settings("old", json!({}))).await;
    let open = stage.firing("o13", delete("ConfigMap", "old"));
    assert_eq!(observed(&mut stage, &open).await.message, format!("would delete {title}"));
    assert!(maps.get_opt("old").await.expect("get").is_some());
    // Deleted and created anew between the record and the attempt.
    maps.delete("old", &DeleteParams::default()).await.expect("delete");
    theirs(&maps, "old", settings("old", json!({"new": "1"}))).await;
    let finished = stage.again(open, &["drop"]).await;
    let anew = "it was created anew meanwhile, and that one is left as it is";
    assert_eq!(finished.message, format!("deleted {title}; {anew}"), "an earlier attempt, for all that can be told");
    assert!(maps.get_opt("old").await.expect("get").is_some());
    // An event was about the former one.
    let mut open = stage.firing("o13b", json!([{"name": "drop", "delete": {"target": {"from": "Event"}}}]));
    let former = "11111111-1111-1111-1111-111111111111";
    let regarding =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": stage.namespace, "name": "old", "uid": former});
    std::sync::Arc::make_mut(&mut open.event).data = json!({ "regarding": regarding });
    let finished = stage.run(open).await;
    assert_eq!(finished.message, format!("{title} was deleted and created anew: it is left as it is"));
    assert!(maps.get_opt("old").await.expect("get").is_some());

    let open = stage.firing("o14", delete("ConfigMap", "old"));
    assert_eq!(stage.run(open.clone()).await.message, format!("deleted {title}"));
    assert!(maps.get_opt("old").await.expect("get").is_none());
    assert_eq!(
        stage.again(open, &["drop"]).await.message,
        format!("deleted {title}"),
        "an attempt before was answered so"
    );
    let open = stage.firing("o15", delete("ConfigMap", "old"));
    let finished = stage.run(open).await;
    assert_eq!((finished.outcome, finished.message), (FiringOutcome::Succeeded, format!("{title} is not there")));
    let open = stage.firing("o16", delete("Service", "web"));
    let finished = stage.run(open).await;
    assert!(finished.message.contains("may not get services"), "{}", finished.message);
}

/// A kind that looks like Argo Workflows', with a status.
async fn workflows(stage: &Stage) -> Api<DynamicObject> {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    shared()
        .await
        .apply(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "workflows.argoproj.io", "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}},
                "spec": {"group": "argoproj.io", "scope": "Namespaced", "names": {"kind": "Workflow", "plural": "workflows"},
                    "versions": [{"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}}}]}})
            .to_string(),
        )
        .await;
    let mut kind = resource("argoproj.io", "Workflow");
    kind.version = "v1alpha1".to_owned();
    kind.api_version = "argoproj.io/v1alpha1".to_owned();
    let api: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind);
    eventually("Workflows are listed", PATIENCE, async || api.list(&ListParams::default()).await.ok()).await;
    api
}

#[tokio::test]
async fn the_sample_of_a_workflow_creates_it_and_waits_for_its_end() {
    let sample = std::fs::read_to_string("deploy/samples/workflow.yaml").expect("the sample");
    let documents = sample.split("\n---\n").filter_map(|one| serde_saphyr::from_str::<Value>(one).ok());
    let of = |kind: &str| documents.clone().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("a {kind}"));
    let mut stage = Stage::new("workflow", &of("Role")["rules"].to_string()).await;
    let workflows = workflows(&stage).await;
    stage.compile(&of("EventRule")["spec"]);
    let actions = json!([of("EventRule")["spec"]["actions"][0]]);
    for (id, phase, outcome) in
        [("o17", "Succeeded", FiringOutcome::Succeeded), ("o18", "Failed", FiringOutcome::Failed)]
    {
        let engine = async {
            let name = eventually("a Workflow", PATIENCE, async || {
                let all = workflows.list(&ListParams::default()).await.expect("list").items;
                all.into_iter().find(|one| one.data.get("status").is_none()).and_then(|one| one.metadata.name)
            })
            .await;
            let status = json!({"status": {"phase": phase}});
            workflows.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.expect("patch");
        };
        let mut actions = actions.clone();
        actions[0]["waitFor"]["timeout"] = json!("5s");
        let open = stage.firing(id, actions);
        let (finished, ()) = tokio::join!(stage.run(open), engine);
        assert_eq!(finished.outcome, outcome, "{}", finished.message);
    }
}
