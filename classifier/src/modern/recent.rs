//! What the log of a model adds to its pages.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::path::Path;

use super::encode::{LogState, N_GROUPS, parse_moves};
use super::model::{aged_gradient, aged_squares, saturate};
use super::page::{N_PAGES, PAGE_BUCKETS};
use super::record::{Delta, Move};
use super::stored::{LOG_FIRST, damaged};
use super::weights::Bucket;
use crate::Error;

/// Pages of a group.
pub(super) const GROUP_PAGES: u32 = N_PAGES / N_GROUPS as u32;
const _: () = assert!(GROUP_PAGES * N_GROUPS as u32 == N_PAGES && N_PAGES < LOG_FIRST);

/// Buckets of a group.
pub(super) const GROUP_BUCKETS: usize = GROUP_PAGES as usize * PAGE_BUCKETS;

/// The group that holds a bucket.
pub(super) fn group_of(bucket: u32) -> usize {
    (bucket / PAGE_BUCKETS as u32 / GROUP_PAGES) as usize % N_GROUPS
}

/// What the log adds to the pages, by how often all sums had aged
/// then; seldom more than one.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(pub(super) Vec<(u32, Deltas)>);

pub(super) type Deltas = HashMap<u32, Delta, foldhash::fast::RandomState>;

impl Recent {
    pub(super) fn of<B: Deref<Target = [u8]>>(
        log: &BTreeMap<u32, B>,
        state: &LogState,
        path: &Path,
    ) -> Result<Self, Error> {
        let mut moves = Vec::new();
        for (number, record) in log {
            let found = parse_moves(record).ok_or_else(|| {
                let detail = format!("record {number} of its model's log makes no sense");
                damaged(path, &detail)
            })?;
            moves.extend(found.into_iter().map(|(age, step)| (*number, age, step)));
        }
        let mut recent = Self::default();
        let mut n_left = moves.iter().map(|(.., step)| step.n_slots()).sum();
        for (number, age, step) in &moves {
            let lags = |bucket| state.groups[group_of(bucket)].from <= *number;
            recent.add_with_room(*age, step, n_left, lags);
            n_left -= step.n_slots();
        }
        Ok(recent)
    }

    /// Ages never fall.
    pub(super) fn add(&mut self, age: u32, step: &Move, is_missing: impl Fn(u32) -> bool) {
        self.add_with_room(age, step, step.n_slots(), is_missing);
    }

    /// As [`add`](Self::add), where so many slots are to come with these.
    fn add_with_room(
        &mut self,
        age: u32,
        step: &Move,
        n_slots: usize,
        is_missing: impl Fn(u32) -> bool,
    ) {
        if self.0.last().is_none_or(|(last, _)| *last < age) {
            self.0.push((age, Deltas::default()));
        }
        let Some((_, deltas)) = self.0.last_mut() else {
            return;
        };
        // Half of them, as a rule, the pages hold already.
        if deltas.capacity() < deltas.len() + step.n_slots() {
            deltas.reserve(n_slots.max(step.n_slots()) / 2 + step.n_slots() / 2);
        }
        step.each(|bucket, added| {
            if is_missing(bucket) {
                let delta = deltas.entry(bucket).or_default();
                delta.gradient = delta.gradient.saturating_add(added.gradient);
                delta.squares = delta.squares.saturating_add(added.squares);
            }
        });
    }

    /// What the log makes of `sums`, which aged until `age`.
    #[inline]
    pub(super) fn bucket(&self, index: u32, sums: Bucket, mut age: u32, now: u32) -> Bucket {
        let mut z = sums.gradient as i16;
        let mut q = sums.squares as u16;
        for (then, deltas) in &self.0 {
            z = aged_gradient(z, then.saturating_sub(age));
            q = aged_squares(q, then.saturating_sub(age));
            age = age.max(*then);
            if let Some(delta) = deltas.get(&index) {
                z = saturate(i32::from(z) + delta.gradient);
                q = saturate(i32::from(q) + delta.squares);
            }
        }
        Bucket {
            gradient: aged_gradient(z, now.saturating_sub(age)).into(),
            squares: aged_squares(q, now.saturating_sub(age)).into(),
        }
    }

    pub(super) fn n_bytes(&self) -> usize {
        let entry = size_of::<(u32, Delta)>() + 1;
        self.0
            .iter()
            .map(|(_, deltas)| deltas.capacity() * entry)
            .sum()
    }
}
