//! Passwords, as hashes that can be stored and checked.
//!
//! New ones are argon2id (RFC 9106) with the crate's costs: 19 MiB, 2 passes,
//! which is OWASP's recommendation. What other hosts have stored is checked as
//! it is: bcrypt, `$6$` and `$5$` (SHA-crypt), `$1$` (MD5) and the DES of
//! traditional crypt, which looks at 8 bytes of a password only.
//!
//! An address without an account, or without a password, costs one argon2id
//! too, and so does a wrong guess at a hash of another kind: how long an answer
//! takes must not tell who has a mailbox here.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, SaltString};
use pwhash::{bcrypt, md5_crypt, sha256_crypt, sha512_crypt, unix_crypt};

/// A stored password. Its text is printed only by [`PasswordHash::as_str`].
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    text: String,
}

/// How a password was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `$argon2id$`; also `$argon2i$` and `$argon2d$`.
    Argon2,
    /// `$2a$`, `$2b$`, `$2y$`.
    Bcrypt,
    /// `$6$`.
    Sha512Crypt,
    /// `$5$`.
    Sha256Crypt,
    /// `$1$`.
    Md5Crypt,
    /// 13 characters without a mark.
    DesCrypt,
}

/// More is no password, but work for us.
pub const MAX_PASSWORD_OCTETS: usize = 1024;
/// Costs above these are refused when a hash is entered: each login would take
/// many seconds, or the memory of the host.
const MAX_ARGON2_KIB: u32 = 256 << 10;
const MAX_ARGON2_PASSES: u32 = 64;
const MAX_BCRYPT_COST: u32 = 15;
const MAX_SHA_ROUNDS: u32 = 1_000_000;
/// Longest text of a hash, in bytes.
const MAX_TEXT: usize = 512;

/// Stands in for the password that an address does not have.
static DECOY: LazyLock<PasswordHash> = LazyLock::new(|| {
    PasswordHash::of(b"no account has this hash").expect("a short password can be hashed")
});

impl PasswordHash {
    /// Hashes `password` with a new salt; tens of milliseconds.
    ///
    /// # Errors
    /// With the reason, when it can be no password: empty, too long, or with a
    /// NUL, a CR or an LF, which no protocol carries.
    pub fn of(password: &[u8]) -> Result<Self, String> {
        if password.is_empty() {
            return Err("the password is empty".into());
        }
        if password.len() > MAX_PASSWORD_OCTETS {
            return Err(format!(
                "the password is longer than {MAX_PASSWORD_OCTETS} bytes"
            ));
        }
        if password.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
            return Err("the password has a NUL or the end of a line in it".into());
        }
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default().hash_password(password, &salt);
        let hash = hash.map_err(|error| format!("cannot hash the password: {error}"))?;
        Ok(Self {
            scheme: Scheme::Argon2,
            text: hash.to_string(),
        })
    }

    /// As it is stored, for the database and for an export.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it was made.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether it is that of `password`. Costs as much as its scheme says.
    fn is_of(&self, password: &[u8]) -> bool {
        #[cfg(test)]
        tests::HASHED.with_borrow_mut(|all| all.push(self.scheme));
        let text = self.text.as_str();
        match self.scheme {
            Scheme::Argon2 => password_hash::PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Scheme::Bcrypt => bcrypt::verify(password, text),
            Scheme::Sha512Crypt => sha512_crypt::verify(password, text),
            Scheme::Sha256Crypt => sha256_crypt::verify(password, text),
            Scheme::Md5Crypt => md5_crypt::verify(password, text),
            Scheme::DesCrypt => unix_crypt::verify(password, text),
        }
    }
}

/// Whether `password` is the one that is `stored`; never, if none is. Whatever
/// is wrong costs one argon2id, unless it is too long to be a password: also
/// behind the cheap hash of another host, which would be answered too soon.
pub fn is_right(stored: Option<&PasswordHash>, password: &[u8]) -> bool {
    if password.len() > MAX_PASSWORD_OCTETS {
        return false;
    }
    let is_of = stored.is_some_and(|hash| hash.is_of(password));
    if !is_of && stored.is_none_or(|hash| hash.scheme != Scheme::Argon2) {
        DECOY.is_of(password);
    }
    is_of
}

