//! Which of many texts a text begins with, and which it holds; texts come and go.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use super::members::{Member, Members};

/// Texts that others begin with.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes(BTreeMap<Arc<str>, Members>);

impl Prefixes {
    pub(super) fn insert(&mut self, prefix: &Arc<str>, member: Member) {
        self.0.entry(Arc::clone(prefix)).or_default().insert(member);
    }

    pub(super) fn remove(&mut self, prefix: &str, member: Member) {
        if self.0.get_mut(prefix).is_some_and(|members| members.remove(member)) {
            self.0.remove(prefix);
        }
    }

    pub(super) fn known(&self, prefix: &str) -> usize {
        self.0.get(prefix).map_or(0, Members::len)
    }

    /// Those of all texts that this one begins with.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Member>) {
        let mut rest = text;
        loop {
            // The greatest that is not behind it: what else it begins with is a prefix of what both have.
            let Some((known, members)) = self.0.range::<str, _>((Bound::Unbounded, Bound::Included(rest))).next_back()
            else {
                return;
            };
            let common = common(rest, known);
            if common.len() == known.len() {
                members.add_to(found);
                let Some((last, _)) = known.char_indices().next_back() else { return };
                rest = &rest[..last];
            } else {
                rest = common;
            }
        }
    }
}

/// What both begin with.
fn common<'t>(text: &'t str, other: &str) -> &'t str {
    let same = text.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    &text[..same.map(|(one, _)| one.len_utf8()).sum()]
}

/// Three bytes that stand one after the other.
type Gram = [u8; 3];

/// Texts that others hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Substrings {
    /// Those that have three bytes at least, by three of their bytes that few others have, and where these begin.
    long: HashMap<Gram, BTreeMap<(Arc<str>, usize), Members>>,
    /// The others.
    short: BTreeMap<Arc<str>, Members>,
    /// Where the long ones are.
    grams: HashMap<Arc<str>, Gram>,
}

impl Substrings {
    pub(super) fn insert(&mut self, part: &Arc<str>, member: Member) {
        let Some((gram, at)) = self.place(part) else {
            return self.short.entry(Arc::clone(part)).or_default().insert(member);
        };
        self.grams.insert(Arc::clone(part), gram);
        self.long.entry(gram).or_default().entry((Arc::clone(part), at)).or_default().insert(member);
    }

    pub(super) fn remove(&mut self, part: &Arc<str>, member: Member) {
        let Some((gram, at)) = self.place(part) else {
            if self.short.get_mut(part).is_some_and(|members| members.remove(member)) {
                self.short.remove(part);
            }
            return;
        };
        let Some(parts) = self.long.get_mut(&gram) else { return };
        let key = (Arc::clone(part), at);
        if parts.get_mut(&key).is_some_and(|members| members.remove(member)) {
            parts.remove(&key);
            self.grams.remove(part);
            if parts.is_empty() {
                self.long.remove(&gram);
            }
        }
    }

    /// Those of all texts that are in this one; some of them perhaps more than once.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Member>) {
        for (_, members) in self.short.iter().filter(|(part, _)| text.contains(&***part)) {
            members.add_to(found);
        }
        if self.long.is_empty() {
            return;
        }
        let bytes = text.as_bytes();
        for (at, window) in bytes.windows(3).enumerate() {
            let Some(parts) = window.try_into().ok().and_then(|gram: Gram| self.long.get(&gram)) else { continue };
            for ((part, before), members) in parts {
                let rest = at.checked_sub(*before).and_then(|from| bytes.get(from..));
                if rest.is_some_and(|rest| rest.starts_with(part.as_bytes())) {
                    members.add_to(found);
                }
            }
        }
    }

    /// The three bytes that a text is filed by: those it has, or else those of its own that the fewest others are filed by.
    fn place(&self, part: &str) -> Option<(Gram, usize)> {
        let bytes = part.as_bytes();
        let known = self.grams.get(part);
        let grams = bytes.windows(3).enumerate().filter_map(|(at, window)| Some((Gram::try_from(window).ok()?, at)));
        match known {
            Some(known) => grams.into_iter().find(|(gram, _)| gram == known),
            None => grams.min_by_key(|(gram, _)| self.long.get(gram).map_or(0, BTreeMap::len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXTS: &str = "[ab€]{0,6}";

    fn sorted(mut found: Vec<Member>) -> Vec<Member> {
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        #[test]
        fn exactly_the_prefixes_and_substrings_of_a_text_are_found(
            texts in proptest::collection::vec(TEXTS, 1..40),
            gone in proptest::collection::vec(any::<bool>(), 40),
            text in "[ab€]{0,12}",
        ) {
            let (mut prefixes, mut substrings) = (Prefixes::default(), Substrings::default());
            let known: Vec<(Member, Arc<str>)> = (0..).zip(texts).map(|(member, text)| (member, Arc::from(text))).collect();
            for (member, part) in &known {
                prefixes.insert(part, *member);
                substrings.insert(part, *member);
            }
            let is_gone = |member: Member| gone[member as usize];
            for (member, part) in known.iter().filter(|(member, _)| is_gone(*member)) {
                prefixes.remove(part, *member);
                substrings.remove(part, *member);
            }
            let (mut begun, mut held) = (Vec::new(), Vec::new());
            prefixes.find(&text, &mut begun);
            substrings.find(&text, &mut held);
            let left = |test: &dyn Fn(&str) -> bool| -> Vec<Member> {
                known.iter().filter(|(member, part)| !is_gone(*member) && test(part)).map(|(member, _)| *member).collect()
            };
            prop_assert_eq!(sorted(begun), left(&|part| text.starts_with(part)));
            prop_assert_eq!(sorted(held), left(&|part| text.contains(part)));
        }
    }
}
