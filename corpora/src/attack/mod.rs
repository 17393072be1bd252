//! Hostile mail as named experiments: how a filter stands against a sender who
//! knows it.
//!
//! Each [`Attack`] is tried on a filter that has learned two thirds of a
//! collection. Most disguise the spam of the last third, written by somebody
//! who knows the words that this user's ham is known by, and for our modern
//! engine its very weights ([`Filter::hammiest`]). Others spoil what is
//! learned. The same ham, and the same spam as it was, are judged beside it.
//!
//! [`expect`] keeps what came of them, so that a filter that gets worse is
//! noticed.

pub mod expect;
mod knowledge;
mod rewrite;
mod table;

use std::path::Path;

use classifier::Label;

pub use table::table;

use crate::filter::{Filter, FilterSpec};
use crate::measure::{self, Measures};
use crate::protocol::Record;
use crate::{Collection, Error, Message, Random};
use knowledge::Knowledge;

/// One way to deceive a filter.
#[derive(Clone, Copy)]
pub struct Attack {
    /// What people call it by.
    pub name: &'static str,
    /// What is done, in a few words.
    pub about: &'static str,
    change: Change,
}

/// What an attacker changes.
#[derive(Clone, Copy)]
enum Change {
    /// The spam that is judged.
    Spam(fn(&[u8], &Knowledge, &mut Random) -> Vec<u8>),
    /// So many of a hundred labels that are learned.
    Labels(f64),
    /// Messages with every word there is come in between and are learned as
    /// spam: so many for a hundred others (Nelson et al. 2008, Exploiting
    /// Machine Learning to Subvert Your Spam Filter).
    Dictionary(f64),
}

/// All of them.
pub const ATTACKS: [Attack; 14] = [
    spam(
        "good-words",
        "100 of the user's hammiest words behind the pitch",
        rewrite::good_words,
    ),
    spam(
        "good-words-first",
        "the same in front of it",
        rewrite::good_words_first,
    ),
    spam(
        "random-words",
        "400 words of the user's mail, chosen at random",
        rewrite::random_words,
    ),
    spam(
        "long-body",
        "a short pitch, then 2 MB of the user's ham",
        rewrite::long_body,
    ),
    spam(
        "image-only",
        "a picture in place of all text",
        rewrite::image_only,
    ),
    spam("base64", "all text in base64", rewrite::base64_text),
    spam(
        "zero-width",
        "characters without width in every word",
        rewrite::zero_width,
    ),
    spam(
        "look-alikes",
        "letters of another script that look the same",
        rewrite::look_alikes,
    ),
    spam(
        "html-comments",
        "comments with ham in every word",
        rewrite::html_comments,
    ),
    spam("hidden-text", "ham that nobody sees", rewrite::hidden_text),
    spam(
        "white-text",
        "ham in white on white, or beside the page",
        rewrite::white_text,
    ),
    Attack {
        name: "wrong-labels-1",
        about: "1 % of what is learned has the wrong label",
        change: Change::Labels(1.0),
    },
    Attack {
        name: "wrong-labels-10",
        about: "10 % of what is learned has the wrong label",
        change: Change::Labels(10.0),
    },
    Attack {
        name: "dictionary",
        about: "1 % more spam that holds all words there are",
        change: Change::Dictionary(1.0),
    },
];

const fn spam(
    name: &'static str,
    about: &'static str,
    rewrite: fn(&[u8], &Knowledge, &mut Random) -> Vec<u8>,
) -> Attack {
    Attack {
        name,
        about,
        change: Change::Spam(rewrite),
    }
}

/// What became of one filter under one attack.
pub struct Outcome {
    /// The attack's name.
    pub attack: &'static str,
    /// The filter's name.
    pub filter: String,
    /// Without it.
    pub before: Measures,
    /// Under it.
    pub attacked: Measures,
    /// Under it, once [`N_TAUGHT`] attacked messages were learned as spam.
    /// `None` where what is learned is what is attacked.
    pub taught: Option<Measures>,
}

/// Attacked messages that a person reports before the filter is asked again.
pub const N_TAUGHT: usize = 20;
/// Most messages of a class that are judged.
const MAX_JUDGED: usize = 600;

