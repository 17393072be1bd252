//! What stands in the database, byte by byte. The module above says why.

use std::borrow::Cow;
use std::io::{self, ErrorKind};

use crate::modern::Digest;
use crate::{Listed, TokenChange, TokenCounts, TrainedMessages};

/// The version that this program writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Key of the record that says what the file is. LMDB sorts it first.
pub(super) const FORMAT_KEY: &[u8] = b"\0bmf";

/// Key of the message counts.
pub(super) const MESSAGES_KEY: &[u8] = b"\0messages";

/// Key of the state of a model.
pub(super) const STATE_KEY: &[u8] = b"\0model";

/// Before the number of a page.
const PAGE_PREFIX: &[u8] = b"\0page";

/// Before the digest of a message in the ledger.
const ENTRY_PREFIX: &[u8] = b"\0entry";

/// Before time and digest of a message in the ledger.
pub(super) const AGE_PREFIX: &[u8] = b"\0age";

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

/// The key of a page. Keys are big-endian so that their order is that of
/// numbers.
pub(super) fn page_key(number: u32) -> Vec<u8> {
    [PAGE_PREFIX, &number.to_be_bytes()].concat()
}

/// The number of a page, whatever part of it this is the key of. `None`: not
/// what [`page_key`] and [`part_key`] make.
pub(super) fn parse_page_key(key: &[u8]) -> Option<u32> {
    let number = key.strip_prefix(PAGE_PREFIX)?.first_chunk()?;
    Some(u32::from_be_bytes(*number))
}

/// Longer values of a model are kept in parts, each of which fits a page of
/// LMDB without its head. LMDB would look for pages beside each other, find
/// few among those that it freed, and let the file grow.
pub(super) const PART_BYTES: usize = 4_080;

/// The key of a part of a long value: of the first one `key` itself.
pub(super) fn part_key(key: &[u8], part: u16) -> Cow<'_, [u8]> {
    match part {
        0 => key.into(),
        _ => [key, &part.to_be_bytes()].concat().into(),
    }
}

/// The key of a message in the ledger.
pub(super) fn entry_key(digest: &Digest) -> Vec<u8> {
    [ENTRY_PREFIX, digest].concat()
}

/// The key of a message in the order of age.
pub(super) fn age_key(time: u64, digest: &Digest) -> Vec<u8> {
    [AGE_PREFIX, &time.to_be_bytes(), digest].concat()
}

/// Behind all that [`age_key`] makes.
pub(super) fn age_end() -> Vec<u8> {
    let mut end = AGE_PREFIX.to_vec();
    end.push(u8::MAX);
    end
}

/// Time and digest. `None`: not what [`age_key`] makes.
pub(super) fn parse_age_key(key: &[u8]) -> Option<(u64, Digest)> {
    let (time, digest) = key.strip_prefix(AGE_PREFIX)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*time), digest.try_into().ok()?))
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

/// Length of a token's record.
const LISTED_LEN: usize = 9;
const IN_HAM: u8 = 1;
const IN_SPAM: u8 = 2;

/// A token's record: which lists it is in, then the counts, 0 where it is not.
pub(super) fn listed(listed: Listed) -> [u8; LISTED_LEN] {
    let mut value = [0; LISTED_LEN];
    for (count, bit, at) in [(listed.ham, IN_HAM, 1), (listed.spam, IN_SPAM, 5)] {
        if let Some(count) = count {
            value[0] |= bit;
            value[at..at + 4].copy_from_slice(&count.to_le_bytes());
        }
    }
    value
}

/// `None`: not what [`listed`] writes.
pub(super) fn parse_listed(value: &[u8]) -> Option<Listed> {
    let [lists, counts @ ..]: &[u8; LISTED_LEN] = value.try_into().ok()?;
    let TrainedMessages { ham, spam } = parse_messages(counts)?;
    (*lists & !(IN_HAM | IN_SPAM) == 0).then_some(Listed {
        ham: (lists & IN_HAM != 0).then_some(ham),
        spam: (lists & IN_SPAM != 0).then_some(spam),
    })
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
        assert_eq!(listed(zero), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let both = Listed {
            ham: Some(258),
            spam: Some(u32::MAX),
        };
        assert_eq!(listed(both), [3, 2, 1, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn refuses_other_lengths_and_unknown_bits() {
        assert_eq!(parse_listed(&[3; 8]), None);
        assert_eq!(parse_listed(&[4, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(parse_messages(&[0; 9]), None);
        assert_eq!(parse_format(b"\x01\0\0"), None);
        assert_eq!(parse_format(b"\x01\0\0\0classic"), Some((1, "classic")));
    }

    proptest! {
        #[test]
        fn reads_back(ham: Option<u32>, spam: Option<u32>) {
            let both = Listed { ham, spam };
            prop_assert_eq!(parse_listed(&listed(both)), Some(both));
        }
    }
}
