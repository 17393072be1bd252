//! What the filter says of a message, for each user by the user's own model.
//!
//! The message is turned into features once, however many users it has, and
//! read once more for what speaks for their verdicts. Where some of them have
//! counts of bmf it is read as bmf reads it, once for all of those: their
//! counts, which are read from the disk as the words come, are all of what
//! users taught that is open side by side.

use std::cell::OnceCell;

use classifier::classic::{self, Score};
use classifier::mark::MarkKey;
use classifier::modern::{
    Canonical, Class, Cutoffs, Evidence, Explanation, Params, Reading, Verdict, header_fields,
    probability,
};
use classifier::store::lmdb::Access;
use classifier::store::{ModelStore, TokenLookup};
use tracing::debug;
use trainer::database::Databases;
use trainer::taught::Taught;

use crate::accounts::User;

/// Where users' models are.
pub trait Models: Send + Sync + 'static {
    /// The verdict of each user's model of `message` and its reasons, at most
    /// `n` each way; in place of those the reason why the model cannot be read.
    fn explain(
        &self,
        users: &[String],
        message: &[u8],
        n: usize,
    ) -> Vec<Result<(Verdict, Explanation), String>>;

    /// By which mail is marked that the filter files for a user; `None`: it is
    /// not.
    ///
    /// # Errors
    /// With the reason when it cannot be read.
    fn mark_key(&self, user: &str) -> Result<Option<MarkKey>, String>;
}

/// What the filter says, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// The decision.
    pub class: Class,
    /// The probability that it is spam.
    pub probability: f64,
    /// Above which it is.
    pub required: f64,
    /// What speaks for it most, place and text.
    pub evidence: Vec<Evidence>,
    /// The header field by which `bmfd` knows that the filter filed it, not its
    /// user: a whole line, or nothing.
    pub mark: String,
}

/// How many pieces of evidence each way are kept for `postern why`.
const N_EVIDENCE: usize = 5;

impl Opinion {
    /// The header fields that tell, whole lines.
    pub fn fields(&self) -> String {
        header_fields(self.class, self.probability, self.required)
    }

    /// Whether it is spam.
    pub fn is_spam(&self) -> bool {
        self.class == Class::Spam
    }
}

/// Judges `message` for each of `users`, `None` for one whose filter is off; in
/// place of that the reason why a user's model cannot be read.
pub fn judge(
    message: &[u8],
    users: &[&User],
    models: &dyn Models,
) -> Vec<Result<Option<Opinion>, String>> {
    let asking = users.iter().filter(|user| user.settings.filter);
    let names: Vec<String> = asking.map(|user| user.address.to_string()).collect();
    let explained = models.explain(&names, message, N_EVIDENCE);
    let mut explained = names.iter().zip(explained);
    let digest = OnceCell::new();
    let to_user = |user: &&User| {
        if !user.settings.filter {
            return Ok(None);
        }
        let (name, explained) = explained.next().expect("one for each who asks");
        let mut opinion = opinion(user, explained?);
        if opinion.is_spam() {
            let key = models.mark_key(name)?;
            let digest = digest.get_or_init(|| Canonical::new(message).digest());
            opinion.mark = key.map_or_else(String::new, |key| key.field(digest));
        }
        Ok(Some(opinion))
    };
    users.iter().map(to_user).collect()
}

/// What the model said, as the user's settings have it, without the mark.
fn opinion(user: &User, (verdict, explanation): (Verdict, Explanation)) -> Opinion {
    let required = user
        .settings
        .threshold
        .unwrap_or(probability(verdict.cutoffs.spam));
    let class = match user.settings.threshold {
        // Without ham and spam to compare with there is no probability.
        Some(threshold) if verdict.views != [0.0; 3] => {
            class_above(verdict.class, verdict.probability > threshold)
        }
        _ => verdict.class,
    };
    let Explanation { spam, ham } = explanation;
    Opinion {
        class,
        probability: verdict.probability,
        required,
        evidence: spam.into_iter().chain(ham).collect(),
        mark: String::new(),
    }
}

/// A user's threshold moves only the line to spam.
fn class_above(class: Class, is_above: bool) -> Class {
    match class {
        _ if is_above => Class::Spam,
        Class::Spam => Class::Unsure,
        class => class,
    }
}

/// The host's database, which `bmfd`'s part of the host has open too.
#[derive(Debug)]
pub struct HostModels {
    databases: Databases,
}

impl HostModels {
    /// The models in `databases`.
    pub fn new(databases: Databases) -> Self {
        Self { databases }
    }
}

impl Models for HostModels {
    fn explain(
        &self,
        users: &[String],
        message: &[u8],
        n: usize,
    ) -> Vec<Result<(Verdict, Explanation), String>> {
        let reading = OnceCell::new();
        let read = || {
            debug!("tokenised");
            Reading::new(message)
        };
        let by_model = |model: &dyn ModelStore| {
            model.explain(reading.get_or_init(read), &Params::default(), n)
        };
        let mut counts = Vec::new();
        let ask = |user: &String| -> Result<_, trainer::Error> {
            Ok(match self.databases.taught(user, Access::ReadOnly)? {
                Taught::Memory(model) => Some(by_model(&model)?),
                Taught::Modern(model) => Some(by_model(&model)?),
                Taught::Classic(store) => {
                    counts.push(store);
                    None
                }
            })
        };
        let explained: Vec<_> = users.iter().map(ask).collect();
        let mut scores = by_counts(message, &counts).into_iter();
        let complete = |explained: Result<_, trainer::Error>| match explained? {
            Some(explained) => Ok(explained),
            None => {
                let score = scores.next().expect("one for each store")?;
                Ok(of_score(&score, n))
            }
        };
        let complete = explained.into_iter().map(complete);
        complete
            .map(|explained| explained.map_err(|error: trainer::Error| error.to_string()))
            .collect()
    }

