//! The way of messages through `bmf`.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::mem;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::database::{Database, Guarded};
use super::folder::{self, MailFile};
use super::output::Answer;
use super::{Config, Mode, client, modern, output};
use crate::classic::{self, Layout, Lexer, Message, MessageReader, Score, Scorer};
use crate::modern::Decoded;
use crate::store::{Durability, Pending, TokenStore};
use crate::{Changes, Error, Label};

/// How `bmf` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done; with `-p` that is all there is to say.
    Done,
    /// The last message is spam.
    Spam,
    /// The last message is ham.
    Ham,
    /// Something failed.
    Failed,
    /// The database was locked for too long; the same call may work later.
    TryAgain,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done | Exit::Spam => 0,
            Exit::Ham => 1,
            Exit::Failed => 2,
            // EX_TEMPFAIL of sysexits.h, which delivery agents understand.
            Exit::TryAgain => 75,
        })
    }
}

/// Filters what `config` names, from its input to standard output. `note` gets
/// lines for standard error, without line ends.
pub fn run(config: &Config, note: &mut (dyn FnMut(&str) + Send)) -> Exit {
    let mut filter = Filter {
        config,
        note,
        database: None,
        scorers: Mutex::default(),
        decoded: None,
        pending: Changes::default(),
        last: None,
        exit: None,
    };
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let outcome = match &config.learn_folder {
        Some(path) => filter.learn_folder(path),
        None => filter.run(&mut out),
    };
    if let Err(failure) = outcome {
        filter.fail(&failure);
    }
    if let Err(error) = out.flush() {
        filter.fail(&Failure::WriteOutput(error));
    }
    filter.exit()
}

/// Why `bmf` fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Database(#[from] Error),
    #[error("cannot open input file '{name}': {source}")]
    OpenInput { name: String, source: io::Error },
    #[error("cannot read {name}: {source}")]
    ReadInput { name: String, source: io::Error },
    #[error("cannot write output: {0}")]
    WriteOutput(io::Error),
    #[error("input is no mbox: it does not begin with a 'From ' line")]
    NoMbox,
    #[error("no input, or no word in it")]
    NoWord,
}

/// Messages that are worked on at once. The threads at work share them, so
/// that they can still be copied through when a thread faults.
pub(super) type Batch = Arc<Vec<Message>>;

/// Token counts as the classic engine uses them.
type Counts = Guarded<Box<dyn TokenStore + Send + Sync>>;

/// Bytes of messages in a batch, not counting the last one.
const MAX_BATCH_BYTES: usize = 2 << 20;

/// Messages that one thread scores before it asks for more.
const MESSAGES_AT_ONCE: usize = 64;

/// Scorers, and so threads at work, for each of which some 4 MiB are needed.
const MAX_SCORERS: usize = 6;

/// Changed tokens that are held back, so that memory stays bounded. Changes
/// are applied between messages only: each one wholly or not at all.
const MAX_PENDING_TOKENS: usize = 1 << 15;

/// A run in progress.
struct Filter<'a> {
    config: &'a Config,
    note: &'a mut (dyn FnMut(&str) + Send),
    /// `None` once it failed: from then on messages are only copied through.
    database: Option<Database>,
    /// Those that rest, with the tokens that they know.
    scorers: Mutex<Vec<Scorer>>,
    /// The model of the modern engine, where many messages are only tested.
    decoded: Option<Arc<Decoded>>,
    /// Learned and not applied yet.
    pending: Changes,
    /// Whether the last message is spam.
    last: Option<bool>,
    /// How to end after a failure.
    exit: Option<Exit>,
}

