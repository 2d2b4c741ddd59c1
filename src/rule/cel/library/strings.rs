//! Texts. Places in them are counted in characters, not in bytes.

use super::{
    super::{failure::Failure, meter::MAX_LIST, value::List},
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    (".charAt(string, int): string", char_at),
    (".contains(string, string): bool", contains),
    (".endsWith(string, string): bool", ends_with),
    (".indexOf(string, string): int", index_of),
    (".indexOf(string, string, int): int", index_of),
    (".join(list): string", join),
    (".join(list, string): string", join),
    (".lastIndexOf(string, string): int", last_index_of),
    (".lastIndexOf(string, string, int): int", last_index_of),
    (".lowerAscii(string): string", |args, meter| mapped(args, meter, |text| text.to_ascii_lowercase())),
    (".replace(string, string, string): string", replace),
    (".replace(string, string, string, int): string", replace),
    (".reverse(string): string", |args, meter| mapped(args, meter, |text| text.chars().rev().collect())),
    (".split(string, string): list", split),
    (".split(string, string, int): list", split),
    (".startsWith(string, string): bool", starts_with),
    (".substring(string, int): string", substring),
    (".substring(string, int, int): string", substring),
    (".trim(string): string", |args, meter| mapped(args, meter, |text| text.trim().to_owned())),
    (".upperAscii(string): string", |args, meter| mapped(args, meter, |text| text.to_ascii_uppercase())),
    ("strings.quote(string): string", quote),
];

/// The text made of another one of about its length.
fn mapped<'v>(args: &[Value<'v>], meter: &Meter, map: fn(&str) -> String) -> Answer<'v> {
    let [Value::String(this)] = args else { return mismatch(args) };
    meter.text(this.len())?;
    Ok(Value::text(map(this)))
}

fn out_of_range(function: &str, index: i64) -> Failure {
    Failure::of(function, format!("index out of range: {index}"))
}

/// The byte at which the character of this number begins, or the end behind the last.
fn byte_of(function: &str, text: &str, index: i64) -> Result<usize, Failure> {
    let number = usize::try_from(index).map_err(|_| out_of_range(function, index))?;
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.into_iter().nth(number).ok_or_else(|| out_of_range(function, index))
}

fn characters(text: &str, byte: usize) -> i64 {
    i64::try_from(text[..byte].chars().count()).unwrap_or(i64::MAX)
}

fn char_at<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(this), Value::Int(index)] = args else { return mismatch(args) };
    let start = byte_of("charAt", this, *index)?;
    Ok(Value::text(this[start..].chars().next().map(String::from).unwrap_or_default()))
}

fn contains<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(this), Value::String(part)] = args else { return mismatch(args) };
    Ok(Value::Bool(this.contains(&**part)))
}

fn starts_with<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(this), Value::String(part)] = args else { return mismatch(args) };
    meter.bytes(part.len())?;
    Ok(Value::Bool(this.starts_with(&**part)))
}

fn ends_with<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(this), Value::String(part)] = args else { return mismatch(args) };
    meter.bytes(part.len())?;
    Ok(Value::Bool(this.ends_with(&**part)))
}

fn index_of<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let (this, part, from) = match args {
        [Value::String(this), Value::String(part)] => (this, part, 0),
        [Value::String(this), Value::String(part), Value::Int(from)] => (this, part, *from),
        _ => return mismatch(args),
    };
    let from = byte_of("indexOf", this, from)?;
    Ok(Value::Int(this[from..].find(&**part).map_or(-1, |found| characters(this, from + found))))
}

fn last_index_of<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let (this, part) = match args {
        [Value::String(this), Value::String(part), ..] => (this, part),
        _ => return mismatch(args),
    };
    let before = match args {
        // Where the part found may begin at the latest.
        [_, _, Value::Int(last)] => byte_of("lastIndexOf", this, *last)?,
        _ => this.len(),
    };
    let mut end = (before + part.len()).min(this.len());
    while !this.is_char_boundary(end) {
        end += 1;
    }
    let found = this[..end].rmatch_indices(&**part).map(|(at, _)| at).find(|at| *at <= before);
    Ok(Value::Int(found.map_or(-1, |found| characters(this, found))))
}

fn join<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (list, separator): (&List<'v>, &str) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator),
        _ => return mismatch(args),
    };
    let mut joined = String::new();
    for (index, item) in list.items(meter)?.into_iter().enumerate() {
        let Value::String(item) = &item else {
            return Err(Failure::of("join", format!("element {index} is a {}", item.type_name())));
        };
        let separator = if index > 0 { separator } else { "" };
        let added = separator.len() + item.len();
        meter.bytes(added)?;
        Meter::text_fits(joined.len() + added)?;
        joined.push_str(separator);
        joined.push_str(item);
    }
    Ok(Value::text(joined))
}

fn limit(limit: &i64) -> usize {
    usize::try_from(*limit).unwrap_or(usize::MAX)
}

fn replace<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (this, from, to, limit) = match args {
        [Value::String(this), Value::String(from), Value::String(to)] => (this, from, to, usize::MAX),
        [Value::String(this), Value::String(from), Value::String(to), Value::Int(most)] => {
            (this, from, to, limit(most))
        }
        _ => return mismatch(args),
    };
    let found = this.matches(&**from).take(limit).count();
    meter.text(this.len().saturating_add(found.saturating_mul(to.len())))?;
    Ok(Value::text(this.replacen(&**from, to, limit)))
}

fn split<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let (this, separator, limit) = match args {
        [Value::String(this), Value::String(separator)] => (this, separator, usize::MAX),
        [Value::String(this), Value::String(separator), Value::Int(most)] => (this, separator, limit(most)),
        _ => return mismatch(args),
    };
    let parts: Vec<&str> = match (limit, separator.is_empty()) {
        (0, _) => Vec::new(),
        (limit, false) => this.splitn(limit, &**separator).take(MAX_LIST + 1).collect(),
        (limit, true) => {
            let starts: Vec<usize> =
                this.char_indices().map(|(start, _)| start).take(limit.min(MAX_LIST + 1)).collect();
            let ends = starts.iter().skip(1).copied().chain([this.len()]);
            starts.iter().zip(ends).map(|(start, end)| &this[*start..end]).collect()
        }
    };
    meter.list(parts.len())?;
    meter.charge(parts.len() as u64)?;
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn substring<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(this), Value::Int(start), ..] = args else { return mismatch(args) };
    let from = byte_of("substring", this, *start)?;
    let to = match args {
        [_, _, Value::Int(end)] => byte_of("substring", this, *end)?,
        _ => this.len(),
    };
    match this.get(from..to) {
        Some(part) => Ok(Value::text(part)),
        None => Err(Failure::of("substring", "the end stands before the start")),
    }
}

/// The text as a literal of CEL.
fn quote<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(this)] = args else { return mismatch(args) };
    meter.text(this.len() * 2 + 2)?;
    let mut quoted = String::from("\"");
    for character in this.chars() {
        match character {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    Ok(Value::text(quoted))
}
