//! Whether a request is from who may send: HMAC, token or password. Pure: keys and time come from the caller.
//!
//! Without a usable key nothing is accepted. What was wrong is not told: whoever guesses learns nothing. Compared is in constant time.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, header};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::{
    api::{self, AuthKind, HmacAlgorithm, HmacAuth, SecretKeyRef, SignatureEncoding, WebhookAuth, WebhookPreset},
    sinks::Secrets,
};

/// How far a signed time may be allowed to be off, in seconds.
const TOLERANCE: std::ops::RangeInclusive<u64> = 1..=86_400;

/// The request is not from who may send. Says nothing more on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unauthenticated;

/// How senders show that they may send.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    way: Way,
    keys: Vec<SecretKeyRef>,
}

#[derive(Clone, Debug)]
enum Way {
    Hmac(Signature),
    StandardWebhooks(StandardWebhooks),
    Token(HeaderName),
    Bearer,
    Basic(String),
    Anybody,
}

#[derive(Clone, Debug)]
struct Signature {
    header: HeaderName,
    algorithm: HmacAlgorithm,
    encoding: SignatureEncoding,
    prefix: String,
    timestamp: Option<Timestamp>,
}

/// A time that is signed with the body.
#[derive(Clone, Debug)]
struct Timestamp {
    header: HeaderName,
    prefix: String,
    separator: String,
    /// Seconds.
    tolerance: u64,
}

impl Verifier {
    /// The way that the spec describes; senders that are known by name need not be told which header is theirs. Faults are added to `faults`.
    pub(super) fn new(auth: &WebhookAuth, preset: WebhookPreset, faults: &mut Vec<String>) -> Option<Self> {
        let (way, keys) = match auth.kind() {
            Some(AuthKind::Hmac(hmac)) => (Way::Hmac(Signature::new(hmac, preset, faults)?), hmac.secret_refs.clone()),
            Some(AuthKind::StandardWebhooks(auth)) => {
                let tolerance = tolerance("webhook.auth.standardWebhooks.tolerance", &auth.tolerance, faults);
                (Way::StandardWebhooks(StandardWebhooks { tolerance }), auth.secret_refs.clone())
            }
            Some(AuthKind::Token(token)) => {
                let own = (preset == WebhookPreset::GitLab).then_some("X-Gitlab-Token");
                let named = named("token.header", token.header.as_deref().or(own), faults);
                (Way::Token(named?), token.secret_refs.clone())
            }
            Some(AuthKind::Bearer(bearer)) => (Way::Bearer, bearer.secret_refs.clone()),
            Some(AuthKind::Basic(basic)) => (Way::Basic(basic.username.clone()), basic.password_secret_refs.clone()),
            Some(AuthKind::None) => return Some(Self { way: Way::Anybody, keys: Vec::new() }),
            None => {
                faults.push(
                    "webhook.auth: exactly one of hmac, standardWebhooks, token, bearer, basic and none must be set"
                        .to_owned(),
                );
                return None;
            }
        };
        if keys.is_empty() {
            faults.push("webhook.auth: name a Secret and its key".to_owned());
        }
        Some(Self { way, keys })
    }

    /// Whether a header shows, or may show elsewhere, who may send: it is not for events, which more people may read.
    pub(super) fn is_proof(&self, header: &HeaderName) -> bool {
        const WORDS: [&str; 8] =
            ["authorization", "cookie", "signature", "token", "secret", "password", "api-key", "apikey"];
        let own = match &self.way {
            Way::Hmac(signature) => signature.header == *header,
            Way::Token(own) => own == header,
            Way::StandardWebhooks(_) | Way::Bearer | Way::Basic(_) | Way::Anybody => false,
        };
        own || WORDS.iter().any(|word| header.as_str().contains(word))
    }

    /// Whether a signature shows who sends. It is one of the body.
    pub(super) fn signs(&self) -> bool {
        matches!(self.way, Way::Hmac(_) | Way::StandardWebhooks(_))
    }

    /// The Secrets that [`Verifier::verify`] needs: one of them at least.
    pub(super) fn keys(&self) -> &[SecretKeyRef] {
        &self.keys
    }

