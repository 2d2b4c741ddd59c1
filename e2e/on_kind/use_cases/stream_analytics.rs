//! `stream-analytics`: readings of a real NATS server, whose mean is looked at.

use async_nats::jetstream::{
    self,
    stream::{self, Stream},
};
use serde_json::{Value, json};

use super::UseCase;
use crate::{on_kind::cluster::PATIENCE, support::eventually};

#[tokio::test]
async fn a_mean_that_gets_beyond_its_bound_is_a_decision_and_so_is_its_return() {
    let case = UseCase::prepare("stream-analytics", "e2e-analytics").await;
    let way = case.forward("nats", 4222).await;
    let address = format!("127.0.0.1:{}", way.port);
    let client = eventually("NATS answers", PATIENCE, async || async_nats::connect(&address).await.ok()).await;
    let nats = jetstream::new(client);
    let make = async |name: &str, subjects: &str| {
        let config = stream::Config { name: name.into(), subjects: vec![subjects.into()], ..Default::default() };
        eventually("the stream is there", PATIENCE, async || nats.get_or_create_stream(&config).await.ok()).await
    };
    make("READINGS", "readings.>").await;
    let mut decisions = make("DECISIONS", "decisions.>").await;
    case.begin(&["stream-analytics"], &[]).await;
    let read = async |machine: &str, celsius: f64| {
        let payload = json!({"celsius": celsius}).to_string().into();
        nats.publish(format!("readings.{machine}"), payload).await.expect("sent").await.expect("stored");
    };
    for celsius in [60.0, 80.0, 94.0] {
        read("press-1", celsius).await;
        read("press-2", 50.0).await;
    }
    let decided = async |decisions: &Stream, data: Value| {
        eventually(&format!("{data} is decided"), PATIENCE, async || {
            let last = decisions.get_last_raw_message_by_subject("decisions.press-1").await.ok()?;
            let said = |name: &str| last.headers.get(name).map(ToString::to_string);
            assert_eq!(said("ce-type").as_deref(), Some("com.example.machine.decision"));
            (serde_json::from_slice::<Value>(&last.payload).ok()? == data).then_some(())
        })
        .await;
    };
    decided(&decisions, json!({"machine": "press-1", "decision": "slow", "mean": 78.0})).await;
    read("press-1", 26.0).await;
    decided(&decisions, json!({"machine": "press-1", "decision": "full", "mean": 65.0})).await;
    let stored = decisions.info().await.expect("the stream").state.messages;
    assert_eq!(stored, 2, "and of press-2 there is nothing to decide");
}
