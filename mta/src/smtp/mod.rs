//! The protocol: what is said on the wire, without sockets, clocks or disk.
//!
//! RFC 5321 and its extensions, and LMTP (RFC 2033).

pub mod address;
pub mod auth;
mod content;
pub mod envelope;
pub mod limits;
mod parameters;
pub mod reply;
mod scram;
pub mod session;
pub mod trace;

pub use address::{Domain, ForwardPath, LocalPart, Mailbox, ReversePath};
pub use auth::{Attempt, Mechanism, Proof};
pub use envelope::{Body, Client, Envelope, Notify, Protocol, Recipient, Return, Tls};
pub use limits::Limits;
pub use reply::{EnhancedCode, Reply, ReplyCode};
