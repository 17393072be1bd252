//! In what order a filter meets the messages, and what it is told.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use classifier::Label;

use crate::filter::{Answer, Filter, FilterSpec, Footprint, Verdict, own};
use crate::{Collection, Error, Message, Random, Role};

/// How a run goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// Seed of every choice below.
    pub seed: u64,
    /// Which reordering; `None` keeps the order of reception.
    pub shuffle: Option<u64>,
    /// When the filter is told the truth.
    pub feedback: Feedback,
    /// Of a hundred messages that it is told about, how many it is told
    /// wrongly.
    pub wrong_percent: f64,
    /// A wrong label is put right so many messages later; `None`: never.
    pub corrected_after: Option<usize>,
    /// What a filter learns that nobody tells anything, with
    /// [`Feedback::OwnVerdicts`].
    pub own_verdicts: OwnVerdicts,
}

/// What a filter learns from its own verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OwnVerdicts {
    /// All of it, as bmf does: what is not called spam as ham.
    Full,
    /// The same, but so great a share of what a person's word teaches.
    Weighted(f64),
    /// Only what it does not call unsure.
    #[default]
    Sure,
    /// Nothing.
    None,
}

impl Protocol {
    /// In order of reception, without wrong labels.
    pub fn online(seed: u64, feedback: Feedback) -> Self {
        Self {
            seed,
            shuffle: None,
            feedback,
            wrong_percent: 0.0,
            corrected_after: None,
            own_verdicts: OwnVerdicts::default(),
        }
    }
}

/// When a filter is told what a message was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feedback {
    /// After each message.
    Immediate,
    /// After each of the first so many messages, then never again.
    First(usize),
    /// Of each hundred messages, chosen at random, after so many.
    Partial(f64),
    /// At most so many times, after the messages nearest to its border
    /// between ham and spam.
    Active(usize),
    /// After each of the first [`N_TAUGHT`] messages. From then on it learns
    /// from its own verdicts, and of a hundred mistakes so many are put right,
    /// [`SEEN_AFTER`] messages later.
    OwnVerdicts(f64),
    /// After none of this part of the collection, and all of the others: the
    /// collection is cut into so many parts and each is classified by a
    /// filter trained on the rest.
    Folds(usize),
}

impl Protocol {
    /// The rule for own verdicts, where there are any to learn.
    pub fn own_verdicts_used(&self) -> Option<OwnVerdicts> {
        let uses = matches!(self.feedback, Feedback::OwnVerdicts(_));
        uses.then_some(self.own_verdicts)
    }
}

/// All but the order, for people.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feedback {}", self.feedback)?;
        if let Some(rule) = self.own_verdicts_used() {
            write!(f, ", own verdicts {rule}")?;
        }
        if self.wrong_percent > 0.0 {
            write!(f, ", {} % of the labels wrong", self.wrong_percent)?;
            if let Some(after) = self.corrected_after {
                write!(f, " and put right after {after}")?;
            }
        }
        write!(f, ", seed {}", self.seed)
    }
}

/// As `bmfeval run` reads it.
impl fmt::Display for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immediate => write!(f, "immediate"),
            Self::First(n) => write!(f, "first:{n}"),
            Self::Partial(percent) => write!(f, "partial:{percent}"),
            Self::Active(budget) => write!(f, "active:{budget}"),
            Self::OwnVerdicts(percent) => write!(f, "own:{percent}"),
            Self::Folds(n) => write!(f, "folds:{n}"),
        }
    }
}

/// As `bmfeval run` reads it.
impl fmt::Display for OwnVerdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "full"),
            Self::Weighted(share) => write!(f, "{share}"),
            Self::Sure => write!(f, "sure"),
            Self::None => write!(f, "none"),
        }
    }
}

/// Messages that a person teaches before the filter is on its own.
pub const N_TAUGHT: usize = 20;
/// Messages that come before a person sees a mistake.
pub const SEEN_AFTER: usize = 10;

