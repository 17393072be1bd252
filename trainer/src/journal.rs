//! What happened to a user's model lately, for `bmfd status`.
//!
//! It lies in the database beside the model and goes where that goes. The
//! newest [`MAX_EVENTS`] events are kept, and beside them how many there were
//! of each kind, so that nothing grows.
//!
//! # Bytes, version 1
//!
//! A JSON object; fields are only ever added.

use std::collections::BTreeMap;

use classifier::store::Durability;
use classifier::{Error, Label};
use classifier_rocksdb::{HostStore, UserStore};
use serde::{Deserialize, Serialize};

/// So many events are kept.
pub const MAX_EVENTS: usize = 50;

/// A user's journal.
pub struct Journal(UserStore);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since 1970.
    pub time: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// From where: a folder, or a program.
    pub from: String,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", content = "detail", rename_all = "snake_case")]
pub enum What {
    /// A message was learned under this label.
    #[serde(with = "label")]
    Learned(Label),
    /// What was learned of a message was taken back.
    Forgotten,
    /// A message was moved by its user, and taught nothing for this reason.
    TaughtNothing(String),
    /// The user's own database was taken over.
    TakenOver,
    /// So many messages made room in a folder.
    Rotated(u64),
}

impl What {
    /// Whether something was learned.
    pub fn is_lesson(&self) -> bool {
        matches!(self, Self::Learned(_))
    }

    /// Under which its events are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Learned(Label::Ham) => "learned_ham",
            Self::Learned(Label::Spam) => "learned_spam",
            Self::Forgotten => "forgotten",
            Self::TaughtNothing(_) => "taught_nothing",
            Self::TakenOver => "taken_over",
            Self::Rotated(_) => "rotated",
        }
    }
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// Oldest first.
    pub events: Vec<Event>,
    /// How many of each kind there ever were.
    pub counts: BTreeMap<String, u64>,
}

impl Pages {
    fn add(&mut self, events: &[Event]) {
        for event in events {
            *self.counts.entry(event.what.kind().into()).or_default() += 1;
            self.events.push(event.clone());
        }
        let n_old = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..n_old);
    }

    /// The newest event of a lesson.
    pub fn last_learned(&self) -> Option<&Event> {
        let mut newest = self.events.iter().rev();
        newest.find(|event| event.what.is_lesson())
    }

    /// The newest event of a move that taught nothing.
    pub fn last_in_vain(&self) -> Option<&Event> {
        let mut newest = self.events.iter().rev();
        newest.find(|event| matches!(event.what, What::TaughtNothing(_)))
    }

    /// How many of the newest events are moves that taught nothing, with
    /// nothing learned since.
    pub fn n_in_vain(&self) -> usize {
        let newest = self.events.iter().rev();
        newest
            .take_while(|event| !event.what.is_lesson())
            .filter(|event| matches!(event.what, What::TaughtNothing(_)))
            .count()
    }
}

impl Journal {
    /// That of `user`.
    pub fn of(host: &HostStore, user: &str) -> Self {
        Self(host.user(user))
    }

    /// All that is kept; nothing where it cannot be understood: it is no
    /// knowledge, only a report of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn read(&self) -> Result<Pages, Error> {
        let bytes = self.0.note(NOTE)?;
        let pages = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(pages.unwrap_or_default())
    }

    /// Adds events, oldest first. Of two who do so for the same user at the
    /// same moment one may not be noted. Not synced.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn add(&mut self, events: &[Event]) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let mut pages = self.read()?;
        pages.add(events);
        let bytes = serde_json::to_vec(&pages).expect("names and numbers are JSON");
        self.0.put_note(NOTE, &bytes, Durability::Relaxed)
    }
}

const NOTE: &str = "journal";

mod label {
    use classifier::Label;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(label: &Label, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(label.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Label, D::Error> {
        match <std::borrow::Cow<'_, str>>::deserialize(from)?.as_ref() {
            "ham" => Ok(Label::Ham),
            "spam" => Ok(Label::Spam),
            other => Err(D::Error::custom(format!("no label {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time: u64, what: What) -> Event {
        Event {
            time,
            what,
            from: "Junk".into(),
        }
    }

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let mut pages = Pages::default();
        for time in 0..200 {
            pages.add(&[event(time, What::Learned(Label::Spam))]);
        }
        assert_eq!(pages.events.len(), MAX_EVENTS);
        assert_eq!(pages.last_learned().unwrap().time, 199);
        assert_eq!(pages.counts["learned_spam"], 200);
        assert_eq!(pages.n_in_vain(), 0);
        let reason = "flagged".to_owned();
        pages.add(&[
            event(200, What::TaughtNothing(reason)),
            event(201, What::Rotated(3)),
        ]);
        assert_eq!(pages.n_in_vain(), 1);
        let bytes = serde_json::to_vec(&pages).unwrap();
        assert_eq!(serde_json::from_slice::<Pages>(&bytes).unwrap(), pages);
    }

    #[test]
    fn goes_with_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostStore::open(dir.path(), &Default::default()).unwrap();
        let mut journal = Journal::of(&host, "anna");
        journal.add(&[event(1, What::Forgotten)]).unwrap();
        host.rename("anna", "bert").unwrap();
        assert_eq!(journal.read().unwrap(), Pages::default());
        assert_eq!(Journal::of(&host, "bert").read().unwrap().events.len(), 1);
        host.delete("bert").unwrap();
        assert_eq!(Journal::of(&host, "bert").read().unwrap(), Pages::default());
    }
}
