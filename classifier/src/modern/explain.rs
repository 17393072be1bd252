//! The evidence behind a verdict, in words.

use std::collections::{HashMap, HashSet};

use super::features::{Origin, visit};
use super::model::{Slot, Weights, worth};
use super::{View, features};

/// Something that stood in the message and spoke for one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Where it stood: "header", "text", "subject", "link", or the name of a
    /// header field in lower case.
    pub place: String,
    /// The word, the pair of words, or the piece of
    /// text as it was read.
    pub what: String,
    /// What it adds to the log-odds: positive speaks for spam.
    pub log_odds: f64,
}

/// The strongest evidence each way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// For spam, strongest first.
    pub spam: Vec<Evidence>,
    /// For ham, strongest first.
    pub ham: Vec<Evidence>,
}

/// The `n` strongest pieces of evidence each way. Grams are summed up over
/// the blank-separated piece of text that they begin in, so the reader sees
/// words, not fragments.
/// Cost: some milliseconds, only paid when somebody asks.
pub fn explain(raw: &[u8], weights: &impl Weights, n: usize) -> Explanation {
    let worth = worth(&features(raw), weights);
    let mut sums: HashMap<(String, String), f64> = HashMap::new();
    let mut seen = HashSet::new();
    visit(raw, |view, hash, origin| {
        if !seen.insert((view as usize, hash)) {
            return;
        }
        let weight = Slot::new(hash).weight(weights) * worth[view as usize];
        if weight != 0.0 {
            *sums.entry(name(view, origin)).or_default() += f64::from(weight);
        }
    });
    let mut all: Vec<Evidence> = sums
        .into_iter()
        .map(|((place, what), log_odds)| Evidence {
            place,
            what,
            log_odds,
        })
        .collect();
    all.sort_by(|a, b| {
        (b.log_odds.total_cmp(&a.log_odds))
            .then_with(|| (&a.place, &a.what).cmp(&(&b.place, &b.what)))
    });
    let spam = all.iter().take_while(|e| e.log_odds > 0.0).take(n);
    let ham = all.iter().rev().take_while(|e| e.log_odds < 0.0).take(n);
    Explanation {
        spam: spam.cloned().collect(),
        ham: ham.cloned().collect(),
    }
}

fn name(view: View, origin: Origin<'_>) -> (String, String) {
    let (place, what) = match origin {
        Origin::Word { place, word } => (place, word.to_owned()),
        Origin::Pair { first, second } => ("text", format!("{first} {second}")),
        Origin::Gram { text, at } => {
            let place = if view == View::HeaderGrams {
                "header"
            } else {
                "text"
            };
            (place, piece(text, at))
        }
    };
    (place.to_owned(), what)
}

/// The blank-separated piece of `text` around `at`, at most 40 bytes of it.
fn piece(text: &[u8], at: usize) -> String {
    const MAX_BYTES: usize = 40;
    let at = at
        + text[at..]
            .iter()
            .take(4)
            .take_while(|b| b.is_ascii_whitespace())
            .count();
    let before = &text[at.saturating_sub(MAX_BYTES)..at];
    let start = at
        - before
            .iter()
            .rev()
            .take_while(|b| !b.is_ascii_whitespace())
            .count();
    let rest = &text[start..text.len().min(start + MAX_BYTES)];
    let len = rest.iter().take_while(|b| !b.is_ascii_whitespace()).count();
    String::from_utf8_lossy(&rest[..len]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Label;
    use crate::modern::{Model, Params, Record, score};

    #[test]
    fn the_evidence_is_readable_and_adds_up() {
        let mut model = Model::default();
        let spam = b"From: a@shop.example\nSubject: Offer\n\nCheap watches today\n";
        let ham = b"From: b@work.example\nSubject: Plan\n\nMeeting moved to noon\n";
        for (raw, label) in [(&spam[..], Label::Spam), (&ham[..], Label::Ham)] {
            model.add(&mut Record::new(&features(raw), label, &model));
        }
        let explanation = explain(spam, &model, 1_000);
        let has = |place: &str, what: &str| {
            explanation
                .spam
                .iter()
                .any(|e| e.place == place && e.what == what)
        };
        assert!(
            has("text", "watches") && has("subject", "offer"),
            "{explanation:?}"
        );
        assert!(has("text", "cheap watches") && has("from", "shop.example"));
        let sum: f64 = explanation
            .spam
            .iter()
            .chain(&explanation.ham)
            .map(|e| e.log_odds)
            .sum();
        let verdict = score(&features(spam), &model, &Params::default());
        assert!((sum - verdict.log_odds).abs() < 1e-3, "{sum} {verdict:?}");
    }

    #[test]
    fn a_new_model_has_nothing_to_say() {
        let explanation = explain(b"Subject: a\n\nb c d\n", &Model::default(), 10);
        assert_eq!(explanation, Explanation::default());
    }
}
