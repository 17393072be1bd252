//! A filter described by its commands, in TOML.
//!
//! ```toml
//! programs = ["bogofilter", "bogofilter-bdb"]  # the first one found
//! initialise = "..."                           # optional
//! classify = "{program} -d {db} -TT"           # the message is its standard input
//! train_ham = "{program} -d {db} -n"
//! train_spam = "{program} -d {db} -s"
//! retrain_ham = "{program} -d {db} -S -n"      # optional: was trained as spam
//! retrain_spam = "{program} -d {db} -N -s"
//! trained = [0]                                # the default: exit codes of training that worked
//! finalise = "..."                             # optional
//! pid_file = "{db}/pid"                        # optional: of a daemon that initialise started
//! score = '([0-9.]+)'                          # regular expression on the output
//! middle = 0.5                                 # the default: above it a message is rather spam
//!
//! [verdict.exit_code]                          # or [verdict.output] with expressions
//! spam = 0
//! ham = 1
//!
//! [files]                                      # optional: written at first
//! settings = "database {db}"
//! ```
//!
//! A command is split at blanks, single quotes keep words together, no shell
//! takes part. `{program}`, `{prefix}` (`/usr`, where that is
//! `/usr/bin/NAME`), `{db}` (an empty folder at first), `{message}` (a file)
//! and `{files}` (the folder of those below `[files]`) are put in afterwards,
//! so that they may hold blanks. A daemon is ended when the filter is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

use super::process::{Finished, find_program};
use super::{Answer, Verdict};
use crate::Error;