impl FromStr for PasswordHash {
    type Err = String;

    /// Reads what crypt(3) or argon2 has written.
    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself is no matter for a terminal or a log.
        let wrong = |reason: &str| Err(format!("this is no hash of a password: {reason}"));
        if text.len() > MAX_TEXT || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return wrong("it is too long or has other characters than ASCII");
        }
        let scheme = match text.split('$').nth(1) {
            Some("argon2id" | "argon2i" | "argon2d") => Scheme::Argon2,
            Some("2a" | "2b" | "2y") => Scheme::Bcrypt,
            Some("6") => Scheme::Sha512Crypt,
            Some("5") => Scheme::Sha256Crypt,
            Some("1") => Scheme::Md5Crypt,
            None if text.len() == 13 && text.bytes().all(is_crypt) => Scheme::DesCrypt,
            _ => return wrong("argon2, bcrypt, $6$, $5$, $1$ and crypt are known"),
        };
        if !(text.starts_with('$') || scheme == Scheme::DesCrypt) || !is_whole(scheme, text) {
            return wrong("a part is missing or malformed");
        }
        if !is_affordable(scheme, text) {
            return wrong("it costs too much to check");
        }
        let text = text.to_owned();
        Ok(Self { scheme, text })
    }
}

/// The alphabet of crypt(3).
fn is_crypt(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/')
}

fn is_whole(scheme: Scheme, text: &str) -> bool {
    // Characters that each scheme's digest has, and the parts around its `$`.
    let digest = |octets| {
        let (rest, last) = text.rsplit_once('$').unwrap_or_default();
        last.len() == octets
            && last.bytes().all(is_crypt)
            && (3..=4).contains(&rest.split('$').count())
    };
    match scheme {
        Scheme::Argon2 => {
            password_hash::PasswordHash::new(text).is_ok_and(|hash| hash.hash.is_some())
        }
        Scheme::Bcrypt => digest(53),
        Scheme::Sha512Crypt => digest(86),
        Scheme::Sha256Crypt => digest(43),
        Scheme::Md5Crypt => digest(22),
        Scheme::DesCrypt => true,
    }
}

fn is_affordable(scheme: Scheme, text: &str) -> bool {
    let part = text.split('$').nth(2).unwrap_or_default();
    match scheme {
        Scheme::Argon2 => {
            let hash = password_hash::PasswordHash::new(text).ok();
            let params = hash.and_then(|hash| argon2::Params::try_from(&hash).ok());
            params.is_some_and(|params| {
                params.m_cost() <= MAX_ARGON2_KIB && params.t_cost() <= MAX_ARGON2_PASSES
            })
        }
        Scheme::Bcrypt => part.parse().is_ok_and(|cost: u32| cost <= MAX_BCRYPT_COST),
        Scheme::Sha512Crypt | Scheme::Sha256Crypt => match part.strip_prefix("rounds=") {
            Some(rounds) => rounds.parse().is_ok_and(|n: u32| n <= MAX_SHA_ROUNDS),
            None => true,
        },
        Scheme::Md5Crypt | Scheme::DesCrypt => true,
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({})", self.scheme)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2 => "argon2",
            Self::Bcrypt => "bcrypt",
            Self::Sha512Crypt => "sha512-crypt",
            Self::Sha256Crypt => "sha256-crypt",
            Self::Md5Crypt => "md5-crypt",
            Self::DesCrypt => "des-crypt",
        })
    }
}

