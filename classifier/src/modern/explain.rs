//! The evidence behind a verdict, in words.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::mem;
use std::ops::Range;
use std::rc::Rc;

use super::features::{Origin, visit};
use super::weights::{Slot, Weights, common, worth};
use super::{Features, View, features};

/// Something that stood in the message and spoke for one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Where it stood: "text", "subject", "link", "hidden", "mime",
    /// "attachment", or the name of a header field in lower case; "header" or
    /// "field" where it is such a name itself; "sender" where it is what
    /// belongs to the sender; "all mail" where it is what is said of any.
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
/// `features` are those of `raw`. Cost: about a millisecond, only paid when
/// somebody asks.
pub fn explain(raw: &[u8], features: &Features, weights: &impl Weights, n: usize) -> Explanation {
    Named::new(raw, features).explain(features, weights, n)
}

/// A message that was read, for any number of models to judge it and say why.
#[derive(Debug)]
pub struct Reading<'a> {
    raw: &'a [u8],
    features: Features,
    /// Read when the first is asked why.
    named: OnceCell<Named>,
}

impl<'a> Reading<'a> {
    /// Reads a message.
    pub fn new(raw: &'a [u8]) -> Self {
        Self {
            raw,
            features: features(raw),
            named: OnceCell::new(),
        }
    }

    /// What it is judged by.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// As [`explain`].
    pub fn explain(&self, weights: &impl Weights, n: usize) -> Explanation {
        let named = || Named::new(self.raw, &self.features);
        let named = self.named.get_or_init(named);
        named.explain(&self.features, weights, n)
    }
}

/// A message's features by what a reader calls them, each where it first stood.
#[derive(Debug, Default)]
struct Named {
    all: Vec<Name>,
    pieces: Vec<Piece>,
    /// Places and words, one behind the other.
    words: String,
}

#[derive(Debug)]
enum Name {
    /// A text begins that grams are taken from, with the piece of this number.
    Text(usize),
    Feature(View, u32, What),
}

#[derive(Debug)]
enum What {
    /// Part of the piece of this number.
    Gram(usize),
    /// A place and a word behind it.
    Word(Range<usize>, Range<usize>),
}

impl Named {
    fn new(raw: &[u8], features: &Features) -> Self {
        let mut named = Self::default();
        let mut seen = Seen::new(features);
        // The piece that the last gram began in.
        let mut current = 0;
        visit(raw, &mut |view, hash, origin: Origin<'_>| {
            if let Origin::Gram { text, at: 0 } = origin {
                current = named.pieces.len();
                named.all.push(Name::Text(current));
                cut(view, text, &mut named.pieces);
            }
            if !seen.is_first(view, hash) {
                return;
            }
            let what = match origin {
                Origin::Gram { at, .. } => {
                    let is_behind = |piece: &Piece| piece.end <= at;
                    while named.pieces.get(current).is_some_and(is_behind) {
                        current += 1;
                    }
                    if current == named.pieces.len() {
                        return;
                    }
                    What::Gram(current)
                }
                Origin::Word { place, word } => named.word(place, &[word]),
                Origin::Pair { first, second } => named.word("text", &[first, " ", second]),
            };
            named.all.push(Name::Feature(view, hash, what));
        });
        named.all.push(Name::Text(named.pieces.len()));
        named
    }

    fn word(&mut self, place: &str, parts: &[&str]) -> What {
        let begin = self.words.len();
        self.words.push_str(place);
        let middle = self.words.len();
        self.words.extend(parts.iter().copied());
        What::Word(begin..middle, middle..self.words.len())
    }

    fn explain(&self, features: &Features, weights: &impl Weights, n: usize) -> Explanation {
        let worth = worth(features, weights);
        let common = View::ALL.map(|view| common(view as usize, weights));
        let mut sums = Sums::new();
        let all_mail = worth.each_ref().map(|worth| worth.intercept);
        sums.insert(("all mail", "so far"), all_mail.iter().sum());
        let mut of_pieces = vec![0.0; self.pieces.len()];
        let mut begin = 0;
        for name in &self.all {
            let (view, hash, what) = match name {
                Name::Feature(view, hash, what) => (*view, *hash, what),
                // The text before has come to its end.
                Name::Text(next) => {
                    let ended = mem::replace(&mut begin, *next)..*next;
                    let sums_of = of_pieces[ended.clone()].iter().copied();
                    for (piece, sum) in self.pieces[ended].iter().zip(sums_of) {
                        if sum != 0.0 {
                            *sums.entry((&piece.place, &piece.what)).or_default() += sum;
                        }
                    }
                    continue;
                }
            };
            let weight = Slot::new(hash).weight(weights, common[view as usize]);
            let weight = f64::from(weight * worth[view as usize].weight);
            if weight == 0.0 {
                continue;
            }
            match what {
                What::Gram(at) => of_pieces[*at] += weight,
                What::Word(place, word) => {
                    let (place, word) = (&self.words[place.clone()], &self.words[word.clone()]);
                    *sums.entry((place, word)).or_default() += weight;
                }
            }
        }
        strongest(sums, n)
    }
}

