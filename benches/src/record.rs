//! What was measured: tables for people, CSV for whoever wants to compute
//! other things from it, and the goals that numbers are held against.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::statistics::{Estimate, median, ratio};

/// Values of one quantity, in the order in which they were measured.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) workload: &'static str,
    pub(crate) contender: &'static str,
    pub(crate) quantity: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
}

/// A bound that the project set itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// The value, or the contender's time as a part of the peer's.
    AtMost(f64),
    /// The value, or the peer's time as a multiple of the contender's.
    AtLeast(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {}", figure(*bound)),
            Self::AtLeast(bound) => write!(f, "at least {}", figure(*bound)),
        }
    }
}

/// Holds a median, or the ratio of two, against a bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) workload: &'static str,
    pub(crate) quantity: &'static str,
    pub(crate) contender: &'static str,
    /// `None`: the value itself is bounded.
    pub(crate) peer: Option<&'static str>,
    /// `None`: a comparison without a goal.
    pub(crate) bound: Option<Bound>,
}

/// All that one run of the benches measured.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Date, machine, versions, command, mail.
    facts: Vec<(&'static str, String)>,
    series: Vec<Series>,
    goals: Vec<Goal>,
}

impl Record {
    pub(crate) fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push((name, value.into()));
    }

    /// Whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn add(&mut self, series: Series) {
        self.series.push(series);
    }

    pub(crate) fn goal(&mut self, goal: Goal) {
        self.goals.push(goal);
    }

    /// Compares both times of `contender` with those of `peer`; the bound
    /// holds for the time on the clock.
    pub(crate) fn compare(
        &mut self,
        workload: &'static str,
        contender: &'static str,
        peer: &'static str,
        bound: Option<Bound>,
    ) {
        for (quantity, bound) in [("time", bound), ("CPU time", None)] {
            self.goal(Goal {
                workload,
                quantity,
                contender,
                peer: Some(peer),
                bound,
            });
        }
    }

    /// One line for each value, below the facts.
    pub(crate) fn csv(&self) -> String {
        let mut csv = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(csv, "# {name}: {value}");
        }
        csv.push_str("workload,contender,quantity,unit,round,value\n");
        for s in &self.series {
            for (round, value) in s.values.iter().enumerate() {
                let _ = writeln!(
                    csv,
                    "{},{},{},{},{round},{value:.4}",
                    s.workload, s.contender, s.quantity, s.unit
                );
            }
        }
        csv
    }

    /// The facts and two tables: what was measured, and the goals.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let header = [
            "workload",
            "contender",
            "quantity",
            "median",
            "quartiles",
            "runs",
        ];
        let rows = self.series.iter().map(|s| {
            let Estimate { value, low, high } = median(&s.values);
            [
                s.workload.to_owned(),
                s.contender.to_owned(),
                s.quantity.to_owned(),
                format!("{} {}", figure(value), s.unit),
                format!("{} to {}", figure(low), figure(high)),
                s.values.len().to_string(),
            ]
        });
        text.push_str(&table(header, rows.collect()));
        let header = ["workload", "what", "value", "95 % interval", "goal", "met"];
        let rows = self.goals.iter().filter_map(|goal| self.judge(goal));
        text.push_str(&table(header, rows.collect()));
        text
    }

    /// `None` where it was not measured in this run.
    fn judge(&self, goal: &Goal) -> Option<[String; 6]> {
        let find = |contender| {
            self.series.iter().find(|s| {
                (s.workload, s.quantity, s.contender) == (goal.workload, goal.quantity, contender)
            })
        };
        let ours = find(goal.contender)?;
        let quantity = goal.quantity;
        let (what, estimate, unit) = match goal.peer {
            None => {
                let what = format!("{quantity} of {}", ours.contender);
                (what, median(&ours.values), ours.unit)
            }
            Some(peer) => {
                let peer = find(peer)?;
                let (above, below) = match goal.bound {
                    Some(Bound::AtLeast(_)) => (peer, ours),
                    _ => (ours, peer),
                };
                let what = format!("{quantity}: {} / {}", above.contender, below.contender);
                (what, ratio(&above.values, &below.values), "")
            }
        };
        let met = match goal.bound {
            None => "",
            Some(Bound::AtMost(bound)) if estimate.value <= bound => "yes",
            Some(Bound::AtLeast(bound)) if estimate.value >= bound => "yes",
            Some(_) => "no",
        };
        let interval = match goal.peer {
            None => String::new(),
            Some(_) => format!("{} to {}", figure(estimate.low), figure(estimate.high)),
        };
        Some([
            goal.workload.to_owned(),
            what,
            format!("{} {unit}", figure(estimate.value))
                .trim()
                .to_owned(),
            interval,
            goal.bound.map_or(String::new(), |bound| bound.to_string()),
            met.to_owned(),
        ])
    }

    /// Writes `STEM.csv` and `STEM.md`.
    pub(crate) fn save(&self, stem: &Path, title: &str) -> anyhow::Result<()> {
        fs::write(stem.with_extension("csv"), self.csv())?;
        fs::write(
            stem.with_extension("md"),
            format!("# {title}\n\n{}", self.markdown()),
        )?;
        Ok(())
    }
}

/// Three significant digits, or a whole number as it is.
fn figure(value: f64) -> String {
    match value {
        v if v.fract() == 0.0 => format!("{v}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// A Markdown table that can also be read on a terminal.
fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let header = header.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|n| {
        let cells = rows.iter().chain([&header]).map(|row| row[n].len());
        cells.max().unwrap_or(0)
    });
    let rule = widths.map(|width| "-".repeat(width));
    let mut text = String::from("\n");
    for row in [&header, &rule].into_iter().chain(&rows) {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
    }
    text
}

/// First line that a command prints, for the facts.
pub(crate) fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout);
    let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_held_against_its_bound() {
        let series = |contender, value| Series {
            workload: "w",
            contender,
            quantity: "time",
            unit: "ms",
            values: vec![value; 5],
        };
        let mut record = Record::default();
        record.add(series("ours", 2.0));
        record.add(series("theirs", 8.0));
        let check = |bound, value: &str, met: &str| {
            let goal = Goal {
                workload: "w",
                quantity: "time",
                contender: "ours",
                peer: Some("theirs"),
                bound: Some(bound),
            };
            let row = record.judge(&goal).unwrap();
            assert_eq!((row[2].as_str(), row[5].as_str()), (value, met));
        };
        check(Bound::AtMost(0.25), "0.250", "yes");
        check(Bound::AtMost(0.2), "0.250", "no");
        check(Bound::AtLeast(4.0), "4", "yes");
        check(Bound::AtLeast(20.0), "4", "no");
    }

    #[test]
    fn a_table_is_aligned() {
        let rows = vec![["long cell".to_owned(), "1".to_owned()]];
        let expected = "\n| a         | b |\n| --------- | - |\n| long cell | 1 |\n";
        assert_eq!(table(["a", "b"], rows), expected);
    }
}
