//! What a Lease says, and what a log makes of it: pure, the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};

use crate::record::LogId;

/// Annotation with the epoch of the process that acts.
const EPOCH: &str = "signalbox.dev/epoch";
/// Annotation with the logs that others took over from, and when their leases had ended: JSON.
const DISPLACED: &str = "signalbox.dev/displaced";
/// How many displaced logs are remembered: each is a volume that was lost and may come back.
const REMEMBERED: usize = 8;

/// Who wants to act: a log, and the process that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The log.
    pub log: LogId,
    /// One more than that of the process which had the log before.
    pub epoch: u64,
}

/// Whether the process has the Lease as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Waiting,
    Holding,
}

/// What to do about what was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Make the Lease: it has been missing for long enough that nobody acts by it.
    Make,
    /// Write the claim into it.
    Take,
    /// The same, in the place of another log.
    TakeFrom(String),
    /// Look again when it has stayed the same for so long; who has it, if anybody.
    Wait(Duration, Option<String>),
    /// Never act again.
    Lost(Lost),
}

/// Why a process may not act any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another log took over when this one had not renewed the Lease in time.
    #[error("log {0} has taken over: this process must not act any more")]
    ToLog(String),
    /// Another process has the same log.
    #[error("a later process has this log, with epoch {0}: this one must not act any more")]
    ToEpoch(u64),
}

/// What to do about the Lease that was found, or about none, which has stayed so for `unchanged`.
/// `duration`: for how long a holder is left alone when the Lease does not say so.
pub(super) fn decide(
    claim: &Claim,
    stand: Stand,
    found: Option<&Lease>,
    unchanged: Duration,
    duration: Duration,
) -> Verdict {
    let Some(lease) = found else {
        let left = duration.saturating_sub(unchanged);
        return if left.is_zero() { Verdict::Make } else { Verdict::Wait(left, None) };
    };
    let Some(holder) = holder(lease) else { return Verdict::Take };
    let (own, epoch) = (holder == claim.log.0, epoch(lease));
    if own && epoch <= claim.epoch {
        return Verdict::Take;
    }
    // The same log with a later epoch is another one as well: a copy, or the one that this was set back from.
    let left = term(lease).unwrap_or(duration).saturating_sub(unchanged);
    match stand {
        Stand::Holding if own => Verdict::Lost(Lost::ToEpoch(epoch)),
        Stand::Holding => Verdict::Lost(Lost::ToLog(holder.to_owned())),
        Stand::Waiting if left.is_zero() => Verdict::TakeFrom(holder.to_owned()),
        Stand::Waiting => Verdict::Wait(left, Some(holder.to_owned())),
    }
}

/// When the lease of this log had ended, if another has acted since.
pub(super) fn displaced_at(lease: &Lease, log: &LogId) -> Option<Timestamp> {
    displaced(lease).get(&log.0).copied()
}

/// The Lease as the claim wants it to be, from now on for `duration`.
pub(super) fn claimed(lease: &Lease, claim: &Claim, now: Timestamp, duration: Duration) -> Lease {
    let mut lease = lease.clone();
    let mut gone = displaced(&lease);
    let before = holder(&lease).map(str::to_owned);
    if let Some(other) = before.as_deref().filter(|other| *other != claim.log.0) {
        gone.insert(other.to_owned(), ended(&lease).unwrap_or(now));
    }
    let own = before.as_deref() == Some(claim.log.0.as_str());
    gone.remove(&claim.log.0);
    while gone.len() > REMEMBERED {
        let oldest = gone.iter().min_by_key(|(_, ended)| **ended).map(|(log, _)| log.clone());
        oldest.and_then(|log| gone.remove(&log));
    }
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(EPOCH.to_owned(), claim.epoch.to_string());
    match serde_json::to_string(&gone) {
        Ok(text) if !gone.is_empty() => drop(annotations.insert(DISPLACED.to_owned(), text)),
        _ => drop(annotations.remove(DISPLACED)),
    }
    let spec = lease.spec.get_or_insert_default();
    if !own {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
    }
    spec.holder_identity = Some(claim.log.0.clone());
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(now));
    lease
}

fn spec(lease: &Lease) -> Option<&LeaseSpec> {
    lease.spec.as_ref()
}

