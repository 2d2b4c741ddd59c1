//! What is noticed when nothing comes: a watch that hangs, and Events that are lost for good.

use super::*;

fn bookmark(version: u64) -> Value {
    line("BOOKMARK", json!({"metadata": {"resourceVersion": version.to_string()}}))
}

/// How long the server was asked to keep each watch open.
fn seconds(site: &Site) -> Vec<u64> {
    let parse = |query: &str| query.rsplit_once("timeoutSeconds=").and_then(|(_, seconds)| seconds.parse().ok());
    site.server.asked().iter().filter(|asked| asked.is_watch()).filter_map(|asked| parse(&asked.query)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_never_closed_is_taken_as_hanging() {
    let script = [list(5, &[]), Answer::Open(vec![]), Answer::Open(vec![line("ADDED", object("a", 6))])];
    let began = Instant::now();
    let site = start(Server::script(script), "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(2).await[1], "resource.created a/6");
    assert!((20..=30).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(site.requests(3).await, ["list", "watch 5", "watch 5"]);
}

#[tokio::test(start_paused = true)]
async fn where_not_even_bookmarks_come_any_more_a_list_is_taken() {
    let began = Instant::now();
    let server = Server::new(move |asked| match asked.is_watch() {
        false if asked.at == began => list(5, &[]),
        false => list(9, &[object("a", 9)]),
        true if asked.at == began => Answer::Lines(vec![bookmark(6)]),
        // Open, silent and never closed.
        true => Answer::Open(Vec::new()),
    });
    let site = start(server, "ConfigMap", HashMap::new());
    assert_eq!(site.log.wait(2).await[1], "resource.created a/9 gap");
    assert!((130..=165).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_asked_to_stay_open_for_less_than_half_a_minute() {
    let script = [list(5, &[]), Answer::Lines(vec![bookmark(6)]), Answer::Open(Vec::new())];
    let site = start(Server::script(script), "ConfigMap", HashMap::new());
    site.requests(3).await;
    assert!(seconds(&site).iter().all(|asked| (20..=25).contains(asked)), "{:?}", seconds(&site));
}

#[tokio::test(start_paused = true)]
async fn events_that_may_have_expired_unseen_are_told_of_after_an_hour() {
    for (kind, minutes, told) in [("Event", 70, true), ("Event", 50, false), ("ConfigMap", 70, false)] {
        let began = Instant::now();
        let up = began + Duration::from_secs(minutes * 60);
        let server = Server::new(move |asked| match (asked.is_watch(), asked.query.contains("NotOlderThan")) {
            (false, false) => list(5, &[]),
            (true, _) if asked.at > up => Answer::Open(Vec::new()),
            (_, true) if asked.at > up => list(9, &[]),
            (true, _) if asked.at == began => Answer::Lines(vec![line("ERROR", status(410, "Expired", "too old"))]),
            _ => Answer::Json(500, status(500, "InternalError", "away")),
        });
        let mut site = start(server, kind, HashMap::new());
        assert_eq!(site.phase().await, Phase::Listening);
        assert!(matches!(site.phase().await, Phase::Failed(_)));
        let phase = tokio::time::timeout(Duration::from_secs(5000), site.phases.recv()).await;
        assert_eq!(phase.expect("in time").expect("the watch runs").2, Phase::Listening);
        let notice = site.notice.since(began);
        assert_eq!(notice.is_some(), told, "{kind} {minutes} {notice:?}");
        assert!(notice.is_none_or(|notice| notice.contains("v1/Event@shop may have lost events")));
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_before_the_start_counts_and_a_first_list_has_missed_nothing() {
    let began = Instant::now();
    let away = Duration::from_secs(61 * 60);
    for (known, told) in [(memory(5, &[]), true), (HashMap::new(), false)] {
        let mut site = start_after(away, Server::script([list(6, &[])]), "Event", known);
        assert_eq!(site.phase().await, Phase::Listening);
        assert_eq!(site.notice.since(began).is_some(), told);
    }
}
