//! The rules of a class, each filed under one of the things it asks of an event.
//!
//! A rule is filed under the demand that the fewest others share, or under none. What is found is wider than what fires: conditions are evaluated
//! for it. What is not found has a condition that is false.
//!
//! Most classes have one rule, or a few, and of these each is asked in its turn: the tree that many are filed in takes about 3 KiB for the first of
//! them, a table for each name of a path, with room for three.

use super::{
    leaf::Leaf,
    members::{Member, Members},
    single,
    tree::Tree,
};
use crate::{event::Event, rule::cel::Demand};

/// Rules that are asked one by one. More of them are filed in a tree, for which the event is looked through once.
const FEW: usize = 8;

#[derive(Clone, Debug, Default)]
pub(super) struct Demands {
    /// Rules of which no demand is known.
    always: Members,
    filed: Filed,
}

/// Rules, each with the demand that it is filed under.
#[derive(Clone, Debug)]
enum Filed {
    Few(Vec<(Member, Demand)>),
    Many(Box<Tree>),
}

impl Default for Filed {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Demands {
    pub(super) fn insert(&mut self, member: Member, demands: Vec<Demand>) {
        match demands.into_iter().min_by_key(|demand| self.filed.crowd(demand)) {
            Some(demand) => self.filed.insert(member, demand),
            None => self.always.insert(member),
        }
    }

    pub(super) fn remove(&mut self, member: Member) {
        if !self.filed.remove(member) {
            self.always.remove(member);
        }
    }

    /// The rules that the event may concern; some of them perhaps more than once.
    pub(super) fn find(&self, event: &Event, found: &mut Vec<Member>) {
        self.always.add_to(found);
        match &self.filed {
            Filed::Few(few) => {
                let concerned = few.iter().filter(|(_, demand)| single::may_concern(demand, event));
                found.extend(concerned.map(|(member, _)| *member));
            }
            Filed::Many(tree) => tree.find(event, found),
        }
    }
}

impl Filed {
    /// About how many rules are found in vain by filing another one under this.
    fn crowd(&self, demand: &Demand) -> usize {
        match self {
            Self::Few(few) => {
                let alike = few.iter().filter(|(_, known)| known.path == demand.path && known.test == demand.test);
                Leaf::default().crowd(&demand.test) + alike.count()
            }
            Self::Many(tree) => tree.crowd(demand),
        }
    }

    fn insert(&mut self, member: Member, demand: Demand) {
        match self {
            Self::Few(few) if few.len() < FEW => {
                // A vector that grows by itself begins with room for four.
                few.reserve_exact(1);
                few.push((member, demand));
            }
            Self::Few(few) => {
                let mut tree = Box::<Tree>::default();
                std::mem::take(few).into_iter().for_each(|(member, demand)| tree.insert(member, demand));
                tree.insert(member, demand);
                *self = Self::Many(tree);
            }
            Self::Many(tree) => tree.insert(member, demand),
        }
    }

    /// Takes a rule out; tells whether it was here.
    fn remove(&mut self, member: Member) -> bool {
        match self {
            Self::Few(few) => {
                let place = few.iter().position(|(known, _)| *known == member);
                place.map(|place| few.swap_remove(place)).is_some()
            }
            Self::Many(tree) => {
                let removed = tree.remove(member);
                if tree.is_empty() {
                    *self = Self::default();
                }
                removed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::rule::cel::{Names, Program, demands};

    const CONDITIONS: [&str; 14] = [
        "event.data.a == 1",
        "event.data.a == 'x'",
        "event.data.a in ['x', 2, true, null]",
        "event.data.a.startsWith('x')",
        "event.data.a.contains('yy')",
        "event.data.?a.orValue('x').contains('x')",
        "event.data.?a.orValue('') == 'x'",
        "event.data.a >= 1",
        "event.data.a > 1 && event.data.a < 3",
        "has(event.data.a)",
        "event.data.a.b == 'x'",
        "has(event.data.a) && has(event.data.a.b) && event.data.a.b == 'x'",
        "event.subject.startsWith('s')",
        "event.type == 'com.acme.push'",
    ];

    fn data() -> impl Strategy<Value = Value> {
        let of = [
            json!({}),
            json!({"a": 1}),
            json!({"a": 2.0}),
            json!({"a": -3}),
            json!({"a": "x"}),
            json!({"a": "xyy"}),
            json!({"a": ""}),
            json!({"a": true}),
            json!({"a": null}),
            json!({"a": [1]}),
            json!({"a": {}}),
            json!({"a": {"b": "x"}}),
            json!({"a": {"b": 1}}),
            json!(7),
        ];
        proptest::sample::select(of.to_vec())
    }

    proptest! {
        #[test]
        fn few_rules_are_found_as_many_are(
            conditions in proptest::collection::vec(0..CONDITIONS.len(), 1..FEW),
            data in data(),
            subject in proptest::option::of("[st]"),
        ) {
            let event = Event { subject, ..Event::new("1", "/x", "com.acme.push", data) };
            let (mut few, mut tree) = (Demands::default(), Tree::default());
            for (member, condition) in (0..).zip(conditions) {
                let program = Program::compile(CONDITIONS[condition], &Names::conditions()).expect("it compiles");
                for demand in demands([&program].into_iter(), &[]) {
                    tree.insert(member, demand.clone());
                    few.insert(member, vec![demand]);
                    // Each demand by itself: a rule is filed under one.
                    let (mut by_few, mut by_tree) = (Vec::new(), Vec::new());
                    few.find(&event, &mut by_few);
                    tree.find(&event, &mut by_tree);
                    by_few.sort_unstable();
                    by_tree.sort_unstable();
                    by_tree.dedup();
                    prop_assert_eq!(&by_few, &by_tree, "{}", CONDITIONS[condition]);
                    tree.remove(member);
                    few.remove(member);
                }
            }
        }
    }

    #[test]
    fn a_class_of_one_rule_is_small() {
        // Three for each rule: of its class, and of its filter in two indexes.
        assert!(size_of::<Demands>() <= 64, "{}", size_of::<Demands>());
    }

    #[test]
    fn a_tree_is_made_of_many_and_goes_with_the_last() {
        let program = Program::compile("event.data.a == 1", &Names::conditions()).expect("it compiles");
        let demand = demands([&program].into_iter(), &[]).remove(0);
        let mut all = Demands::default();
        let count = u32::try_from(FEW).expect("few") + 2;
        (0..count).for_each(|member| all.insert(member, vec![demand.clone()]));
        assert!(matches!(all.filed, Filed::Many(_)));
        let mut found = Vec::new();
        all.find(&Event::new("1", "/x", "com.acme.push", json!({"a": 1})), &mut found);
        found.sort_unstable();
        assert_eq!(found, (0..count).collect::<Vec<_>>());
        (0..count).for_each(|member| all.remove(member));
        assert!(matches!(&all.filed, Filed::Few(few) if few.is_empty()));
    }
}