/// Log-odds by place and by what stood there.
type Sums<'a> = HashMap<(&'a str, &'a str), f64>;

fn strongest(sums: Sums<'_>, n: usize) -> Explanation {
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by(|(a, a_sum), (b, b_sum)| b_sum.total_cmp(a_sum).then_with(|| a.cmp(b)));
    let evidence = |((place, what), log_odds): &((&str, &str), f64)| Evidence {
        place: (*place).to_owned(),
        what: (*what).to_owned(),
        log_odds: *log_odds,
    };
    let spam = all.iter().take_while(|(_, sum)| *sum > 0.0).take(n);
    let ham = all.iter().rev().take_while(|(_, sum)| *sum < 0.0).take(n);
    Explanation {
        spam: spam.map(evidence).collect(),
        ham: ham.map(evidence).collect(),
    }
}

/// Which features of a message were met.
struct Seen<'a> {
    features: &'a Features,
    met: [Vec<bool>; 3],
}

impl<'a> Seen<'a> {
    fn new(features: &'a Features) -> Self {
        let met = features
            .views
            .each_ref()
            .map(|view| vec![false; view.len()]);
        Self { features, met }
    }

    fn is_first(&mut self, view: View, hash: u32) -> bool {
        let view = view as usize;
        match self.features.views[view].binary_search(&hash) {
            Ok(at) => !mem::replace(&mut self.met[view][at], true),
            Err(_) => false,
        }
    }
}

/// A piece of a text that grams are taken from.
#[derive(Debug)]
struct Piece {
    place: Rc<str>,
    what: String,
    /// Where the next piece begins.
    end: usize,
}

/// Longer runs without a blank, as Chinese has them, are cut.
const MAX_PIECE_BYTES: usize = 40;

/// Cuts a text.
fn cut(view: View, text: &[u8], pieces: &mut Vec<Piece>) {
    let is_header = view == View::HeaderGrams;
    let n_before = pieces.len();
    let mut place: Rc<str> = if is_header { "header" } else { "subject" }.into();
    let mut at = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        let mut begin = at;
        at += line.len();
        if let (true, Some(name)) = (is_header, field_name(line)) {
            let end = begin + name.len() + ":".len();
            pieces.push(Piece::new(&"header".into(), text, begin..end));
            place = String::from_utf8_lossy(name).to_ascii_lowercase().into();
            begin = end;
        }
        cut_words(&place, text, begin..at, pieces);
        if !is_header {
            place = "text".into();
        }
    }
    // Blanks at the end.
    if let Some(last) = pieces[n_before..].last_mut() {
        last.end = text.len();
    }
}

/// Cuts `range` of `text` behind its words. Blanks belong to the next one.
fn cut_words(place: &Rc<str>, text: &[u8], range: Range<usize>, pieces: &mut Vec<Piece>) {
    let mut begin = range.start;
    loop {
        let rest = &text[begin..range.end];
        let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let word = rest[blanks..].iter();
        let mut len = word.take_while(|b| !b.is_ascii_whitespace()).count();
        if len == 0 {
            break;
        }
        if len > MAX_PIECE_BYTES {
            let is_within_character = |n: &usize| rest[blanks + n] & 0xc0 == 0x80;
            let mut ends = (MAX_PIECE_BYTES - 3..=MAX_PIECE_BYTES).rev();
            len = ends.find(|n| !is_within_character(n)).unwrap_or(len);
        }
        pieces.push(Piece::new(place, text, begin..begin + blanks + len));
        begin += blanks + len;
    }
}

