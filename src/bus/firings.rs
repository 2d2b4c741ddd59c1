//! Open firings, whole, wherever they are: on the shelf of memory, or in the view.

use std::{fmt, sync::Arc};

use super::{Bus, BusError};
use crate::record::{FiringId, OpenFiring, Shelf, Table};

/// Where open firings are found. A clone is the same.
#[derive(Clone)]
pub struct Firings {
    bus: Arc<dyn Bus>,
    shelf: Shelf,
}

/// Why an open firing cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The view could not be read.
    #[error("read the firing: {0}")]
    Bus(#[from] BusError),
    /// What the view has of it is no firing, or nothing.
    #[error("what the view has of firing {id} cannot be read: {reason}")]
    Unreadable {
        /// The firing.
        id: FiringId,
        /// What is wrong with it.
        reason: String,
    },
}

impl Firings {
    /// Those of the ledger whose shelf this is.
    pub fn new(bus: Arc<dyn Bus>, shelf: Shelf) -> Self {
        Self { bus, shelf }
    }

    /// The log that they are recorded in.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// Lends a firing, to be carried out: memory holds it until it ends, or until [`Firings::give_back`].
    ///
    /// # Errors
    /// [`Missing::Bus`] with [`BusError::Full`]: try again later.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the firing is not lent.
    pub async fn lend(&self, id: &FiringId) -> Result<Arc<OpenFiring>, Missing> {
        if let Some(open) = self.shelf.lend(id) {
            return Ok(open);
        }
        let row = self.bus.row(Table::Firings, id.0.as_bytes().to_vec()).await?;
        let unreadable = |reason: String| Missing::Unreadable { id: id.clone(), reason };
        let row = row.ok_or_else(|| unreadable("there is nothing".to_owned()))?;
        let open = serde_json::from_slice(&row).map_err(|error| unreadable(error.to_string()))?;
        Ok(self.shelf.bring(open))
    }

    /// Lends a firing that memory holds.
    pub fn lend_here(&self, id: &FiringId) -> Option<Arc<OpenFiring>> {
        self.shelf.lend(id)
    }

    /// It is not carried out for now.
    pub fn give_back(&self, id: &FiringId) {
        self.shelf.give_back(id);
    }
}

impl fmt::Debug for Firings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firings").field("shelf", &self.shelf).finish_non_exhaustive()
    }
}
