//! An event as a rule sees it: with what its account may know, and with what is so for one of its sources only.

use std::sync::Arc;

use serde_json::json;

use crate::{
    event::{Event, TYPE_KUBERNETES_EVENT},
    record::{Account, EventInput},
    rule::compile::{CompiledSource, Rule},
};

/// The event as rules see it, made once for all that see it alike.
pub(in crate::rule) struct Views<'i> {
    pub(in crate::rule) input: &'i EventInput,
    /// A Kubernetes Event, as accounts see it.
    of_accounts: Vec<(Account, Arc<Event>)>,
    /// A change, for sources whose selector the object has left.
    left: Option<Arc<Event>>,
}

impl<'i> Views<'i> {
    pub(in crate::rule) fn new(input: &'i EventInput) -> Self {
        Self { input, of_accounts: Vec::new(), left: None }
    }

    /// The event as a source of the rule sees it.
    pub(in crate::rule) fn of(&mut self, rule: &Rule, source: &CompiledSource) -> Arc<Event> {
        let plain = &self.input.event;
        if plain.type_ == TYPE_KUBERNETES_EVENT {
            return self.of_account(&rule.account);
        }
        if !source.filter.is_leaving(&self.input.origin, plain) {
            return Arc::clone(plain);
        }
        let left = self.left.get_or_insert_with(|| {
            let mut event = Event::clone(plain);
            event.data["selector"] = json!("Left");
            Arc::new(event)
        });
        Arc::clone(left)
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
