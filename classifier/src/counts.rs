//! Counts, and changes of counts as plain data that can be summed up before
//! they are applied.

use std::collections::HashMap;

use crate::Token;
use crate::distinct::Distinct;
use crate::store::Entry;

/// What a message is, as a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// Wanted mail.
    Ham,
    /// Unsolicited mail.
    Spam,
}

impl Label {
    /// The word for it in index files, logs and results: `ham` or `spam`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ham => "ham",
            Self::Spam => "spam",
        }
    }

    /// The other label.
    pub fn other(self) -> Self {
        match self {
            Self::Ham => Self::Spam,
            Self::Spam => Self::Ham,
        }
    }
}

/// How often a token was registered, by class. Unit: occurrences, of which
/// each message adds at most four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// In ham.
    pub ham: u32,
    /// In spam.
    pub spam: u32,
}

/// How many messages were registered, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainedMessages {
    /// As ham.
    pub ham: u32,
    /// As spam.
    pub spam: u32,
}

impl TrainedMessages {
    /// Those of one class.
    pub fn get(self, label: Label) -> u32 {
        match label {
            Label::Ham => self.ham,
            Label::Spam => self.spam,
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, label: Label) -> &mut u32 {
        match label {
            Label::Ham => &mut self.ham,
            Label::Spam => &mut self.spam,
        }
    }
}

/// The function `x -> min(ceiling, max(floor, x + add))` on counts: any
/// sequence of additions and subtractions that stop at 0 and at [`u32::MAX`].
///
/// Such functions are closed under composition, so the changes of many
/// messages can be summed up before a store sees them, and a store's merge
/// operator can combine them in any grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// What is added, when neither limit is reached.
    pub add: i64,
    /// The least result.
    pub floor: u32,
    /// The greatest result, not below `floor`.
    pub ceiling: u32,
    /// Whether an addition took part. bmf's db format does not enter a token
    /// in a list because of a subtraction alone.
    pub inserts: bool,
}

impl Default for Adjustment {
    /// Changes nothing.
    fn default() -> Self {
        Self {
            add: 0,
            floor: 0,
            ceiling: u32::MAX,
            inserts: false,
        }
    }
}

impl Adjustment {
    /// Adds `n`.
    pub fn plus(n: u32) -> Self {
        Self {
            add: i64::from(n),
            inserts: true,
            ..Self::default()
        }
    }

    /// Subtracts `n`, stopping at 0.
    pub fn minus(n: u32) -> Self {
        Self {
            add: -i64::from(n),
            ..Self::default()
        }
    }

    /// The count becomes `n`.
    pub fn set(n: u32) -> Self {
        Self {
            add: 0,
            floor: n,
            ceiling: n,
            inserts: true,
        }
    }

    /// The result, where it is the same for every count.
    pub fn constant(self) -> Option<u32> {
        (self.floor == self.ceiling).then_some(self.floor)
    }

    /// First this, then `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self {
            add: self.add.saturating_add(next.add),
            floor: next.apply(self.floor),
            ceiling: next.apply(self.ceiling),
            inserts: self.inserts || next.inserts,
        }
    }

    /// The count after this change.
    pub fn apply(self, count: u32) -> u32 {
        let sum = i64::from(count).saturating_add(self.add);
        let within = sum.clamp(i64::from(self.floor), i64::from(self.ceiling));
        u32::try_from(within).expect("both limits are u32")
    }
}

/// The change of one token's counts, or of the message counts.
/// `None`: that list is not touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenChange {
    /// Of the count in ham.
    pub ham: Option<Adjustment>,
    /// Of the count in spam.
    pub spam: Option<Adjustment>,
}

impl TokenChange {
    /// First this, then `adjustment` on the list of `label`.
    pub fn push(&mut self, label: Label, adjustment: Adjustment) {
        let list = match label {
            Label::Ham => &mut self.ham,
            Label::Spam => &mut self.spam,
        };
        *list = Some(list.map_or(adjustment, |before| before.then(adjustment)));
    }

    /// The change of the list of `label`.
    pub fn get(&self, label: Label) -> Option<Adjustment> {
        match label {
            Label::Ham => self.ham,
            Label::Spam => self.spam,
        }
    }