    /// Whether the request, with the body as it came, may be taken. `now` is in seconds since 1970.
    pub(super) fn verify(
        &self,
        secrets: &Secrets,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<(), Unauthenticated> {
        // Those that are missing or empty are none: an empty key would let everybody in.
        let keys = self.keys.iter().filter_map(|key| secrets.get(key).ok()).map(|value| value.bytes());
        let good = match &self.way {
            Way::Anybody => true,
            Way::Hmac(signature) => signature.matches(keys, headers, body, now).unwrap_or(false),
            Way::StandardWebhooks(signed) => signed.matches(keys, headers, body, now).unwrap_or(false),
            Way::Token(header) => is_one_of(keys, only(headers, header)).unwrap_or(false),
            Way::Bearer => is_one_of(keys, credentials(headers, "Bearer")).unwrap_or(false),
            Way::Basic(user) => matches_password(user, keys, headers).unwrap_or(false),
        };
        if good { Ok(()) } else { Err(Unauthenticated) }
    }
}

// === impl Signature ===

impl Signature {
    fn new(spec: &HmacAuth, preset: WebhookPreset, faults: &mut Vec<String>) -> Option<Self> {
        if spec.header.is_none() && preset == WebhookPreset::GitHub {
            return Self::of_github(spec, faults);
        }
        let header = named("hmac.header", spec.header.as_deref(), faults);
        let timestamp = spec.timestamp.as_ref();
        let timestamp = timestamp.map(|spec| (named("hmac.timestamp.header", Some(&spec.header), faults), spec));
        let timestamp = match timestamp {
            None => None,
            Some((header, spec)) => {
                let tolerance = tolerance("webhook.auth.hmac.timestamp.tolerance", &spec.tolerance, faults);
                let (prefix, separator) = (spec.prefix.clone(), spec.separator.clone());
                Some(Timestamp { header: header?, prefix, separator, tolerance })
            }
        };
        let HmacAuth { algorithm, encoding, prefix, .. } = spec.clone();
        Some(Self { header: header?, algorithm, encoding, prefix, timestamp })
    }

    fn of_github(spec: &HmacAuth, faults: &mut Vec<String>) -> Option<Self> {
        let HmacAuth { header: _, algorithm, encoding, prefix, secret_refs: _, timestamp } = spec;
        let (algorithm, encoding) = (*algorithm, *encoding);
        let plain = (algorithm, encoding) == (HmacAlgorithm::Sha256, SignatureEncoding::Hex);
        if !plain || !prefix.is_empty() || timestamp.is_some() {
            let why = "algorithm, encoding, prefix and timestamp say how a header is written: name the header, too";
            faults.push(format!("webhook.auth.hmac: {why}"));
            return None;
        }
        let (header, prefix) = (HeaderName::from_static("x-hub-signature-256"), "sha256=".to_owned());
        Some(Self { header, algorithm, encoding, prefix, timestamp: None })
    }

    fn matches<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Option<bool> {
        let written = only(headers, &self.header)?.strip_prefix(self.prefix.as_bytes())?;
        let signature = match self.encoding {
            SignatureEncoding::Hex => HEXLOWER_PERMISSIVE.decode(written),
            SignatureEncoding::Base64 => BASE64.decode(written),
        };
        let (signature, signed) = (signature.ok()?, self.signed(headers, body, now)?);
        let check = match self.algorithm {
            HmacAlgorithm::Sha256 => is_mac::<Sha256>,
            HmacAlgorithm::Sha512 => is_mac::<Sha512>,
            HmacAlgorithm::Sha1 => is_mac::<Sha1>,
        };
        Some(keys.fold(false, |good, key| good | check(key, &signed, &signature)))
    }

    /// The parts that are signed; nothing when the time is missing or too far off.
    fn signed<'a>(&'a self, headers: &'a HeaderMap, body: &'a [u8], now: u64) -> Option<Vec<&'a [u8]>> {
        let Some(timestamp) = &self.timestamp else { return Some(vec![body]) };
        let time = only(headers, &timestamp.header)?;
        let parts = || vec![timestamp.prefix.as_bytes(), time, timestamp.separator.as_bytes(), body];
        is_near(time, now, timestamp.tolerance).then(parts)
    }
}

/// The header that the spec names; nothing, and a fault, when there is none.
fn named(field: &str, header: Option<&str>, faults: &mut Vec<String>) -> Option<HeaderName> {
    let name = header.and_then(|header| header.parse::<HeaderName>().ok());
    if name.is_none() {
        let said =
            header.map_or_else(|| "must be set".to_owned(), |header| format!("{header:?} is no name of a header"));
        faults.push(format!("webhook.auth.{field}: {said}"));
    }
    name
}

