//! Webhooks: events that others send by HTTP.
//!
//! [`Hooks`] knows the EventSources and takes requests in, step by step: who sends, what it is, whether it came before, into the log. HTTP itself, with
//! its limits on bytes and time, is the server's.

mod hook;
mod keep;
mod receive;
#[cfg(test)]
mod tests;
mod unfold;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::Notify;

pub use hook::Hook;
use hook::Webhook;
pub use verify::flaw;

pub use super::figures::{Figures, Received};
use super::{accept::Accept, figures::Counted};
use crate::{api::EventSourceSpec, event::webhook::preset, record::Account, telemetry::Rejection};

/// Why an EventSource takes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct BuildError(pub Vec<String>);

/// Why a request is not taken. Texts are for the sender: they hold nothing of what is secret, and nothing that was sent but names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not from who may send. Says nothing more on purpose.
    #[error("not authenticated")]
    Unauthenticated,
    /// It is not what the preset says.
    #[error("{0}")]
    Malformed(String),
    /// Its format or encoding is not taken.
    #[error("{0}")]
    Unsupported(String),
    /// It is larger than is taken.
    #[error("{0}")]
    TooLarge(String),
    /// There are more events than `rateLimit` allows, for so long.
    #[error("more events than the EventSource's rateLimit allows")]
    RateLimited(Duration),
    /// It cannot be stored or checked now: to be sent again.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Refusal {
    /// By which reason it is counted.
    pub fn rejection(&self) -> Rejection {
        match self {
            Self::Unauthenticated => Rejection::Unauthenticated,
            Self::Malformed(_) | Self::Unsupported(_) => Rejection::Malformed,
            Self::TooLarge(_) => Rejection::TooLarge,
            Self::RateLimited(_) => Rejection::RateLimited,
            Self::Unavailable(_) => Rejection::Unavailable,
        }
    }
}

const NOT_READY: Refusal = Refusal::Unavailable("the EventSource is not ready");

/// Namespace and name.
type Name = (String, String);

/// All EventSources of kind `webhook`, by namespace and name. The controller sets them, the server gives them requests. A clone is the same.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    hooks: RwLock<HashMap<Name, Arc<Hook>>>,
    /// Why those of these names take nothing, whatever their specs say.
    holds: RwLock<HashMap<Name, String>>,
    accept: Accept,
    /// Wakes who reads Secrets.
    changed: Notify,
}

impl Hooks {
    /// None yet.
    pub fn new(accept: Accept) -> Self {
        let (hooks, holds, changed) = (RwLock::default(), RwLock::default(), Notify::new());
        Self(Arc::new(Inner { hooks, holds, accept, changed }))
    }

    /// Puts an EventSource or a new version of it; its figures go on.
    ///
    /// # Errors
    /// Lists all faults of the spec; then the version before goes on, and without one the source is known, but takes nothing.
    pub fn set(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        generation: i64,
        spec: &EventSourceSpec,
    ) -> Result<(), BuildError> {
        let made = Webhook::new(spec);
        let fault = made.as_ref().err().cloned();
        let account = Account { namespace: namespace.to_owned(), name: spec.service_account_name.clone() };
        let key = (namespace.to_owned(), name.to_owned());
        let mut hooks = self.0.hooks.write();
        let before = hooks.get(&key).filter(|before| before.uid() == uid);
        if let (Some(fault), Some(_)) = (&fault, before) {
            return Err(fault.clone());
        }
        let shared = before.map(|before| before.shared()).unwrap_or_default();
        let mut hook = Hook::new((namespace, name, uid), generation, account, made, shared);
        if let Some(before) = before {
            hook.inherit(before);
        }
        hooks.insert(key, Arc::new(hook));
        drop(hooks);
        self.0.changed.notify_one();
        fault.map_or(Ok(()), Err)
    }

    /// Takes an EventSource away.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.0.hooks.write().remove(&(namespace.to_owned(), name.to_owned()));
        self.0.changed.notify_one();
    }

    /// Takes nothing for this name as long as there is a reason, whichever version is set.
    pub fn hold(&self, namespace: &str, name: &str, why: Option<String>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut holds = self.0.holds.write();
        match why {
            Some(why) => drop(holds.insert(key, why)),
            None => drop(holds.remove(&key)),
        }
    }

    /// Why it takes nothing, or not from everybody whom the spec names.
    pub fn fault(&self, hook: &Hook) -> Option<String> {
        let key = (hook.namespace().to_owned(), hook.name().to_owned());
        let held = self.0.holds.read().get(&key).cloned();
        held.or_else(|| hook.fault())
    }

    /// Why nobody is let in for this name. Of two keys one is enough.
    pub fn closed(&self, namespace: &str, name: &str) -> Option<String> {
        let hook = self.get(namespace, name)?;
        self.fault(&hook).filter(|_| hook.is_shut() || self.admits(&hook).is_err())
    }

    /// How many bytes the body of a request may have.
    ///
    /// # Errors
    /// When none is taken now.
    pub fn admits(&self, hook: &Hook) -> Result<usize, Refusal> {
        let key = (hook.namespace().to_owned(), hook.name().to_owned());
        if self.0.holds.read().contains_key(&key) {
            return Err(NOT_READY);
        }
        hook.webhook().map(|webhook| webhook.max_body)
    }

    /// One EventSource.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Hook>> {
        self.0.hooks.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// What became of the requests of each, since this process started.
    pub fn figures(&self) -> Vec<((String, String), Figures)> {
        self.0.hooks.read().iter().map(|(key, hook)| (key.clone(), hook.figures())).collect()
    }

    /// Counts a request that was not taken; of an EventSource, if it was for one.
    pub fn refused(&self, hook: Option<&Hook>, refusal: &Refusal) {
        let why = refusal.rejection();
        self.0.accept.metrics().webhooks().rejected(why);
        let Some(hook) = hook else { return };
        hook.shared().rejected(why);
        let lost = |hook: &Hook| hook.webhook().is_ok_and(|webhook| !preset::sends_again(webhook.preset));
        if why == Rejection::Unavailable && lost(hook) {
            self.0.accept.metrics().webhooks().lost();
        }
    }

    fn all(&self) -> Vec<Arc<Hook>> {
        self.0.hooks.read().values().cloned().collect()
    }

    /// Namespace and uid of each.
    pub fn known(&self) -> HashSet<(String, String)> {
        self.all().iter().map(|hook| (hook.namespace().to_owned(), hook.uid().to_owned())).collect()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
