//! Controllers: what users write in the API becomes records, watches and sinks; what is wrong with it becomes status.
//!
//! One file per kind, each a short list of steps. Objects are decoded one by one, so that one which cannot be read makes itself not ready and never
//! the others. This module knows no event.

mod control;
mod decode;
mod intake;
mod link;
mod object;
mod opinion;
mod reports;
mod rules;
mod secrets;
mod sinks;
mod sources;
#[cfg(test)]
mod testing;
mod watch;

use std::sync::Arc;

pub use self::{object::Object, watch::run};
pub use control::control;
pub use intake::Intakes;
pub use opinion::{Asked, asked, warnings};
pub use reports::relay;
pub use rules::{Known, Listeners, Rules};
pub use sinks::Sinks;
pub use sources::{Intake, Sources};

/// Whether a controller has seen everything that exists once. A clone tells the same.
#[derive(Clone, Debug, Default)]
pub struct Synced(Arc<tokio::sync::watch::Sender<bool>>);

impl Synced {
    /// Whether it has.
    pub fn get(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it has.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn wait(&self) {
        // The sender is `self`'s own, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|synced| *synced).await;
    }

    fn set(&self) {
        self.0.send_replace(true);
    }
}
