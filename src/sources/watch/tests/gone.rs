//! Objects that went while nobody listened: a list does not have them any more.

use super::*;

fn named(name: &str, uid: &str, version: u64) -> Value {
    let mut object = object(name, version);
    object["metadata"]["uid"] = uid.into();
    object
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_deleted_and_created_again_under_its_name_is_told_as_both_in_that_order() {
    let items = [named("a", "new", 9), named("z", "z", 7)];
    let page = json!({"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [named("aa", "early", 6)]});
    let server = Server::script([Answer::Json(200, page), list(9, &items)]);
    let site = start(server, "ConfigMap", memory(5, &[("a", 3), ("b", 4)]));
    let expected = [
        "resource.created early/6 gap",
        "resource.deleted a/deleted gap",
        "resource.created z/7 gap",
        "resource.created new/9 gap",
        "resource.deleted b/deleted gap",
        "seen list@9",
    ];
    assert_eq!(site.log.wait(6).await, expected);
    let names = site.log.events().into_iter().map(|input| input.event.data["object"]["metadata"]["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["aa", "a", "z", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_also_when_the_list_has_to_be_taken_again() {
    let page = || json!({"metadata": {"resourceVersion": "9", "continue": "more"}, "items": [named("a", "new", 8)]});
    let gone = Answer::Json(410, status(410, "Expired", "the continue token is too old"));
    let script = [Answer::Json(200, page()), gone, Answer::Json(200, page()), list(9, &[]), Answer::Open(Vec::new())];
    let site = start(Server::script(script), "ConfigMap", memory(5, &[("a", 3), ("b", 4)]));
    let expected = [
        "resource.deleted a/deleted gap",
        "resource.created new/8 gap",
        "resource.deleted b/deleted gap",
        "seen list@9",
    ];
    assert_eq!(site.log.wait(4).await, expected);
    site.requests(5).await;
    assert_eq!(site.log.short().len(), 4);
    assert!(site.log.origins().iter().take(3).all(|origin| origin.seen.is_none() || origin.uid == "new"));
}

#[tokio::test(start_paused = true)]
async fn a_list_with_something_of_which_nothing_can_be_read_tells_of_no_deletion_and_forgets_nothing() {
    let script = [
        list(6, &[json!("text")]),
        Answer::Lines(vec![line("ERROR", status(410, "Expired", "too old"))]),
        list(7, &[object("b", 4)]),
    ];
    let site = start(Server::script(script), "ConfigMap", memory(5, &[("a", 3), ("b", 4)]));
    assert_eq!(site.log.wait(3).await, ["seen list@6", "resource.deleted a/deleted gap", "seen list@7"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_first_list_that_broke_off_had_seen_is_forgotten_and_not_told() {
    let mut known = memory(5, &[("a", 3)]);
    known.remove(LISTED);
    let site = start(Server::script([list(9, &[])]), "ConfigMap", known);
    assert_eq!(site.log.wait(1).await, ["seen -a list@9"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_object_that_has_expired_is_told_to_who_asks_for_it_unless_signalbox_wrote_it() {
    let mut own = event("own", 6, 1);
    own["reportingComponent"] = crate::event::kubernetes_event::OWN_REPORTER.into();
    let gone = Answer::Lines(vec![
        line("ADDED", own),
        line("ADDED", event("other", 7, 2)),
        line("ERROR", status(410, "Expired", "x")),
    ]);
    let site = start(Server::script([list(5, &[]), gone, list(9, &[])]), "Event", HashMap::new());
    let expected = [
        "seen list@5",
        "seen own@6",
        "kubernetes.event other/2",
        "resource.deleted other/deleted gap",
        "seen -own list@9",
    ];
    assert_eq!(site.log.wait(5).await, expected);
}
