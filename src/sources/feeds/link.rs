//! How a feed is: what status says of it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{super::figures::Counted, pod_logs};
use crate::text::line;

/// How an EventSource that connects is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// No rule in force listens to the EventSource: it does not connect.
    Unasked,
    /// It does not try to connect: why.
    Idle(String),
    /// It is about to connect.
    Connecting,
    /// There is a connection: to whom, and what there is to know about it.
    Up(String),
    /// There is a connection, and not everything that is there comes over it: what, and what to do about it.
    Partial(String),
    /// There is a connection, and nothing comes over it that could be an event: why, and what that means.
    Mute(String),
    /// There is none, and it is tried again.
    Down(Down),
}

/// Why there is no connection, or why nothing comes over it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Down {
    /// What kind of reason it is.
    pub reason: DownReason,
    /// In words, one line: what was attempted, and what whoever was asked said.
    pub message: String,
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// Nobody answers there, or the connection broke.
    Unreachable,
    /// The credentials were not taken.
    Unauthenticated,
    /// There is no such thing as was asked for, or it may not be read.
    Refused,
    /// The account lacks a right in the cluster.
    Forbidden,
}

impl Down {
    /// Words of others may be part of `message`: it is cut, and made one line.
    pub(super) fn new(reason: DownReason, message: impl AsRef<str>) -> Self {
        Self { reason, message: line(message.as_ref()) }
    }

    pub(super) fn unreachable(message: impl AsRef<str>) -> Self {
        Self::new(DownReason::Unreachable, message)
    }

    pub(super) fn unauthenticated(message: impl AsRef<str>) -> Self {
        Self::new(DownReason::Unauthenticated, message)
    }

    pub(super) fn refused(message: impl AsRef<str>) -> Self {
        Self::new(DownReason::Refused, message)
    }
}

/// What all versions of an EventSource share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counted: Counted,
    /// There was a connection since this process started.
    connected: AtomicBool,
    link: Mutex<Link>,
    /// Since when a rule listens, where that began in this process.
    listened: Mutex<Listened>,
    pod_logs: pod_logs::Memory,
    /// Of which place everything was taken, in its order, up to where.
    #[cfg(feature = "redis")]
    mark: Mutex<Option<(String, (u64, u64))>>,
}

/// Whether a rule listens.
#[derive(Clone, Copy, Debug, Default)]
enum Listened {
    /// Since this process started, as far as is known.
    #[default]
    Always,
    /// Not now.
    Not,
    /// Since then.
    Since(Instant),
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            counted: Counted::default(),
            connected: AtomicBool::new(false),
            link: Mutex::new(Link::Connecting),
            listened: Mutex::default(),
            pod_logs: pod_logs::Memory::default(),
            #[cfg(feature = "redis")]
            mark: Mutex::default(),
        }
    }
}

impl Shared {
    pub(super) fn link(&self) -> Link {
        self.link.lock().clone()
    }

    /// Notes whether a rule listens now.
    pub(super) fn listen(&self, listens: bool) {
        let mut listened = self.listened.lock();
        match (listens, *listened) {
            (true, Listened::Not) => {
                *listened = Listened::Since(Instant::now());
                // A task that was told to end may have noted more since.
                self.pod_logs.forget();
            }
            (true, Listened::Always | Listened::Since(_)) => {}
            (false, _) => {
                *listened = Listened::Not;
                self.pod_logs.forget();
            }
        }
    }

    /// Since when a rule listens; nothing if one did when this process started.
    pub(super) fn listened(&self) -> Option<Instant> {
        match *self.listened.lock() {
            Listened::Since(since) => Some(since),
            Listened::Always | Listened::Not => None,
        }
    }

    /// What is remembered of the logs that are read.
    pub(super) fn pod_logs(&self) -> &pod_logs::Memory {
        &self.pod_logs
    }

    /// Up to where everything was taken of this place, since this process started; nothing while nobody knows.
    #[cfg(feature = "redis")]
    pub(super) fn mark(&self, place: &str) -> Option<(u64, u64)> {
        self.mark.lock().as_ref().filter(|(of, _)| of == place).map(|(_, mark)| *mark)
    }

    /// Everything was taken of this place up to here.
    #[cfg(feature = "redis")]
    pub(super) fn reached(&self, place: &str, to: (u64, u64)) {
        let to = self.mark(place).map_or(to, |mark| mark.max(to));
        *self.mark.lock() = Some((place.to_owned(), to));
    }

    /// The place counts from its beginning again: everything was taken up to here.
    #[cfg(feature = "redis")]
    pub(super) fn began_anew(&self, place: &str) {
        *self.mark.lock() = Some((place.to_owned(), (0, 0)));
    }

    /// Whether there was a connection since this process started.
    pub(super) fn was_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, link: Link) {
        match link {
            Link::Up(_) | Link::Partial(_) => self.connected.store(true, Ordering::Relaxed),
            // What was waiting there is not known any more.
            _ => self.counted.lag(None),
        }
        *self.link.lock() = link;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_one_line_and_not_long() {
        assert_eq!(Down::refused("no\r\n such\u{1b}[31m\tthing ").message, "no such [31m thing");
        assert_eq!(Down::refused("x".repeat(9_000)).message.chars().count(), 300);
    }
}
