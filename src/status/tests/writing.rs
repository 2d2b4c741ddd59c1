//! How often what is written, and what becomes of a write that fails.

use super::*;
use crate::api::Rejected;

struct Bench {
    fake: Fake,
    queue: StatusQueue,
    answer: Arc<AtomicU16>,
    shutdown: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// A writer whose API server answers as `answer` says.
    fn start() -> Self {
        let answer = Arc::new(AtomicU16::new(200));
        let code = answer.clone();
        let fake = Fake::new(move |seen| match code.load(Ordering::SeqCst) {
            200 => (200, json!({"metadata": seen.body["metadata"]})),
            404 => failure(404, "NotFound", "not there"),
            422 => failure(422, "Invalid", "the server rejected our request due to an error in our request"),
            other => failure(other, "Conflict", "again"),
        });
        let (recorder, _writer) = event_channel(fake.client(), "pod", Counter::default());
        let queue = StatusQueue::new(recorder);
        let shutdown = CancellationToken::new();
        let writer = Writer::new(queue.clone(), fake.client(), Arc::new(Metrics::default()));
        let writer = tokio::spawn(writer.run(shutdown.clone()));
        Self { fake, queue, answer, shutdown, writer }
    }

    fn writes(&self) -> Vec<Value> {
        self.fake.requests().into_iter().map(|mut seen| seen.body[1]["value"].take()).collect()
    }

    async fn after(&self, millis: u64) -> usize {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.fake.requests().len()
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_is_one_write_to_this_very_object() {
    let bench = Bench::start();
    let web = rule("web");
    bench.queue.publish(&web, spec(2));
    bench.queue.publish(&web, Part::Account { generation: 2, usable: Ok(()) });
    bench.queue.publish(&web, sources(2));
    bench.queue.progress(&web.uid, progress(2, 1));
    assert_eq!(bench.after(300).await, 1);
    let seen = &bench.fake.requests()[0];
    assert_eq!(seen.method, Method::PATCH);
    assert_eq!(seen.path, "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventrules/web/status");
    assert_eq!(seen.query, "fieldManager=signalbox");
    assert_eq!(seen.headers["content-type"], "application/json-patch+json");
    assert_eq!(seen.body[0], json!({"op": "test", "path": "/metadata/uid", "value": "uid-web"}));
    assert_eq!(seen.body[1]["path"], "/status");
    assert_eq!(seen.body[1]["value"]["counts"]["matched"], 1);
}

#[tokio::test(start_paused = true)]
async fn one_rule_is_written_at_most_every_two_seconds_and_ends_with_the_last() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(2));
    for matched in 0..100 {
        bench.queue.progress(&rule("web").uid, progress(2, matched));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let count = bench.after(3000).await;
    assert!((5..=7).contains(&count), "{count} writes in 10 s");
    assert_eq!(bench.writes().last().expect("a write")["counts"]["matched"], 99);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_or_was_only_seen_is_not_written() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(2));
    bench.queue.progress(&rule("web").uid, progress(2, 1));
    assert_eq!(bench.after(3000).await, 1);
    bench.queue.publish(&rule("web"), spec(2));
    let mut seen = progress(2, 1);
    seen.counts.seen = 50;
    bench.queue.progress(&rule("web").uid, seen.clone());
    assert_eq!(bench.after(10_000).await, 1);
    seen.counts.fired = 1;
    bench.queue.progress(&rule("web").uid, seen);
    assert_eq!(bench.after(3000).await, 2);
    assert_eq!(bench.writes()[1]["counts"]["seen"], 50, "it goes along with something else");
}

