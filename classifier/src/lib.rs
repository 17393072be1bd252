//! Spam classification: bytes to features to probability.
//!
//! A message is bytes; nothing here needs it to be well-formed. An engine
//! turns it into tokens, a [`store::TokenStore`] knows how often each token
//! was seen in ham and in spam, and the engine combines these into a verdict
//! that carries the evidence which made it.
//!
//! Two engines: [`classic`] is bmf 0.9.4 to the last printed digit; [`modern`]
//! is the more accurate one.
//!
//! Deliberately absent: an async runtime, sockets, a clock, and any knowledge
//! of SMTP or of folders. What needs these lives in the crates above.
//!
//! ```
//! use classifier::classic::{self, Params};
//! use classifier::store::{Durability, Memory, TokenStore};
//! use classifier::{Changes, Label, MessageTokens};
//!
//! let mut store = Memory::default();
//! for (label, mail) in [
//!     (Label::Spam, b"Subject: Cheap watches\n\nBuy watches now".as_slice()),
//!     (Label::Ham, b"Subject: Lunch\n\nShall we meet tomorrow?".as_slice()),
//! ] {
//!     let mut changes = Changes::default();
//!     changes.learn(label, &classic::message_tokens(mail));
//!     store.apply(&changes, Durability::Synced)?;
//! }
//! let mail = b"Subject: Lunch\n\nBuy watches?";
//! let score = classic::score(mail, &store, &Params::bmf())?;
//! assert!(score.hits < 0.9);
//! assert_eq!(score.evidence.len(), 3);
//! # Ok::<(), classifier::Error>(())
//! ```

pub mod classic;
#[cfg(feature = "cli")]
pub mod cli;
mod counts;
mod distinct;
mod error;
mod hex;
#[cfg(all(feature = "lmdb", feature = "text"))]
pub mod import;
pub mod mark;
pub mod modern;
pub mod store;
mod token;

pub use counts::{
    Adjustment, Changes, Label, Listed, MessageTokens, TokenChange, TokenCounts, TrainedMessages,
};
pub use error::{Error, newer_format};
pub use token::Token;
