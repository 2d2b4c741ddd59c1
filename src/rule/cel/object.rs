//! JSON and events as CEL values, without copying them: a field becomes a CEL value when an expression selects it.
//!
//! Objects and lists convert an element when it is asked for. Integers keep every digit: those that fit are `int`, larger ones `uint`.

use std::sync::OnceLock;

use cel::{
    ExecutionError,
    common::{
        traits::{Adder, Container, Indexer, Iterable, Iterator as CelIterator, Sizer, Zeroer},
        types::{
            CelBool, CelBytes, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, LIST_TYPE, MAP_TYPE, Type,
        },
        value::{CowVal, Val},
    },
};
use serde_json::{Map, Value};

use crate::{event::Event, record::Results};

/// The longest list that an expression may go through. Lists of Kubernetes objects are far shorter: an object has 1.5 MiB at most.
pub(super) const MAX_LIST: usize = 10_000;

/// The type of [`Object`]: equal to `map`, but at an address of its own, by which an object is told from a built-in map.
static OBJECT_TYPE: Type = MAP_TYPE;

/// What an [`Object`] shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fields<'a> {
    /// A JSON object.
    Json(&'a Map<String, Value>),
    /// An event, by its CloudEvents attributes.
    Event(&'a Event),
    /// The results of earlier actions.
    Results(&'a Results),
    /// A few texts.
    Texts(&'a [(&'static str, &'a str)]),
    /// Texts that are made on the way.
    Short([(&'static str, &'a str); 3]),
}

const EVENT_FIELDS: [&str; 6] = ["id", "source", "type", "subject", "time", "data"];

impl<'a> Fields<'a> {
    fn get(self, key: &str) -> Option<Box<dyn Val + 'a>> {
        match self {
            Fields::Json(map) => map.get(key).map(boxed),
            Fields::Event(event) => event_field(event, key),
            Fields::Results(results) => results.get(key).filter(|v| !v.is_null()).map(boxed),
            Fields::Texts(texts) => texts.iter().find(|(name, _)| *name == key).map(|(_, text)| string(text)),
            Fields::Short(texts) => {
                texts.iter().find(|(name, _)| *name == key && !name.is_empty()).map(|(_, text)| string(text))
            }
        }
    }

    fn keys(self) -> Vec<CelString<'a>> {
        match self {
            Fields::Json(map) => map.keys().map(|key| CelString::from(key.as_str())).collect(),
            Fields::Event(event) => EVENT_FIELDS
                .iter()
                .copied()
                .chain(event.extensions.keys().map(String::as_str))
                .filter(|key| event_field(event, key).is_some())
                .map(CelString::from)
                .collect(),
            Fields::Results(results) => {
                results.iter().filter(|(_, v)| !v.is_null()).map(|(key, _)| CelString::from(key.as_str())).collect()
            }
            Fields::Texts(texts) => texts.iter().map(|(key, _)| CelString::from(*key)).collect(),
            Fields::Short(texts) => {
                texts.iter().filter(|(key, _)| !key.is_empty()).map(|(key, _)| CelString::from(*key)).collect()
            }
        }
    }
}

fn event_field<'a>(event: &'a Event, key: &str) -> Option<Box<dyn Val + 'a>> {
    Some(match key {
        "id" => string(&event.id),
        "source" => string(&event.source),
        "type" => string(&event.type_),
        "subject" => return event.subject.as_deref().map(string),
        "time" => Box::new(CelString::from(event.time?.to_string())),
        "data" => match &event.bytes {
            Some(bytes) => Box::new(CelBytes::from(bytes.0.clone())),
            None => boxed(&event.data),
        },
        name => return event.extensions.get(name).map(boxed),
    })
}

fn string<'a>(text: &'a str) -> Box<dyn Val + 'a> {
    Box::new(CelString::from(text))
}

/// A JSON value as a CEL value.
pub(super) fn boxed<'a>(value: &'a Value) -> Box<dyn Val + 'a> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::String(text) => string(text),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Box::new(CelInt::from(int)),
            (None, Some(uint)) => Box::new(CelUInt::from(uint)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::Array(items) => Box::new(List::new(items)),
        Value::Object(map) => Box::new(Object::new(Fields::Json(map))),
    }
}

pub(super) fn too_long(length: usize) -> ExecutionError {
    ExecutionError::function_error(
        "list",
        format!("a list of {length} elements is longer than expressions may use ({MAX_LIST})"),
    )
}

