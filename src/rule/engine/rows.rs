//! The engine as rows of the view: what is saved and how it comes back.

use std::sync::Arc;

use super::{Engine, Interest};
use crate::{
    api::FiringOutcome,
    record::{Delta, FiringId, LogId, RuleRef, RuleUid, Table},
    rule::{
        compile::compile,
        groups::Group,
        silences::Silences,
        state::{RuleRow, State, Version, VersionRow},
        writes::OwnWrites,
    },
    text,
};

/// What rules of a class have seen, by the class's hash.
const SEEN: &[u8] = b"seen/";

impl Engine {
    /// The engine that a view held, and the rows that could not be read, in words. A rule that this version of the program no longer takes is among
    /// them: its counts are kept and it judges nothing until it is put again.
    pub fn restore(log: LogId, rows: impl IntoIterator<Item = (Table, Vec<u8>, Vec<u8>)>) -> (Self, Vec<String>) {
        let mut engine = Self::new(log);
        let mut damage = Vec::new();
        let mut groups = Vec::new();
        let mut rules = Vec::new();
        for (table, key, value) in rows {
            match table {
                Table::Rules => rules.push((key, value)),
                Table::Groups => groups.push((key, value)),
                Table::Meta if Self::is_control(&key) => engine.restore_control(&value, &mut damage),
                Table::Meta if Self::is_links(&key) => engine.restore_links(&value, &mut damage),
                Table::Meta => engine.restore_seen(&key, &value, &mut damage),
                Table::Firings | Table::FiringIndex | Table::Watches | Table::DeadLetterIndex | Table::DeadLetters => {}
            }
        }
        rules.iter().for_each(|(key, value)| engine.restore_rule(key, value, &mut damage));
        engine.index.forget_known();
        for (key, value) in groups {
            if let Err(why) = engine.restore_group(&key, &value) {
                damage.push(format!("group {}: {why}", String::from_utf8_lossy(&key)));
            }
        }
        (engine, damage)
    }

    fn restore_seen(&mut self, key: &[u8], value: &[u8], damage: &mut Vec<String>) {
        let Some(hash) = key.strip_prefix(SEEN) else { return };
        match (serde_json::from_value(String::from_utf8_lossy(hash).into()), serde_json::from_slice(value)) {
            (Ok(class), Ok(seen)) => self.index.know(class, seen),
            (Err(error), _) | (_, Err(error)) => damage.push(format!("{}: {error}", String::from_utf8_lossy(key))),
        }
    }

    fn restore_rule(&mut self, key: &[u8], value: &[u8], damage: &mut Vec<String>) {
        let row: RuleRow = match serde_json::from_slice(value) {
            Ok(row) => row,
            Err(error) => return damage.push(format!("rule {}: {error}", String::from_utf8_lossy(key))),
        };
        let mut version = |row: Option<VersionRow>, rule: &RuleRef| {
            let row = row?;
            match compile(rule, row.generation, &row.spec) {
                Ok(rule) => Some(Version { rule, live: row.live }),
                Err(faults) => {
                    damage.push(format!("rule {rule} generation {}: {}", row.generation, text::join(faults)));
                    None
                }
            }
        };
        let uid = row.rule.uid.clone();
        let in_force = version(row.in_force, &row.rule);
        let silences = Silences::new(row.silences, in_force.as_ref().map(|version| &*version.rule));
        let state = State {
            in_force,
            pending: version(row.pending, &row.rule),
            counts: row.progress.counts,
            last_match: row.progress.last_match,
            last_firing: row.progress.last_firing,
            last_error: row.progress.last_error,
            last_suppressed: row.progress.last_suppressed,
            recent: row.progress.recent.into(),
            groups: Default::default(),
            groups_hash: row.groups_hash,
            spent: row.spent,
            running: Default::default(),
            own: OwnWrites::restore(row.own),
            settling: row.settling,
            weighed: 0,
            begun: row.begun,
            breaker: row.breaker,
            remembered: row.remembered,
            silences,
        };
        let interest = Arc::make_mut(&mut self.interest);
        state.versions().for_each(|version| interest.insert(&version.rule));
        if let Some(version) = &state.in_force {
            self.index.insert(&version.rule, |source| version.is_live(source), row.class);
            Interest::hear(&mut self.interest, self.index.heard());
        }
        for firing in state.recent.iter().filter(|firing| firing.outcome == FiringOutcome::Running) {
            self.open.insert(FiringId(firing.id.as_str().into()), uid.clone());
        }
        let is_braked = !state.breaker.is_none();
        self.rules.insert(uid.clone(), (row.rule, Box::new(state)));
        if is_braked {
            self.note_breaker(&uid, false);
        }
        self.restore_remembered(&uid);
    }

    fn restore_group(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let key = std::str::from_utf8(key).map_err(|error| error.to_string())?;
        let (uid, group) = key.split_once('\0').ok_or("the key has no group")?;
        let row: Group = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let (_, state) = self.rules.get_mut(&RuleUid(uid.into())).ok_or("its rule is not there")?;
        state.groups.set(group, row);
        let uid = RuleUid(uid.into());
        self.reschedule(&uid, group);
        self.weigh(&uid);
        Ok(())
    }

    /// The rows that have changed since the last call.
    pub fn dirty(&mut self) -> Delta {
        let rows = std::mem::take(&mut self.changed.rows);
        let groups = std::mem::take(&mut self.changed.groups);
        let mut delta = Delta::with_capacity(rows.len() + groups.len() + 1);
        self.dirty_control(&mut delta);
        self.dirty_links(&mut delta);
        for uid in rows {
            let row = self.rules.get(&uid).map(|(rule, state)| json(&self.row(rule, state)));
            delta.push((Table::Rules, uid.0.as_bytes().to_vec(), row));
        }
        for (uid, group) in groups {
            let row = self.rules.get(&uid).and_then(|(_, state)| state.groups.get(&group));
            let key = format!("{uid}\0{group}").into_bytes();
            delta.push((Table::Groups, key, row.map(json)));
        }
        for (class, seen) in self.index.take_changed() {
            let key = [SEEN, class.to_string().as_bytes()].concat();
            delta.push((Table::Meta, key, seen.map(|seen| json(&seen))));
        }
        delta
    }

    fn row(&self, rule: &RuleRef, state: &State) -> RuleRow {
        let (seen, class) = self.seen_by_class(&rule.uid, state);
        let mut row = RuleRow::of(rule, state);
        row.progress.counts.seen += seen;
        row.class = class;
        row
    }
}

fn json(row: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows have string keys only")
}