    fn mark_key(&self, user: &str) -> Result<Option<MarkKey>, String> {
        let key = self.databases.mark_key(user);
        key.map_err(|error| error.to_string())
    }
}

/// bmf's own score by each of `stores`.
fn by_counts(message: &[u8], stores: &[impl TokenLookup]) -> Vec<Result<Score, classifier::Error>> {
    if stores.is_empty() {
        return Vec::new();
    }
    debug!(n_users = stores.len(), "read for counts of bmf");
    classic::score_each(message, stores, &classic::Params::bmf())
}

/// The verdict of bmf's score, which knows ham and spam only.
fn of_score(score: &Score, n: usize) -> (Verdict, Explanation) {
    let params = classic::Params::bmf();
    let log_odds = |probability: f64| (probability / (1.0 - probability)).ln();
    let is_spam = score.hits > params.spam_cutoff;
    // The log-odds that the modern engine would call so probable.
    let per_probability = log_odds(probability(1.0));
    let cutoff = log_odds(params.spam_cutoff) / per_probability;
    let verdict = Verdict {
        class: if is_spam { Class::Spam } else { Class::Ham },
        probability: score.hits,
        log_odds: log_odds(score.hits.clamp(f64::EPSILON, 1.0 - f64::EPSILON)),
        views: [score.hits; 3],
        cutoffs: Cutoffs {
            ham: cutoff,
            spam: cutoff,
        },
    };
    let mut evidence: Vec<Evidence> = score
        .evidence
        .iter()
        .map(|one| Evidence {
            place: "text".into(),
            what: String::from_utf8_lossy(one.token.as_bytes()).into_owned(),
            log_odds: log_odds(one.spamicity),
        })
        .collect();
    evidence.sort_by(|a, b| b.log_odds.total_cmp(&a.log_odds));
    let (spam, ham): (Vec<_>, Vec<_>) = evidence.into_iter().partition(|one| one.log_odds > 0.0);
    let mut explanation = Explanation {
        spam,
        ham: ham.into_iter().rev().collect(),
    };
    explanation.spam.truncate(n);
    explanation.ham.truncate(n);
    (verdict, explanation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Address, UserSettings};
    use classifier::Label;
    use classifier::modern::{Act, Keep, Lesson, learn};
    use classifier::store::Durability;

    const SPAM: &[u8] = b"Subject: Cheap watches\n\nBuy cheap watches now, click here\n";
    const HAM: &[u8] = b"Subject: Lunch\n\nShall we meet tomorrow, Anna asks\n";

    fn user(name: &str, threshold: Option<f64>) -> User {
        User {
            address: Address::new(name, "example.org"),
            settings: UserSettings {
                threshold,
                ..UserSettings::default()
            },
        }
    }

    fn models(dir: &std::path::Path) -> HostModels {
        let databases = Databases::new(&dir.join("models"), 1 << 20).unwrap();
        let mut anna = databases
            .open("anna@example.org", Access::ReadWrite)
            .unwrap();
        for n in 0..20 {
            for (mail, label) in [(SPAM, Label::Spam), (HAM, Label::Ham)] {
                let text = [mail, format!("{n}\n").as_bytes()].concat();
                let lesson = Lesson::new(&text, Act::Learn(label));
                learn(
                    &mut anna,
                    &[lesson],
                    1_000,
                    &Keep::default(),
                    Durability::Synced,
                )
                .unwrap();
            }
        }
        HostModels::new(databases)
    }

    #[test]
    fn each_user_has_an_opinion_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let models = models(dir.path());
        let judged = |mail: &[u8], user: User| {
            let opinions = judge(mail, &[&user], &models);
            opinions.into_iter().next().unwrap().unwrap().unwrap()
        };
        let spam = judged(SPAM, user("anna", None));
        assert!(spam.is_spam() && !spam.evidence.is_empty(), "{spam:?}");
        assert!(spam.fields().starts_with("X-Spam-Status: Yes, hits="));
        let key = models.mark_key("anna@example.org").unwrap().unwrap();
        assert_eq!(spam.mark, key.field_of(SPAM));
        let ham = judged(HAM, user("anna", None));
        assert!(!ham.is_spam() && ham.mark.is_empty());
        // Who has learned nothing is sure of nothing.
        assert_eq!(judged(SPAM, user("bob", None)).class, Class::Unsure);
        assert_eq!(judged(SPAM, user("bob", Some(0.1))).class, Class::Unsure);
        // A threshold of one's own.
        assert!(judged(SPAM, user("anna", Some(0.5))).is_spam());
        assert_eq!(
            judged(SPAM, user("anna", Some(0.999_999_9))).class,
            Class::Unsure
        );
        assert!(judged(HAM, user("anna", Some(0.0))).is_spam());
    }
}
