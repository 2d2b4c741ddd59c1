//! When the shard has to ask for a record, so that what is due is judged though nothing happens.

use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Entry, Record};

/// What the loop knows of the time on the line of stamps: that of the last record, and how long ago it was read. It is never ahead of the log's
/// own clock, so what is due by it is due by the stamp of the record that is asked for.
#[derive(Debug, Default)]
pub struct Ticks {
    heard: Option<(i64, Instant)>,
    /// What a record was asked for that was not read yet.
    asked: Option<i64>,
}

impl Ticks {
    /// A record was read.
    pub(super) fn hear(&mut self, entry: &Entry) {
        self.heard = Some((entry.head.stamp.at, Instant::now()));
        if matches!(*entry.record, Record::Tick) {
            self.asked = None;
        }
    }

    /// How long until a record has to be asked for, when this is due next; nothing while there is none or one is on its way.
    pub(super) fn wait(&self, next: Option<i64>) -> Option<Duration> {
        let next = next.filter(|next| self.asked.is_none_or(|asked| *next < asked))?;
        let (at, read) = self.heard?;
        let elapsed = i64::try_from(read.elapsed().as_micros()).unwrap_or(i64::MAX);
        let left = next.saturating_sub(at.saturating_add(elapsed)).max(0);
        Some(Duration::from_micros(left.unsigned_abs()))
    }

    /// A record is asked for, because of what is due then.
    pub(super) fn ask(&mut self, next: i64) {
        self.asked = Some(next);
    }
}

/// Resolves after so long; never without.
///
/// # Cancel safety
/// Can be dropped and called again.
pub(super) async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
