//! CEL values to JSON and text, and the equality of maps that a built-in map does not know.

use std::collections::HashMap;

use cel::{
    ExecutionError,
    common::{
        traits::Iterable,
        types::{
            CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional,
            CelString, CelTimestamp, CelType, CelUInt, Kind,
        },
        value::Val,
    },
};
use serde_json::{Map, Number, Value};

/// The largest value that a variable may hold and a template may fill in, in bytes of text.
pub(super) const MAX_RENDERED: usize = 256 << 10;

fn fault(message: impl ToString) -> ExecutionError {
    ExecutionError::function_error("value", message)
}

type Entries<'b, 'v> = Vec<(&'b (dyn Val + 'v), Box<dyn Val + 'v>)>;

/// The keys of a map and the values they lead to.
fn entries<'b, 'v>(map: &'b (dyn Val + 'v)) -> Result<Entries<'b, 'v>, ExecutionError> {
    let (Some(keys), Some(indexer)) = (map.as_iterable(), map.as_indexer()) else {
        return Err(fault("a map without keys"));
    };
    let mut keys = keys.iter();
    let mut entries = Vec::new();
    while let Some(key) = keys.next() {
        entries.push((key, indexer.get(key)?.into_owned()));
    }
    Ok(entries)
}

fn elements<'b, 'v>(list: &'b (dyn Iterable + 'v)) -> impl Iterator<Item = &'b (dyn Val + 'v)> {
    let mut items = list.iter();
    std::iter::from_fn(move || items.next())
}

/// Equality that holds whichever side is lazy.
pub(super) fn equal(left: &dyn Val, right: &dyn Val) -> bool {
    match (left.get_type().kind(), right.get_type().kind()) {
        (Kind::Map, Kind::Map) => equal_maps(left, right),
        (Kind::List, Kind::List) => match (left.as_iterable(), right.as_iterable()) {
            (Some(left), Some(right)) => {
                let (mut left, mut right) = (left.iter(), right.iter());
                loop {
                    match (left.next(), right.next()) {
                        (None, None) => return true,
                        (Some(a), Some(b)) if equal(a, b) => {}
                        _ => return false,
                    }
                }
            }
            _ => false,
        },
        (Kind::Map | Kind::List, _) | (_, Kind::Map | Kind::List) => false,
        _ => left.equals(right),
    }
}

fn equal_maps(left: &dyn Val, right: &dyn Val) -> bool {
    let (Some(left_size), Some(right_size), Some(other)) = (left.as_sizer(), right.as_sizer(), right.as_indexer())
    else {
        return false;
    };
    if left_size.size() != right_size.size() {
        return false;
    }
    entries(left).is_ok_and(|entries| {
        entries.iter().all(|(key, a)| other.get(*key).is_ok_and(|b| equal(a.as_ref(), b.as_ref())))
    })
}

/// A key in words, for messages.
pub(super) fn show_key(key: &dyn Val) -> String {
    match to_json(key, &mut 1024) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => key.get_type().name().to_owned(),
    }
}

/// The value in an optional as JSON, or that of a value that is none.
pub(super) fn optional_to_json(value: &dyn Val, room: &mut usize) -> Result<Option<Value>, ExecutionError> {
    match value.downcast_ref::<CelOptional>() {
        Some(optional) => optional.option().map(|value| to_json(value, room)).transpose(),
        None => to_json(value, room).map(Some),
    }
}

