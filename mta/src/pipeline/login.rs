//! Who may be taken for an account: passwords are checked within bounds of
//! time, memory and guesses.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Instant;

use argon2::password_hash::SaltString;
use argon2::password_hash::rand_core::OsRng;
use tokio::sync::Semaphore;
use tracing::warn;

use super::checkpassword::Checkpassword;
use super::{Inner, refusal};
use crate::Error;
use crate::accounts::{
    Accounts, Address, Directory, Guesses, ScramKeys, ScramSalt, TooMany, User, is_cram_md5,
    is_right,
};
use crate::handover::{Login, Refusal, Salt};
use crate::smtp::auth::wrong;
use crate::smtp::{Attempt, Proof, Reply};

/// What is needed to check a login.
#[derive(Debug)]
pub(super) struct Logins {
    guesses: Mutex<Guesses>,
    /// One hash takes 19 MiB and a processor: more at once than there are
    /// processors would only take memory.
    hashing: Semaphore,
}

impl Default for Logins {
    fn default() -> Self {
        let n = available_parallelism().map_or(1, usize::from);
        Self {
            guesses: Mutex::default(),
            hashing: Semaphore::new(n),
        }
    }
}

impl Logins {
    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers AUTH. Dropped half-way, the attempt counts as a failed one.
pub(super) async fn log_in(inner: &Arc<Inner>, address: Option<IpAddr>, attempt: Attempt) -> Login {
    let account = account_named(&attempt.name);
    let logins = &inner.logins;
    let charged = logins
        .guesses()
        .charge(account.as_ref(), address, Instant::now());
    let wait = match charged {
        Ok(wait) => wait,
        Err(TooMany) => {
            let reply = Reply::new(454, (4, 7, 0), "too many failed logins, try again later");
            let reason = "too many failed before, so it was not looked at";
            return Login::Refused(refusal(reply, reason.into()));
        }
    };
    tokio::time::sleep(wait).await;
    let found = {
        let _turn = logins.hashing.acquire().await;
        let (inner, account) = (Arc::clone(inner), account.clone());
        let checked = tokio::task::spawn_blocking(move || match &inner.settings.checkpassword {
            Some(program) => ask(program, inner.accounts(), account.as_ref(), &attempt),
            None => check_here(&inner, account.as_ref(), &attempt.proof)
                .map_err(|error| error.to_string()),
        });
        checked.await.unwrap_or_else(|error| Err(error.to_string()))
    };
    if !matches!(found, Ok(Found::Wrong(_))) {
        let was_right = matches!(found, Ok(Found::Right(..)));
        let now = Instant::now();
        let mut guesses = logins.guesses();
        guesses.give_back(account.as_ref(), address, was_right, now);
    }
    match found {
        Ok(Found::Right(account, signature)) => Login::As {
            account: account.to_string(),
            signature,
        },
        Ok(Found::Wrong(reason) | Found::Impossible(reason)) => {
            Login::Refused(refusal(wrong(), reason))
        }
        Err(reason) => Login::Refused(impossible(reason)),
    }
}

/// Answers what a proof by SCRAM begins with.
pub(super) async fn salt(inner: &Arc<Inner>, name: String) -> Result<Salt, Refusal> {
    let inner = Arc::clone(inner);
    let found = tokio::task::spawn_blocking(move || {
        let accounts = inner.accounts();
        let user = user(accounts, account_named(&name).as_ref())?;
        Ok::<_, Error>(scram_keys(accounts, user.as_ref(), &name).salt)
    });
    match found.await {
        Ok(Ok(ScramSalt { salt, iterations })) => Ok(Salt {
            nonce: SaltString::generate(&mut OsRng).to_string(),
            salt,
            iterations,
        }),
        Ok(Err(error)) => Err(impossible(error.to_string())),
        Err(error) => Err(impossible(error.to_string())),
    }
}

fn impossible(reason: String) -> Refusal {
    refusal(
        Reply::new(454, (4, 7, 0), "logging in is not possible now"),
        reason,
    )
}

fn account_named(name: &str) -> Option<Address> {
    let account = Address::parse(name).ok();
    account.filter(|account| !account.is_catch_all())
}

fn user(accounts: &Accounts, account: Option<&Address>) -> Result<Option<User>, Error> {
    match account {
        Some(account) => accounts.user(account),
        None => Ok(None),
    }
}

fn scram_keys(accounts: &Accounts, user: Option<&User>, name: &str) -> ScramKeys {
    let password = user.and_then(|user| user.settings.password.as_ref());
    let keys = password.and_then(|password| password.scram.as_deref());
    // Upper case in a name must not give another salt.
    let name = name.to_ascii_lowercase();
    keys.cloned()
        .unwrap_or_else(|| ScramKeys::decoy(accounts.secret(), &name))
}

#[derive(Debug, PartialEq)]
enum Found {
    /// With our own proof for SCRAM.
    Right(Address, Option<[u8; 32]>),
    /// With what the log says; only names of accounts stand there.
    Wrong(String),
    /// Nothing could have been right, so that it was no guess. Some clients try
    /// CRAM-MD5 first whenever it is offered, and go on with PLAIN.
    Impossible(String),
}

/// As [`check`]. Whoever has told the right password is kept by a better hash.
fn check_here(inner: &Inner, account: Option<&Address>, proof: &Proof) -> Result<Found, Error> {
    let accounts = inner.accounts();
    let found = check(accounts, account, proof)?;
    if let (Found::Right(address, _), Proof::Password(password)) = (&found, proof)
        && !inner.settings.keep_hashes
        && let Err(error) = improve(accounts, address, password)
    {
        warn!(account = %address, %error, "the hash stays as it was");
    }
    Ok(found)
}

/// Whether this is the account's password, or comes from it. Whoever the
/// account is, and whether it is there, the same is computed.
fn check(accounts: &Accounts, account: Option<&Address>, proof: &Proof) -> Result<Found, Error> {
    let user = user(accounts, account)?;
    let stored = user
        .as_ref()
        .and_then(|user| user.settings.password.as_ref());
    let name = account.map(ToString::to_string).unwrap_or_default();
    let mut signature = None;
    let is_right = match proof {
        Proof::Password(password) => is_right(stored.map(|stored| &stored.hash), password),
        Proof::Digest { challenge, digest } => {
            let clear = stored.and_then(|stored| stored.clear.as_deref());
            is_cram_md5(clear.unwrap_or_default(), challenge, digest) && clear.is_some()
        }
        Proof::Scram { messages, proof } => {
            let keys = scram_keys(accounts, user.as_ref(), &name);
            signature = keys.verify(messages.as_bytes(), proof);
            signature.is_some()
        }
    };
    let can_be = match (proof, stored) {
        (Proof::Digest { .. }, stored) => stored.is_some_and(|stored| stored.clear.is_some()),
        (Proof::Scram { .. }, stored) => stored.is_some_and(|stored| stored.scram.is_some()),
        (Proof::Password(_), _) => true,
    };
    let no = match can_be {
        true => Found::Wrong,
        false => Found::Impossible,
    };
    let Some(user) = user else {
        return Ok(no("there is no such account".into()));
    };
    let address = user.address;
    if user.settings.password.is_none() {
        return Ok(no(format!("{address} has no password")));
    }
    if is_right {
        return Ok(Found::Right(address, signature));
    }
    Ok(no(match proof {
        Proof::Digest { .. } if !can_be => format!("{address} keeps no password for CRAM-MD5"),
        Proof::Scram { .. } if !can_be => {
            format!("{address} has no keys for SCRAM before a login with the password itself")
        }
        _ => format!("not the password of {address}"),
    }))
}

/// As [`check`], by a program. Who may send as what is for our accounts to say,
/// so that the name must be one of them.
fn ask(
    program: &Checkpassword,
    accounts: &Accounts,
    account: Option<&Address>,
    attempt: &Attempt,
) -> Result<Found, String> {
    let name = account.map_or(attempt.name.clone(), ToString::to_string);
    let is_right = program.check(&name, &attempt.proof)?;
    let user = user(accounts, account).map_err(|error| error.to_string())?;
    Ok(match user {
        Some(user) if is_right => Found::Right(user.address, None),
        Some(user) => Found::Wrong(format!("not the password of {}", user.address)),
        None => Found::Wrong("there is no such account".into()),
    })
}

/// Puts a better hash in the place of a cheap one, now that the password is
/// known.
fn improve(accounts: &Accounts, address: &Address, password: &[u8]) -> Result<(), Error> {
    let stored = |user: Option<User>| user.and_then(|user| user.settings.password);
    let before = stored(accounts.user(address)?);
    let Some(better) = before.as_ref().and_then(|before| before.better(password)) else {
        return Ok(());
    };
    accounts.change(|change| {
        // Somebody may have set another meanwhile.
        match stored(change.user(address)?) == before {
            true => change.set_password(address, Some(&better)),
            false => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Domain, Homes, Password, Scheme, UserSettings, computed_hashes};

    #[test]
    fn whoever_guesses_costs_one_hash_of_the_same_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
        let user = |name: &str, password: Option<&str>| User {
            address: Address::new(name, "example.org"),
            settings: UserSettings {
                password: password.map(|text| Password::of(text.as_bytes(), false).unwrap()),
                ..UserSettings::default()
            },
        };
        let entered = accounts.change(|change| {
            change.put_domain(&Domain {
                name: "example.org".into(),
                ..Domain::default()
            })?;
            change.put_user(&user("anna", Some("secret")))?;
            change.put_user(&user("bob", None))
        });
        entered.unwrap();
        let wrong = |reason: &str| Found::Wrong(reason.into());
        let anna = Address::new("anna", "example.org");
        for (name, password, expected) in [
            ("anna@example.org", "secret", Found::Right(anna, None)),
            (
                "anna@example.org",
                "guess",
                wrong("not the password of anna@example.org"),
            ),
            (
                "bob@example.org",
                "guess",
                wrong("bob@example.org has no password"),
            ),
            (
                "nobody@example.org",
                "guess",
                wrong("there is no such account"),
            ),
            (
                "anna@example.net",
                "secret",
                wrong("there is no such account"),
            ),
            ("hunter2", "guess", wrong("there is no such account")),
            ("", "", wrong("there is no such account")),
        ] {
            computed_hashes();
            let account = Address::parse(name).ok();
            let proof = Proof::Password(password.as_bytes().to_vec());
            let found = check(&accounts, account.as_ref(), &proof);
            assert_eq!(found.unwrap(), expected, "{name}");
            assert_eq!(computed_hashes(), [Scheme::Argon2], "{name}");
        }
    }

    #[test]
    fn a_cheap_hash_becomes_argon2id_at_the_login() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
        let anna = Address::new("anna", "example.org");
        let hash: crate::accounts::PasswordHash =
            "$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.".parse().unwrap();
        let entered = accounts.change(|change| {
            change.put_domain(&Domain {
                name: "example.org".into(),
                ..Domain::default()
            })?;
            change.put_user(&User {
                address: anna.clone(),
                settings: UserSettings {
                    password: Some(hash.into()),
                    ..UserSettings::default()
                },
            })
        });
        entered.unwrap();
        let log_in = |password: &str| {
            let proof = Proof::Password(password.into());
            let found = check(&accounts, Some(&anna), &proof).unwrap();
            if matches!(found, Found::Right(..)) {
                improve(&accounts, &anna, password.as_bytes()).unwrap();
            }
            found
        };
        let stored = || {
            accounts
                .user(&anna)
                .unwrap()
                .unwrap()
                .settings
                .password
                .unwrap()
        };
        assert!(matches!(log_in("wrong"), Found::Wrong(_)));
        assert_eq!(stored().hash.scheme(), Scheme::Md5Crypt);
        for _ in 0..2 {
            assert_eq!(log_in("secret-1"), Found::Right(anna.clone(), None));
            assert_eq!(stored().hash.scheme(), Scheme::Argon2);
            assert!(stored().scram.is_some() && stored().clear.is_none());
        }
        let before = stored();
        log_in("secret-1");
        assert_eq!(stored(), before);
    }
}
