//! A model as text and back, without loss.
//!
//! Words are parted by single blanks, lines ended by LF; numbers are decimal.
//!
//! ```text
//! postern-model 3 LINES           so many follow; not said by earlier programs
//! state AGE HAM SPAM EXPIRED
//! calibration COUNT...            128 counts: 64 of ham, 64 of spam
//! bucket INDEX Z Q                ascending, those that are not 0
//! entry DIGEST SECONDS            the digest as 32 hexadecimal digits
//! step LABEL BIN AGE              ham or spam; - for no bin
//! view GRADIENT SLOT...           three for each step
//! ```
//!
//! The steps after an entry, until the next one, are its; none where the filter
//! filed the message. What the numbers
//! mean stands in docs/modern-engine.md. How many of a class were learned in a
//! row is counted anew.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, BufRead, Write};
use std::path::Path;

use super::calibration::Calibration;
use super::canonical::Digest;
use super::encode::{Entry, MAX_GRADIENT, State, VERSION};
use super::ledger::cost;
use super::model::Model;
use super::record::Record;
use super::stored::{Stored, damaged, note_model};
use super::weights::{N_BUCKETS, Slot};
use crate::hex::{from_hex, to_hex};
use crate::store::model::{Bytes, ModelChanges, ModelView};
use crate::{Error, Label, TrainedMessages};

/// Writes the model that `view` shows to `out`, whose errors name `path`.
///
/// # Errors
/// When the model cannot be read, or `out` not be written.
pub fn export(view: &dyn ModelView, out: &mut dyn Write, path: &Path) -> Result<(), Error> {
    let stored = Stored::open(view)?;
    let mut lines = Vec::new();
    let written = write_model(&stored, &mut lines).map_err(Failure::Write);
    let written = written.and_then(|()| write_entries(view, &mut lines));
    let written = written.and_then(|()| {
        let n_lines = lines.iter().filter(|byte| **byte == b'\n').count();
        writeln!(out, "postern-model {VERSION} {n_lines}")?;
        Ok(out.write_all(&lines)?)
    });
    written.map_err(|failure| match failure {
        Failure::Write(error) => Error::io("write", path)(error),
        Failure::Store(error) => error,
    })
}

