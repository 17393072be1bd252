//! bmf's score: the product of the most telling tokens.

use crate::store::TokenLookup;
use crate::{Error, MessageTokens, Token, TokenCounts, TrainedMessages};

use super::message_words;

/// The constants of the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// How many tokens decide: bmf's `-k`, its "extrema" or "keepers".
    pub n_extrema: usize,
    /// Spam when the score is above this.
    pub spam_cutoff: f64,
    /// A token that was registered less often says nothing.
    pub min_occurrences: u64,
    /// Spamicity of a token that says nothing.
    pub unknown_spamicity: f64,
    /// Least spamicity of a known token; 1 minus this is the greatest.
    pub min_spamicity: f64,
}

impl Params {
    /// Most tokens that may decide: each candidate is compared with all.
    pub const MAX_EXTREMA: usize = 65_536;

    /// The constants of bmf 0.9.4, which are those of Graham's "A Plan for
    /// Spam" (2002), but for the good list, which bmf does not count double.
    pub fn bmf() -> Self {
        Self {
            n_extrema: 15,
            spam_cutoff: 0.9,
            min_occurrences: 5,
            unknown_spamicity: 0.4,
            min_spamicity: 0.01,
        }
    }
}

/// Probability in `0.0..=1.0` that a message with this token is spam.
/// Source: Graham (2002), "A Plan for Spam". Counts are occurrences, at most
/// four a message; messages are divisors.
pub fn token_spamicity(counts: TokenCounts, trained: TrainedMessages, params: &Params) -> f64 {
    if u64::from(counts.ham) + u64::from(counts.spam) < params.min_occurrences {
        return params.unknown_spamicity;
    }
    let frequency = |count: u32, messages: u32| match messages {
        0 => 0.0,
        _ => (f64::from(count) / f64::from(messages)).min(1.0),
    };
    let ham = frequency(counts.ham, trained.ham);
    let spam = frequency(counts.spam, trained.spam);
    let spamicity = spam / (ham + spam);
    // 0 / 0, where neither class was trained: bmf's comparisons let NaN pass.
    spamicity.clamp(params.min_spamicity, 1.0 - params.min_spamicity)
}

/// A token that took part in a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The token.
    pub token: Token,
    /// Its spamicity, within `0.01..=0.99`.
    pub spamicity: f64,
    /// The counts that made it.
    pub counts: TokenCounts,
}

/// A message's score with what made it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// bmf's `hits`: 0.0 is surely ham, 1.0 surely spam.
    pub hits: f64,
    /// The tokens that decided, at most [`Params::n_extrema`], in the order in
    /// which bmf prints and multiplies them.
    pub evidence: Vec<Evidence>,
}

/// Scores one message, which is not changed by anything and changes nothing.
///
/// Looks each batch of words up in `store` at once; memory is bounded whatever
/// the length of `message`.
///
/// # Errors
/// When `store` cannot be read.
pub fn score(
    message: &[u8],
    store: &(impl TokenLookup + ?Sized),
    params: &Params,
) -> Result<Score, Error> {
    Scorer::default().score(message, store, params)
}

/// The memory that scoring needs, to be used again for the next message.
#[derive(Debug, Default)]
pub struct Scorer {
    batch: Batch,
    counts: Vec<TokenCounts>,
    spamicities: Vec<f64>,
}

impl Scorer {
    /// As [`score`], without new allocations from the second message on.
    ///
    /// # Errors
    /// When `store` cannot be read.
    pub fn score(
        &mut self,
        message: &[u8],
        store: &(impl TokenLookup + ?Sized),
        params: &Params,
    ) -> Result<Score, Error> {
        let mut extrema = Extrema::new(params.n_extrema);
        let mut words = message_words(message);
        while self.batch.fill(&mut words) {
            let tokens = self.batch.distinct.tokens();
            let trained = store.lookup(tokens, &mut self.counts)?;
            self.spamicities.clear();
            self.spamicities.extend(
                self.counts
                    .iter()
                    .map(|counts| token_spamicity(*counts, trained, params)),
            );
            for &n in &self.batch.occurrences {
                let n = n as usize;
                extrema.offer(tokens[n], self.spamicities[n], self.counts[n]);
            }
        }
        Ok(extrema.score())
    }
}

/// A bounded run of a message's words, each distinct one looked up once.
#[derive(Debug, Default)]
struct Batch {
    distinct: MessageTokens,
    /// Indexes into the tokens of `distinct`, in message order.
    occurrences: Vec<u32>,
}

impl Batch {
    /// Long enough for nearly all mail to need one look-up, short enough to
    /// stay below 2 MiB.
    const MAX_WORDS: usize = 16_384;

    /// Whether anything was left to fill with.
    fn fill<'a>(&mut self, words: &mut impl Iterator<Item = &'a [u8]>) -> bool {
        self.distinct.clear();
        self.occurrences.clear();
        for token in words.filter_map(Token::new).take(Self::MAX_WORDS) {
            self.occurrences.extend(self.distinct.push(token));
        }
        !self.occurrences.is_empty()
    }
}

/// bmf's slots for the tokens that decide.
struct Extrema {
    /// `None` is bmf's empty slot, of spamicity 0.5.
    slots: Vec<Option<Evidence>>,
    /// Least deviation of all slots: most tokens need no second look.
    least: f64,
}

impl Extrema {
    fn new(n: usize) -> Self {
        Self {
            slots: vec![None; n],
            least: 0.0,
        }
    }

