//! JSON of strangers: what could be read in two ways, what does not fit into numbers and what is out of all proportion is refused.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::MAX_LEVELS;

/// Values in one document, keys of objects not counted: 4 MiB can hold a million, which take 100 MB when they are read.
const MAX_VALUES: usize = 100_000;

/// Reads a document: UTF-8, no key twice in one object, whole numbers of at most 64 bits, at most
/// [`MAX_LEVELS`] and 100,000 values.
///
/// # Errors
/// With a sentence that says what is wrong and where; it holds no values.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("no UTF-8 at byte {}", error.valid_up_to()))?;
    let values = Cell::new(0);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read =
        Strict { values: &values, levels: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let value = read.map_err(|error| error.to_string())?;
    match large_integer(text) {
        Some(at) => Err(format!("the whole number at byte {at} has more than 64 bits: send it as a text")),
        None => Ok(value),
    }
}

/// Where the first whole number stands that 64 bits do not hold: the reader takes it for a float, and its last digits would be lost.
fn large_integer(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'-' | b'0'..=b'9' if !quoted => {
                let rest = &text[at..];
                let end =
                    rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
                let number = &rest[..end];
                let whole = !number.contains(['.', 'e', 'E']);
                if whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(at);
                }
                at += end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    /// How many were read so far.
    values: &'c Cell<usize>,
    /// How many lists and maps are around what is read.
    levels: usize,
}

impl Strict<'_> {
    /// For what is inside a list or a map.
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels = self.levels + 1;
        if levels > MAX_LEVELS {
            return Err(E::custom(format_args!("more than {MAX_LEVELS} levels")));
        }
        Ok(Self { levels, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(D::Error::custom(format_args!("more than {MAX_VALUES} values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (inside, mut list) = (self.deeper()?, Vec::new());
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (inside, mut object) = (self.deeper()?, Map::new());
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
            object.insert(key, entries.next_value_seed(inside)?);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digits_and_odd_texts_are_kept() {
        let text = r#"{"a": [9223372036854775807, 18446744073709551615, -9223372036854775808, 1.0, 2e3, null, true],
            "b\"1": "99999999999999999999 \\\" 1e999 ü 😀"}"#;
        let value = read(text.as_bytes()).expect("JSON");
        assert_eq!(value, serde_json::from_str::<Value>(text).expect("JSON"));
        assert_eq!(value["a"][1], json!(u64::MAX));
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let keys: Vec<String> = (0..MAX_VALUES).map(|key| format!("\"{key}\":1")).collect();
        let many = format!("{{{}}}", keys.join(","));
        let cases: [(&[u8], &str); 11] = [
            (b"", "EOF"),
            (b"{} {}", "trailing"),
            (br#"{"a": 1, "b": {"c": 1, "c": 2}}"#, "a key stands twice"),
            (br#"{"a": 1e999}"#, "out of range"),
            (br#"{"a": 18446744073709551616}"#, "at byte 6 has more than 64 bits"),
            (br#"[1, -9223372036854775809]"#, "at byte 4 has more than 64 bits"),
            (b"{\"a\": \"\xff\"}", "no UTF-8 at byte 7"),
            (br#""\ud800""#, "hex escape"),
            (b"[NaN]", "expected"),
            (deep.as_bytes(), "more than 90 levels"),
            (many.as_bytes(), "more than 100000 values"),
        ];
        for (text, why) in cases {
            let said = read(text).expect_err(why);
            assert!(said.contains(why), "{said}: {why}");
        }
        let nested = |levels| read(format!("{}1{}", "[".repeat(levels), "]".repeat(levels)).as_bytes());
        assert_eq!(nested(MAX_LEVELS).map(|value| crate::event::levels(&value)), Ok(MAX_LEVELS));
        assert!(nested(MAX_LEVELS + 1).is_err());
    }
}
