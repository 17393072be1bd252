//! How a filter gets better as it learns.

use classifier::Label;

use super::roc::roc_points;
use crate::filter::Verdict;
use crate::protocol::Record;

/// How a run stood after so many messages.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct CurvePoint {
    /// Messages classified so far.
    pub n_messages: usize,
    /// hm % of the messages since the last point; `None` without ham.
    pub hm: Option<f64>,
    /// sm % of the messages since the last point; `None` without spam.
    pub sm: Option<f64>,
    /// 1-ROCA % of all messages so far; `None` while a class is missing.
    pub one_minus_roca: Option<f64>,
}

/// Points at 50, 100, 200, 500, 1000, ... messages and at the end.
pub fn learning_curve(run: &[Record]) -> Vec<CurvePoint> {
    let mut places: Vec<usize> = (0..)
        .flat_map(|power| [1, 2, 5].map(|digit| 10 * digit * 10usize.pow(power)))
        .skip(2)
        .take_while(|n| *n < run.len())
        .collect();
    places.push(run.len());
    let mut last = 0;
    places
        .into_iter()
        .map(|n_messages| {
            let since = &run[last..n_messages];
            last = n_messages;
            let called_spam = |label: Label| {
                let of: Vec<_> = since.iter().filter(|r| r.label == label).collect();
                let is_called = |r: &&&Record| r.answer.verdict == Verdict::Spam;
                let n_called = of.iter().filter(is_called).count();
                (!of.is_empty()).then(|| 100.0 * n_called as f64 / of.len() as f64)
            };
            let so_far = &run[..n_messages];
            let has = |label| so_far.iter().any(|r| r.label == label);
            CurvePoint {
                n_messages,
                hm: called_spam(Label::Ham),
                sm: called_spam(Label::Spam).map(|called| 100.0 - called),
                one_minus_roca: (has(Label::Ham) && has(Label::Spam))
                    .then(|| area_above(&roc_points(so_far))),
            }
        })
        .collect()
}

/// 1-ROCA % from the points of a curve: trapezes count ties half.
fn area_above(points: &[(f64, f64)]) -> f64 {
    points
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 200.0)
        .sum()
}