/// The value as JSON. `room` bounds its size and is used up.
pub(super) fn to_json(value: &dyn Val, room: &mut usize) -> Result<Value, ExecutionError> {
    let mut take = |bytes: usize| match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            Ok(())
        }
        None => Err(fault(format!("the value is larger than {} KiB", MAX_RENDERED >> 10))),
    };
    take(8)?;
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(value) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*value.inner()));
    }
    if let Some(value) = value.downcast_ref::<CelInt>() {
        return Ok(Value::from(*value.inner()));
    }
    if let Some(value) = value.downcast_ref::<CelUInt>() {
        return Ok(Value::from(*value.inner()));
    }
    if let Some(value) = value.downcast_ref::<CelDouble>() {
        let double = *value.inner();
        return Number::from_f64(double).map(Value::Number).ok_or_else(|| fault(format!("{double} has no JSON form")));
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        take(text.inner().len())?;
        return Ok(Value::String(text.inner().to_owned()));
    }
    if let Some(time) = value.downcast_ref::<CelTimestamp>() {
        let utc = time.inner().with_timezone(&chrono::Utc);
        return Ok(Value::String(utc.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)));
    }
    if let Some(duration) = value.downcast_ref::<CelDuration>() {
        return Ok(Value::String(seconds(duration.inner())));
    }
    if let Some(name) = value.downcast_ref::<CelType>() {
        return Ok(Value::String(name.name().to_owned()));
    }
    match value.get_type().kind() {
        Kind::List => {
            let list = value.as_iterable().ok_or_else(|| fault("a list without elements"))?;
            elements(list).map(|item| to_json(item, room)).collect::<Result<_, _>>().map(Value::Array)
        }
        Kind::Map => {
            let mut object = Map::new();
            for (key, item) in entries(value)? {
                let key = show_key(key);
                *room = room.saturating_sub(key.len());
                object.insert(key, to_json(item.as_ref(), room)?);
            }
            Ok(Value::Object(object))
        }
        Kind::Bytes => Err(fault("bytes have no JSON form: use string()")),
        Kind::Opaque => Err(fault("an optional is no value: end the expression with .orValue(…)")),
        _ => Err(fault(format!("a value of the type {} has no JSON form", value.get_type().name()))),
    }
}

/// A duration as `string()` of CEL writes it: seconds with a fraction.
fn seconds(duration: &chrono::TimeDelta) -> String {
    let (whole, nanos) = (duration.num_seconds(), duration.subsec_nanos());
    let sign = if whole < 0 || nanos < 0 { "-" } else { "" };
    match nanos.unsigned_abs() {
        0 => format!("{sign}{}s", whole.unsigned_abs()),
        nanos => format!("{sign}{}.{}s", whole.unsigned_abs(), format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// JSON as it stands in a text: strings without quotes, null not at all.
pub(super) fn to_text(value: &Value) -> Result<String, ExecutionError> {
    match value {
        Value::Null => Err(fault("is null")),
        Value::String(text) => Ok(text.clone()),
        other => Ok(other.to_string()),
    }
}

/// A copy that borrows nothing, for a variable's value. `room` bounds its size and is used up.
pub(super) fn detach(value: &dyn Val, room: &mut usize) -> Result<Box<dyn Val>, ExecutionError> {
    let left =
        room.checked_sub(16).ok_or_else(|| fault(format!("the value is larger than {} KiB", MAX_RENDERED >> 10)))?;
    *room = left;
    macro_rules! plain {
        ($($type:ty),*) => {
            $(if let Some(value) = value.downcast_ref::<$type>() {
                return Ok(Box::new(value.clone()));
            })*
        };
    }
    plain!(CelNull, CelBool, CelInt, CelUInt, CelDouble, CelTimestamp, CelDuration, CelType);
    let mut take = |bytes: usize| {
        *room = room
            .checked_sub(bytes)
            .ok_or_else(|| fault(format!("the value is larger than {} KiB", MAX_RENDERED >> 10)))?;
        Ok::<_, ExecutionError>(())
    };
    if let Some(text) = value.downcast_ref::<CelString>() {
        take(text.inner().len())?;
        return Ok(Box::new(CelString::from(text.inner().to_owned())));
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        take(bytes.inner().len())?;
        return Ok(Box::new(CelBytes::from(bytes.inner().to_vec())));
    }
    if let Some(optional) = value.downcast_ref::<CelOptional>() {
        return Ok(Box::new(match optional.option() {
            Some(value) => CelOptional::of(detach(value, room)?),
            None => CelOptional::none(),
        }));
    }
    match value.get_type().kind() {
        Kind::List => {
            let list = value.as_iterable().ok_or_else(|| fault("a list without elements"))?;
            let items: Vec<Box<dyn Val>> = elements(list).map(|item| detach(item, room)).collect::<Result<_, _>>()?;
            Ok(Box::new(CelList::from(items)))
        }
        Kind::Map => {
            let mut map: HashMap<CelMapKey<'static>, Box<dyn Val>> = HashMap::new();
            for (key, item) in entries(value)? {
                map.insert(CelMapKey::try_from(detach(key, room)?)?, detach(item.as_ref(), room)?);
            }
            Ok(Box::new(CelMap::from(map)))
        }
        _ => Err(fault(format!("a variable cannot hold a value of the type {}", value.get_type().name()))),
    }
}
