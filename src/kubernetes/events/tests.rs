//! A flood of notes, and series.

use http::Method;

use super::*;
use crate::kubernetes::fake::{Fake, Seen, failure};

fn note(name: &str, text: &str) -> Note {
    let regarding = ObjectReference {
        api_version: Some("signalbox.dev/v1alpha1".into()),
        kind: Some("EventRule".into()),
        namespace: Some("shop".into()),
        name: Some(name.into()),
        uid: Some(format!("uid-{name}")),
        ..ObjectReference::default()
    };
    Note {
        regarding,
        type_: NoteType::Normal,
        reason: "Fired".into(),
        action: "Fire".into(),
        note: text.into(),
        times: 1,
        related: None,
    }
}

fn echo(seen: &Seen) -> (u16, serde_json::Value) {
    let mut event = json!({"metadata": {"name": "e"}, "eventTime": null});
    if seen.method == Method::POST {
        event = seen.body.clone();
    }
    (201, event)
}

fn writer(fake: &Fake) -> (EventRecorder, EventWriter, Counter) {
    let dropped = Counter::default();
    let (recorder, writer) = event_channel(fake.client(), "signalbox-0", dropped.clone());
    (recorder, writer, dropped)
}

#[tokio::test(start_paused = true)]
async fn what_repeats_is_one_event_with_a_series() {
    let fake = Fake::new(echo);
    let (_recorder, mut writer, _) = writer(&fake);
    for count in 0..5 {
        writer.take(note("web", &format!("fired {count}"))).await;
    }
    writer.take(note("other", "fired")).await;
    writer.flush(PATCH_EVERY).await;
    assert_eq!(fake.requests().len(), 2, "a series is not patched at once");
    tokio::time::advance(PATCH_EVERY).await;
    writer.flush(PATCH_EVERY).await;

    let seen = fake.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].path, "/apis/events.k8s.io/v1/namespaces/shop/events");
    assert_eq!(seen[0].body["note"], "fired 0");
    assert_eq!(seen[0].body["reportingController"], REPORTING_CONTROLLER);
    assert_eq!(seen[0].body["reportingInstance"], "signalbox-0");
    assert_eq!((&seen[2].method, &seen[2].body["series"]["count"]), (&Method::PATCH, &json!(5)));
    let name = seen[0].body["metadata"]["name"].as_str().expect("name");
    assert_eq!(seen[2].path, format!("/apis/events.k8s.io/v1/namespaces/shop/events/{name}"));
}

#[tokio::test(start_paused = true)]
async fn after_ten_quiet_minutes_a_new_series_begins() {
    let fake = Fake::new(echo);
    let (_recorder, mut writer, _) = writer(&fake);
    writer.take(note("web", "first")).await;
    tokio::time::advance(SERIES).await;
    writer.take(note("web", "second")).await;
    let methods: Vec<_> = fake.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, [Method::POST, Method::POST]);
}

#[tokio::test(start_paused = true)]
async fn a_series_whose_event_has_expired_begins_anew() {
    let fake =
        Fake::new(|seen| if seen.method == Method::PATCH { failure(404, "NotFound", "gone") } else { echo(seen) });
    let (_recorder, mut writer, _) = writer(&fake);
    writer.take(note("web", "first")).await;
    writer.take(note("web", "second")).await;
    writer.flush(Duration::ZERO).await;
    writer.take(note("web", "third")).await;
    assert_eq!(fake.requests().last().map(|seen| seen.body["note"].clone()), Some(json!("third")));
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_cut_off_and_counted() {
    let fake = Fake::new(echo);
    let (recorder, mut writer, dropped) = writer(&fake);
    for rule in 0..80 {
        writer.take(note(&format!("rule-{rule}"), "fired")).await;
    }
    assert_eq!((fake.requests().len(), dropped.get()), (50, 30));
    for _ in 0..QUEUE + 7 {
        recorder.record(note("web", "fired"));
    }
    assert_eq!(dropped.get(), 37);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_at_the_end() {
    let fake = Fake::new(echo);
    let (recorder, writer, _) = writer(&fake);
    recorder.record(note("web", "first"));
    recorder.record(note("web", "second"));
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    writer.run(shutdown).await;
    assert_eq!(fake.requests().last().map(|seen| seen.body["series"]["count"].clone()), Some(json!(2)));
}

#[tokio::test]
async fn names_and_notes_are_what_the_api_server_takes() {
    let fake = Fake::new(echo);
    let (_recorder, mut writer, _) = writer(&fake);
    let mut odd = note("system:Controller", &"ü".repeat(2000));
    odd.regarding.namespace = None;
    let event = writer.event(&odd);
    assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
    let name = event.metadata.name.expect("name");
    assert!(name.starts_with("system-controller."), "{name}");
    let text = event.note.expect("note");
    assert!(text.len() <= 1024 && text.ends_with('…'), "{} bytes", text.len());
}
