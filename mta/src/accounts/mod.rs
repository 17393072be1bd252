//! Who receives mail here: domains, users, aliases; and what becomes of a
//! recipient, as plain data.
//!
//! Users need no account of the system: all mail is the host's, below one
//! folder, `mail/DOMAIN/USER`. What is known lies in one SQLite database,
//! which `postern user`, `domain` and `alias` change at any time, with the
//! server running or not; each look-up sees the last change.
//!
//! | module | answers |
//! | --- | --- |
//! | `address` | what an account is called |
//! | `record` | what is kept of a domain and of a user |
//! | `database` | where it is kept |
//! | `resolve` | where a recipient's mail goes, as a [`Plan`] |
//! | `password` | what is kept of a password |
//! | `secret` | its hash, and which password is right |
//! | `scram` | what recognizes it without being told |
//! | `guesses` | how long who guesses has to wait |
//! | `transfer` | all of it as TOML and back |
//! | `wishes` | how the gate is kept for a recipient |
//! | `homes` | the folders of users on disk |
//!
//! Deliberately absent: the content of `.qmail` files, which [`crate::delivery`]
//! reads when it delivers.

mod address;
mod database;
mod guesses;
mod homes;
mod password;
mod record;
mod resolve;
mod scram;
mod secret;
mod transfer;
mod wishes;

pub use address::Address;
pub(crate) use address::domain_name;
pub use database::Accounts;
pub use guesses::{Guesses, TooMany};
pub use homes::Homes;
pub use password::Password;
pub use record::{Domain, OverQuota, SpamPolicy, User, UserSettings, parse_bytes, print_bytes};
pub use resolve::{Delivery, Directory, Extension, Plan, Resolved, local, resolve};
pub use scram::{ScramKeys, ScramSalt, is_cram_md5, keyed_text};
#[cfg(test)]
pub(crate) use secret::computed_hashes;
pub use secret::{MAX_PASSWORD_OCTETS, PasswordHash, Scheme, is_right};
pub use transfer::{Everything, Kind};
pub use wishes::wishes;
