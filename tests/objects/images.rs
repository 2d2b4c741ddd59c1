//! `setImage`.

use serde_json::{Value, json};
use signalbox::api::FiringOutcome;

use super::{
    Stage,
    common::{api, meddle, observed},
};

const RULES: &str = r#"[{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}]"#;

fn set(container: &str, image: &str) -> Value {
    let target = json!({"kind": "Deployment", "name": "web"});
    json!([{"name": "set", "setImage": {"target": target, "container": container, "image": image}}])
}

#[tokio::test]
async fn an_image_is_set_once_and_nothing_else_is_written() {
    let mut stage = Stage::new("image", RULES).await;
    let deployments = api(&stage, "apps", "Deployment");
    let digest = format!("sha256:{}", "a1".repeat(32));
    let title = format!("Deployment {}/web", stage.namespace);
    // As a registry tells what was pushed without a tag.
    let open = stage.firing("i0", set("web", &format!("${{'registry.example.com:5000/acme/web:{digest}'}}")));
    let seen = observed(&mut stage, &open).await.message;
    assert!(
        seen.starts_with(&format!("would set the image of {title}: spec.template.spec.containers[0].image:")),
        "{seen}"
    );
    let finished = stage.run(open.clone()).await;
    let to = format!("registry.example.com:5000/acme/web@{digest}");
    let message = format!("set the image of {title}, container web, from example.invalid/web:1 to {to}");
    assert_eq!(finished.message, message);
    let written = deployments.get("web").await.expect("get");
    assert_eq!(written.data["spec"]["template"]["spec"]["containers"][0]["image"], to);
    assert_eq!(written.metadata.generation, Some(2));
    for _ in 0..2 {
        assert_eq!(stage.again(open.clone(), &["set"]).await.message, message);
    }
    let open = stage.firing("i1", set("web", &to));
    assert_eq!(stage.run(open).await.message, format!("{title} has this image already"));
    assert_eq!(deployments.get("web").await.expect("get").metadata.generation, Some(2));
}

#[tokio::test]
async fn what_is_no_image_or_no_container_ends_the_firing_in_words() {
    let mut stage = Stage::new("noimage", RULES).await;
    for (index, (container, image, words)) in [
        ("web", "https://example.com/web", "is no reference to an image"),
        ("web", "${event.data.message}", "is no reference to an image"),
        ("web", "web@sha256:12", "is no digest"),
        ("app", "web:2", "it has no container \"app\"; it has web"),
    ]
    .into_iter()
    .enumerate()
    {
        let open = stage.firing(&format!("i2-{index}"), set(container, image));
        let finished = stage.run(open).await;
        assert_eq!(finished.outcome, FiringOutcome::Failed, "{}", finished.message);
        assert!(finished.message.contains(words), "{}", finished.message);
    }
}

#[tokio::test]
async fn an_image_that_somebody_else_has_set_before_a_restart_is_left() {
    let mut stage = Stage::new("theirs", RULES).await;
    let deployments = api(&stage, "apps", "Deployment");
    let open = stage.firing("i3", set("web", "example.invalid/web:2"));
    observed(&mut stage, &open).await;
    let theirs = json!([{"name": "web", "image": "example.invalid/web:9"}]);
    meddle(&deployments, "web", json!({"spec": {"template": {"spec": {"containers": theirs}}}})).await;
    let finished = stage.again(open, &["set"]).await;
    assert!(finished.message.contains("was changed by somebody else meanwhile"), "{}", finished.message);
    let now = deployments.get("web").await.expect("get");
    assert_eq!(now.data["spec"]["template"]["spec"]["containers"][0]["image"], "example.invalid/web:9");
}
