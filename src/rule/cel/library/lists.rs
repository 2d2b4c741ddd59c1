//! Lists. `sortBy` is a macro.

use std::cmp::Ordering;

use super::{
    super::{failure::Failure, operators, value::List},
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("lists.range(int): list", range),
    (".distinct(list): list", distinct),
    (".first(list): optional", |args, _| end(args, true)),
    (".flatten(list): list", flatten),
    (".flatten(list, int): list", flatten),
    (".indexOf(list, dyn): int", index_of),
    (".isSorted(list): bool", is_sorted),
    (".last(list): optional", |args, _| end(args, false)),
    (".lastIndexOf(list, dyn): int", last_index_of),
    (".max(list): dyn", |args, meter| extreme("max", args, meter, Ordering::Greater)),
    (".min(list): dyn", |args, meter| extreme("min", args, meter, Ordering::Less)),
    (".reverse(list): list", reverse),
    (".slice(list, int, int): list", slice),
    (".sort(list): list", sort),
    (".sum(list): dyn", sum),
];

fn range<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::Int(end)] = args else { return mismatch(args) };
    let length = usize::try_from(*end).map_err(|_| Failure::of("lists.range", "the end must not be negative"))?;
    meter.list(length)?;
    meter.charge(length as u64)?;
    Ok(Value::list((0..*end).map(Value::Int).collect()))
}

fn distinct<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    let mut seen: Vec<Value<'v>> = Vec::new();
    for item in list.items(meter)? {
        let mut known = false;
        for one in &seen {
            known = operators::equal(one, &item, meter)?;
            if known {
                break;
            }
        }
        if !known {
            seen.push(item);
        }
    }
    Ok(Value::list(seen))
}

fn end<'v>(args: &[Value<'v>], first: bool) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    let item = if first { list.get(0) } else { list.len().checked_sub(1).and_then(|last| list.get(last)) };
    Ok(item.map_or(Value::Optional(None), Value::some))
}

fn flatten<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return mismatch(args),
    };
    if depth < 0 {
        return Err(Failure::of("flatten", "the depth must not be negative"));
    }
    let mut flat = Vec::new();
    flatten_into(list, depth, &mut flat, meter)?;
    Ok(Value::list(flat))
}

/// Lists lie within each other no deeper than JSON and brackets do.
fn flatten_into<'v>(list: &List<'v>, depth: i64, flat: &mut Vec<Value<'v>>, meter: &Meter) -> Result<(), Failure> {
    for item in list.items(meter)? {
        match item {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, flat, meter)?,
            item => {
                meter.list(flat.len() + 1)?;
                flat.push(item);
            }
        }
    }
    Ok(())
}

fn index_of<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list), one] = args else { return mismatch(args) };
    Ok(operators::position(list, one, meter)?.map_or(Value::Int(-1), Value::count))
}

fn last_index_of<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list), one] = args else { return mismatch(args) };
    for (index, item) in list.items(meter)?.iter().enumerate().rev() {
        if operators::equal(item, one, meter)? {
            return Ok(Value::count(index));
        }
    }
    Ok(Value::Int(-1))
}

fn is_sorted<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    for pair in list.items(meter)?.windows(2) {
        if operators::compare("isSorted", &pair[0], &pair[1], meter)? == Some(Ordering::Greater) {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn extreme<'v>(function: &str, args: &[Value<'v>], meter: &Meter, wanted: Ordering) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    best(function, list.items(meter)?, meter, wanted)
}

/// The one that is less, or greater, than all others; the first of equal ones.
pub(super) fn best<'v>(function: &str, items: Vec<Value<'v>>, meter: &Meter, wanted: Ordering) -> Answer<'v> {
    let mut best: Option<Value<'v>> = None;
    for item in items {
        let better = match &best {
            Some(best) => operators::compare(function, &item, best, meter)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some(item);
        }
    }
    best.ok_or_else(|| Failure::of(function, "the list is empty"))
}

fn reverse<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    let mut items = list.items(meter)?;
    items.reverse();
    Ok(Value::list(items))
}

fn slice<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return mismatch(args) };
    let (from, to) = (usize::try_from(*start), usize::try_from(*end));
    match (from, to) {
        (Ok(from), Ok(to)) if from <= to && to <= list.len() => {
            meter.list(to - from)?;
            meter.charge((to - from) as u64)?;
            Ok(Value::list((from..to).filter_map(|index| list.get(index)).collect()))
        }
        _ => {
            let message = format!("{start} to {end} is no part of a list of {} elements", list.len());
            Err(Failure::of("slice", message))
        }
    }
}

fn sort<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    let keyed = list.items(meter)?.into_iter().map(|item| (item.clone(), item)).collect();
    operators::sort(keyed, "sort", meter).map(Value::list)
}

/// Of numbers and durations; texts and lists could be added too, but a sum is none of these.
fn sum<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::List(list)] = args else { return mismatch(args) };
    let mut total: Option<Value<'v>> = None;
    for item in list.items(meter)? {
        if !matches!(item, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)) {
            return Err(Failure::of("sum", format!("an element is a {}", item.type_name())));
        }
        total = Some(match &total {
            None => item,
            Some(total) => operators::add(total, &item, meter)?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}
