//! An event as a rule sees it: with what its account may know, and with what is so for one of its sources only.

use std::sync::Arc;

use serde_json::json;

use crate::{
    event::{Event, TYPE_KUBERNETES_EVENT},
    record::{Account, EventInput},
    rule::{
        change::old_object,
        compile::{CompiledSource, Rule},
    },
};

/// The event as rules see it, made once for all that see it alike.
pub(in crate::rule) struct Views<'i> {
    pub(in crate::rule) input: &'i EventInput,
    /// A Kubernetes Event, as accounts see it.
    of_accounts: Vec<(Account, Arc<Event>)>,
    /// A change, for sources whose selector the object has left or not, and by what the rule reads of the object as it was.
    of_changes: Vec<(bool, Vec<u64>, Arc<Event>)>,
}

impl<'i> Views<'i> {
    pub(in crate::rule) fn new(input: &'i EventInput) -> Self {
        Self { input, of_accounts: Vec::new(), of_changes: Vec::new() }
    }

    /// The event as a source of the rule sees it.
    pub(in crate::rule) fn of(&mut self, rule: &Rule, source: &CompiledSource) -> Arc<Event> {
        let plain = &self.input.event;
        if plain.type_ == TYPE_KUBERNETES_EVENT {
            return self.of_account(&rule.account);
        }
        let left = source.filter.is_leaving(&self.input.origin, plain);
        let old = self.input.origin.old.as_ref().filter(|_| !rule.old.is_empty() && plain.is_change());
        if !left && old.is_none() {
            return Arc::clone(plain);
        }
        let ids: Vec<u64> = old.iter().flat_map(|_| &rule.old).map(|followed| followed.id).collect();
        let known = self.of_changes.iter().find(|known| (known.0, &known.1) == (left, &ids));
        if let Some((.., event)) = known {
            return Arc::clone(event);
        }
        let mut event = Event::clone(plain);
        if left {
            event.data["selector"] = json!("Left");
        }
        // What was not kept is told as an error before anybody asks for it.
        if let Some(Ok(old)) = old.map(|old| old_object(&rule.old, old)) {
            event.data["oldObject"] = old;
        }
        let event = Arc::new(event);
        self.of_changes.push((left, ids, Arc::clone(&event)));
        event
    }

    fn of_account(&mut self, account: &Account) -> Arc<Event> {
        let (plain, lookups) = (&self.input.event, &self.input.lookups);
        let (labels, owner) = (lookups.regarding(account), lookups.owner(account));
        if labels.is_none() && owner.is_none() {
            return Arc::clone(plain);
        }
        if let Some((_, event)) = self.of_accounts.iter().find(|(known, _)| known == account) {
            return Arc::clone(event);
        }
        let mut event = Event::clone(plain);
        if let Some(regarding) = event.data.get_mut("regarding").and_then(serde_json::Value::as_object_mut) {
            labels.map(|labels| regarding.insert("labels".to_owned(), json!(labels)));
            owner.map(|owner| regarding.insert("owner".to_owned(), json!(owner)));
        }
        let event = Arc::new(event);
        self.of_accounts.push((account.clone(), Arc::clone(&event)));
        event
    }
}