    /// The counts after this change.
    pub fn apply(&self, counts: TokenCounts) -> TokenCounts {
        TokenCounts {
            ham: self.ham.map_or(counts.ham, |a| a.apply(counts.ham)),
            spam: self.spam.map_or(counts.spam, |a| a.apply(counts.spam)),
        }
    }
}

/// A token's counts in both lists. `None`: not in that list; bmf keeps tokens
/// whose count fell to 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Count in the ham list.
    pub ham: Option<u32>,
    /// Count in the spam list.
    pub spam: Option<u32>,
}

impl Listed {
    /// The counts after `change`. Enters the token in a list as bmf's db
    /// format does: not because of a subtraction alone.
    #[must_use]
    pub fn adjusted(self, change: &TokenChange) -> Self {
        let adjust = |count: Option<u32>, adjustment: Option<Adjustment>| match adjustment {
            Some(a) if count.is_some() || a.inserts => Some(a.apply(count.unwrap_or(0))),
            _ => count,
        };
        Self {
            ham: adjust(self.ham, change.ham),
            spam: adjust(self.spam, change.spam),
        }
    }

    /// Whether the token is in neither list.
    pub fn is_unlisted(self) -> bool {
        self == Self::default()
    }

    /// The counts, where absence is 0.
    pub fn counts(self) -> TokenCounts {
        TokenCounts {
            ham: self.ham.unwrap_or(0),
            spam: self.spam.unwrap_or(0),
        }
    }

    /// This as a line of a list.
    pub fn entry(self, token: &[u8]) -> Entry<'_> {
        Entry {
            token,
            ham: self.ham,
            spam: self.spam,
        }
    }
}

impl From<Entry<'_>> for Listed {
    fn from(Entry { ham, spam, .. }: Entry<'_>) -> Self {
        Self { ham, spam }
    }
}

/// What learning one or many messages does to a store: a sum of changes that
/// a store applies as one, wholly or not at all.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    messages: TokenChange,
    tokens: HashMap<Token, TokenChange, foldhash::fast::RandomState>,
}

impl Changes {
    /// Registers a message under `label`.
    pub fn learn(&mut self, label: Label, message: &MessageTokens) {
        self.push(label, message, Adjustment::plus);
    }

    /// Takes a registration under `label` back. Counts stop at 0, since bmf
    /// cannot know whether the message was ever registered.
    pub fn unlearn(&mut self, label: Label, message: &MessageTokens) {
        self.push(label, message, Adjustment::minus);
    }

    /// The numbers of messages become `trained`.
    pub fn set_messages(&mut self, trained: TrainedMessages) {
        for (label, n) in [(Label::Ham, trained.ham), (Label::Spam, trained.spam)] {
            self.messages.push(label, Adjustment::set(n));
        }
    }

    /// The count of `token` in the list of `label` becomes `n`.
    pub fn set(&mut self, label: Label, token: Token, n: u32) {
        let change = self.tokens.entry(token).or_default();
        change.push(label, Adjustment::set(n));
    }

    fn push(&mut self, label: Label, message: &MessageTokens, adjustment: fn(u32) -> Adjustment) {
        self.messages.push(label, adjustment(1));
        for (token, n) in message.iter() {
            self.tokens
                .entry(token)
                .or_default()
                .push(label, adjustment(n));
        }
    }

    /// The change of the message counts.
    pub fn messages(&self) -> TokenChange {
        self.messages
    }

    /// The message counts after this change.
    pub fn messages_after(&self, trained: TrainedMessages) -> TrainedMessages {
        let TokenCounts { ham, spam } = self.messages.apply(TokenCounts {
            ham: trained.ham,
            spam: trained.spam,
        });
        TrainedMessages { ham, spam }
    }

    /// The change of one token's counts.
    pub fn token(&self, token: &Token) -> Option<&TokenChange> {
        self.tokens.get(token)
    }

    /// Changed tokens, in ascending order.
    pub fn tokens_sorted(&self) -> Vec<(Token, TokenChange)> {
        let mut tokens: Vec<_> = self.tokens.iter().map(|(t, c)| (*t, *c)).collect();
        tokens.sort_unstable_by_key(|(token, _)| *token);
        tokens
    }

