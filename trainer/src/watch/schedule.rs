//! Whose turn it is: mailboxes in which something may have changed, those
//! where something is due, and those not looked at for a while.
//!
//! A pure value; time comes from outside. Mailboxes wait in one line and go to
//! its end when they need another turn, so that one user with much to learn
//! does not hold up the others.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Names a mailbox; numbers of removed ones are given again.
pub(crate) type Id = usize;

/// See the module.
#[derive(Debug)]
pub(crate) struct Schedule {
    slots: Vec<Slot>,
    free: Vec<Id>,
    line: VecDeque<Id>,
    timers: BTreeSet<(Instant, Id)>,
    /// A mailbox is looked at at least so often.
    rescan: Duration,
}

#[derive(Debug, Default)]
struct Slot {
    state: State,
    timer: Option<Instant>,
    /// Something changed since the last turn began.
    changed: bool,
    /// Its folders may be others.
    folders: bool,
    /// Changes alone do not give it a turn before this.
    rests_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Idle,
    Waiting,
    Working,
    /// Removed while working.
    Leaving,
}

/// A turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whose.
    pub(crate) id: Id,
    /// Its folders may be others than the last time.
    pub(crate) folders: bool,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// There is more to do at once.
    pub(crate) more: bool,
    /// How long until something is due.
    pub(crate) look_again: Option<Duration>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A move is several changes, and a mail reader makes several moves.
const GATHER: Duration = Duration::from_millis(40);

/// A mailbox that changes all the time has one part in so many of the time, and
/// one more: mail that comes fast is worth more than lessons that come at once.
const REST: u32 = 24;

