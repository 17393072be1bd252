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
