//! What status is to say of how the logs are read.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::RateLimit;

/// How long it is told that lines may be lost.
const LOST: Duration = Duration::from_mins(10);
/// How long after the last line beyond the limit that is told.
const LIMITED: Duration = Duration::from_mins(1);

/// What has happened that somebody should know.
#[derive(Debug, Default)]
pub(super) struct Notes {
    limited: Option<Instant>,
    lost: Option<(Instant, String)>,
}

/// How many are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// Pods that are selected.
    pub(super) pods: usize,
    /// Logs that are read.
    pub(super) reading: usize,
    /// There are more than may be read at once.
    pub(super) more: bool,
}

/// What is said, and whether everything is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    All(String),
    Incomplete(String),
}

impl Notes {
    /// A line was left out.
    pub(super) fn limited(&mut self, now: Instant) {
        self.limited = Some(now);
    }

    /// Lines of a container, `pod/container`, may be lost.
    pub(super) fn lost(&mut self, container: &str, why: &str, now: Instant) {
        self.lost = Some((now, format!("lines of {container} may be lost: {why}")));
    }

    /// What there is to say. Numbers that change all the time are no part of it: status is written when it changes.
    pub(super) fn words(&self, state: Now, limit: RateLimit, now: Instant) -> Words {
        let base = match state {
            Now { pods: 0, .. } => "the selector matches no Pod now: one that comes is followed",
            Now { reading: 0, .. } => "no container of the Pods that the selector matches has lines to be read now",
            Now { .. } => "follows the logs of the Pods that the selector matches",
        };
        let RateLimit { events, per } = limit;
        let recent = |at: &Instant, time: Duration| now.saturating_duration_since(*at) < time;
        let limited = self.limited.filter(|at| recent(at, LIMITED)).map(|_| {
            format!(
                "more than {events} lines in {per} match: those beyond are left out, and counted under rejected.rateLimited; narrow the pattern or raise rateLimit"
            )
        });
        let more = state.more.then(|| {
            "there are more containers than are followed at once (100 of one source, 500 of all): narrow the selector or set containers".to_owned()
        });
        let lost = self.lost.as_ref().filter(|(at, _)| recent(at, LOST)).map(|(_, words)| words.clone());
        let notes: Vec<String> = [limited, more, lost].into_iter().flatten().collect();
        match notes.is_empty() {
            true => Words::All(base.to_owned()),
            false => Words::Incomplete([vec![base.to_owned()], notes].concat().join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(notes: &Notes, state: Now) -> Words {
        let limit = RateLimit { events: 5, per: "1s".parse().expect("a duration") };
        notes.words(state, limit, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_told_and_not_for_ever() {
        let (mut notes, state) = (Notes::default(), Now { pods: 1, reading: 1, more: false });
        assert!(matches!(said(&notes, state), Words::All(words) if words.starts_with("follows")));
        notes.limited(Instant::now());
        notes.lost("web-1/app", "it was rotated", Instant::now());
        let Words::Incomplete(words) = said(&notes, Now { more: true, ..state }) else { panic!("it is told") };
        for part in ["more than 5 lines in 1s match", "100 of one source", "web-1/app may be lost: it was rotated"] {
            assert!(words.contains(part), "{words}");
        }
        tokio::time::advance(LIMITED).await;
        assert!(matches!(said(&notes, state), Words::Incomplete(words) if !words.contains("rateLimit")));
        tokio::time::advance(LOST).await;
        assert!(matches!(said(&notes, state), Words::All(_)));
        assert!(matches!(said(&notes, Now { pods: 0, ..state }), Words::All(words) if words.contains("no Pod")));
        assert!(
            matches!(said(&notes, Now { reading: 0, ..state }), Words::All(words) if words.contains("no container"))
        );
    }
}
