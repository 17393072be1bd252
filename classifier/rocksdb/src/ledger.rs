//! The ledger of the classic engine: each message counts once, under one
//! label, and is taken back exactly.
//!
//! `bmf` without a daemon keeps none, as the original does. Here an entry says
//! what a message added, so that the rules are those of the modern engine
//! ([`Act`]). One difference: counts may hold messages from before there was
//! a ledger, or from before their entries expired. While they do, correcting
//! a message without an entry takes it out of the other list as bmf would.
//!
//! # Entry
//!
//! 8 bytes, seconds since 1970, big-endian; no more where the filter filed the
//! message and nothing was learned of it; else 1 byte, bit 0 set: spam, bit 1
//! set: the filter's own verdict; then the tokens, ascending: 1 byte, how many
//! bytes it shares with the one before; 1 byte, how many follow, from bit 3
//! on, and its count less 1 below; these bytes.

use std::collections::BTreeMap;

use classifier::classic::{Params, Score, Scorer, message_tokens};
use classifier::modern::{Act, Canonical, Digest, Keep, Learned};
use classifier::store::{Durability, Pending, TokenLookup};
use classifier::{Changes, Error, Label, MessageTokens, Token, TrainedMessages};
use rocksdb::{ReadOptions, WriteBatch};

use crate::UserStore;
use crate::layout::{self, UserId};
use crate::user::note;

/// What an entry takes beside its own bytes: its keys, and its place in the
/// order of age.
const ENTRY_OVERHEAD: u64 = 80;

impl UserStore {
    /// What the ledger says of a message; `None` when it was not learned with
    /// it, or so long ago that its entry is gone.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    pub fn learned(&self, digest: &Digest) -> Result<Option<Learned>, Error> {
        let Some(id) = self.shared.user_id(self.name())? else {
            return Ok(None);
        };
        let entry = self.entry_of(id, digest)?;
        let added = entry.and_then(|(entry, _)| entry.added);
        Ok(added.map(|added| Learned {
            label: added.label,
            own_verdict: added.own_verdict,
        }))
    }

    /// Whether the ledger says that the filter filed a message as spam and
    /// nothing was learned of it.
    ///
    /// # Errors
    /// As [`learned`](Self::learned).
    pub fn is_filed(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(id) = self.shared.user_id(self.name())? else {
            return Ok(false);
        };
        let entry = self.entry_of(id, digest)?;
        Ok(entry.is_some_and(|(entry, _)| entry.added.is_none()))
    }

    /// When the oldest entry of the ledger that is no older than `earliest` was
    /// made, in seconds since 1970; `None`: there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn oldest_entry(&self, earliest: u64) -> Result<Option<u64>, Error> {
        let Some(id) = self.shared.user_id(self.name())? else {
            return Ok(None);
        };
        let mut oldest = None;
        let keys = layout::counted_age_range(id);
        let shared = &self.shared;
        shared.each_record(keys, ReadOptions::default(), |age, _| {
            let time = layout::parse_age(age).map(|(time, _)| time);
            oldest = time.filter(|time| *time >= earliest);
            Ok(oldest.is_none())
        })?;
        Ok(oldest)
    }

    /// Whether counts hold messages of which the ledger knows nothing, or no
    /// more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_unrecorded(&self) -> Result<bool, Error> {
        let Some(id) = self.shared.user_id(self.name())? else {
            return Ok(false);
        };
        Ok(Learning::begin(self, id, 0)?.has_unrecorded())
    }

    /// Does what is to be done with each message (any bytes), in order and in
    /// one batch. `now` is in seconds since 1970. Returns the scores that came
    /// first, for [`Act::OwnVerdict`] only.
    ///
    /// # Errors
    /// When the store cannot be read or written; then nothing was learned.
    pub fn learn(
        &mut self,
        lessons: &[(&[u8], Act)],
        now: u64,
        keep: &Keep,
        durability: Durability,
    ) -> Result<Vec<Option<Score>>, Error> {
        let mut scores = Vec::new();
        self.with_id(|id, mut batch| {
            self.shared.locks.alone(id, || {
                let mut learning = Learning::begin(self, id, now)?;
                for (raw, act) in lessons {
                    scores.push(learning.take(raw, *act)?);
                }
                learning.end(keep, &mut batch)?;
                self.shared.write(batch, durability)
            })
        })?;
        Ok(scores)
    }

    fn entry_of(&self, id: UserId, digest: &Digest) -> Result<Option<(Entry, u64)>, Error> {
        let key = layout::counted_key(id, digest);
        let Some(value) = self.shared.get(&key, &ReadOptions::default())? else {
            return Ok(None);
        };
        let entry = Entry::parse(&value);
        let entry = entry.ok_or_else(|| self.shared.damaged("an entry of a ledger makes no sense"));
        Ok(Some((entry?, value.len() as u64 + ENTRY_OVERHEAD)))
    }
}

