//! YAML of which the place of every value is known.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A place in a file, from 1; the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl<T> From<&Spanned<T>> for Place {
    fn from(spanned: &Spanned<T>) -> Self {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self { line: number(spanned.referenced.line()), column: number(spanned.referenced.column()) }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    pub(super) part: Part,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Scalar(Value),
    List(Vec<Node>),
    /// Keys with their places.
    Map(Vec<(String, Place, Node)>),
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Part::Map(entries) = &self.part else { return None };
        entries.iter().find(|(known, ..)| known == key).map(|(.., node)| node)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Part::Scalar(Value::String(text)) = &self.part { Some(text) } else { None }
    }

    /// As JSON, without places.
    pub fn json(&self) -> Value {
        match &self.part {
            Part::Scalar(value) => value.clone(),
            Part::List(items) => items.iter().map(Self::json).collect(),
            Part::Map(entries) => {
                Value::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The value at a path such as `spec.when[1].expression`, or what is nearest to it above.
    pub fn nearest(&self, path: &str) -> &Self {
        self.find(path).0
    }

    /// Where to look for what is said of a path: at the key of a map or a list, for these begin on the line after it, else at the value.
    pub fn place_of(&self, path: &str) -> Place {
        match self.find(path) {
            (Self { part: Part::Scalar(_), place }, _) | (Self { place, .. }, None) => *place,
            (_, Some(key)) => key,
        }
    }

    /// The value nearest to a path, and where the key stands that it has in a map.
    fn find(&self, path: &str) -> (&Self, Option<Place>) {
        let (mut here, mut key_of) = (self, None);
        for step in steps(path) {
            let next = match (&here.part, &step) {
                (Part::Map(entries), Step::Key(key)) => {
                    entries.iter().find(|(known, ..)| known == key).map(|(_, place, node)| (node, Some(*place)))
                }
                (Part::List(items), Step::Index(index)) => items.get(*index).map(|node| (node, None)),
                _ => None,
            };
            let Some(next) = next else { break };
            (here, key_of) = next;
        }
        (here, key_of)
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// The steps of a path as faults have it: `.key`, `[0]`, `["a key"]`.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("[\"") {
            let end = inner.find("\"]").unwrap_or(inner.len());
            steps.push(Step::Key(inner[..end].replace("\\\"", "\"")));
            rest = inner.get(end + 2..).unwrap_or_default();
        } else if let Some(inner) = rest.strip_prefix('[') {
            let end = inner.find(']').unwrap_or(inner.len());
            steps.extend(inner[..end].parse().map(Step::Index));
            rest = inner.get(end + 1..).unwrap_or_default();
        } else {
            let plain = rest.strip_prefix('.').unwrap_or(rest);
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            if end > 0 {
                steps.push(Step::Key(plain[..end].to_owned()));
            }
            rest = &plain[end..];
            if end == 0 && !rest.starts_with('[') {
                break;
            }
        }
    }
    steps
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Part>::deserialize(deserializer)?;
        Ok(Self { place: Place::from(&spanned), part: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parts)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML that JSON can say")
    }

    fn visit_unit<E>(self) -> Result<Part, E> {
        Ok(Part::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Part, E> {
        Ok(Part::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        Part::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Part, E> {
        Ok(Part::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Part, E> {
        Ok(Part::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Part, E> {
        Ok(Part::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Part, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom(format_args!("{value} is no number of JSON")))?;
        Ok(Part::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Part, E> {
        Ok(Part::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Part, E> {
        Ok(Part::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Part, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item);
        }
        Ok(Part::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Part, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let place = Place::from(&key);
            map.push((key.value, place, entries.next_value::<Node>()?));
        }
        Ok(Part::Map(map))
    }
}
