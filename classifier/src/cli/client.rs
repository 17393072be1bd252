//! `bmf` when a daemon owns its user's model: it hands the user's own database
//! over, once, and from then on asks the daemon ([`super::wire`]).
//!
//! When the daemon does not answer, verdicts come from what was handed over,
//! with a note how old that is, and lessons wait in the [`super::spool`]. No
//! step of handing over can be killed so that something is lost or counted
//! twice:
//!
//! | killed after | what is left | what the next `bmf` does |
//! | --- | --- | --- |
//! | the mark `moving` | a database that nobody writes to | hands it over |
//! | the daemon's reply | the same, and the daemon knows it by its digest | hands it over again, which changes nothing |
//! | the mark `moved` | all is done | asks |
//!
//! Deliberately absent: an async runtime, threads, and anything that a process
//! of a millisecond would pay for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::database::Database;
use super::output::Answer;
use super::run::{Batch, told};
use super::spool::{HandedOver, Spool};
use super::wire::{Ask, HEADER_LEN, Header, Malformed, Refusal, Reply, Request};
use super::{Config, Engine, Mode, modern};
use crate::import::Lists;
use crate::mark::MarkKey;
use crate::modern::export;
use crate::store::ModelStore;
use crate::store::lmdb::{Lmdb, Moved, Options};
use crate::{Error, Label, import};

/// A connection to the daemon.
pub(super) struct Daemon {
    stream: UnixStream,
    socket: PathBuf,
}

/// Why the daemon has given no answer.
pub(super) enum Failure {
    /// It does not answer, or cannot now.
    Unanswered(Error),
    /// It will not.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What was left when the daemon took a database over.
pub(super) struct Copy {
    /// To read only.
    pub(super) database: Box<Database>,
    spool: Spool,
    mark_key: Option<MarkKey>,
}

/// Longest wait for the daemon, which itself waits for nothing longer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Longer replies are no replies to what `bmf` asks.
const MAX_REPLY: u32 = 64 << 20;

/// The daemon, where one owns the model that `config` means; otherwise the
/// database itself.
pub(super) fn open(config: &Config, note: &mut dyn FnMut(&str)) -> Result<Database, Error> {
    let daemon = config.sockets.iter().find_map(Daemon::connect);
    if !config.user.is_empty() {
        return daemon.map(Database::Daemon).ok_or_else(|| {
            let socket = config.sockets.last().cloned().unwrap_or_default();
            failed(
                socket,
                "it does not answer, and only it has other users' models",
                true,
            )
        });
    }
    if !config.is_own_database {
        return Database::open_lmdb(config, note);
    }
    let moved = Moved::in_dir(&config.dir)?;
    let Some(mut daemon) = daemon else {
        return match moved {
            None => Database::open_lmdb(config, note),
            Some(_) => {
                let socket = config.sockets.last().cloned().unwrap_or_default();
                let reason = failed(socket, "it does not answer", true);
                copy(config, &reason, note).map(|copy| Database::Copy(copy.into()))
            }
        };
    };
    let is_taken = matches!(moved, Some(moved) if moved.is_done);
    let taken = match is_taken {
        true => Ok(()),
        false => daemon.take_over(config, note),
    };
    match taken.and_then(|()| daemon.hand_over_spool(config, note)) {
        Ok(()) => Ok(Database::Daemon(daemon)),
        Err(Failure::Refused(Error::Io { source, .. })) if import::is_read_only(&source) => {
            Database::open_lmdb(config, note)
        }
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Unanswered(error)) => {
            copy(config, &error, note).map(|copy| Database::Copy(copy.into()))
        }
    }
}

/// What can be asked without the daemon, which failed for `reason`.
///
/// # Errors
/// With the reason when nothing was handed over.
pub(super) fn copy(
    config: &Config,
    reason: &Error,
    note: &mut dyn FnMut(&str),
) -> Result<Copy, Error> {
    let moved = match config.user.is_empty() {
        true => Moved::in_dir(&config.dir)?,
        false => None,
    };
    let Some(moved) = moved else {
        let (socket, reason) = match reason {
            Error::Daemon { socket, reason, .. } => (socket.clone(), reason.clone()),
            error => (PathBuf::new(), error.to_string()),
        };
        return Err(failed(socket, &reason, true));
    };
    let reads = Config {
        mode: Mode::Test,
        ..config.clone()
    };
    let database = Database::open_lmdb(&reads, note).inspect_err(|error| {
        if let Error::Damaged { .. } = error {
            note(&format!(
                "{reason}; bmfd has all of what is damaged here: remove it, and lessons wait for bmfd"
            ));
        }
    })?;
    let age = age(modern::now().saturating_sub(moved.since));
    note(&match config.mode {
        Mode::Test => format!("{reason}; scored by what was handed over to it {age} ago"),
        _ => format!(
            "{reason}; what there is to learn waits for it; scored by what was handed over to it {age} ago"
        ),
    });
    Ok(Copy {
        database: database.into(),
        spool: Spool::of(&config.dir),
        mark_key: moved.mark_key,
    })
}

