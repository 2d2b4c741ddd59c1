use http::HeaderValue;
use serde_json::{Value, json};

use super::*;

/// An example of RFC 4231: test case 2.
const KEY: &str = "Jefe";
const BODY: &str = "what do ya want for nothing?";
const SHA256: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
const SHA1: &str = "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
const SHA512: &str = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
const NOW: u64 = 1_793_603_399;

fn key(name: &str) -> SecretKeyRef {
    SecretKeyRef { name: name.into(), key: "k".into() }
}

/// The Secrets `a`, `b` and so on.
fn secrets(values: &[&str]) -> Secrets {
    let mut secrets = Secrets::default();
    for (name, value) in ["a", "b"].into_iter().zip(values) {
        secrets.insert(key(name), value.as_bytes());
    }
    secrets
}

fn verifier(auth: Value) -> Verifier {
    let mut faults = Vec::new();
    let auth = serde_json::from_value(auth).expect("an auth");
    let verifier = Verifier::new(&auth, WebhookPreset::Generic, &mut faults);
    assert_eq!(faults, Vec::<String>::new());
    verifier.expect("a verifier")
}

fn refs() -> Value {
    json!([{"name": "a", "key": "k"}, {"name": "b", "key": "k"}])
}

fn hmac(more: Value) -> Verifier {
    let mut spec = json!({"header": "X-Signature", "secretRefs": refs()});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    verifier(json!({"hmac": spec}))
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

/// Whether a request of the body with these headers is taken.
fn takes(verifier: &Verifier, values: &[&str], pairs: &[(&str, &str)]) -> bool {
    verifier.verify(&secrets(values), &headers(pairs), BODY.as_bytes(), NOW).is_ok()
}

/// The SHA-256 of the example's key over anything.
fn mac(signed: &str) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(KEY.as_bytes()).expect("a key");
    mac.update(signed.as_bytes());
    HEXLOWER_PERMISSIVE.encode(&mac.finalize().into_bytes())
}

#[test]
fn a_signature_is_taken_in_each_documented_form() {
    for (algorithm, signature) in [("SHA256", SHA256), ("SHA512", SHA512), ("SHA1", SHA1)] {
        let verifier = hmac(json!({"algorithm": algorithm}));
        assert!(takes(&verifier, &[KEY], &[("x-signature", signature)]), "{algorithm}");
        assert!(takes(&verifier, &[KEY], &[("X-SIGNATURE", &signature.to_uppercase())]), "{algorithm}");
    }
    let prefixed = hmac(json!({"prefix": "sha256="}));
    assert!(takes(&prefixed, &[KEY], &[("x-signature", &format!("sha256={SHA256}"))]));
    let base64 = BASE64.encode(&HEXLOWER_PERMISSIVE.decode(SHA256.as_bytes()).expect("digits"));
    assert!(takes(&hmac(json!({"encoding": "Base64"})), &[KEY], &[("x-signature", &base64)]));
}

#[test]
fn while_a_key_is_changed_either_is_taken_and_one_may_be_missing() {
    let verifier = hmac(json!({}));
    for keys in [vec![KEY, "other"], vec!["other", KEY], vec!["", KEY], vec![KEY]] {
        assert!(takes(&verifier, &keys, &[("x-signature", SHA256)]), "{keys:?}");
    }
}

#[test]
fn every_other_signature_is_refused() {
    let plain = hmac(json!({}));
    let prefixed = hmac(json!({"prefix": "sha256="}));
    let cut = &SHA256[..62];
    let other = mac("what do ya want for nothing? ");
    let with_prefix = format!("sha256={SHA256}");
    let cases: [(&Verifier, &[(&str, &str)]); 11] = [
        (&plain, &[]),
        (&plain, &[("x-signature", "")]),
        (&plain, &[("x-signature", cut)]),
        (&plain, &[("x-signature", SHA1)]),
        (&plain, &[("x-signature", SHA512)]),
        (&plain, &[("x-signature", &other)]),
        (&plain, &[("x-signature", "no digits at all")]),
        (&plain, &[("x-signature", SHA256), ("x-signature", SHA256)]),
        (&plain, &[("authorization", "Bearer Jefe")]),
        (&prefixed, &[("x-signature", SHA256)]),
        (&plain, &[("x-signature", &with_prefix)]),
    ];
    for (verifier, pairs) in cases {
        assert!(!takes(verifier, &[KEY], pairs), "{pairs:?}");
    }
    let spaced =
        plain.verify(&secrets(&[KEY]), &headers(&[("x-signature", SHA256)]), format!("{BODY} ").as_bytes(), NOW);
    assert_eq!(spaced, Err(Unauthenticated), "the bytes count, not what they mean");
}

