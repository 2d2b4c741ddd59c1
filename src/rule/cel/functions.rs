//! Functions that Kubernetes' CEL has and the crate lacks, and bounded versions of those whose results could grow without limit.
//!
//! Here: `matches`, `find`, `findAll` (compiled once, linear time), lists' `sum`, `min`, `max`, `indexOf`, `lastIndexOf`, `isSorted`,
//! `sets.contains`, `sets.equivalent`, `sets.intersects`, and `split`, `join`, `replace`, `indexOf` of strings.
//! Not here, so "unknown function" at compile time: Kubernetes' `url`, `ip`, `cidr`, `quantity`, `semver`, `format.named` and `jsonpatch`
//! libraries, the authorizer, two-variable comprehensions, and the crate's `lists.range` and `math`.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        traits::Iterable,
        types::{CelBool, CelInt, CelList, CelString, DYN_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};

use super::object::{MAX_LIST, too_long};

/// The longest text that a function may make.
pub(super) const MAX_TEXT: usize = 1 << 20;
/// A compiled pattern may take so much memory: `x{1000}{1000}` does not.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// How many patterns that are not literals are kept compiled: 256 × 1 MiB at worst, about 10 KiB each in practice.
const CACHED_PATTERNS: usize = 256;

/// Calls that are sent to the `@` versions registered here.
pub(super) const RENAMED: [&str; 8] =
    ["matches", "find", "findAll", "replace", "join", "split", "indexOf", "lastIndexOf"];

/// Compiles a pattern; matching takes time linear in the text.
pub(super) fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build().map_err(
        |error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("the pattern takes more than {MAX_PATTERN_BYTES} bytes when compiled")
            }
            other => {
                let text = other.to_string();
                format!(
                    "not a regular expression: {}",
                    text.lines().last().unwrap_or_default().trim_start_matches("error: ")
                )
            }
        },
    )
}

static PATTERN_TYPE: LazyLock<Type> = LazyLock::new(|| Type::new_opaque_type("signalbox.pattern"));

/// A literal pattern, compiled with its expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern(pub(super) Arc<Regex>);

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN_TYPE
    }

    fn cel_type() -> &'static Type {
        &PATTERN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// Compiled patterns that came out of data, the least recently used dropped first.
#[derive(Default)]
struct Cache {
    patterns: HashMap<String, (u64, Arc<Regex>)>,
    uses: u64,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

fn cached(pattern: &str) -> Result<Arc<Regex>, String> {
    let mut cache = CACHE.lock();
    cache.uses += 1;
    let now = cache.uses;
    if let Some((used, regex)) = cache.patterns.get_mut(pattern) {
        *used = now;
        return Ok(Arc::clone(regex));
    }
    let regex = Arc::new(compile_pattern(pattern)?);
    if cache.patterns.len() >= CACHED_PATTERNS {
        let oldest = cache.patterns.iter().min_by_key(|(_, (used, _))| *used).map(|(pattern, _)| pattern.clone());
        oldest.map(|pattern| cache.patterns.remove(&pattern));
    }
    cache.patterns.insert(pattern.to_owned(), (now, Arc::clone(&regex)));
    Ok(regex)
}

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn text<'x>(args: &'x Args<'_, '_>, index: usize) -> Result<&'x str, ExecutionError> {
    args.get(index)
        .and_then(|arg| arg.downcast_ref::<CelString>())
        .map(|text| text.inner())
        .ok_or_else(ExecutionError::missing_argument_or_target)
}

fn int(args: &Args<'_, '_>, index: usize) -> Option<i64> {
    args.get(index).and_then(|arg| arg.downcast_ref::<CelInt>()).map(|int| *int.inner())
}

