//! Training with a ledger: each message counts once, under one label, and is
//! taken back exactly.
//!
//! A message's entry says what its training added. It is kept for
//! [`Keep::seconds`] and leaves earlier, oldest first, when the ledger is
//! full. A message without an entry that a person corrects was learned either
//! never or too long ago to be taken back; then it is trained until the
//! verdict is the person's.

use std::collections::BTreeMap;

use super::canonical::{Canonical, Digest};
use super::changing::Changing;
use super::encode::Entry;
use super::model::Learner;
use super::record::{Record, again};
use super::stored::damaged;
use super::weights::Weights as _;
use super::{Class, Features, Params, Verdict, features, score};
use crate::store::Durability;
use crate::store::model::{ModelChanges, ModelStore, ModelView};
use crate::{Error, Label};

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A person says what it is. If it was learned under the other label,
    /// that is taken back; under the same, nothing changes.
    Learn(Label),
    /// As `Learn`, and a person says that it went wrong: where what was
    /// learned can no longer be taken back it is outweighed.
    Correct(Label),
    /// It is learned under its own verdict, if that is sure and nothing was
    /// learned from it yet. It has no say in the cutoffs, since a verdict
    /// cannot confirm itself.
    OwnVerdict,
    /// What was learned from it is taken back.
    Forget,
    /// Nothing is learned: the ledger notes that the filter filed it as spam,
    /// unless it knows more of it.
    NoteFiled,
}

/// A message and what is to be done with it.
#[derive(Clone, Debug)]
pub struct Lesson {
    features: Features,
    digest: Digest,
    act: Act,
}

impl Lesson {
    /// Reads a message, any bytes.
    pub fn new(raw: &[u8], act: Act) -> Self {
        Self {
            features: features(raw),
            digest: Canonical::new(raw).digest(),
            act,
        }
    }
}

/// How long the ledger keeps what it takes to undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Longest age of an entry, in seconds.
    pub seconds: u64,
    /// Most bytes of all entries, as they take them on disk.
    pub bytes: u64,
}

impl Default for Keep {
    /// 60 days and 16 MiB.
    fn default() -> Self {
        Self {
            seconds: 60 * 24 * 60 * 60,
            bytes: 16 << 20,
        }
    }
}

impl Keep {
    /// Whether an entry of `time` is to leave.
    fn is_over(&self, time: u64, now: u64) -> bool {
        time.saturating_add(self.seconds) < now
    }
}

/// Most steps with which a correction outweighs what cannot be taken back.
const MAX_STEPS: usize = 16;

/// By so many seconds, so that waiting messages come first by age, also among
/// those that are learned in the same second.
const DATED_BACK: u64 = 24 * 60 * 60;

/// What was learned of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Under which label.
    pub label: Label,
    /// It is the filter's own verdict, by [`Act::OwnVerdict`]; no person has
    /// said so.
    pub own_verdict: bool,
}

/// What `view`'s ledger says of a message; `None` when it was not learned, or
/// so long ago that its entry is gone.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub fn learned(view: &dyn ModelView, digest: &Digest) -> Result<Option<Learned>, Error> {
    let Some(bytes) = view.entry(digest)? else {
        return Ok(None);
    };
    let entry = parse(&bytes, view)?;
    Ok(entry.records.first().map(|first| Learned {
        label: first.label(),
        own_verdict: first.bin.is_none(),
    }))
}

/// Whether `view`'s ledger says that the filter filed a message as spam and
/// nothing was learned of it.
///
/// # Errors
/// As [`learned`].
pub fn is_filed(view: &dyn ModelView, digest: &Digest) -> Result<bool, Error> {
    let Some(bytes) = view.entry(digest)? else {
        return Ok(false);
    };
    Ok(parse(&bytes, view)?.records.is_empty())
}

fn parse(entry: &[u8], view: &dyn ModelView) -> Result<Entry, Error> {
    Entry::parse(entry).ok_or_else(|| damaged(view.path(), "an entry of its ledger makes no sense"))
}