    fn offer(&mut self, token: Token, spamicity: f64, counts: TokenCounts) {
        let offered = (spamicity - 0.5).abs();
        if offered <= self.least || self.slots.iter().flatten().any(|e| e.token == token) {
            return;
        }
        // bmf compat: of the weaker slots the last one, not the weakest.
        if let Some(slot) = self.slots.iter_mut().rfind(|s| deviation(s) < offered) {
            *slot = Some(Evidence {
                token,
                spamicity,
                counts,
            });
            self.least = self.slots.iter().map(deviation).fold(0.5, f64::min);
        }
    }

    fn score(self) -> Score {
        let spamicities = self
            .slots
            .iter()
            .map(|slot| slot.map_or(0.5, |evidence| evidence.spamicity));
        Score {
            hits: combine(spamicities),
            evidence: self.slots.into_iter().flatten().collect(),
        }
    }
}

fn deviation(slot: &Option<Evidence>) -> f64 {
    slot.map_or(0.0, |e| (e.spamicity - 0.5).abs())
}

/// Graham's combination: Πp / (Πp + Π(1−p)), multiplied in the order given.
fn combine(spamicities: impl Iterator<Item = f64> + Clone) -> f64 {
    let spam: f64 = spamicities.clone().product();
    let ham: f64 = spamicities.clone().map(|p| 1.0 - p).product();
    if spam + ham > 0.0 {
        return spam / (spam + ham);
    }
    // Deviation: with hundreds of extrema both products underflow, and bmf
    // prints `-nan`. The same value by way of logarithms.
    let log_odds: f64 = spamicities.map(|p| (1.0 - p).ln() - p.ln()).sum();
    1.0 / (1.0 + log_odds.exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, Entry, Memory, TokenStore};

    /// The values are those of Debian's bmf 0.9.4-13.
    #[test]
    fn the_constants_are_those_of_bmf() {
        let params = Params::bmf();
        assert_eq!(params.n_extrema, 15);
        assert_eq!(params.spam_cutoff, 0.9);
        assert_eq!(params.min_occurrences, 5);
        assert_eq!(params.unknown_spamicity, 0.4);
        assert_eq!(
            (params.min_spamicity, 1.0 - params.min_spamicity),
            (0.01, 0.99)
        );
    }

    #[test]
    fn spamicity_of_a_token() {
        let trained = TrainedMessages { ham: 10, spam: 20 };
        for (ham, spam, expected) in [
            (0, 0, 0.4),
            (2, 2, 0.4),
            (5, 0, 0.01),
            (0, 5, 0.99),
            (5, 5, 0.25 / 0.75),
            // More occurrences than messages count as one in each.
            (40, 80, 0.5),
        ] {
            let counts = TokenCounts { ham, spam };
            let spamicity = token_spamicity(counts, trained, &Params::bmf());
            assert_eq!(spamicity, expected, "of {counts:?}");
        }
    }

    #[test]
    fn tokens_of_a_class_without_messages_say_nothing() {
        let counts = TokenCounts { ham: 5, spam: 5 };
        let spamicity = token_spamicity(counts, TrainedMessages::default(), &Params::bmf());
        let mut extrema = Extrema::new(1);
        extrema.offer(Token::new(b"token").unwrap(), spamicity, counts);
        assert!(extrema.score().evidence.is_empty());
    }

    fn evidence(n_extrema: usize, offered: &[(&str, f64)]) -> Vec<(String, f64)> {
        let mut extrema = Extrema::new(n_extrema);
        for (word, spamicity) in offered {
            let token = Token::new(word.as_bytes()).unwrap();
            extrema.offer(token, *spamicity, TokenCounts::default());
        }
        let evidence = extrema.score().evidence.into_iter();
        evidence
            .map(|e| {
                (
                    String::from_utf8_lossy(e.token.as_bytes()).into(),
                    e.spamicity,
                )
            })
            .collect()
    }

    #[test]
    fn the_last_weaker_slot_is_overwritten() {
        let offered = [
            ("one", 0.8),
            ("two", 0.6),
            ("six", 0.7),
            ("ten", 0.99),
            ("two", 0.6),
        ];
        // From the last slot on, and `ten` takes the place of `one`, not of `two`.
        let expected = [("two".into(), 0.6), ("ten".into(), 0.99)];
        assert_eq!(evidence(2, &[offered[0], offered[1], offered[3]]), expected);
        assert_eq!(evidence(0, &offered), []);
    }

    #[test]
    fn a_token_may_come_back() {
        let offered = [("one", 0.2), ("two", 0.1), ("one", 0.2)];
        assert_eq!(evidence(1, &offered), [("two".into(), 0.1)]);
        assert_eq!(
            evidence(2, &[("one", 0.2), ("one", 0.2)]),
            [("one".into(), 0.2)]
        );
    }

    #[test]
    fn hundreds_of_extrema_give_a_number() {
        assert_eq!(combine([0.5; 2_000].into_iter()), 0.5);
        assert!(combine([0.99; 2_000].into_iter()) > 0.999);
        assert!(combine([0.01; 2_000].into_iter()) < 0.001);
    }

    #[test]
    fn a_long_message_is_scored_in_batches() {
        let mut store = Memory::default();
        let entry = |token| Entry {
            token,
            ham: Some(0),
            spam: Some(9),
        };
        let trained = TrainedMessages { ham: 9, spam: 9 };
        let mut entries = [entry(b"late".as_slice())].into_iter();
        store.replace(trained, &mut entries).unwrap();
        store
            .apply(&crate::Changes::default(), Durability::Synced)
            .unwrap();
        let mut message = b"first ".repeat(2 * Batch::MAX_WORDS);
        message.extend(b"late ");
        let score = score(&message, &store, &Params::bmf()).unwrap();
        // `first` held the last slot, and gave it to the stronger `late`.
        assert_eq!(score.evidence.len(), 1);
        assert_eq!(score.evidence[0].token.as_bytes(), b"late");
    }
}
