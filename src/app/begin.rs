//! The first steps of a start: the probes' server, and the volume.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{BusError, embedded},
    config::Settings,
    controller::Synced,
    server::{self, Admin, LateRules},
    telemetry::Metrics,
};

/// How often a volume that is locked or full is tried again.
const LOCK_RETRY: Duration = Duration::from_secs(1);

/// What `/readyz` says. A clone is the same.
#[derive(Clone, Default)]
pub(super) struct Readiness(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// What the start waits for.
    waits: Mutex<Option<String>>,
    /// Set once the controllers are started; then ready when the rules that exist are known.
    started: OnceLock<Synced>,
}

impl Readiness {
    /// The start waits for this.
    pub(super) fn waits_for(&self, what: String) {
        *self.0.waits.lock() = Some(what);
    }

    /// Everything is started.
    pub(super) fn started(&self, synced: Synced) {
        let _ = self.0.started.set(synced);
    }

    fn get(&self) -> Result<(), String> {
        match self.0.started.get() {
            None => Err(self.0.waits.lock().clone().unwrap_or_else(|| "the log is being opened and read".to_owned())),
            Some(synced) if synced.get() => Ok(()),
            Some(_) => Err("the rules are being read from the API server".to_owned()),
        }
    }
}

/// Answers probes from the first moment on.
pub(super) async fn serve(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
    rules: &LateRules,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + use<>> {
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let readiness = readiness.clone();
    let ready = Arc::new(move || readiness.get());
    let admin = Admin { metrics: Arc::clone(metrics), ready, rules: Arc::clone(rules) };
    Ok(async move { server::serve(listener, admin, stop).await.context("serve probes and metrics") })
}

/// Opens the log; waits for another process that has it, and for space on a full disk. Gives nothing when told to stop meanwhile.
pub(super) async fn open(
    settings: &Settings,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Arc<embedded::Embedded>>> {
    let storage = embedded::Settings {
        retention_age: settings.retention_age,
        retention_bytes: settings.retention_size,
        ..embedded::Settings::default()
    };
    loop {
        let (dir, storage) = (settings.data_dir.clone(), storage.clone());
        match tokio::task::spawn_blocking(move || embedded::Embedded::open(&dir, storage)).await? {
            Ok(bus) => return Ok(Some(bus)),
            Err(error @ BusError::Locked { .. }) => {
                tracing::warn!(%error, "waiting for the volume");
                readiness.waits_for(format!("waiting for the volume: {error}"));
            }
            Err(error @ BusError::Full) => {
                tracing::error!(%error, "waiting for space: nothing begins until it returns");
                readiness.waits_for(format!("waiting for space on the volume: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOCK_RETRY)).await.is_none() {
            return Ok(None);
        }
    }
}
