//! The smallest HTTP client that can ask a local server a question, or tell it something.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// GETs `path` and returns status and body; `None` when nothing answers.
pub async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    exchange(address, head.as_bytes()).await
}

/// POSTs `body` and returns status and body of the answer; `None` when nothing answers.
pub async fn post(address: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<(u16, String)> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\n{lines}Content-Length: {length}\r\n\r\n");
    exchange(address, &[head.as_bytes(), body].concat()).await
}

async fn exchange(address: &str, request: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A loopback port that is free. Systems give none of these to who asks for any or connects to something (Linux does from 32768 on, others from 49152),
/// and this process gives each once: so it still is free when the server that it is for begins.
pub fn free_port() -> u16 {
    const FROM: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let ports = (0..COUNT).map(|_| FROM + begin.wrapping_add(GIVEN.fetch_add(1, Relaxed)) % COUNT);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.filter_map(|port| u16::try_from(port).ok()).find(is_free).expect("find a free port")
}
