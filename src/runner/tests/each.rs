//! Actions with several objects.

use super::*;

/// Three Deployments that use the ConfigMap `settings`, and how often they were listed.
fn cluster() -> (Fake, Arc<Mutex<u32>>) {
    let lists = Arc::new(Mutex::new(0));
    let counted = lists.clone();
    let fake = Fake::new(move |seen| {
        let uses = |name: &&str| {
            let pod = json!({"containers": [{"envFrom": [{"configMapRef": {"name": "settings"}}]}]});
            json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"template": {"spec": pod}}})
        };
        let items: Vec<Value> = match seen.path.as_str() {
            "/apis/apps/v1/namespaces/shop/deployments" => {
                *counted.lock() += 1;
                ["web", "api", "worker"].iter().map(uses).collect()
            }
            "/apis/apps/v1/namespaces/shop/statefulsets" | "/apis/apps/v1/namespaces/shop/daemonsets" => Vec::new(),
            _ => return testing::common(seen).unwrap_or((404, json!({}))),
        };
        (200, json!({"apiVersion": "apps/v1", "kind": "List", "metadata": {}, "items": items}))
    });
    (fake, lists)
}

fn changed_settings(actions: &[Value]) -> OpenFiring {
    let mut open = firing("r", "g", "f", actions);
    let regarding = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "settings"});
    let event = crate::event::Event { data: json!({"message": "m", "regarding": regarding}), ..testing::event() };
    open.event = Arc::new(event);
    open
}

fn restart() -> Value {
    json!({"name": "restart", "rollout": {"target": {"from": "EventUsers"}}, "retry": {"limit": 0}, "onError": "Continue"})
}

fn result_of(stage: &Stage, action: &str) -> Value {
    let records = stage.bus.records.lock();
    let result = records.iter().find_map(|record| match record {
        Record::Outcome(outcome) if outcome.action == action => Some(outcome.result.clone()),
        _ => None,
    });
    result.expect("an outcome")
}

#[tokio::test(start_paused = true)]
async fn every_object_is_a_step_of_its_own_and_the_action_tells_of_them_all() {
    let (fake, _) = cluster();
    let stage = Stage::on(&fake, &[], Limit::none());
    let say =
        action("tell", json!({"notify": {"sinkRef": {"name": "s"}, "text": "${actions.restart.targets.size()}"}}));
    stage.start(changed_settings(&[restart(), say]));
    let ended = stage.ended(1).await;
    assert_eq!(ended[0].outcome, FiringOutcome::Succeeded);
    let outcomes: Vec<_> =
        stage.outcomes().into_iter().map(|(name, outcome, _)| format!("{name} {outcome:?}")).collect();
    assert_eq!(
        outcomes,
        ["restart.0 Succeeded", "restart.1 Succeeded", "restart.2 Succeeded", "restart Succeeded", "tell Succeeded"]
    );
    let told = result_of(&stage, "restart");
    let third = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "worker", "outcome": "Succeeded"});
    assert_eq!(told["targets"][2], third);
    assert!(stage.told().contains(&"execute tell First 3".to_owned()), "{:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_keeps_no_other_from_its_turn() {
    let (fake, _) = cluster();
    let stage = Stage::on(
        &fake,
        &[("restart", &[Play::Succeed, Play::Fail(FailureKind::Final), Play::Succeed])],
        Limit::none(),
    );
    stage.start(changed_settings(&[restart()]));
    let ended = stage.ended(1).await;
    assert_eq!((ended[0].outcome, ended[0].message.as_str()), (FiringOutcome::Failed, "1 of 3 failed: it failed"));
    assert_eq!(ended[0].failed_at.as_deref(), Some("actions[restart]"));
    let outcomes: Vec<_> = stage.outcomes().into_iter().map(|(_, outcome, _)| outcome).collect();
    use ActionOutcome::{Failed, Succeeded};
    assert_eq!(outcomes, [Succeeded, Failed, Succeeded, Failed]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_the_objects_that_were_found_where_it_stopped() {
    let (fake, lists) = cluster();
    let stage = Stage::on(&fake, &[], Limit::none());
    let mut open = changed_settings(&[restart()]);
    let target = |name: &str| json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": name});
    let found = json!({"used": "ConfigMap shop/settings", "targets": [target("web"), target("gone")]});
    let step = |request: Value, outcome: Option<ActionOutcome>| Step {
        intent: Some((0, request)),
        outcome,
        ..Step::default()
    };
    open.steps.insert("restart".into(), step(found, None));
    open.steps.insert("restart.0".into(), step(json!({"text": "old"}), Some(ActionOutcome::Succeeded)));
    open.steps.insert("restart.1".into(), step(json!({"text": "written", "target": "gone"}), None));
    stage.resume([open]);
    let ended = stage.ended(1).await;
    assert_eq!(ended[0].outcome, FiringOutcome::Succeeded);
    assert_eq!(*lists.lock(), 0, "nobody is looked for again");
    let acted: Vec<_> = stage.told().into_iter().filter(|told| told.starts_with("execute")).collect();
    assert_eq!(acted, ["execute restart Again written"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_changed_when_the_condition_does_not_hold_or_nobody_uses_it() {
    let (fake, lists) = cluster();
    let stage = Stage::on(&fake, &[], Limit::none());
    let mut skipped = restart();
    skipped["ifExpression"] = json!("false");
    stage.start(changed_settings(&[skipped]));
    stage.ended(1).await;
    assert_eq!(*lists.lock(), 0);
    let mut unused = changed_settings(&[restart()]);
    let regarding = json!({"apiVersion": "v1", "kind": "Secret", "namespace": "shop", "name": "settings"});
    unused.event = Arc::new(crate::event::Event { data: json!({"regarding": regarding}), ..testing::event() });
    unused.firing.id = FiringId("g".into());
    stage.start(unused);
    stage.ended(2).await;
    let outcomes = stage.outcomes();
    assert_eq!(outcomes[0].1, ActionOutcome::Skipped);
    assert_eq!(
        (outcomes[1].1, outcomes[1].2.as_str()),
        (ActionOutcome::Unchanged, "no workload uses Secret shop/settings")
    );
    assert!(!stage.told().iter().any(|told| told.starts_with("execute")));
}

#[tokio::test(start_paused = true)]
async fn an_observing_rule_tells_what_it_would_do_to_each() {
    let (fake, _) = cluster();
    let stage = Stage::on(&fake, &[], Limit::none());
    let mut open = changed_settings(&[restart()]);
    let mut spec = EventRuleSpec::clone(&open.spec);
    spec.mode = crate::api::RuleMode::Observe;
    open.spec = Arc::new(spec);
    stage.start(open);
    let ended = stage.ended(1).await;
    assert_eq!(ended[0].outcome, FiringOutcome::Observed);
    assert_eq!(ended[0].message, "would do restart; would do restart; would do restart");
}