/// One message of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Which message of the collection.
    pub message: usize,
    /// The truth.
    pub label: Label,
    /// What the filter said.
    pub answer: Answer,
}

/// Why a filter said what it said of a message that it got wrong.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// Place in [`Run::records`].
    pub record: usize,
    /// The filter's own words.
    pub explanation: Vec<String>,
}

/// What came of one filter on one collection.
#[derive(Clone, Debug)]
pub struct Run {
    /// In the order in which they were classified.
    pub records: Vec<Record>,
    /// Each message whose verdict was wrong, or that it was unsure about.
    pub mistakes: Vec<Mistake>,
    /// What it cost.
    pub cost: Cost,
}

/// What a run cost, files and processes included where a filter has some.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// In `classify`.
    pub classifying: Duration,
    /// Calls of it.
    pub n_classified: u64,
    /// In `train` and `retrain`.
    pub training: Duration,
    /// Calls of these.
    pub n_trained: u64,
    /// Bytes of the messages classified.
    pub message_bytes: u64,
    /// What the filter left.
    pub footprint: Footprint,
}

/// Runs a fresh `spec` over `collection`. Files go below the empty folder
/// `work`. `progress` is called once for each message.
///
/// # Errors
/// When the filter cannot be run.
pub fn run(
    collection: &Collection,
    spec: &FilterSpec,
    protocol: &Protocol,
    work: &Path,
    progress: &(dyn Fn() + Sync),
) -> Result<Run, Error> {
    match protocol.feedback {
        Feedback::Folds(n_folds) => folds(collection, spec, protocol, work, progress, n_folds),
        _ => online(collection, spec.start(work)?, protocol, work, progress),
    }
}

fn online(
    collection: &Collection,
    filter: Box<dyn Filter>,
    protocol: &Protocol,
    work: &Path,
    progress: &(dyn Fn() + Sync),
) -> Result<Run, Error> {
    let mut runner = Runner::new(collection, filter, protocol);
    for (n, message) in order(collection, protocol).into_iter().enumerate() {
        let answer = match collection.messages[message].role {
            Role::TrainOnly => None,
            _ => Some(runner.classify(message)?),
        };
        match (protocol.feedback, answer) {
            (Feedback::OwnVerdicts(corrected), Some(answer)) if n >= N_TAUGHT => {
                runner.learn_own(n, message, answer, corrected)?;
            }
            _ if runner.is_told(n, message, answer) => runner.tell(n, message)?,
            _ => {}
        }
        runner.put_right(n)?;
        progress();
    }
    runner.finish(work)
}

fn order(collection: &Collection, protocol: &Protocol) -> Vec<usize> {
    let mut order: Vec<usize> = (0..collection.messages.len()).collect();
    if let Some(n) = protocol.shuffle {
        Random::stream(protocol.seed, n).shuffle(&mut order);
    }
    order
}

fn folds(
    collection: &Collection,
    spec: &FilterSpec,
    protocol: &Protocol,
    work: &Path,
    progress: &(dyn Fn() + Sync),
    n_folds: usize,
) -> Result<Run, Error> {
    let order = order(collection, protocol);
    let mut whole = Run {
        records: Vec::new(),
        mistakes: Vec::new(),
        cost: Cost::default(),
    };
    for fold in 0..n_folds {
        let work = work.join(format!("fold-{fold}"));
        std::fs::create_dir_all(&work).map_err(Error::io("make", &work))?;
        let mut runner = Runner::new(collection, spec.start(&work)?, protocol);
        let (inside, outside): (Vec<_>, Vec<_>) = order
            .iter()
            .enumerate()
            .partition(|(n, _)| n % n_folds == fold);
        for (n, message) in outside {
            runner.tell(n, *message)?;
            runner.put_right(n)?;
        }
        for (_, message) in inside {
            runner.classify(*message)?;
            progress();
        }
        whole.append(runner.finish(&work)?);
    }
    Ok(whole)
}