/// Why a value under a key of a Secret lets nobody in, whatever is sent, and what to do: the rest of a sentence that begins with the key. Nothing for one
/// that can.
pub fn flaw(auth: &WebhookAuth, value: &[u8]) -> Option<&'static str> {
    let value = value.trim_ascii_end();
    match auth.kind()? {
        AuthKind::StandardWebhooks(_) if signing_key(value).is_none() => {
            Some("is no Base64: put the key there as the sender shows it, with or without whsec_ before it")
        }
        AuthKind::Token(_) | AuthKind::Bearer(_) if value.iter().any(u8::is_ascii_control) => {
            Some("has control characters in it, which no header carries: put the token there in one line")
        }
        _ => None,
    }
}

/// Seconds out of the spec.
fn tolerance(field: &str, spec: &api::Duration, faults: &mut Vec<String>) -> u64 {
    let tolerance = spec.get();
    if !TOLERANCE.contains(&tolerance.as_secs()) || tolerance.subsec_nanos() != 0 {
        faults.push(format!("{field}: {spec} must be whole seconds from 1s to 24h"));
    }
    tolerance.as_secs()
}

/// Whether a header's seconds since 1970 are no further from `now`.
fn is_near(time: &[u8], now: u64, tolerance: u64) -> bool {
    // `parse` would take a sign, too.
    let digits = time.iter().all(u8::is_ascii_digit);
    let seconds = std::str::from_utf8(time).ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
    seconds.is_some_and(|seconds| seconds.abs_diff(now) <= tolerance)
}

// === impl StandardWebhooks ===

/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
#[derive(Clone, Debug)]
struct StandardWebhooks {
    /// Seconds.
    tolerance: u64,
}

/// The delivery's id, which is signed.
pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Signatures of one request: one for each key of the sender, who changes from one to the next.
const MAX_SIGNATURES: usize = 8;

impl StandardWebhooks {
    fn matches<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Option<bool> {
        let (id, time) = (only(headers, &WEBHOOK_ID)?, only(headers, &WEBHOOK_TIMESTAMP)?);
        // A dot in the id would make another time and body of the same signed bytes.
        if id.is_empty() || id.contains(&b'.') || !is_near(time, now, self.tolerance) {
            return None;
        }
        let signed: [&[u8]; 5] = [id, b".", time, b".", body];
        let written = only(headers, &WEBHOOK_SIGNATURE)?.split(|byte| *byte == b' ');
        // Others are of other versions, such as v1a, which is asymmetric.
        let ours = written.filter_map(|one| BASE64.decode(one.strip_prefix(b"v1,")?).ok());
        let signatures: Vec<Vec<u8>> = ours.take(MAX_SIGNATURES).collect();
        let mut good = false;
        for key in keys.filter_map(signing_key) {
            for signature in &signatures {
                good |= is_mac::<Sha256>(&key, &signed, signature);
            }
        }
        Some(good)
    }
}

/// The key in what the sender shows; nothing when it is none.
fn signing_key(shown: &[u8]) -> Option<Vec<u8>> {
    let key = BASE64.decode(shown.strip_prefix(b"whsec_").unwrap_or(shown)).ok();
    key.filter(|key| !key.is_empty())
}

fn is_mac<H: EagerHash>(key: &[u8], signed: &[&[u8]], signature: &[u8]) -> bool
where
    Hmac<H>: Mac + KeyInit,
{
    let Ok(mut mac) = <Hmac<H> as KeyInit>::new_from_slice(key) else { return false };
    signed.iter().for_each(|part| mac.update(part));
    mac.verify_slice(signature).is_ok()
}

/// The value of a header that is there once: of two, this side could check one and the sender's side mean the other.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(|value| value.as_bytes())
}

/// What `Authorization` holds after the scheme.
fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h [u8]> {
    let (sent, rest) = only(headers, &header::AUTHORIZATION)?.split_at_checked(scheme.len())?;
    sent.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)?.strip_prefix(b" ").map(<[u8]>::trim_ascii)
}

fn is_one_of<'k>(keys: impl Iterator<Item = &'k [u8]>, token: Option<&[u8]>) -> Option<bool> {
    let token = token?;
    Some(keys.fold(false, |good, key| good | bool::from(key.ct_eq(token))))
}

fn matches_password<'k>(user: &str, keys: impl Iterator<Item = &'k [u8]>, headers: &HeaderMap) -> Option<bool> {
    let sent = BASE64.decode(credentials(headers, "Basic")?).ok()?;
    let colon = sent.iter().position(|byte| *byte == b':')?;
    let (name, password) = (&sent[..colon], &sent[colon + 1..]);
    let password = keys.fold(false, |good, key| good | bool::from(key.ct_eq(password)));
    Some(bool::from(user.as_bytes().ct_eq(name)) & password)
}

#[cfg(test)]
mod tests;