impl Piece {
    fn new(place: &Rc<str>, text: &[u8], range: Range<usize>) -> Self {
        let what = String::from_utf8_lossy(text[range.clone()].trim_ascii());
        Self {
            place: Rc::clone(place),
            // What stands in the place of a long random run.
            what: what.replace('\u{1}', "…"),
            end: range.end,
        }
    }
}

/// The name of the field that begins with `line`; `None` where one goes on.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let name = &line[..line.iter().position(|b| *b == b':')?];
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Label;
    use crate::modern::{Model, Params, Record, features, score};

    #[test]
    fn the_evidence_is_readable_and_adds_up() {
        let mut model = Model::default();
        let spam = b"From: a@shop.example\nSubject: Offer\n\nCheap watches today\n";
        let ham = b"From: b@work.example\nSubject: Plan\n\nMeeting moved to noon\n";
        for (raw, label) in [(&spam[..], Label::Spam), (&ham[..], Label::Ham)] {
            model.add(&mut Record::new(&features(raw), label, &model));
        }
        let explanation = explain(spam, &features(spam), &model, 1_000);
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
        let said: f64 = verdict.views.iter().sum();
        assert!((sum - said).abs() < 1e-3, "{sum} {verdict:?}");
    }

    #[test]
    fn a_message_that_was_read_once_is_explained_by_each_model_as_alone() {
        let spam = b"From: a@shop.example\nSubject: Offer\n\nCheap watches today\n";
        let ham = b"From: b@work.example\nSubject: Plan\n\nMeeting moved to noon\n";
        let reading = Reading::new(spam);
        assert_eq!(*reading.features(), features(spam));
        for labels in [[Label::Spam, Label::Ham], [Label::Ham, Label::Spam]] {
            let mut model = Model::default();
            for (raw, label) in [&spam[..], ham].into_iter().zip(labels) {
                model.add(&mut Record::new(&features(raw), label, &model));
            }
            let alone = explain(spam, reading.features(), &model, 9);
            assert!(!alone.spam.is_empty() && !alone.ham.is_empty(), "{alone:?}");
            assert_eq!(reading.explain(&model, 9), alone);
        }
    }

    /// All evidence of spam that a model names which saw one message of each.
    fn named(spam: &str, ham: &str) -> Vec<String> {
        let mut model = Model::default();
        for (raw, label) in [(spam, Label::Spam), (ham, Label::Ham)] {
            model.add(&mut Record::new(&features(raw.as_bytes()), label, &model));
        }
        let spam = spam.as_bytes();
        let explanation = explain(spam, &features(spam), &model, 1_000);
        let name = |e: &Evidence| format!("{}: {}", e.place, e.what);
        explanation.spam.iter().map(name).collect()
    }

    #[test]
    fn grams_show_the_field_that_they_stood_in() {
        let named = named(
            "X-Mailer: Bulk Sender\nReceived: from a by b\n\tvia Zebra; Mon\nSubject: Offer\n\nBuy\n",
            "X-Agent: Mutt\nReceived: from c by d\nSubject: Plan\n\nNoon\n",
        );
        for expected in [
            "header: X-Mailer:",
            "x-mailer: Sender",
            "received: Zebra;",
            "subject: Offer",
        ] {
            assert!(named.iter().any(|n| n == expected), "{expected}: {named:?}");
        }
    }

    #[test]
    fn pieces_of_a_text_without_blanks_are_whole_characters() {
        let long = "\u{4e00}\u{4e8c}\u{4e09}\u{56db}\u{4e94}\u{516d}\u{4e03}\u{516b}".repeat(20);
        let named = named(
            &format!("Subject: a\nContent-Type: text/plain; charset=utf-8\n\n{long}\n"),
            "Subject: b\n\nc\n",
        );
        let text: Vec<_> = named.iter().filter(|n| n.starts_with("text: ")).collect();
        assert!(text.iter().any(|n| n.len() > 30), "{text:?}");
        for piece in text {
            assert!(!piece.contains('\u{fffd}'), "{piece}");
            assert!(piece.len() <= "text: ".len() + MAX_PIECE_BYTES, "{piece}");
        }
    }

    #[test]
    fn a_new_model_has_nothing_to_say() {
        let mail = b"Subject: a\n\nb c d\n";
        let explanation = explain(mail, &features(mail), &Model::default(), 10);
        assert_eq!(explanation, Explanation::default());
    }
}
