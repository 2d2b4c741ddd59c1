//! How an event came about: after how many steps of rules, and by which rules. That ends chains that lead back to themselves.
//!
//! It is kept as two extensions of the event, `signalboxhops` and `signalboxrules`. The first is taken from senders too; the second never is, for it
//! keeps rules from firing.

use super::Event;

/// Steps of rules after which nothing follows.
pub const MAX_HOPS: u64 = 8;
/// The extension that says how many steps of rules led to the event.
pub const HOPS: &str = "signalboxhops";
/// The extension that names the rules that led to it: their uids, oldest first, with commas between them.
pub const RULES: &str = "signalboxrules";
/// Rules of one trail, at most: of a batch of events, those of all its events. The number of hops ends chains whatever is left out.
const MAX_RULES: usize = 32;

/// How an event came about. The default: no rule had a part in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// How many steps of rules led to it, in this log or by HTTP.
    pub hops: u64,
    /// The uids of the rules of this log among them, oldest first.
    pub rules: Vec<String>,
}

impl Trail {
    /// That of all these events together: the most hops, and every rule.
    pub fn of<'e>(events: impl IntoIterator<Item = &'e Event>) -> Self {
        let mut trail = Self::default();
        for event in events {
            trail.hops = trail.hops.max(hops(event));
            for rule in rules(event) {
                trail.pass(rule);
            }
        }
        trail
    }

    /// One step further, by this rule.
    #[must_use]
    pub fn by(mut self, rule: &str) -> Self {
        self.hops = self.hops.saturating_add(1);
        self.pass(rule);
        self
    }

    /// Whether nothing is to follow any more.
    pub fn is_over(&self) -> bool {
        self.hops > MAX_HOPS
    }

    /// Writes it to an event.
    pub fn mark(&self, event: &mut Event) {
        event.extensions.insert(HOPS.to_owned(), self.hops.into());
        event.extensions.insert(RULES.to_owned(), self.rules.join(",").into());
    }

    fn pass(&mut self, rule: &str) {
        if self.rules.len() < MAX_RULES && !self.rules.iter().any(|known| known == rule) {
            self.rules.push(rule.to_owned());
        }
    }
}

/// How many steps of rules led to the event.
pub fn hops(event: &Event) -> u64 {
    event.extensions.get(HOPS).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// The uids of the rules that led to the event.
pub fn rules(event: &Event) -> impl Iterator<Item = &str> {
    let rules = event.extensions.get(RULES).and_then(serde_json::Value::as_str).unwrap_or_default();
    rules.split(',').filter(|rule| !rule.is_empty())
}

/// Whether the event must not make this rule fire: the rule had a part in it, or it came by too many steps.
pub fn ends(event: &Event, rule: &str) -> bool {
    // Few events have extensions, and every match asks.
    !event.extensions.is_empty() && (hops(event) > MAX_HOPS || rules(event).any(|one| one == rule))
}

/// Takes in an event that somebody has sent, with the number of hops that the request says.
///
/// # Errors
/// When the event says no number, or more hops than [`MAX_HOPS`]; in words for the sender.
pub fn arrive(event: &mut Event, sent: u64) -> Result<(), String> {
    event.extensions.remove(RULES);
    let said = match event.extensions.remove(HOPS) {
        None => 0,
        Some(value) => {
            let text = value.as_str().and_then(|text| text.parse().ok());
            value.as_u64().or(text).ok_or_else(|| format!("{HOPS} must be a whole number, 0 or more"))?
        }
    };
    let hops = said.max(sent);
    if hops > MAX_HOPS {
        return Err(format!(
            "the event came by {hops} steps of rules; {MAX_HOPS} are taken: rules that set each other off by HTTP end here"
        ));
    }
    if hops > 0 {
        event.extensions.insert(HOPS.to_owned(), hops.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event() -> Event {
        Event::new("1", "/s", "com.acme.paid", Value::Null)
    }

    #[test]
    fn a_step_adds_itself_and_the_event_tells_it_again() {
        let mut event = event();
        assert_eq!(Trail::of([&event]), Trail::default());
        Trail::of([&event]).by("a").by("b").mark(&mut event);
        assert_eq!(Trail::of([&event]), Trail { hops: 2, rules: vec!["a".into(), "b".into()] });
        assert!(ends(&event, "a") && ends(&event, "b") && !ends(&event, "c"));
        Trail { hops: MAX_HOPS, rules: Vec::new() }.mark(&mut event);
        assert!(!ends(&event, "c"));
        Trail::of([&event]).by("c").mark(&mut event);
        assert!(ends(&event, "d"), "it came by too many steps");
    }

    #[test]
    fn of_many_events_the_longest_way_and_every_rule_counts_within_bounds() {
        let mut events = Vec::new();
        for number in 0..100 {
            let mut event = event();
            Trail { hops: number % 5, rules: vec![format!("r{number}")] }.mark(&mut event);
            events.push(event);
        }
        let trail = Trail::of(&events);
        assert_eq!((trail.hops, trail.rules.len()), (4, MAX_RULES));
    }

    #[test]
    fn what_senders_say_of_rules_is_not_believed_and_their_hops_are_counted() {
        let sent = |hops: Value, header: u64| {
            let mut event = event();
            event.extensions.insert(RULES.to_owned(), json!("a"));
            event.extensions.insert(HOPS.to_owned(), hops);
            arrive(&mut event, header).map(|()| Trail::of([&event]))
        };
        let taken = |hops| Ok(Trail { hops, rules: Vec::new() });
        assert_eq!(sent(json!(3), 0), taken(3));
        assert_eq!(sent(json!("3"), 8), taken(8));
        for (hops, header) in [(json!(9), 0), (json!(0), 9), (json!("x"), 0), (json!(-1), 0)] {
            sent(hops.clone(), header).expect_err(&hops.to_string());
        }
        let mut plain = event();
        arrive(&mut plain, 0).expect("no hops");
        assert_eq!(plain, event());
    }
}
