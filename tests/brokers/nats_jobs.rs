//! Case 16: events of a stream whose actions take longer than the server waits for an acknowledgement, fail at first, or fail for good.

use std::time::Duration;

use serde_json::json;

use super::{
    nats::{Server, all_acknowledged, consumer_info, jet_stream, publish},
    told::{GROUP, tells},
};
use crate::support::{
    sink::{Answer, Sink},
    site::Site,
};

/// The keys of the requests about a job, in their order.
fn keys(sink: &Sink, job: &str) -> Vec<String> {
    let of_job = sink.requests().into_iter().filter(|request| request.json()["text"] == job);
    of_job.map(|request| request.header("idempotency-key").expect("a key").to_owned()).collect()
}

#[tokio::test]
async fn case_16_a_message_is_acknowledged_when_it_is_stored_and_its_action_ends_once_whatever_happens() {
    let (site, sink, server) = (Site::start().await, Sink::start().await, Server::start("", &[]).await);
    let operator = site.setup.start_ready().await;
    let shop = site.namespace("jobs").await;
    let context = server.stream().await;
    shop.sink("oncall", &sink.url("/")).await;
    shop.create(GROUP, "EventSource", "plant", json!({"spec": jet_stream(&server)})).await;
    let mut rule = tells("job ${event.data.n}");
    rule["actions"][0]["retry"] = json!({"limit": 2, "backoff": "100ms", "maxBackoff": "1s"});
    shop.rule("tell", rule).await;

    // The server waits for two seconds, and the action takes five.
    sink.answer_next(Answer::status(200).after(Duration::from_secs(5)));
    publish(&context, "j-1", r#"{"n": 1}"#).await;
    sink.await_requests(1).await;
    all_acknowledged(&context, 1).await;
    operator.kill();
    let _operator = site.setup.start_ready().await;
    shop.rule_status("tell", "the first is done", |status| status["counts"]["succeeded"] == 1).await;
    let first = keys(&sink, "job 1");
    assert!(first.len() == 2 && first[0] == first[1], "it was run again, with its key: {first:?}");

    sink.answer_next(Answer::status(500));
    sink.answer_next(Answer::status(500));
    for _ in 0..2 {
        publish(&context, "j-2", r#"{"n": 2}"#).await;
    }
    shop.rule_status("tell", "the second is done", |status| status["counts"]["succeeded"] == 2).await;
    let second = keys(&sink, "job 2");
    assert!(second.len() == 3 && second.iter().all(|key| *key == second[0]), "{second:?}");

    sink.answer(Answer::status(500));
    publish(&context, "j-3", r#"{"n": 3}"#).await;
    let status = shop.rule_status("tell", "the third is kept", |status| status["counts"]["deadLettered"] == 1).await;
    let counts = &status["counts"];
    assert_eq!((&counts["fired"], &counts["failed"]), (&json!(3), &json!(1)), "{status:#}");
    assert_eq!(keys(&sink, "job 3").len(), 3, "no more than the rule's budget");
    all_acknowledged(&context, 3).await;
    assert_eq!(consumer_info(&context).await.num_redelivered, 0, "the server sends nothing again");
}
