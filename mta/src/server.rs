//! Sockets around [`Session`]s: listening, reading, writing, TLS, and ending
//! without losing a promise.
//!
//! | module | answers |
//! | --- | --- |
//! | [`listener`] | who may connect, and how many |
//! | [`driver`] | what is done with a session's actions |
//! | [`stream`] | bytes over TCP, Unix sockets and TLS alike |
//! | [`tls`] | the certificate |
//! | [`run`] | the whole host, from the configuration to SIGTERM |
//!
//! One task a session. What blocks (disk, accounts, scanner) runs on tokio's
//! threads for that, so that clients who wait cost no thread.
//!
//! [`Session`]: crate::smtp::session::Session

pub mod driver;
pub mod listener;
#[cfg(test)]
mod relay;
pub mod run;
pub mod stream;
pub mod tls;
