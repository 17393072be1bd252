//! The state of a model and the entries of its ledger, byte by byte. Numbers
//! are little-endian.
//!
//! *State*, [`State::LEN`] bytes: 0-3 version; 4-7 how often all sums were
//! halved; 8-11 ham, 12-15 spam that the sums hold; 16-23 bytes of the
//! ledger's entries; 24-31 number of entries that have expired; then the
//! calibration, 64 counts of 4 bytes for ham and as many for spam.
//!
//! *Entry*: 8 bytes, seconds since 1970 when it was entered; then the steps
//! that the message made, one after another: 1 byte label (0 ham, 1 spam);
//! 1 byte calibration bin (255: none); 4 bytes how often all sums had been
//! halved; and for each view 2 bytes, its gradient, which is followed, unless
//! it is 0, by the number of slots and the slots in ascending order, each as
//! what it adds to the one before. These are numbers of 7 bits a byte, the
//! lowest first; bit 7 is set in all but the last.
//!
//! Gaps between slots are random: a general compressor finds nothing in them.

use std::path::Path;

use super::calibration::{Calibration, N_BINS};
use super::model::{Record, Slot};
use super::stored::damaged;
use crate::{Error, Label, TrainedMessages};

/// The version of all that a model keeps, and of the features that it was
/// trained on. A model of an older version is of no use to other features.
pub(super) const VERSION: u32 = 1;

/// All of a model but its buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) age: u32,
    pub(super) trained: TrainedMessages,
    pub(super) entry_bytes: u64,
    pub(super) n_expired: u64,
    pub(super) calibration: Calibration,
}

impl State {
    const LEN: usize = 32 + 2 * N_BINS * 4;

    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let u32_at = |at: usize| {
            bytes
                .get(at..)?
                .first_chunk()
                .map(|b| u32::from_le_bytes(*b))
        };
        let u64_at = |at: usize| {
            bytes
                .get(at..)?
                .first_chunk()
                .map(|b| u64::from_le_bytes(*b))
        };
        let found = u32_at(0).unwrap_or(0);
        if found > VERSION {
            return Err(Error::NewerFormat {
                path: path.into(),
                found,
                newest: VERSION,
            });
        }
        if found < VERSION || bytes.len() != Self::LEN {
            return Err(damaged(path, "the state of its model makes no sense"));
        }
        let counts = (0..2 * N_BINS).map(|n| u32_at(32 + 4 * n).unwrap_or(0));
        Ok(Self {
            age: u32_at(4).unwrap_or(0),
            trained: TrainedMessages {
                ham: u32_at(8).unwrap_or(0),
                spam: u32_at(12).unwrap_or(0),
            },
            entry_bytes: u64_at(16).unwrap_or(0),
            n_expired: u64_at(24).unwrap_or(0),
            calibration: Calibration::from_counts(counts),
        })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        for n in [VERSION, self.age, self.trained.ham, self.trained.spam] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.entry_bytes.to_le_bytes());
        out.extend_from_slice(&self.n_expired.to_le_bytes());
        for count in self.calibration.counts() {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out
    }
}

/// What the ledger knows of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Seconds since 1970.
    pub(super) time: u64,
    /// In the order in which they were made; never empty.
    pub(super) records: Vec<Record>,
}

const NO_BIN: u8 = u8::MAX;
/// A gradient of 1 in units of the table.
const MAX_GRADIENT: u16 = 256;

impl Entry {
    pub(super) fn label(&self) -> Option<Label> {
        self.records.first().map(Record::label)
    }

    /// `None`: not what [`to_bytes`](Self::to_bytes) writes.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (time, mut rest) = bytes.split_first_chunk()?;
        let mut records = Vec::new();
        while !rest.is_empty() {
            records.push(parse_record(&mut rest)?);
        }
        Some(Self {
            time: u64::from_le_bytes(*time),
            records,
        })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.time.to_le_bytes().to_vec();
        for record in &self.records {
            push_record(&mut out, record);
        }
        out
    }
}

fn push_record(out: &mut Vec<u8>, record: &Record) {
    out.push(u8::from(record.label == Label::Spam));
    out.push(record.bin.unwrap_or(NO_BIN));
    out.extend_from_slice(&record.age.to_le_bytes());
    for (gradient, slots) in &record.steps {
        out.extend_from_slice(&gradient.to_le_bytes());
        if *gradient != 0 {
            let mut slots: Vec<u32> = slots.iter().map(|slot| slot.0).collect();
            slots.sort_unstable();
            push_number(out, slots.len() as u32);
            let mut last = 0;
            for slot in slots {
                push_number(out, slot - last);
                last = slot;
            }
        }
    }
}

fn parse_record(rest: &mut &[u8]) -> Option<Record> {
    let ([label, bin], after) = rest.split_first_chunk()?;
    let (age, after) = after.split_first_chunk()?;
    *rest = after;
    let label = match label {
        0 => Label::Ham,
        1 => Label::Spam,
        _ => return None,
    };
    let mut steps: [(i16, Vec<Slot>); 3] = Default::default();
    for (gradient, slots) in &mut steps {
        let (bytes, after) = rest.split_first_chunk()?;
        *gradient = i16::from_le_bytes(*bytes);
        if gradient.unsigned_abs() > MAX_GRADIENT {
            return None;
        }
        *rest = after;
        if *gradient != 0 {
            let n_slots = number(rest)?;
            let mut last = 0u32;
            for _ in 0..n_slots {
                last = last.checked_add(number(rest)?)?;
                slots.push(Slot::stored(last)?);
            }
        }
    }
    Some(Record {
        label,
        age: u32::from_le_bytes(*age),
        bin: (*bin != NO_BIN).then_some(*bin),
        steps,
    })
}

pub(super) fn push_number(out: &mut Vec<u8>, mut number: u32) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn number(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::modern::{Model, features};

    #[test]
    fn entries_are_read_back() {
        let model = Model::default();
        let mail = features(b"Subject: a\n\nb c d e f g\n");
        let record = Record::new(&mail, Label::Spam, &model);
        let entry = Entry {
            time: 1 << 40,
            records: vec![record.clone().uncalibrated(), record],
        };
        let bytes = entry.to_bytes();
        assert_eq!(Entry::parse(&bytes), Some(entry));
        assert_eq!(Entry::parse(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn state_is_read_back_and_a_newer_one_refused() {
        let path = Path::new("model");
        let mut bytes = State {
            age: 3,
            trained: TrainedMessages { ham: 7, spam: 9 },
            entry_bytes: 1 << 33,
            n_expired: 5,
            calibration: Calibration::from_counts(0..),
        }
        .to_bytes();
        assert_eq!(bytes.len(), State::LEN);
        assert_eq!(State::parse(&bytes, path).unwrap().to_bytes(), bytes);
        bytes[0] += 1;
        let newer = State::parse(&bytes, path);
        assert!(matches!(newer, Err(Error::NewerFormat { found: 2, .. })));
        let short = State::parse(&bytes[..30], path);
        assert!(short.is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            Entry::parse(&bytes);
            drop(State::parse(&bytes, Path::new("model")));
        }
    }
}
