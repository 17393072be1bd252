use proptest::prelude::*;

use super::*;
use crate::filter::Answer;

fn record(message: usize, label: Label, score: f64) -> Record {
    let verdict = if score > 0.5 {
        Verdict::Spam
    } else {
        Verdict::Ham
    };
    Record {
        message,
        label,
        answer: Answer { verdict, score },
    }
}

fn records(ham: &[f64], spam: &[f64]) -> Vec<Record> {
    let ham = ham.iter().map(|score| (Label::Ham, *score));
    let spam = spam.iter().map(|score| (Label::Spam, *score));
    ham.chain(spam)
        .enumerate()
        .map(|(n, (label, score))| record(n, label, score))
        .collect()
}

fn measured(ham: &[f64], spam: &[f64]) -> Measures {
    measure(&[&records(ham, spam)], 1)
}

#[track_caller]
fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 5e-4, "{a} is not {b}");
}

#[test]
fn by_hand() {
    // Pairs: 0.6 lies above 0.2 (1), 0.3 above 0.2 (1), 0.2 ties 0.2 (1/2):
    // 2.5 of 4 * 3.
    let m = measured(&[0.6, 0.3, 0.2, 0.1], &[0.9, 0.8, 0.2]);
    close(m.one_minus_roca.unwrap().value, 100.0 * 2.5 / 12.0);
    close(m.hm.unwrap().value, 25.0);
    close(m.sm.unwrap().value, 100.0 / 3.0);
    // Log-odds of (1 + 0.5) / (3 + 0.5) and (1 + 0.5) / (2 + 0.5), averaged.
    let middle = ((1.5f64 / 3.5).ln() + (1.5f64 / 2.5).ln()) / 2.0;
    close(m.lam.unwrap().value, 100.0 / (1.0 + (-middle).exp()));
    // Four ham cannot show a hundredth.
    assert_eq!(m.sm_at_hm, [None, None, None]);
}

#[test]
fn wilson_by_hand() {
    // Wilson's interval for 0 of 10 and 1 of 10, from tables.
    let none = wilson(0.0, 10.0).unwrap();
    close(none.low, 0.0);
    close(none.high, 27.753);
    let one = wilson(1.0, 10.0).unwrap();
    close(one.low, 1.7876);
    close(one.high, 40.4150);
}

#[test]
fn sm_at_hm_counts_ties_against_the_filter() {
    // 100 ham allow one error at 1 %. A threshold below 0.5 would lose two ham
    // that tie; so only the spam above 0.5 is caught.
    let mut ham = vec![0.1; 97];
    ham.extend([0.9, 0.5, 0.5]);
    let m = measured(&ham, &[0.95, 0.7, 0.5, 0.3]);
    close(m.sm_at_hm[2].unwrap().value, 50.0);
    assert_eq!(m.sm_at_hm[1], None);
}

#[test]
fn perfect_reversed_and_constant() {
    let value = |ham: &[f64], spam: &[f64]| measured(ham, spam).one_minus_roca.unwrap().value;
    close(value(&[0.1, 0.2], &[0.3, 0.4]), 0.0);
    close(value(&[0.3, 0.4], &[0.1, 0.2]), 100.0);
    close(value(&[0.3, 0.3], &[0.3, 0.3]), 50.0);
}

#[test]
fn a_missing_class_is_no_figure() {
    let m = measured(&[0.1, 0.2], &[]);
    assert_eq!((m.one_minus_roca, m.sm, m.lam), (None, None, None));
    close(m.hm.unwrap().value, 0.0);
    let last = *learning_curve(&records(&[0.1, 0.9], &[])).last().unwrap();
    assert_eq!(
        (last.hm, last.sm, last.one_minus_roca),
        (Some(50.0), None, None)
    );
    let m = measured(&[], &[]);
    assert_eq!((m.n_ham, m.n_spam), (0, 0));
}

/// Once the interval of one world had no width, as if there were no doubt.
#[test]
fn the_mean_of_one_has_no_interval() {
    let json = |values: &[f64]| serde_json::to_value(mean(values)).unwrap();
    assert_eq!(
        json(&[2.0]),
        serde_json::json!({"value": 2.0, "low": null, "high": null})
    );
    assert_eq!(json(&[])["value"], serde_json::Value::Null);
    let text = |values: &[f64]| crate::report::with_interval(&mean(values));
    assert_eq!(text(&[2.0]), "2.00 (-)");
    assert_eq!(text(&[2.0, 2.0]), "2.00 (2.00-2.00)");
    assert_eq!(text(&[]), "-");
}

