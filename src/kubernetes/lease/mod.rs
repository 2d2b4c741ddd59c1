//! The Lease by which one log at a time acts: its holder is the log's identity, not a pod's, so that the next pod on the same volume acts at once.
//!
//! A holder that has not renewed it stops acting when two thirds of its time are over, on its own clock; another log takes over when the Lease
//! has stayed the same for the whole of it, on its own. So no two clocks are compared, and a third of the time is what their rates, and a
//! request under way, may make out.

mod authority;
mod claim;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

pub use authority::Authority;
pub use claim::{Claim, Lost};
use claim::{Stand, Verdict, claimed, decide, displaced_at};

use crate::config::ObjectName;

/// How often in its time the Lease is renewed, or looked at.
const TURNS: u32 = 5;
/// What a process that stops leaves to its Lease, so that another log need not wait long.
const PARTING: Duration = Duration::from_secs(1);
/// How long the end may be held up by that.
const FAREWELL: Duration = Duration::from_secs(1);
/// The shortest wait between two looks at it.
const WINK: Duration = Duration::from_millis(20);

/// How a process came by the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// `metadata.uid` of the Lease.
    pub uid: String,
    /// Set when another log has acted since this one did, or before it.
    pub from: Option<Displaced>,
}

/// The log that acted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// That log.
    pub log: String,
    /// When this log's own lease had ended, on its clock; nothing when it never had one that is remembered.
    pub own_ended: Option<Timestamp>,
}

/// Takes the Lease and keeps it.
pub struct Keeper {
    api: Api<Lease>,
    name: ObjectName,
    claim: Claim,
    duration: Duration,
    authority: Authority,
    taken: Option<oneshot::Sender<Taken>>,
    waits: Box<dyn Fn(String) + Send + Sync>,
    /// The Lease as it was when last read or written.
    known: Option<Lease>,
    /// Its version, or that there is none, and since when it is the same.
    seen: Option<(Option<String>, Instant)>,
    /// What is waited for, to say it once.
    said: Option<String>,
}

/// What a turn came to.
enum Turn {
    Renewed,
    Wait(Duration),
}

impl Keeper {
    /// A keeper that has not begun; the gate that it opens; and how the Lease was taken, once it is. `waits` is told what is waited for.
    pub fn new(
        client: Client,
        name: ObjectName,
        claim: Claim,
        duration: Duration,
        waits: impl Fn(String) + Send + Sync + 'static,
    ) -> (Self, Authority, oneshot::Receiver<Taken>) {
        let (taken, how) = oneshot::channel();
        let authority = Authority::shut();
        let keeper = Self {
            api: Api::namespaced(client, &name.namespace),
            name,
            claim,
            duration,
            authority: authority.clone(),
            taken: Some(taken),
            waits: Box::new(waits),
            known: None,
            seen: None,
            said: None,
        };
        (keeper, authority, how)
    }