impl Run {
    fn append(&mut self, part: Self) {
        let n_before = self.records.len();
        self.records.extend(part.records);
        self.mistakes
            .extend(part.mistakes.into_iter().map(|mistake| Mistake {
                record: mistake.record + n_before,
                ..mistake
            }));
        self.cost.add(&part.cost);
    }
}

impl Cost {
    /// Adds up times, and keeps the greatest footprint.
    pub fn add(&mut self, more: &Self) {
        self.classifying += more.classifying;
        self.n_classified += more.n_classified;
        self.training += more.training;
        self.n_trained += more.n_trained;
        self.message_bytes += more.message_bytes;
        let left = &mut self.footprint;
        left.database_bytes = left.database_bytes.max(more.footprint.database_bytes);
        left.peak_memory_bytes = left.peak_memory_bytes.max(more.footprint.peak_memory_bytes);
        left.n_failures += more.footprint.n_failures;
    }
}

/// A filter with what it was told so far.
struct Runner<'a> {
    collection: &'a Collection,
    protocol: &'a Protocol,
    filter: Box<dyn Filter>,
    /// Each for one kind of choice, drawn for every message whether it is
    /// needed or not, so that all filters get the same feedback.
    wrong: Random,
    partial: Random,
    active: Active,
    /// When to put which message right, and whether it was learned wrongly.
    to_correct: VecDeque<(usize, usize, bool)>,
    run: Run,
}

impl<'a> Runner<'a> {
    fn new(collection: &'a Collection, filter: Box<dyn Filter>, protocol: &'a Protocol) -> Self {
        let stream =
            |kind: u64| Random::stream(protocol.seed ^ kind, protocol.shuffle.unwrap_or(0));
        Self {
            collection,
            protocol,
            filter,
            wrong: stream(1 << 32),
            partial: stream(2 << 32),
            active: Active::default(),
            to_correct: VecDeque::new(),
            run: Run {
                records: Vec::with_capacity(collection.messages.len()),
                mistakes: Vec::new(),
                cost: Cost::default(),
            },
        }
    }