/// Tries `attack` on `spec`, whose files go below the empty folder `work`.
///
/// # Errors
/// When the filter cannot be run, or the collection is too small.
pub fn run(
    collection: &Collection,
    spec: &FilterSpec,
    attack: &Attack,
    seed: u64,
    work: &Path,
) -> Result<Outcome, Error> {
    let mail = Mail::split(collection, seed)?;
    let start = |name: &str| {
        let folder = work.join(name);
        std::fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        spec.start(&folder)
    };
    let mut random = Random::stream(seed, 2);
    let mut filter = start("clean")?;
    for message in &mail.learned {
        filter.train(message.label, message)?;
    }
    let before = mail.judge(filter.as_mut(), &mail.spam, seed)?;
    let (attacked, taught) = match attack.change {
        Change::Spam(rewrite) => {
            let knowledge = Knowledge::gather(&mail.learned, filter.as_mut());
            let mut disguise = |message: &&Message| Message {
                id: format!("{}.{}", message.id, attack.name),
                bytes: rewrite(&message.bytes, &knowledge, &mut random),
                ..(*message).clone()
            };
            let taught: Vec<Message> = mail.taught.iter().map(&mut disguise).collect();
            let spam: Vec<Message> = mail.spam.iter().map(&mut disguise).collect();
            let spam: Vec<&Message> = spam.iter().collect();
            let attacked = mail.judge(filter.as_mut(), &spam, seed)?;
            for message in &taught {
                filter.train(Label::Spam, message)?;
            }
            (attacked, Some(mail.judge(filter.as_mut(), &spam, seed)?))
        }
        Change::Labels(percent) => {
            let mut filter = start("attacked")?;
            for message in &mail.learned {
                let is_wrong = random.chance(percent);
                let label = if is_wrong {
                    message.label.other()
                } else {
                    message.label
                };
                filter.train(label, message)?;
            }
            (mail.judge(filter.as_mut(), &mail.spam, seed)?, None)
        }
        Change::Dictionary(percent) => {
            let knowledge = Knowledge::gather(&mail.learned, filter.as_mut());
            let mut filter = start("attacked")?;
            for (n, message) in mail.learned.iter().enumerate() {
                filter.train(message.label, message)?;
                if random.chance(percent) {
                    let message = Message {
                        id: format!("dictionary-{n}"),
                        bytes: rewrite::dictionary(&knowledge, &mut random),
                        ..(*message).clone()
                    };
                    filter.train(Label::Spam, &message)?;
                }
            }
            (mail.judge(filter.as_mut(), &mail.spam, seed)?, None)
        }
    };
    filter.finalise()?;
    Ok(Outcome {
        attack: attack.name,
        filter: spec.name(),
        before,
        attacked,
        taught,
    })
}

/// A collection in its parts.
struct Mail<'a> {
    learned: Vec<&'a Message>,
    ham: Vec<&'a Message>,
    spam: Vec<&'a Message>,
    /// Spam that is not judged, for what a person reports.
    taught: Vec<&'a Message>,
}

impl<'a> Mail<'a> {
    fn split(collection: &'a Collection, seed: u64) -> Result<Self, Error> {
        let mut all: Vec<&Message> = collection.messages.iter().collect();
        Random::stream(seed, 1).shuffle(&mut all);
        let judged = all.split_off(all.len() * 2 / 3);
        let (ham, mut spam): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|m| m.label == Label::Ham);
        if ham.is_empty() || spam.len() <= N_TAUGHT {
            return Err(Error::TooSmall {
                name: collection.name.clone(),
                needed: "some hundred messages of each class",
            });
        }
        let judged = spam.split_off(N_TAUGHT);
        let first = |all: Vec<&'a Message>| all.into_iter().take(MAX_JUDGED).collect();
        Ok(Self {
            learned: all,
            ham: first(ham),
            spam: first(judged),
            taught: spam,
        })
    }

    fn judge(
        &self,
        filter: &mut dyn Filter,
        spam: &[&Message],
        seed: u64,
    ) -> Result<Measures, Error> {
        let mut records = Vec::with_capacity(self.ham.len() + spam.len());
        for message in self.ham.iter().chain(spam) {
            records.push(Record {
                message: records.len(),
                label: message.label,
                answer: filter.classify(message)?,
            });
        }
        Ok(measure::measure(&[&records], seed))
    }
}

#[cfg(test)]
mod tests;