/// What this thread has computed since it was asked last.
#[cfg(test)]
pub(crate) fn computed_hashes() -> Vec<Scheme> {
    tests::HASHED.take()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use proptest::prelude::*;

    thread_local! {
        /// What this thread has computed.
        pub(super) static HASHED: RefCell<Vec<Scheme>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn a_new_password_is_argon2id_and_salted() {
        let hash = PasswordHash::of(b"correct horse").unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(hash, PasswordHash::of(b"correct horse").unwrap());
        assert!(is_right(Some(&hash), b"correct horse"));
        assert!(!is_right(Some(&hash), b"correct horse "));
        assert_eq!(hash.as_str().parse(), Ok(hash.clone()));
        // What is logged by mistake tells nothing.
        assert_eq!(format!("{hash:?}"), "PasswordHash(argon2)");
    }

    #[test]
    fn what_others_stored_is_checked() {
        for (text, scheme, password) in OF_OTHERS {
            let hash: PasswordHash = text.parse().unwrap();
            assert_eq!(hash.scheme(), scheme);
            assert!(is_right(Some(&hash), password.as_bytes()), "{text}");
            assert!(!is_right(Some(&hash), b"wrong"), "{text}");
            assert!(!is_right(Some(&hash), b""), "{text}");
        }
    }

    #[test]
    fn no_account_costs_the_same_hash_as_one() {
        let hash = PasswordHash::of(b"secret").unwrap();
        for stored in [Some(&hash), None] {
            HASHED.take();
            assert!(!is_right(stored, b"guess"));
            assert_eq!(HASHED.take(), [Scheme::Argon2], "{stored:?}");
        }
        for (text, scheme, password) in OF_OTHERS {
            let hash: PasswordHash = text.parse().unwrap();
            for (guess, expected) in [
                (password, &[scheme][..]),
                ("guess", &[scheme, Scheme::Argon2]),
            ] {
                is_right(Some(&hash), guess.as_bytes());
                assert_eq!(HASHED.take(), expected, "{scheme}");
            }
        }
        let params = |hash: &PasswordHash| hash.as_str().split('$').nth(3).map(str::to_owned);
        assert_eq!(params(&hash), params(&DECOY));
        // Nobody gets in who knows what the decoy is made of.
        assert!(!is_right(None, b"no account has this hash"));
    }

    #[test]
    fn what_can_be_no_password_or_hash_is_refused() {
        let long = vec![b'a'; MAX_PASSWORD_OCTETS + 1];
        for password in [b"".as_slice(), b"a\0b", b"a\nb", &long] {
            assert!(PasswordHash::of(password).is_err());
        }
        let expensive = OF_OTHERS[1].0.replace("$05$", "$31$");
        let rounds = OF_OTHERS[2].0.replace("rounds=5000", "rounds=999999999");
        let memory = PasswordHash::of(b"x")
            .unwrap()
            .text
            .replace("m=19456", "m=4000000");
        for text in [
            "",
            "secret",
            "$6$salt",
            "$7$salt$hash",
            "$2y$05$short",
            "$argon2id$v=19",
            "é",
            "x$1$salt$0123456789012345678901",
            &expensive,
            &rounds,
            &memory,
        ] {
            let error = text.parse::<PasswordHash>().unwrap_err();
            assert!(error.contains("no hash of a password"), "{text}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Also when the costs are valid, checking never panics.
        #[test]
        fn any_text_is_a_hash_or_none(
            text in r"(\$(1|5|6|2[aby]|argon2id)\$)?(0[0-4]\$|rounds=[0-9]{1,3}\$|v=19\$m=[0-9]{1,3},t=[0-3],p=[0-9]\$)?[!-~]{0,30}\$?[./0-9A-Za-z]{0,90}",
        ) {
            if let Ok(hash) = text.parse::<PasswordHash>() {
                prop_assert_eq!(hash.as_str(), &text);
                is_right(Some(&hash), b"guess");
            }
        }
    }

    /// Made by crypt(3) of libxcrypt.
    #[rustfmt::skip]
    const OF_OTHERS: [(&str, Scheme, &str); 5] = [
        ("saNXwI3fzeJT.", Scheme::DesCrypt, "secretde"),
        ("$2y$05$abcdefghijklmnopqrstuuW6lIaGaqwH1wlfyn7x/ASngXzSZeec.", Scheme::Bcrypt, "secret-b"),
        ("$6$rounds=5000$saltstring$E/oSqAJZbRniHS1dRyquM0Wrmif5f3ZBo34HGdrnw35rKcNNpue2CQzT5hDyCeU380vQ7xywCJxc2y7LNpBbg/", Scheme::Sha512Crypt, "secret-6"),
        ("$5$saltstring$t0FDj.SMxxVvXnQINu8.WkdjLPHB7GuRSy3sbpTAKl0", Scheme::Sha256Crypt, "secret-5"),
        ("$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.", Scheme::Md5Crypt, "secret-1"),
    ];
}