/// The adapters that come with this crate.
pub(super) const READY: [(&str, &str); 5] = [
    ("bmf", include_str!("../../adapters/bmf.toml")),
    ("bogofilter", include_str!("../../adapters/bogofilter.toml")),
    ("rspamd", include_str!("../../adapters/rspamd.toml")),
    (
        "spamassassin",
        include_str!("../../adapters/spamassassin.toml"),
    ),
    ("spamprobe", include_str!("../../adapters/spamprobe.toml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    programs: Vec<String>,
    initialise: Option<String>,
    classify: String,
    train_ham: String,
    train_spam: String,
    retrain_ham: Option<String>,
    retrain_spam: Option<String>,
    #[serde(default = "success")]
    trained: Vec<i32>,
    finalise: Option<String>,
    pid_file: Option<String>,
    score: String,
    #[serde(default = "half")]
    middle: f64,
    verdict: RawVerdict,
    #[serde(default)]
    files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawVerdict {
    ExitCode {
        spam: i32,
        ham: i32,
        unsure: Option<i32>,
    },
    Output {
        spam: String,
        ham: String,
        unsure: Option<String>,
    },
    Score {
        spam_above: f64,
        ham_below: f64,
    },
}

fn half() -> f64 {
    0.5
}

fn success() -> Vec<i32> {
    vec![0]
}

/// A checked description, its program found.
#[derive(Debug)]
pub struct Adapter {
    /// What tables call it.
    pub(super) name: String,
    /// Its file, or its ready name.
    pub(super) source: String,
    pub(super) program: PathBuf,
    pub(super) initialise: Option<Template>,
    pub(super) classify: Template,
    pub(super) train_ham: Template,
    pub(super) train_spam: Template,
    pub(super) retrain_ham: Template,
    pub(super) retrain_spam: Template,
    /// Exit codes by which training says that it worked.
    pub(super) trained: Vec<i32>,
    pub(super) finalise: Option<Template>,
    /// Holds the process number of a daemon, with slots.
    pub(super) pid_file: Option<String>,
    /// Names and contents, to be written before anything runs.
    pub(super) files: BTreeMap<String, String>,
    score: Regex,
    /// The score in the middle of its scale.
    pub(super) middle: f64,
    verdict: VerdictFrom,
}

#[derive(Debug)]
enum VerdictFrom {
    ExitCode {
        spam: i32,
        ham: i32,
        unsure: Option<i32>,
    },
    Output {
        spam: Regex,
        ham: Regex,
        unsure: Option<Regex>,
    },
    Score {
        spam_above: f64,
        ham_below: f64,
    },
}

impl Adapter {
    /// The adapter in a file, named after it.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&name, &path.display().to_string(), &text)
    }

    /// The adapter that comes with this crate under `name`.
    ///
    /// # Errors
    /// When there is none, or its program is not installed.
    pub fn ready(name: &str) -> Result<Self, Error> {
        let found = READY.iter().find(|(ready, _)| *ready == name);
        let (_, text) = found.ok_or_else(|| {
            let names: Vec<_> = super::FilterSpec::names().collect();
            Error::Adapter {
                name: name.to_owned(),
                detail: format!(
                    "no such filter; there are {}, FILE.toml and jig:FOLDER",
                    names.join(", ")
                ),
            }
        })?;
        Self::parse(name, name, text)
    }

    /// Errors name `source`.
    fn parse(name: &str, source: &str, text: &str) -> Result<Self, Error> {
        let wrong = |detail: String| Error::Adapter {
            name: source.to_owned(),
            detail,
        };
        let raw: Raw = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let program = find_program(&raw.programs).ok_or_else(|| Error::NotInstalled {
            name: name.to_owned(),
            programs: raw.programs.join(", "),
        })?;
        let template = |text: &str| Template::parse(text).map_err(wrong);
        let optional = |text: &Option<String>| text.as_deref().map(template).transpose();
        let regex = |text: &str| Regex::new(text).map_err(|error| wrong(error.to_string()));
        let score = regex(&raw.score)?;
        let leaves = |name: &&String| !Path::new(name).components().all(is_name);
        if let Some(name) = raw.files.keys().find(leaves) {
            return Err(wrong(format!("[files]: {name:?} leads out of its folder")));
        }
        if score.captures_len() != 2 {
            return Err(wrong("score needs one group in parentheses".to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            source: source.to_owned(),
            program,
            initialise: optional(&raw.initialise)?,
            classify: template(&raw.classify)?,
            retrain_ham: template(raw.retrain_ham.as_ref().unwrap_or(&raw.train_ham))?,
            retrain_spam: template(raw.retrain_spam.as_ref().unwrap_or(&raw.train_spam))?,
            train_ham: template(&raw.train_ham)?,
            train_spam: template(&raw.train_spam)?,
            trained: raw.trained,
            finalise: optional(&raw.finalise)?,
            pid_file: raw.pid_file,
            files: raw.files,
            score,
            middle: raw.middle,
            verdict: match raw.verdict {
                RawVerdict::ExitCode { spam, ham, unsure } => {
                    VerdictFrom::ExitCode { spam, ham, unsure }
                }
                RawVerdict::Output { spam, ham, unsure } => VerdictFrom::Output {
                    spam: regex(&spam)?,
                    ham: regex(&ham)?,
                    unsure: unsure.as_deref().map(regex).transpose()?,
                },
                RawVerdict::Score {
                    spam_above,
                    ham_below,
                } => VerdictFrom::Score {
                    spam_above,
                    ham_below,
                },
            },
        })
    }

    /// What `finished` says, or `None` when it says nothing.
    pub(super) fn answer(&self, finished: &Finished) -> Option<Answer> {
        let score = self.score.captures(&finished.stdout)?.get(1)?;
        let score: f64 = score.as_str().parse().ok().filter(|s: &f64| !s.is_nan())?;
        let verdict = match &self.verdict {
            VerdictFrom::ExitCode { spam, ham, unsure } => match finished.exit_code? {
                code if code == *spam => Verdict::Spam,
                code if code == *ham => Verdict::Ham,
                code if Some(code) == *unsure => Verdict::Unsure,
                _ => return None,
            },
            VerdictFrom::Output { spam, ham, unsure } => {
                let says = |regex: &Regex| regex.is_match(&finished.stdout);
                if says(spam) {
                    Verdict::Spam
                } else if says(ham) {
                    Verdict::Ham
                } else if unsure.as_ref().is_some_and(says) {
                    Verdict::Unsure
                } else {
                    return None;
                }
            }
            VerdictFrom::Score {
                spam_above,
                ham_below,
            } => {
                if score > *spam_above {
                    Verdict::Spam
                } else if score < *ham_below {
                    Verdict::Ham
                } else {
                    Verdict::Unsure
                }
            }
        };
        Some(Answer { verdict, score })
    }
}

fn is_name(part: Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// What stands for something else in commands, `pid_file` and `[files]`.
pub(super) const SLOTS: [&str; 5] = ["{program}", "{prefix}", "{db}", "{message}", "{files}"];

/// Text in braces that a person may take for a slot.
static SLOT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{[a-z_]+\}").expect("a regular expression"));

/// `text` with its slots filled.
pub(super) fn filled(text: &str, slots: &[(&str, &Path)]) -> String {
    let mut text = text.to_owned();
    for (slot, value) in slots {
        text = text.replace(slot, &value.to_string_lossy());
    }
    text
}

/// A command with slots.
#[derive(Debug)]
pub(super) struct Template {
    words: Vec<String>,
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = Vec::new();
        for (n, part) in text.split('\'').enumerate() {
            if n % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        if words.is_empty() || text.matches('\'').count() % 2 == 1 {
            return Err(format!("not a command: {text:?}"));
        }
        let slots = SLOT.find_iter(text).map(|slot| slot.as_str());
        if let Some(unknown) = slots.into_iter().find(|slot| !SLOTS.contains(slot)) {
            let all = SLOTS.join(", ");
            return Err(format!("there is no slot {unknown}; there are {all}"));
        }
        Ok(Self { words })
    }

    /// The program and its arguments.
    pub(super) fn filled(&self, slots: &[(&str, &Path)]) -> (PathBuf, Vec<OsString>) {
        let words = self.words.iter();
        let mut words = words.map(|word| OsString::from(filled(word, slots)));
        let program = PathBuf::from(words.next().unwrap_or_default());
        (program, words.collect())
    }
}
