//! What is kept of a password for SCRAM-SHA-256 (RFC 5802, RFC 7677): enough to
//! recognize who knows the password and to prove that we do, too little to log
//! in with.
//!
//! Its text is PostgreSQL's: `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use argon2::password_hash::rand_core::{OsRng, RngCore};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::MAX_PASSWORD_OCTETS;

/// The keys of one password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// What the client computes its proof with.
    pub salt: ScramSalt,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

/// What is public of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramSalt {
    /// Any bytes.
    pub salt: Vec<u8>,
    /// How often a password is hashed.
    pub iterations: u32,
}

/// OWASP's recommendation for PBKDF2 with this hash; RFC 7677 §4 asks for at
/// least 4,096. With fewer these keys would be the cheap way to guess what
/// argon2id guards.
const ITERATIONS: u32 = 600_000;
const MAX_ITERATIONS: u32 = 10_000_000;
const SALT_OCTETS: usize = 16;

impl ScramKeys {
    /// Of a password; `None` where no client could say it, because it is no
    /// text or has characters that SASLprep forbids. Tenths of a second.
    pub fn of(password: &[u8]) -> Option<Self> {
        let mut salt = vec![0; SALT_OCTETS];
        OsRng.fill_bytes(&mut salt);
        Self::with(password, salt, ITERATIONS)
    }

    /// Whether [`ScramKeys::of`] gives any.
    pub fn is_possible(password: &[u8]) -> bool {
        prepared(password).is_some()
    }

    fn with(password: &[u8], salt: Vec<u8>, iterations: u32) -> Option<Self> {
        let prepared = prepared(password)?;
        let salted = salted(prepared.as_bytes(), &salt, iterations);
        let stored_key = Sha256::digest(hmac(&salted, b"Client Key")).into();
        Some(Self {
            salt: ScramSalt { salt, iterations },
            stored_key,
            server_key: hmac(&salted, b"Server Key"),
        })
    }

    /// For an account that has none: the same each time, so that nobody can
    /// tell, and nobody knows a password for them.
    pub fn decoy(secret: &[u8], name: &str) -> Self {
        let of = |what: &str| hmac(secret, format!("{what} {name}").as_bytes());
        Self {
            salt: ScramSalt {
                salt: of("salt")[..SALT_OCTETS].to_vec(),
                iterations: ITERATIONS,
            },
            stored_key: of("stored key"),
            server_key: of("server key"),
        }
    }

    /// Whether `proof` is that of the password, over the messages that both
    /// have exchanged: our own proof then.
    pub fn verify(&self, messages: &[u8], proof: &[u8]) -> Option<[u8; 32]> {
        let signature = hmac(&self.stored_key, messages);
        let key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let found = Sha256::digest(&key);
        // The time tells nothing: what is compared is a hash.
        let is_right = proof.len() == 32 && found.as_slice() == self.stored_key;
        is_right.then(|| hmac(&self.server_key, messages))
    }
}

/// Text that nobody else can compute and that is always the same, in hex.
pub fn keyed_text(secret: &[u8], text: &str) -> String {
    let octets = hmac(secret, text.as_bytes());
    octets.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether `digest` is the HMAC-MD5 of `challenge` with the password: CRAM-MD5
/// (RFC 2195).
pub fn is_cram_md5(password: &str, challenge: &str, digest: &str) -> bool {
    let mut mac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(challenge.as_bytes());
    let mut hex = [0; 16];
    let octets = digest.as_bytes().chunks(2).map(|pair| {
        let text = str::from_utf8(pair).ok()?;
        let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
        is_hex.then(|| u8::from_str_radix(text, 16).ok())?
    });
    let octets: Option<Vec<u8>> = octets.collect();
    match octets {
        Some(octets) if digest.len() == 32 => hex.copy_from_slice(&octets),
        _ => return false,
    }
    mac.verify_slice(&hex).is_ok()
}

/// SASLprep (RFC 4013), as clients do it before they hash.
fn prepared(password: &[u8]) -> Option<Cow<'_, str>> {
    let text = str::from_utf8(password).ok()?;
    let prepared = stringprep::saslprep(text).ok()?;
    (!prepared.is_empty() && password.len() <= MAX_PASSWORD_OCTETS).then_some(prepared)
}

