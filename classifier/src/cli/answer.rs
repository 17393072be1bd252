//! The daemon's side of `bmf`: one message, one answer, with the words and
//! numbers that `bmf` itself would print.

use super::modern;
use super::output::Answer;
use super::run::has_words;
use super::wire::{Ask, Reply};
use crate::Error;
use crate::classic::{Params, Score};
use crate::store::{Durability, ModelStore};

impl Ask {
    /// Constants of the classic engine's score.
    pub fn params(&self) -> Params {
        Params {
            n_extrema: (self.n_extrema as usize).min(Params::MAX_EXTREMA),
            ..Params::bmf()
        }
    }

    /// What a person said is on disk before the reply; what the filter told
    /// itself may follow.
    pub fn durability(&self) -> Durability {
        match self.mode {
            super::Mode::Register => Durability::Relaxed,
            _ if !self.syncs => Durability::Relaxed,
            _ => Durability::Synced,
        }
    }
}

/// Does what `ask` says with a message and a model of the modern engine.
/// `now` is in seconds since 1970.
///
/// # Errors
/// When the store cannot be read or written; then nothing was learned.
pub fn modern(
    ask: &Ask,
    message: &[u8],
    store: &mut dyn ModelStore,
    now: u64,
) -> Result<Reply, Error> {
    if !has_words(message) {
        return Ok(Reply::NoWord);
    }
    let answer = modern::answer(ask, message, store, now)?;
    Ok(answer.map_or(Reply::NoWord, |answer| {
        Reply::Verdict(answer.to_verdict(ask))
    }))
}

/// What is to be said of a message that the classic engine has scored, and of
/// one that a person has labelled.
pub fn classic(ask: &Ask, score: impl FnOnce() -> Result<Score, Error>) -> Result<Reply, Error> {
    let score = match ask.mode.label() {
        Some(label) => super::run::told(label),
        None => score()?,
    };
    Ok(Reply::Verdict(Answer::Classic(score).to_verdict(ask)))
}

/// Whether there is anything to score: bmf takes a message without a word for
/// no message.
pub fn is_message(bytes: &[u8]) -> bool {
    has_words(bytes)
}
