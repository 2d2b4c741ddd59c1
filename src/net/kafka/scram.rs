//! SCRAM ([RFC 5802](https://www.rfc-editor.org/rfc/rfc5802), [RFC 7677](https://www.rfc-editor.org/rfc/rfc7677)) without channel binding, as Kafka has it: a
//! client shows that it knows a password without telling it, and the server that it knows it as well.

use std::ops::RangeInclusive;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};

/// Rounds that a server may ask for: Kafka takes 4,096 to 16,384. With fewer than RFC 7677 wants, a stranger finds the password out of the proof soon; each
/// takes about a microsecond.
const ROUNDS: RangeInclusive<u32> = 4_096..=65_536;

/// The hash that a mechanism is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn keyed(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => code(&with_key::<Hmac<Sha256>>(key), bytes),
            Self::Sha512 => code(&with_key::<Hmac<Sha512>>(key), bytes),
        }
    }

    /// PBKDF2 with one block.
    fn stretched(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => stretched(&with_key::<Hmac<Sha256>>(password), salt, rounds),
            Self::Sha512 => stretched(&with_key::<Hmac<Sha512>>(password), salt, rounds),
        }
    }
}

fn with_key<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("a key of HMAC may have any length")
}

fn code<M: Mac + Clone>(mac: &M, bytes: &[u8]) -> Vec<u8> {
    let mut mac = mac.clone();
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

fn stretched<M: Mac + Clone>(mac: &M, salt: &[u8], rounds: u32) -> Vec<u8> {
    let mut last = code(mac, &[salt, &[0, 0, 0, 1]].concat());
    let mut all = last.clone();
    for _ in 1..rounds {
        last = code(mac, &last);
        all.iter_mut().zip(&last).for_each(|(all, last)| *all ^= last);
    }
    all
}

/// One login.
pub(super) struct Scram<'a> {
    hash: Hash,
    username: String,
    password: &'a str,
    nonce: String,
}

impl<'a> Scram<'a> {
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn new(hash: Hash, username: &str, password: &'a str) -> Result<Self, String> {
        let mut nonce = [0; 18];
        let random = rustls::crypto::ring::default_provider().secure_random;
        random.fill(&mut nonce).map_err(|_| "the system has no random numbers".to_owned())?;
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Ok(Self { hash, username, password, nonce: BASE64.encode(&nonce) })
    }

    /// What to show first.
    pub(super) fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n={},r={}", self.username, self.nonce)
    }

    /// What to show last, given what the server said to the first, and what the server shows then if it knows the password.
    ///
    /// # Errors
    /// When the server said something else.
    pub(super) fn last(&self, challenge: &[u8]) -> Result<(String, String), String> {
        let other = || "the broker does not log in as RFC 5802 says".to_owned();
        let challenge = std::str::from_utf8(challenge).map_err(|_| other())?;
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name));
        let (nonce, salt) = (field("r=").ok_or_else(other)?, field("s=").ok_or_else(other)?);
        let salt = BASE64.decode(salt.as_bytes()).map_err(|_| other())?;
        let rounds: u32 = field("i=").and_then(|rounds| rounds.parse().ok()).ok_or_else(other)?;
        if !nonce.starts_with(&self.nonce) {
            return Err(other());
        }
        if !ROUNDS.contains(&rounds) {
            let (least, most) = (*ROUNDS.start(), *ROUNDS.end());
            return Err(format!(
                "the broker asks for {rounds} rounds of SCRAM: make the user anew with {least} to {most}"
            ));
        }
        let hash = self.hash;
        let stretched = hash.stretched(self.password.as_bytes(), &salt, rounds);
        let key = hash.keyed(&stretched, b"Client Key");
        let last = format!("c=biws,r={nonce}");
        let all = format!("{},{challenge},{last}", self.bare());
        let signature = hash.keyed(&hash.of(&key), all.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let wanted = hash.keyed(&hash.keyed(&stretched, b"Server Key"), all.as_bytes());
        Ok((format!("{last},p={}", BASE64.encode(&proof)), format!("v={}", BASE64.encode(&wanted))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677() {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let scram = Scram { hash: Hash::Sha256, username: "user".to_owned(), password: "pencil", nonce };
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, wanted) = scram.last(challenge.as_bytes()).expect("an answer");
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(last, format!("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={proof}"));
        assert_eq!(wanted, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_says_something_else_is_not_answered() {
        let scram = Scram::new(Hash::Sha512, "a=b,c", "canary").expect("random numbers");
        assert!(scram.first().starts_with("n,,n=a=3Db=2Cc,r="));
        let nonce = &scram.nonce;
        for other in [
            String::new(),
            "r=another,s=QQ==,i=4096".to_owned(),
            format!("r={nonce}1,s=?,i=4096"),
            format!("r={nonce}1,s=QQ==,i=4095"),
            format!("r={nonce}1,s=QQ==,i=4294967295"),
            format!("r={nonce}1,s=QQ=="),
        ] {
            let why = scram.last(other.as_bytes()).expect_err("no answer");
            assert!(!why.contains("canary"), "{why}");
        }
        assert!(scram.last(format!("r={nonce}1,s=QQ==,i=4096").as_bytes()).is_ok());
    }
}