    /// Takes the Lease as soon as it may, renews it until told to stop, then lets another log have it soon.
    ///
    /// # Errors
    /// When the Lease was lost: the process must end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Lost> {
        let (each, failing) = (self.duration / TURNS, self.duration / TURNS / 3);
        loop {
            let began = Instant::now();
            let pause = match tokio::time::timeout(each, self.turn()).await {
                Ok(Ok(Turn::Renewed)) => each,
                Ok(Ok(Turn::Wait(left))) => left.clamp(WINK, each),
                Ok(Err(Failed::Lost(lost))) => {
                    self.authority.revoke();
                    return Err(lost);
                }
                // Somebody else has written it: who, is seen at once.
                Ok(Err(Failed::Api(kube::Error::Api(status)))) if status.code == 409 => WINK,
                Ok(Err(Failed::Api(error))) => self.failed(&error.to_string(), failing),
                Err(_) => self.failed("no answer", failing),
            };
            if stop.run_until_cancelled(tokio::time::sleep_until(began + pause)).await.is_none() {
                break;
            }
        }
        self.part().await;
        Ok(())
    }

    fn holding(&self) -> Stand {
        if self.taken.is_none() { Stand::Holding } else { Stand::Waiting }
    }

    /// The next turn looks first: what was asked may have been carried out.
    fn failed(&mut self, error: &str, pause: Duration) -> Duration {
        self.known = None;
        let acting = self.authority.is_live();
        tracing::warn!(lease = %self.name, error, acting, "the Lease cannot be renewed");
        (self.waits)(format!("waiting for the Lease {}: {error}", self.name));
        self.said = None;
        pause
    }

    /// One renewal; with a look before it unless the Lease is known.
    async fn turn(&mut self) -> Result<Turn, Failed> {
        let known = self.known.take().filter(|_| self.holding() == Stand::Holding);
        let found = match known {
            Some(lease) => Some(lease),
            None => self.look().await?,
        };
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let verdict = decide(&self.claim, self.holding(), found.as_ref(), unchanged, self.duration);
        let from = match verdict {
            Verdict::Lost(lost) => return Err(lost.into()),
            Verdict::Wait(left, holder) => {
                self.wait(holder.as_deref());
                return Ok(Turn::Wait(left));
            }
            Verdict::Make | Verdict::Take => None,
            Verdict::TakeFrom(log) => Some(log),
        };
        let lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let own_ended = displaced_at(&lease, &self.claim.log);
        self.write(&lease).await?;
        let from = from.map(|log| Displaced { log, own_ended });
        if let Some(taken) = self.taken.take() {
            let uid = self.known.as_ref().and_then(|lease| lease.uid()).unwrap_or_default();
            tracing::info!(lease = %self.name, log = %self.claim.log.0, epoch = self.claim.epoch, "this log acts");
            let _ = taken.send(Taken { uid, from });
        }
        Ok(Turn::Renewed)
    }

    async fn look(&mut self) -> Result<Option<Lease>, Failed> {
        let found = self.api.get_opt(&self.name.name).await?;
        let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, Instant::now()));
        }
        Ok(found)
    }

    /// Writes the claim: refused when somebody else has written meanwhile, then it is looked at again at once.
    async fn write(&mut self, lease: &Lease) -> Result<(), Failed> {
        let began = Instant::now();
        let wanted = claimed(lease, &self.claim, Timestamp::now(), self.duration);
        let written = if lease.metadata.resource_version.is_some() {
            self.api.replace(&self.name.name, &PostParams::default(), &wanted).await?
        } else {
            self.api.create(&PostParams::default(), &wanted).await?
        };
        self.authority.grant(began, self.duration * 2 / 3);
        self.seen = Some((written.metadata.resource_version.clone(), Instant::now()));
        self.known = Some(written);
        Ok(())
    }

    fn wait(&mut self, holder: Option<&str>) {
        let lease = &self.name;
        let why = match holder {
            Some(log) => {
                format!("waiting for the Lease {lease}: log {log} acts by it, on another volume than this one")
            }
            None => {
                format!("waiting for the Lease {lease}: it is missing, and is made when nobody can act by it any more")
            }
        };
        if self.said.as_deref() != Some(&why) {
            tracing::warn!(%lease, log = %self.claim.log.0, holder, "waiting for the Lease");
            (self.waits)(why.clone());
            self.said = Some(why);
        }
    }

    /// Leaves the Lease to whoever wants it soon. The holder stays: the same log takes it at once, another one must know whose place it takes.
    async fn part(&mut self) {
        self.authority.revoke();
        let Some(lease) = self.known.take().filter(|_| self.holding() == Stand::Holding) else { return };
        let wanted = claimed(&lease, &self.claim, Timestamp::now(), PARTING);
        let params = PostParams::default();
        let parting = self.api.replace(&self.name.name, &params, &wanted);
        match tokio::time::timeout(FAREWELL, parting).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the Lease runs out by itself"),
            Err(_) => tracing::debug!("the Lease runs out by itself: no answer"),
        }
    }
}

/// Why a turn came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Lost(#[from] Lost),
}
