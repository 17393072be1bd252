//! Learning from folders: what a user's moves teach, and which messages make
//! room for others.
//!
//! | module | answers |
//! | --- | --- |
//! | [`cli`] | the program `bmfd` |
//! | [`config`] | which mailboxes, and what holds for each user |
//! | [`pattern`] | where mailboxes lie, and whose they are |
//! | [`roles`] | what a folder is for, by its name or by Dovecot's configuration (`dovecot`) |
//! | [`decision`] | what to learn from where a message was and is, and where to move it |
//! | [`database`] | where what a user taught is kept |
//! | [`pass`] | what is to be done in a mailbox now, and doing it |
//! | [`taught`] | what a user taught, by the ledger of either engine |
//! | [`turn`] | a pass, carried out and logged |
//! | [`daemon`] | watching all mailboxes, until told to end |
//! | [`socket`], [`spamd`] | who asks over a socket, and the bytes of it |
//! | [`service`], [`users`] | whose model that one may use, and using it |
//! | [`spool`] | lessons that waited for the daemon |
//! | [`admin`], [`journal`], [`live`], [`metrics`] | what an administrator asks for |
//! | [`rotation`] | which messages of a folder go when a quota is reached |
//!
//! Decisions are pure functions over plain data; what was decided is then
//! carried out. Knows nothing of SMTP.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod database;
pub mod decision;
mod dovecot;
mod error;
pub mod journal;
mod listeners;
pub mod live;
pub mod metrics;
pub mod pass;
pub mod pattern;
pub mod roles;
pub mod rotation;
pub mod service;
pub mod socket;
pub mod spamd;
pub mod spool;
pub mod taught;
pub mod turn;
pub mod users;
mod watch;

pub use error::{Error, told};
