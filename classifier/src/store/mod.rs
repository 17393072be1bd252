//! Where token counts live.
//!
//! A [`TokenStore`] answers how often tokens were seen and applies
//! [`Changes`] as one. It knows nothing of messages or verdicts.

use crate::{Changes, Error, Token, TokenCounts, TrainedMessages};

pub mod berkeley;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "lmdb")]
pub mod lmdb;
#[cfg(any(feature = "lmdb", feature = "text"))]
pub(crate) mod lock;
mod memory;
pub mod model;
mod pending;
#[cfg(feature = "text")]
mod text;

pub use memory::Memory;
pub use model::{MemoryModel, ModelStore};
pub use pending::Pending;
#[cfg(feature = "text")]
pub use text::Text;

/// When a change must have reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before `apply` returns: what a person said.
    Synced,
    /// With a later synced change or by the system's own writing back: what
    /// the filter said to itself. A crash may lose it and damages nothing.
    Relaxed,
}

/// One line of a list of tokens. `None`: not in that list; bmf keeps tokens
/// whose count fell to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The token's bytes. Lists that came from elsewhere can hold tokens that
    /// no [`Token`] can be.
    pub token: &'a [u8],
    /// Count in the ham list.
    pub ham: Option<u32>,
    /// Count in the spam list.
    pub spam: Option<u32>,
}

/// What scoring needs of a store.
pub trait TokenLookup {
    /// Writes the counts of `tokens` to `counts` (cleared first, then as long
    /// as `tokens` and in its order) and returns the message counts, all from
    /// one state of the store. An unknown token counts 0.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn lookup(
        &self,
        tokens: &[Token],
        counts: &mut Vec<TokenCounts>,
    ) -> Result<TrainedMessages, Error>;
}

/// Token counts of one user.
pub trait TokenStore: TokenLookup {
    /// Applies `changes` wholly or, on an error, not at all.
    ///
    /// # Errors
    /// When the store cannot be written, or is locked for too long.
    fn apply(&mut self, changes: &Changes, durability: Durability) -> Result<(), Error>;

    /// Calls `visit` for each entry in ascending order of tokens and returns
    /// the message counts.
    ///
    /// # Errors
    /// When the store cannot be read, or the first error of `visit`.
    fn entries(
        &self,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<(), Error>,
    ) -> Result<TrainedMessages, Error>;

    /// Replaces all that the store holds by `entries` (in any order; of two
    /// with the same token the later one counts), synced, wholly or not at
    /// all.
    ///
    /// # Errors
    /// When the store cannot be written, or is locked for too long.
    fn replace(
        &mut self,
        trained: TrainedMessages,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), Error>;
}