/// Does what `lessons` say, in order and in one change of `store`. `now` is in
/// seconds since 1970. Returns the verdicts that came first, for
/// [`Act::OwnVerdict`] only.
///
/// # Errors
/// When the store cannot be read or written; then nothing was learned.
pub fn learn(
    store: &mut dyn ModelStore,
    lessons: &[Lesson],
    now: u64,
    keep: &Keep,
    durability: Durability,
) -> Result<Vec<Option<Verdict>>, Error> {
    let mut verdicts = Vec::new();
    store.change(durability, &mut |view| {
        let mut learning = Learning::begin(view, now, *keep)?;
        verdicts = lessons
            .iter()
            .map(|lesson| learning.take(lesson))
            .collect::<Result<_, _>>()?;
        learning.end()
    })?;
    Ok(verdicts)
}

/// One change in the making.
struct Learning<'v> {
    view: &'v dyn ModelView,
    now: u64,
    keep: Keep,
    model: Changing<'v>,
    /// What becomes of the entries of messages that were worked on.
    touched: BTreeMap<Digest, Touched>,
    /// Messages of which something was learned before, the oldest first; `None`
    /// until they are asked for.
    earlier: Option<Vec<Digest>>,
}

struct Touched {
    /// Time and cost of the stored entry.
    stored: Option<(u64, u64)>,
    /// `None`: there will be none.
    entry: Option<Entry>,
    is_changed: bool,
}

impl<'v> Learning<'v> {
    fn begin(view: &'v dyn ModelView, now: u64, keep: Keep) -> Result<Self, Error> {
        Ok(Self {
            view,
            now,
            keep,
            model: Changing::begin(view)?,
            touched: BTreeMap::new(),
            earlier: None,
        })
    }

    fn take(&mut self, lesson: &Lesson) -> Result<Option<Verdict>, Error> {
        let Lesson {
            features,
            digest,
            act,
        } = lesson;
        let known = self.known(digest)?;
        match act {
            Act::Forget => {
                if let Some(entry) = known {
                    self.take_back(&entry);
                    self.enter(digest, None);
                }
            }
            Act::NoteFiled => {
                if known.is_none() {
                    let entry = Entry {
                        time: self.now,
                        records: Vec::new(),
                    };
                    self.enter(digest, Some(entry));
                }
            }
            Act::OwnVerdict => {
                let verdict = score(features, &self.model, &Params::default());
                if let (None, Some(label)) = (known, sure_label(&verdict)) {
                    let record = Record::new(features, label, &self.model);
                    let entry = self.add(record.uncalibrated());
                    self.enter(digest, Some(entry));
                }
                return Ok(Some(verdict));
            }
            Act::Learn(label) | Act::Correct(label) => {
                if known.as_ref().and_then(Entry::label) == Some(*label) {
                    return Ok(None);
                }
                let has_expired = self.model.state_mut().n_expired > 0;
                let outweighs = known.is_none() && has_expired && matches!(act, Act::Correct(_));
                if let Some(entry) = &known {
                    self.take_back(entry);
                }
                let waits = match label {
                    Label::Spam => self.model.trained().ham == 0,
                    Label::Ham => self.model.trained().spam == 0,
                };
                let record = match waits {
                    true => Record::waiting(features, *label),
                    false => Record::new(features, *label, &self.model),
                };
                let mut entry = self.add(record);
                if waits {
                    entry.time = self.waiting_since();
                } else if outweighs {
                    self.outweigh(features, *label, &mut entry);
                }
                self.enter(digest, Some(entry));
                if !waits {
                    self.learn_waiting()?;
                    self.learn_again(digest)?;
                }
            }
        }
        Ok(None)
    }

    /// The time of a message that has just been noted to wait: dated back, and
    /// a second later for each that waits already, so that they are learned in
    /// the order in which they came, however many came in one second.
    fn waiting_since(&mut self) -> u64 {
        let trained = self.model.trained();
        let n_waiting = u64::from(trained.ham.max(trained.spam)).saturating_sub(1);
        self.now.saturating_sub(DATED_BACK) + n_waiting.min(DATED_BACK)
    }

    /// Learns a message that came when there was nothing to compare it with, so
    /// that a folder of spam and then a folder of ham teach what they would
    /// have taught mixed. Two with each message of the other class would leave
    /// too many of that class alone at the end, and its verdict to all mail.
    /// Waiting ones are the oldest entries; one that is learned gets the time
    /// of now.
    fn learn_waiting(&mut self) -> Result<(), Error> {
        let mut oldest = None;
        let touched = &self.touched;
        self.view.entries_by_age(&mut |_, digest, len| {
            let is_changed = touched.get(digest).is_some_and(|t| t.is_changed);
            let is_other = is_changed || len <= Entry::EMPTY_LEN;
            oldest = (!is_other).then_some(*digest);
            is_other
        })?;
        let Some(digest) = oldest else { return Ok(()) };
        let Some(entry) = self.known(&digest)? else {
            return Ok(());
        };
        if let [record] = &entry.records[..]
            && record.is_waiting()
        {
            self.take_back(&entry);
            let entry = self.add(record.clone().again(&self.model));
            self.enter(&digest, Some(entry));
        }
        Ok(())
    }