impl Filter<'_> {
    fn run(&mut self, out: &mut impl Write) -> Result<(), Failure> {
        let read_input = |source| Failure::ReadInput {
            name: match &self.config.input {
                Some(path) => format!("input file '{}'", path.display()),
                None => "standard input".into(),
            },
            source,
        };
        let mut reader = MessageReader::new(self.open_input()?).map_err(read_input)?;
        match self.open_database(&mut reader) {
            Ok(database) => self.database = Some(database),
            Err(failure) => self.fail(&failure),
        }
        let mut batch = read_batch(&mut reader).map_err(read_input)?;
        while !batch.is_empty() && (self.exit.is_none() || self.config.passthrough) {
            let (answers, next) = match pays_to_read_ahead(&batch) {
                false => (self.classify(&batch), None),
                true => rayon::join(|| self.classify(&batch), || Some(read_batch(&mut reader))),
            };
            for (message, answer) in batch.iter().zip(answers) {
                self.write(message, answer, out)
                    .map_err(Failure::WriteOutput)?;
            }
            drop(batch);
            let next = next.unwrap_or_else(|| read_batch(&mut reader));
            batch = next.map_err(read_input)?;
        }
        if self.last.is_none() {
            return Err(Failure::NoWord);
        }
        self.apply_pending()?;
        out.flush().map_err(Failure::WriteOutput)?;
        self.trim();
        Ok(())
    }

    /// Leaves no file that is much larger than what it holds. One that stays so
    /// is right all the same, and the next run tries again.
    fn trim(&self) {
        if let (Some(Database::Modern(model)), None) = (&self.database, self.exit) {
            drop(model.change(|lmdb| lmdb.trim()));
        }
    }

    /// Learns messages that a person has sorted. Stops at the first failure;
    /// with the modern engine a second run learns only what is missing.
    fn learn_folder(&mut self, path: &Path) -> Result<(), Failure> {
        let cannot_open = |path: &Path| {
            let name = path.display().to_string();
            move |source| Failure::OpenInput { name, source }
        };
        let files = folder::files(path).map_err(cannot_open(path))?;
        self.database = Some(Database::open(self.config, self.note)?);
        // Shown on a terminal only.
        let progress = ProgressBar::new(files.len() as u64);
        progress.set_style(ProgressStyle::default_bar());
        let (mut batch, mut n_bytes, mut n_messages) = (Vec::new(), 0, 0);
        for MailFile { path, layout } in progress.wrap_iter(files.iter()) {
            let file = match File::open(path) {
                // A mail reader has moved it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.map_err(cannot_open(path))?,
            };
            folder::check_unpacked(&file).map_err(cannot_open(path))?;
            let mut reader = MessageReader::new(file).map_err(cannot_open(path))?;
            if *layout == Some(Layout::Single) {
                reader.read_as_single();
            }
            while let Some(message) = reader.next_message().map_err(cannot_open(path))? {
                n_bytes += message.len();
                batch.push(message);
                if n_bytes >= MAX_BATCH_BYTES {
                    n_messages += self.learn_all(mem::take(&mut batch));
                    n_bytes = 0;
                }
            }
            if self.exit.is_some() {
                return Ok(());
            }
        }
        n_messages += self.learn_all(batch);
        self.apply_pending()?;
        self.trim();
        if self.exit.is_none() {
            let plural = if n_messages == 1 { "" } else { "s" };
            let path = path.display();
            (self.note)(&format!("read {n_messages} message{plural} of {path}"));
        }
        Ok(())
    }

    /// Returns how many messages there was something to learn from.
    fn learn_all(&mut self, batch: Vec<Message>) -> usize {
        let answers = self.classify(&Arc::new(batch));
        answers.iter().flatten().count()
    }

    fn open_input(&self) -> Result<Box<dyn Read + Send>, Failure> {
        let Some(path) = &self.config.input else {
            return Ok(Box::new(io::stdin()));
        };
        let file = File::open(path).map_err(|source| Failure::OpenInput {
            name: path.display().to_string(),
            source,
        })?;
        Ok(Box::new(file))
    }

    fn open_database(
        &mut self,
        reader: &mut MessageReader<impl Read>,
    ) -> Result<Database, Failure> {
        match (self.config.layout, reader.layout()) {
            (Some(Layout::Mbox), Layout::Single) => return Err(Failure::NoMbox),
            (Some(Layout::Single), Layout::Mbox) => reader.read_as_single(),
            _ => {}
        }
        if self.config.verbose {
            (self.note)(match reader.layout() {
                Layout::Mbox => "input is an mbox",
                Layout::Single => "input is one message",
            });
        }
        Ok(Database::open(self.config, self.note)?)
    }

    /// The answers to a batch, after which what it teaches is pending or
    /// applied. `None` for a message that cannot be scored.
    fn classify(&mut self, batch: &Batch) -> Vec<Option<Answer>> {
        let durability = self.durability();
        let answers = match &self.database {
            None => return batch.iter().map(|_| None).collect(),
            Some(Database::Modern(model)) => {
                modern::answers(self.config, batch, model, durability, &mut self.decoded)
            }
            Some(Database::Daemon(_)) => self.ask(batch),
            Some(Database::Copy(copy)) => {
                let copy = Arc::clone(copy);
                self.answers_of_copy(batch, &copy)
            }
            Some(Database::Classic(counts)) => {
                let counts = counts.clone();
                self.scores(batch, &counts)
            }
        };
        answers.unwrap_or_else(|error| {
            self.fail(&error.into());
            batch.iter().map(|_| None).collect()
        })
    }

    /// The daemon's answers. Should it go away, those that can be given
    /// without it; what it has already learned of this batch it knows.
    fn ask(&mut self, batch: &Batch) -> Result<Vec<Option<Answer>>, Error> {
        let Some(Database::Daemon(daemon)) = &mut self.database else {
            return Ok(Vec::new());
        };
        let unanswered = match daemon.answers(self.config, batch) {
            Err(client::Failure::Unanswered(reason)) => reason,
            Err(client::Failure::Refused(error)) => return Err(error),
            Ok(answers) => return Ok(answers),
        };
        let copy = Arc::new(client::copy(self.config, &unanswered, self.note)?);
        let answers = self.answers_of_copy(batch, &copy);
        self.database = Some(Database::Copy(copy));
        answers
    }

    /// Answers by what was left when the daemon took the database over; what
    /// there is to learn waits for it.
    fn answers_of_copy(
        &mut self,
        batch: &Batch,
        copy: &client::Copy,
    ) -> Result<Vec<Option<Answer>>, Error> {
        for message in batch.iter().filter(|message| has_words(message)) {
            copy.put_by(self.config, message)?;
        }
        let told =
            |label, message: &Message| has_words(message).then(|| copy.told(self.config, label));
        let answers: Vec<_> = match (self.config.mode.label(), &*copy.database) {
            (Some(label), _) => {
                return Ok(batch.iter().map(|message| told(label, message)).collect());
            }
            (None, Database::Modern(model)) => {
                modern::test(batch, model, self.config.output, &mut self.decoded)?
            }
            (None, Database::Classic(counts)) => {
                let scores = self.test(batch, counts)?.into_iter();
                scores.map(|score| score.map(Answer::Classic)).collect()
            }
            (None, _) => batch.iter().map(|_| None).collect(),
        };
        let mark = |(message, answer): (&Message, Option<Answer>)| {
            answer.map(|answer| copy.marked(self.config, message, answer))
        };
        Ok(batch.iter().zip(answers).map(mark).collect())
    }

    fn scores(&mut self, batch: &Batch, counts: &Counts) -> Result<Vec<Option<Answer>>, Error> {
        let scores = match self.config.mode.label() {
            Some(label) => self.learn(batch, label),
            None if self.config.mode == Mode::Test => self.test(batch, counts)?,
            None => self.register(batch, counts)?,
        };
        if self.pending.n_tokens() > MAX_PENDING_TOKENS {
            apply(counts, mem::take(&mut self.pending), self.durability())?;
        }
        let answer = |score: Option<Score>| score.map(Answer::Classic);
        Ok(scores.into_iter().map(answer).collect())
    }

    /// Registers under the user's label. Words are found side by side.
    fn learn(&mut self, batch: &Batch, label: Label) -> Vec<Option<Score>> {
        let learned =
            |message: &Message| has_words(message).then(|| classic::message_tokens(message));
        let tokens: Vec<_> = match batch.as_slice() {
            [message] => vec![learned(message)],
            messages => messages.par_iter().map(learned).collect(),
        };
        let takes_back = self.config.mode.takes_back();
        let mut learn = |tokens| {
            self.pending.learn(label, &tokens);
            if takes_back {
                self.pending.unlearn(label.other(), &tokens);
            }
            told(label)
        };
        tokens.into_iter().map(|t| t.map(&mut learn)).collect()
    }

    /// Scores, side by side.
    fn test(&self, batch: &Batch, counts: &Counts) -> Result<Vec<Option<Score>>, Error> {
        let params = self.config.params;
        let at_once = MESSAGES_AT_ONCE.max(batch.len().div_ceil(MAX_SCORERS));
        let scorers = &self.scorers;
        let lock = || scorers.lock().unwrap_or_else(PoisonError::into_inner);
        let score = |from: usize| {
            let batch = Arc::clone(batch);
            let mut scorer = lock().pop().unwrap_or_default();
            let (scores, scorer) = counts.run(move |store| {
                let messages = batch.iter().skip(from).take(at_once);
                let scores = messages.map(|message| {
                    has_words(message)
                        .then(|| scorer.score_next(message, &**store, &params))
                        .transpose()
                });
                Ok((scores.collect::<Result<Vec<_>, _>>()?, scorer))
            })?;
            lock().push(scorer);
            Ok(scores)
        };
        if batch.len() <= at_once {
            return score(0);
        }
        let starts: Vec<_> = (0..batch.len()).step_by(at_once).collect();
        let scores: Result<Vec<_>, _> = starts.into_par_iter().map(score).collect();
        Ok(scores?.into_iter().flatten().collect())
    }

    /// Registers each message under its own verdict, which the next one
    /// already feels: one after the other.
    fn register(&mut self, batch: &Batch, counts: &Counts) -> Result<Vec<Option<Score>>, Error> {
        let params = self.config.params;
        let batch = Arc::clone(batch);
        let mut changes = mem::take(&mut self.pending);
        let (scores, changes) = counts.run(move |store| {
            let mut scorer = Scorer::default();
            let mut scores = Vec::with_capacity(batch.len());
            for message in batch.iter() {
                if !has_words(message) {
                    scores.push(None);
                    continue;
                }
                let view = Pending {
                    store: &**store,
                    changes: &changes,
                };
                let score = scorer.score(message, &view, &params)?;
                let label = match score.is_spam(&params) {
                    true => Label::Spam,
                    false => Label::Ham,
                };
                changes.learn(label, &classic::message_tokens(message));
                scores.push(Some(score));
            }
            Ok((scores, changes))
        })?;
        self.pending = changes;
        Ok(scores)
    }

    /// Writes all that is to be said of a message, and the message.
    fn write(
        &mut self,
        message: &[u8],
        answer: Option<Answer>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut fields = Vec::new();
        if let Some(answer) = answer {
            self.last = Some(answer.is_spam(&self.config.params));
            output::write(self.config, &answer, out)?;
            fields = answer.header_fields(&self.config.params);
        }
        if self.config.passthrough {
            classic::passthrough(message, &fields, out)?;
        }
        Ok(())
    }

    fn apply_pending(&mut self) -> Result<(), Failure> {
        let changes = mem::take(&mut self.pending);
        let durability = self.durability();
        match &self.database {
            Some(Database::Classic(counts)) if !changes.is_empty() => {
                Ok(apply(counts, changes, durability)?)
            }
            _ => Ok(()),
        }
    }

    /// What a person said is on disk before `bmf` ends; what the filter told
    /// itself may follow.
    fn durability(&self) -> Durability {
        match self.config.mode {
            Mode::Register => Durability::Relaxed,
            _ => Durability::Synced,
        }
    }

    /// Notes a failure, of which the first one decides how `bmf` ends.
    fn fail(&mut self, failure: &Failure) {
        self.database = None;
        if self.exit.is_some() {
            return;
        }
        self.exit = Some(match failure {
            Failure::Database(error) if error.is_transient() && self.config.temp_fail => {
                Exit::TryAgain
            }
            _ => Exit::Failed,
        });
        // A reader that went away, as `head` does, wants no complaint.
        let quiet = matches!(failure, Failure::WriteOutput(e) if e.kind() == ErrorKind::BrokenPipe);
        if !quiet {
            (self.note)(&failure.to_string());
        }
    }

    fn exit(&self) -> Exit {
        match (self.exit, self.last) {
            (Some(exit), _) => exit,
            (None, _) if self.config.passthrough || self.config.learn_folder.is_some() => {
                Exit::Done
            }
            (None, Some(true)) => Exit::Spam,
            (None, _) => Exit::Ham,
        }
    }
}