fn holder(lease: &Lease) -> Option<&str> {
    spec(lease)?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn term(lease: &Lease) -> Option<Duration> {
    let seconds = spec(lease)?.lease_duration_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// When nobody may have acted by it any more, on the holder's own clock.
fn ended(lease: &Lease) -> Option<Timestamp> {
    let renewed = spec(lease)?.renew_time.as_ref()?.0;
    let term = SignedDuration::try_from(term(lease)?).ok()?;
    renewed.saturating_add(term).ok()
}

fn annotation<'a>(lease: &'a Lease, name: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn epoch(lease: &Lease) -> u64 {
    annotation(lease, EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}

fn displaced(lease: &Lease) -> BTreeMap<String, Timestamp> {
    annotation(lease, DISPLACED).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(15);
    const ZERO: Duration = Duration::ZERO;

    fn claim(log: &str, epoch: u64) -> Claim {
        Claim { log: LogId(log.to_owned()), epoch }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn held(log: &str, epoch: u64) -> Lease {
        claimed(&Lease::default(), &claim(log, epoch), at(0), TERM)
    }

    fn verdict(claim: &Claim, stand: Stand, found: Option<&Lease>, unchanged: Duration) -> Verdict {
        decide(claim, stand, found, unchanged, TERM)
    }

    #[test]
    fn a_lease_that_nobody_has_and_one_of_the_same_log_are_taken_at_once() {
        let me = claim("a", 2);
        for lease in [Lease::default(), held("", 0), held("a", 1), held("a", 2)] {
            assert_eq!(verdict(&me, Stand::Waiting, Some(&lease), ZERO), Verdict::Take, "{lease:?}");
        }
    }

    #[test]
    fn another_log_is_waited_for_until_its_lease_has_stayed_the_same_for_its_whole_time() {
        let (me, other) = (claim("b", 1), held("a", 7));
        let wait = |left, holder: Option<&str>| Verdict::Wait(Duration::from_secs(left), holder.map(str::to_owned));
        assert_eq!(verdict(&me, Stand::Waiting, Some(&other), ZERO), wait(15, Some("a")));
        assert_eq!(verdict(&me, Stand::Waiting, Some(&other), Duration::from_secs(14)), wait(1, Some("a")));
        assert_eq!(verdict(&me, Stand::Waiting, Some(&other), TERM), Verdict::TakeFrom("a".to_owned()));
        let brief = claimed(&other, &claim("a", 7), at(1), Duration::from_secs(1));
        assert_eq!(
            decide(&me, Stand::Waiting, Some(&brief), Duration::from_secs(1), TERM),
            Verdict::TakeFrom("a".to_owned())
        );
        assert_eq!(verdict(&me, Stand::Waiting, None, Duration::from_secs(14)), wait(1, None));
        assert_eq!(verdict(&me, Stand::Waiting, None, TERM), Verdict::Make, "nobody acts by what is not there");
    }

    #[test]
    fn who_was_displaced_never_acts_again() {
        let me = claim("a", 2);
        assert_eq!(verdict(&me, Stand::Holding, Some(&held("b", 1)), TERM), Verdict::Lost(Lost::ToLog("b".to_owned())));
        assert_eq!(verdict(&me, Stand::Holding, Some(&held("a", 3)), ZERO), Verdict::Lost(Lost::ToEpoch(3)));
        assert_eq!(verdict(&me, Stand::Holding, Some(&held("a", 1)), ZERO), Verdict::Take, "somebody set it back");
    }

    #[test]
    fn a_log_that_was_set_back_waits_as_for_another() {
        let (me, later) = (claim("a", 2), held("a", 3));
        assert_eq!(verdict(&me, Stand::Waiting, Some(&later), ZERO), Verdict::Wait(TERM, Some("a".to_owned())));
        assert_eq!(verdict(&me, Stand::Waiting, Some(&later), TERM), Verdict::TakeFrom("a".to_owned()));
    }

    #[test]
    fn a_renewal_moves_its_time_only_and_a_take_over_keeps_when_the_other_had_ended() {
        let (first, second) = (claim("a", 1), claim("b", 1));
        let taken = held("a", 1);
        let renewed = claimed(&taken, &first, at(9), TERM);
        let spec = renewed.spec.clone().expect("a spec");
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(MicroTime(at(0))), Some(MicroTime(at(9)))));
        assert_eq!((spec.lease_transitions, displaced_at(&renewed, &first.log)), (Some(0), None));

        let other = claimed(&renewed, &second, at(50), TERM);
        let spec = other.spec.clone().expect("a spec");
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(1), Some(MicroTime(at(50)))));
        assert_eq!(displaced_at(&other, &first.log), Some(at(9 + 15)));
        let third = claimed(&other, &claim("c", 1), at(100), TERM);
        assert_eq!(displaced_at(&third, &first.log), Some(at(9 + 15)), "it is remembered across others");
        let back = claimed(&third, &claim("a", 2), at(200), TERM);
        assert_eq!((displaced_at(&back, &first.log), displaced_at(&back, &second.log)), (None, Some(at(65))));
    }

    #[test]
    fn the_oldest_of_many_displaced_logs_are_forgotten() {
        let mut lease = Lease::default();
        for number in 0..20 {
            lease = claimed(&lease, &claim(&format!("log-{number}"), 1), at(number * 100), TERM);
        }
        assert_eq!(displaced(&lease).len(), REMEMBERED);
        assert_eq!(displaced_at(&lease, &LogId("log-18".to_owned())), Some(at(1815)));
        assert_eq!(displaced_at(&lease, &LogId("log-3".to_owned())), None);
    }
}
