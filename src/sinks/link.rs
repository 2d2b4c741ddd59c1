//! The link of a sink's notifications: where people find out more.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{BuildError, Notification};
use crate::{
    api::NotifyField,
    net,
    rule::cel::{Mode, Names, Scope, Template},
};

/// Characters of a link that is told.
const MOST: usize = 2_048;

/// What the fact is called that has the link.
const NAME: &str = "Link";

/// The facts, and apart from them the link that was added last, if one was.
pub(super) fn part(fields: &[NotifyField]) -> (&[NotifyField], Option<&NotifyField>) {
    match fields.split_last() {
        Some((link, facts)) if link.name == NAME => (facts, Some(link)),
        _ => (fields, None),
    }
}

/// A link with what is to be filled in.
pub struct Link(Template);

impl Link {
    /// The link of a spec.
    ///
    /// # Errors
    /// When it is no address, or has an expression that is none.
    pub(super) fn new(text: &str) -> Result<Self, BuildError> {
        let names = Names::of(&["event", "rule", "firing"]).with_extensions();
        let fixed = text.split("${").next().unwrap_or_default();
        let mut faults: Vec<String> = net::address(fixed).err().map(|why| format!("link: {why}")).into_iter().collect();
        match Template::compile(&Value::from(text), Mode::Url, &names, "link") {
            Ok(template) if faults.is_empty() => Ok(Self(template)),
            Ok(_) => Err(BuildError(faults)),
            Err(found) => {
                faults.extend(found.iter().map(ToString::to_string));
                Err(BuildError(faults))
            }
        }
    }

    /// Adds the link to the facts of a notification.
    ///
    /// # Errors
    /// When an expression gives nothing, or more than a link may have; in words, and nothing is added.
    pub fn add(&self, notification: &mut Notification) -> Result<(), String> {
        // `now` is not one of the names.
        let scope = Scope::new(&notification.event, "", &notification.rule, Timestamp::UNIX_EPOCH);
        let filled = self
            .0
            .fill(&scope.with_firing(&notification.firing))
            .map_err(|error| format!("without its link: {error}"))?;
        match filled.as_str() {
            Some(link) if link.len() <= MOST => {
                let field = NotifyField { name: NAME.to_owned(), value: link.to_owned() };
                notification.fields.push(field);
                Ok(())
            }
            _ => Err(format!("without its link: it is no text of at most {MOST} bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::notification;

    #[test]
    fn what_is_filled_in_is_encoded_and_what_gives_nothing_is_said() {
        let link = Link::new("https://h/${event.subject}?rule=${rule.name}&id=${firing.id}").expect("a link");
        let mut told = notification();
        link.add(&mut told).expect("added");
        assert_eq!(told.fields[0].value, "https://h/shop%2FPod%2Fweb-1?rule=web-crashloop&id=0123456789abcdef0123");
        let link = Link::new("https://h/${event.data.absent}").expect("a link");
        assert!(link.add(&mut notification()).expect_err("absent").starts_with("without its link: "));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["javascript:alert(1)", "https://${event.id}/", "https://h/${", "h"] {
            assert!(Link::new(text).is_err(), "{text}");
        }
    }
}
