//! The macros that go through a list or a map.

use std::collections::BTreeMap;

use super::{
    eval::{Answer, Run},
    failure::Failure,
    node::{Loop, Over},
    operators,
    value::{Key, Map, Value},
};

/// What a loop goes through: what its one name stands for, or its two.
enum Items<'a> {
    List(Vec<Value<'a>>),
    Map(Vec<Key<'a>>, Map<'a>),
}

impl<'a> Items<'a> {
    fn len(&self) -> usize {
        match self {
            Items::List(items) => items.len(),
            Items::Map(keys, _) => keys.len(),
        }
    }

    /// Index and element, or key and value.
    fn pair(&self, index: usize) -> (Value<'a>, Value<'a>) {
        match self {
            Items::List(items) => (Value::count(index), items.get(index).cloned().unwrap_or(Value::Null)),
            Items::Map(keys, map) => match keys.get(index) {
                Some(key) => (key.value(), map.get(key).unwrap_or(Value::Null)),
                None => (Value::Null, Value::Null),
            },
        }
    }

    /// Element or key.
    fn one(&self, index: usize) -> Value<'a> {
        match self {
            Items::List(items) => items.get(index).cloned().unwrap_or(Value::Null),
            Items::Map(keys, _) => keys.get(index).map_or(Value::Null, Key::value),
        }
    }
}

impl<'s, 'a> Run<'s, 'a> {
    pub(super) fn run_loop(&mut self, one: &'s Loop) -> Answer<'a> {
        let range = self.value(&one.range)?;
        let items = match range {
            Value::List(list) => Items::List(list.items(self.scope.meter())?),
            Value::Map(map) if one.over != Over::SortBy => {
                self.scope.meter().list(map.len())?;
                Items::Map(map.charged_keys(self.scope.meter())?, map)
            }
            other => return Err(Failure::no_overload(one.over.name(), &[&other])),
        };
        match one.over {
            Over::All => self.decide(one, &items, false),
            Over::Exists => self.decide(one, &items, true),
            Over::ExistsOne => self.exists_one(one, &items),
            Over::Map | Over::Filter | Over::TransformList => self.list_of(one, &items),
            Over::TransformMap | Over::TransformMapEntry => self.map_of(one, &items),
            Over::SortBy => self.sort_by(one, &items),
        }
    }

    /// Binds the names of the loop to what it has come to.
    fn bind(&mut self, one: &Loop, items: &Items<'a>, index: usize) {
        let outer = self.locals.len();
        if one.names.len() == 2 {
            let (first, second) = items.pair(index);
            self.locals.extend([first, second]);
        } else {
            self.locals.push(items.one(index));
        }
        debug_assert_eq!(self.locals.len(), outer + one.names.len());
    }

    fn unbind(&mut self, one: &Loop) {
        self.locals.truncate(self.locals.len() - one.names.len());
    }

    fn body(&mut self, one: &'s Loop, items: &Items<'a>, index: usize) -> Answer<'a> {
        self.bind(one, items, index);
        let answer = self.value(&one.body);
        self.unbind(one);
        answer
    }

    /// `all` and `exists`: an element that decides makes up for failures of others.
    fn decide(&mut self, one: &'s Loop, items: &Items<'a>, decides: bool) -> Answer<'a> {
        let mut failed = None;
        for index in 0..items.len() {
            match self.body(one, items, index) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(other) => failed = failed.or(Some(Failure::no_overload(one.over.name(), &[&other]))),
                Err(failure) if failure.may_be_absorbed() => failed = failed.or(Some(failure)),
                Err(failure) => return Err(failure),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn exists_one(&mut self, one: &'s Loop, items: &Items<'a>) -> Answer<'a> {
        let mut found = 0;
        for index in 0..items.len() {
            match self.body(one, items, index)? {
                Value::Bool(value) => found += usize::from(value),
                other => return Err(Failure::no_overload(one.over.name(), &[&other])),
            }
        }
        Ok(Value::Bool(found == 1))
    }

    /// Whether the loop's filter takes what its names are bound to.
    fn kept(&mut self, one: &'s Loop) -> Result<bool, Failure> {
        one.filter.as_ref().map_or(Ok(true), |filter| self.truth(filter, one.over.name()))
    }

    fn list_of(&mut self, one: &'s Loop, items: &Items<'a>) -> Answer<'a> {
        let mut made = Vec::new();
        for index in 0..items.len() {
            self.bind(one, items, index);
            if self.kept(one)? {
                made.push(self.value(&one.body)?);
            }
            self.unbind(one);
        }
        Ok(Value::list(made))
    }

    fn map_of(&mut self, one: &'s Loop, items: &Items<'a>) -> Answer<'a> {
        let mut made = BTreeMap::new();
        for index in 0..items.len() {
            self.bind(one, items, index);
            if self.kept(one)? {
                let value = self.value(&one.body)?;
                if one.over == Over::TransformMap {
                    let (key, _) = items.pair(index);
                    made.extend(Key::of(&key).map(|key| (key, value)));
                } else {
                    self.add_entries(&mut made, value)?;
                }
            }
            self.unbind(one);
        }
        Ok(Value::map(made))
    }

    fn add_entries(&self, made: &mut BTreeMap<Key<'a>, Value<'a>>, entries: Value<'a>) -> Result<(), Failure> {
        let Value::Map(entries) = entries else {
            return Err(Failure::no_overload("transformMapEntry", &[&entries]));
        };
        for key in entries.charged_keys(self.scope.meter())? {
            if made.contains_key(&key) {
                return Err(Failure::new(format!("the key {key} stands twice in a map")));
            }
            self.scope.meter().list(made.len() + 1)?;
            made.extend(entries.get(&key).map(|value| (key, value)));
        }
        Ok(())
    }

    fn sort_by(&mut self, one: &'s Loop, items: &Items<'a>) -> Answer<'a> {
        let mut keyed = Vec::new();
        for index in 0..items.len() {
            keyed.push((self.body(one, items, index)?, items.one(index)));
        }
        operators::sort(keyed, "sortBy", self.scope.meter()).map(Value::list)
    }
}
