//! Which intervals hold a number, with intervals that come and go.
//!
//! An interval is filed at the highest of the middles that it holds, of a binary tree over all doubles that nobody builds: the number asked for
//! leads down one branch, and at each middle on it those intervals are found which begin before the number or end behind it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use super::members::{Member, Members};

#[derive(Clone, Debug, Default)]
pub(super) struct Intervals {
    /// By the height of a middle and the middle.
    nodes: HashMap<(u32, u64), Node>,
    /// How many nodes there are of each height.
    heights: BTreeMap<u32, usize>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    by_low: BTreeMap<u64, Members>,
    by_high: BTreeMap<u64, Members>,
}

impl Intervals {
    pub(super) fn insert(&mut self, low: f64, high: f64, member: Member) {
        let (low, high) = (ordered(low), ordered(high));
        let place = place(low, high);
        let heights = &mut self.heights;
        let node = self.nodes.entry(place).or_insert_with(|| {
            *heights.entry(place.0).or_default() += 1;
            Node::default()
        });
        node.by_low.entry(low).or_default().insert(member);
        node.by_high.entry(high).or_default().insert(member);
    }

    pub(super) fn remove(&mut self, low: f64, high: f64, member: Member) {
        let (low, high) = (ordered(low), ordered(high));
        let place = place(low, high);
        let Some(node) = self.nodes.get_mut(&place) else { return };
        for (side, end) in [(&mut node.by_low, low), (&mut node.by_high, high)] {
            if side.get_mut(&end).is_some_and(|members| members.remove(member)) {
                side.remove(&end);
            }
        }
        if node.by_low.is_empty() {
            self.nodes.remove(&place);
            if let Some(count) = self.heights.get_mut(&place.0) {
                *count -= 1;
            }
            self.heights.retain(|_, count| *count > 0);
        }
    }

    /// Those that hold the number.
    pub(super) fn find(&self, number: f64, found: &mut Vec<Member>) {
        let number = ordered(number);
        for height in self.heights.keys() {
            let middle = middle(number, *height);
            let Some(node) = self.nodes.get(&(*height, middle)) else { continue };
            if number <= middle {
                let before = (Bound::Unbounded, Bound::Included(number));
                node.by_low.range(before).for_each(|(_, members)| members.add_to(found));
            } else {
                let behind = (Bound::Included(number), Bound::Unbounded);
                node.by_high.range(behind).for_each(|(_, members)| members.add_to(found));
            }
        }
    }
}

/// A number in the order of doubles.
fn ordered(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The middle of this height on the way to a number: its upper bits, then ones for the lower half.
fn middle(number: u64, height: u32) -> u64 {
    match height {
        0 => number,
        _ => (number.checked_shr(height).unwrap_or(0)).checked_shl(height).unwrap_or(0) | ((1 << (height - 1)) - 1),
    }
}

/// The height and the middle at which an interval is filed: the lowest that both ends have, so that the middle lies between them.
fn place(low: u64, high: u64) -> (u32, u64) {
    let height = 64 - (low ^ high).leading_zeros();
    (height, middle(low, height))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_has_no_sign_and_the_ends_are_held() {
        let mut intervals = Intervals::default();
        intervals.insert(f64::NEG_INFINITY, 0.0, 1);
        intervals.insert(-0.0, f64::INFINITY, 2);
        let of = |number: f64| {
            let mut found = Vec::new();
            intervals.find(number, &mut found);
            found.sort_unstable();
            found
        };
        assert_eq!((of(0.0), of(-0.0), of(-1.0), of(1.0)), (vec![1, 2], vec![1, 2], vec![1], vec![2]));
    }

    proptest! {
        #[test]
        fn exactly_the_intervals_that_hold_a_number_are_found(
            ends in proptest::collection::vec((-20_i32..20, -20_i32..20), 1..40),
            gone in proptest::collection::vec(any::<bool>(), 40),
            number in -25_i32..25,
        ) {
            let mut intervals = Intervals::default();
            let of = |(low, high): (i32, i32)| (f64::from(low) / 2.0, f64::from(high) / 2.0);
            let known: Vec<(Member, (f64, f64))> = (0..).zip(ends).map(|(member, ends)| (member, of(ends))).filter(|(_, (low, high))| low <= high).collect();
            known.iter().for_each(|(member, (low, high))| intervals.insert(*low, *high, *member));
            let is_gone = |member: &Member| gone[*member as usize];
            for (member, (low, high)) in known.iter().filter(|(member, _)| is_gone(member)) {
                intervals.remove(*low, *high, *member);
            }
            let number = f64::from(number) / 2.0;
            let mut found = Vec::new();
            intervals.find(number, &mut found);
            found.sort_unstable();
            let held: Vec<Member> = known.iter().filter(|(member, (low, high))| !is_gone(member) && (*low..=*high).contains(&number)).map(|(member, _)| *member).collect();
            prop_assert_eq!(found, held);
        }
    }
}