fn items<'x, 'v>(args: &'x Args<'_, 'v>, index: usize) -> Result<Vec<&'x (dyn Val + 'v)>, ExecutionError> {
    let list =
        args.get(index).and_then(|list| list.as_iterable()).ok_or_else(ExecutionError::missing_argument_or_target)?;
    let mut list = Iterable::iter(list);
    let mut items = Vec::new();
    while let Some(item) = list.next() {
        if items.len() == MAX_LIST {
            return Err(too_long(MAX_LIST + 1));
        }
        items.push(item);
    }
    Ok(items)
}

fn own_text<'b, 'v>(text: String) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(text))
}

fn whole<'b, 'v>(number: usize) -> CowVal<'b, 'v> {
    CowVal::owned(CelInt::from(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn too_large(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, format!("a text longer than {MAX_TEXT} bytes"))
}

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let pattern = || (*PATTERN_TYPE).to_owned();
    for (kind, name) in [(STRING_TYPE, "text"), (pattern(), "pattern")] {
        let kind = || kind.to_owned();
        env.add_overload("@matches", &format!("matches {name}"), vec![STRING_TYPE, kind()], matches)?;
        env.add_member_overload("@matches", &format!("member matches {name}"), STRING_TYPE, vec![kind()], matches)?;
        env.add_member_overload("@find", &format!("find {name}"), STRING_TYPE, vec![kind()], find)?;
        env.add_member_overload("@findAll", &format!("findAll {name}"), STRING_TYPE, vec![kind()], find_all)?;
        env.add_member_overload(
            "@findAll",
            &format!("findAll {name} int"),
            STRING_TYPE,
            vec![kind(), INT_TYPE],
            find_all,
        )?;
    }
    let strings = |count: usize| (0..count).map(|_| STRING_TYPE).collect::<Vec<_>>();
    env.add_member_overload("@replace", "replace", STRING_TYPE, strings(2), replace)?;
    env.add_member_overload("@replace", "replace int", STRING_TYPE, vec![STRING_TYPE, STRING_TYPE, INT_TYPE], replace)?;
    env.add_member_overload("@split", "split", STRING_TYPE, strings(1), split)?;
    env.add_member_overload("@split", "split int", STRING_TYPE, vec![STRING_TYPE, INT_TYPE], split)?;
    env.add_member_overload("@indexOf", "indexOf", STRING_TYPE, strings(1), index_of)?;
    env.add_member_overload("@indexOf", "indexOf int", STRING_TYPE, vec![STRING_TYPE, INT_TYPE], index_of)?;
    env.add_member_overload("@lastIndexOf", "lastIndexOf", STRING_TYPE, strings(1), last_index_of)?;
    env.add_member_overload("@join", "join", LIST_TYPE, vec![], join)?;
    env.add_member_overload("@join", "join text", LIST_TYPE, strings(1), join)?;
    env.add_member_overload("@indexOf", "list indexOf", LIST_TYPE, vec![DYN_TYPE], list_index_of)?;
    env.add_member_overload("@lastIndexOf", "list lastIndexOf", LIST_TYPE, vec![DYN_TYPE], list_last_index_of)?;
    env.add_member_overload("sum", "list sum", LIST_TYPE, vec![], sum)?;
    env.add_member_overload("min", "list min", LIST_TYPE, vec![], |args| extreme(&args, "min", Ordering::Less))?;
    env.add_member_overload("max", "list max", LIST_TYPE, vec![], |args| extreme(&args, "max", Ordering::Greater))?;
    env.add_member_overload("isSorted", "list isSorted", LIST_TYPE, vec![], is_sorted)?;
    env.add_overload("sets.contains", "sets contains", vec![LIST_TYPE, LIST_TYPE], |args| {
        let (set, of) = sets(&args)?;
        Ok(CowVal::owned(CelBool::from(of.iter().all(|one| has(&set, *one)))))
    })?;
    env.add_overload("sets.intersects", "sets intersects", vec![LIST_TYPE, LIST_TYPE], |args| {
        let (set, of) = sets(&args)?;
        Ok(CowVal::owned(CelBool::from(of.iter().any(|one| has(&set, *one)))))
    })?;
    env.add_overload("sets.equivalent", "sets equivalent", vec![LIST_TYPE, LIST_TYPE], |args| {
        let (a, b) = sets(&args)?;
        let same = a.iter().all(|one| has(&b, *one)) && b.iter().all(|one| has(&a, *one));
        Ok(CowVal::owned(CelBool::from(same)))
    })
}

fn regex(function: &str, args: &Args<'_, '_>) -> Result<Arc<Regex>, ExecutionError> {
    match args.get(1).and_then(|arg| arg.downcast_ref::<Pattern>()) {
        Some(pattern) => Ok(Arc::clone(&pattern.0)),
        None => cached(text(args, 1)?).map_err(|error| ExecutionError::function_error(function, error)),
    }
}

fn matches<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(regex("matches", &args)?.is_match(text(&args, 0)?))))
}

