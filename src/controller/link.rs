//! What status says of the connection of an EventSource.

use super::secrets::pending;
use crate::{
    api::{ConditionStatus, Reason},
    sources::feeds::{Down, DownReason, Link},
    status::{Finding, SourceLink},
};

const UNASKED: &str = "no rule in force refers to this EventSource: it connects when one does";

/// Whether there is a connection, and whether the credentials were taken.
pub(super) fn findings(link: &Link) -> SourceLink {
    let unknown = |why: &str| (ConditionStatus::Unknown, Reason::Pending, why.to_owned());
    match link {
        Link::Unasked => SourceLink {
            connected: (ConditionStatus::Unknown, Reason::NotAskedFor, UNASKED.to_owned()),
            authenticated: unknown("it is known when there is a connection"),
        },
        Link::Idle(why) => {
            SourceLink { connected: unknown(why), authenticated: unknown("it is known when there is a connection") }
        }
        Link::Connecting => SourceLink {
            connected: (ConditionStatus::Unknown, Reason::Connecting, "the connection is being made".to_owned()),
            authenticated: unknown("it is known when there is a connection"),
        },
        Link::Up(to) => SourceLink {
            connected: (ConditionStatus::True, Reason::Connected, to.clone()),
            authenticated: (ConditionStatus::True, Reason::Connected, "the credentials were taken".to_owned()),
        },
        Link::Partial(what) => SourceLink {
            connected: (ConditionStatus::True, Reason::MayHaveLostEvents, what.clone()),
            authenticated: (ConditionStatus::True, Reason::Connected, "the credentials were taken".to_owned()),
        },
        Link::Mute(why) => SourceLink {
            connected: (ConditionStatus::False, Reason::NoData, why.clone()),
            authenticated: (ConditionStatus::True, Reason::Connected, "the credentials were taken".to_owned()),
        },
        Link::Down(Down { reason, message }) => {
            let again = format!("{message}; it is tried again");
            let down = |reason| (ConditionStatus::False, reason, again.clone());
            match reason {
                DownReason::Forbidden => SourceLink {
                    connected: down(Reason::RightMissing),
                    authenticated: unknown("it is known when there is a connection"),
                },
                DownReason::Unreachable => SourceLink {
                    connected: down(Reason::Unreachable),
                    authenticated: unknown("it is known when there is a connection"),
                },
                DownReason::Unauthenticated => SourceLink {
                    connected: down(Reason::Unauthenticated),
                    authenticated: down(Reason::Unauthenticated),
                },
                DownReason::Refused => SourceLink {
                    connected: down(Reason::Refused),
                    authenticated: unknown("what is asked for is refused"),
                },
            }
        }
    }
}

/// Whether events are taken, by what is known of the account and its Secrets and of the connection.
pub(super) fn summary(ready: Finding, link: &SourceLink) -> Finding {
    match (ready.0, link.connected.0) {
        (ConditionStatus::True, ConditionStatus::False) => link.connected.clone(),
        // It works, and somebody should know.
        (ConditionStatus::True, ConditionStatus::True) if link.connected.1 == Reason::MayHaveLostEvents => {
            link.connected.clone()
        }
        // It waits for a rule: nothing is wrong with it.
        (ConditionStatus::True, ConditionStatus::Unknown) if link.connected.1 == Reason::NotAskedFor => {
            (ready.0, ready.1, link.connected.2.clone())
        }
        (ConditionStatus::True, ConditionStatus::Unknown) => pending(&link.connected.2),
        _ => ready,
    }
}
