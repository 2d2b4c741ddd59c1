//! Regular expressions. A pattern that stands in the expression is compiled with it, another one once for an event.

use std::sync::Arc;

use super::{
    super::{failure::Failure, pattern::Pattern},
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("matches(string, string): bool", matches),
    (".matches(string, string): bool", matches),
    (".find(string, string): string", find),
    (".findAll(string, string): list", find_all),
    (".findAll(string, string, int): list", find_all),
];

/// The text and the pattern, paid for.
fn both<'x>(function: &str, args: &'x [Value<'_>], meter: &Meter) -> Result<(&'x str, Arc<Pattern>), Failure> {
    let (text, pattern) = match args {
        [Value::String(text), Value::Pattern(pattern), ..] => (&**text, Arc::clone(pattern)),
        [Value::String(text), Value::String(source), ..] => (&**text, meter.pattern(function, source)?),
        _ => return Err(Failure::no_overload(function, &args.iter().collect::<Vec<_>>())),
    };
    meter.matching(&pattern, text.len())?;
    Ok((text, pattern))
}

fn matches<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (text, pattern) = both("matches", args, meter)?;
    Ok(Value::Bool(pattern.regex.is_match(text)))
}

fn find<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (text, pattern) = both("find", args, meter)?;
    Ok(Value::text(pattern.regex.find(text).map_or("", |found| found.as_str())))
}

fn find_all<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (text, pattern) = both("findAll", args, meter)?;
    // As in Kubernetes, a negative limit means no limit.
    let limit = match args {
        [_, _, Value::Int(limit)] => usize::try_from(*limit).unwrap_or(usize::MAX),
        [_, _] => usize::MAX,
        _ => return mismatch(args),
    };
    let mut all = Vec::new();
    for found in pattern.regex.find_iter(text).take(limit) {
        meter.list(all.len() + 1)?;
        meter.charge(1)?;
        all.push(Value::text(found.as_str()));
        if all.len() < limit {
            // The next search may look as far as the end of the text, however short what it finds is.
            meter.matching(&pattern, text.len() - found.end())?;
        }
    }
    Ok(Value::list(all))
}
