//! `stream-analytics`: readings of a real NATS server, whose mean is looked at.

use async_nats::jetstream::{self, stream};
use serde_json::json;

use super::UseCase;
use crate::{on_kind::cluster::PATIENCE, support::eventually};

#[tokio::test]
async fn a_mean_that_gets_beyond_its_bound_is_a_decision_and_so_is_its_return() {
    let case = UseCase::prepare("stream-analytics", "e2e-analytics").await;
    let way = case.forward("nats", 4222).await;
    let address = format!("127.0.0.1:{}", way.port);
    let client = eventually("NATS answers", PATIENCE, async || async_nats::connect(&address).await.ok()).await;
    let readings = jetstream::new(client);
    let config = stream::Config { name: "READINGS".into(), subjects: vec!["readings.>".into()], ..Default::default() };
    eventually("the stream is there", PATIENCE, async || readings.get_or_create_stream(&config).await.ok()).await;
    case.begin(&["stream-analytics"], &[]).await;
    let read = async |machine: &str, celsius: f64| {
        let payload = json!({"celsius": celsius}).to_string().into();
        readings.publish(format!("readings.{machine}"), payload).await.expect("sent").await.expect("stored");
    };
    for celsius in [60.0, 80.0, 94.0] {
        read("press-1", celsius).await;
        read("press-2", 50.0).await;
    }
    let told = case.told("subject", "press-1").await;
    assert_eq!(told["data"], json!({"machine": "press-1", "decision": "slow", "mean": 78.0}));
    read("press-1", 26.0).await;
    eventually("the machine may run at full speed again", PATIENCE, async || {
        let full = json!({"machine": "press-1", "decision": "full", "mean": 65.0});
        case.inbox().await.iter().any(|told| told["data"] == full).then_some(())
    })
    .await;
    assert_eq!(case.inbox().await.len(), 2, "and of press-2 there is nothing to decide");
}
