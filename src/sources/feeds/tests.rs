//! The way of messages into the log, and which EventSources there are.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    feed::{Feed, Net, Taken},
    *,
};
use crate::{
    clock::{Clock, Stamp},
    event::message::Message,
    net::Guard,
    record::Position,
    sinks::Secrets,
    sources::testing::{Collected, TOO_LARGE},
    telemetry::Metrics,
};

fn accept(log: &Arc<Collected>) -> Accept {
    let (clock, metrics) = (Clock::simulated(Stamp::default()), Arc::new(Metrics::default()));
    Accept::new(log.clone(), &mut HashMap::new(), Arc::new(|_, _| true), metrics, clock)
}

fn connector() -> Connector {
    Connector::new(Guard::default())
}

#[tokio::test]
async fn of_a_batch_with_an_event_that_cannot_be_kept_the_others_are_on_disk_and_counted() {
    let log = Collected::new();
    let feed = Feed {
        namespace: "shop".to_owned(),
        name: "plant".to_owned(),
        uid: "u-1".to_owned(),
        kind: "nats",
        secrets: Secrets::default(),
        accept: accept(&log),
        net: Arc::new(Net::new(connector())),
        shared: Arc::default(),
    };
    let event = |id: &str, type_: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": type_});
    let body = json!([event("a", "com.example.t"), event("b", TOO_LARGE), event("c", "com.example.t")]).to_string();
    let content_type = Some("application/cloudevents-batch+json");
    let batch = Message { content_type, body: body.as_bytes(), type_: "t", ..Message::default() };
    let taken = feed.take(&[batch]).await.expect("the log takes it");
    assert!(matches!(&taken[..], [Taken::Poison(_)]), "{taken:?}");
    let ids: Vec<String> = log.events().iter().map(|input| input.event.id.clone()).collect();
    assert_eq!((ids, log.synced()), (vec!["a".to_owned(), "c".to_owned()], Position(2)));
    let figures = feed.shared.counted.get();
    assert_eq!((figures.received, figures.rejected.too_large, figures.rejected.total), (2, 1, 1));
}

#[tokio::test]
async fn one_that_was_deleted_takes_nothing_when_its_successor_has_faults() {
    let feeds = Feeds::new(accept(&Collected::new()), connector());
    let spec = |spec: Value| -> EventSourceSpec { serde_json::from_value(spec).expect("a spec") };
    let good = spec(json!({"prometheus": {"url": "http://prometheus:9090", "query": "up", "interval": "30s"}}));
    let faulty = spec(json!({}));
    feeds.set("shop", "plant", "u-1", &good).expect("no faults");
    feeds.set("shop", "other", "u-2", &good).expect("no faults");
    feeds.set("shop", "plant", "u-1", &faulty).expect_err("faults");
    assert!(feeds.link("shop", "plant").is_some(), "the version before goes on");
    feeds.set("shop", "plant", "u-3", &faulty).expect_err("faults");
    assert!(feeds.link("shop", "plant").is_none() && feeds.link("shop", "other").is_some());
}

#[test]
fn a_source_of_which_no_version_can_be_used_is_known_until_it_is_taken_away() {
    let feeds = Feeds::new(accept(&Collected::new()), connector());
    let set = |url: &str| {
        let spec = json!({"prometheus": {"url": url, "query": "up", "interval": "30s"}});
        feeds.set("shop", "up", "u-1", &serde_json::from_value(spec).expect("a spec"))
    };
    let there = HashSet::from([("shop".to_owned(), "u-1".to_owned())]);
    for url in ["no address", "http://prometheus:9090", "no address"] {
        assert_eq!(set(url).is_err(), url == "no address");
        assert_eq!(feeds.known(), there, "{url}");
    }
    feeds.remove("shop", "up");
    assert_eq!(feeds.known(), HashSet::new());
    set("no address").expect_err("faults");
    feeds.remove("shop", "up");
    assert_eq!(feeds.known(), HashSet::new());
}
