//! The state of a model, its log, and the entries of its ledger, byte by
//! byte. Numbers are little-endian.
//!
//! *State*, [`State::LEN`] bytes: 0-3 version; 4-7 how often all sums
//! aged; 8-11 ham, 12-15 spam that the sums hold; 16-23 bytes of the
//! ledger's entries; 24-31 number of entries that have expired; then the
//! calibration, 64 counts of 4 bytes for ham and as many for spam; 8 bytes,
//! slots that were ever logged; 4 bytes, number of the next record of the log;
//! then for each [group](N_GROUPS) of pages the number of the first record of the
//! log that it does not hold, 4 bytes each, and for each how often its sums
//! aged, 4 bytes each; 4 bytes, signed: how many messages were learned of one
//! class in a row, below 0 of ham; 4 bytes ham, 4 bytes spam that wait
//! (`ledger/waiting.rs`). States of before lack these.
//!
//! *Log*: moves, one after another, each 4 bytes, how often all sums had
//! aged; 1 byte, by how many ageings the steps are older, plus 128 where
//! they are taken back; then the steps.
//!
//! *Entry*: 8 bytes, seconds since 1970 when it was entered; then what the
//! message added, one after another: 1 byte label (0 ham, 1 spam); 1 byte
//! calibration bin (255: none); 4 bytes how often all sums had aged;
//! then the steps. An entry without any is of a message that the filter filed.
//!
//! *Steps*: for each view 2 bytes, its gradient, which is followed, unless it
//! is 0, by its slots (`bits.rs`).

use std::path::Path;

use super::bits::{push_slots, slots};
use super::calibration::{Calibration, N_BINS};
use super::record::{Move, Record, Steps};
use super::stored::damaged;
use crate::{Error, Label, TrainedMessages};

/// The version of all that a model keeps, and of the features that it was
/// trained on. A model of an older version is of no use to other features.
pub(super) const VERSION: u32 = 3;

/// Pages are brought up to date by groups, one after another.
pub(super) const N_GROUPS: usize = 32;

/// All of a model but its buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) age: u32,
    pub(super) trained: TrainedMessages,
    pub(super) entry_bytes: u64,
    pub(super) n_expired: u64,
    pub(super) calibration: Calibration,
    pub(super) log: LogState,
    pub(super) run: Run,
    /// Messages that wait, which are not among `trained`.
    pub(super) waiting: TrainedMessages,
}

/// Messages of one class that were learned in a row: of spam, or below 0 of ham.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run(i32);

impl Run {
    /// How many of this class were learned last, without one of the other.
    pub(super) fn of(self, label: Label) -> u32 {
        match label {
            Label::Ham => 0.min(self.0).unsigned_abs(),
            Label::Spam => 0.max(self.0).unsigned_abs(),
        }
    }

    /// One more was learned.
    pub(super) fn count(&mut self, label: Label) {
        self.0 = match label {
            Label::Ham => 0.min(self.0).saturating_sub(1),
            Label::Spam => 0.max(self.0).saturating_add(1),
        };
    }
}

/// How far the pages lag behind the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogState {
    /// Slots that were ever logged.
    pub(super) n_slots: u64,
    /// Number of the next record.
    pub(super) next: u32,
    pub(super) groups: [Group; N_GROUPS],
}

/// A group of pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Number of the first record of the log that its pages do not hold.
    pub(super) from: u32,
    /// How often its sums aged.
    pub(super) age: u32,
}

impl State {
    const LEN: usize = Self::RUN_AT + 12;
    const RUN_AT: usize = 44 + 2 * N_BINS * 4 + 8 * N_GROUPS;
    const LOG_AT: usize = 32 + 2 * N_BINS * 4;

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
        let is_known_len = [Self::RUN_AT, Self::LEN].contains(&bytes.len());
        if found < VERSION || !is_known_len {
            return Err(damaged(path, "the state of its model makes no sense"));
        }
        // No user's mail counts so far, and nothing overflows by what is added.
        const MOST: u32 = 1 << 31;
        let calibration = (0..2 * N_BINS).map(|n| 32 + 4 * n);
        let mut counts = [4, 8, 12, 20, 28, Self::LOG_AT + 4, Self::LOG_AT + 8]
            .into_iter()
            .chain(calibration)
            .chain((Self::RUN_AT + 4..bytes.len()).step_by(4));
        if counts.any(|at| u32_at(at).is_none_or(|count| count >= MOST)) {
            return Err(damaged(path, "the counts of its model make no sense"));
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
            log: LogState {
                n_slots: u64_at(Self::LOG_AT).unwrap_or(0),
                next: u32_at(Self::LOG_AT + 8).unwrap_or(0),
                groups: std::array::from_fn(|n| Group {
                    from: u32_at(Self::LOG_AT + 12 + 4 * n).unwrap_or(0),
                    age: u32_at(Self::LOG_AT + 12 + 4 * (N_GROUPS + n)).unwrap_or(0),
                }),
            },
            run: Run(u32_at(Self::RUN_AT).unwrap_or(0).cast_signed()),
            waiting: TrainedMessages {
                ham: u32_at(Self::RUN_AT + 4).unwrap_or(0),
                spam: u32_at(Self::RUN_AT + 8).unwrap_or(0),
            },
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
        let LogState {
            n_slots,
            next,
            groups,
        } = &self.log;
        out.extend_from_slice(&n_slots.to_le_bytes());
        let from = groups.iter().map(|group| group.from);
        let ages = groups.iter().map(|group| group.age);
        for number in std::iter::once(*next).chain(from).chain(ages) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.run.0.to_le_bytes());
        for n in [self.waiting.ham, self.waiting.spam] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out
    }
}

/// A move, and how often all sums had aged when it was made.
pub(super) type Logged = (u32, Move);