impl Schedule {
    /// Nobody is in it yet.
    pub(crate) fn new(rescan: Duration) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            line: VecDeque::new(),
            timers: BTreeSet::new(),
            rescan,
        }
    }

    /// A new mailbox, whose first turn comes at once.
    pub(crate) fn add(&mut self) -> Id {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[id] = Slot {
            state: State::Waiting,
            folders: true,
            ..Slot::default()
        };
        self.line.push_back(id);
        id
    }

    /// Something has changed.
    pub(crate) fn changed(&mut self, id: Id, folders: bool, now: Instant) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        slot.changed = true;
        slot.folders |= folders;
        if slot.state == State::Idle {
            let soon = (now + GATHER).max(slot.rests_until.unwrap_or(now));
            self.wake(id, soon);
        }
    }

    /// Everybody gets a turn, spread over `within`.
    pub(crate) fn all(&mut self, now: Instant, within: Duration) {
        let n_slots = self.slots.len().max(1) as u32;
        for (id, share) in (0..self.slots.len()).zip(0..) {
            self.slots[id].folders = true;
            self.slots[id].changed = true;
            if self.slots[id].state == State::Idle {
                self.wake(id, now + within * share / n_slots);
            }
        }
    }

    /// From the next turn of each on, `rescan` is the longest time to the one
    /// after it.
    pub(crate) fn set_rescan(&mut self, rescan: Duration) {
        self.rescan = rescan;
    }

    /// It is no longer there.
    pub(crate) fn remove(&mut self, id: Id) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        if let Some(at) = slot.timer.take() {
            self.timers.remove(&(at, id));
        }
        match slot.state {
            State::Working => slot.state = State::Leaving,
            State::Idle | State::Waiting => {
                slot.state = State::Free;
                self.line.retain(|other| *other != id);
                self.free.push(id);
            }
            State::Free | State::Leaving => {}
        }
    }

    /// The next turn, which lasts until [`done`](Self::done).
    pub(crate) fn next(&mut self, now: Instant) -> Option<Turn> {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let slot = &mut self.slots[id];
            slot.timer = None;
            // Not looked at for so long: somebody may have missed something.
            slot.folders |= !slot.changed;
            slot.state = State::Waiting;
            self.line.push_back(id);
        }
        let id = self.line.pop_front()?;
        let slot = &mut self.slots[id];
        slot.state = State::Working;
        slot.changed = false;
        Some(Turn {
            id,
            folders: std::mem::take(&mut slot.folders),
        })
    }

    /// A turn has ended. Tells whether the mailbox is still in the schedule.
    pub(crate) fn done(&mut self, id: Id, done: Done, now: Instant) -> bool {
        let slot = &mut self.slots[id];
        if slot.state == State::Leaving {
            slot.state = State::Free;
            self.free.push(id);
            return false;
        }
        slot.rests_until = Some(now + done.took * REST);
        if done.more {
            slot.state = State::Waiting;
            self.line.push_back(id);
            return true;
        }
        slot.state = State::Idle;
        let due = done
            .look_again
            .map_or(self.rescan, |due| due.min(self.rescan));
        let changed = slot.changed;
        let rests_until = now + done.took * REST;
        self.wake(id, now + due.max(GATHER));
        if changed {
            self.wake(id, rests_until.max(now + GATHER));
        }
        true
    }

    /// When [`next`](Self::next) has something to give.
    pub(crate) fn wakes(&self, now: Instant) -> Option<Instant> {
        if self.line.is_empty() {
            self.timers.first().map(|(at, _)| *at)
        } else {
            Some(now)
        }
    }

    /// Whether somebody stands in line.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.line.is_empty()
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn wake(&mut self, id: Id, at: Instant) {
        let slot = &mut self.slots[id];
        if slot.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        if let Some(later) = slot.timer.replace(at) {
            self.timers.remove(&(later, id));
        }
        self.timers.insert((at, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESCAN: Duration = Duration::from_secs(600);
    const MS: Duration = Duration::from_millis(1);

    fn ids(schedule: &mut Schedule, now: Instant) -> Vec<Id> {
        std::iter::from_fn(|| schedule.next(now).map(|turn| turn.id)).collect()
    }

    /// Three mailboxes that have had their first turn.
    fn three(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(RESCAN);
        for id in 0..3 {
            assert_eq!(schedule.add(), id);
        }
        for id in ids(&mut schedule, now) {
            schedule.done(id, Done::default(), now);
        }
        schedule
    }

    #[test]
    fn changes_are_gathered_and_lead_to_one_turn() {
        let now = Instant::now();
        let mut schedule = three(now);
        assert_eq!(schedule.wakes(now), Some(now + RESCAN));
        schedule.changed(1, false, now);
        schedule.changed(1, false, now + 30 * MS);
        assert_eq!(schedule.wakes(now), Some(now + GATHER));
        assert_eq!(schedule.next(now), None);
        let turn = Turn {
            id: 1,
            folders: false,
        };
        assert_eq!(schedule.next(now + GATHER), Some(turn));
        assert_eq!(schedule.next(now + GATHER), None);
    }

    #[test]
    fn a_change_during_a_turn_leads_to_another_one_after_a_rest() {
        let now = Instant::now();
        let mut schedule = three(now);
        schedule.changed(1, false, now);
        let then = now + GATHER;
        schedule.next(then).unwrap();
        schedule.changed(1, true, then);
        assert_eq!(schedule.next(then + GATHER), None);
        let done = Done {
            took: 100 * MS,
            ..Done::default()
        };
        schedule.done(1, done, then);
        let rested = then + 2_400 * MS;
        assert_eq!(schedule.wakes(then), Some(rested));
        let turn = Turn {
            id: 1,
            folders: true,
        };
        assert_eq!(schedule.next(rested), Some(turn));
    }

    #[test]
    fn who_needs_more_turns_goes_to_the_end_of_the_line() {
        let now = Instant::now();
        let mut schedule = three(now);
        for id in 0..3 {
            schedule.changed(id, false, now);
        }
        let now = now + GATHER;
        let mut turns = Vec::new();
        for _ in 0..6 {
            let Some(turn) = schedule.next(now) else {
                break;
            };
            turns.push(turn.id);
            let more = turn.id == 0;
            schedule.done(
                turn.id,
                Done {
                    more,
                    ..Done::default()
                },
                now,
            );
        }
        assert_eq!(turns, [0, 1, 2, 0, 0, 0]);
    }

    #[test]
    fn what_is_due_and_the_rescan_come_without_a_change() {
        let now = Instant::now();
        let mut schedule = three(now);
        schedule.changed(1, false, now);
        let now = now + GATHER;
        schedule.next(now).unwrap();
        let done = Done {
            look_again: Some(5 * MS),
            ..Done::default()
        };
        schedule.done(1, done, now);
        // Never at once again and again, whatever is said to be due.
        assert_eq!(schedule.wakes(now), Some(now + GATHER));
        assert_eq!(schedule.next(now + GATHER).unwrap().id, 1);
        schedule.done(1, Done::default(), now);
        let turn = schedule.next(now + RESCAN).unwrap();
        assert!(turn.folders);
    }

    #[test]
    fn everybody_gets_a_turn_after_an_overflow() {
        let now = Instant::now();
        let mut schedule = three(now);
        schedule.all(now, 300 * MS);
        assert_eq!(ids(&mut schedule, now + 100 * MS), [0, 1]);
        assert_eq!(ids(&mut schedule, now + 200 * MS), [2]);
    }

    #[test]
    fn removed_ones_get_no_turn_and_their_numbers_are_free_when_they_have_ended() {
        let now = Instant::now();
        let mut schedule = three(now);
        schedule.changed(0, false, now);
        schedule.changed(1, false, now);
        assert_eq!(schedule.next(now + GATHER).unwrap().id, 0);
        schedule.remove(0);
        schedule.remove(1);
        schedule.changed(0, false, now);
        assert_eq!(schedule.next(now + GATHER), None);
        assert_eq!(schedule.add(), 1);
        assert_eq!(schedule.add(), 3);
        assert!(!schedule.done(
            0,
            Done {
                more: true,
                ..Done::default()
            },
            now
        ));
        assert_eq!(schedule.add(), 0);
        assert_eq!(schedule.len(), 4);
    }
}
