//! What a rule has changed and is to give back: of each object what it was before the first change, and who still holds it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::record::{Change, FiringId, Release, Remember};

/// Values that one rule remembers, commonly some 500 bytes each; when there is one more, the one whose time is next is given back early.
const MOST: usize = 256;

/// All of a rule, by [`Change::key`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Remembered(BTreeMap<String, One>);

/// One value with its holders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct One {
    /// From what it was before the first change to what the last has made it.
    change: Change,
    /// When the last of those that hold it for a time lets it go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    /// The groups that hold it until they have ended.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    groups: BTreeSet<String>,
    /// The firing that is giving it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    giving: Option<FiringId>,
}

impl One {
    fn deadline(&self) -> Option<i64> {
        self.until.filter(|_| self.groups.is_empty() && self.giving.is_none())
    }
}

impl Remembered {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// A step of a firing of the group has changed an object, or found it as wanted. `lasts`: what the rule has fired for has not ended. Gives the keys
    /// of which something has changed.
    pub(super) fn remember(&mut self, remember: &Remember, group: &str, lasts: bool, now: i64) -> Vec<String> {
        let Remember { change, release, .. } = remember;
        let key = change.key();
        if *release == Release::Undone {
            return self.undone(&key, change);
        }
        let known = self.0.remove(&key);
        // What was as wanted already, though the rule has not made it so, is not the rule's to give back.
        let one = match known {
            None if change.is_nothing() => return Vec::new(),
            // It is not known whether it was made, and what was known before is.
            Some(one) if change.unsure => {
                self.0.insert(key, one);
                return Vec::new();
            }
            Some(one) if one.change.leads_to(change) => One { change: one.change.followed_by(change), ..one },
            Some(_) if change.is_nothing() => return vec![key],
            // Somebody else has changed it in between: what it was then is what is given back.
            _ => One { change: change.clone(), until: None, groups: BTreeSet::new(), giving: None },
        };
        let mut one = One { giving: None, ..one };
        match release {
            Release::After(micros) => one.until = one.until.max(Some(now.saturating_add(*micros))),
            Release::Resolved if lasts => drop(one.groups.insert(group.to_owned())),
            Release::Resolved | Release::Undone => one.until = one.until.max(Some(now)),
        }
        self.0.insert(key.clone(), one);
        let mut touched = vec![key];
        touched.extend(self.give_up_one(now));
        touched
    }

    /// A firing that was undone has given back what it had changed.
    fn undone(&mut self, key: &str, back: &Change) -> Vec<String> {
        let Some(one) = self.0.remove(key) else { return Vec::new() };
        let change = if one.change.leads_to(back) { one.change.clone().followed_by(back) } else { one.change.clone() };
        if !change.is_nothing() {
            self.0.insert(key.to_owned(), One { change, ..one });
        }
        vec![key.to_owned()]
    }

    /// Where there are too many, lets one go early.
    fn give_up_one(&mut self, now: i64) -> Option<String> {
        let held = || self.0.iter().filter(|(_, one)| one.giving.is_none());
        if held().count() <= MOST {
            return None;
        }
        let (key, _) = held().min_by_key(|(_, one)| one.deadline().unwrap_or(i64::MAX))?;
        let key = key.clone();
        let one = self.0.get_mut(&key)?;
        one.groups.clear();
        one.until = Some(now);
        Some(key)
    }

    /// Whether the firing is giving something back.
    pub(super) fn gives(&self, firing: &FiringId) -> bool {
        self.0.values().any(|one| one.giving.as_ref() == Some(firing))
    }

    /// What the rule had fired for has ended for the group.
    pub(super) fn resolved(&mut self, group: &str, now: i64) -> Vec<String> {
        let mut touched = Vec::new();
        for (key, one) in &mut self.0 {
            if one.groups.remove(group) {
                one.until = one.until.max(Some(now));
                touched.push(key.clone());
            }
        }
        touched
    }

    /// When it is to be given back; nothing while somebody holds it, or while it is being given back.
    pub(super) fn deadline(&self, key: &str) -> Option<i64> {
        self.0.get(key)?.deadline()
    }

    /// What is given back.
    pub(super) fn change(&self, key: &str) -> Option<&Change> {
        self.0.get(key).map(|one| &one.change)
    }

    /// The firing gives it back.
    pub(super) fn give(&mut self, key: &str, firing: &FiringId) {
        if let Some(one) = self.0.get_mut(key) {
            one.giving = Some(firing.clone());
            one.until = None;
        }
    }

    /// The firing, which has failed to give the change back, is to do it again; unless the object was changed again since.
    pub(super) fn give_again(&mut self, change: &Change, firing: &FiringId) {
        let giving = Some(firing.clone());
        let again = || One { change: change.clone(), until: None, groups: BTreeSet::new(), giving };
        self.0.entry(change.key()).or_insert_with(again);
    }

    /// The firing has given back what it was to, or has failed to: unless the object was changed again meanwhile, it is remembered no more.
    pub(super) fn given(&mut self, firing: &FiringId) -> Option<String> {
        let (key, _) = self.0.iter().find(|(_, one)| one.giving.as_ref() == Some(firing))?;
        let key = key.clone();
        self.0.remove(&key);
        Some(key)
    }

