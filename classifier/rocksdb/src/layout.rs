//! The database, byte by byte.
//!
//! One column family, `default`. Integers in keys and in the host's records
//! are big-endian, so that keys sort as their numbers do. A *varint* is
//! LEB128: seven bits a byte, lowest first, the top bit set on all but the
//! last byte.
//!
//! Every key begins with eight bytes that say whose it is: 0 for the host,
//! else the id of a user. Ids are given in ascending order from 1 and never
//! twice, so what a deleted user leaves behind until RocksDB compacts it away
//! belongs to nobody. The ninth byte is the kind:
//!
//! | owner | kind | then | value |
//! | --- | --- | --- | --- |
//! | 0 | 0 | | format version, 4 bytes; this is 3 |
//! | 0 | 1 | | the last id given, 8 bytes |
//! | 0 | 2 | user name, UTF-8 | the user's id, 8 bytes |
//! | 0 | 3 | id, 8 bytes | empty: the id is being filled; its keys go at the next opening |
//! | 0 | 4 | | the host's secret, 32 bytes |
//! | user | 0 | | counts of the messages registered |
//! | user | 1 | token, any bytes | counts of the token |
//! | user | 2 | | state of the model |
//! | user | 3 | number, 4 bytes | a page of the model's buckets |
//! | user | 4 | digest of a message, 16 bytes | what it added to the model |
//! | user | 5 | seconds since 1970, 8 bytes; digest, 16 bytes | length of its entry, 4 bytes |
//! | user | 6 | digest of a message, 16 bytes | what it added to the counts |
//! | user | 7 | seconds since 1970, 8 bytes; digest, 16 bytes | length of its entry, 4 bytes |
//! | user | 8 | | entries of kind 6, 8 bytes; what they take, 8 bytes |
//! | user | 9 | name, UTF-8 | a note of the daemon's, any bytes |
//!
//! What kind 6 holds stands in `ledger.rs`. What is in the values of a model stands in docs/modern-engine.md.
//!
//! **Counts** are two varints, ham and spam. Each is 0 for "not in that list",
//! else the count plus 1.
//!
//! **Changes** of counts are the operands of RocksDB's merge: one byte with
//! four flags for ham (low) and four for spam (high), then for ham and for
//! spam, each if changed, its numbers.
//!
//! | flag | |
//! | --- | --- |
//! | 1 | the list is changed; a varint follows: what is added, zigzag (0, -1, 1, -2, ... as 0, 1, 2, 3, ...) |
//! | 2 | the change enters the token in the list |
//! | 4 | a varint follows: the least result, otherwise 0 |
//! | 8 | a varint follows: the greatest result, otherwise 2^32 - 1 |
//!
//! **Versions.** A program refuses a database with a greater version than its
//! own, and brings one with a smaller version up to its own when it opens it,
//! in one batch that also writes the new version. A new kind, or new flags,
//! make a new version. Version 1 had no models and no ledgers, version 2 no
//! secret and no entries of what the filter filed.

use classifier::modern::Digest;
use classifier::{Adjustment, Listed, TokenChange};

/// The format version that this program writes.
pub const VERSION: u32 = 3;

/// Bytes that say whose a key is; RocksDB's prefix.
pub(crate) const OWNER_LEN: usize = 8;

const HOST: u64 = 0;
const KIND_VERSION: u8 = 0;
const KIND_LAST_ID: u8 = 1;
const KIND_USER: u8 = 2;
const KIND_FILLING: u8 = 3;
const KIND_SECRET: u8 = 4;
const KIND_MESSAGES: u8 = 0;
const KIND_TOKEN: u8 = 1;
const KIND_STATE: u8 = 2;
const KIND_PAGE: u8 = 3;
const KIND_ENTRY: u8 = 4;
const KIND_AGE: u8 = 5;
const KIND_COUNTED: u8 = 6;
const KIND_COUNTED_AGE: u8 = 7;
const KIND_LEDGER: u8 = 8;
const KIND_NOTE: u8 = 9;