    fn message(&self, message: usize) -> &'a Message {
        &self.collection.messages[message]
    }

    fn classify(&mut self, n: usize) -> Result<Answer, Error> {
        let message = self.message(n);
        let begin = Instant::now();
        let answer = self.filter.classify(message)?;
        self.run.cost.classifying += begin.elapsed();
        self.run.cost.n_classified += 1;
        self.run.cost.message_bytes += message.bytes.len() as u64;
        let right = match message.label {
            Label::Ham => Verdict::Ham,
            Label::Spam => Verdict::Spam,
        };
        if answer.verdict != right {
            self.run.mistakes.push(Mistake {
                record: self.run.records.len(),
                explanation: self.filter.explain(message),
            });
        }
        self.run.records.push(Record {
            message: n,
            label: message.label,
            answer,
        });
        Ok(answer)
    }

    fn is_told(&mut self, n: usize, message: usize, answer: Option<Answer>) -> bool {
        let drawn = match self.protocol.feedback {
            Feedback::Partial(percent) => self.partial.chance(percent),
            _ => true,
        };
        let Some(answer) = answer else {
            return true; // Train only.
        };
        let wanted = match self.protocol.feedback {
            Feedback::Immediate | Feedback::Folds(_) | Feedback::OwnVerdicts(_) => true,
            Feedback::First(first) => n < first,
            Feedback::Partial(_) => drawn,
            Feedback::Active(budget) => self.active.asks(answer, budget),
        };
        wanted && self.message(message).role == Role::ClassifyAndTrain
    }

    fn tell(&mut self, n: usize, message: usize) -> Result<(), Error> {
        let is_wrong = self.wrong.chance(self.protocol.wrong_percent);
        let truth = self.message(message).label;
        let label = if is_wrong { truth.other() } else { truth };
        if let (true, Some(after)) = (is_wrong, self.protocol.corrected_after) {
            self.to_correct.push_back((n + after, message, true));
        }
        let begin = Instant::now();
        self.filter.train(label, self.message(message))?;
        self.run.cost.training += begin.elapsed();
        self.run.cost.n_trained += 1;
        Ok(())
    }

    /// The filter learns what it said itself; now and then its mistake will be
    /// seen.
    fn learn_own(
        &mut self,
        n: usize,
        message: usize,
        answer: Answer,
        corrected: f64,
    ) -> Result<(), Error> {
        let truth = self.message(message).label;
        let is_seen = self.partial.chance(corrected);
        let said = match answer.verdict {
            Verdict::Spam => Label::Spam,
            Verdict::Ham | Verdict::Unsure => Label::Ham,
        };
        let share = match self.protocol.own_verdicts {
            OwnVerdicts::Full => Some(1.0),
            OwnVerdicts::Weighted(share) => Some(share),
            OwnVerdicts::Sure => (answer.verdict != Verdict::Unsure).then_some(1.0),
            OwnVerdicts::None => None,
        };
        let begin = Instant::now();
        if let Some(share) = share {
            self.filter.train_own(said, self.message(message), share)?;
            self.run.cost.n_trained += 1;
        }
        self.run.cost.training += begin.elapsed();
        if said != truth && is_seen {
            let is_learned = share.is_some();
            self.to_correct
                .push_back((n + SEEN_AFTER, message, is_learned));
        }
        Ok(())
    }

    fn put_right(&mut self, n: usize) -> Result<(), Error> {
        while let Some((due, message, is_learned)) = self.to_correct.front().copied() {
            if due > n {
                break;
            }
            self.to_correct.pop_front();
            let message = self.message(message);
            let begin = Instant::now();
            match is_learned {
                true => self.filter.retrain(message.label, message)?,
                false => self.filter.train(message.label, message)?,
            }
            self.run.cost.training += begin.elapsed();
            self.run.cost.n_trained += 1;
        }
        Ok(())
    }

    fn finish(mut self, work: &Path) -> Result<Run, Error> {
        let last = self.run.records.last();
        let last = last.map(|record| self.message(record.message));
        self.run.cost.footprint = match own::footprint(&*self.filter, work, last)? {
            Some(footprint) => footprint,
            None => self.filter.finalise()?,
        };
        Ok(self.run)
    }
}

/// Which answers are near the border between ham and spam.
///
/// Filters count on scales of their own, so this goes by rank: of the last
/// answers a share was called spam, which puts the border at a rank, and an
/// answer is near when its own rank lies within [`Active::NEAR`] of that.
#[derive(Default)]
struct Active {
    last: VecDeque<Answer>,
    n_asked: usize,
}

impl Active {
    /// Answers that are remembered.
    const WINDOW: usize = 200;
    /// As a share of the window, to either side.
    const NEAR: f64 = 0.1;
    /// Until then every message is near.
    const FIRST: usize = 20;

    fn asks(&mut self, answer: Answer, budget: usize) -> bool {
        let near = answer.verdict == Verdict::Unsure || self.is_near(answer);
        self.last.push_back(answer);
        if self.last.len() > Self::WINDOW {
            self.last.pop_front();
        }
        let asks = near && self.n_asked < budget;
        self.n_asked += usize::from(asks);
        asks
    }

    fn is_near(&self, answer: Answer) -> bool {
        if self.last.len() < Self::FIRST {
            return true;
        }
        let share = |test: &dyn Fn(&Answer) -> bool| {
            self.last.iter().filter(|other| test(other)).count() as f64 / self.last.len() as f64
        };
        let called_spam = share(&|other| other.verdict == Verdict::Spam);
        let above = share(&|other| other.score > answer.score);
        let not_below = share(&|other| other.score >= answer.score);
        // The middle of those with the same score.
        let rank = (above + not_below) / 2.0;
        (rank - called_spam).abs() <= Self::NEAR
    }
}

#[cfg(test)]
mod tests;
