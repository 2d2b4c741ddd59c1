//! Senders that are slow, and many.

use tokio::time::Instant;

use super::*;

fn unwanted() -> Value {
    json!({"auth": {"none": {}}, "type": UNWANTED})
}

#[tokio::test(start_paused = true)]
async fn heads_and_bodies_that_do_not_come_in_time_are_cut_and_others_are_served() {
    let site = Site::start(unwanted()).await;
    let mut head = site.connect().await;
    head.write_all(b"POST /hooks/shop/github HTTP/1.1\r\nhost: a\r\n").await.expect("it is read");
    let mut body = site.connect().await;
    body.write_all(request(JSON, 100).as_bytes()).await.expect("it is read");
    body.write_all(b"{").await.expect("it is read");
    says(&site.post(JSON, b"{}").await, 202, "");
    let begun = Instant::now();
    let cut = rest(&mut head).await;
    assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 408"), "{cut}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    says(&rest(&mut body).await, 408, "");
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    assert_eq!(site.hooks.get("shop", "github").expect("it is there").figures().rejected.malformed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_after_its_request_is_closed() {
    let site = Site::start(unwanted()).await;
    let mut stream = site.connect().await;
    let head = request(JSON, 2).replace("connection: close\r\n", "");
    stream.write_all(format!("{head}{{}}").as_bytes()).await.expect("it is read");
    let begun = Instant::now();
    says(&rest(&mut stream).await, 202, "");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn among_hundreds_of_slow_connections_those_that_speak_are_served() {
    const SLOW: usize = 300;
    let limits = Limits { connections: SLOW / 2, ..LIMITS };
    let site = Site::within(limits, nobody_asked()).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = site.connect().await;
        stream.write_all(b"P").await.expect("it is read");
        slow.push(stream);
    }
    for _ in 0..20 {
        says(&site.post(JSON, b"{}").await, 202, "");
    }
    // Those that came first were cut for those that came later.
    assert_eq!(rest(&mut slow[0]).await, "");
    let told = site.metrics.encode();
    let cut = told.lines().find_map(|line| line.strip_prefix("signalbox_webhook_connections_cut_total "));
    let cut: usize = cut.expect("a metric").parse().expect("a number");
    assert!((SLOW / 2..=SLOW).contains(&cut), "{cut}");
}

#[tokio::test]
async fn beyond_the_bytes_and_requests_at_a_time_senders_are_asked_to_come_again() {
    let few_bytes = Site::within(Limits { bytes: 4096, ..LIMITS }, nobody_asked()).await;
    says(&few_bytes.post(JSON, format!("\"{}\"", "x".repeat(1000)).as_bytes()).await, 202, "");
    says(&few_bytes.post(JSON, format!("\"{}\"", "x".repeat(1100)).as_bytes()).await, 503, "retry-after: 2");
    let none = Site::within(Limits { requests: 0, ..LIMITS }, nobody_asked()).await;
    says(&none.post(JSON, b"{}").await, 503, "too much is coming in at once");
    assert_eq!(none.hooks.get("shop", "github").expect("it is there").figures().rejected.unavailable, 1);
}
