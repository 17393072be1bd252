//! bmf's score: the product of the most telling tokens.

mod several;

use std::mem;

pub use several::score_each;

use super::known::Known;
use super::words_as_tokens;
use crate::store::TokenLookup;
use crate::{Error, Token, TokenCounts, TrainedMessages};

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
    known: Known,
    /// The words that are at work, by number, in message order.
    occurrences: Vec<u32>,
}

impl Scorer {
    /// Long enough for nearly all mail to need one look-up.
    const MAX_WORDS: usize = 16_384;

    /// Known tokens above which all are forgotten: little work for a run, since
    /// those that matter are soon known again, and with a batch of words on
    /// top less than 4 MiB.
    const MAX_KNOWN: usize = 16_384;

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
        self.known.forget();
        self.score_next(message, store, params)
    }

    /// As [`Self::score`], for the next message of a run on the same store:
    /// does not look up again what it looked up for earlier messages, until
    /// the store's message counts have changed. Whoever changes token counts
    /// alone calls `score`.
    ///
    /// # Errors
    /// When `store` cannot be read.
    pub fn score_next(
        &mut self,
        message: &[u8],
        store: &(impl TokenLookup + ?Sized),
        params: &Params,
    ) -> Result<Score, Error> {
        let mut extrema = Extrema::new(params.n_extrema);
        let mut words = words_as_tokens(message);
        while self.fill(&mut words) {
            self.offer_to(&mut extrema, store, params)?;
        }
        Ok(extrema.score())
    }

    /// Looks the words at work up and offers them.
    #[inline]
    fn offer_to(
        &mut self,
        extrema: &mut Extrema,
        store: &(impl TokenLookup + ?Sized),
        params: &Params,
    ) -> Result<(), Error> {
        loop {
            extrema.find_in(&mut self.known);
            if self.known.look_up(store, params)? {
                break;
            }
            self.begin_anew();
        }
        extrema.mark(&mut self.known, true);
        for &number in &self.occurrences {
            extrema.offer(number, &mut self.known);
        }
        extrema.mark(&mut self.known, false);
        Ok(())
    }

    /// Takes the next words of the message. Whether there are any.
    fn fill(&mut self, words: &mut impl Iterator<Item = Token>) -> bool {
        if self.known.len() > Self::MAX_KNOWN {
            self.known.forget();
        }
        self.occurrences.clear();
        let words = words.take(Self::MAX_WORDS);
        self.occurrences
            .extend(words.map(|token| self.known.number(token)));
        !self.occurrences.is_empty()
    }

    /// Forgets all tokens but those at work, none of which is looked up.
    fn begin_anew(&mut self) {
        let numbers = self.occurrences.iter();
        let words: Vec<_> = numbers.map(|number| self.known.token(*number)).collect();
        self.known.forget();
        self.fill(&mut words.into_iter());
    }
}

/// bmf's slots for the tokens that decide.
struct Extrema {
    /// `None` is bmf's empty slot, of spamicity 0.5.
    slots: Vec<Option<Slot>>,
    /// How far from 0.5 each slot is.
    deviations: Vec<f64>,
    /// The least of these: most tokens need no second look.
    least: f64,
    /// How many slots have it.
    n_least: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Of the token.
    number: u32,
    evidence: Evidence,
}

impl Extrema {
    fn new(n: usize) -> Self {
        Self {
            slots: vec![None; n],
            deviations: vec![0.0; n],
            least: 0.0,
            n_least: n,
        }
    }

    /// Takes the tokens' numbers from `known`, which may have forgotten them.
    fn find_in(&mut self, known: &mut Known) {
        for slot in self.slots.iter_mut().flatten() {
            slot.number = known.number(slot.evidence.token);
        }
    }

    /// Notes with the tokens whether they decide, so that no token must be
    /// compared with all that do.
    fn mark(&self, known: &mut Known, decides: bool) {
        for slot in self.slots.iter().flatten() {
            known.weight(slot.number).decides = decides;
        }
    }

    #[inline]
    fn offer(&mut self, number: u32, known: &mut Known) {
        let weight = *known.weight(number);
        let offered = (weight.spamicity - 0.5).abs();
        if offered <= self.least || weight.decides {
            return;
        }
        // bmf compat: of the weaker slots the last one, not the weakest.
        let weaker = |deviation: &f64| *deviation < offered;
        let Some(at) = self.deviations.iter().rposition(weaker) else {
            return;
        };
        let evidence = Evidence {
            token: known.token(number),
            spamicity: weight.spamicity,
            counts: weight.counts,
        };
        if let Some(before) = self.slots[at].replace(Slot { number, evidence }) {
            known.weight(before.number).decides = false;
        }
        known.weight(number).decides = true;
        if mem::replace(&mut self.deviations[at], offered) == self.least {
            self.n_least -= 1;
            if self.n_least == 0 {
                self.find_least();
            }
        }
    }

