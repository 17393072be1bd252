//! What an attacker knows of his victim.

use std::collections::{BTreeMap, BTreeSet};

use classifier::Label;
use mail_parser::MessageParser;

use crate::Message;
use crate::filter::Filter;

/// What an attacker knows: the user's mail, and what the filter made of it.
pub(super) struct Knowledge {
    /// The [`N_HAMMY`] words that speak most strongly for ham.
    pub(super) hammy: Vec<String>,
    /// All words of the user's mail.
    pub(super) words: Vec<String>,
    /// What the user's ham says.
    pub(super) ham: Vec<String>,
}

const N_HAMMY: usize = 100;

impl Knowledge {
    pub(super) fn gather(learned: &[&Message], filter: &mut dyn Filter) -> Self {
        let mut words: BTreeMap<String, Counts> = BTreeMap::new();
        let mut ham = Vec::new();
        let mut n = Counts::default();
        for message in learned {
            let text = text(&message.bytes);
            let distinct: BTreeSet<&str> = text.split_whitespace().filter(is_word).collect();
            for word in distinct {
                words
                    .entry(word.to_owned())
                    .or_default()
                    .count(message.label);
            }
            n.count(message.label);
            if message.label == Label::Ham && text.len() > 100 {
                ham.push(text);
            }
        }
        let mut hammy = filter.hammiest(learned);
        if hammy.is_empty() {
            hammy = by_counts(&words, &n);
        }
        hammy.truncate(N_HAMMY);
        Self {
            hammy,
            words: words.into_keys().collect(),
            ham,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    ham: u32,
    spam: u32,
}

impl Counts {
    fn count(&mut self, label: Label) {
        match label {
            Label::Ham => self.ham += 1,
            Label::Spam => self.spam += 1,
        }
    }
}

/// The words that are most frequent in ham against spam.
fn by_counts(words: &BTreeMap<String, Counts>, n: &Counts) -> Vec<String> {
    let share = |count: u32, n: u32| (f64::from(count) + 0.5) / (f64::from(n) + 1.0);
    let mut ranked: Vec<(f64, &String)> = words
        .iter()
        .map(|(word, c)| ((share(c.ham, n.ham) / share(c.spam, n.spam)).ln(), word))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    ranked.into_iter().map(|(_, word)| word.clone()).collect()
}

fn is_word(word: &&str) -> bool {
    (3..=40).contains(&word.len()) && word.chars().all(char::is_alphanumeric)
}

/// What a message says, as its reader sees it.
pub(super) fn text(raw: &[u8]) -> String {
    let parsed = MessageParser::new().parse(raw);
    let text = parsed.as_ref().and_then(|message| message.body_text(0));
    text.unwrap_or_default().into_owned()
}