fn age(seconds: u64) -> String {
    let (n, unit) = match seconds {
        0..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

impl Copy {
    /// Keeps what is to be learned of `message` for the daemon.
    pub(super) fn put_by(&self, config: &Config, message: &[u8]) -> Result<(), Error> {
        if config.mode == Mode::Test {
            return Ok(());
        }
        match Request::message_head(config.ask(), "", message.len()) {
            Some(head) => self.spool.put(&[&head, message]),
            None => Err(failed(PathBuf::new(), TOO_LONG, false)),
        }
    }

    /// The answer with the mark that the daemon would give it, by which it
    /// knows later that the filter has filed the message, and not its user.
    pub(super) fn marked(&self, config: &Config, message: &[u8], answer: Answer) -> Answer {
        match &self.mark_key {
            Some(key) if answer.is_spam(&config.params) => {
                let mut verdict = answer.to_verdict(&config.ask());
                let field = key.field_of(message);
                verdict.header_fields.extend_from_slice(field.as_bytes());
                Answer::Said(verdict)
            }
            _ => answer,
        }
    }

    /// What a person said.
    pub(super) fn told(&self, config: &Config, label: Label) -> Answer {
        match (&*self.database, config.engine) {
            (Database::Modern(_), _) => modern::told(label),
            _ => Answer::Classic(told(label)),
        }
    }
}

impl Daemon {
    fn connect(socket: &PathBuf) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        stream.set_write_timeout(Some(TIMEOUT)).ok()?;
        Some(Self {
            stream,
            socket: socket.clone(),
        })
    }

    /// What it says of each message, one after another. `None` for a message
    /// that cannot be scored.
    pub(super) fn answers(
        &mut self,
        config: &Config,
        batch: &Batch,
    ) -> Result<Vec<Option<Answer>>, Failure> {
        let answer = |message: &crate::classic::Message| {
            let head = Request::message_head(config.ask(), &config.user, message.len());
            let head = head.ok_or_else(|| failed(self.socket.clone(), TOO_LONG, false))?;
            match self.ask(&[&head, message])? {
                Reply::Verdict(verdict) => Ok(Some(Answer::Said(verdict))),
                Reply::NoWord => Ok(None),
                _ => Err(self.no_answer()),
            }
        };
        batch.iter().map(answer).collect()
    }

    fn ask(&mut self, request: &[&[u8]]) -> Result<Reply, Failure> {
        match self.exchange(request) {
            Ok(Reply::Refused(Refusal::TryAgain | Refusal::NoRequest, reason)) => {
                Err(Failure::Unanswered(self.failed(&reason, true)))
            }
            Ok(Reply::Refused(_, reason)) => Err(Failure::Refused(self.failed(&reason, false))),
            Ok(reply) => Ok(reply),
            Err(error) => {
                let reason = match error.kind() {
                    ErrorKind::WouldBlock => "it does not answer in time".into(),
                    ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => "it hung up".into(),
                    _ => error.to_string(),
                };
                Err(Failure::Unanswered(self.failed(&reason, true)))
            }
        }
    }

    fn exchange(&mut self, request: &[&[u8]]) -> io::Result<Reply> {
        // A daemon that refuses a request may say so before it has read all.
        let sent = request
            .iter()
            .try_for_each(|part| self.stream.write_all(part));
        let mut head = [0; HEADER_LEN];
        match (self.stream.read_exact(&mut head), sent) {
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
            (Ok(()), _) => {}
        }
        let malformed = |error| io::Error::new(ErrorKind::InvalidData, error);
        let header = Header::parse(&head).map_err(malformed)?;
        if header.len > MAX_REPLY {
            return Err(io::Error::new(ErrorKind::InvalidData, TOO_LONG));
        }
        let mut content = Vec::new();
        let len = u64::from(header.len);
        if (&self.stream).take(len).read_to_end(&mut content)? as u64 != len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Reply::parse(header, &content).map_err(malformed)
    }

    fn failed(&self, reason: &str, is_transient: bool) -> Error {
        failed(self.socket.clone(), reason, is_transient)
    }

    fn no_answer(&self) -> Failure {
        Failure::Unanswered(self.failed("its reply makes no sense", true))
    }

    /// Hands over what the user has, if anything, after nobody can change it
    /// any more.
    fn take_over(&mut self, config: &Config, note: &mut dyn FnMut(&str)) -> Result<(), Failure> {
        let dir = &config.dir;
        let moved = Moved::begin(dir, modern::now(), config.lock_wait)?;
        let all = everything(config).inspect_err(|error| {
            if let Error::Damaged { .. } = error {
                note(
                    "nothing is handed over to bmfd; move away what is damaged to begin anew there",
                );
            }
        })?;
        let (engine, text) = all.unwrap_or((Engine::Modern, Vec::new()));
        let request = Request::TakeOver {
            engine,
            text: &text,
        };
        let request = request.to_bytes();
        let request = request.ok_or_else(|| self.failed(TOO_LONG, false))?;
        let Reply::TakenOver(mark_key) = self.ask(&[&request])? else {
            return Err(self.no_answer());
        };
        if !text.is_empty() {
            note(&format!(
                "handed {} over to bmfd, which alone learns from now on",
                dir.display()
            ));
        }
        Ok(moved.done(dir, mark_key)?)
    }

    fn hand_over_spool(
        &mut self,
        config: &Config,
        note: &mut dyn FnMut(&str),
    ) -> Result<(), Failure> {
        let spool = Spool::of(&config.dir);
        let n_done = spool.drain(config.lock_wait, |request| {
            let head = request.first_chunk().map(Header::parse);
            if let Some(Err(error @ Malformed::Version(_))) = head {
                note(&format!(
                    "{}: a lesson waits: {error}",
                    config.dir.display()
                ));
                return Ok(HandedOver::Waits);
            }
            match self.ask(&[request]) {
                Ok(_) => Ok(HandedOver::Done),
                Err(Failure::Refused(_)) => Ok(HandedOver::Refused),
                Err(failure) => Err(failure),
            }
        })?;
        if n_done > 0 && config.verbose {
            note(&format!(
                "handed {n_done} messages over that had waited for bmfd"
            ));
        }
        Ok(())
    }
}

/// All that is in the user's database, or in the lists that bmf left there.
fn everything(config: &Config) -> Result<Option<(Engine, Vec<u8>)>, Error> {
    let dir = config.dir.clone();
    let options = Options {
        lock_wait: config.lock_wait,
        other_engines: &["classic", "modern"],
        ..Options::read_only()
    };
    if !Lmdb::path(&dir).exists() {
        let lists = Lists::find(&dir, config.lock_wait)?;
        return Ok(lists.map(|lists| (Engine::Classic, lists.to_text())));
    }
    let guard = crate::store::lmdb::FaultGuard::new(&Lmdb::path(&dir))?;
    guard.run(move || {
        let lmdb = Lmdb::open(&dir, &options)?;
        if lmdb.is_new()? {
            let lists = Lists::find(&dir, options.lock_wait)?;
            return Ok(lists.map(|lists| (Engine::Classic, lists.to_text())));
        }
        if lmdb.engine() != Engine::Modern.name() {
            let lists = Lists::of(&lmdb, Vec::new())?;
            return Ok(Some((Engine::Classic, lists.to_text())));
        }
        let mut text = Vec::new();
        lmdb.look(&mut |view| {
            text.clear();
            export(view, &mut text, &dir)
        })?;
        Ok(Some((Engine::Modern, text)))
    })
}

impl Config {
    fn ask(&self) -> Ask {
        Ask {
            mode: self.mode,
            output: self.output,
            engine: self.engine,
            syncs: self.syncs,
            n_extrema: self.params.n_extrema as u32,
        }
    }
}

fn failed(socket: PathBuf, reason: &str, is_transient: bool) -> Error {
    Error::Daemon {
        socket,
        reason: reason.into(),
        is_transient,
    }
}

const TOO_LONG: &str = "that is too long for it";