    /// Number of changed tokens.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing was learned or unlearned.
    pub fn is_empty(&self) -> bool {
        self.messages == TokenChange::default() && self.tokens.is_empty()
    }

    /// Forgets all changes and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.messages = TokenChange::default();
        self.tokens.clear();
    }
}

/// The tokens of one message with their counts, in order of first occurrence.
#[derive(Clone, Debug, Default)]
pub struct MessageTokens {
    tokens: Distinct,
    counts: Vec<u32>,
}

impl MessageTokens {
    /// Most occurrences of a token that count in one message.
    pub const MAX_COUNT: u32 = 4;

    /// Most distinct tokens that count in one message. Mail that people write
    /// stays far below; a message made to fill a database reaches it.
    pub const MAX_DISTINCT: usize = 1 << 18;

    /// Counts one occurrence and returns the token's position in
    /// [`Self::tokens`]; `None` when it is new and the message is full.
    #[inline]
    pub fn push(&mut self, token: Token) -> Option<u32> {
        let position = self.tokens.number(token, Self::MAX_DISTINCT)?;
        if position as usize == self.counts.len() {
            self.counts.push(0);
        }
        let count = &mut self.counts[position as usize];
        *count = (*count + 1).min(Self::MAX_COUNT);
        Some(position)
    }

    /// Distinct tokens in order of first occurrence.
    pub fn tokens(&self) -> &[Token] {
        self.tokens.tokens()
    }

    /// Distinct tokens with their counts (1 to [`Self::MAX_COUNT`]), in order
    /// of first occurrence.
    pub fn iter(&self) -> impl Iterator<Item = (Token, u32)> + '_ {
        let tokens = self.tokens().iter().copied();
        tokens.zip(self.counts.iter().copied())
    }

    /// Whether the message held no token at all.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Forgets the message and keeps the memory for the next one.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn adjustment() -> impl Strategy<Value = Adjustment> {
        let n = 0u32..20;
        prop_oneof![
            4 => n.clone().prop_map(Adjustment::plus),
            4 => n.clone().prop_map(Adjustment::minus),
            1 => n.prop_map(Adjustment::set),
        ]
    }

    proptest! {
        #[test]
        fn composing_is_applying_in_turn(
            start in prop_oneof![0u32..50, u32::MAX - 50..=u32::MAX],
            steps in proptest::collection::vec(adjustment(), 0..12),
            cut in 0usize..12,
        ) {
            let in_turn = steps.iter().fold(start, |n, step| step.apply(n));
            let cut = cut.min(steps.len());
            let fold = |part: &[Adjustment]| {
                part.iter().fold(Adjustment::default(), |a, b| a.then(*b))
            };
            let composed = fold(&steps[..cut]).then(fold(&steps[cut..]));
            prop_assert_eq!(composed.apply(start), in_turn);
        }
    }

    #[test]
    fn setting_forgets_what_was() {
        let set = Adjustment::plus(3).then(Adjustment::set(7));
        assert_eq!([0, 9, u32::MAX].map(|n| set.apply(n)), [7; 3]);
        let later = Adjustment::set(7).then(Adjustment::plus(3));
        assert_eq!(later.constant(), Some(10));
        assert_eq!(Adjustment::minus(7).constant(), None);
    }

    #[test]
    fn a_message_made_to_fill_a_database_is_cut() {
        let mut message = MessageTokens::default();
        let word = |n: usize| Token::new(format!("word{n}").as_bytes()).unwrap();
        for n in 0..MessageTokens::MAX_DISTINCT {
            assert_eq!(message.push(word(n)), Some(n as u32));
        }
        assert_eq!(message.push(word(MessageTokens::MAX_DISTINCT)), None);
        assert_eq!(message.push(word(7)), Some(7));
        assert_eq!(message.tokens().len(), MessageTokens::MAX_DISTINCT);
    }

    #[test]
    fn counts_stay_within_u32() {
        assert_eq!(Adjustment::plus(1).apply(u32::MAX), u32::MAX);
        assert_eq!(Adjustment::minus(2).apply(1), 0);
    }
}
