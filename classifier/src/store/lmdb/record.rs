//! What stands in the database, byte by byte. The module above says why.

use std::io::{self, ErrorKind};

use crate::store::Entry;
use crate::{Adjustment, TokenChange, TokenCounts, TrainedMessages};

/// The version that this program writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Key of the record that says what the file is. LMDB sorts it first.
pub(super) const FORMAT_KEY: &[u8] = b"\0bmf";

/// Key of the message counts.
pub(super) const MESSAGES_KEY: &[u8] = b"\0messages";

/// First byte of every key that is no token's.
const RESERVED: u8 = 0;

/// LMDB's limit for a key, in bytes.
const MAX_KEY_LEN: usize = 511;

/// Refuses what cannot be a key.
pub(super) fn check_token(token: &[u8]) -> io::Result<()> {
    let what = match token {
        [] => "is empty",
        [RESERVED, ..] => "begins with a NUL byte",
        _ if token.len() > MAX_KEY_LEN => "is longer than 511 bytes",
        _ => return Ok(()),
    };
    let token = token[..token.len().min(40)].escape_ascii();
    let what = format!("the token '{token}' {what}");
    Err(io::Error::new(ErrorKind::InvalidInput, what))
}

/// The format record: version, then the engine's name to its end.
pub(super) fn format(engine: &str) -> Vec<u8> {
    [&FORMAT_VERSION.to_le_bytes(), engine.as_bytes()].concat()
}

/// Version and engine name. `None`: too short, or the name is no UTF-8.
pub(super) fn parse_format(value: &[u8]) -> Option<(u32, &str)> {
    let (version, engine) = value.split_first_chunk()?;
    Some((u32::from_le_bytes(*version), str::from_utf8(engine).ok()?))
}

/// The message counts: ham, then spam.
pub(super) fn messages(trained: TrainedMessages) -> [u8; 8] {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&trained.ham.to_le_bytes());
    value[4..].copy_from_slice(&trained.spam.to_le_bytes());
    value
}

/// `None`: not of the length that [`messages`] writes.
pub(super) fn parse_messages(value: &[u8]) -> Option<TrainedMessages> {
    let (ham, spam) = value.split_first_chunk()?;
    Some(TrainedMessages {
        ham: u32::from_le_bytes(*ham),
        spam: u32::from_le_bytes(spam.try_into().ok()?),
    })
}

/// The message counts after `change`.
pub(super) fn adjust_trained(trained: TrainedMessages, change: &TokenChange) -> TrainedMessages {
    let TrainedMessages { ham, spam } = trained;
    let TokenCounts { ham, spam } = change.apply(TokenCounts { ham, spam });
    TrainedMessages { ham, spam }
}

/// A token's counts in both lists. `None`: not in that list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) ham: Option<u32>,
    pub(super) spam: Option<u32>,
}

impl Listed {
    pub(super) const LEN: usize = 9;
    const IN_HAM: u8 = 1;
    const IN_SPAM: u8 = 2;

    /// `None`: not what [`Self::to_bytes`] writes.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let [lists, counts @ ..]: &[u8; Self::LEN] = value.try_into().ok()?;
        let TrainedMessages { ham, spam } = parse_messages(counts)?;
        (*lists & !(Self::IN_HAM | Self::IN_SPAM) == 0).then_some(Self {
            ham: (lists & Self::IN_HAM != 0).then_some(ham),
            spam: (lists & Self::IN_SPAM != 0).then_some(spam),
        })
    }

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut value = [0; Self::LEN];
        for (count, bit, at) in [(self.ham, Self::IN_HAM, 1), (self.spam, Self::IN_SPAM, 5)] {
            if let Some(count) = count {
                value[0] |= bit;
                value[at..at + 4].copy_from_slice(&count.to_le_bytes());
            }
        }
        value
    }

    /// Enters the token in a list as bmf's db format does: not because of a
    /// subtraction alone.
    pub(super) fn adjusted(self, change: &TokenChange) -> Self {
        Self {
            ham: adjusted(self.ham, change.ham),
            spam: adjusted(self.spam, change.spam),
        }
    }

    pub(super) fn is_unlisted(self) -> bool {
        self == Self::default()
    }

    pub(super) fn counts(self) -> TokenCounts {
        TokenCounts {
            ham: self.ham.unwrap_or(0),
            spam: self.spam.unwrap_or(0),
        }
    }

    pub(super) fn entry(self, token: &[u8]) -> Entry<'_> {
        Entry {
            token,
            ham: self.ham,
            spam: self.spam,
        }
    }
}

fn adjusted(count: Option<u32>, adjustment: Option<Adjustment>) -> Option<u32> {
    match (count, adjustment) {
        (None, Some(adjustment)) if !adjustment.inserts => None,
        (count, Some(adjustment)) => Some(adjustment.apply(count.unwrap_or(0))),
        (count, None) => count,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absent_is_not_0() {
        let zero = Listed {
            ham: Some(0),
            spam: None,
        };
        assert_eq!(zero.to_bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let both = Listed {
            ham: Some(258),
            spam: Some(u32::MAX),
        };
        assert_eq!(both.to_bytes(), [3, 2, 1, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn refuses_other_lengths_and_unknown_bits() {
        assert_eq!(Listed::parse(&[3; 8]), None);
        assert_eq!(Listed::parse(&[4, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse_messages(&[0; 9]), None);
        assert_eq!(parse_format(b"\x01\0\0"), None);
        assert_eq!(parse_format(b"\x01\0\0\0classic"), Some((1, "classic")));
    }

    proptest! {
        #[test]
        fn reads_back(ham: Option<u32>, spam: Option<u32>) {
            let listed = Listed { ham, spam };
            prop_assert_eq!(Listed::parse(&listed.to_bytes()), Some(listed));
        }
    }
}
