//! The events that the log retains, for a rule that is tried on them: those that the account of whoever asks may watch now, and no others.
//!
//! Whoever asks says what the rule would listen to: scopes of kinds (`of=apps/v1/Deployment@shop`, `of=v1/Node@*`), for which the account needs `list` and `watch` there,
//! as the rule would; EventSources of its namespace (`source=github`), for which it needs `get`; and whether it listens to rules of its namespace (`rules=true`). The answer is NDJSON: one line that tells when the archive
//! begins, one for each event, and one that tells how it ended; without that one it is not whole. An empty line tells that it goes on while nothing is found.
//!
//! It is read out of turn: piece by piece while the reader takes them, one piece at a time in the whole process, and no more than half of the time.

mod asked;
mod sight;
mod slots;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(super) use self::slots::Slots;
use self::{asked::Asked, sight::Sight, slots::Slot};
use super::{Answer, LateRules, Refusal, failed, ready};
use crate::{
    bus::Archive,
    clock::Clock,
    kubernetes::AUDIENCE,
    record::{Entry, Record},
};

/// Bytes of the log that are read at once: about a thousand events, in some milliseconds.
const PIECE: u64 = 1 << 20;
/// Bytes of an answer: what the program that takes it in reads in seconds.
const MOST_BYTES: usize = 256 << 20;
/// Events of an answer.
const MOST_EVENTS: usize = 1_000_000;
/// How long an answer may take.
const LONGEST: Duration = Duration::from_mins(10);

/// An answer under way.
struct Reading {
    archive: Option<Box<dyn Archive>>,
    sight: Arc<Sight>,
    slot: Slot,
    since: i64,
    told: Told,
    begun: bool,
    /// Reading waits so long after a piece as that took.
    rest: Duration,
    until: Instant,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    events: usize,
    bytes: usize,
    /// Lists of what existed, made for one rule.
    lists: usize,
}

pub(super) async fn events(
    State(rules): State<LateRules>,
    Path(namespace): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let (rules, asked) = (ready(&rules)?, Asked::read(query.as_deref())?);
    let visitor = rules.visitors.account(&headers).await?;
    if visitor.namespace != namespace {
        let how = format!(
            "the token is of ServiceAccount {}/{}, and events are told to accounts of namespace {namespace}: send one made by \
             kubectl create token ACCOUNT -n {namespace} --audience={AUDIENCE}",
            visitor.namespace, visitor.name
        );
        return Err(Refusal(StatusCode::FORBIDDEN, how));
    }
    let since = Clock::real(0).now().wall.saturating_sub(asked.seconds.saturating_mul(1_000_000));
    // Before anything is asked: hundreds of questions about rights stand in the way of those that rules need.
    let slot = rules.slots.take(LONGEST).ok_or_else(|| {
        let busy = "others are reading the archive: try again in some minutes".to_owned();
        Refusal(StatusCode::TOO_MANY_REQUESTS, busy)
    })?;
    let sight = Sight::open(&rules.services.cluster, visitor, asked).await?;
    let reading = Reading {
        archive: Some(rules.bus.archive(since)),
        sight: Arc::new(sight),
        slot,
        since,
        told: Told::default(),
        begun: false,
        rest: Duration::ZERO,
        until: Instant::now() + LONGEST,
    };
    Ok(answer(reading))
}

/// Read as fast as it is taken, and dropped with the connection.
fn answer(reading: Reading) -> Response {
    let lines = stream::try_unfold(reading, async |mut reading: Reading| {
        let Some(archive) = reading.archive.take() else { return Ok::<_, io::Error>(None) };
        let lines = reading.piece(archive).await;
        let lines = lines.inspect_err(|error| tracing::warn!(%error, "an answer out of the archive broke off"))?;
        Ok(Some((Bytes::from(lines), reading)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(Box::pin(lines))).into_response()
}

impl Reading {
    /// The next lines. The archive is given back when there are more.
    async fn piece(&mut self, mut archive: Box<dyn Archive>) -> io::Result<Vec<u8>> {
        tokio::time::sleep(self.rest).await;
        let turn = self.slot.turn().await;
        let (sight, told, began) = (Arc::clone(&self.sight), self.told, Instant::now());
        let reading = tokio::task::spawn_blocking(move || {
            // Whoever asked may be gone before it is read.
            let _turn = turn;
            let found = archive.next(PIECE);
            found.map(|entries| (lines(entries, &sight, told), archive))
        });
        let read = reading.await.map_err(io::Error::other)?;
        let ((found, told), archive) = read.map_err(io::Error::other)?;
        self.rest = began.elapsed();
        self.told = told;
        let mut lines = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            let begins = archive.begins().map(time);
            line(&mut lines, &json!({"archive": {"begins": begins, "since": time(self.since)}}));
        }
        let cut = match &found {
            Some((_, true)) => Some(format!("it has {} events, {} bytes", told.events, told.bytes)),
            Some(_) if Instant::now() > self.until => Some(format!("it took {} s", LONGEST.as_secs())),
            Some(_) | None => None,
        };
        let is_end = found.is_none() || cut.is_some();
        lines.extend(found.into_iter().flat_map(|(found, _)| found));
        if is_end {
            let now = time(Clock::real(0).now().wall);
            let end =
                json!({"events": told.events, "lists": told.lists, "lost": archive.lost(), "cut": cut, "until": now});
            line(&mut lines, &json!({ "end": end }));
        } else {
            self.archive = Some(archive);
        }
        if lines.is_empty() {
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

/// The lines of a piece, nothing of the end of the archive; whether it is enough; and what was told by then.
type Lines = (Option<(Vec<u8>, bool)>, Told);

fn lines(entries: Option<Vec<Entry>>, sight: &Sight, mut told: Told) -> Lines {
    let Some(entries) = entries else { return (None, told) };
    let mut lines = Vec::new();
    for entry in entries {
        let Record::Event(input) = &*entry.record else { continue };
        if !sight.sees(input) {
            continue;
        }
        if input.only.is_some() {
            told.lists += 1;
            continue;
        }
        let before = lines.len();
        line(&mut lines, &json!({"wall": entry.head.stamp.wall, "input": sight.shown(input)}));
        told.bytes += lines.len() - before;
        told.events += 1;
        if told.events >= MOST_EVENTS || told.bytes >= MOST_BYTES {
            return (Some((lines, true)), told);
        }
    }
    (Some((lines, false)), told)
}

fn line(lines: &mut Vec<u8>, value: &Value) {
    lines.extend_from_slice(value.to_string().as_bytes());
    lines.push(b'\n');
}

fn time(wall: i64) -> String {
    Timestamp::from_microsecond(wall).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