    /// Learns some earlier messages again while few are known: what the first
    /// ones taught was reckoned against next to nothing, and so were the scores
    /// by which the middle and the cutoffs are set.
    fn learn_again(&mut self, new: &Digest) -> Result<(), Error> {
        let trained = self.model.trained();
        if again(trained, usize::MAX).next().is_none() {
            return Ok(());
        }
        let mut earlier = match self.earlier.take() {
            Some(earlier) => earlier,
            None => self.by_age()?,
        };
        for at in again(trained, earlier.len()) {
            let digest = earlier[at];
            let Some(entry) = self.known(&digest)?.filter(|_| digest != *new) else {
                continue;
            };
            if let [record] = &entry.records[..]
                && record.may_come_again()
            {
                self.take_back(&entry);
                let again = self.add(record.clone().again(&self.model));
                let time = entry.time;
                self.enter(&digest, Some(Entry { time, ..again }));
            }
        }
        if !earlier.contains(new) {
            earlier.push(*new);
        }
        self.earlier = Some(earlier);
        Ok(())
    }

    /// All messages that something was learned of, the oldest first, without
    /// those whose time is over.
    fn by_age(&self) -> Result<Vec<Digest>, Error> {
        let mut all = Vec::new();
        self.view.entries_by_age(&mut |time, digest, len| {
            if len > Entry::EMPTY_LEN && !self.keep.is_over(time, self.now) {
                all.push(*digest);
            }
            true
        })?;
        Ok(all)
    }

    /// The entry of a message, as it is by now.
    fn known(&mut self, digest: &Digest) -> Result<Option<Entry>, Error> {
        if let Some(touched) = self.touched.get(digest) {
            return Ok(touched.entry.clone());
        }
        let bytes = self.view.entry(digest)?;
        let entry = match &bytes {
            None => None,
            Some(bytes) => Some(parse(bytes, self.view)?),
        };
        let len = bytes.map_or(0, |bytes| bytes.len() as u64);
        let touched = Touched {
            stored: entry.as_ref().map(|entry| (entry.time, cost(len))),
            entry: entry.clone(),
            is_changed: false,
        };
        self.touched.insert(*digest, touched);
        Ok(entry)
    }

    fn add(&mut self, mut record: Record) -> Entry {
        self.model.add(&mut record);
        Entry {
            time: self.now,
            records: vec![record],
        }
    }

    fn take_back(&mut self, entry: &Entry) {
        for record in &entry.records {
            self.model.take_back(record);
        }
    }

    /// Trains until the verdict is `label`.
    fn outweigh(&mut self, features: &Features, label: Label, entry: &mut Entry) {
        while entry.records.len() < MAX_STEPS {
            let verdict = score(features, &self.model, &Params::default());
            if verdict.views == [0.0; 3] || sure_label(&verdict) == Some(label) {
                return;
            }
            let mut record = Record::new(features, label, &self.model).uncalibrated();
            self.model.add(&mut record);
            entry.records.push(record);
        }
    }

    /// Replaces the entry of a message that is known.
    fn enter(&mut self, digest: &Digest, entry: Option<Entry>) {
        if let Some(touched) = self.touched.get_mut(digest) {
            touched.entry = entry;
            touched.is_changed = true;
        }
    }

    /// What the store is to do.
    fn end(mut self) -> Result<ModelChanges, Error> {
        let mut changes = ModelChanges::default();
        self.touched.retain(|_, touched| touched.is_changed);
        if self.touched.is_empty() {
            return Ok(changes);
        }
        let entry_bytes = &mut self.model.state_mut().entry_bytes;
        for (digest, Touched { stored, entry, .. }) in &self.touched {
            if let Some((time, cost)) = stored {
                changes.expire.push((*time, *digest));
                *entry_bytes = entry_bytes.saturating_sub(*cost);
            }
            if let Some(entry) = entry {
                let bytes = entry.to_bytes();
                *entry_bytes += cost(bytes.len() as u64);
                changes.enter.push((entry.time, *digest, bytes));
            }
        }
        self.expire(&mut changes)?;
        self.model.note(&mut changes)?;
        Ok(changes)
    }

