//! Texts as others need them: cut for people, encoded for addresses. It knows nothing of where they come from.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The text as a part of an address: nothing in it ends that part.
pub fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// At most so many characters (1 or more); what was cut ends in `…`.
pub fn cut(text: &str, characters: usize) -> String {
    let mut starts = text.char_indices().map(|(at, _)| at).skip(characters.saturating_sub(1));
    match (starts.next(), starts.next()) {
        (Some(last), Some(_)) => format!("{}…", &text[..last]),
        _ => text.to_owned(),
    }
}

/// How long what another says may be, in characters.
const MAX_WORDS: usize = 300;

/// What another says, as one line of at most 300 characters that show.
pub fn line(text: &str) -> String {
    let words: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&words.split_whitespace().collect::<Vec<_>>().join(" "), MAX_WORDS)
}

/// The parts of a message that are told together, such as all faults of a spec.
pub fn join(parts: impl IntoIterator<Item = impl Display>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_cut_has_so_many_characters_and_others_stay_as_they_are() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!((cut("", 3), cut("ab", 1)), (String::new(), "…".to_owned()));
    }

    #[test]
    fn parts_are_joined_as_they_are_shown() {
        assert_eq!(join([1, 2]), "1; 2");
        assert_eq!(join([""; 0]), "");
    }
}