/// A user's number in keys. Names are looked up once per call, so that a user
/// is renamed by writing one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserId(pub(crate) u64);

impl UserId {
    /// The value of a name's record, or of the last id given.
    pub(crate) fn from_record(value: &[u8]) -> Option<Self> {
        value.try_into().ok().map(|id| Self(u64::from_be_bytes(id)))
    }

    pub(crate) fn to_record(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

fn key(owner: u64, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(OWNER_LEN + 1 + rest.len());
    key.extend_from_slice(&owner.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

pub(crate) fn version_key() -> Vec<u8> {
    key(HOST, KIND_VERSION, &[])
}

pub(crate) fn last_id_key() -> Vec<u8> {
    key(HOST, KIND_LAST_ID, &[])
}

pub(crate) fn user_key(name: &str) -> Vec<u8> {
    key(HOST, KIND_USER, name.as_bytes())
}

/// All users' names, from (inclusive) and to (exclusive).
pub(crate) fn user_range() -> (Vec<u8>, Vec<u8>) {
    (key(HOST, KIND_USER, &[]), key(HOST, KIND_USER + 1, &[]))
}

pub(crate) fn filling_key(id: UserId) -> Vec<u8> {
    key(HOST, KIND_FILLING, &id.to_record())
}

pub(crate) fn secret_key() -> Vec<u8> {
    key(HOST, KIND_SECRET, &[])
}

/// All ids that are being filled.
pub(crate) fn filling_range() -> (Vec<u8>, Vec<u8>) {
    (
        key(HOST, KIND_FILLING, &[]),
        key(HOST, KIND_FILLING + 1, &[]),
    )
}

pub(crate) fn messages_key(id: UserId) -> Vec<u8> {
    key(id.0, KIND_MESSAGES, &[])
}

pub(crate) fn token_key(id: UserId, token: &[u8]) -> Vec<u8> {
    key(id.0, KIND_TOKEN, token)
}

/// All tokens of a user.
pub(crate) fn token_range(id: UserId) -> (Vec<u8>, Vec<u8>) {
    (key(id.0, KIND_TOKEN, &[]), key(id.0, KIND_TOKEN + 1, &[]))
}

pub(crate) fn state_key(id: UserId) -> Vec<u8> {
    key(id.0, KIND_STATE, &[])
}

pub(crate) fn page_key(id: UserId, number: u32) -> Vec<u8> {
    key(id.0, KIND_PAGE, &number.to_be_bytes())
}

/// The number of a page. `None`: not the rest of what [`page_key`] makes.
pub(crate) fn parse_page(rest: &[u8]) -> Option<u32> {
    rest.try_into().ok().map(u32::from_be_bytes)
}

pub(crate) fn entry_key(id: UserId, digest: &Digest) -> Vec<u8> {
    key(id.0, KIND_ENTRY, digest)
}

pub(crate) fn age_key(id: UserId, time: u64, digest: &Digest) -> Vec<u8> {
    key(id.0, KIND_AGE, &[&time.to_be_bytes(), &digest[..]].concat())
}

/// Time and digest. `None`: not the rest of what [`age_key`] makes.
pub(crate) fn parse_age(rest: &[u8]) -> Option<(u64, Digest)> {
    let (time, digest) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*time), digest.try_into().ok()?))
}

/// All entries of a user's ledger by age.
pub(crate) fn age_range(id: UserId) -> (Vec<u8>, Vec<u8>) {
    (key(id.0, KIND_AGE, &[]), key(id.0, KIND_AGE + 1, &[]))
}

/// What a message added to the counts.
pub(crate) fn counted_key(id: UserId, digest: &Digest) -> Vec<u8> {
    key(id.0, KIND_COUNTED, digest)
}

/// As [`age_key`], of the ledger of the counts.
pub(crate) fn counted_age_key(id: UserId, time: u64, digest: &Digest) -> Vec<u8> {
    let rest = [&time.to_be_bytes(), &digest[..]].concat();
    key(id.0, KIND_COUNTED_AGE, &rest)
}

/// As [`age_range`], of the ledger of the counts.
pub(crate) fn counted_age_range(id: UserId) -> (Vec<u8>, Vec<u8>) {
    (
        key(id.0, KIND_COUNTED_AGE, &[]),
        key(id.0, KIND_COUNTED_AGE + 1, &[]),
    )
}

/// What the ledger of the counts holds.
pub(crate) fn ledger_key(id: UserId) -> Vec<u8> {
    key(id.0, KIND_LEDGER, &[])
}

/// What the daemon notes of a user under a name.
pub(crate) fn note_key(id: UserId, name: &str) -> Vec<u8> {
    key(id.0, KIND_NOTE, name.as_bytes())
}

/// Everything of a user. Ids are counted up one by one and never reach the
/// greatest number.
pub(crate) fn owned_range(id: UserId) -> ([u8; 8], [u8; 8]) {
    (id.to_record(), UserId(id.0 + 1).to_record())
}

/// Whether a user has records of this kind.
pub(crate) fn is_of_user(kind: u8) -> bool {
    kind <= KIND_NOTE
}

/// The part of a key after owner and kind.
pub(crate) fn key_rest(key: &[u8]) -> Option<&[u8]> {
    key.get(OWNER_LEN + 1..)
}

/// The value of a token, or of the message counts.
pub(crate) fn encode_counts(counts: Listed) -> Vec<u8> {
    let mut value = Vec::with_capacity(4);
    for count in [counts.ham, counts.spam] {
        put_varint(&mut value, count.map_or(0, |n| u64::from(n) + 1));
    }
    value
}

/// `None` when `value` is nothing that [`encode_counts`] writes.
pub(crate) fn decode_counts(mut value: &[u8]) -> Option<Listed> {
    let mut count = || match take_varint(&mut value)? {
        0 => Some(None),
        n => u32::try_from(n - 1).ok().map(Some),
    };
    let (ham, spam) = (count()?, count()?);
    value.is_empty().then_some(Listed { ham, spam })
}

const CHANGED: u8 = 1;
const INSERTS: u8 = 2;
const FLOOR: u8 = 4;
const CEILING: u8 = 8;

/// The merge operand of a change.
pub(crate) fn encode_change(change: &TokenChange) -> Vec<u8> {
    let mut operand = Vec::with_capacity(4);
    operand.push(flags(change.ham) | flags(change.spam) << 4);
    for adjustment in [change.ham, change.spam].into_iter().flatten() {
        put_varint(&mut operand, zigzag(adjustment.add));
        if adjustment.floor != 0 {
            put_varint(&mut operand, u64::from(adjustment.floor));
        }
        if adjustment.ceiling != u32::MAX {
            put_varint(&mut operand, u64::from(adjustment.ceiling));
        }
    }
    operand
}

fn flags(adjustment: Option<Adjustment>) -> u8 {
    adjustment.map_or(0, |a| {
        CHANGED
            | if a.inserts { INSERTS } else { 0 }
            | if a.floor != 0 { FLOOR } else { 0 }
            | if a.ceiling != u32::MAX { CEILING } else { 0 }
    })
}

/// `None` when `operand` is nothing that [`encode_change`] writes.
pub(crate) fn decode_change(mut operand: &[u8]) -> Option<TokenChange> {
    let (flags, rest) = operand.split_first()?;
    operand = rest;
    let ham = take_adjustment(flags & 0x0f, &mut operand)?;
    let spam = take_adjustment(flags >> 4, &mut operand)?;
    operand.is_empty().then_some(TokenChange { ham, spam })
}

fn take_adjustment(flags: u8, operand: &mut &[u8]) -> Option<Option<Adjustment>> {
    if flags & CHANGED == 0 {
        return (flags == 0).then_some(None);
    }
    let add = unzigzag(take_varint(operand)?);
    let mut limit = |flag, otherwise| match flags & flag {
        0 => Some(otherwise),
        _ => u32::try_from(take_varint(operand)?).ok(),
    };
    let (floor, ceiling) = (limit(FLOOR, 0)?, limit(CEILING, u32::MAX)?);
    (floor <= ceiling).then_some(Some(Adjustment {
        add,
        floor,
        ceiling,
        inserts: flags & INSERTS != 0,
    }))
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Takes a varint off the front; `None` when it is cut off or exceeds `u64`.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn adjustment() -> impl Strategy<Value = Option<Adjustment>> {
        let limits = (any::<u32>(), any::<u32>(), any::<[bool; 2]>());
        let adjustment = (any::<i64>(), limits, any::<bool>()).prop_map(
            |(add, (a, b, [no_floor, no_ceiling]), inserts)| Adjustment {
                add,
                floor: if no_floor { 0 } else { a.min(b) },
                ceiling: if no_ceiling { u32::MAX } else { a.max(b) },
                inserts,
            },
        );
        proptest::option::of(adjustment)
    }

    proptest! {
        #[test]
        fn counts_come_back(ham: Option<u32>, spam: Option<u32>) {
            let counts = Listed { ham, spam };
            prop_assert_eq!(decode_counts(&encode_counts(counts)), Some(counts));
        }

        #[test]
        fn changes_come_back(ham in adjustment(), spam in adjustment()) {
            let change = TokenChange { ham, spam };
            prop_assert_eq!(decode_change(&encode_change(&change)), Some(change));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            decode_counts(&bytes);
            if let Some(change) = decode_change(&bytes) {
                change.apply(Default::default());
            }
        }
    }

    /// The format is a promise: these bytes are in databases out there.
    #[test]
    fn bytes_of_version_3() {
        assert_eq!(VERSION, 3);
        assert_eq!(version_key(), [0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(last_id_key(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(user_key("ann"), *b"\0\0\0\0\0\0\0\0\x02ann");
        let id = UserId(0x0102);
        assert_eq!(
            filling_key(id),
            *b"\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x02"
        );
        assert_eq!(secret_key(), [0, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(messages_key(id), [0, 0, 0, 0, 0, 0, 1, 2, 0]);
        assert_eq!(token_key(id, b"word"), *b"\0\0\0\0\0\0\x01\x02\x01word");
        assert_eq!(state_key(id), [0, 0, 0, 0, 0, 0, 1, 2, 2]);
        assert_eq!(page_key(id, 259), [0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 1, 3]);
        let digest = *b"sixteen bytes...";
        let user = [0, 0, 0, 0, 0, 0, 1, 2];
        assert_eq!(entry_key(id, &digest), [&user[..], &[4], &digest].concat());
        let age = [&user[..], &[5, 0, 0, 0, 0, 0, 0, 0, 9], &digest].concat();
        assert_eq!(age_key(id, 9, &digest), age);
        assert_eq!(parse_age(&age[9..]), Some((9, digest)));

        let counts = |ham, spam| encode_counts(Listed { ham, spam });
        assert_eq!(counts(None, Some(0)), [0, 1]);
        assert_eq!(counts(Some(126), Some(127)), [127, 0x80, 1]);

        let mut change = TokenChange::default();
        assert_eq!(encode_change(&change), [0]);
        change.spam = Some(Adjustment::plus(4));
        assert_eq!(encode_change(&change), [0x30, 8]);
        change.ham = Some(Adjustment::minus(1).then(Adjustment::plus(2)));
        assert_eq!(encode_change(&change), [0x37, 2, 2, 8]);
        change.ham = Some(Adjustment::plus(2).then(Adjustment::minus(1)));
        let below_max = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(
            encode_change(&change),
            [&[0x3b, 2][..], &below_max, &[8]].concat()
        );
    }

    #[test]
    fn refuses_what_it_never_writes() {
        for counts in [&[][..], &[1], &[1, 1, 1], &[1, 0x80], &[0xff; 11]] {
            assert_eq!(decode_counts(counts), None, "{counts:?}");
        }
        // Cut off; flags without a change; a floor above the ceiling.
        for operand in [&[][..], &[1], &[2], &[0, 0], &[13, 0, 2, 1]] {
            assert_eq!(decode_change(operand), None, "{operand:?}");
        }
    }
}
