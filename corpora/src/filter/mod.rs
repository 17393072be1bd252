//! Filters under test: our engines in process, other people's as commands.

mod adapter;
mod classic;
mod command;
mod jig;
mod modern;
pub(crate) mod own;
mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use classifier::Label;
use classifier::cli::Engine;
use classifier::store::{Memory, MemoryModel, ModelStore, TokenStore};

pub use adapter::Adapter;

use crate::{Error, Message};

/// What a filter says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wanted.
    Ham,
    /// It will not say. Counts as ham: it is not put away.
    Unsure,
    /// Unwanted.
    Spam,
}

impl Verdict {
    /// `ham`, `unsure` or `spam`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ham => "ham",
            Self::Unsure => "unsure",
            Self::Spam => "spam",
        }
    }
}

/// A filter's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// What it would do with the message.
    pub verdict: Verdict,
    /// Greater means more like spam; the scale is the filter's own. Never NaN.
    pub score: f64,
}

impl Answer {
    /// What counts when a filter fails on a message, as in the TREC jig:
    /// `class=ham score=0`.
    pub const FAILED: Self = Self {
        verdict: Verdict::Ham,
        score: 0.0,
    };
}

/// What a filter takes besides time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of what it has learned, on disk or as it would lie there.
    pub database_bytes: u64,
    /// Most memory of a process that classifies a message at the end; `None`
    /// when it could not be measured.
    pub peak_memory_bytes: Option<u64>,
    /// Commands that failed: their messages count as ham with score 0.
    pub n_failures: u64,
}

/// A filter in the middle of a run.
pub trait Filter: Send {
    /// What it says of `message`. Teaches it nothing.
    ///
    /// # Errors
    /// When it cannot be asked at all. A filter that fails on one message
    /// answers [`Answer::FAILED`].
    fn classify(&mut self, message: &Message) -> Result<Answer, Error>;

    /// Tells it what `message` is.
    ///
    /// # Errors
    /// When it cannot be told.
    fn train(&mut self, label: Label, message: &Message) -> Result<(), Error>;

    /// Lets it learn its own verdict, with so great a share of what a person's
    /// word teaches; a filter that knows no shares learns all of it.
    ///
    /// # Errors
    /// When it cannot be told.
    fn train_own(&mut self, said: Label, message: &Message, _share: f64) -> Result<(), Error> {
        self.train(said, message)
    }

    /// Tells it that `message`, once trained as the other label, is `label`.
    ///
    /// # Errors
    /// When it cannot be told.
    fn retrain(&mut self, label: Label, message: &Message) -> Result<(), Error>;

    /// Why it would say so of `message`: lines for people, the strongest
    /// reason first. Empty when it cannot tell.
    fn explain(&mut self, message: &Message) -> Vec<String>;

    /// Words of these messages that speak for ham, the strongest first: what
    /// an attacker sees who can look into the filter. Empty when nobody can.
    fn hammiest(&mut self, _: &[&Message]) -> Vec<String> {
        Vec::new()
    }

    /// Writes what it knows to a new database of `bmf` in the folder `dir`, and
    /// returns of which engine that is. `None`: it is none of our engines.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&self, _dir: &Path) -> Result<Option<Engine>, Error> {
        Ok(None)
    }

    /// Ends the run. Of engines in process, [`save`](Self::save) shows what
    /// they take.
    ///
    /// # Errors
    /// When the filter's own end fails.
    fn finalise(&mut self) -> Result<Footprint, Error> {
        Ok(Footprint::default())
    }
}

/// Which filter to run.
#[derive(Clone, Debug)]
pub enum FilterSpec {
    /// bmf's algorithm, counts in memory.
    Classic,
    /// The modern engine, its model in memory.
    Modern,
    /// The same through the ledger, in the pages and records of a store.
    ModernLedger,
    /// A program described by an adapter.
    Adapter(Arc<Adapter>),
    /// A folder with TREC's four commands.
    Jig(PathBuf),
}

impl FilterSpec {
    /// Ready names: our engines and the adapters that come with this crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let ready = adapter::READY.iter().map(|(name, _)| *name);
        ["classic", "modern", "modern-ledger"]
            .into_iter()
            .chain(ready)
    }

    /// The filter called `text`: a ready name, `NAME.toml` for an adapter's
    /// file, or `jig:FOLDER`.
    ///
    /// # Errors
    /// When there is no such filter, its description is wrong, or its
    /// program is not installed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text == "classic" {
            return Ok(Self::Classic);
        }
        if text == "modern" {
            return Ok(Self::Modern);
        }
        if text == "modern-ledger" {
            return Ok(Self::ModernLedger);
        }
        if let Some(folder) = text.strip_prefix("jig:") {
            return Ok(Self::Jig(folder.into()));
        }
        let adapter = if text.ends_with(".toml") {
            Adapter::read(Path::new(text))?
        } else {
            Adapter::ready(text)?
        };
        Ok(Self::Adapter(Arc::new(adapter)))
    }

    /// What tables call it.
    pub fn name(&self) -> String {
        match self {
            Self::Classic => "classic".to_owned(),
            Self::Modern => "modern".to_owned(),
            Self::ModernLedger => "modern-ledger".to_owned(),
            Self::Adapter(adapter) => adapter.name.clone(),
            Self::Jig(folder) => folder.file_name().map_or_else(
                || folder.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
        }
    }

    /// The name by which it was found.
    pub fn source(&self) -> String {
        match self {
            Self::Adapter(adapter) => adapter.source.clone(),
            Self::Jig(folder) => format!("jig:{}", folder.display()),
            _ => self.name(),
        }
    }

    /// The score in the middle of its scale: above it a message is rather spam.
    pub fn middle(&self) -> f64 {
        match self {
            Self::Modern | Self::ModernLedger => 0.0,
            Self::Adapter(adapter) => adapter.middle,
            Self::Classic | Self::Jig(_) => 0.5,
        }
    }

    /// A fresh filter that knows nothing; it may use the empty folder `work`.
    ///
    /// # Errors
    /// When it cannot be initialised.
    pub fn start(&self, work: &Path) -> Result<Box<dyn Filter>, Error> {
        Ok(match self {
            Self::Classic => classic_on(Box::new(Memory::default())),
            Self::Modern => Box::new(modern::Modern::default()),
            Self::ModernLedger => modern_on(Box::new(MemoryModel::default()), 0),
            Self::Adapter(adapter) => Box::new(command::Command::start(adapter.clone(), work)?),
            Self::Jig(folder) => Box::new(jig::Jig::start(folder, work)?),
        })
    }
}

/// The classic engine over a store of one's own.
pub fn classic_on(store: Box<dyn TokenStore + Send>) -> Box<dyn Filter> {
    Box::new(classic::Classic::new(store))
}

/// The modern engine over a store of one's own, through its ledger. `now` is in
/// seconds since 1970.
pub fn modern_on(store: Box<dyn ModelStore + Send>, now: u64) -> Box<dyn Filter> {
    Box::new(modern::Ledger::new(store, now))
}

#[cfg(test)]
mod tests;
