//! Where a sink of a broker puts events: the topic of the action, or else its own.

use crate::text::cut;

/// Characters of a topic that are shown.
const SHOWN: usize = 100;

/// What a sink says of topics.
#[derive(Debug)]
pub(super) struct Topics {
    words: Words,
    default: Option<String>,
    allowed: Vec<String>,
    /// Whether a topic is one that a pattern stands for.
    fits: fn(&str, &str) -> bool,
}

/// What a kind of sink calls things, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// The kind: `mqtt`.
    pub(super) kind: &'static str,
    /// The field that has the sink's own topic: `topic`, `subject`.
    pub(super) topic: &'static str,
    /// The field that has those that actions may name.
    pub(super) allowed: &'static str,
}

impl Topics {
    /// `allowed` are patterns as `fits` knows them, the pattern first; without any all topics are allowed.
    pub(super) fn new(
        words: Words,
        default: Option<&String>,
        allowed: &[String],
        fits: fn(&str, &str) -> bool,
    ) -> Self {
        Self { words, default: default.cloned(), allowed: allowed.to_vec(), fits }
    }

    /// The topic, of an action that names this one or none.
    ///
    /// # Errors
    /// In words that follow on "EventSink NAME ".
    pub(super) fn of<'t>(&'t self, named: Option<&'t str>) -> Result<&'t str, String> {
        let Self { words: Words { kind, topic, allowed: patterns }, default, allowed, fits } = self;
        match (named, default) {
            (None, None) => {
                Err(format!("has no {topic} of its own: set {kind}.{topic}, or topic in an action publish"))
            }
            (None, Some(default)) => Ok(default),
            (Some(named), Some(default)) if named == default => Ok(named),
            (Some(named), _) if allowed.is_empty() || allowed.iter().any(|pattern| fits(pattern, named)) => Ok(named),
            (Some(named), _) => Err(format!(
                "lets no rule name the {topic} {:?}: add it to {kind}.{patterns}, or name another",
                cut(named, SHOWN)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_names_what_is_allowed_and_the_sinks_own_is_for_those_that_name_none() {
        let topics = |default: Option<&str>, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|&one| one.to_owned()).collect();
            let words = Words { kind: "mqtt", topic: "topic", allowed: "allowedTopics" };
            Topics::new(words, default.map(str::to_owned).as_ref(), &allowed, |pattern, topic| pattern == topic)
        };
        let of = |default, allowed: &[&str], named| topics(default, allowed).of(named).map(str::to_owned);
        assert_eq!(of(Some("a"), &[], None).as_deref(), Ok("a"));
        assert_eq!(of(Some("a"), &[], Some("b")).as_deref(), Ok("b"));
        assert_eq!(of(Some("a"), &["b"], Some("b")).as_deref(), Ok("b"));
        assert_eq!(of(Some("a"), &["b"], Some("a")).as_deref(), Ok("a"));
        let why = of(Some("a"), &["b"], Some("c")).expect_err("not allowed");
        assert_eq!(why, "lets no rule name the topic \"c\": add it to mqtt.allowedTopics, or name another");
        let why = of(None, &[], None).expect_err("none");
        assert_eq!(why, "has no topic of its own: set mqtt.topic, or topic in an action publish");
    }
}