/// A map whose fields are converted when they are asked for.
pub(super) struct Object<'a> {
    fields: Fields<'a>,
    /// Filled when something goes through the keys.
    keys: OnceLock<Vec<CelString<'a>>>,
}

impl<'a> Object<'a> {
    pub(super) fn new(fields: Fields<'a>) -> Self {
        Self { fields, keys: OnceLock::new() }
    }

    fn keys(&self) -> &[CelString<'a>] {
        self.keys.get_or_init(|| self.fields.keys())
    }
}

/// Whether the value is an [`Object`], whose clones copy nothing.
pub(super) fn is_object(value: &dyn Val) -> bool {
    std::ptr::eq(value.get_type(), &OBJECT_TYPE)
}

impl std::fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values end up in error messages, and those in status: no contents here.
        f.write_str("map")
    }
}

impl<'a> Val for Object<'a> {
    fn get_type(&self) -> &Type {
        &OBJECT_TYPE
    }

    fn cel_type() -> &'static Type {
        &OBJECT_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        super::convert::equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Object::new(self.fields))
    }
}

impl Container for Object<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let Some(key) = value.downcast_ref::<CelString>() else {
            return Ok(false);
        };
        Ok(self.fields.get(key.inner()).is_some())
    }
}

impl<'a> Indexer for Object<'a> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let Some(key) = key.downcast_ref::<CelString>() else {
            return Err(ExecutionError::no_such_key(&super::convert::show_key(key)));
        };
        let value: Box<dyn Val + 'v> =
            self.fields.get(key.inner()).ok_or_else(|| ExecutionError::no_such_key(key.inner()))?;
        Ok(CowVal::Owned(value))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl<'a> Iterable for Object<'a> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn CelIterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Keys(self.keys().iter()))
    }
}

struct Keys<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'v, 'a: 'v> CelIterator<'b, 'v> for Keys<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|key| key as &(dyn Val + 'v))
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        let size = match self.fields {
            Fields::Json(map) => map.len(),
            _ => self.keys().len(),
        };
        i64::try_from(size).unwrap_or(i64::MAX).into()
    }
}

impl Zeroer for Object<'_> {
    fn is_zero_value(&self) -> bool {
        *self.size().inner() == 0
    }
}

/// A list whose elements are converted when they are asked for: all of them only when something goes through them.
pub(super) struct List<'a> {
    items: &'a [Value],
    converted: OnceLock<CelList<'a>>,
}

impl<'a> List<'a> {
    fn new(items: &'a [Value]) -> Self {
        Self { items, converted: OnceLock::new() }
    }

    fn converted(&self) -> &CelList<'a> {
        self.converted.get_or_init(|| CelList::from(self.items.iter().map(boxed).collect::<Vec<_>>()))
    }
}

impl std::fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("list")
    }
}

impl<'a> Val for List<'a> {
    fn get_type(&self) -> &Type {
        &LIST_TYPE
    }

    fn cel_type() -> &'static Type {
        &LIST_TYPE
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self.converted())
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        super::convert::equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(List::new(self.items))
    }
}

impl Container for List<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        if self.items.len() > MAX_LIST {
            return Err(too_long(self.items.len()));
        }
        Ok(self.items.iter().any(|item| super::convert::equal(boxed(item).as_ref(), value)))
    }
}

impl<'a> Indexer for List<'a> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let at = if let Some(int) = index.downcast_ref::<CelInt>() {
            usize::try_from(*int.inner()).ok()
        } else if let Some(uint) = index.downcast_ref::<CelUInt>() {
            usize::try_from(*uint.inner()).ok()
        } else if let Some(double) = index.downcast_ref::<CelDouble>() {
            let double = *double.inner();
            (double.fract() == 0.0 && (0.0..=MAX_LIST as f64).contains(&double)).then_some(double as usize)
        } else {
            let types = vec!["list".to_owned(), index.get_type().name().to_owned()];
            return Err(ExecutionError::no_such_overload("_[_]", types));
        };
        let item = at.and_then(|at| self.items.get(at));
        let item = item.ok_or_else(|| ExecutionError::IndexOutOfBounds(super::convert::show_key(index).into()))?;
        let item: Box<dyn Val + 'v> = boxed(item);
        Ok(CowVal::Owned(item))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl<'a> Iterable for List<'a> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn CelIterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Iterable::iter(self.converted())
    }
}

impl Sizer for List<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.items.len()).unwrap_or(i64::MAX).into()
    }
}

impl Zeroer for List<'_> {
    fn is_zero_value(&self) -> bool {
        self.items.is_empty()
    }
}