/// RFC 5802 §2.2, `Hi`: PBKDF2 of one block.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let keyed = Hmac::<Sha256>::new_from_slice(password).expect("HMAC takes keys of any length");
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut last: [u8; 32] = first.finalize().into_bytes().into();
    let mut all = last;
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&last);
        last = next.finalize().into_bytes().into();
        all.iter_mut().zip(last).for_each(|(sum, b)| *sum ^= b);
    }
    all
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl FromStr for ScramKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let rest = text.strip_prefix("SCRAM-SHA-256$")?;
            let (public, keys) = rest.split_once('$')?;
            let (iterations, salt) = public.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let bytes = |text: &str| BASE64_STANDARD.decode(text).ok();
            let iterations = iterations.parse().ok()?;
            let salt = bytes(salt).filter(|salt| (1..=64).contains(&salt.len()))?;
            (1..=MAX_ITERATIONS).contains(&iterations).then_some(())?;
            Some(Self {
                salt: ScramSalt { salt, iterations },
                stored_key: bytes(stored_key)?.try_into().ok()?,
                server_key: bytes(server_key)?.try_into().ok()?,
            })
        };
        read().ok_or_else(|| {
            "this is no SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY".to_owned()
        })
    }
}

impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.salt.iterations,
            text(&self.salt.salt),
            text(&self.stored_key),
            text(&self.server_key)
        )
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677 §3.
    #[test]
    fn the_example_of_the_standard() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::with(b"pencil", salt, 4096).unwrap();
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let messages = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r={nonce}"
        );
        let proof = BASE64_STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let proof = proof.unwrap();
        let signature = keys.verify(messages.as_bytes(), &proof).unwrap();
        assert_eq!(
            BASE64_STANDARD.encode(signature),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let text = keys.to_string();
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"));
        assert_eq!(text.parse(), Ok(keys.clone()));
        for wrong in [&proof[..31], &[], &[0; 32]] {
            assert_eq!(keys.verify(messages.as_bytes(), wrong), None);
        }
        assert_eq!(keys.verify(b"other", &proof), None);
        let decoy = ScramKeys::decoy(b"secret", "anna");
        assert_eq!(decoy, ScramKeys::decoy(b"secret", "anna"));
        assert_ne!(decoy.salt, ScramKeys::decoy(b"secret", "bob").salt);
        assert_eq!(decoy.verify(messages.as_bytes(), &proof), None);
    }

    #[test]
    fn passwords_are_prepared_as_clients_do() {
        let keys = |password: &[u8]| ScramKeys::with(password, b"salt".to_vec(), 1);
        // RFC 4013 §3: a soft hyphen is nothing, and forms are composed.
        assert_eq!(keys("I\u{ad}X".as_bytes()), keys(b"IX"));
        assert_eq!(keys("ho\u{308}her".as_bytes()), keys("höher".as_bytes()));
        for none in [&b"\xff"[..], b"\x07", b""] {
            assert_eq!(keys(none), None);
        }
        for wrong in [
            "",
            "SCRAM-SHA-256$0:YQ==$YQ==:YQ==",
            "SCRAM-SHA-1$1:YQ==$YQ==:YQ==",
        ] {
            assert!(wrong.parse::<ScramKeys>().is_err());
        }
    }

    /// The example of RFC 2195 §2.
    #[test]
    fn cram_md5() {
        let challenge = "<1896.697170952@postoffice.reston.mci.net>";
        let digest = "b913a602c7eda7a495b4e6e7334d3890";
        assert!(is_cram_md5("tanstaaftanstaaf", challenge, digest));
        for (password, digest) in [
            ("tanstaaf", digest),
            ("tanstaaftanstaaf", ""),
            ("tanstaaftanstaaf", "b913"),
            ("tanstaaftanstaaf", "+913a602c7eda7a495b4e6e7334d3890"),
            ("tanstaaftanstaaf", "b913a602c7eda7a495b4e6e7334d3890b9"),
        ] {
            assert!(!is_cram_md5(password, challenge, digest), "{digest}");
        }
    }
}
