//! Who may be taken for an account: passwords are checked within bounds of
//! time, memory and guesses.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::{Inner, refusal};
use crate::Error;
use crate::accounts::{Accounts, Address, Directory, Guesses, TooMany, is_right};
use crate::handover::Login;
use crate::smtp::auth::wrong;
use crate::smtp::{Attempt, Reply};

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
    let account = Address::parse(&attempt.name).ok();
    let account = account.filter(|account| !account.is_catch_all());
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
        let checked = tokio::task::spawn_blocking(move || {
            check(inner.accounts(), account.as_ref(), &attempt.password)
        });
        checked.await.map_err(|error| error.to_string())
    };
    let found = found.and_then(|found| found.map_err(|error| error.to_string()));
    if !matches!(found, Ok(Found::Wrong(_))) {
        let was_right = found.is_ok();
        let now = Instant::now();
        let mut guesses = logins.guesses();
        guesses.give_back(account.as_ref(), address, was_right, now);
    }
    match found {
        Ok(Found::Right(account)) => Login::As(account.to_string()),
        Ok(Found::Wrong(reason)) => Login::Refused(refusal(wrong(), reason)),
        Err(reason) => {
            let reply = Reply::new(454, (4, 7, 0), "logging in is not possible now");
            Login::Refused(refusal(reply, reason))
        }
    }
}

#[derive(Debug, PartialEq)]
enum Found {
    Right(Address),
    /// With what the log says; only names of accounts stand there.
    Wrong(String),
}

/// Whether the account's password is this. One hash in any case.
fn check(accounts: &Accounts, account: Option<&Address>, password: &[u8]) -> Result<Found, Error> {
    let user = match account {
        Some(account) => accounts.user(account)?,
        None => None,
    };
    let stored = user
        .as_ref()
        .and_then(|user| user.settings.password.as_ref());
    let is_right = is_right(stored, password);
    Ok(match user {
        Some(user) if is_right => Found::Right(user.address),
        Some(user) if user.settings.password.is_none() => {
            Found::Wrong(format!("{} has no password", user.address))
        }
        Some(user) => Found::Wrong(format!("not the password of {}", user.address)),
        None => Found::Wrong("there is no such account".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{
        Domain, Homes, PasswordHash, Scheme, User, UserSettings, computed_hashes,
    };

    #[test]
    fn whoever_asks_costs_one_hash_of_the_same_kind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
        let user = |name: &str, password: Option<&str>| User {
            address: Address::new(name, "example.org"),
            settings: UserSettings {
                password: password.map(|text| PasswordHash::of(text.as_bytes()).unwrap()),
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
            ("anna@example.org", "secret", Found::Right(anna)),
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
            let found = check(&accounts, account.as_ref(), password.as_bytes());
            assert_eq!(found.unwrap(), expected, "{name}");
            assert_eq!(computed_hashes(), [Scheme::Argon2], "{name}");
        }
    }
}
