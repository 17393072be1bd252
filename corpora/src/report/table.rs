//! The table on the terminal.

use crate::experiment::{Outcome, Report};
use crate::measure::{HM_POINTS, Interval, Measures, PairedDifference};

use super::{bytes, with_interval};

/// One report as text; lines end in LF.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let n_runs = report.outcomes.first().map_or(0, |o| o.runs.len());
    if let Some(outcome) = report.outcomes.first() {
        let m = &outcome.measures;
        let mean = if n_runs > 1 {
            format!(", mean of {n_runs} orders")
        } else {
            String::new()
        };
        let order = match outcome.runs.iter().all(|run| run.shuffle.is_some()) {
            true => "in random order",
            false => "in order of reception",
        };
        out.push_str(&format!(
            "{}: {} ham, {} spam{mean}; sha256 {}\n{}, {order}; per cent, with 95 % intervals\n\n",
            report.name,
            m.n_ham,
            m.n_spam,
            &report.checksum[..16.min(report.checksum.len())],
            report.protocol,
        ));
    }
    let filters: Vec<(&str, &Measures)> = report
        .outcomes
        .iter()
        .map(|o| (o.filter.as_str(), &o.measures))
        .collect();
    out.push_str(&quality_table(&filters));
    out.push('\n');
    out.push_str(&aligned(&costs(report)));
    if !report.differences.is_empty() {
        out.push('\n');
        for (n, difference) in &report.differences {
            let names = (&report.outcomes[*n].filter, &report.outcomes[0].filter);
            out.push_str(&comparison(names.0, names.1, difference));
        }
    }
    out
}

/// One line on the paired bootstrap of two filters.
pub fn comparison(first: &str, second: &str, difference: &PairedDifference) -> String {
    let d = &difference.one_minus_roca;
    format!(
        "1-ROCA% of {first} minus {second}: {:+.4} ({:+.4} to {:+.4}), paired bootstrap p = {:.3}\n",
        d.value, d.low, d.high, difference.p_value
    )
}

/// Names with their measures.
pub fn quality_table(filters: &[(&str, &Measures)]) -> String {
    let mut head: Vec<String> = ["filter", "hm%", "sm%", "lam%", "1-ROCA%"]
        .map(str::to_owned)
        .into();
    head.extend(HM_POINTS.iter().map(|hm| format!("sm% at hm={hm}%")));
    head.extend(["ham lost", "spam missed", "unsure h/s"].map(str::to_owned));
    let optional = |interval: &Option<Interval>| {
        interval
            .as_ref()
            .map_or_else(|| "-".to_owned(), with_interval)
    };
    let row = |(name, m): &(&str, &Measures)| {
        let mut row = vec![
            (*name).to_owned(),
            optional(&m.hm),
            optional(&m.sm),
            optional(&m.lam),
            optional(&m.one_minus_roca),
        ];
        row.extend(m.sm_at_hm.iter().map(optional));
        let count = |n: f64| format!("{}", (n * 10.0).round() / 10.0);
        row.push(count(m.ham_lost));
        row.push(count(m.spam_missed));
        row.push(format!("{}/{}", count(m.ham_unsure), count(m.spam_unsure)));
        row
    };
    let rows: Vec<_> = std::iter::once(head)
        .chain(filters.iter().map(row))
        .collect();
    aligned(&rows)
}

fn costs(report: &Report) -> Vec<Vec<String>> {
    let head = [
        "filter",
        "classify us/message",
        "train us/message",
        "bytes/message",
        "peak memory",
        "database",
        "failures",
    ];
    let row = |outcome: &Outcome| {
        let cost = &outcome.cost;
        let each = |total: f64, n: u64| format!("{:.0}", total / n.max(1) as f64);
        let footprint = &cost.footprint;
        vec![
            outcome.filter.clone(),
            each(cost.classifying.as_secs_f64() * 1e6, cost.n_classified),
            each(cost.training.as_secs_f64() * 1e6, cost.n_trained),
            each(cost.message_bytes as f64, cost.n_classified),
            footprint
                .peak_memory_bytes
                .map_or_else(|| "-".to_owned(), bytes),
            bytes(footprint.database_bytes),
            footprint.n_failures.to_string(),
        ]
    };
    let head = head.map(str::to_owned).to_vec();
    std::iter::once(head)
        .chain(report.outcomes.iter().map(row))
        .collect()
}

/// First column to the left, the others to the right.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let n_columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..n_columns)
        .map(|i| {
            rows.iter()
                .map(|row| row[i].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let width = widths[i];
            if i == 0 {
                line.push_str(&format!("{cell:<width$}"));
            } else {
                line.push_str(&format!("  {cell:>width$}"));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
