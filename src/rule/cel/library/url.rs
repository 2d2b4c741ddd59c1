//! Addresses of the web: absolute ones, or a path that begins with `/`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    super::{
        failure::Failure,
        value::{Key, Text},
    },
    Answer, Meter, Row, Value, mismatch,
};

pub(super) const ROWS: &[Row] = &[
    ("url(string): url", url),
    ("isURL(string): bool", is_url),
    (".getScheme(url): string", |args, _| part(args, |url| url.scheme.clone())),
    (".getHost(url): string", |args, _| part(args, |url| url.host.clone())),
    (".getHostname(url): string", |args, _| part(args, |url| url.hostname().to_owned())),
    (".getPort(url): string", |args, _| part(args, |url| url.port().to_owned())),
    (".getEscapedPath(url): string", |args, _| part(args, |url| url.path.clone())),
    (".getQuery(url): map", query),
];

/// An address, in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    text: String,
    scheme: String,
    /// With the port, without who asks.
    host: String,
    path: String,
    query: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Url {
    /// The bytes of its text.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    fn read(text: &str) -> Option<Self> {
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') || !escapes_are_right(text) {
            return None;
        }
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = if before.starts_with('/') {
            ("", before)
        } else {
            let (scheme, rest) = before.split_once(':')?;
            let letters = |c: char| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c);
            if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(letters) {
                return None;
            }
            (scheme, rest)
        };
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let url = Self {
            text: text.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        };
        let port_is_right = url.port().chars().all(|c| c.is_ascii_digit());
        let brackets = host.starts_with('[') == host.contains(']');
        (port_is_right && brackets && !path_is_opaque(&url)).then_some(url)
    }

    /// Where the port begins, behind its colon.
    fn colon(&self) -> Option<usize> {
        let from = self.host.rfind(']').unwrap_or(0);
        self.host[from..].rfind(':').map(|at| from + at)
    }

    fn hostname(&self) -> &str {
        let host = &self.host[..self.colon().unwrap_or(self.host.len())];
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    fn port(&self) -> &str {
        self.colon().map_or("", |at| &self.host[at + 1..])
    }
}

/// `mailto:someone` is a URL, but none with a host or a path.
fn path_is_opaque(url: &Url) -> bool {
    !url.scheme.is_empty() && url.host.is_empty() && !url.path.starts_with('/') && !url.path.is_empty()
}

fn escapes_are_right(text: &str) -> bool {
    let bytes = text.split('?').next().unwrap_or_default().as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// Whether the text is one of these addresses.
pub(super) fn is_address(text: &str) -> bool {
    Url::read(text).is_some()
}

fn url<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    meter.text(text.len())?;
    let read = Url::read(text).map(|url| Value::Url(Arc::new(url)));
    read.ok_or_else(|| Failure::of("url", "not a URL such as https://example.com/path, nor a path"))
}

fn is_url<'v>(args: &[Value<'v>], _: &Meter) -> Answer<'v> {
    let [Value::String(text)] = args else { return mismatch(args) };
    Ok(Value::Bool(is_address(text)))
}

fn part<'v>(args: &[Value<'v>], of: fn(&Url) -> String) -> Answer<'v> {
    let [Value::Url(url)] = args else { return mismatch(args) };
    Ok(Value::text(of(url)))
}

/// The parameters: each name with the list of its values.
fn query<'v>(args: &[Value<'v>], meter: &Meter) -> Answer<'v> {
    let [Value::Url(url)] = args else { return mismatch(args) };
    meter.text(url.query.len())?;
    let mut values: BTreeMap<String, Vec<Value<'v>>> = BTreeMap::new();
    for (index, (name, value)) in form_urlencoded::parse(url.query.as_bytes()).enumerate() {
        meter.list(index + 1)?;
        values.entry(name.into_owned()).or_default().push(Value::text(&*value));
    }
    let key = |name: String| Key::String(Text::Shared(name.into()));
    Ok(Value::map(values.into_iter().map(|(name, values)| (key(name), Value::list(values))).collect()))
}
