//! The hand-written templates under `corpora/templates`, and the filling of
//! their slots and choices.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::Random;

/// A language file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLanguage {
    language: String,
    charsets: Vec<String>,
    names: String,
    surnames: String,
    cities: String,
    products: String,
    days: String,
    greeting: String,
    closing: String,
    unsubscribe: String,
    forward: String,
    topics: BTreeMap<String, RawTopic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTopic {
    subject: String,
    shared: String,
    ham: String,
    spam: String,
}

pub(super) struct Language {
    /// Two letters, ISO 639-1.
    pub(super) code: String,
    /// In which its mail is written besides UTF-8.
    pub(super) charsets: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) surnames: Vec<String>,
    pub(super) cities: Vec<String>,
    pub(super) products: Vec<String>,
    pub(super) days: Vec<String>,
    pub(super) greeting: Vec<String>,
    pub(super) closing: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
    /// What people write above a spam message that they pass on.
    pub(super) forward: Vec<String>,
    pub(super) topics: Vec<Topic>,
}

/// A subject that genuine mail and its imitation share.
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) subject: Vec<String>,
    pub(super) shared: Vec<String>,
    pub(super) ham: Vec<String>,
    pub(super) spam: Vec<String>,
}

/// What stands in the slots of one message.
#[derive(Clone)]
pub(super) struct Slots {
    pub(super) name: String,
    pub(super) sender: String,
    pub(super) brand: String,
    pub(super) product: String,
    pub(super) city: String,
    pub(super) day: String,
    pub(super) order: String,
    pub(super) amount: String,
    pub(super) days: String,
    pub(super) link: String,
}

/// Languages with how many of a hundred messages are written in each.
pub(super) static LANGUAGES: LazyLock<Vec<(usize, Language)>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .map(|(weight, text)| {
            let raw: RawLanguage =
                toml::from_str(text).expect("the built-in templates are valid TOML");
            (*weight, Language::from(raw))
        })
        .collect()
});

const SOURCES: [(usize, &str); 9] = [
    (30, include_str!("../../templates/en.toml")),
    (12, include_str!("../../templates/de.toml")),
    (10, include_str!("../../templates/fr.toml")),
    (10, include_str!("../../templates/es.toml")),
    (10, include_str!("../../templates/ru.toml")),
    (10, include_str!("../../templates/zh.toml")),
    (8, include_str!("../../templates/ja.toml")),
    (6, include_str!("../../templates/ar.toml")),
    (4, include_str!("../../templates/th.toml")),
];

impl From<RawLanguage> for Language {
    fn from(raw: RawLanguage) -> Self {
        let topic = |(name, topic): (String, RawTopic)| Topic {
            name,
            subject: lines(&topic.subject),
            shared: lines(&topic.shared),
            ham: lines(&topic.ham),
            spam: lines(&topic.spam),
        };
        Self {
            code: raw.language,
            charsets: raw.charsets,
            names: words(&raw.names),
            surnames: words(&raw.surnames),
            cities: words(&raw.cities),
            products: raw.products.split('|').map(str::to_owned).collect(),
            days: words(&raw.days),
            greeting: lines(&raw.greeting),
            closing: lines(&raw.closing),
            unsubscribe: lines(&raw.unsubscribe),
            forward: lines(&raw.forward),
            topics: raw.topics.into_iter().map(topic).collect(),
        }
    }
}

impl Language {
    /// Whether its words are set apart by blanks, so that lines can be filled.
    pub(super) fn has_blanks(&self) -> bool {
        !matches!(self.code.as_str(), "zh" | "ja" | "th")
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `template` with each `[one|another]` decided and each `{slot}` filled.
pub(super) fn fill(template: &str, slots: &Slots, random: &mut Random) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some(at) = rest.find(['[', '{']) {
        out.push_str(&rest[..at]);
        let (open, close) = match rest.as_bytes()[at] {
            b'[' => ('[', ']'),
            _ => ('{', '}'),
        };
        let inner = enclosed(&rest[at..], open, close);
        rest = &rest[at + inner.len() + 2..];
        if open == '[' {
            let choices = alternatives(inner);
            let choice = *random.pick(&choices);
            out.push_str(&fill(choice, slots, random));
        } else {
            out.push_str(slots.value(inner));
        }
    }
    out.push_str(rest);
    out
}

impl Slots {
    fn value(&self, slot: &str) -> &str {
        match slot {
            "name" => &self.name,
            "sender" => &self.sender,
            "brand" => &self.brand,
            "product" => &self.product,
            "city" => &self.city,
            "day" => &self.day,
            "order" => &self.order,
            "amount" => &self.amount,
            "days" => &self.days,
            "link" => &self.link,
            // A unit test fills every template with every choice.
            _ => panic!("the templates know no slot {{{slot}}}"),
        }
    }
}

/// What stands between the bracket that `text` begins with and its partner.
fn enclosed(text: &str, open: char, close: char) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return &text[1..at];
            }
        }
    }
    // The same unit test sees to it that each bracket has its partner.
    panic!("a bracket is not closed in the template {text:?}")
}

/// The parts of `text` between bars that stand in no inner bracket.
fn alternatives(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == '|' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let word = || "x".to_owned();
        Slots {
            name: word(),
            sender: word(),
            brand: word(),
            product: word(),
            city: word(),
            day: word(),
            order: word(),
            amount: word(),
            days: word(),
            link: word(),
        }
    }

    #[test]
    fn fills_slots_and_nested_choices() {
        let mut random = Random::new(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(fill("a [b|c [d|{name}]|]", &slots(), &mut random));
        }
        let seen: Vec<_> = seen.into_iter().collect();
        assert_eq!(seen, ["a ", "a b", "a c d", "a c x"]);
    }

    #[test]
    fn every_template_can_be_filled() {
        let mut random = Random::new(1);
        for (_, language) in LANGUAGES.iter() {
            let common = [
                &language.greeting,
                &language.closing,
                &language.unsubscribe,
                &language.forward,
            ];
            let topics = language
                .topics
                .iter()
                .flat_map(|t| [&t.subject, &t.shared, &t.ham, &t.spam]);
            for text in common.into_iter().chain(topics).flatten() {
                for _ in 0..40 {
                    let filled = fill(text, &slots(), &mut random);
                    assert!(!filled.contains(['[', ']', '{', '}', '|']), "{filled}");
                }
            }
        }
        assert_eq!(
            LANGUAGES.iter().map(|(weight, _)| weight).sum::<usize>(),
            100
        );
    }
}