/// One change in the making.
struct Learning<'s> {
    user: &'s UserStore,
    id: UserId,
    now: u64,
    trained: TrainedMessages,
    ledger: Ledger,
    changes: Changes,
    scorer: Scorer,
    /// What becomes of the entries of messages that were worked on.
    touched: BTreeMap<Digest, Touched>,
}

struct Touched {
    /// Time and cost of the stored entry.
    stored: Option<(u64, u64)>,
    entry: Option<Entry>,
}

/// What the ledger holds.
#[derive(Clone, Copy, Default)]
struct Ledger {
    n_entries: u64,
    n_bytes: u64,
}

impl<'s> Learning<'s> {
    fn begin(user: &'s UserStore, id: UserId, now: u64) -> Result<Self, Error> {
        let key = layout::ledger_key(id);
        let ledger = match user.shared.get(&key, &ReadOptions::default())? {
            Some(value) => Ledger::parse(&value)
                .ok_or_else(|| user.shared.damaged("a ledger's sums are not 16 bytes long"))?,
            None => Ledger::default(),
        };
        Ok(Self {
            user,
            id,
            now,
            trained: user.lookup(&[], &mut Vec::new())?,
            ledger,
            changes: Changes::default(),
            scorer: Scorer::default(),
            touched: BTreeMap::new(),
        })
    }

    fn take(&mut self, raw: &[u8], act: Act) -> Result<Option<Score>, Error> {
        let digest = Canonical::new(raw).digest();
        let known = self.touch(digest)?;
        let is_known = known.is_some();
        let known = known.and_then(|entry| entry.added);
        let learned = known.as_ref().map(|added| added.label);
        let mut score = None;
        let (label, own_verdict) = match act {
            Act::Learn(label) | Act::Correct(label) => {
                if learned == Some(label) {
                    return Ok(None);
                }
                (Some(label), false)
            }
            Act::Forget => (None, false),
            Act::NoteFiled => {
                if !is_known {
                    let note = Entry {
                        time: self.now,
                        added: None,
                    };
                    self.enter(&digest, Some(note));
                }
                return Ok(None);
            }
            Act::OwnVerdict => {
                let found = self.score(raw)?;
                let is_spam = found.hits > Params::bmf().spam_cutoff;
                score = Some(found);
                if is_known {
                    return Ok(score);
                }
                let label = if is_spam { Label::Spam } else { Label::Ham };
                (Some(label), true)
            }
        };
        let tokens = label.map(|label| (label, message_tokens(raw)));
        match (&known, &tokens) {
            (Some(added), _) => self.changes.unlearn(added.label, &added.tokens()),
            (None, Some((label, tokens))) => {
                let corrects = matches!(act, Act::Correct(_)) && !is_known;
                if corrects && self.has_unrecorded() {
                    self.changes.unlearn(label.other(), tokens);
                }
            }
            (None, None) => {}
        }
        let entry = tokens.map(|(label, tokens)| {
            self.changes.learn(label, &tokens);
            Entry {
                time: self.now,
                added: Some(Added::new(label, own_verdict, &tokens)),
            }
        });
        self.enter(&digest, entry);
        Ok(score)
    }

    /// Replaces the entry of a message that was touched.
    fn enter(&mut self, digest: &Digest, entry: Option<Entry>) {
        if let Some(touched) = self.touched.get_mut(digest) {
            touched.entry = entry;
        }
    }

