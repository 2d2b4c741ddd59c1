//! References to images: pure.
//!
//! The grammar is that of [distribution](https://pkg.go.dev/github.com/distribution/reference#pkg-overview): `[host[:port]/]path[:tag][@digest]`.

use std::fmt;

/// Characters of a repository's name with its host.
const NAME: usize = 255;
/// Characters of a tag.
const TAG: usize = 128;

/// A reference to an image, as the container runtime takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is no reference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReferenceError {
    #[error("{0:?} is no reference to an image; it looks like registry.example.com/path/name:tag or name@sha256:…")]
    Malformed(String),
    #[error("the repository's name in {0:?} has more than 255 characters")]
    TooLong(String),
    #[error("{0:?} is no digest; it is sha256: and 64 hexadecimal digits")]
    Digest(String),
}

impl Reference {
    /// Reads a reference. A tag that is a digest, `path:sha256:…`, is that digest: registries send it for what was pushed without a tag.
    pub(super) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let malformed = || ReferenceError::Malformed(super::super::target::short(text));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => match text.find(":sha256:") {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            },
        };
        // `path:sha256:…@sha256:…`: the tag is the digest once more.
        let rest = rest.find(":sha256:").map_or(rest, |at| &rest[..at]);
        // A colon before the last slash is that of a port.
        let path = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path..].find(':') {
            Some(colon) => (&rest[..path + colon], Some(&rest[path + colon + 1..])),
            None => (rest, None),
        };
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(ReferenceError::Digest(super::super::target::short(digest)));
        }
        if name.len() > NAME {
            return Err(ReferenceError::TooLong(super::super::target::short(text)));
        }
        if !is_name(name) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(malformed());
        }
        Ok(Self { name: name.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    match name.split_once('/') {
        // What has a dot, a port or a capital, or is `localhost`, is a host.
        Some((first, path)) if first == "localhost" || first.contains(['.', ':']) || has_capital(first) => {
            is_host(first) && path.split('/').all(is_component)
        }
        _ => name.split('/').all(is_component),
    }
}

fn has_capital(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

/// A name or an address, perhaps in brackets, and perhaps a port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let plain = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return plain && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|port| port > 0) && port.bytes().all(|b| b.is_ascii_digit())
}

/// Small letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(|&b| plain(b)) && bytes.last().is_some_and(|&b| plain(b));
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|text| !text.is_empty());
    ends && separators.into_iter().all(|text| matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= TAG
        && bytes.first().is_some_and(|&b| word(b))
        && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-')
}

/// Kubernetes' runtimes know sha256 and sha512.
fn is_digest(digest: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match digest.split_once(':') {
        Some(("sha256", text)) => hex(text, 64),
        Some(("sha512", text)) => hex(text, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_of_every_shape_are_read_and_written_again() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for text in [
            "web",
            "web:1.27",
            "library/web:V1_2-3",
            "localhost/web",
            "registry.example.com:5000/team/web:1",
            "localhost:5000/web",
            "[::1]:5000/web:1",
            "ghcr.io/acme/pump__api.v2:sha-0123",
            "Harbor/acme/web",
            &format!("web@{digest}"),
            &format!("registry.example.com:5000/web:1@{digest}"),
        ] {
            assert_eq!(Reference::parse(text).map(|read| read.to_string()), Ok(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_tag_that_is_a_digest_is_the_digest() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let expect = Ok(format!("harbor.example.com/acme/pump-api@{digest}"));
        for text in [
            format!("harbor.example.com/acme/pump-api:{digest}"),
            format!("harbor.example.com/acme/pump-api:{digest}@{digest}"),
        ] {
            assert_eq!(Reference::parse(&text).map(|read| read.to_string()), expect, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            ":1",
            "web:",
            "Web",
            "web:1:2",
            "web 1",
            "web\n",
            "web@",
            "web@sha256:12",
            "web@md5:0123",
            "/web",
            "web/",
            "a//b",
            "https://example.com/web",
            "example.com:0/web",
            "example.com:99999/web",
            "-x.example.com/web",
            "web:-1",
            "a..b",
            "${x}",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
        assert!(Reference::parse(&format!("web:{}", "a".repeat(129))).is_err());
        assert!(Reference::parse(&"a".repeat(256)).is_err());
    }

    proptest! {
        #[test]
        fn what_was_read_is_read_again_as_the_same(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,60}|.{0,40}") {
            if let Ok(read) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
