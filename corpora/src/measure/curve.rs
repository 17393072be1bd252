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
    /// hm % of the messages since the last point.
    pub hm: f64,
    /// sm % of the messages since the last point.
    pub sm: f64,
    /// 1-ROCA % of all messages so far.
    pub one_minus_roca: f64,
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
            let share = |label: Label| {
                let of: Vec<_> = since.iter().filter(|r| r.label == label).collect();
                let called_spam = |r: &&&Record| r.answer.verdict == Verdict::Spam;
                let n_spam = of.iter().filter(called_spam).count();
                (
                    100.0 * n_spam as f64 / of.len().max(1) as f64,
                    of.is_empty(),
                )
            };
            let (sm_right, no_spam) = share(Label::Spam);
            CurvePoint {
                n_messages,
                hm: share(Label::Ham).0,
                sm: if no_spam { 0.0 } else { 100.0 - sm_right },
                one_minus_roca: area_above(&roc_points(&run[..n_messages])),
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
