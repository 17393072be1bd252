//! A synthetic mail collection: deterministic by seed, from hand-written
//! templates in several languages, for demonstrations and tests of people who
//! have no corpus.
//!
//! It is meant to be no toy: genuine mail and its imitations share topics,
//! words, subjects and hosts, and differ in what a careful reader looks at.
//! It is not meant to rank filters: real mail is for that.
//!
//! ```
//! use corpora::generate::{Generator, Options};
//!
//! let mail: Vec<_> = Generator::new(&Options {
//!     seed: 1,
//!     n_messages: 3,
//!     ..Options::default()
//! })
//! .collect();
//! assert_eq!(mail.len(), 3);
//! assert!(mail[0].bytes.starts_with(b"Return-Path: <"));
//! ```

mod compose;
mod mime;
mod templates;
mod world;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

use classifier::Label;

pub(crate) use mime::wrapped;

use crate::{Error, Message, Random, Role};

/// What to generate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The same seed gives the same bytes, whatever the number of messages.
    pub seed: u64,
    /// How many messages.
    pub n_messages: usize,
    /// Only mail of this language; `None`: of all.
    pub language: Option<Code>,
    /// After so many messages the world has changed: half of the people and
    /// shops are others, spam comes from and leads to other hosts, and hosts
    /// change sides. `None`: never.
    pub changes_after: Option<usize>,
}

/// A language that there are templates of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(usize);

impl Code {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..templates::LANGUAGES.len()).map(Self)
    }

    /// The language of these two letters (ISO 639-1).
    pub fn parse(letters: &str) -> Option<Self> {
        Self::all().find(|code| code.letters() == letters)
    }

    /// Its two letters.
    pub fn letters(self) -> &'static str {
        &templates::LANGUAGES[self.0].1.code
    }
}

/// Of a hundred messages.
const SPAM_PERCENT: f64 = 45.0;
/// When the first message is received: 8 January 2024, 08:00 UTC.
const FIRST_RECEIVED: i64 = 1_704_700_800;
/// Between two messages, on average.
const MEAN_GAP_SECONDS: usize = 2400;

/// Yields the messages of a collection in order of reception.
pub struct Generator {
    random: Random,
    world: world::World,
    time: i64,
    n_done: usize,
    options: Options,
}

impl Generator {
    /// Starts a collection.
    pub fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed);
        let world = world::World::new(&mut random);
        Self {
            random,
            world,
            time: FIRST_RECEIVED,
            n_done: 0,
            options: *options,
        }
    }
}

impl Iterator for Generator {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let Options {
            n_messages,
            language,
            changes_after,
            ..
        } = self.options;
        if self.n_done == n_messages {
            return None;
        }
        if changes_after.is_some_and(|n| self.n_done > 0 && self.n_done.is_multiple_of(n)) {
            self.world.change(&mut self.random);
        }
        self.n_done += 1;
        self.time += self.random.between(60, 2 * MEAN_GAP_SECONDS) as i64;
        let label = if self.random.chance(SPAM_PERCENT) {
            Label::Spam
        } else {
            Label::Ham
        };
        let draft = compose::draft(
            label,
            language.map(|code| code.0),
            &self.world,
            &mut self.random,
        );
        Some(Message {
            id: format!("data/{:05}.eml", self.n_done),
            label,
            role: Role::default(),
            bytes: mime::encode(&draft, self.time, &mut self.random),
        })
    }
}

/// Writes a collection in the layout of the TREC spam track: `folder/index`
/// with a line `spam data/00001.eml` for each message, in order of reception,
/// and the messages beside it.
///
/// # Errors
/// When `folder` already holds an index, or the system refuses.
pub fn write_collection(
    folder: &Path,
    messages: impl Iterator<Item = Message>,
) -> Result<(), Error> {
    let data = folder.join("data");
    fs::create_dir_all(&data).map_err(Error::io("make", &data))?;
    let path = folder.join("index");
    let index = fs::File::create_new(&path).map_err(Error::io("make", &path))?;
    let mut index = BufWriter::new(index);
    for message in messages {
        let file = folder.join(&message.id);
        fs::write(&file, &message.bytes).map_err(Error::io("write", &file))?;
        writeln!(index, "{} {}", message.label.name(), message.id)
            .map_err(Error::io("write", &path))?;
    }
    index.flush().map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests;
