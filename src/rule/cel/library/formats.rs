//! Formats by name: `format.dns1123Label().validate(name)` gives the faults of a text, or none.

use super::{
    super::{failure::Failure, times},
    Answer, Meter, Row, Value, mismatch,
    url::is_address,
};

pub(super) const ROWS: &[Row] = &[
    ("format.named(string): optional", |args, _| by_name(args)),
    ("format.dns1123Label(): format", |_, _| format_of("dns1123Label")),
    ("format.dns1123Subdomain(): format", |_, _| format_of("dns1123Subdomain")),
    ("format.dns1035Label(): format", |_, _| format_of("dns1035Label")),
    ("format.qualifiedName(): format", |_, _| format_of("qualifiedName")),
    ("format.dns1123LabelPrefix(): format", |_, _| format_of("dns1123LabelPrefix")),
    ("format.dns1123SubdomainPrefix(): format", |_, _| format_of("dns1123SubdomainPrefix")),
    ("format.dns1035LabelPrefix(): format", |_, _| format_of("dns1035LabelPrefix")),
    ("format.labelValue(): format", |_, _| format_of("labelValue")),
    ("format.uri(): format", |_, _| format_of("uri")),
    ("format.uuid(): format", |_, _| format_of("uuid")),
    ("format.byte(): format", |_, _| format_of("byte")),
    ("format.date(): format", |_, _| format_of("date")),
    ("format.datetime(): format", |_, _| format_of("datetime")),
    (".validate(format, string): optional", validate),
];

/// A format, what fits it, and how that is told.
pub(crate) struct NamedFormat {
    name: &'static str,
    fits: fn(&str) -> bool,
    told: &'static str,
}

static FORMATS: [NamedFormat; 13] = [
    NamedFormat { name: "dns1123Label", fits: is_label, told: LABEL },
    NamedFormat { name: "dns1123Subdomain", fits: is_subdomain, told: SUBDOMAIN },
    NamedFormat { name: "dns1035Label", fits: is_dns1035, told: DNS1035 },
    NamedFormat {
        name: "qualifiedName",
        fits: is_qualified,
        told: "must be a name as labels have, with or without `domain/`",
    },
    NamedFormat { name: "dns1123LabelPrefix", fits: |text| is_label(&completed(text)), told: LABEL },
    NamedFormat { name: "dns1123SubdomainPrefix", fits: |text| is_subdomain(&completed(text)), told: SUBDOMAIN },
    NamedFormat { name: "dns1035LabelPrefix", fits: |text| is_dns1035(&completed(text)), told: DNS1035 },
    NamedFormat {
        name: "labelValue",
        fits: |text| text.is_empty() || is_name(text),
        told: "must be empty, or up to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
    },
    NamedFormat { name: "uri", fits: is_address, told: "must be a URL or a path" },
    NamedFormat { name: "uuid", fits: is_uuid, told: "must be a UUID" },
    NamedFormat {
        name: "byte",
        fits: |text| data_encoding::BASE64.decode(text.as_bytes()).is_ok(),
        told: "must be base64",
    },
    NamedFormat {
        name: "date",
        fits: |text| text.len() == 10 && times::Instant::read(&format!("{text}T00:00:00Z")).is_ok(),
        told: "must be a date such as 2026-11-02",
    },
    NamedFormat {
        name: "datetime",
        fits: |text| times::Instant::read(text).is_ok(),
        told: "must be a time as RFC 3339 writes it",
    },
];

const LABEL: &str = "must be up to 63 lower-case letters, digits and `-`, with a letter or digit at both ends";
const SUBDOMAIN: &str =
    "must be up to 253 lower-case letters, digits, `-` and `.`, each part with a letter or digit at both ends";
const DNS1035: &str =
    "must be up to 63 lower-case letters, digits and `-`, with a letter at the start and a letter or digit at the end";

/// The format of this name.
pub(super) fn named(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|format| format.name == name)
}

/// Letters, digits and some others, with a letter or digit at both ends.
fn edged(text: &str, inner: fn(char) -> bool, edge: fn(char) -> bool) -> bool {
    text.chars().all(|c| edge(c) || inner(c)) && text.starts_with(edge) && text.ends_with(edge)
}

fn is_small(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && edged(text, |c| c == '-', is_small)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| edged(part, |c| c == '-', is_small))
}

fn is_dns1035(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_name(text: &str) -> bool {
    text.len() <= 63 && edged(text, |c| ['-', '_', '.'].contains(&c), |c| c.is_ascii_alphanumeric())
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_name(name),
        None => is_name(text),
    }
}

/// A prefix, to which a server would add more: it may end in `-`.
fn completed(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(start) => format!("{start}a"),
        None => prefix.to_owned(),
    }
}

fn is_uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

fn format_of<'v>(name: &str) -> Answer<'v> {
    named(name).map(Value::Format).ok_or_else(|| Failure::of("format", "there is no such format"))
}

fn by_name<'v>(args: &[Value<'v>]) -> Answer<'v> {
    let [Value::String(name)] = args else { return mismatch(args) };
    Ok(named(name).map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
}

/// The faults of the text; none when it fits.
fn validate<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::Format(format), Value::String(text)] = args else { return mismatch(args) };
    Ok(match (format.fits)(text) {
        true => Value::Optional(None),
        false => Value::some(Value::list(vec![Value::from(format.told)])),
    })
}
