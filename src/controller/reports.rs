//! What the supervisor of sources tells about a rule, as status.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ConditionStatus, Reason},
    kubernetes::{MissingRight, merged},
    sources::{Listening, SourceReport},
    status::{Finding, Part, StatusQueue},
    text,
};

/// Takes reports until `shutdown`. Never waits for anybody, as the supervisor asks for.
pub async fn relay(mut reports: mpsc::Receiver<SourceReport>, status: StatusQueue, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            report = reports.recv() => match report {
                Some(report) => publish(&status, report),
                None => return,
            }
        }
    }
}

fn publish(status: &StatusQueue, report: SourceReport) {
    let listening = listening(report.listening, &report.notices);
    let authorized = authorized(&report.authorized);
    status.publish(&report.rule, Part::Sources { generation: report.generation, listening, authorized });
}

fn listening(listening: Listening, notices: &[String]) -> Finding {
    match listening {
        Listening::Established if !notices.is_empty() => {
            let message = format!("events of all sources arrive; {}", text::join(notices));
            (ConditionStatus::True, Reason::MayHaveLostEvents, message)
        }
        Listening::Established => {
            (ConditionStatus::True, Reason::WatchEstablished, "events of all sources arrive".to_owned())
        }
        Listening::Starting => {
            (ConditionStatus::Unknown, Reason::WatchStarting, "watches are being established".to_owned())
        }
        Listening::Failed { message } => (ConditionStatus::False, Reason::WatchFailed, message),
        Listening::EventSourceNotReady { message } => (ConditionStatus::False, Reason::EventSourceNotReady, message),
        Listening::EventSourceNotFound { message } => (ConditionStatus::False, Reason::EventSourceNotFound, message),
        Listening::KindNotFound { message } => (ConditionStatus::False, Reason::KindNotFound, message),
    }
}

fn authorized(authorized: &Result<(), Vec<MissingRight>>) -> Finding {
    match authorized {
        Ok(()) => {
            (ConditionStatus::True, Reason::RightsGranted, "the account may see what the sources look at".to_owned())
        }
        Err(missing) => (ConditionStatus::False, Reason::RightMissing, text::join(merged(missing.iter().cloned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kubernetes::Right, record::Account};

    #[test]
    fn every_missing_right_is_in_the_message() {
        let account = Account { namespace: "shop".into(), name: "weak".into() };
        let right = |resource| Right::new("list,watch", "", resource).within(Some("shop")).missing_for(&account);
        let (status, reason, message) = authorized(&Err(vec![right("events"), right("pods")]));
        assert_eq!((status, reason), (ConditionStatus::False, Reason::RightMissing));
        assert!(message.contains("--resource=events") && message.contains("--resource=pods"), "{message}");
    }

    #[test]
    fn listening_fails_only_when_somebody_must_do_something() {
        let status = |one| listening(one, &[]).0;
        assert_eq!(status(Listening::Starting), ConditionStatus::Unknown);
        assert_eq!(status(Listening::Established), ConditionStatus::True);
        assert_eq!(status(Listening::KindNotFound { message: String::new() }), ConditionStatus::False);
        assert_eq!(status(Listening::EventSourceNotReady { message: String::new() }), ConditionStatus::False);
        assert_eq!(status(Listening::EventSourceNotFound { message: String::new() }), ConditionStatus::False);
        assert_eq!(status(Listening::Failed { message: String::new() }), ConditionStatus::False);
    }

    #[test]
    fn what_may_have_been_missed_is_told_while_all_is_well() {
        let notices = ["watch a may have lost events".to_owned()];
        let (status, reason, message) = listening(Listening::Established, &notices);
        assert_eq!((status, reason), (ConditionStatus::True, Reason::MayHaveLostEvents));
        assert_eq!(message, "events of all sources arrive; watch a may have lost events");
        let failed = Listening::Failed { message: "down".to_owned() };
        assert_eq!(listening(failed, &notices).2, "down");
    }
}
