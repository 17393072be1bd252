//! What is kept of a password.

use std::fmt;

use super::{PasswordHash, Scheme, ScramKeys};

/// A password as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// What checks it when it is told.
    pub hash: PasswordHash,
    /// What checks it when it is not; missing where only the hash came from
    /// another host, until the user logs in with the password itself.
    pub scram: Option<Box<ScramKeys>>,
    /// Itself, where the user chose CRAM-MD5, which cannot do with less.
    pub clear: Option<String>,
}

impl Password {
    /// Of a new password; tenths of a second.
    ///
    /// # Errors
    /// As [`PasswordHash::of`]; when it is to be kept and is no text.
    pub fn of(password: &[u8], keep_clear: bool) -> Result<Self, String> {
        let hash = PasswordHash::of(password)?;
        let clear = match keep_clear {
            true => {
                let text = str::from_utf8(password);
                Some(text.map_err(|_| "the password is no UTF-8")?.to_owned())
            }
            false => None,
        };
        Ok(Self {
            hash,
            scram: ScramKeys::of(password).map(Box::new),
            clear,
        })
    }

    /// Better than this, where that can be: a hash of another host was cheap,
    /// or tells nothing to SCRAM. `password` is the right one.
    pub fn better(&self, password: &[u8]) -> Option<Self> {
        let is_cheap = self.hash.scheme() != Scheme::Argon2;
        let lacks_scram = self.scram.is_none() && ScramKeys::is_possible(password);
        let better = (is_cheap || lacks_scram).then(|| Self::of(password, self.clear.is_some()))?;
        better.ok()
    }
}

impl From<PasswordHash> for Password {
    fn from(hash: PasswordHash) -> Self {
        Self {
            hash,
            scram: None,
            clear: None,
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cheap_becomes_better() {
        let hash: PasswordHash = "$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.".parse().unwrap();
        let better = Password::from(hash).better(b"secret-1").unwrap();
        assert_eq!(better.hash.scheme(), Scheme::Argon2);
        assert!(better.scram.is_some() && better.clear.is_none());
        assert_eq!(better.better(b"secret-1"), None);
        let kept = Password::of(b"secret", true).unwrap();
        assert_eq!(kept.clear.as_deref(), Some("secret"));
        assert_eq!(format!("{kept:?}"), "PasswordHash(argon2)");
        // No SCRAM client can say this.
        let odd = Password::of(b"\xff", false).unwrap();
        assert_eq!((odd.scram.is_none(), odd.better(b"\xff")), (true, None));
        assert!(Password::of(b"\xff", true).is_err());
    }
}
