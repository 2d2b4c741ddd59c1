//! `trigger.due`: times that objects name.

use super::{timeline::Timeline, *};

fn due(more: Value) -> Timeline {
    let mut body = json!({
        "sources": [{"name": "certs", "resource": {"apiVersion": "apps/v1", "kind": "Deployment"}}],
        "trigger": {"due": {"atExpression": "has(object.status) ? timestamp(object.status.notAfter) - duration('60s') : null"}},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    Timeline::of(body)
}

/// A certificate that ends at this second.
fn cert(operation: &str, second: i64) -> EventInput {
    let mut input = change(operation, "Deployment", Some("shop"), "cert", json!({}));
    let event = Arc::get_mut(&mut input.event).expect("one owner");
    event.data["object"]["status"] = json!({"notAfter": head(0, second).stamp.timestamp().to_string()});
    input
}

#[test]
fn it_fires_at_the_time_that_the_object_names_once() {
    let mut line = due(json!({}));
    line.event(0, &cert("Create", 1000));
    line.event(10, &cert("Update", 1000));
    assert_eq!(line.tick(939), [""; 0]);
    assert_eq!(line.tick(941), ["fired shop/Deployment/cert by certs"]);
    assert_eq!(line.fired[0].stamp, head(0, 940).stamp, "`now` is the time itself");
    line.event(950, &cert("Update", 1000));
    assert_eq!(line.tick(5000), [""; 0], "what is done is not done again");
}

#[test]
fn a_change_of_the_time_moves_it_and_a_deletion_cancels_it() {
    let mut line = due(json!({}));
    line.event(0, &cert("Create", 1000));
    line.event(500, &cert("Update", 2000));
    assert_eq!(line.tick(1500), [""; 0]);
    assert_eq!(line.tick(1940), ["fired shop/Deployment/cert by certs"]);
    // Renewed: it will be due again.
    line.event(1950, &cert("Update", 3000));
    assert_eq!(line.event(1960, &cert("Delete", 3000)), ["ended(1960000000) shop/deployment/cert"]);
    assert_eq!(line.tick(5000), [""; 0]);
    // An object that names no time any more is not due either.
    line.event(5000, &cert("Create", 6000));
    line.event(5001, &change("Update", "Deployment", Some("shop"), "cert", json!({})));
    assert_eq!(line.tick(9000), [""; 0]);
}

#[test]
fn a_time_that_is_past_fires_at_once_and_is_told_as_planned_for_that_time() {
    let mut line = due(json!({"startingDeadline": "5m"}));
    line.event(1000, &cert("Create", 500));
    assert_eq!(line.tick(1000), ["fired shop/Deployment/cert by certs"]);
    // The runner compares this with startingDeadline.
    assert_eq!(line.fired[0].planned, Some(head(0, 440).stamp.wall));
    assert_eq!(line.fired[0].stamp, head(0, 1000).stamp);
}

#[test]
fn what_is_no_time_is_an_error_and_leaves_what_was_known() {
    let mut line = due(json!({}));
    line.event(0, &cert("Create", 1000));
    let mut wrong = cert("Update", 1000);
    Arc::get_mut(&mut wrong.event).expect("one owner").data["object"]["status"]["notAfter"] = json!("soon");
    let said = line.event(1, &wrong);
    assert!(said[0].starts_with("error trigger.due.atExpression"), "{said:?}");
    assert_eq!(line.tick(940), ["fired shop/Deployment/cert by certs"]);
}

#[test]
fn a_time_that_passed_while_nobody_listened_is_told_as_planned_for_that_time() {
    let mut line = due(json!({"startingDeadline": "5m"}));
    line.event(0, &cert("Create", 1000));
    line.restart();
    line.fold(200_000, &Record::Started);
    assert_eq!(line.tick(200_060), ["fired shop/Deployment/cert by certs"]);
    let fired = &line.fired[0];
    assert_eq!((fired.planned, fired.stamp.at), (Some(head(0, 940).stamp.wall), 200_060 * SECOND));
}

#[test]
fn a_time_that_is_past_uses_up_the_cooldown_of_now() {
    let mut line = due(json!({"throttle": {"cooldown": "10m"}}));
    line.event(1000, &cert("Create", 100));
    assert_eq!(line.tick(1000), ["fired shop/Deployment/cert by certs"]);
    line.event(1001, &cert("Update", 1062));
    assert_eq!(line.tick(1002)[0], "cooldown shop/Deployment/cert");
}
