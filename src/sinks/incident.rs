//! What a notification says of its incident: which one it is, and whether it begins, is being worked on or is over.

use sha2::{Digest, Sha256};

use super::Notification;
use crate::{api::NotifyOperation, record::RuleUid};

/// Bytes of a key: PagerDuty takes 255 characters.
const MOST: usize = 255;

/// Which incident it is: of the rule and the group, the same after a restart and whatever happens in between.
pub fn of_group(rule: &RuleUid, group: &str) -> String {
    match format!("{}/{group}", rule.0) {
        key if key.len() <= MOST => key,
        _ => format!("{}/{}", rule.0, hash(group)),
    }
}

/// The incident that a rule names.
pub fn named(key: &str) -> String {
    if key.len() <= MOST { key.to_owned() } else { hash(key) }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Notification {
    /// The title in one line; the rule's name when there is none. What ends an incident says so.
    pub(super) fn headline(&self) -> String {
        let title = match super::fit::one_line(&self.title) {
            title if title.is_empty() => self.rule.to_string(),
            title => title,
        };
        match self.operation {
            NotifyOperation::Trigger => title,
            NotifyOperation::Acknowledge => format!("Acknowledged: {title}"),
            NotifyOperation::Resolve => format!("Resolved: {title}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_at_most_255_bytes_and_is_the_same_for_the_same() {
        let rule = RuleUid("b5a9".into());
        assert_eq!(of_group(&rule, "shop/Pod/web-1"), "b5a9/shop/Pod/web-1");
        let (long, other) = ("ß".repeat(300), "ß".repeat(301));
        assert_eq!(of_group(&rule, &long), of_group(&rule, &long));
        assert_ne!(of_group(&rule, &long), of_group(&rule, &other));
        assert!(of_group(&rule, &long).len() <= MOST);
        assert_eq!(named("db"), "db");
        assert_eq!(named(&long).len(), 64);
        assert_ne!(named(&long), named(&other));
    }
}