enum Failure {
    Write(io::Error),
    Store(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

fn write_model(stored: &Stored<Bytes<'_>>, out: &mut dyn Write) -> io::Result<()> {
    let State {
        age,
        trained,
        n_expired,
        calibration,
        ..
    } = stored.state();
    let TrainedMessages { ham, spam } = trained;
    writeln!(out, "state {age} {ham} {spam} {n_expired}")?;
    write!(out, "calibration")?;
    for count in calibration.counts() {
        write!(out, " {count}")?;
    }
    writeln!(out)?;
    for (index, (z, q)) in stored.to_model().buckets.iter().enumerate() {
        if (*z, *q) != (0, 0) {
            writeln!(out, "bucket {index} {z} {q}")?;
        }
    }
    Ok(())
}

fn write_entries(view: &dyn ModelView, out: &mut dyn Write) -> Result<(), Failure> {
    let mut digests = Vec::new();
    view.entries_by_age(&mut |_, digest, _| {
        digests.push(*digest);
        true
    })?;
    for digest in digests {
        let no_sense = || damaged(view.path(), "an entry of its ledger makes no sense");
        let entry = view.entry(&digest)?;
        let entry = entry.as_deref().and_then(Entry::parse);
        let entry = entry.ok_or_else(no_sense)?;
        writeln!(out, "entry {} {}", to_hex(&digest), entry.time)?;
        for record in &entry.records {
            write_step(record, out)?;
        }
    }
    Ok(())
}

fn write_step(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let label = record.label.name();
    let bin = record.bin.map_or("-".into(), |bin| bin.to_string());
    writeln!(out, "step {label} {bin} {}", record.age)?;
    for (gradient, slots) in &record.steps {
        write!(out, "view {gradient}")?;
        for Slot(slot) in slots {
            write!(out, " {slot}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A model read from text.
#[derive(Clone, Debug)]
pub struct Exported {
    model: Model,
    n_expired: u64,
    entries: Vec<(Digest, Entry)>,
    /// As many lines follow the first one, where that says so.
    n_lines: Option<usize>,
}

impl Exported {
    /// Reads what [`export`] wrote; errors name `path`.
    ///
    /// # Errors
    /// When it cannot be read, is something else, or is newer than this
    /// program.
    pub fn read(lines: &mut dyn BufRead, path: &Path) -> Result<Self, Error> {
        let mut exported = Self {
            model: Model::default(),
            n_expired: 0,
            entries: Vec::new(),
            n_lines: None,
        };
        let mut line = String::new();
        let mut n_lines = 0;
        for number in 1.. {
            line.clear();
            let read = lines
                .read_line(&mut line)
                .map_err(Error::io("read", path))?;
            if read == 0 && number > 1 {
                n_lines = number - 2;
                break;
            }
            let words = line.trim_end_matches('\n').split(' ');
            if exported.line(number, words, path)?.is_none() {
                let detail = format!("line {number} is none of an exported model");
                return Err(damaged(path, &detail));
            }
        }
        if let Some(expected) = exported.n_lines.filter(|n| *n != n_lines) {
            let detail = format!("{n_lines} lines follow its first one, which tells of {expected}");
            return Err(damaged(path, &detail));
        }
        match exported.is_complete() {
            true => Ok(exported),
            false => Err(damaged(
                path,
                "a part of an entry is missing, or there twice",
            )),
        }
    }

    /// Whether each entry is of another message and has whole steps.
    fn is_complete(&self) -> bool {
        let digests: BTreeSet<_> = self.entries.iter().map(|(digest, _)| digest).collect();
        let is_whole = |record: &Record| record.steps.iter().all(|(g, _)| *g != UNREAD);
        digests.len() == self.entries.len()
            && self
                .entries
                .iter()
                .all(|(_, entry)| entry.records.iter().all(is_whole))
    }

    /// `None`: the line makes no sense.
    fn line<'a>(
        &mut self,
        number: usize,
        mut words: impl Iterator<Item = &'a str>,
        path: &Path,
    ) -> Result<Option<()>, Error> {
        let kind = words.next();
        if number > 1 {
            return Ok(self.parse(kind.unwrap_or_default(), &mut words));
        }
        let version = words.next().and_then(|word| word.parse().ok());
        match (kind, version) {
            (Some("postern-model"), Some(VERSION)) => {
                let n_lines = words.next().map(str::parse).transpose();
                self.n_lines = n_lines.unwrap_or(Some(0));
                Ok(Some(()))
            }
            (Some("postern-model"), Some(found)) if found > VERSION => Err(Error::NewerFormat {
                path: path.into(),
                found,
                newest: VERSION,
            }),
            _ => Ok(None),
        }
    }

    fn parse(&mut self, kind: &str, words: &mut dyn Iterator<Item = &str>) -> Option<()> {
        match kind {
            "state" => {
                self.model.age = parsed(words)?;
                self.model.trained.ham = parsed(words)?;
                self.model.trained.spam = parsed(words)?;
                self.n_expired = parsed(words)?;
            }
            "calibration" => {
                let counts: Option<Vec<u32>> = words.map(|word| word.parse().ok()).collect();
                self.model.calibration = Calibration::from_counts(counts?.into_iter());
            }
            "bucket" => {
                let index: u32 = parsed(words)?;
                if index >= N_BUCKETS {
                    return None;
                }
                self.model.buckets[index as usize] = (parsed(words)?, parsed(words)?);
            }
            "entry" => {
                let digest = from_hex(words.next()?)?;
                let entry = Entry {
                    time: parsed(words)?,
                    records: Vec::new(),
                };
                self.entries.push((digest, entry));
            }
            "step" => {
                let record = parse_step(words)?;
                self.entries.last_mut()?.1.records.push(record);
            }
            "view" => {
                let gradient: i16 = parsed(words)?;
                if gradient.unsigned_abs() > MAX_GRADIENT {
                    return None;
                }
                let slot = |word: &str| word.parse().ok().and_then(Slot::stored);
                let mut slots = words.map(slot).collect::<Option<Vec<_>>>()?;
                if gradient == 0 && !slots.is_empty() {
                    return None;
                }
                slots.sort_unstable();
                let step = self.entries.last_mut()?.1.records.last_mut()?;
                let view = step.steps.iter_mut().find(|(g, _)| *g == UNREAD)?;
                *view = (gradient, slots);
            }
            _ => return None,
        }
        Some(())
    }

    /// The change that adds this to what `view` shows: of the two models the
    /// one that holds more messages, with what the other one's ledger says that
    /// it learned besides. What both know counts once, so that adding the same
    /// again changes nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn merging(&self, view: &dyn ModelView) -> Result<ModelChanges, Error> {
        let mut text = Vec::new();
        export(view, &mut text, view.path())?;
        let there = Self::read(&mut &*text, view.path())?;
        let n = |exported: &Self| {
            let TrainedMessages { ham, spam } = exported.model.trained;
            u64::from(ham) + u64::from(spam)
        };
        match n(self) > n(&there) {
            true => self.clone().with(&there).replacing(view),
            false => there.with(self).replacing(view),
        }
    }

    fn with(mut self, other: &Self) -> Self {
        let known: HashSet<_> = self.entries.iter().map(|(digest, _)| *digest).collect();
        for (digest, entry) in &other.entries {
            if !known.contains(digest) {
                let mut entry = entry.clone();
                for record in &mut entry.records {
                    self.model.add(record);
                }
                self.entries.push((*digest, entry));
            }
        }
        self
    }

    /// The change that makes this of what `view` shows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn replacing(&self, view: &dyn ModelView) -> Result<ModelChanges, Error> {
        let mut changes = ModelChanges::default();
        view.entries_by_age(&mut |time, digest, _| {
            changes.expire.push((time, *digest));
            true
        })?;
        let mut entry_bytes = 0;
        let mut waiting = TrainedMessages::default();
        for (digest, entry) in &self.entries {
            let bytes = entry.to_bytes();
            if let Some(label) = entry.waiting_label() {
                *waiting.get_mut(label) += 1;
            }
            entry_bytes += cost(bytes.len() as u64);
            changes.enter.push((entry.time, *digest, bytes));
        }
        let kept = State {
            entry_bytes,
            n_expired: self.n_expired,
            waiting,
            ..State::default()
        };
        note_model(view, &self.model, kept, &mut changes)?;
        Ok(changes)
    }
}

/// A view of a step whose line is still to come: no gradient.
const UNREAD: i16 = i16::MIN;

fn parse_step(words: &mut dyn Iterator<Item = &str>) -> Option<Record> {
    let label = match words.next()? {
        "ham" => Label::Ham,
        "spam" => Label::Spam,
        _ => return None,
    };
    let bin = match words.next()? {
        "-" => None,
        bin => Some(bin.parse().ok()?),
    };
    Some(Record {
        label,
        age: parsed(words)?,
        bin,
        steps: [UNREAD; 3].map(|unread| (unread, Vec::new())),
    })
}

fn parsed<T: std::str::FromStr>(words: &mut dyn Iterator<Item = &str>) -> Option<T> {
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modern::{Act, Keep, Lesson, learn};
    use crate::store::{Durability, MemoryModel, ModelStore};

    fn text(store: &MemoryModel) -> String {
        let mut out = Vec::new();
        export(store, &mut out, Path::new("model.txt")).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn read(text: &str) -> Result<Exported, Error> {
        Exported::read(&mut text.as_bytes(), Path::new("model.txt"))
    }

    #[test]
    fn nothing_is_lost() {
        let mut store = MemoryModel::default();
        for n in 0..9u8 {
            let mail = format!("Subject: s{n}\n\nsome words {n}\n");
            let act = match n % 3 {
                0 => Act::Learn(Label::Ham),
                1 => Act::Learn(Label::Spam),
                _ => Act::OwnVerdict,
            };
            let lesson = Lesson::new(mail.as_bytes(), act);
            let keep = Keep { bytes: 1_500 };
            learn(&mut store, &[lesson], n.into(), &keep, Durability::Relaxed).unwrap();
        }
        let exported = read(&text(&store)).unwrap();
        // Into a new store, and over what another one holds.
        let mut other = MemoryModel::default();
        let lesson = Lesson::new(b"Subject: x\n\ny z\n", Act::Learn(Label::Ham));
        let keep = Keep::default();
        learn(&mut other, &[lesson], 5, &keep, Durability::Relaxed).unwrap();
        for mut copy in [MemoryModel::default(), other] {
            copy.change(Durability::Relaxed, &mut |view| exported.replacing(view))
                .unwrap();
            assert_eq!(text(&copy), text(&store));
        }
    }

    #[test]
    fn half_an_entry_is_refused() {
        let digest = "00112233445566778899aabbccddeeff";
        let entry = format!("entry {digest} 9\n");
        let step = "step ham 1 0\nview 5 1 3\nview 0\nview -7 2\n";
        let head = "postern-model 3\nstate 0 1 0 0\n";
        assert!(read(&[head, &entry, step].concat()).is_ok());
        let short = "step ham 1 0\nview 5 1 3\nview 0\n";
        // Of what the filter filed nothing was learned.
        assert!(read(&[head, &entry].concat()).is_ok());
        for rest in [
            [&entry, short].concat(),
            [&entry, step, &entry, step].concat(),
        ] {
            let error = read(&[head, &rest].concat()).unwrap_err().to_string();
            assert!(error.contains("a part of an entry"), "{error}");
        }
    }

    #[test]
    fn text_that_was_cut_off_is_refused() {
        let mut store = MemoryModel::default();
        let lesson = Lesson::new(b"Subject: x\n\ny z\n", Act::Learn(Label::Ham));
        let keep = Keep::default();
        learn(&mut store, &[lesson], 5, &keep, Durability::Relaxed).unwrap();
        let whole = text(&store);
        assert!(read(&whole).is_ok());
        for (end, _) in whole.match_indices('\n') {
            let cut = &whole[..=end];
            assert_eq!(read(cut).is_ok(), cut == whole, "{cut}");
        }
        // One that an earlier program wrote does not say how long it is.
        let (first, rest) = whole.split_once('\n').unwrap();
        let (first, _) = first.rsplit_once(' ').unwrap();
        assert!(read(&format!("{first}\n{rest}")).is_ok());
    }

    #[test]
    fn other_text_is_refused() {
        for (text, line) in [
            ("", 1),
            ("# bogofilter wordlist\n", 1),
            ("postern-model 3\nbucket 960000 1 1\n", 2),
            ("postern-model 3\nstate 0 0 0 0\nstep ham 1 0\n", 3),
            ("postern-model 3\n\n", 2),
            (
                "postern-model 3\nentry 00112233445566778899aabbccddeeff 9\nstep ham 1 0\nview 257 1\n",
                4,
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line} is none")), "{error}");
        }
        let newer = read("postern-model 4\n");
        assert!(matches!(newer, Err(Error::NewerFormat { .. })));
    }
}
