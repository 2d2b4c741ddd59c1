//! Versions that are older than what was seen: a server that lags, or a cluster whose history was set back.

use super::*;

fn too_large() -> Answer {
    Answer::Json(504, status(504, "Timeout", "Too large resource version: 50, current: 9"))
}

#[tokio::test(start_paused = true)]
async fn a_list_older_than_what_is_known_is_not_compared() {
    let stale = list(4, &[object("a", 2)]);
    let site =
        start(Server::script([stale, list(6, &[object("a", 6)])]), "ConfigMap", memory(5, &[("a", 3), ("b", 5)]));
    let expected = ["resource.updated a/6 gap", "resource.deleted b/deleted gap", "seen list@6"];
    assert_eq!(site.log.wait(3).await, expected);
}

#[tokio::test(start_paused = true)]
async fn versions_that_have_gone_back_for_good_begin_a_new_epoch_that_fires_nothing() {
    let server = Server::new(|asked| match (asked.is_watch(), asked.query.contains("NotOlderThan")) {
        (true, _) => Answer::Open(Vec::new()),
        (_, true) => Answer::Json(504, status(504, "Timeout", "Too large resource version: 50, current: 9")),
        (_, false) => list(9, &[object("a", 7)]),
    });
    let (began, mut site) = (Instant::now(), start(server, "ConfigMap", memory(50, &[("a", 40), ("b", 41)])));
    assert_eq!(site.log.wait(1).await, ["seen a@7 -b list@9"]);
    assert!(matches!(site.phase().await, Phase::Failed(_)));
    assert_eq!(site.phase().await, Phase::Listening);
    let notice = site.notice.since(began).expect("a notice");
    assert!(notice.contains("v1/ConfigMap@shop") && notice.contains("gone back from 50 to 9"), "{notice}");
    assert!(site.notice.since(Instant::now() + Duration::from_secs(1)).is_none(), "who began later missed nothing");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lags_for_minutes_is_no_new_epoch_for_etcd_knows_better() {
    let server = Server::new(|asked| match (asked.is_watch(), asked.query.contains("NotOlderThan")) {
        (true, _) => Answer::Open(Vec::new()),
        (_, true) => too_large(),
        (_, false) => list(60, &[object("a", 55), object("b", 41)]),
    });
    let (began, site) = (Instant::now(), start(server, "ConfigMap", memory(50, &[("a", 40), ("b", 41), ("c", 42)])));
    let expected = ["resource.updated a/55 gap", "resource.deleted c/deleted gap", "seen list@60"];
    assert_eq!(site.log.wait(3).await, expected);
    assert!(site.notice.since(began).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_old_list_that_is_played_again_and_again_is_never_compared() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = Server::new(move |asked| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        _ if asked.is_watch() => Answer::Open(Vec::new()),
        0..8 => list(30, &[object("a", 20), object("old", 25)]),
        _ => list(50, &[object("a", 40), object("new", 49)]),
    });
    let site = start(server, "ConfigMap", memory(50, &[("a", 40), ("b", 41)]));
    let expected = ["resource.created new/49 gap", "resource.deleted b/deleted gap", "seen list@50"];
    assert_eq!(site.log.wait(3).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_was_set_back_and_has_grown_past_what_was_seen_is_found_out_by_an_object() {
    let now = list(60, &[object("a", 20), object("new", 59)]);
    let server = Server::script([now, Answer::Open(vec![line("MODIFIED", object("a", 61))])]);
    let (began, site) = (Instant::now(), start(server, "ConfigMap", memory(50, &[("a", 40), ("b", 41)])));
    assert_eq!(site.log.wait(2).await, ["seen a@20 new@59 -b list@60", "resource.updated a/61"]);
    assert!(site.notice.since(began).expect("a notice").contains("gone back from 40 to 20"));
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_version_that_was_not_reached_yet_is_silent_and_found_out() {
    let set_back = |asked: &crate::sources::testing::Asked| match asked.is_watch() {
        true => Answer::Quiet(Duration::from_secs(60)),
        false if asked.query.contains("NotOlderThan") => too_large(),
        false => list(9, &[object("a", 7)]),
    };
    // At once, when it comes after an outage; in a while otherwise.
    for (outage, within) in [(true, 120), (false, 500)] {
        let count = std::sync::atomic::AtomicU32::new(0);
        let server = Server::new(move |asked| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => list(50, &[object("a", 40)]),
            1 if outage => Answer::Broken(vec![line("MODIFIED", object("a", 51))], Duration::from_secs(1)),
            1 => Answer::Lines(vec![line("MODIFIED", object("a", 51))]),
            _ => set_back(asked),
        });
        let (began, site) = (Instant::now(), start(server, "ConfigMap", memory(30, &[("a", 20)])));
        assert_eq!(site.log.wait(4).await[3], "seen a@7 list@9");
        assert!(began.elapsed() < Duration::from_secs(within), "{:?}", began.elapsed());
        assert!(site.notice.since(began).expect("a notice").contains("gone back from 51 to 9"));
        assert!(site.metrics.encode().contains("signalbox_watch_may_have_lost_total 1\n"));
    }
}