    /// Lets go of entries that are too old, and of the oldest ones where
    /// there are too many.
    fn expire(&mut self, changes: &mut ModelChanges) -> Result<(), Error> {
        let Self {
            view,
            now,
            keep,
            model,
            touched,
            ..
        } = self;
        let state = model.state_mut();
        view.entries_by_age(&mut |time, digest, len| {
            let is_old = keep.is_over(time, *now);
            if !is_old && state.entry_bytes <= keep.bytes {
                return false;
            }
            if !touched.contains_key(digest) {
                changes.expire.push((time, *digest));
                let cost = cost(u64::from(len));
                state.entry_bytes = state.entry_bytes.saturating_sub(cost);
                // A note is nothing that could be taken back.
                state.n_expired += u64::from(len > Entry::EMPTY_LEN);
            }
            true
        })
    }
}

/// What an entry of so many bytes takes on disk, as the dearest store keeps
/// it, LMDB: whole parts have pages of their own, and so has the rest unless
/// it shares one that is two thirds full. Its place in the order of age comes
/// on top.
pub(super) fn cost(bytes: u64) -> u64 {
    const PART: u64 = 4_080;
    const PAGE: u64 = 4_096;
    const LONGEST_SHORT: u64 = 2_000;
    const KEY: u64 = 32;
    const PLACE: u64 = 72;
    let rest = match bytes % PART {
        rest @ ..=LONGEST_SHORT => (rest + KEY) * 3 / 2,
        _ => PAGE + KEY * 3 / 2,
    };
    PLACE + bytes / PART * (PAGE + KEY * 3 / 2) + rest
}