#[test]
fn an_empty_or_missing_secret_lets_nobody_in() {
    let empty = |signed: &str| {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(b"").expect("a key");
        mac.update(signed.as_bytes());
        HEXLOWER_PERMISSIVE.encode(&mac.finalize().into_bytes())
    };
    let signed_with_nothing = empty(BODY);
    let basic = BASE64.encode(b"ci:");
    let basic = format!("Basic {basic}");
    let bearer = verifier(json!({"bearer": {"secretRefs": refs()}}));
    let password = verifier(json!({"basic": {"username": "ci", "passwordSecretRefs": refs()}}));
    for values in [vec![], vec![""], vec![" \n", ""]] {
        assert!(!takes(&hmac(json!({})), &values, &[("x-signature", &signed_with_nothing)]), "{values:?}");
        for token in ["Bearer ", "Bearer", "Bearer nothing"] {
            assert!(!takes(&bearer, &values, &[("authorization", token)]), "{values:?} {token}");
        }
        assert!(!takes(&password, &values, &[("authorization", &basic)]), "{values:?}");
    }
}

#[test]
fn the_time_is_part_of_what_is_signed_and_must_be_near() {
    let verifier = hmac(json!({"prefix": "v0=",
        "timestamp": {"header": "X-Time", "prefix": "v0:", "separator": ":", "tolerance": "5m"}}));
    let at = |time: &str, signed: &str| {
        let signature = format!("v0={}", mac(&format!("v0:{signed}:{BODY}")));
        takes(&verifier, &[KEY], &[("x-time", time), ("x-signature", &signature)])
    };
    for time in [NOW, NOW - 300, NOW + 300] {
        assert!(at(&time.to_string(), &time.to_string()), "{time}");
    }
    for time in [NOW - 301, NOW + 301, 0, u64::MAX] {
        assert!(!at(&time.to_string(), &time.to_string()), "{time}");
    }
    assert!(!at(&NOW.to_string(), &(NOW - 1).to_string()), "another time was signed");
    for time in ["", "soon", "-5", "1793603399.0", "+1793603399"] {
        assert!(!at(time, time), "{time:?}");
    }
    let signature = format!("v0={}", mac(&format!("v0:{NOW}:{BODY}")));
    assert!(!takes(&verifier, &[KEY], &[("x-signature", &signature)]), "no time");
    let twice = [("x-time", "1793603399"), ("x-time", "1793603399"), ("x-signature", &*signature)];
    assert!(!takes(&verifier, &[KEY], &twice));
    assert!(!takes(&verifier, &[KEY], &[("x-time", "1793603399"), ("x-signature", SHA256)]), "only the body");
}

#[test]
fn a_token_is_taken_and_nothing_like_it() {
    let verifier = verifier(json!({"bearer": {"secretRefs": refs()}}));
    for token in ["Bearer token-2", "bearer token-2", "BEARER token-1 "] {
        assert!(takes(&verifier, &["token-1", "token-2\n"], &[("Authorization", token)]), "{token:?}");
    }
    for token in
        ["Bearer nothing", "Bearer", "Bearer ", "", "token-2", "Basic token-2", "Bearertoken-2", "Bearer token-22"]
    {
        assert!(!takes(&verifier, &["token-1", "token-2"], &[("authorization", token)]), "{token:?}");
    }
    assert!(!takes(&verifier, &["token-1"], &[]));
    let twice = [("authorization", "Bearer token-1"), ("authorization", "Bearer token-1")];
    assert!(!takes(&verifier, &["token-1"], &twice));
}

#[test]
fn a_user_and_a_password_are_taken_together_only() {
    let verifier = verifier(json!({"basic": {"username": "ci", "passwordSecretRefs": refs()}}));
    let sent = |text: &str| {
        takes(&verifier, &["pass:word"], &[("authorization", &format!("Basic {}", BASE64.encode(text.as_bytes())))])
    };
    assert!(sent("ci:pass:word"));
    for text in ["ci:pass", "ci:", "ci", ":pass:word", "root:pass:word", "ci:pass:word "] {
        assert!(!sent(text), "{text:?}");
    }
    for raw in ["Basic", "Basic %%%", "Bearer pass:word", "Basic ci:pass:word"] {
        assert!(!takes(&verifier, &["pass:word"], &[("authorization", raw)]), "{raw:?}");
    }
}

