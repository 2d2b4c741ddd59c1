//! What was read out of Secrets, in types that do not show it.

use std::{collections::HashMap, fmt};

use super::SinkError;
use crate::api::SecretKeyRef;

/// Values shorter than this are not looked for in texts: replacing every `a` would only hide the text.
const SHORTEST_REDACTED: usize = 4;
/// Parts of addresses that are shorter are words.
const LONG_PART: usize = 8;

/// The value of one key of a Secret, without the white space at its end. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// The value.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The values that a sink asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(HashMap<SecretKeyRef, SecretValue>);

impl Secrets {
    /// Adds a value as it was in the Secret; white space at its end is left out.
    pub fn insert(&mut self, key: SecretKeyRef, value: &[u8]) {
        self.0.insert(key, SecretValue(value.trim_ascii_end().to_vec()));
    }

    /// The value of a key.
    ///
    /// # Errors
    /// When it was not read, or is empty.
    pub fn get(&self, key: &SecretKeyRef) -> Result<&SecretValue, SinkError> {
        match self.0.get(key) {
            Some(value) if !value.0.is_empty() => Ok(value),
            Some(_) => Err(SinkError::never(format!("key {} of Secret {} is empty", key.key, key.name))),
            None => Err(SinkError::never(format!("key {} of Secret {} was not read", key.key, key.name))),
        }
    }

    /// The value of a key as text.
    ///
    /// # Errors
    /// When it was not read, is empty or is no UTF-8.
    pub fn text(&self, key: &SecretKeyRef) -> Result<&str, SinkError> {
        std::str::from_utf8(self.get(key)?.bytes())
            .map_err(|_| SinkError::never(format!("key {} of Secret {} is not text", key.key, key.name)))
    }

    /// The text without the values: services sometimes answer with what they were sent.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in self.0.values().filter_map(|value| std::str::from_utf8(&value.0).ok()) {
            let whole = (value.len() >= SHORTEST_REDACTED).then_some(value);
            for secret in
                whole.into_iter().chain(parts(value)).filter(|secret| text.contains(*secret)).collect::<Vec<_>>()
            {
                text = text.replace(secret, "[redacted]");
            }
        }
        text
    }
}

/// What of an address, which is a secret as a whole, is one by itself: the longer parts behind the host.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    let behind = value.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, behind)| behind);
    behind.into_iter().flat_map(|behind| behind.split(['/', '?', '&', '=', '#'])).filter(|part| part.len() >= LONG_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> SecretKeyRef {
        SecretKeyRef { name: name.into(), key: "k".into() }
    }

    #[test]
    fn white_space_at_the_end_is_left_out() {
        let mut secrets = Secrets::default();
        secrets.insert(key("a"), b" token \r\n");
        assert_eq!(secrets.text(&key("a")).expect("text"), " token");
    }

    #[test]
    fn values_are_not_shown() {
        let mut secrets = Secrets::default();
        secrets.insert(key("a"), b"canary-7");
        assert!(!format!("{secrets:?}").contains("canary"));
        assert_eq!(secrets.redact("you sent canary-7, no"), "you sent [redacted], no");
    }

    #[test]
    fn parts_of_an_address_are_not_shown() {
        let mut secrets = Secrets::default();
        secrets.insert(key("a"), b"https://hooks.example.com/services/T0001/canarycanary?sig=canary-77");
        let text = secrets.redact("no such hook canarycanary of T0001 (canary-77) at hooks.example.com");
        assert_eq!(text, "no such hook [redacted] of T0001 ([redacted]) at hooks.example.com");
    }

    #[test]
    fn a_missing_and_an_empty_value_are_told_by_name() {
        let mut secrets = Secrets::default();
        secrets.insert(key("a"), b" \n");
        assert_eq!(secrets.get(&key("a")).expect_err("empty").message, "key k of Secret a is empty");
        assert_eq!(secrets.get(&key("b")).expect_err("missing").message, "key k of Secret b was not read");
    }
}
