//! Rules of a class, or classes themselves, by number, and lists of such.

/// A rule by its place in its class, or a source of a class by its place under its key.
pub(super) type Member = u32;

/// Things by number; those of what is gone are used again.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    things: Vec<Option<T>>,
    free: Vec<Member>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { things: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, thing: T) -> Member {
        let member = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            Member::try_from(self.things.len() - 1).unwrap_or(Member::MAX)
        });
        self.things[member as usize] = Some(thing);
        member
    }

    pub(super) fn remove(&mut self, member: Member) {
        if self.things.get_mut(member as usize).and_then(Option::take).is_some() {
            self.free.push(member);
        }
    }

    pub(super) fn get(&self, member: Member) -> Option<&T> {
        self.things.get(member as usize)?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Member, &T)> {
        (0..).zip(&self.things).filter_map(|(member, thing)| Some((member, thing.as_ref()?)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.things.len()
    }
}

/// Some of them, each once, in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<Member>);

impl Members {
    pub(super) fn insert(&mut self, member: Member) {
        self.0.push(member);
    }

    /// Takes one out; tells whether none is left.
    pub(super) fn remove(&mut self, member: Member) -> bool {
        if let Some(place) = self.0.iter().position(|known| *known == member) {
            self.0.swap_remove(place);
        }
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add_to(&self, found: &mut Vec<Member>) {
        found.extend_from_slice(&self.0);
    }
}