fn sure_label(verdict: &Verdict) -> Option<Label> {
    match verdict.class {
        Class::Ham => Some(Label::Ham),
        Class::Unsure => None,
        Class::Spam => Some(Label::Spam),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Stored, export};
    use super::*;
    use crate::store::MemoryModel;

    fn mail(n: u32, words: &str) -> Vec<u8> {
        format!("From: a{n}@example.org\nSubject: {words} {n}\n\n{words} number {n}\n").into_bytes()
    }

    fn teach(store: &mut MemoryModel, raw: &[u8], act: Act, now: u64, keep: &Keep) {
        let lesson = Lesson::new(raw, act);
        learn(store, &[lesson], now, keep, Durability::Relaxed).unwrap();
    }

    fn log_odds(store: &MemoryModel, raw: &[u8]) -> f64 {
        let stored = Stored::open(store).unwrap();
        score(&features(raw), &stored, &Params::default()).log_odds
    }

    /// All that is known, wherever it lies.
    fn text(store: &MemoryModel) -> String {
        let mut text = Vec::new();
        export(store, &mut text, "text".as_ref()).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn learning_twice_changes_nothing_and_relearning_takes_back() {
        let keep = Keep::default();
        let mut store = MemoryModel::default();
        let mut right = MemoryModel::default();
        for store in [&mut store, &mut right] {
            teach(store, &mail(1, "lunch"), Act::Learn(Label::Ham), 1, &keep);
        }
        let raw = mail(2, "watches");
        teach(&mut store, &raw, Act::Learn(Label::Ham), 2, &keep);
        for act in [
            Act::Learn(Label::Spam),
            Act::Learn(Label::Spam),
            Act::Correct(Label::Spam),
        ] {
            teach(&mut store, &raw, act, 3, &keep);
        }
        teach(&mut right, &raw, Act::Learn(Label::Spam), 3, &keep);
        assert!(text(&store) == text(&right));
        teach(&mut store, &raw, Act::Forget, 4, &keep);
        teach(&mut store, &mail(1, "lunch"), Act::Forget, 4, &keep);
        assert!(store.pages(0..u32::MAX).unwrap().is_empty());
        assert_eq!(log_odds(&store, &raw), 0.0);
    }

    #[test]
    fn one_folder_after_the_other_teaches_as_much_as_mixed_mail() {
        let lesson = |n: u32, label| {
            let words = match label {
                Label::Spam => "cheap watches and pills",
                Label::Ham => "lunch and a meeting",
            };
            Lesson::new(&mail(n, words), Act::Learn(label))
        };
        for (first, second) in [(Label::Spam, Label::Ham), (Label::Ham, Label::Spam)] {
            let mut store = MemoryModel::default();
            for label in [first, second] {
                for n in 0..40 {
                    let lessons = [lesson(n, label)];
                    let keep = Keep::default();
                    learn(&mut store, &lessons, 100_000, &keep, Durability::Relaxed).unwrap();
                }
            }
            let (spam, ham) = (mail(50, "cheap pills"), mail(51, "a meeting"));
            assert!(log_odds(&store, &spam) > 1.0, "{first:?} first");
            assert!(log_odds(&store, &ham) < -1.0, "{first:?} first");
        }
    }

    #[test]
    fn a_note_teaches_nothing_and_gives_way_to_what_people_say() {
        let keep = Keep::default();
        let raw = mail(1, "watches");
        let digest = Canonical::new(&raw).digest();
        let mut store = MemoryModel::default();
        teach(&mut store, &raw, Act::NoteFiled, 1, &keep);
        assert!(is_filed(&store, &digest).unwrap());
        assert_eq!(learned(&store, &digest).unwrap(), None);
        assert!(store.pages(0..u32::MAX).unwrap().is_empty());

        let mut right = MemoryModel::default();
        for store in [&mut store, &mut right] {
            teach(store, &raw, Act::Correct(Label::Ham), 2, &keep);
        }
        assert!(text(&store) == text(&right));
        teach(&mut store, &raw, Act::NoteFiled, 3, &keep);
        assert!(!is_filed(&store, &digest).unwrap());
        assert!(text(&store) == text(&right));

        // Gone by age, and not counted among what can no longer be undone.
        teach(&mut store, &mail(2, "x"), Act::NoteFiled, 4, &keep);
        let later = 5 + keep.seconds;
        teach(
            &mut store,
            &mail(3, "y"),
            Act::Learn(Label::Ham),
            later,
            &keep,
        );
        assert_eq!(Stored::open(&store).unwrap().state().n_expired, 1);
    }

    #[test]
    fn delivery_does_not_make_another_message() {
        let keep = Keep::default();
        let mut store = MemoryModel::default();
        let raw = mail(1, "lunch");
        teach(&mut store, &raw, Act::Learn(Label::Ham), 1, &keep);
        let before = text(&store);
        let arrived = [b"Received: from x\nX-Spam-Status: No\n", &raw[..]].concat();
        teach(&mut store, &arrived, Act::Learn(Label::Ham), 2, &keep);
        assert!(text(&store) == before);
        teach(&mut store, &arrived, Act::Forget, 3, &keep);
        assert!(store.pages(0..u32::MAX).unwrap().is_empty());
    }

    #[test]
    fn what_has_expired_is_outweighed() {
        let keep = Keep {
            seconds: 10,
            bytes: 1 << 20,
        };
        let mut store = MemoryModel::default();
        for n in 0..20 {
            let ham = mail(n, "watches for lunch");
            teach(&mut store, &ham, Act::Learn(Label::Ham), 1, &keep);
            teach(
                &mut store,
                &mail(n, "cheap pills"),
                Act::Learn(Label::Spam),
                1,
                &keep,
            );
        }
        let wrong = mail(3, "watches for lunch");
        assert!(log_odds(&store, &wrong) < -1.0);
        teach(
            &mut store,
            &mail(99, "other"),
            Act::Learn(Label::Ham),
            100,
            &keep,
        );
        assert_eq!(Stored::open(&store).unwrap().state().n_expired, 40);
        teach(&mut store, &wrong, Act::Correct(Label::Spam), 101, &keep);
        let after = log_odds(&store, &wrong);
        assert!(after > 1.0, "{after}");
    }

    #[test]
    fn a_full_ledger_lets_the_oldest_go() {
        let keep = Keep {
            seconds: 1_000,
            bytes: 5_000,
        };
        let mut store = MemoryModel::default();
        for n in 0..30 {
            let label = [Label::Ham, Label::Spam][n as usize % 2];
            teach(
                &mut store,
                &mail(n, label.name()),
                Act::Learn(label),
                n.into(),
                &keep,
            );
            let mut times = Vec::new();
            let mut bytes = 0;
            store
                .entries_by_age(&mut |time, _, len| {
                    times.push(time);
                    bytes += cost(len.into());
                    true
                })
                .unwrap();
            let state = Stored::open(&store).unwrap().state().clone();
            assert_eq!(state.entry_bytes, bytes);
            assert!(bytes <= keep.bytes, "{bytes}");
            assert_eq!(times.last(), Some(&u64::from(n)));
        }
        assert!(Stored::open(&store).unwrap().state().n_expired > 10);
    }

    #[test]
    fn what_was_learned_and_who_said_so() {
        let keep = Keep::default();
        let mut store = MemoryModel::default();
        let asked = |store: &MemoryModel, raw: &[u8]| {
            let digest = Canonical::new(raw).digest();
            let learned = learned(store, &digest).unwrap();
            learned.map(|learned| (learned.label, learned.own_verdict))
        };
        for n in 0..20 {
            for (words, label) in [("lunch", Label::Ham), ("pills", Label::Spam)] {
                teach(&mut store, &mail(n, words), Act::Learn(label), 1, &keep);
            }
        }
        let raw = mail(50, "pills");
        assert_eq!(asked(&store, &raw), None);
        teach(&mut store, &raw, Act::OwnVerdict, 2, &keep);
        assert_eq!(asked(&store, &raw), Some((Label::Spam, true)));
        teach(&mut store, &raw, Act::Correct(Label::Ham), 3, &keep);
        assert_eq!(asked(&store, &raw), Some((Label::Ham, false)));
    }

    #[test]
    fn own_verdict_teaches_only_when_sure_and_is_taken_back() {
        let keep = Keep::default();
        let mut store = MemoryModel::default();
        let raw = mail(1, "lunch");
        teach(&mut store, &raw, Act::OwnVerdict, 1, &keep);
        assert!(store.state().unwrap().is_none());
        for n in 0..20 {
            teach(
                &mut store,
                &mail(n, "lunch"),
                Act::Learn(Label::Ham),
                1,
                &keep,
            );
            teach(
                &mut store,
                &mail(n, "pills"),
                Act::Learn(Label::Spam),
                1,
                &keep,
            );
        }
        let before = text(&store);
        let new = mail(50, "lunch");
        teach(&mut store, &new, Act::OwnVerdict, 2, &keep);
        let after = text(&store);
        assert!(after != before);
        teach(&mut store, &new, Act::Forget, 2, &keep);
        assert!(text(&store) == before);
    }

    /// Sums age where all that a message would change is full; what is forgotten
    /// leaves nothing all the same, in whichever order, under whichever label.
    #[test]
    fn a_model_that_forgot_all_is_as_new_though_its_sums_aged() {
        const MESSAGES: u32 = 2_800;
        let keep = Keep::default();
        let mut store = MemoryModel::default();
        let label = |n: u32| [Label::Ham, Label::Spam][(n * n / 3 % 2) as usize];
        // The same to a reader, since only the width of blanks differs.
        let raw = |n: u32| {
            let blanks = (0..12).map(|bit| [" word", "  word"][(n >> bit & 1) as usize]);
            format!(
                "Subject: the same\n\nin all{}\n",
                blanks.collect::<String>()
            )
            .into_bytes()
        };
        let mut teach_all = |act: &dyn Fn(u32) -> Act, factor: u32| {
            let lessons = (0..MESSAGES).map(|n| n * factor % MESSAGES);
            let lessons: Vec<_> = lessons.map(|n| Lesson::new(&raw(n), act(n))).collect();
            for (now, lessons) in (1..).zip(lessons.chunks(7)) {
                learn(&mut store, lessons, now, &keep, Durability::Relaxed).unwrap();
            }
            Stored::open(&store).unwrap().state().clone()
        };
        let state = teach_all(&|n| Act::Learn(label(n)), 1);
        assert!(state.age > 0, "no sum was full");
        teach_all(
            &|n| {
                if n % 3 == 0 {
                    Act::Correct(label(n).other())
                } else {
                    Act::OwnVerdict
                }
            },
            11,
        );
        let state = teach_all(&|_| Act::Forget, 13);
        assert_eq!((state.entry_bytes, state.n_expired), (0, 0));
        assert!(store.pages(0..u32::MAX).unwrap().is_empty());
        let probe = [features(&raw(3)), features(&raw(MESSAGES + 1))];
        let judged = store.judge(&probe, &Params::default()).unwrap();
        let new = MemoryModel::default()
            .judge(&probe, &Params::default())
            .unwrap();
        assert_eq!(judged, new);
    }
}
