//! The table of what attacks did.

use super::{N_TAUGHT, Outcome};
use crate::measure::Measures;
use crate::report::aligned;

/// Lines for a terminal.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut rows = vec![
        [
            "",
            "",
            "spam missed %",
            "called ham %",
            "1-ROCA %",
            "ham lost %",
        ],
        ["experiment", "filter", "before/attacked/taught", "", "", ""],
    ]
    .into_iter()
    .map(|row| row.map(str::to_owned).to_vec())
    .collect::<Vec<_>>();
    for outcome in outcomes {
        let each = |figure: &dyn Fn(&Measures) -> f64, digits: usize| {
            let all = [
                Some(&outcome.before),
                Some(&outcome.attacked),
                outcome.taught.as_ref(),
            ];
            let all =
                all.map(|m| m.map_or_else(|| "-".into(), |m| format!("{:.digits$}", figure(m))));
            all.join(" / ")
        };
        rows.push(vec![
            outcome.attack.to_owned(),
            outcome.filter.clone(),
            each(&Measures::spam_missed_percent, 1),
            each(&called_ham, 1),
            each(&roca, 3),
            each(&Measures::ham_lost_percent, 2),
        ]);
    }
    format!(
        "of the spam before the attack, under it, and once {N_TAUGHT} attacked messages were reported\n\n{}",
        aligned(&rows)
    )
}

/// Spam that was taken for ham, not even for unsure, per cent.
pub(super) fn called_ham(measures: &Measures) -> f64 {
    let n_spam = measures.n_spam.max(1) as f64;
    100.0 * (measures.spam_missed - measures.spam_unsure) / n_spam
}

pub(super) fn roca(measures: &Measures) -> f64 {
    measures
        .one_minus_roca
        .as_ref()
        .map_or(0.0, |interval| interval.value)
}
