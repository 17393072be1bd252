//! The program `bmf` without its `main`: arguments, the way of a message
//! through it, and what it prints.
//!
//! A filter never eats mail: with `-p` a message is copied through whatever
//! else goes wrong, without a verdict where there is none.

pub mod answer;
mod args;
pub mod bmfconv;
mod client;
mod database;
mod folder;
mod judged;
mod memory;
mod model_text;
mod modern;
mod output;
mod run;
mod spool;
pub mod wire;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

pub use args::{Args, Request, parse};
pub use memory::{outlive_file_limits, share_heap};
pub use run::{Exit, run};

use crate::Label;
use crate::classic::{Layout, Params};
use crate::modern::Act;

/// What `bmf` is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to learn.
    pub mode: Mode,
    /// What to print about each message.
    pub output: Output,
    /// Whether each message is copied to standard output.
    pub passthrough: bool,
    /// How the database lies on disk.
    pub format: Format,
    /// The engine that a database must be of; `None`: whichever it is of, and
    /// for a new one classic where it takes over bmf's lists, else modern.
    pub engine: Option<Engine>,
    /// The database's folder.
    pub dir: PathBuf,
    /// Where the daemon may listen that may own the database; none: it is
    /// not asked.
    pub sockets: Vec<PathBuf>,
    /// Whose model the daemon is to use; empty: one's own.
    pub user: String,
    /// A base model that a model of the modern engine is added to.
    pub base: Option<PathBuf>,
    /// A folder or mbox to learn, instead of any input.
    pub learn_folder: Option<PathBuf>,
    /// Whether `dir` is where a person's database is if nothing else is said.
    pub is_own_database: bool,
    /// What to read; `None` is standard input.
    pub input: Option<PathBuf>,
    /// What the input is to be taken for; `None`: what it looks like.
    pub layout: Option<Layout>,
    /// Constants of the score.
    pub params: Params,
    /// Whether to say more on standard error.
    pub verbose: bool,
    /// Longest wait for a locked database.
    pub lock_wait: Duration,
    /// Whether a locked database has an exit code of its own.
    pub temp_fail: bool,
    /// Whether what was learned is on disk when `bmf` ends.
    pub syncs: bool,
}

impl Config {
    /// Lets the daemon be asked where it is the one to know: about the
    /// person's own database. `named` is what BMF_SOCKET says; when it is
    /// empty nobody is asked.
    pub fn ask_daemon(&mut self, named: Option<OsString>, home: Option<&Path>) {
        if !self.is_own_database {
            return;
        }
        self.sockets = match named {
            Some(named) if named.is_empty() => Vec::new(),
            Some(named) => vec![named.into()],
            None => home
                .map(|home| home.join(".bmf/socket"))
                .into_iter()
                .chain(["/run/bmfd/socket".into()])
                .collect(),
        };
    }
}

/// What `bmf` learns from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its own verdict.
    Register,
    /// Nothing.
    Test,
    /// That it is ham.
    Ham,
    /// That it is spam.
    Spam,
    /// That it is ham and was registered as spam.
    ToHam,
    /// That it is spam and was registered as ham.
    ToSpam,
}

impl Mode {
    /// The label that the user gave.
    pub fn label(self) -> Option<Label> {
        match self {
            Self::Register | Self::Test => None,
            Self::Ham | Self::ToHam => Some(Label::Ham),
            Self::Spam | Self::ToSpam => Some(Label::Spam),
        }
    }

    /// What the modern engine's ledger is told; `None`: nothing.
    pub fn act(self) -> Option<Act> {
        Some(match self {
            Self::Register => Act::OwnVerdict,
            Self::Test => return None,
            Self::Ham => Act::Learn(Label::Ham),
            Self::Spam => Act::Learn(Label::Spam),
            Self::ToHam => Act::Correct(Label::Ham),
            Self::ToSpam => Act::Correct(Label::Spam),
        })
    }

    /// Whether a registration under the other label is taken back.
    fn takes_back(self) -> bool {
        matches!(self, Self::ToHam | Self::ToSpam)
    }
}

/// How a database lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// bmf's lists.
    Text,
    /// LMDB, which takes the place of bmf's Berkeley DB files.
    Db,
    /// bmf's MySQL tables, which are not offered.
    MySql,
}

impl Format {
    /// The format of bmf's name for it, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "db" => Some(Self::Db),
            "mysql" => Some(Self::MySql),
            _ => None,
        }
    }
}

/// What turns a message into a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// bmf 0.9.4, to the last printed digit
    Classic,
    /// More accurate; takes back exactly what it learned
    Modern,
}

impl Engine {
    /// The name that a database records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Modern => "modern",
        }
    }
}

/// What is printed about each message, before the message itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    Nothing,
    /// The verdict and its probability, on one line.
    Terse,
    /// bmf's report.
    Report,
    /// A JSON object.
    Json,
    /// The verdict in words and a table of tokens.
    Explanation,
}

/// What is to be printed at the end, and the exit code.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// Exit code.
    pub code: u8,
}

impl Outcome {
    fn print(stdout: String, code: u8) -> Self {
        Self {
            stdout,
            code,
            ..Self::default()
        }
    }

    /// bmf's answer to what it does not understand: the complaint, if any, on
    /// standard error, the options on standard output.
    fn usage(command: &mut clap::Command, complaint: &str) -> Self {
        Self {
            stderr: match complaint {
                "" => String::new(),
                complaint => format!("{}: {complaint}\n", command.get_name()),
            },
            ..Self::print(command.render_help().to_string(), 2)
        }
    }
}

/// Understands the arguments of a program, its name first. An error is the
/// answer to what clap did not take, and to `--help` and `--version`.
fn parse_args<A: Parser>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<(A, clap::Command), Outcome> {
    let mut command = A::command();
    let parsed = command
        .try_get_matches_from_mut(args)
        .and_then(|matches| A::from_arg_matches(&matches));
    match parsed {
        Ok(args) => Ok((args, command)),
        Err(error) => Err(match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Outcome::print(error.to_string(), 0)
            }
            _ => Outcome::usage(&mut command, error.to_string().trim_end()),
        }),
    }
}