#[test]
fn anybody_is_let_in_only_where_the_spec_says_so() {
    assert!(takes(&verifier(json!({"none": {}})), &[], &[]));
    for auth in [json!({}), json!({"none": {}, "bearer": {"secretRefs": refs()}})] {
        let mut faults = Vec::new();
        assert!(
            Verifier::new(&serde_json::from_value(auth).expect("an auth"), WebhookPreset::Generic, &mut faults)
                .is_none()
        );
        assert_eq!(
            faults,
            ["webhook.auth: exactly one of hmac, standardWebhooks, token, bearer, basic and none must be set"]
        );
    }
}

#[test]
fn faults_of_the_spec_are_told_together() {
    let timestamp = json!({"header": "b ad", "tolerance": "25h"});
    let auth = json!({"hmac": {"header": "", "secretRefs": [], "timestamp": timestamp}});
    let mut faults = Vec::new();
    assert!(
        Verifier::new(&serde_json::from_value(auth).expect("an auth"), WebhookPreset::Generic, &mut faults).is_none()
    );
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[2].contains("must be whole seconds from 1s to 24h"), "{faults:?}");
}

/// The example of the reference libraries: secret, id, time, body and signature.
const STANDARD: (&str, &str, u64, &str, &str) = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1_614_265_330,
    r#"{"test": 2432232314}"#,
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
);

/// Whether the example is taken with these headers in the place of its own, at so many seconds after its time.
fn takes_standard(keys: &[&str], changed: &[(&str, &str)], later: i64, body: &str) -> bool {
    let (_, id, time, _, signature) = STANDARD;
    let time_text = time.to_string();
    let own = [("webhook-id", id), ("webhook-timestamp", &time_text), ("webhook-signature", signature)];
    let kept = own.iter().filter(|(name, _)| !changed.iter().any(|(other, _)| other == name));
    let sent: Vec<_> = kept.chain(changed).copied().filter(|(_, value)| *value != "-").collect();
    let verifier = verifier(json!({"standardWebhooks": {"secretRefs": refs()}}));
    let now = time.saturating_add_signed(later);
    verifier.verify(&secrets(keys), &headers(&sent), body.as_bytes(), now).is_ok()
}

#[test]
fn a_standard_webhook_is_taken_with_any_of_the_senders_signatures_and_either_key() {
    let (key, _, _, body, signature) = STANDARD;
    assert!(takes_standard(&[key], &[], 0, body));
    assert!(takes_standard(&[key.trim_start_matches("whsec_")], &[], -300, body), "without its prefix");
    assert!(takes_standard(&["whsec_b3RoZXI=", key], &[], 300, body), "the second of two keys");
    let several = format!("v1a,AAAA v1,{} {signature}", BASE64.encode(&[7; 32]));
    assert!(takes_standard(&[key], &[("webhook-signature", &several)], 0, body));
}

#[test]
fn a_standard_webhook_is_refused_when_anything_of_it_is_another() {
    let (key, id, time, body, signature) = STANDARD;
    let later = (time + 1).to_string();
    let digits = signature.trim_start_matches("v1,");
    let (bare, asymmetric, signed) = (digits, format!("v1a,{digits}"), format!("+{time}"));
    let dotted = format!("{id}.{time}");
    let cases: [&[(&str, &str)]; 11] = [
        &[("webhook-id", "-")],
        &[("webhook-id", "msg_other")],
        &[("webhook-id", &dotted)],
        &[("webhook-timestamp", "-")],
        &[("webhook-timestamp", &later)],
        &[("webhook-timestamp", &signed)],
        &[("webhook-signature", "-")],
        &[("webhook-signature", bare)],
        &[("webhook-signature", &asymmetric)],
        &[("webhook-signature", "v1,")],
        &[("webhook-id", id), ("webhook-id", id)],
    ];
    for changed in cases {
        assert!(!takes_standard(&[key], changed, 0, body), "{changed:?}");
    }
    assert!(!takes_standard(&[key], &[], 301, body), "too old");
    assert!(!takes_standard(&[key], &[], -301, body), "from the future");
    assert!(!takes_standard(&[key], &[], 0, &body.replace(' ', "")), "written anew");
    for wrong in ["whsec_b3RoZXI=", "whsec_", "no base 64!", key.trim_end_matches('w')] {
        assert!(!takes_standard(&[wrong], &[], 0, body), "{wrong}");
    }
    assert!(!takes_standard(&[], &[], 0, body), "without a key");
}
