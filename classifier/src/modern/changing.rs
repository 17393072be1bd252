//! A model of a store in the making of a change.

use std::sync::Arc;

use super::calibration::Calibration;
use super::encode::{Group, Logged, N_GROUPS, State, push_move};
use super::model::Learner;
use super::page::{PAGE_BUCKETS, Sums, encode};
use super::recent::{GROUP_BUCKETS, GROUP_PAGES};
use super::record::Move;
use super::stored::{LOG_FIRST, Stored};
use super::weights::{Bucket, Weights};
use crate::store::model::{Bytes, ModelChanges, ModelView};
use crate::{Error, TrainedMessages};

/// With so many slots that are logged each group was brought up to date once.
/// A reader adds up at most so many and those of one change; more of them
/// would make reading dearer, fewer writing.
const LOG_SLOTS: u64 = 32 << 10;

/// A model of a store in the making of a change.
pub(super) struct Changing<'v> {
    view: &'v dyn ModelView,
    stored: Stored<Bytes<'v>>,
    /// What is to be logged.
    moves: Vec<Logged>,
    n_slots: u64,
    /// Whether all that is stored goes.
    is_reset: bool,
}

impl<'v> Changing<'v> {
    pub(super) fn begin(view: &'v dyn ModelView) -> Result<Self, Error> {
        Ok(Self {
            view,
            stored: Stored::open(view)?,
            moves: Vec::new(),
            n_slots: 0,
            is_reset: false,
        })
    }

    pub(super) fn state_mut(&mut self) -> &mut State {
        &mut self.stored.state
    }

    /// Notes in `changes` what makes this of what is stored.
    pub(super) fn note(mut self, changes: &mut ModelChanges) -> Result<(), Error> {
        if self.is_reset {
            for (number, _) in self.view.pages(0..u32::MAX)? {
                changes.pages.insert(number, None);
            }
        }
        if !self.moves.is_empty() {
            self.log(changes);
        }
        changes.state = Some(self.stored.state.to_bytes());
        Ok(())
    }

    /// Notes the moves as a record of the log, the groups whose turn it is,
    /// and the records that no group needs any more.
    fn log(&mut self, changes: &mut ModelChanges) {
        let due = self.groups_due();
        let log = &mut self.stored.state.log;
        let mut record = Vec::new();
        self.moves
            .iter()
            .for_each(|step| push_move(&mut record, step));
        let number = log.next;
        changes.pages.insert(LOG_FIRST + number, Some(record));
        log.next += 1;
        log.n_slots += self.n_slots;
        for group in due {
            self.fold(group, changes);
        }
        let groups = self.stored.state.log.groups.iter();
        let oldest = groups.map(|group| group.from).min().unwrap_or(0);
        let numbers = self.stored.log.keys().copied().chain([number]);
        for number in numbers.filter(|number| *number < oldest) {
            changes.pages.insert(LOG_FIRST + number, None);
        }
    }

    /// The groups whose turn comes with the slots that are logged.
    fn groups_due(&self) -> Vec<usize> {
        let turn = |n_slots: u64| n_slots / (LOG_SLOTS / N_GROUPS as u64);
        let before = self.stored.state.log.n_slots;
        let turns = turn(before)..turn(before + self.n_slots);
        let n = N_GROUPS as u64;
        turns
            .take(N_GROUPS)
            .map(|turn| (turn % n) as usize)
            .collect()
    }

    /// Writes the pages of a group as they are now.
    fn fold(&mut self, number: usize, changes: &mut ModelChanges) {
        let first = number as u32 * GROUP_PAGES;
        let mut buckets = vec![Sums::default(); GROUP_BUCKETS];
        for (page, buckets) in (first..).zip(buckets.chunks_mut(PAGE_BUCKETS)) {
            self.stored.read_page(page, buckets);
        }
        self.stored.catch_up(number, &mut buckets);
        for (page, buckets) in (first..).zip(buckets.chunks(PAGE_BUCKETS)) {
            let bytes = encode(buckets);
            let stored = self.stored.pages[page as usize].as_deref();
            if bytes.as_deref() != stored {
                changes.pages.insert(page, bytes);
            }
        }
        let state = &mut self.stored.state;
        state.log.groups[number] = Group {
            from: state.log.next,
            age: state.age,
        };
    }
}

impl Weights for Changing<'_> {
    fn bucket(&self, index: u32) -> Bucket {
        self.stored.bucket(index)
    }

    fn trained(&self) -> TrainedMessages {
        self.stored.trained()
    }

    fn calibration(&self) -> &Calibration {
        self.stored.calibration()
    }
}

impl Learner for Changing<'_> {
    fn sums(&self, index: u32) -> Bucket {
        self.stored.own(index)
    }

    fn messages(&mut self) -> (&mut TrainedMessages, &mut Calibration) {
        let State {
            trained,
            calibration,
            ..
        } = &mut self.stored.state;
        (trained, calibration)
    }

    fn age(&self) -> u32 {
        self.stored.state.age
    }

    fn apply(&mut self, step: Move) {
        let n_slots = step.n_slots();
        if n_slots > 0 {
            let age = self.stored.state.age;
            Arc::make_mut(&mut self.stored.recent).add(age, &step, |_| true);
            self.n_slots += n_slots as u64;
            self.moves.push((age, step));
        }
    }

    fn grow_older(&mut self) {
        self.stored.state.age += 1;
    }

    fn reset(&mut self) {
        let State {
            entry_bytes,
            n_expired,
            waiting,
            ..
        } = self.stored.state;
        self.stored.state = State {
            entry_bytes,
            n_expired,
            waiting,
            ..State::default()
        };
        self.stored.pages.fill(None);
        self.stored.log.clear();
        self.stored.recent = Arc::default();
        self.moves.clear();
        self.n_slots = 0;
        self.is_reset = true;
    }
}
