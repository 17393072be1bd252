//! What all users of a host have taught, in one RocksDB.
//!
//! [`HostStore`] is the database, which one process at a time can have open.
//! [`UserModel`] is one user's model of the modern engine, a
//! [`ModelStore`](classifier::store::ModelStore); those of users at work are
//! kept in memory, up to a bound. [`UserStore`] holds one user's counts of the
//! classic engine, a [`TokenStore`](classifier::store::TokenStore). Counting
//! reads nothing: a message's counts are written as changes, in one atomic
//! batch, and RocksDB merges them when it reads or compacts. With
//! [`UserStore::learn`] a ledger sees to it that each message counts once.
//!
//! A crate of its own and no feature of `classifier`, because cargo unifies
//! features over a workspace and `bmf` must link no RocksDB.
//!
//! Deliberately absent: waiting for another owner (a daemon that finds its
//! database taken should say so and end), read-only opening beside a writer
//! (it fails now and then; ask the daemon instead), and compression (the
//! build is without any: it saves dependencies, and the counts of the tokens
//! that a lookup needs stay in the cache anyway).
//!
//! The bytes on disk are described in [`layout`].
//!
//! ```
//! use classifier::store::{Durability, TokenLookup, TokenStore};
//! use classifier::{Changes, Label, MessageTokens, Token, TokenCounts};
//! use classifier_rocksdb::{HostStore, Options};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let host = HostStore::open(path, &Options::default())?;
//! let watches = Token::new(b"watches").ok_or("no token")?;
//! let mut message = MessageTokens::default();
//! message.push(watches);
//! let mut changes = Changes::default();
//! changes.learn(Label::Spam, &message);
//!
//! let mut ann = host.user("ann@example.org");
//! ann.apply(&changes, Durability::Synced)?;
//!
//! let mut counts = Vec::new();
//! let trained = ann.lookup(&[watches], &mut counts)?;
//! assert_eq!(trained.spam, 1);
//! assert_eq!(counts, [TokenCounts { ham: 0, spam: 1 }]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod error;
mod host;
pub mod layout;
mod ledger;
mod logs;
mod merge;
mod model;
mod options;
mod owner;
mod portable;
mod user;

pub use cache::CacheUse;
pub use host::{HostStore, Renamed, SECRET_LEN};
pub use model::UserModel;
pub use options::Options;
pub use user::UserStore;