    /// The entry of a message, as it is by now.
    fn touch(&mut self, digest: Digest) -> Result<Option<Entry>, Error> {
        if let Some(touched) = self.touched.get(&digest) {
            return Ok(touched.entry.clone());
        }
        let (entry, stored) = match self.user.entry_of(self.id, &digest)? {
            Some((entry, cost)) => (Some(entry.clone()), Some((entry.time, cost))),
            None => (None, None),
        };
        let touched = Touched {
            stored,
            entry: entry.clone(),
        };
        self.touched.insert(digest, touched);
        Ok(entry)
    }

    fn score(&mut self, raw: &[u8]) -> Result<Score, Error> {
        let store = Pending {
            store: self.user,
            changes: &self.changes,
        };
        self.scorer.score(raw, &store, &Params::bmf())
    }

    /// Whether counts hold messages that have no entry.
    fn has_unrecorded(&self) -> bool {
        let TrainedMessages { ham, spam } = self.trained;
        u64::from(ham) + u64::from(spam) > self.ledger.n_entries
    }

    fn end(mut self, keep: &Keep, batch: &mut WriteBatch) -> Result<(), Error> {
        note(batch, self.id, &self.changes);
        for (digest, Touched { stored, entry }) in &self.touched {
            if let Some((time, cost)) = stored {
                self.ledger.remove(*cost);
                batch.delete(layout::counted_key(self.id, digest));
                batch.delete(layout::counted_age_key(self.id, *time, digest));
            }
            if let Some(entry) = entry {
                let bytes = entry.to_bytes();
                self.ledger.add(bytes.len() as u64 + ENTRY_OVERHEAD);
                batch.put(layout::counted_key(self.id, digest), &bytes);
                let len = (bytes.len() as u32).to_be_bytes();
                batch.put(layout::counted_age_key(self.id, entry.time, digest), len);
            }
        }
        self.expire(keep, batch)?;
        batch.put(layout::ledger_key(self.id), self.ledger.to_bytes());
        Ok(())
    }

    /// Lets go of the oldest entries where there are too many.
    fn expire(&mut self, keep: &Keep, batch: &mut WriteBatch) -> Result<(), Error> {
        let Self {
            user,
            id,
            ledger,
            touched,
            ..
        } = self;
        let shared = &user.shared;
        let keys = layout::counted_age_range(*id);
        shared.each_record(keys, ReadOptions::default(), |age, len| {
            let age = layout::parse_age(age);
            let (time, digest) = age.ok_or_else(|| shared.damaged("an entry has no age"))?;
            if ledger.n_bytes <= keep.bytes {
                return Ok(false);
            }
            if !touched.contains_key(&digest) {
                let len = len.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
                ledger.remove(u64::from(len) + ENTRY_OVERHEAD);
                batch.delete(layout::counted_key(*id, &digest));
                batch.delete(layout::counted_age_key(*id, time, &digest));
            }
            Ok(true)
        })
    }
}

impl Ledger {
    fn parse(value: &[u8]) -> Option<Self> {
        let (n_entries, n_bytes) = value.split_first_chunk()?;
        Some(Self {
            n_entries: u64::from_be_bytes(*n_entries),
            n_bytes: u64::from_be_bytes(n_bytes.try_into().ok()?),
        })
    }

    fn to_bytes(self) -> [u8; 16] {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&self.n_entries.to_be_bytes());
        value[8..].copy_from_slice(&self.n_bytes.to_be_bytes());
        value
    }

    fn add(&mut self, cost: u64) {
        self.n_entries += u64::from(cost > NOTE_COST);
        self.n_bytes += cost;
    }

    fn remove(&mut self, cost: u64) {
        let n = u64::from(cost > NOTE_COST);
        self.n_entries = self.n_entries.saturating_sub(n);
        self.n_bytes = self.n_bytes.saturating_sub(cost);
    }
}

/// What the ledger knows of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Seconds since 1970.
    time: u64,
    /// `None`: the filter filed it as spam, and nothing was learned of it.
    added: Option<Added>,
}