const TAKES_BACK: u8 = 128;

/// A record of the log.
pub(super) fn push_move(out: &mut Vec<u8>, (age, step): &Logged) {
    out.extend_from_slice(&age.to_le_bytes());
    out.push(step.ageings | if step.takes_back { TAKES_BACK } else { 0 });
    push_steps(out, &step.steps);
}

/// The moves of a record of the log. `None`: it makes no sense.
pub(super) fn parse_moves(mut rest: &[u8]) -> Option<Vec<Logged>> {
    let mut moves = Vec::new();
    while !rest.is_empty() {
        let (age, after) = rest.split_first_chunk()?;
        let (kind, after) = after.split_first()?;
        rest = after;
        let ageings = kind & !TAKES_BACK;
        if ageings > 16 {
            return None;
        }
        let step = Move {
            takes_back: kind & TAKES_BACK != 0,
            ageings,
            steps: parse_steps(&mut rest)?,
        };
        moves.push((u32::from_le_bytes(*age), step));
    }
    Some(moves)
}

/// What the ledger knows of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Seconds since 1970.
    pub(super) time: u64,
    /// In the order in which they were made. None: the filter filed the
    /// message as spam, and nothing was learned of it.
    pub(super) records: Vec<Record>,
}

const NO_BIN: u8 = u8::MAX;
/// A gradient of 1 in units of the table.
pub(super) const MAX_GRADIENT: u16 = 256;

impl Entry {
    /// Bytes of an entry without records.
    pub(super) const EMPTY_LEN: u32 = 8;

    pub(super) fn label(&self) -> Option<Label> {
        self.records.first().map(Record::label)
    }

    /// The label of an entry of one message that waits.
    pub(super) fn waits_as(bytes: &[u8]) -> Option<Label> {
        // Most others have a bin, which is told without reading all their slots.
        let bin = bytes.get(Self::EMPTY_LEN as usize + 1);
        if bin != Some(&NO_BIN) {
            return None;
        }
        Self::parse(bytes)?.waiting_label()
    }

    /// The same of one that was read.
    pub(super) fn waiting_label(&self) -> Option<Label> {
        match &self.records[..] {
            [record] if record.is_waiting() => Some(record.label),
            _ => None,
        }
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
    push_steps(out, &record.steps);
}

fn push_steps(out: &mut Vec<u8>, steps: &Steps) {
    for (gradient, slots) in steps {
        out.extend_from_slice(&gradient.to_le_bytes());
        if *gradient != 0 {
            let mut slots = slots.clone();
            slots.sort_unstable();
            push_slots(out, &slots);
        }
    }
}

fn parse_steps(rest: &mut &[u8]) -> Option<Steps> {
    let mut steps = Steps::default();
    for (gradient, view) in &mut steps {
        let (bytes, after) = rest.split_first_chunk()?;
        *gradient = i16::from_le_bytes(*bytes);
        if gradient.unsigned_abs() > MAX_GRADIENT {
            return None;
        }
        *rest = after;
        if *gradient != 0 {
            *view = slots(rest)?;
        }
    }
    Some(steps)
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
    Some(Record {
        label,
        age: u32::from_le_bytes(*age),
        bin: (*bin != NO_BIN).then_some(*bin),
        steps: parse_steps(rest)?,
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
    fn the_log_is_read_back() {
        let model = Model::default();
        let mail = features(b"Subject: a\n\nb c d e f g\n");
        let steps = Record::new(&mail, Label::Spam, &model).steps;
        let moves: Vec<Logged> = [(false, 0), (true, 3)]
            .map(|(takes_back, ageings)| {
                let steps = steps.clone();
                let step = Move {
                    takes_back,
                    ageings,
                    steps,
                };
                (7, step)
            })
            .into();
        let mut bytes = Vec::new();
        moves.iter().for_each(|step| push_move(&mut bytes, step));
        assert_eq!(parse_moves(&bytes), Some(moves));
        assert_eq!(parse_moves(&bytes[..bytes.len() - 1]), None);
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
            log: LogState {
                n_slots: 1 << 34,
                next: 9,
                groups: std::array::from_fn(|n| Group {
                    from: n as u32,
                    age: 3 * n as u32,
                }),
            },
            run: Run(-4),
            waiting: TrainedMessages { ham: 6, spam: 7 },
        }
        .to_bytes();
        assert_eq!(bytes.len(), State::LEN);
        assert_eq!(State::parse(&bytes, path).unwrap().to_bytes(), bytes);
        bytes[0] += 1;
        let newer = State::parse(&bytes, path);
        assert!(matches!(newer, Err(Error::NewerFormat { found, .. }) if found == VERSION + 1));
        let short = State::parse(&bytes[..30], path);
        assert!(short.is_err());
        bytes[0] -= 1;
        let earlier = State::parse(&bytes[..State::RUN_AT], path).unwrap();
        assert_eq!(earlier.run, Run::default());
        assert_eq!(earlier.to_bytes()[..State::RUN_AT], bytes[..State::RUN_AT]);
        bytes[State::LEN - 1] = 0x80;
        assert!(State::parse(&bytes, path).is_err());
    }

    #[test]
    fn a_run_ends_with_the_other_class() {
        let mut run = Run::default();
        for (label, ham, spam) in [
            (Label::Spam, 0, 1),
            (Label::Spam, 0, 2),
            (Label::Ham, 1, 0),
            (Label::Ham, 2, 0),
            (Label::Spam, 0, 1),
        ] {
            run.count(label);
            assert_eq!((run.of(Label::Ham), run.of(Label::Spam)), (ham, spam));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            Entry::parse(&bytes);
            parse_moves(&bytes);
            drop(State::parse(&bytes, Path::new("model")));
        }
    }
}
