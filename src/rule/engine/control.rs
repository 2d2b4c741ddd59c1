//! The engine's part in what people say beside specs: the switch for all rules, while which is set nothing fires and nothing is due, and silences.
//!
//! What rules keep of groups goes on meanwhile. What is due waits for the release, and is judged then, if it still is.

use serde::{Deserialize, Serialize};

use super::{Engine, due::Deadlines};
use crate::{
    api::Silence,
    record::{Control, Delta, Head, Mark, RuleUid, Stopped, Table},
    rule::silences::Silences,
};

/// The row that holds the switch.
const KEY: &[u8] = b"control";

/// The switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Switch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
    /// When it was released last, on the line of stamps: nothing is due before.
    #[serde(default)]
    pub(super) released: i64,
    #[serde(skip)]
    changed: bool,
}

impl Switch {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }
}

impl Deadlines {
    /// What was due before is due then.
    fn not_before(&mut self, at: i64) {
        while let Some(first) = self.order.first().filter(|first| first.at < at).cloned() {
            self.set(&first.rule, &first.group, first.remembered.as_deref(), Some(at));
        }
    }
}

impl Engine {
    /// Whether nothing is acted upon, and since when.
    pub fn stopped(&self) -> Option<&Stopped> {
        self.switch.stopped.as_ref()
    }

    /// The switch is set or released; saying it twice changes nothing but the reason.
    pub(super) fn control(&mut self, head: &Head, control: &Control) {
        match control {
            Control::Stop { by, why } => {
                let since = self.switch.stopped.as_ref().map_or(head.stamp, |stopped| stopped.since);
                self.switch.stopped = Some(Stopped { since, by: by.clone(), why: why.clone() });
            }
            Control::Release if self.switch.stopped.is_none() => return,
            Control::Release => {
                (self.switch.stopped, self.switch.released) = (None, head.stamp.at);
                self.deadlines.not_before(head.stamp.at);
            }
            Control::Silences { rule, silences } => return self.silence(head, rule, silences),
        }
        self.switch.changed = true;
        self.changed.progress.extend(self.rules.keys().cloned());
    }

    /// These silences are in force for the rule, and no others. What an earlier one holds back is looked at again now.
    fn silence(&mut self, head: &Head, uid: &RuleUid, silences: &[Silence]) {
        let Some((_, state)) = self.rules.get_mut(uid) else { return };
        let rule = state.in_force.as_ref().map(|version| &*version.rule);
        state.silences = Silences::new(silences.to_vec(), rule);
        let now = head.stamp.at;
        let hushed = state.groups.hushed(now);
        let touched: Vec<_> = hushed.iter().flat_map(|group| state.note(group, Mark::Hushed(now), None, now)).collect();
        self.touch(uid, touched);
        self.changed.rows.insert(uid.clone());
        self.changed.progress.insert(uid.clone());
    }

    /// The silences that are known of the rule.
    pub fn silences(&self, uid: &RuleUid) -> &[Silence] {
        self.rules.get(uid).map_or(&[], |(_, state)| state.silences.told())
    }

    /// Whether a row of the view is the switch's.
    pub fn is_control(key: &[u8]) -> bool {
        key == KEY
    }

    pub(super) fn restore_control(&mut self, value: &[u8], damage: &mut Vec<String>) {
        match serde_json::from_slice(value) {
            Ok(switch) => self.switch = switch,
            Err(error) => damage.push(format!("the switch for all rules: {error}")),
        }
    }

    /// Adds the row of the switch, if it has changed.
    pub(super) fn dirty_control(&mut self, delta: &mut Delta) {
        if std::mem::take(&mut self.switch.changed) {
            let row = serde_json::to_vec(&self.switch).expect("rows have string keys only");
            delta.push((Table::Meta, KEY.to_vec(), Some(row)));
        }
    }
}
