//! The classic engine: bmf 0.9.4 to the last printed digit.
//!
//! Pure functions over bytes. [`Lexer`] finds the words of a message,
//! [`message_tokens`] counts them for registering, [`score()`] weighs them,
//! [`passthrough()`] puts the verdict into a message's header section.
//! [`MessageReader`] splits a stream into messages as bmf does.
//!
//! Source of all constants and quirks: the behaviour of Debian's bmf 0.9.4-13.
//! Quirks that are kept are marked `bmf compat:`, those that are not
//! `Deviation:`.

mod classes;
mod html;
mod known;
mod lexer;
mod lines;
mod passthrough;
mod reader;
mod report;
mod score;

pub use lexer::Lexer;
pub use passthrough::passthrough;
pub use reader::{Layout, MAX_IN_MEMORY, Message, MessageReader};
pub use score::{Evidence, Params, Score, Scorer, score, score_each, token_spamicity};

use crate::{MessageTokens, Token};

/// The words of a message that count: all but the first.
///
/// bmf compat: in an mbox the first is the `From ` mark, elsewhere it is a
/// real word, mostly the name of the first header field.
pub fn message_words(message: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    Lexer::new(message).skip(1)
}

/// The tokens of [`message_words`], one for each.
pub fn words_as_tokens(message: &[u8]) -> impl Iterator<Item = Token> {
    let mut lexer = Lexer::new(message);
    lexer.next();
    std::iter::from_fn(move || lexer.next_token())
}

/// What a message registers: its words with their counts.
pub fn message_tokens(message: &[u8]) -> MessageTokens {
    let mut tokens = MessageTokens::default();
    for token in words_as_tokens(message) {
        tokens.push(token);
    }
    tokens
}