    /// What nobody is giving back: the rule is gone.
    pub(super) fn left(&self) -> impl Iterator<Item = (&String, &Change)> {
        self.0.iter().filter(|(_, one)| one.giving.is_none()).map(|(key, one)| (key, &one.change))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{RuleUid, Standing};

    const SECOND: i64 = 1_000_000;

    fn scaled(object: &str, from: i64, to: i64, release: Release) -> Remember {
        let change = Change {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: Some("shop".into()),
            name: object.into(),
            uid: object.into(),
            subresource: Some("scale".into()),
            manager: "m".into(),
            unsure: false,
            back: json!({"replicas": from}),
            made: json!({"replicas": to}),
        };
        Remember { rule: RuleUid("r".into()), change, release }
    }

    fn after(from: i64, to: i64, seconds: i64) -> Remember {
        scaled("web", from, to, Release::After(seconds * SECOND))
    }

    const WEB: &str = "web/scale";

    #[test]
    fn the_first_value_comes_back_when_the_last_holder_lets_go() {
        let mut all = Remembered::default();
        all.remember(&after(2, 4, 30), "a", true, 0);
        all.remember(&after(4, 6, 30), "b", true, 10 * SECOND);
        assert_eq!(all.deadline(WEB), Some(40 * SECOND));
        let change = all.change(WEB).expect("remembered");
        assert_eq!((&change.back, &change.made), (&json!({"replicas": 2}), &json!({"replicas": 6})));
        // Found as it is to be: it is held longer.
        all.remember(&after(6, 6, 30), "c", true, 20 * SECOND);
        assert_eq!(all.deadline(WEB), Some(50 * SECOND));
        assert_eq!(all.change(WEB).expect("remembered").standing(&json!({"replicas": 6})), Standing::Made);
    }

    #[test]
    fn what_somebody_else_has_set_in_between_is_what_comes_back() {
        let mut all = Remembered::default();
        all.remember(&after(2, 4, 30), "a", true, 0);
        all.remember(&after(10, 12, 30), "a", true, 5 * SECOND);
        assert_eq!(all.change(WEB).expect("remembered").back, json!({"replicas": 10}));
        // And what was as wanted without the rule is nothing to give back.
        let mut all = Remembered::default();
        all.remember(&after(4, 4, 30), "a", true, 0);
        assert!(all.is_empty());
    }

    #[test]
    fn what_may_have_been_made_is_given_back_where_nothing_is_known_and_changes_nothing_else() {
        let unsure = |from: i64, to: i64| {
            let known = after(from, to, 30);
            Remember { change: Change { unsure: true, ..known.change }, ..known }
        };
        let mut all = Remembered::default();
        all.remember(&unsure(2, 4), "a", true, 0);
        assert_eq!(all.deadline(WEB), Some(30 * SECOND));
        assert!(all.change(WEB).expect("remembered").unsure, "the mark has to bear witness");
        // It was made, as the next one finds.
        all.remember(&after(4, 6, 30), "b", true, SECOND);
        let change = all.change(WEB).expect("remembered").clone();
        assert_eq!((change.unsure, &change.back), (false, &json!({"replicas": 2})));
        assert_eq!(all.remember(&unsure(6, 8), "c", true, 2 * SECOND), [""; 0]);
        assert_eq!((all.change(WEB), all.deadline(WEB)), (Some(&change), Some(31 * SECOND)));
    }

    #[test]
    fn groups_hold_until_they_have_ended_and_one_that_ended_before_does_not_hold() {
        let mut all = Remembered::default();
        all.remember(&scaled("web", 2, 4, Release::Resolved), "a", true, 0);
        all.remember(&scaled("web", 4, 6, Release::Resolved), "b", true, SECOND);
        assert_eq!(all.resolved("a", 2 * SECOND), [WEB]);
        assert_eq!(all.deadline(WEB), None, "b holds it");
        all.resolved("b", 3 * SECOND);
        assert_eq!(all.deadline(WEB), Some(3 * SECOND));
        all.remember(&scaled("late", 1, 2, Release::Resolved), "a", false, 4 * SECOND);
        assert_eq!(all.deadline("late/scale"), Some(4 * SECOND));
    }

    #[test]
    fn what_was_undone_is_not_given_back_again() {
        let mut all = Remembered::default();
        all.remember(&after(2, 4, 30), "a", true, 0);
        all.remember(&after(4, 6, 30), "b", true, 0);
        all.remember(&scaled("web", 6, 4, Release::Undone), "b", true, SECOND);
        let change = all.change(WEB).expect("a holds it");
        assert_eq!((&change.back, &change.made), (&json!({"replicas": 2}), &json!({"replicas": 4})));
        all.remember(&scaled("web", 4, 2, Release::Undone), "a", true, SECOND);
        assert!(all.is_empty());
    }

    #[test]
    fn a_change_while_it_is_given_back_keeps_the_first_value() {
        let (mut all, firing) = (Remembered::default(), FiringId("f".into()));
        all.remember(&after(2, 4, 30), "a", true, 0);
        all.give(WEB, &firing);
        assert_eq!(all.deadline(WEB), None);
        all.remember(&after(4, 6, 30), "a", true, 31 * SECOND);
        assert_eq!(all.given(&firing), None, "it holds it again");
        assert_eq!(all.change(WEB).expect("remembered").back, json!({"replicas": 2}));
        all.give(WEB, &firing);
        assert_eq!(all.given(&firing).as_deref(), Some(WEB));
        assert!(all.is_empty());
    }

    #[test]
    fn there_is_a_limit_and_beyond_it_the_next_goes_early() {
        let mut all = Remembered::default();
        let object = |number: usize| scaled(&format!("o{number}"), 1, 2, Release::After(60 * SECOND + number as i64));
        for number in 0..MOST {
            assert_eq!(all.remember(&object(number), "g", true, 0).len(), 1);
        }
        let touched = all.remember(&object(MOST), "g", true, 5);
        assert_eq!(touched, [format!("o{MOST}/scale"), "o0/scale".to_owned()]);
        assert_eq!(all.deadline("o0/scale"), Some(5));
    }
}
