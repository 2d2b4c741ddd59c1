//! How much is sent by hand at the same time: no namespace keeps the others from it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Places that are shared: each holds a connection to a service that may not answer, for 25 s at most.
const SHARED: usize = 8;
/// Places in all. Beyond those that are shared a namespace gets one while it has none: a cluster in which so many send by hand at once is not known.
const MOST: usize = 64;

/// The places that are taken, by namespace. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<String, usize>>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    namespace: String,
}

impl Places {
    /// A place for the namespace: its first whatever the others do, more while few are taken.
    pub(super) fn take(&self, namespace: &str) -> Option<Place> {
        let mut taken = self.0.lock();
        let all: usize = taken.values().sum();
        let most = if taken.contains_key(namespace) { SHARED } else { MOST };
        (all < most).then(|| {
            *taken.entry(namespace.to_owned()).or_default() += 1;
            Place { places: self.clone(), namespace: namespace.to_owned() }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        if let Some(own) = taken.get_mut(&self.namespace) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_sends_much_keeps_no_other_from_sending() {
        let places = Places::default();
        let mut greedy: Vec<Place> = (0..SHARED).map(|_| places.take("shop").expect("a place")).collect();
        assert!(places.take("shop").is_none());
        let other = places.take("bank").expect("the first of its own");
        assert!(places.take("bank").is_none(), "the second is one of those that are shared");
        greedy.truncate(SHARED - 2);
        let second = places.take("bank").expect("there is room again");
        assert!(places.take("shop").is_none());
        drop((greedy, other, second));
        assert!(places.0.lock().is_empty(), "no namespace is remembered");
    }

    #[test]
    fn there_is_an_end_to_it() {
        let places = Places::default();
        let taken: Vec<Place> = (0..MOST).map(|of| places.take(&of.to_string()).expect("a place")).collect();
        assert!(places.take("one more").is_none());
        drop(taken);
        assert!(places.take("one more").is_some());
    }
}
