//! Keepers on an API server that keeps one Lease, in paused time.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    kubernetes::fake::{Fake, failure},
    record::LogId,
};

const TERM: Duration = Duration::from_secs(15);

/// One Lease, and whether it can be reached.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    away: bool,
}

impl Server {
    fn fake(&self) -> Fake {
        let server = self.clone();
        Fake::new(move |seen| {
            let mut state = server.0.lock();
            if state.away {
                return failure(503, "ServiceUnavailable", "it is away");
            }
            match (seen.method.as_str(), state.lease.clone()) {
                ("GET" | "PUT", None) => failure(404, "NotFound", "there is none"),
                ("GET", Some(lease)) => (200, lease),
                ("PUT", Some(lease))
                    if lease["metadata"]["resourceVersion"] != seen.body["metadata"]["resourceVersion"] =>
                {
                    failure(409, "Conflict", "it has changed")
                }
                ("POST", Some(_)) => failure(409, "AlreadyExists", "it is there"),
                _ => {
                    state.version += 1;
                    let mut lease = seen.body.clone();
                    lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
                    lease["metadata"]["uid"] = json!("uid");
                    state.lease = Some(lease.clone());
                    (200, lease)
                }
            }
        })
    }

    /// The chart's Lease, which nobody has.
    fn with_lease() -> Self {
        let server = Self::default();
        server.0.lock().lease = Some(json!({"metadata": {"name": "signalbox", "resourceVersion": "0", "uid": "uid"}}));
        server
    }

    fn away(&self, away: bool) {
        self.0.lock().away = away;
    }

    fn lease(&self) -> Value {
        self.0.lock().lease.clone().expect("a Lease")
    }

    fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }
}

struct Running {
    authority: Authority,
    taken: oneshot::Receiver<Taken>,
    ended: tokio::task::JoinHandle<Result<(), Lost>>,
    stop: CancellationToken,
    waits: Arc<Mutex<Vec<String>>>,
}

fn start(server: &Server, log: &str, epoch: u64) -> Running {
    let name = "system/signalbox".parse().expect("a name");
    let claim = Claim { log: LogId(log.to_owned()), epoch };
    let (waits, stop) = (Arc::<Mutex<Vec<String>>>::default(), CancellationToken::new());
    let said = waits.clone();
    let (keeper, authority, taken) =
        Keeper::new(server.fake().client(), name, claim, TERM, move |what| said.lock().push(what));
    let ended = tokio::spawn(keeper.run(stop.clone()));
    Running { authority, taken, ended, stop, waits }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_log_acts_at_once_and_the_next_process_of_the_same_log_too() {
    let server = Server::with_lease();
    let begun = Instant::now();
    let mut first = start(&server, "a", 1);
    assert_eq!((&mut first.taken).await, Ok(Taken { uid: "uid".to_owned(), from: None }));
    assert!(first.authority.is_live());
    pass(60).await;
    assert!(first.authority.is_live(), "it is renewed");
    first.ended.abort();

    let since = Instant::now();
    let next = start(&server, "a", 2);
    assert_eq!(next.taken.await, Ok(Taken { uid: "uid".to_owned(), from: None }));
    assert_eq!((since.elapsed(), begun.elapsed()), (Duration::ZERO, Duration::from_secs(60)));
    assert_eq!(server.lease()["metadata"]["annotations"]["signalbox.dev/epoch"], "2");
}

#[tokio::test(start_paused = true)]
async fn another_log_waits_says_so_and_takes_over_when_the_lease_has_run_out() {
    let server = Server::with_lease();
    let first = start(&server, "a", 1);
    first.authority.live().await;
    let mut second = start(&server, "b", 1);
    pass(120).await;
    assert!(!second.authority.is_live() && first.authority.is_live());
    let said = second.waits.lock().clone();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("log a acts"), "{said:?}");

    first.ended.abort();
    let since = Instant::now();
    let taken = (&mut second.taken).await.expect("it takes over");
    let from = taken.from.expect("from another");
    assert_eq!((from.log.as_str(), from.own_ended), ("a", None));
    assert!(!first.authority.is_live(), "the first has stopped before");
    let waited = since.elapsed();
    assert!((Duration::from_secs(12)..Duration::from_secs(18)).contains(&waited), "{waited:?}");

    // The first log comes back, and knows until when it had acted.
    second.stop.cancel();
    assert_eq!(second.ended.await.expect("no panic"), Ok(()));
    let since = Instant::now();
    let back = start(&server, "a", 2).taken.await.expect("it takes over").from.expect("from another");
    assert_eq!(back.log, "b");
    assert!(back.own_ended.is_some());
    assert!(since.elapsed() < Duration::from_secs(3), "who has stopped is not waited for: {:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_acting_before_anybody_else_may_and_goes_on_when_he_can() {
    let server = Server::with_lease();
    let first = start(&server, "a", 1);
    first.authority.live().await;
    let doing = first.authority.during(std::future::pending::<()>());
    server.away(true);
    let since = Instant::now();
    assert_eq!(doing.await, None, "what is under way is dropped");
    let acted = since.elapsed();
    assert!((Duration::from_secs(6)..Duration::from_secs(11)).contains(&acted), "{acted:?}");
    pass(300).await;
    assert!(!first.authority.is_live());
    server.away(false);
    pass(2).await;
    assert!(first.authority.is_live(), "it heals by itself");
    assert_eq!(first.authority.during(async { 7 }).await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn who_was_displaced_while_he_was_cut_off_ends() {
    let server = Server::with_lease();
    let first = start(&server, "a", 1);
    first.authority.live().await;
    let mut other = server.lease();
    other["spec"]["holderIdentity"] = json!("b");
    other["metadata"]["resourceVersion"] = json!("99");
    server.0.lock().lease = Some(other);
    assert_eq!(first.ended.await.expect("no panic"), Err(Lost::ToLog("b".to_owned())));
    assert!(!first.authority.is_live());
    assert_eq!(server.holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_missing_is_made_when_nobody_can_act_by_it() {
    let server = Server::default();
    let since = Instant::now();
    let first = start(&server, "a", 1);
    first.authority.live().await;
    assert_eq!(since.elapsed(), TERM);
    assert!(first.waits.lock()[0].contains("it is missing"), "{:?}", first.waits.lock());

    server.0.lock().lease = None;
    pass(14).await;
    assert!(!first.authority.is_live() && server.0.lock().lease.is_none());
    pass(10).await;
    assert!(first.authority.is_live());
}

#[tokio::test(start_paused = true)]
async fn two_logs_that_want_it_at_the_same_time_do_not_both_get_it() {
    let server = Server::with_lease();
    let (first, second) = (start(&server, "a", 1), start(&server, "b", 1));
    pass(60).await;
    let live = [&first, &second].map(|one| one.authority.is_live());
    assert_eq!(live.iter().filter(|live| **live).count(), 1, "{live:?}");
}
