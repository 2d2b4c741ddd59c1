//! The open firings that memory holds whole: those under way, and those that the view does not have yet. The others are rows of the view.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{FiringId, OpenFiring};

/// Open firings, whole. A clone is the same shelf: the ledger's, which folds into it, and the runner's, which borrows from it.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    slots: HashMap<FiringId, Slot>,
    /// How many of them are lent.
    lent: usize,
}

#[derive(Debug)]
struct Slot {
    open: Arc<OpenFiring>,
    /// Somebody is carrying it out.
    lent: bool,
    /// The view has it as it is here.
    stored: bool,
}

impl Shelf {
    /// What it holds of a firing.
    pub fn get(&self, id: &FiringId) -> Option<Arc<OpenFiring>> {
        self.0.lock().slots.get(id).map(|slot| Arc::clone(&slot.open))
    }

    /// Lends a firing: it stays here until it ends or is given back. Nothing when only the view has it: then read it there, and call [`Shelf::bring`].
    pub fn lend(&self, id: &FiringId) -> Option<Arc<OpenFiring>> {
        let mut slots = self.0.lock();
        let slot = slots.slots.get_mut(id)?;
        let open = Arc::clone(&slot.open);
        let before = std::mem::replace(&mut slot.lent, true);
        slots.lent += usize::from(!before);
        Some(open)
    }

    /// Brings a firing that was read from the view, and lends it.
    pub fn bring(&self, open: OpenFiring) -> Arc<OpenFiring> {
        let (id, open) = (open.firing.id.clone(), Arc::new(open));
        let mut slots = self.0.lock();
        slots.put(id, Slot { open: Arc::clone(&open), lent: true, stored: true });
        open
    }

    /// What was lent is not needed for now.
    pub fn give_back(&self, id: &FiringId) {
        let mut slots = self.0.lock();
        let Some(slot) = slots.slots.get_mut(id).filter(|slot| slot.lent) else { return };
        slot.lent = false;
        slots.lent -= 1;
        slots.drop_if_idle(id);
    }

    /// Puts a firing that the view does not have.
    pub fn put(&self, open: OpenFiring) {
        let slot = Slot { lent: false, stored: false, open: Arc::new(open) };
        self.0.lock().put(slot.open.firing.id.clone(), slot);
    }

    /// The view has the firing as it is here: unless it is lent, memory needs it no more.
    pub fn stored(&self, id: &FiringId) {
        let mut slots = self.0.lock();
        if let Some(slot) = slots.slots.get_mut(id) {
            slot.stored = true;
            slots.drop_if_idle(id);
        }
    }

    /// How many wait to be written to the view before memory can do without them.
    pub fn fresh(&self) -> usize {
        let slots = self.0.lock();
        slots.slots.len() - slots.lent
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes a firing, and gives it as it is then.
    pub(super) fn change(&self, id: &FiringId, change: impl FnOnce(&mut OpenFiring)) -> Option<Arc<OpenFiring>> {
        let mut slots = self.0.lock();
        let slot = slots.slots.get_mut(id)?;
        slot.stored = false;
        change(Arc::make_mut(&mut slot.open));
        Some(Arc::clone(&slot.open))
    }

    /// Takes out a firing that has ended.
    pub(super) fn take(&self, id: &FiringId) -> Option<Arc<OpenFiring>> {
        self.0.lock().take(id).map(|slot| slot.open)
    }
}

impl Slots {
    fn put(&mut self, id: FiringId, slot: Slot) {
        self.lent += usize::from(slot.lent);
        let before = self.slots.insert(id, slot);
        self.lent -= usize::from(before.is_some_and(|before| before.lent));
    }

    fn take(&mut self, id: &FiringId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        self.lent -= usize::from(slot.lent);
        Some(slot)
    }

    fn drop_if_idle(&mut self, id: &FiringId) {
        if self.slots.get(id).is_some_and(|slot| slot.stored && !slot.lent) {
            self.take(id);
        }
    }
}
