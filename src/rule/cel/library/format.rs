//! `'%s has %d'.format(['web', 3])`: `%s %d %f %e %b %o %x %X %%`, `%f` and `%e` with a precision as in `%.2f`.

use super::{
    super::{
        failure::Failure,
        times,
        value::{List, Map},
    },
    Answer, Meter, Row, Value,
    conversions::{with_exponent, write_double},
    mismatch,
};

pub(super) const ROWS: &[Row] = &[(".format(string, list): string", format)];

/// Digits behind the point, at most.
const MAX_PRECISION: usize = 1_000;
const USUAL_PRECISION: usize = 6;

fn fault(message: impl std::fmt::Display) -> Failure {
    Failure::of("format", message)
}

fn format<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(form), Value::List(list)] = args else { return mismatch(args) };
    let list: &List<'v> = list;
    Meter::text_fits(form.len())?;
    let mut made = String::new();
    let mut used = 0;
    let mut rest: &str = form;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            made.push('%');
            rest = behind;
            continue;
        }
        let precision;
        (precision, rest) = precision_of(rest)?;
        let verb = rest.chars().next().ok_or_else(|| fault("the text ends within a verb"))?;
        rest = &rest[verb.len_utf8()..];
        let value = list.get(used).ok_or_else(|| fault(format!("there is no value {used} for %{verb}")))?;
        used += 1;
        let before = made.len();
        let written = write(&mut made, verb, precision, &value, meter);
        // Charged also when it failed half-way.
        meter.bytes(made.len() - before)?;
        written?;
        Meter::text_fits(made.len())?;
    }
    made.push_str(rest);
    Ok(Value::text(made))
}

/// The precision, if one is given, and what stands behind it.
fn precision_of(text: &str) -> Result<(Option<usize>, &str), Failure> {
    let Some(digits) = text.strip_prefix('.') else { return Ok((None, text)) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let precision = digits[..end].parse().ok().filter(|precision| *precision <= MAX_PRECISION);
    let precision = precision.ok_or_else(|| fault(format!("a precision is a number of at most {MAX_PRECISION}")))?;
    Ok((Some(precision), &digits[end..]))
}

fn write(
    made: &mut String,
    verb: char,
    precision: Option<usize>,
    value: &Value<'_>,
    meter: &Meter,
) -> Result<(), Failure> {
    let cannot = || fault(format!("%{verb} cannot write a {}", value.type_name()));
    let text = match (verb, value) {
        ('s', value) => return write_plain(made, value, meter),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('d' | 'f' | 'e', Value::Double(value)) if !value.is_finite() => unending(*value).to_owned(),
        ('f' | 'e', value) => {
            let number = match value {
                Value::Double(value) => *value,
                Value::Int(value) => *value as f64,
                Value::Uint(value) => *value as f64,
                _ => return Err(cannot()),
            };
            let precision = precision.unwrap_or(USUAL_PRECISION);
            if verb == 'f' { format!("{number:.precision$}") } else { with_exponent(&format!("{number:.precision$e}")) }
        }
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b' | 'o' | 'x' | 'X', Value::Int(value)) => {
            let sign = if *value < 0 { "-" } else { "" };
            format!("{sign}{}", in_base(verb, value.unsigned_abs()))
        }
        ('b' | 'o' | 'x' | 'X', Value::Uint(value)) => in_base(verb, *value),
        ('x' | 'X', Value::String(text)) => in_hex(verb, text.as_bytes(), meter)?,
        ('x' | 'X', Value::Bytes(bytes)) => in_hex(verb, bytes, meter)?,
        ('d' | 'b' | 'o' | 'x' | 'X', _) => return Err(cannot()),
        _ => return Err(fault(format!("there is no verb %{verb}"))),
    };
    made.push_str(&text);
    Ok(())
}

fn in_base(verb: char, number: u64) -> String {
    match verb {
        'b' => format!("{number:b}"),
        'o' => format!("{number:o}"),
        'x' => format!("{number:x}"),
        _ => format!("{number:X}"),
    }
}

fn in_hex(verb: char, bytes: &[u8], meter: &Meter) -> Result<String, Failure> {
    meter.text(bytes.len() * 2)?;
    let encoding = if verb == 'x' { data_encoding::HEXLOWER } else { data_encoding::HEXUPPER };
    Ok(encoding.encode(bytes))
}

fn unending(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// The value as `%s` writes it, lists and maps with what is in them.
fn write_plain(made: &mut String, value: &Value<'_>, meter: &Meter) -> Result<(), Failure> {
    meter.charge(1)?;
    match value {
        Value::String(text) => {
            Meter::text_fits(made.len() + text.len())?;
            made.push_str(text);
        }
        Value::Bytes(bytes) => {
            Meter::text_fits(made.len() + bytes.len())?;
            made.push_str(&String::from_utf8_lossy(bytes));
        }
        Value::Null => made.push_str("null"),
        Value::Bool(value) => made.push_str(&value.to_string()),
        Value::Int(value) => made.push_str(&value.to_string()),
        Value::Uint(value) => made.push_str(&value.to_string()),
        Value::Double(value) if !value.is_finite() => made.push_str(unending(*value)),
        Value::Double(value) => made.push_str(&write_double(*value)),
        Value::Timestamp(time) => made.push_str(&time.to_string()),
        Value::Duration(duration) => made.push_str(&times::write_duration(*duration)),
        Value::Type(name) => made.push_str(name),
        Value::List(list) => {
            made.push('[');
            for (index, item) in list.items(meter)?.iter().enumerate() {
                if index > 0 {
                    made.push_str(", ");
                }
                write_plain(made, item, meter)?;
                Meter::text_fits(made.len())?;
            }
            made.push(']');
        }
        Value::Map(map) => write_map(made, map, meter)?,
        other => return Err(fault(format!("%s cannot write a {}", other.type_name()))),
    }
    Ok(())
}

/// In the order of the keys as they are written.
fn write_map(made: &mut String, map: &Map<'_>, meter: &Meter) -> Result<(), Failure> {
    meter.list(map.len())?;
    let mut entries: Vec<_> =
        map.charged_keys(meter)?.into_iter().map(|key| (key.to_string(), map.get(&key))).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    made.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            made.push_str(", ");
        }
        made.push_str(key);
        made.push_str(": ");
        write_plain(made, value.as_ref().unwrap_or(&Value::Null), meter)?;
        Meter::text_fits(made.len())?;
    }
    made.push('}');
    Ok(())
}
