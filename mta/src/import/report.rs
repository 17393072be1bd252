//! What became of each file and line of the old host.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// How something of the old host stands on the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It means here what it meant there.
    Carried,
    /// It was carried over, and means something else in a detail.
    Changed,
    /// It was not carried over.
    Left,
    /// Somebody has to do something.
    ToDo,
}

/// One file or line, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What became of it.
    pub outcome: Outcome,
    /// The old host's file.
    pub file: PathBuf,
    /// Its line, counted from 1.
    pub line: Option<usize>,
    /// What stands there, without passwords.
    pub text: String,
    /// Why, and what can be done.
    pub why: String,
}

/// All of it, in the order in which it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// None twice.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Notes what became of a file, or of one of its lines.
    pub fn add(
        &mut self,
        outcome: Outcome,
        file: &Path,
        line: Option<usize>,
        text: impl Into<String>,
        why: impl Into<String>,
    ) {
        let finding = Finding {
            outcome,
            file: file.to_owned(),
            line,
            text: text.into(),
            why: why.into(),
        };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// How many there are of a kind.
    pub fn count(&self, outcome: Outcome) -> usize {
        let of = |finding: &&Finding| finding.outcome == outcome;
        self.findings.iter().filter(of).count()
    }
}

impl Outcome {
    /// All, in the order in which a reader wants them.
    pub const ALL: [Self; 4] = [Self::Left, Self::Changed, Self::ToDo, Self::Carried];

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Carried => "carried over",
            Self::Changed => "changed",
            Self::Left => "left out",
            Self::ToDo => "to do",
        }
    }
}

impl fmt::Display for Finding {
    /// One line; the old host's bytes must not move the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display().to_string().escape_debug())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.text.is_empty() {
            let text = self.text.chars().flat_map(|c| match c.is_control() {
                true => c.escape_default().collect::<Vec<_>>(),
                false => vec![c],
            });
            write!(f, ": {}", text.collect::<String>())?;
        }
        match self.why.is_empty() {
            true => Ok(()),
            false => write!(f, "\n    {}", self.why),
        }
    }
}
