//! The task of one EventSource that connects: reads its Secrets, connects, and begins again when the connection breaks or a Secret changes.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    feed::{Feed, Net},
    kind,
    link::{Down, DownReason, Link, Shared},
};
use crate::{
    api::{EventSourceSpec, Reason, SecretKeyRef},
    kubernetes::{Authority, Cluster, SecretError},
    poison,
    record::Account,
    sinks::Secrets,
    sources::{accept::Accept, watch::Backoff},
};

/// Secrets are read again after so long. With the 30 s for which [`Cluster::secret`] keeps them, a change is known after 50 s.
const REREAD: Duration = Duration::from_secs(20);
/// The same while some could not be read, and while the credentials are not taken.
const RETRY: Duration = Duration::from_secs(5);
/// How long reading the Secrets of one EventSource may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that has lasted so long was a good one: the next attempt follows soon.
const CALM: Duration = Duration::from_secs(60);

/// One version of an EventSource that connects.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) account: Account,
    pub(super) spec: Arc<EventSourceSpec>,
    pub(super) shared: Arc<Shared>,
}

/// What all tasks work with.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) cluster: Cluster,
    pub(super) authority: Authority,
    pub(super) accept: Accept,
    pub(super) net: Arc<Net>,
}

/// Why there are not all Secrets.
enum Trouble {
    /// The API server could not be asked.
    Away(String),
    /// The account may not be used, or may read none, or there is none.
    Missing(String),
}

/// Works until it is dropped.
///
/// # Cancel safety
/// Dropped, the connection ends, and what was not acknowledged comes again.
pub(super) async fn keep(version: Version, tools: Tools) {
    let (keys, shared, mut backoff) = (version.spec.secrets(), Arc::clone(&version.shared), Backoff::feed());
    loop {
        let secrets = match read(&tools.cluster, &version.account, &keys).await {
            Ok(secrets) => secrets,
            Err(trouble) => {
                let (Trouble::Away(why) | Trouble::Missing(why)) = trouble;
                shared.set(Link::Idle(why));
                sleep(RETRY).await;
                continue;
            }
        };
        if !tools.authority.is_live() {
            shared.set(Link::Idle("another log has the Lease: this process does not take events now".to_owned()));
            tools.authority.live().await;
        }
        shared.set(Link::Connecting);
        let (feed, began) = (feed(&version, &tools, secrets), Instant::now());
        let ended = tokio::select! {
            ended = tools.authority.during(poison::caught_in(kind::run(&version.spec, &feed))) => ended,
            () = changed(&tools.cluster, &version.account, &keys, &feed.secrets, REREAD) => {
                tracing::info!(source = %version.name, namespace = %version.namespace, "a Secret has changed: connecting again");
                backoff.reset();
                continue;
            }
        };
        let down = match ended {
            // The Lease is gone: waits for it.
            None => continue,
            Some(Ok(down)) => Down { message: feed.secrets.redact(&down.message), ..down },
            Some(Err(poisoned)) => Down::refused(poisoned.to_string()),
        };
        tracing::warn!(source = %version.name, namespace = %version.namespace, error = %down, "an EventSource is not connected");
        if down.reason == DownReason::Unauthenticated {
            // It may have been changed a moment ago.
            keys.iter().for_each(|key| tools.cluster.forget_secret(&version.namespace, &key.name));
        }
        // A right is granted in a moment: nobody is troubled by being asked for it.
        let pause = if down.reason == DownReason::Forbidden { Some(RETRY) } else { None };
        shared.set(Link::Down(down));
        if began.elapsed() >= CALM {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(pause.unwrap_or_else(|| backoff.next())) => {}
            () = changed(&tools.cluster, &version.account, &keys, &feed.secrets, RETRY) => backoff.reset(),
        }
    }
}

fn feed(version: &Version, tools: &Tools, secrets: Secrets) -> Feed {
    Feed {
        namespace: version.namespace.clone(),
        name: version.name.clone(),
        uid: version.uid.clone(),
        kind: version.spec.kind().map_or("none", |kind| kind.name()),
        spec: Arc::clone(&version.spec),
        cluster: tools.cluster.clone(),
        account: version.account.clone(),
        secrets,
        accept: tools.accept.clone(),
        net: Arc::clone(&tools.net),
        shared: Arc::clone(&version.shared),
    }
}

/// All Secrets.
async fn read(cluster: &Cluster, account: &Account, keys: &[SecretKeyRef]) -> Result<Secrets, Trouble> {
    let reading = async {
        cluster.usable(account).await.map_err(|error| match error.reason() {
            Reason::Pending => Trouble::Away(error.to_string()),
            _ => Trouble::Missing(error.to_string()),
        })?;
        let mut secrets = Secrets::default();
        for key in keys {
            match cluster.secret_key(account, key).await {
                Ok(value) => secrets.insert(key.clone(), &value),
                Err(error @ SecretError::Other { .. }) => return Err(Trouble::Away(error.to_string())),
                Err(error) => {
                    return Err(Trouble::Missing(error.missing(key).unwrap_or_else(|| error.to_string())));
                }
            }
        }
        Ok(secrets)
    };
    let read = timeout(PATIENCE, reading).await;
    read.unwrap_or_else(|_| Err(Trouble::Away("the API server did not answer in time".to_owned())))
}

/// Waits until a Secret has another value, or is gone. While the API server is away what was read counts.
async fn changed(cluster: &Cluster, account: &Account, keys: &[SecretKeyRef], known: &Secrets, every: Duration) {
    loop {
        sleep(every).await;
        match read(cluster, account, keys).await {
            Ok(secrets) if secrets == *known => {}
            Err(Trouble::Away(_)) => {}
            Ok(_) | Err(Trouble::Missing(_)) => return,
        }
    }
}