    fn find_least(&mut self) {
        let deviations = self.deviations.iter();
        self.least = deviations.clone().copied().fold(0.5, f64::min);
        self.n_least = deviations.filter(|d| **d == self.least).count();
    }

    fn score(self) -> Score {
        let spamicities = self
            .slots
            .iter()
            .map(|slot| slot.map_or(0.5, |slot| slot.evidence.spamicity));
        let hits = combine(spamicities);
        let slots = self.slots.into_iter().flatten();
        Score {
            hits,
            evidence: slots.map(|slot| slot.evidence).collect(),
        }
    }
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
    use crate::classic::message_tokens;
    use crate::store::{Durability, Memory, TokenStore};
    use crate::{Changes, Label};

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
        assert_eq!(evidence(1, &[("token", spamicity)]), []);
    }

    fn evidence(n_extrema: usize, offered: &[(&str, f64)]) -> Vec<(String, f64)> {
        let (mut extrema, mut known) = (Extrema::new(n_extrema), Known::default());
        for (word, spamicity) in offered {
            let token = Token::new(word.as_bytes()).unwrap();
            let number = known.weigh(token, *spamicity);
            extrema.offer(number, &mut known);
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

    pub(super) fn trained_on(words: &str, label: Label, store: &mut Memory) {
        let mut changes = Changes::default();
        let message = message_tokens(format!("first {words} ").as_bytes());
        for _ in 0..5 {
            changes.learn(label, &message);
        }
        store.apply(&changes, Durability::Synced).unwrap();
    }

    pub(super) fn decisive(score: &Score) -> Vec<String> {
        let word = |e: &Evidence| String::from_utf8_lossy(e.token.as_bytes()).into();
        score.evidence.iter().map(word).collect()
    }

    #[test]
    fn a_long_message_is_scored_in_batches() {
        let mut store = Memory::default();
        trained_on("late", Label::Spam, &mut store);
        let mut message = b"first ".repeat(2 * Scorer::MAX_WORDS);
        message.extend(b"late ");
        let score = score(&message, &store, &Params::bmf()).unwrap();
        // `first` held the last slot, and gave it to the stronger `late`.
        assert_eq!(decisive(&score), ["late"]);
    }

    #[test]
    fn a_token_decides_once_although_others_were_forgotten() {
        let mut store = Memory::default();
        trained_on("early", Label::Spam, &mut store);
        let filling: String = (0..3 * Scorer::MAX_KNOWN)
            .map(|n| format!("w{n} "))
            .collect();
        let message = format!("first early {filling} early ");
        let score = score(message.as_bytes(), &store, &Params::bmf()).unwrap();
        let decisive = decisive(&score);
        assert_eq!(decisive.iter().filter(|word| *word == "early").count(), 1);
        assert_eq!(decisive.len(), 15);
    }

    #[test]
    fn a_run_scores_each_message_as_alone() {
        let mut store = Memory::default();
        trained_on("cheap watches w7 w11", Label::Spam, &mut store);
        trained_on("dinner tonight w7 w13", Label::Ham, &mut store);
        let mut scorer = Scorer::default();
        for n in 0..3_000 {
            let some: String = (0..n % 40).map(|m| format!("w{} ", n * m)).collect();
            let message = format!("first watches {some} tonight w{} ", n % 17);
            let params = Params::bmf();
            let next = scorer.score_next(message.as_bytes(), &store, &params);
            let alone = score(message.as_bytes(), &store, &params);
            assert_eq!(next.unwrap(), alone.unwrap(), "of {message}");
        }
        assert!(scorer.known.len() > 3_000);
    }

    #[test]
    fn a_run_sees_what_is_trained_meanwhile() {
        let mut store = Memory::default();
        let mut scorer = Scorer::default();
        for n in 0..20 {
            let label = [Label::Spam, Label::Ham][n % 2];
            trained_on(&format!("watches tonight w{n}"), label, &mut store);
            for message in ["first watches w3 w4 ", "first tonight w4 w5 w18 "] {
                let params = Params::bmf();
                let next = scorer.score_next(message.as_bytes(), &store, &params);
                let alone = score(message.as_bytes(), &store, &params);
                assert_eq!(next.unwrap(), alone.unwrap(), "of {message} after {n}");
            }
        }
    }
}
