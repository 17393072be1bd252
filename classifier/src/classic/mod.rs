//! The classic engine: bmf 0.9.4 to the last printed digit.

use crate::store::TokenStore;
use crate::{Error, MessageTokens};

/// Placeholder until the lexer lands.
pub fn message_tokens(_message: &[u8]) -> MessageTokens {
    MessageTokens::default()
}
