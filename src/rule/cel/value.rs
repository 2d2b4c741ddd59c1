//! The values of expressions. JSON is borrowed: a field becomes a value when an expression selects it, and nothing is copied for that.
//!
//! Integers keep every digit: those of JSON that fit are `int`, larger ones `uint`.

use std::{borrow::Borrow, collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use k8s_openapi::jiff::SignedDuration;
use serde_json::Value as Json;

use super::{
    failure::Failure,
    fields::Fields,
    library::{Cidr, Ip, NamedFormat, Quantity, Url},
    meter::Meter,
    pattern::Pattern,
    times::Instant,
};

/// A value while an expression is evaluated.
#[derive(Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Bytes<'a>),
    List(List<'a>),
    Map(Map<'a>),
    Timestamp(Instant),
    Duration(SignedDuration),
    Type(&'static str),
    Optional(Option<Arc<Value<'a>>>),
    Url(Arc<Url>),
    Ip(Ip),
    Cidr(Cidr),
    Quantity(Quantity),
    Semver(Arc<semver::Version>),
    Format(&'static NamedFormat),
    /// A literal pattern, compiled with its expression; to expressions it is a string.
    Pattern(Arc<Pattern>),
}

/// A text, borrowed or shared.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

/// Bytes, borrowed or shared.
#[derive(Clone)]
pub(super) enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

/// A list, borrowed from JSON or made by an expression.
#[derive(Clone)]
pub(super) enum List<'a> {
    Json(&'a [Json]),
    /// With its [`Value::depth`].
    Made(Arc<Vec<Value<'a>>>, usize),
}

/// A map, borrowed or made by an expression.
#[derive(Clone)]
pub(super) enum Map<'a> {
    Fields(Fields<'a>),
    /// With its [`Value::depth`].
    Made(Arc<BTreeMap<Key<'a>, Value<'a>>>, usize),
}

/// A key of a map. Whole numbers are equal whatever their type.
#[derive(Clone)]
pub(super) enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Value::String(Text::Shared(text.into()))
    }

    pub(super) fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Value::Bytes(Bytes::Shared(bytes.into()))
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or(0);
        Value::List(List::Made(Arc::new(items), depth))
    }

    pub(super) fn map(entries: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        let depth = 1 + entries.values().map(Value::depth).max().unwrap_or(0);
        Value::Map(Map::Made(Arc::new(entries), depth))
    }

    pub(super) fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    /// A number of things.
    pub(super) fn count(number: usize) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// How many made lists, maps and optionals lie within each other. Borrowed JSON does not count: its parser bounds it.
    pub(super) fn depth(&self) -> usize {
        match self {
            Value::List(List::Made(_, depth)) | Value::Map(Map::Made(_, depth)) => *depth,
            Value::Optional(Some(value)) => 1 + value.depth(),
            _ => 0,
        }
    }

    /// The bytes of what has a text or bytes of any length, which copying or comparing it goes through; 0 for all else.
    pub(super) fn length(&self) -> usize {
        match self {
            Value::String(text) => text.len(),
            Value::Pattern(pattern) => pattern.source.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Url(url) => url.len(),
            Value::Semver(version) => version.pre.len() + version.build.len(),
            _ => 0,
        }
    }

    /// The name of its type, as `type()` gives it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) | Value::Pattern(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
        }
    }

    /// Whether `optional.ofNonZeroValue` takes it for none.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Value::Null | Value::Optional(None) => true,
            Value::Bool(value) => !value,
            Value::Int(value) => *value == 0,
            Value::Uint(value) => *value == 0,
            Value::Double(value) => *value == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
            Value::List(list) => list.len() == 0,
            Value::Map(map) => map.len() == 0,
            Value::Duration(duration) => duration.is_zero(),
            Value::Timestamp(time) => *time == Instant::EPOCH,
            _ => false,
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(value: &'a Json) -> Self {
        match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::String(text) => Value::String(Text::Borrowed(text)),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Value::Int(int),
                (None, Some(uint)) => Value::Uint(uint),
                (None, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::Array(items) => Value::List(List::Json(items)),
            Json::Object(map) => Value::Map(Map::Fields(Fields::Json(map))),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::String(Text::Borrowed(text))
    }
}

/// Values end up in messages, and those in status: no contents here.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            List::Json(items) => items.len(),
            List::Made(items, _) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items) => items.get(index).map(Value::from),
            List::Made(items, _) => items.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Value<'a>> + ExactSizeIterator + '_ {
        (0..self.len()).map(|index| self.get(index).unwrap_or(Value::Null))
    }

    /// The elements, when there are no more than an expression may go through; that many steps are charged.
    pub(super) fn items(&self, meter: &Meter) -> Result<Vec<Value<'a>>, Failure> {
        meter.list(self.len())?;
        meter.charge(self.len() as u64)?;
        Ok(self.iter().collect())
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Map::Fields(fields) => fields.len(),
            Map::Made(entries, _) => entries.len(),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Fields(fields) => fields.get(name),
            Map::Made(entries, _) => entries.get(&Key::String(Text::Borrowed(name))).cloned(),
        }
    }

    pub(super) fn get(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Fields(fields), Key::String(name)) => fields.get(name),
            (Map::Fields(_), _) => None,
            (Map::Made(entries, _), key) => entries.get(key).cloned(),
        }
    }

    pub(super) fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Fields(fields) => fields.keys().into_iter().map(|key| Key::String(Text::Borrowed(key))).collect(),
            Map::Made(entries, _) => entries.keys().cloned().collect(),
        }
    }

    /// The keys, charged for going through them and for looking each up.
    pub(super) fn charged_keys(&self, meter: &Meter) -> Result<Vec<Key<'a>>, Failure> {
        meter.charge(self.len() as u64)?;
        let keys = self.keys();
        meter.bytes(keys.iter().map(Key::length).sum())?;
        Ok(keys)
    }
}

impl<'a> Key<'a> {
    /// The value as a key, if it can be one. A double that is a whole number is that number.
    pub(super) fn of(value: &Value<'a>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Int(*value)),
            Value::Uint(value) => Some(Key::Uint(*value)),
            Value::String(text) => Some(Key::String(text.clone())),
            Value::Pattern(pattern) => Some(Key::String(Text::Shared(Arc::clone(&pattern.source)))),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => Some(Key::Int(*value as i64)),
            _ => None,
        }
    }

    /// The bytes of its text, 0 for all else.
    pub(super) fn length(&self) -> usize {
        match self {
            Key::String(text) => text.len(),
            _ => 0,
        }
    }

    pub(super) fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::Uint(value) => (1, i128::from(*value), ""),
            Key::String(text) => (2, 0, text),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(value) => value.fmt(f),
            Key::Int(value) => value.fmt(f),
            Key::Uint(value) => value.fmt(f),
            Key::String(text) => f.write_str(text),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}