/// What a person said, as bmf prints it.
pub(super) fn told(label: Label) -> Score {
    Score {
        hits: match label {
            Label::Ham => 0.0,
            Label::Spam => 1.0,
        },
        evidence: Vec::new(),
    }
}

fn apply(counts: &Counts, changes: Changes, durability: Durability) -> Result<(), Error> {
    counts.change(move |store| store.apply(&changes, durability))
}

fn read_batch(reader: &mut MessageReader<impl Read>) -> io::Result<Batch> {
    let mut batch = Vec::new();
    let mut n_bytes = 0;
    while n_bytes < MAX_BATCH_BYTES
        && let Some(message) = reader.next_message()?
    {
        n_bytes += message.len();
        batch.push(message);
    }
    Ok(Arc::new(batch))
}

/// Whether to read the next batch while this one is worked on: not when that
/// would start threads for a message, or keep two long messages in memory.
fn pays_to_read_ahead(batch: &Batch) -> bool {
    let n_bytes: usize = batch.iter().map(|message| message.len()).sum();
    batch.len() > 1 && n_bytes < 2 * MAX_BATCH_BYTES
}

/// Whether there is anything to score: bmf takes a message without a word for
/// no message.
pub(super) fn has_words(message: &[u8]) -> bool {
    // Messages of an mbox begin with a word: their mark.
    message.starts_with(b"From ") || Lexer::new(message).next().is_some()
}
