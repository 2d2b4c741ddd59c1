//! Expressions that are written alike are compiled once: rules of one template differ in a name or two, and a compiled expression is up to a hundred
//! times as large as its source.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, LazyLock, Weak},
};

use parking_lot::Mutex;

use super::{CelFault, Names, check, parse::Compiled, stack};

/// All that some rule, or somebody who is just compiling one, holds.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Entries that are kept before those that nobody holds are looked for.
const MANY: usize = 1024;

/// By source and the names that it may use, which decide whether it is right.
type Key = (Arc<str>, u64);

#[derive(Default)]
struct Known {
    entries: HashMap<Key, Weak<Compiled>>,
    /// Entries that were left when those that nobody holds were looked for last.
    kept: usize,
}

/// The compiled expression.
///
/// # Errors
/// All faults.
pub(super) fn compile(source: &str, names: &Names) -> Result<Arc<Compiled>, Vec<CelFault>> {
    check::before_parsing(source).map_err(|fault| vec![fault])?;
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    let key = (Arc::from(source), hasher.finish());
    if let Some(known) = KNOWN.lock().entries.get(&key).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let compiled = Arc::new(stack::for_parsing(|| Compiled::parse(&key.0, names))?);
    KNOWN.lock().put(key, &compiled);
    Ok(compiled)
}

impl Known {
    fn put(&mut self, key: Key, compiled: &Arc<Compiled>) {
        if self.entries.len() >= MANY.max(2 * self.kept) {
            self.entries.retain(|_, one| one.strong_count() > 0);
            self.kept = self.entries.len();
        }
        self.entries.insert(key, Arc::downgrade(compiled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_alike_is_shared_and_what_may_use_other_names_is_not() {
        let source = "event.data.count >= 3 && event.subject == 'shared'";
        let first = compile(source, &Names::conditions()).expect("it compiles");
        let second = compile(source, &Names::conditions()).expect("it compiles");
        assert!(Arc::ptr_eq(&first, &second));
        compile(source, &Names::of(&["object"])).err().expect("event is not known there");
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let mut known = Known::default();
        let held = compile("1 == 1", &Names::conditions()).expect("it compiles");
        known.put(("held".into(), 0), &held);
        for number in 0..3 * MANY {
            let gone = Arc::new(Compiled::parse("1 == 2", &Names::conditions()).expect("it compiles"));
            known.put((number.to_string().into(), 0), &gone);
        }
        assert!(known.entries.len() <= MANY, "{}", known.entries.len());
        assert!(known.entries.contains_key(&("held".into(), 0)));
    }
}
