//! Values to JSON and text.

use serde_json::{Map as JsonMap, Number, Value as Json};

use super::{
    failure::Failure,
    stack, times,
    value::{Map, Value},
};

/// The largest value that a template may fill in, in bytes of text.
pub(super) const MAX_RENDERED: usize = 256 << 10;

/// The value in an optional as JSON, or that of a value that is none.
pub(super) fn optional_to_json(value: &Value<'_>, room: &mut usize) -> Result<Option<Json>, Failure> {
    match value {
        Value::Optional(optional) => optional.as_ref().map(|value| to_json(value, room)).transpose(),
        value => to_json(value, room).map(Some),
    }
}

fn take(room: &mut usize, bytes: usize) -> Result<(), Failure> {
    *room = room
        .checked_sub(bytes)
        .ok_or_else(|| Failure::new(format!("the value is larger than {} KiB", MAX_RENDERED >> 10)))?;
    Ok(())
}

/// The value as JSON. `room` bounds its size and is used up.
pub(super) fn to_json(value: &Value<'_>, room: &mut usize) -> Result<Json, Failure> {
    stack::for_values(|| json(value, room))
}

fn text(text: String, room: &mut usize) -> Result<Json, Failure> {
    take(room, text.len())?;
    Ok(Json::String(text))
}

fn json(value: &Value<'_>, room: &mut usize) -> Result<Json, Failure> {
    take(room, 8)?;
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Number::from_f64(*value)
            .map(Json::Number)
            .ok_or_else(|| Failure::new(format!("{value} has no JSON form")))?,
        Value::String(text) => {
            take(room, text.len())?;
            Json::from(&**text)
        }
        Value::Pattern(pattern) => text(pattern.source.to_string(), room)?,
        Value::List(list) => Json::Array(list.iter().map(|item| json(&item, room)).collect::<Result<Vec<_>, _>>()?),
        Value::Map(map) => map_to_json(map, room)?,
        Value::Timestamp(time) => text(time.to_string(), room)?,
        Value::Duration(duration) => text(times::write_duration(*duration), room)?,
        Value::Type(name) => Json::from(*name),
        Value::Url(url) => text(url.to_string(), room)?,
        Value::Ip(ip) => text(ip.to_string(), room)?,
        Value::Cidr(cidr) => text(cidr.to_string(), room)?,
        Value::Quantity(quantity) => text(quantity.to_string(), room)?,
        Value::Semver(version) => text(version.to_string(), room)?,
        Value::Bytes(_) => return Err(Failure::new("bytes have no JSON form: use string() or base64.encode()")),
        Value::Optional(_) => {
            return Err(Failure::new("an optional is no value: end the expression with .orValue(…)"));
        }
        Value::Format(_) => {
            return Err(Failure::new(format!("a value of the type {} has no JSON form", value.type_name())));
        }
    })
}

fn map_to_json(map: &Map<'_>, room: &mut usize) -> Result<Json, Failure> {
    let mut object = JsonMap::new();
    for key in map.keys() {
        let Some(value) = map.get(&key) else { continue };
        take(room, key.length())?;
        object.insert(key.to_string(), json(&value, room)?);
    }
    Ok(Json::Object(object))
}

/// JSON as it stands in a text: strings without quotes, null not at all.
pub(super) fn to_text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