fn find<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let regex = regex("find", &args)?;
    Ok(own_text(regex.find(text(&args, 0)?).map(|found| found.as_str().to_owned()).unwrap_or_default()))
}

fn find_all<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let regex = regex("findAll", &args)?;
    // As in Kubernetes, a negative limit means no limit.
    let limit = int(&args, 2).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MAX_LIST + 1).min(MAX_LIST + 1);
    let found: Vec<Box<dyn Val + 'v>> = regex
        .find_iter(text(&args, 0)?)
        .take(limit)
        .map(|found| Box::new(CelString::from(found.as_str().to_owned())) as Box<dyn Val + 'v>)
        .collect();
    if found.len() > MAX_LIST {
        return Err(too_long(found.len()));
    }
    Ok(CowVal::owned(CelList::from(found)))
}

fn replace<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (this, from, to) = (text(&args, 0)?, text(&args, 1)?, text(&args, 2)?);
    let limit = int(&args, 3).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let found = this.matches(from).take(limit).count();
    if this.len().saturating_add(found.saturating_mul(to.len())) > MAX_TEXT {
        return Err(too_large("replace"));
    }
    Ok(own_text(this.replacen(from, to, limit)))
}

fn split<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (this, separator) = (text(&args, 0)?, text(&args, 1)?);
    let limit = int(&args, 2).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match (limit, separator.is_empty()) {
        (0, _) => Vec::new(),
        (limit, false) => this.splitn(limit, separator).take(MAX_LIST + 1).collect(),
        (limit, true) => {
            let starts: Vec<usize> =
                this.char_indices().map(|(start, _)| start).take(limit.min(MAX_LIST + 1)).collect();
            let ends = starts.iter().skip(1).copied().chain([this.len()]);
            starts.iter().zip(ends).map(|(start, end)| &this[*start..end]).collect()
        }
    };
    if parts.len() > MAX_LIST {
        return Err(too_long(parts.len()));
    }
    let parts: Vec<Box<dyn Val + 'v>> =
        parts.into_iter().map(|part| Box::new(CelString::from(part.to_owned())) as Box<dyn Val + 'v>).collect();
    Ok(CowVal::owned(CelList::from(parts)))
}

fn join<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let separator = if args.len() > 1 { text(&args, 1)? } else { "" };
    let mut joined = String::new();
    for (index, item) in items(&args, 0)?.into_iter().enumerate() {
        let item = item.downcast_ref::<CelString>().ok_or_else(|| {
            ExecutionError::function_error("join", format!("element {index} is a {}", item.get_type().name()))
        })?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(item.inner());
        if joined.len() > MAX_TEXT {
            return Err(too_large("join"));
        }
    }
    Ok(own_text(joined))
}

/// A byte offset as a number of characters.
fn characters<'b, 'v>(this: &str, offset: Option<usize>) -> CowVal<'b, 'v> {
    match offset {
        Some(offset) => whole(this[..offset].chars().count()),
        None => CowVal::owned(CelInt::from(-1)),
    }
}

fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (this, needle, skip) = (text(&args, 0)?, text(&args, 1)?, int(&args, 2).unwrap_or(0));
    let start = usize::try_from(skip)
        .ok()
        .and_then(|skip| this.char_indices().map(|(start, _)| start).chain([this.len()]).nth(skip))
        .ok_or_else(|| ExecutionError::function_error("indexOf", format!("index out of range: {skip}")))?;
    Ok(characters(this, this[start..].find(needle).map(|found| found + start)))
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let this = text(&args, 0)?;
    Ok(characters(this, this.rfind(text(&args, 1)?)))
}

fn list_index_of<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let found = items(&args, 0)?.iter().position(|item| same(*item, args[1].as_ref()));
    Ok(found.map_or_else(|| CowVal::owned(CelInt::from(-1)), whole))
}

fn list_last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let found = items(&args, 0)?.iter().rposition(|item| same(*item, args[1].as_ref()));
    Ok(found.map_or_else(|| CowVal::owned(CelInt::from(-1)), whole))
}

fn same(a: &dyn Val, b: &dyn Val) -> bool {
    super::convert::equal(a, b)
}

fn has(set: &[&dyn Val], one: &dyn Val) -> bool {
    set.iter().any(|item| same(*item, one))
}

type Pair<'x, 'v> = (Vec<&'x (dyn Val + 'v)>, Vec<&'x (dyn Val + 'v)>);

/// Two lists as sets; each of one is compared with each of the other, hence the lower bound.
fn sets<'x, 'v>(args: &'x Args<'_, 'v>) -> Result<Pair<'x, 'v>, ExecutionError> {
    let (a, b) = (items(args, 0)?, items(args, 1)?);
    if a.len().saturating_mul(b.len()) > MAX_LIST * 10 {
        return Err(ExecutionError::function_error("sets", format!("{} × {} elements are too many", a.len(), b.len())));
    }
    Ok((a, b))
}

fn sum<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let mut total: Option<Box<dyn Val + 'v>> = None;
    for item in items(&args, 0)? {
        // Texts add up too, but the sum of a list is one of numbers or durations.
        if item.downcast_ref::<CelString>().is_some() || item.as_iterable().is_some() {
            return Err(ExecutionError::no_such_member_overload(
                "sum",
                vec![format!("list of {}", item.get_type().name())],
            ));
        }
        total = Some(match total {
            None => item.clone_as_boxed(),
            Some(total) => total
                .as_adder()
                .ok_or_else(|| ExecutionError::no_such_member_overload("sum", vec![item.get_type().name().to_owned()]))?
                .add(item)?
                .into_owned(),
        });
    }
    Ok(total.map_or_else(|| whole(0), CowVal::Owned))
}

fn order(function: &str, a: &dyn Val, b: &dyn Val) -> Result<Ordering, ExecutionError> {
    a.as_comparer()
        .ok_or_else(|| ExecutionError::no_such_member_overload(function, vec![a.get_type().name().to_owned()]))?
        .compare(b)
}

fn extreme<'b, 'v>(args: &Args<'b, 'v>, function: &str, wanted: Ordering) -> Answer<'b, 'v> {
    let mut best: Option<&(dyn Val + 'v)> = None;
    for item in items(args, 0)? {
        best = match best {
            Some(best) if order(function, item, best)? != wanted => Some(best),
            _ => Some(item),
        };
    }
    best.map(|best| CowVal::Owned(best.clone_as_boxed()))
        .ok_or_else(|| ExecutionError::function_error(function, "the list is empty"))
}

fn is_sorted<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    for pair in items(&args, 0)?.windows(2) {
        if order("isSorted", pair[0], pair[1])? == Ordering::Greater {
            return Ok(CowVal::owned(CelBool::from(false)));
        }
    }
    Ok(CowVal::owned(CelBool::from(true)))
}
