//! What came of attacks once, kept in a file so that a filter that gets worse
//! is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Outcome;
use super::table::{called_ham, roca};
use crate::Error;

/// Figures by attack.
pub type Expectations = BTreeMap<String, Expected>;

/// The figures of one attack, per cent: under it, and after some were taught.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Spam not called spam.
    pub missed: f64,
    /// Spam called ham.
    pub called_ham: f64,
    /// 1 minus the area under the ROC curve.
    pub one_minus_roca: f64,
    /// Ham called spam.
    pub ham_lost: f64,
    /// Spam not called spam once some of its kind were reported.
    pub missed_once_taught: Option<f64>,
}

impl Expected {
    /// What came out.
    pub fn of(outcome: &Outcome) -> Self {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        Self {
            missed: rounded(outcome.attacked.spam_missed_percent()),
            called_ham: rounded(called_ham(&outcome.attacked)),
            one_minus_roca: rounded(roca(&outcome.attacked)),
            ham_lost: rounded(outcome.attacked.ham_lost_percent()),
            missed_once_taught: outcome
                .taught
                .as_ref()
                .map(|taught| rounded(taught.spam_missed_percent())),
        }
    }
}

/// Reads a file that [`write()`] made.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read(path: &Path) -> Result<Expectations, Error> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    toml::from_str(&text).map_err(|error| Error::Expectations {
        path: path.into(),
        detail: error.to_string(),
    })
}

/// Writes what came of each attack.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, outcomes: &[Outcome]) -> Result<(), Error> {
    let mut text = String::from(
        "# Per cent, written by `bmfeval attack --record`; read by `bmfeval attack --expect`.\n",
    );
    for outcome in outcomes {
        let expected = Expected::of(outcome);
        text.push_str(&format!(
            "\n[{}]\nmissed = {:?}\ncalled_ham = {:?}\none_minus_roca = {:?}\nham_lost = {:?}\n",
            outcome.attack,
            expected.missed,
            expected.called_ham,
            expected.one_minus_roca,
            expected.ham_lost,
        ));
        if let Some(missed) = expected.missed_once_taught {
            text.push_str(&format!("missed_once_taught = {missed:?}\n"));
        }
    }
    fs::write(path, text).map_err(Error::io("write", path))
}

/// A line for each figure of `outcomes` that is worse than it was by more
/// than a fifth and what a few messages make, and for each attack of which
/// nothing is known.
pub fn regressions(outcomes: &[Outcome], expectations: &Expectations) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        let name = outcome.attack;
        let Some(was) = expectations.get(name) else {
            lines.push(format!("{name}: nothing is expected of it"));
            continue;
        };
        let is = Expected::of(outcome);
        let taught = |e: &Expected| e.missed_once_taught.unwrap_or(0.0);
        for (what, is, was, slack) in [
            ("spam missed", is.missed, was.missed, 1.0),
            ("spam called ham", is.called_ham, was.called_ham, 1.0),
            ("1-ROCA", is.one_minus_roca, was.one_minus_roca, 0.05),
            ("ham lost", is.ham_lost, was.ham_lost, 0.4),
            ("spam missed once taught", taught(&is), taught(was), 1.0),
        ] {
            if is > was * 1.2 + slack {
                lines.push(format!("{name}: {what} is {is:.3} %, was {was:.3} %"));
            }
        }
    }
    lines
}
