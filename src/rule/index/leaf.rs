//! What rules ask of one field, by what they ask for.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    intervals::Intervals,
    members::{Member, Members},
    parts::{Prefixes, Substrings},
};
use crate::rule::cel::{Demand, Scalar, Test};

/// How much worse than an equal value another question is, in rules that it finds beside those that it is to find.
const PREFIX: usize = 2;
const SPREAD: usize = 8;
const PRESENT: usize = 64;

/// The rules that are filed under one field.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    texts: HashMap<Box<str>, Members>,
    others: HashMap<Scalar, Members>,
    prefixes: Prefixes,
    substrings: Substrings,
    intervals: Intervals,
    /// Those that ask for a text that begins with something or holds it: with anything else they fail.
    of_text: Members,
    /// Those that ask for a number within bounds: with anything else they fail.
    of_number: Members,
    present: Members,
    /// By [`Demand::without`]: what becomes of them where the field is not there.
    without: HashMap<u32, Members>,
}

impl Leaf {
    /// About how many rules are found in vain by filing another one here.
    pub(super) fn crowd(&self, test: &Test) -> usize {
        let of = |value: &Scalar| match value {
            Scalar::Text(text) => self.texts.get(&**text).map_or(0, Members::len),
            other => self.others.get(other).map_or(0, Members::len),
        };
        match test {
            Test::Equal(values) => values.iter().map(of).max().unwrap_or(0),
            Test::Prefix(prefix) => self.prefixes.known(prefix) + PREFIX,
            Test::Contains(_) | Test::Within(..) => SPREAD,
            Test::Present => self.present.len() + PRESENT,
        }
    }

    pub(super) fn insert(&mut self, demand: &Demand, member: Member) {
        self.without.entry(demand.without).or_default().insert(member);
        match &demand.test {
            Test::Equal(values) => {
                for value in distinct(values) {
                    match value {
                        Scalar::Text(text) => self.texts.entry(Box::from(&**text)).or_default().insert(member),
                        other => self.others.entry(other.clone()).or_default().insert(member),
                    }
                }
            }
            Test::Prefix(prefix) => {
                self.of_text.insert(member);
                self.prefixes.insert(prefix, member);
            }
            Test::Contains(part) => {
                self.of_text.insert(member);
                self.substrings.insert(part, member);
            }
            Test::Within(low, high) => {
                self.of_number.insert(member);
                self.intervals.insert(*low, *high, member);
            }
            Test::Present => self.present.insert(member),
        }
    }

    pub(super) fn remove(&mut self, demand: &Demand, member: Member) {
        take(&mut self.without, &demand.without, member);
        match &demand.test {
            Test::Equal(values) => {
                for value in distinct(values) {
                    match value {
                        Scalar::Text(text) => take(&mut self.texts, &**text, member),
                        other => take(&mut self.others, other, member),
                    }
                }
            }
            Test::Prefix(prefix) => {
                self.of_text.remove(member);
                self.prefixes.remove(prefix, member);
            }
            Test::Contains(part) => {
                self.of_text.remove(member);
                self.substrings.remove(part, member);
            }
            Test::Within(low, high) => {
                self.of_number.remove(member);
                self.intervals.remove(*low, *high, member);
            }
            Test::Present => {
                self.present.remove(member);
            }
        }
    }

    /// The rules whose demand the text may meet.
    pub(super) fn find_text(&self, text: &str, found: &mut Vec<Member>) {
        self.texts.get(text).into_iter().for_each(|members| members.add_to(found));
        self.prefixes.find(text, found);
        self.substrings.find(text, found);
        self.of_number.add_to(found);
        self.present.add_to(found);
    }

    /// The rules whose demand the value may meet, or for which it is an error.
    pub(super) fn find(&self, value: &Value, found: &mut Vec<Member>) {
        let scalar = match value {
            Value::String(text) => return self.find_text(text, found),
            Value::Null => Some(Scalar::Null),
            Value::Bool(value) => Some(Scalar::Bool(*value)),
            Value::Number(number) => number.as_f64().map(Scalar::number),
            Value::Array(_) | Value::Object(_) => None,
        };
        let equal = scalar.as_ref().and_then(|scalar| self.others.get(scalar));
        equal.into_iter().for_each(|members| members.add_to(found));
        match scalar {
            Some(Scalar::Number(bits)) => self.intervals.find(f64::from_bits(bits), found),
            _ => self.of_number.add_to(found),
        }
        self.of_text.add_to(found);
        self.present.add_to(found);
    }

    /// The rules that are not surely false where the field is not there because the name at this place of its path is not.
    pub(super) fn find_without(&self, place: usize, found: &mut Vec<Member>) {
        let undecided = self.without.iter().filter(|(without, _)| *without >> place & 1 == 0);
        undecided.for_each(|(_, members)| members.add_to(found));
    }

    /// All rules that are filed here.
    pub(super) fn all(&self, found: &mut Vec<Member>) {
        self.without.values().for_each(|members| members.add_to(found));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.without.is_empty()
    }
}

fn take<K, Q>(map: &mut HashMap<K, Members>, key: &Q, member: Member)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if map.get_mut(key).is_some_and(|members| members.remove(member)) {
        map.remove(key);
    }
}

fn distinct(values: &[Scalar]) -> impl Iterator<Item = &Scalar> {
    values.iter().enumerate().filter(|(at, value)| !values[..*at].contains(value)).map(|(_, value)| value)
}
