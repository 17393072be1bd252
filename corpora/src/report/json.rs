//! Figures as JSON: one object a line, each with its `type` and the version
//! of this form.

use serde_json::{Value, json};

use crate::experiment::{Outcome, Report};
use crate::measure::learning_curve;

/// Raised when a field changes its meaning or goes away.
pub(crate) const VERSION: u32 = 2;

/// How it came about, in the words of the options of `bmfeval run`.
fn protocol(report: &Report, outcome: &Outcome) -> Value {
    let protocol = &report.protocol;
    let shuffles: Vec<_> = outcome.runs.iter().map(|run| run.shuffle).collect();
    json!({
        "feedback": protocol.feedback.to_string(),
        "own_verdicts": protocol.own_verdicts_used().map(|rule| rule.to_string()),
        "wrong_percent": protocol.wrong_percent,
        "corrected_after": protocol.corrected_after,
        "seed": protocol.seed,
        "shuffles": shuffles,
    })
}

/// A line `measures` for each filter, then a line `difference` for each
/// filter but the first.
pub fn json_lines(report: &Report) -> Vec<Value> {
    let mut lines: Vec<Value> = report
        .outcomes
        .iter()
        .map(|outcome| {
            let cost = &outcome.cost;
            let per = |total: f64, n: u64| total * 1e6 / n.max(1) as f64;
            json!({
                "type": "measures",
                "version": VERSION,
                "collection": report.name,
                "sha256": report.checksum,
                "protocol": protocol(report, outcome),
                "filter": outcome.filter,
                "n_orders": outcome.runs.len(),
                "measures": outcome.measures,
                "learning_curve": outcome.runs.first().map(|run| learning_curve(&run.records)),
                "cost": {
                    "classify_us": per(cost.classifying.as_secs_f64(), cost.n_classified),
                    "train_us": per(cost.training.as_secs_f64(), cost.n_trained),
                    "message_bytes": cost.message_bytes / cost.n_classified.max(1),
                    "n_classified": cost.n_classified,
                    "n_trained": cost.n_trained,
                    "peak_memory_bytes": cost.footprint.peak_memory_bytes,
                    "database_bytes": cost.footprint.database_bytes,
                    "n_failures": cost.footprint.n_failures,
                },
            })
        })
        .collect();
    lines.extend(report.differences.iter().map(|(n, difference)| {
        json!({
            "type": "difference",
            "version": VERSION,
            "collection": report.name,
            "first": report.outcomes[*n].filter,
            "second": report.outcomes[0].filter,
            "one_minus_roca": difference.one_minus_roca,
            "p_value": difference.p_value,
        })
    }));
    lines
}