#[tokio::test(start_paused = true)]
async fn what_the_api_holds_already_is_not_written_after_a_restart() {
    let bench = Bench::start();
    let parts = in_force();
    let before = merge(None, &parts, time(1)).expect("status");
    bench.queue.progress(&rule("web").uid, progress(2, 0));
    bench.queue.known(&rule("web"), Some(before));
    bench.queue.publish(&rule("web"), spec(2));
    bench.queue.publish(&rule("web"), Part::Account { generation: 2, usable: Ok(()) });
    bench.queue.publish(&rule("web"), sources(2));
    assert_eq!(bench.after(5000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn all_rules_share_a_budget_and_none_is_left_out() {
    let bench = Bench::start();
    for index in 0..200 {
        bench.queue.publish(&rule(&format!("rule-{index}")), spec(1));
    }
    let burst = bench.after(300).await;
    assert!((50..=54).contains(&burst), "{burst} at once");
    let second = bench.after(1000).await - burst;
    assert!((19..=21).contains(&second), "{second} in a second");
    assert_eq!(bench.after(10_000).await, 200);
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_spec_is_written_before_the_counts_of_many_others() {
    let bench = Bench::start();
    for index in 0..200 {
        bench.queue.publish(&rule(&format!("rule-{index}")), spec(1));
    }
    assert_eq!(bench.after(15_000).await, 200);
    for index in 0..200 {
        let progress = Progress { last_match: Some(time(7)), ..Progress::default() };
        bench.queue.progress(&rule(&format!("rule-{index}")).uid, progress);
    }
    assert!(bench.after(300).await < 300, "most of them wait");
    bench.queue.publish(&rule("new"), spec(1));
    bench.queue.publish(&rule("rule-199"), spec(2));
    let before = bench.after(0).await;
    let after = bench.after(500).await;
    let paths: Vec<String> = bench.fake.requests()[before..after].iter().map(|seen| seen.path.clone()).collect();
    for name in ["new", "rule-199"] {
        assert!(paths.iter().any(|path| path.ends_with(&format!("/{name}/status"))), "{name}: {paths:?}");
    }
    assert_eq!(bench.after(15_000).await, 401, "and none is left out");
}

#[tokio::test(start_paused = true)]
async fn a_new_rules_status_comes_before_what_else_is_told_of_many_others() {
    let bench = Bench::start();
    for index in 0..200 {
        bench.queue.publish(&rule(&format!("rule-{index}")), spec(1));
    }
    assert_eq!(bench.after(15_000).await, 200);
    for index in 0..200 {
        bench.queue.publish(&rule(&format!("rule-{index}")), spec(2));
    }
    let before = bench.after(300).await;
    bench.queue.publish(&rule("new"), spec(1));
    let after = bench.after(500).await;
    let told = |seen: &Seen| seen.path.ends_with("/new/status");
    assert!(bench.fake.requests()[before..after].iter().any(told), "it waits for nobody");
    assert_eq!(bench.after(15_000).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_repeated_with_what_is_known_then() {
    let bench = Bench::start();
    bench.answer.store(409, Ordering::SeqCst);
    bench.queue.publish(&rule("web"), spec(1));
    assert_eq!(bench.after(300).await, 1);
    bench.queue.progress(&rule("web").uid, progress(1, 9));
    bench.answer.store(200, Ordering::SeqCst);
    assert_eq!(bench.after(2500).await, 2);
    assert_eq!(bench.writes()[1]["counts"]["matched"], 9);
    assert_eq!(bench.after(60_000).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_or_another_one_is_forgotten() {
    for code in [404, 422] {
        let bench = Bench::start();
        bench.answer.store(code, Ordering::SeqCst);
        bench.queue.publish(&rule("web"), spec(1));
        assert_eq!(bench.after(120_000).await, 1, "answer {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_does_not_fit_is_tried_again_ever_more_seldom() {
    let fake = Fake::new(|_| {
        let (code, mut body) = failure(422, "Invalid", "EventRule \"web\" is invalid: status.recent: Too many");
        body["details"] = json!({"name": "web", "kind": "EventRule", "causes": [{"field": "status.recent"}]});
        (code, body)
    });
    let (recorder, _events) = event_channel(fake.client(), "pod", Counter::default());
    let queue = StatusQueue::new(recorder);
    let shutdown = CancellationToken::new();
    let writer = Writer::new(queue.clone(), fake.client(), Arc::new(Metrics::default()));
    let writer = tokio::spawn(writer.run(shutdown.clone()));
    queue.publish(&rule("web"), spec(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    // At 0.2, 2.2, 6.2, 14.2 and 30.2 s.
    assert_eq!(fake.requests().len(), 5);
    shutdown.cancel();
    writer.await.expect("the writer ends");
}

#[tokio::test(start_paused = true)]
async fn a_removed_rule_is_not_written_whatever_is_said_late() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(1));
    bench.queue.publish(&rule("web"), Part::Removed);
    bench.queue.progress(&rule("web").uid, progress(1, 1));
    bench.queue.publish(&rule("web"), sources(1));
    assert_eq!(bench.after(10_000).await, 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_everything_is_written_once_more() {
    let bench = Bench::start();
    bench.queue.publish(&rule("web"), spec(1));
    assert_eq!(bench.after(300).await, 1);
    bench.queue.progress(&rule("web").uid, progress(1, 5));
    tokio::task::yield_now().await;
    bench.shutdown.cancel();
    bench.writer.await.expect("the writer ends");
    assert_eq!(bench.fake.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sinks_counts_go_on_after_a_restart() {
    let bench = Bench::start();
    let sink = ObjectId { uid: "uid-oncall".into(), namespace: "shop".into(), name: "oncall".into() };
    let before = EventSinkStatus { delivered: 40, failed: 2, ..EventSinkStatus::default() };
    bench.queue.known_sink(&sink, Some(before));
    bench.queue.publish_sink(&sink, SinkPart::Spec { generation: 1, ready: good(Reason::InForce) });
    assert_eq!(bench.after(3000).await, 1);
    let status = &bench.writes()[0];
    assert_eq!((&status["delivered"], &status["failed"]), (&json!(40), &json!(2)));
    assert_eq!(status["conditions"][1]["reason"], "NothingSent");

    let error = Some("slack answered 503".to_owned());
    let told = SinkPart::Deliveries { delivered: 3, failed: 1, last: Some(time(9)), error };
    bench.queue.publish_sink(&sink, told);
    assert_eq!(bench.after(3000).await, 2);
    let status = &bench.writes()[1];
    assert_eq!((&status["delivered"], &status["failed"]), (&json!(43), &json!(3)));
    assert_eq!(status["conditions"][1]["reason"], "DeliveryFailed");
    assert_eq!(bench.fake.requests()[1].path, "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventsinks/oncall/status");

    bench
        .queue
        .publish_sink(&sink, SinkPart::Deliveries { delivered: 4, failed: 1, last: Some(time(10)), error: None });
    assert_eq!(bench.after(3000).await, 3);
    assert_eq!(bench.writes()[2]["conditions"][1]["reason"], "Delivered");
}

#[tokio::test(start_paused = true)]
async fn a_sources_counts_go_on_after_a_restart() {
    let bench = Bench::start();
    let source = ObjectId { uid: "uid-github".into(), namespace: "shop".into(), name: "github".into() };
    let rejected = Rejected { malformed: 2, too_large: 1, ..Rejected::default() }.summed();
    let before = EventSourceStatus { received: 40, duplicates: 3, rejected, ..EventSourceStatus::default() };
    bench.queue.known_source(&source, Some(before));
    bench.queue.publish_source(&source, SourcePart::Spec { generation: 1, ready: good(Reason::InForce), link: None });
    assert_eq!(bench.after(3000).await, 1);
    let status = &bench.writes()[0];
    assert_eq!((&status["received"], &status["path"]), (&json!(40), &json!("/hooks/shop/github")));

    let rejected = Rejected { malformed: 1, unauthenticated: 1, ..Rejected::default() };
    let (last, ping) = (Some(time(9)), Some(time(8)));
    let figures = SourceFigures { received: 2, duplicates: 1, rejected, last, ping, lag: None };
    bench.queue.publish_source(&source, SourcePart::Figures(figures));
    assert_eq!(bench.after(3000).await, 2);
    let status = &bench.writes()[1];
    assert_eq!((&status["received"], &status["duplicates"]), (&json!(42), &json!(4)));
    assert_eq!(status["lastPingTime"], "1970-01-01T00:00:08Z");
    let rejected =
        json!({"unauthenticated": 1, "malformed": 3, "tooLarge": 1, "rateLimited": 0, "unavailable": 0, "total": 5});
    assert_eq!(status["rejected"], rejected);
    let path = "/apis/signalbox.dev/v1alpha1/namespaces/shop/eventsources/github/status";
    assert_eq!(bench.fake.requests()[1].path, path);
    bench.queue.publish_source(&source, SourcePart::Removed);
    assert_eq!(bench.after(3000).await, 2);
}
