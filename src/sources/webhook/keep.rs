//! What goes on beside the requests: Secrets are read again and again, ids that are old or of sources that are gone are forgotten.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Hook, Hooks,
    hook::{Reading, Webhook},
    verify::flaw,
};
use crate::{
    api::Reason,
    bus::BusError,
    kubernetes::{Cluster, SecretError},
    sinks::Secrets,
};

/// Secrets are read again after so long. With the 30 s for which [`Cluster::secret`] keeps them, a change is known after 50 s.
const REREAD: Duration = Duration::from_secs(20);
/// The same while some could not be read.
const RETRY: Duration = Duration::from_secs(5);
/// How long the Secrets of one EventSource may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// EventSources whose Secrets are read at the same time.
const AT_ONCE: usize = 8;

/// Why an EventSource has not all its Secrets.
enum Trouble {
    /// The API server could not be asked: what was read before stays.
    Away(String),
    /// Its account may not be used, or may read none: what was read before counts no more.
    Refused(String),
}

impl Hooks {
    /// Works until it is told to stop. `known` gives namespace and uid of all EventSources that exist, of whichever kind; nothing before all are known:
    /// then none is taken for gone.
    ///
    /// # Errors
    /// When the log takes nothing any more.
    pub async fn keep(
        &self,
        cluster: Cluster,
        known: impl Fn() -> Option<HashSet<(String, String)>> + Send,
        stop: CancellationToken,
    ) -> Result<(), BusError> {
        let work = async {
            loop {
                let due = self.all().into_iter().filter(|hook| hook.due() <= Instant::now());
                stream::iter(due).for_each_concurrent(AT_ONCE, |hook| read(&cluster, hook)).await;
                self.0.accept.forget(&known).await?;
                let next = self.all().iter().map(|hook| hook.due()).min();
                let next = next.unwrap_or_else(|| Instant::now() + REREAD);
                let changed =
                    timeout(next.saturating_duration_since(Instant::now()).min(REREAD), self.0.changed.notified());
                // Whether it was woken or the time is over: what is due is done.
                let _ = changed.await;
            }
        };
        stop.run_until_cancelled(work).await.unwrap_or(Ok(()))
    }
}

/// Reads the Secrets of one EventSource.
async fn read(cluster: &Cluster, hook: Arc<Hook>) {
    let Ok(webhook) = hook.webhook() else {
        let due = Instant::now() + REREAD;
        return hook.read(Reading { secrets: None, fault: None, due });
    };
    if webhook.verifier.keys().is_empty() {
        let due = Instant::now() + REREAD;
        return hook.read(Reading { secrets: Some(Arc::default()), fault: None, due });
    }
    let read = timeout(PATIENCE, secrets(cluster, &hook, webhook)).await;
    let read = read.unwrap_or_else(|_| Err(Trouble::Away("the API server did not answer in time".to_owned())));
    let (secrets, fault) = match read {
        Ok((secrets, missing)) => (Some(Arc::new(secrets)), (!missing.is_empty()).then(|| missing.join("; "))),
        Err(Trouble::Away(why)) => (hook.secrets(), Some(why)),
        Err(Trouble::Refused(why)) => (Some(Arc::default()), Some(why)),
    };
    let due = Instant::now() + if fault.is_none() { REREAD } else { RETRY };
    hook.read(Reading { secrets, fault, due });
}

/// The Secrets that are there, and what is missing, in words.
async fn secrets(cluster: &Cluster, hook: &Hook, webhook: &Webhook) -> Result<(Secrets, Vec<String>), Trouble> {
    cluster.usable(&hook.account).await.map_err(|error| match error.reason() {
        Reason::Pending => Trouble::Away(error.to_string()),
        _ => Trouble::Refused(error.to_string()),
    })?;
    let (mut secrets, mut missing) = (Secrets::default(), Vec::new());
    for key in webhook.verifier.keys() {
        match cluster.secret_key(&hook.account, key).await {
            Ok(value) => match flaw(&webhook.auth, &value) {
                None => secrets.insert(key.clone(), &value),
                Some(flaw) => {
                    missing.push(format!("key {} of Secret {}/{} {flaw}", key.key, hook.account.namespace, key.name))
                }
            },
            Err(error @ SecretError::Other { .. }) => return Err(Trouble::Away(error.to_string())),
            Err(error) => missing.push(error.missing(key).ok_or_else(|| Trouble::Refused(error.to_string()))?),
        }
    }
    Ok((secrets, missing))
}