#[test]
fn sm_at_hm_has_keys() {
    let measures = serde_json::to_value(measured(&[0.1], &[0.2])).unwrap();
    let keys: Vec<_> = measures["sm_at_hm"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["0.01", "0.1", "1"]);
}

#[test]
fn unsure_is_not_put_away() {
    let unsure = |label| Record {
        answer: Answer {
            verdict: Verdict::Unsure,
            score: 0.5,
        },
        ..record(0, label, 0.5)
    };
    let m = measure(&[&[unsure(Label::Ham), unsure(Label::Spam)]], 1);
    close(m.hm.unwrap().value, 0.0);
    close(m.sm.unwrap().value, 100.0);
    assert!(m.ham_unsure == 1.0 && m.spam_unsure == 1.0);
}

#[test]
fn the_mean_of_two_orders() {
    let one = records(&[0.1, 0.2], &[0.3, 0.4]);
    let other = records(&[0.3, 0.4], &[0.1, 0.2]);
    let m = measure(&[&one, &other], 1);
    close(m.one_minus_roca.unwrap().value, 50.0);
    close(m.ham_lost, 0.0);
}

#[test]
fn a_filter_does_not_differ_from_itself() {
    let run = records(&[0.1, 0.3, 0.5, 0.2], &[0.4, 0.6, 0.3, 0.9]);
    let d = paired_difference(&[&run], &[&run], 1).unwrap();
    assert_eq!(
        (d.one_minus_roca.low, d.one_minus_roca.high, d.p_value),
        (0.0, 0.0, 1.0)
    );
}

#[test]
fn a_clear_difference_is_clear() {
    let spread = |from: f64| {
        (0..60)
            .map(|n| from + f64::from(n) / 100.0)
            .collect::<Vec<_>>()
    };
    let good = records(&spread(0.0), &spread(0.58));
    let bad = records(&spread(0.0), &spread(0.1));
    let d = paired_difference(&[&good], &[&bad], 1).unwrap();
    assert!(d.one_minus_roca.high < 0.0 && d.p_value <= 0.002, "{d:?}");
    let others = records(&[0.1], &[0.2]);
    assert!(paired_difference(&[&good], &[&others], 1).is_none());
}

#[test]
fn the_curve_ends_with_the_whole() {
    let ham: Vec<f64> = (0..150).map(|n| f64::from(n % 7) / 10.0).collect();
    let spam: Vec<f64> = (0..90).map(|n| f64::from(n % 5) / 5.0).collect();
    let run = records(&ham, &spam);
    let curve = learning_curve(&run);
    let counts: Vec<usize> = curve.iter().map(|point| point.n_messages).collect();
    assert_eq!(counts, [50, 100, 200, 240]);
    close(
        curve[3].one_minus_roca.unwrap(),
        measure(&[&run], 1).one_minus_roca.unwrap().value,
    );
}

/// Every pair, one by one.
fn slow_one_minus_roca(ham: &[f64], spam: &[f64]) -> f64 {
    let mut disordered = 0.0;
    for h in ham {
        for s in spam {
            disordered += if h > s {
                1.0
            } else if h == s {
                0.5
            } else {
                0.0
            };
        }
    }
    100.0 * disordered / (ham.len() * spam.len()) as f64
}

/// Every threshold, one by one: spam is what scores above it.
fn slow_sm_at(ham: &[f64], spam: &[f64], hm: f64) -> f64 {
    let above = |scores: &[f64], t: f64| scores.iter().filter(|s| **s > t).count() as f64;
    let thresholds = ham.iter().chain(spam).copied().chain([f64::NEG_INFINITY]);
    let caught = thresholds
        .filter(|t| 100.0 * above(ham, *t) <= hm * ham.len() as f64)
        .map(|t| above(spam, t))
        .fold(0.0, f64::max);
    100.0 - 100.0 * caught / spam.len() as f64
}

fn scores(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    // Few distinct values, so that ties are common.
    proptest::collection::vec((0u8..20).prop_map(|n| f64::from(n) / 20.0), n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn agrees_with_the_slow_versions(ham in scores(100..160), spam in scores(1..60)) {
        let m = measured(&ham, &spam);
        let roca = m.one_minus_roca.unwrap();
        prop_assert!((roca.value - slow_one_minus_roca(&ham, &spam)).abs() < 1e-9);
        prop_assert!(roca.low <= roca.high);
        let sm = m.sm_at_hm[2].unwrap().value;
        prop_assert!((sm - slow_sm_at(&ham, &spam, 1.0)).abs() < 1e-9);
    }
}