/// What an entry of a message takes of which nothing was learned, so that it
/// is none of those that counts hold.
const NOTE_COST: u64 = 8 + ENTRY_OVERHEAD;

/// What a message added.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Added {
    label: Label,
    own_verdict: bool,
    /// Ascending, with counts from 1 to [`MessageTokens::MAX_COUNT`].
    counts: Vec<(Token, u32)>,
}

const IS_SPAM: u8 = 1;
const IS_OWN_VERDICT: u8 = 2;

impl Added {
    fn new(label: Label, own_verdict: bool, tokens: &MessageTokens) -> Self {
        let mut counts: Vec<_> = tokens.iter().collect();
        counts.sort_unstable();
        Self {
            label,
            own_verdict,
            counts,
        }
    }

    fn tokens(&self) -> MessageTokens {
        let mut tokens = MessageTokens::default();
        for (token, count) in &self.counts {
            for _ in 0..*count {
                tokens.push(*token);
            }
        }
        tokens
    }

    fn push(&self, out: &mut Vec<u8>) {
        let spam = u8::from(self.label == Label::Spam) * IS_SPAM;
        let own = u8::from(self.own_verdict) * IS_OWN_VERDICT;
        out.push(spam | own);
        let mut last: &[u8] = &[];
        for (token, count) in &self.counts {
            let token = token.as_bytes();
            let same = last.iter().zip(token).take_while(|(a, b)| a == b).count();
            let rest = &token[same..];
            out.push(same as u8);
            out.push((rest.len() as u8) << 3 | (*count - 1) as u8);
            out.extend_from_slice(rest);
            last = token;
        }
    }

    /// `None`: not what [`push`](Self::push) writes.
    fn parse(value: &[u8]) -> Option<Self> {
        let (flags, mut rest) = value.split_first()?;
        if flags & !(IS_SPAM | IS_OWN_VERDICT) != 0 {
            return None;
        }
        let mut counts = Vec::new();
        let mut word = Vec::new();
        while let Some(([same, len], after)) = rest.split_first_chunk() {
            let (new, after) = after.split_at_checked(usize::from(len >> 3))?;
            word.truncate(usize::from(*same));
            word.extend_from_slice(new);
            let count = u32::from(len & 7) + 1;
            if count > MessageTokens::MAX_COUNT {
                return None;
            }
            counts.push((Token::new(&word)?, count));
            rest = after;
        }
        rest.is_empty().then_some(Self {
            label: match flags & IS_SPAM {
                0 => Label::Ham,
                _ => Label::Spam,
            },
            own_verdict: flags & IS_OWN_VERDICT != 0,
            counts,
        })
    }
}

impl Entry {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.time.to_be_bytes().to_vec();
        if let Some(added) = &self.added {
            added.push(&mut out);
        }
        out
    }

    /// `None`: not what [`to_bytes`](Self::to_bytes) writes.
    fn parse(value: &[u8]) -> Option<Self> {
        let (time, rest) = value.split_first_chunk()?;
        let added = match rest {
            [] => None,
            rest => Some(Added::parse(rest)?),
        };
        Some(Self {
            time: u64::from_be_bytes(*time),
            added,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_are_read_back(
            words in proptest::collection::vec("[a-c]{1,20}", 0..20),
            time: u64,
            spam: bool,
            own_verdict: bool,
            filed: bool,
        ) {
            let mut tokens = MessageTokens::default();
            for word in words {
                tokens.push(Token::new(word.as_bytes()).unwrap());
            }
            let label = if spam { Label::Spam } else { Label::Ham };
            let added = Added::new(label, own_verdict, &tokens);
            let added = (!filed).then_some(added);
            let entry = Entry { time, added };
            prop_assert_eq!(Entry::parse(&entry.to_bytes()), Some(entry));
        }

        #[test]
        fn any_bytes_are_an_entry_or_refused(bytes: Vec<u8>) {
            if let Some(added) = Entry::parse(&bytes).and_then(|entry| entry.added) {
                added.tokens();
            }
        }
    }
}
