//! Delivery to a user: what the instructions say, in their order.
//!
//! The first program or mailbox that fails ends the delivery with its
//! failure; when it is tried again, what went well before is delivered once
//! more. Forwards are only collected: the caller queues them when all else
//! went well.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mailbox::{FolderName, Layout, Mailbox as Folders, UniqueNames, Usage};
use rustix::fs::{Mode, OFlags};
use tracing::error;

use super::content::{Content, Pieces, delivered_to, return_path};
use super::environment;
use super::instructions::{self, Instruction};
use super::mbox;
use super::program::{self, Judgement, Limits};
use crate::Error;
use crate::accounts::{Accounts, Directory, Extension, OverQuota, User};
use crate::smtp::{LocalPart, Mailbox, Reply, ReversePath};

/// Where mail goes that nothing is said of, and where spam goes.
pub(crate) const INBOX: &str = "INBOX";
pub(crate) const JUNK: &str = "Junk";

/// Delivers to the users of a host.
#[derive(Debug)]
pub struct Deliverer {
    accounts: Arc<Accounts>,
    names: UniqueNames,
    limits: Limits,
    /// The folder of the host. In its `spool` programs' input lies while they
    /// read it; files without a name.
    data: PathBuf,
}

/// One message for one user.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Where it came from.
    pub reverse_path: &'a ReversePath,
    /// Whose it is.
    pub user: &'a User,
    /// What the local part holds after the user's name.
    pub extension: Option<&'a Extension>,
    /// The address that led here.
    pub address: &'a Mailbox,
    /// The message.
    pub content: &'a Content,
    /// Header fields that are added for this user, whole lines.
    pub fields: &'a str,
    /// Whether what would go to INBOX goes to Junk.
    pub is_junk: bool,
    /// Now.
    pub now: SystemTime,
}

/// What a user's file says is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instructions {
    /// In this order.
    pub all: Vec<Instruction>,
    /// The part of the extension that the file's name leaves open.
    pub default: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Where it went, for the journal.
    pub places: Vec<String>,
    /// What is to be queued.
    pub forwards: Vec<Forward>,
}

/// A copy that goes on to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Who gets its reports.
    pub reverse_path: ReversePath,
    /// Where it goes.
    pub recipients: Vec<Mailbox>,
}

impl Deliverer {
    /// For the users of `accounts`; `host` goes into the names of messages, and `data` is
    /// the folder of the host.
    pub fn new(accounts: Arc<Accounts>, host: &str, limits: Limits, data: PathBuf) -> Self {
        Self {
            accounts,
            names: UniqueNames::new(host),
            limits,
            data,
        }
    }

    /// The accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// What is to be done with mail of that user; `None` when nothing says
    /// so, and it goes to the mailbox.
    ///
    /// # Errors
    /// With a transient reply when the instructions cannot be read.
    pub fn instructions(
        &self,
        user: &User,
        extension: Option<&Extension>,
    ) -> Result<Option<Instructions>, Reply> {
        let Ok(home) = self.accounts.homes().home(&user.address) else {
            return Ok(None);
        };
        let wanted = extension.map(|extension| extension.text.as_str());
        let mut found = instructions::find(&home, wanted).map_err(|error| failed(&error))?;
        if let Some(Extension { separator, .. }) = extension
            && found.is_none()
        {
            if *separator == '-' {
                return Err(Reply::new(550, (5, 1, 1), "no such user here"));
            }
            found = instructions::find(&home, None).map_err(|error| failed(&error))?;
        }
        let Some(found) = found else {
            return Ok(None);
        };
        let all = instructions::parse(&found, &user.address.domain)?;
        // A file without a line means what no file means.
        let is_empty = found.text.is_empty();
        Ok((!is_empty).then_some(Instructions {
            all,
            default: found.default,
        }))
    }

    /// Asks whether the user's mailbox has room for a message of that size,
    /// where mail goes there.
    ///
    /// # Errors
    /// With what is answered to mail for it when it has none.
    pub fn must_have_room(
        &self,
        user: &User,
        extension: Option<&Extension>,
        size: u64,
        now: SystemTime,
    ) -> Result<(), Reply> {
        if user.settings.quota == mailbox::Quota::default() {
            return Ok(());
        }
        let goes_there = match self.instructions(user, extension) {
            Ok(None) => true,
            Ok(Some(said)) => said.all.contains(&Instruction::Maildir("Maildir".into())),
            // Delivery tells what is wrong with them.
            Err(_) => false,
        };
        if !goes_there {
            return Ok(());
        }
        let homes = self.accounts.homes();
        let folders = homes
            .mailbox(&user.address)
            .map_err(|error| failed(&error))?;
        self.make_room(user, now, &folders, size.max(1)).map(drop)
    }

    /// Delivers a message.
    ///
    /// # Errors
    /// With a transient reply when it may be tried again, else a permanent
    /// one.
    pub fn deliver(&self, job: &Job<'_>) -> Result<Delivered, Reply> {
        if job.content.was_delivered_to(job.address) {
            return Err(Reply::new(
                554,
                (5, 4, 6),
                "this message is looping: it has been here before",
            ));
        }
        let mut delivered = Delivered::default();
        match self.instructions(job.user, job.extension)? {
            None => delivered.places.push(self.to_mailbox(job)?),
            Some(instructions) => self.follow(job, &instructions, &mut delivered)?,
        }
        Ok(delivered)
    }

    fn follow(
        &self,
        job: &Job<'_>,
        instructions: &Instructions,
        delivered: &mut Delivered,
    ) -> Result<(), Reply> {
        let home = self
            .accounts
            .homes()
            .home(&job.user.address)
            .map_err(|reason| {
                error!(user = %job.user.address, reason, "no folder of that name can be");
                trouble()
            })?;
        let mut to = Vec::new();
        for instruction in &instructions.all {
            match instruction {
                Instruction::Maildir(path) if path == Path::new("Maildir") => {
                    delivered.places.push(self.to_mailbox(job)?);
                }
                Instruction::Maildir(path) => delivered.places.push(self.to_maildir(job, path)?),
                Instruction::Mbox(path) => delivered.places.push(to_mbox(job, &home, path)?),
                Instruction::Forward(mailbox) => to.push(mailbox.clone()),
                Instruction::Program(command) => {
                    let place = format!("program {command}");
                    let default = instructions.default.as_deref();
                    let judgement = self.to_program(job, &home, command, default)?;
                    delivered.places.push(place);
                    match judgement {
                        Judgement::Done => {}
                        Judgement::Stop => break,
                        Judgement::Failure(reply) => return Err(reply),
                    }
                }
            }
        }
        delivered.forwards = forwards(job, &home, to)?;
        Ok(())
    }

    /// INBOX or Junk of the user's own mailbox, within its quota.
    fn to_mailbox(&self, job: &Job<'_>) -> Result<String, Reply> {
        let folders = self
            .accounts
            .homes()
            .mailbox(&job.user.address)
            .map_err(|e| failed(&e))?;
        let name = if job.is_junk { JUNK } else { INBOX };
        let above = above(job);
        let mut message = job.content.with(above.as_bytes(), job.fields.as_bytes());
        let counts = self.make_room(job.user, job.now, &folders, message.len())?;
        let mut deliver = || {
            let name = FolderName::parse(name, Layout::MaildirPlusPlus)?;
            let folder = folders.create_folder(&name)?;
            let size = message.len();
            let entry = folder.deliver(&self.names, job.now, &mut message)?;
            if counts {
                folders.note_usage(Usage::of_message(&entry.name, size))?;
            }
            Ok(format!("{name} {}", entry.name))
        };
        deliver().map_err(|error: mailbox::Error| failed(&error.into()))
    }

    /// Whether the mailbox has a quota; an error when the message would
    /// exceed it.
    fn make_room(
        &self,
        user: &User,
        now: SystemTime,
        folders: &Folders,
        size: u64,
    ) -> Result<bool, Reply> {
        let quota = user.settings.quota;
        if quota == mailbox::Quota::default() {
            return Ok(false);
        }
        let used = || match folders.quota_state()? {
            Some(state) if state.quota == quota && !state.is_due(now) => Ok(state.usage),
            _ => folders.recount(quota, &self.names, now),
        };
        let used = used().map_err(|error| failed(&error.into()))?;
        let added = Usage {
            bytes: i64::try_from(size).unwrap_or(i64::MAX),
            messages: 1,
        };
        if !quota.is_exceeded_by(used.plus(added)) {
            return Ok(true);
        }
        Err(match user.settings.over_quota {
            OverQuota::Defer => Reply::new(452, (4, 2, 2), "the mailbox is full"),
            OverQuota::Refuse => Reply::new(552, (5, 2, 2), "the mailbox is full"),
        })
    }

    /// A Maildir that the user names. A missing one is waited for, as qmail
    /// does.
    fn to_maildir(&self, job: &Job<'_>, path: &Path) -> Result<String, Reply> {
        let homes = self.accounts.homes();
        let address = &job.user.address;
        let below = Path::new(&address.domain)
            .join(&address.local_part)
            .join(path);
        let above = above(job);
        let mut message = job.content.with(above.as_bytes(), job.fields.as_bytes());
        let mut deliver = || {
            let folders = Folders::open(homes.root(), &below, Layout::MaildirPlusPlus)?;
            match folders.folder(&FolderName::inbox())? {
                None => Ok(None),
                Some(folder) => folder.deliver(&self.names, job.now, &mut message).map(Some),
            }
        };
        let delivered = deliver().map_err(|error: mailbox::Error| failed(&error.into()))?;
        let name = path.display();
        delivered
            .map(|entry| format!("{name}/ {}", entry.name))
            .ok_or_else(|| Reply::new(451, (4, 2, 1), format!("there is no Maildir {name}")))
    }

    fn to_program(
        &self,
        job: &Job<'_>,
        home: &Path,
        command: &str,
        default: Option<&str>,
    ) -> Result<Judgement, Reply> {
        let domain = self
            .accounts
            .domain(&job.user.address.domain)
            .map_err(|e| failed(&e))?;
        let allowed = job.user.settings.programs || domain.is_some_and(|domain| domain.programs);
        if !allowed {
            return Err(Reply::new(
                451,
                (4, 7, 0),
                "this user's instructions name a program, which is not allowed",
            ));
        }
        let reverse_path = forward_sender(job, home)?;
        let environment = environment::of(job, home, default, &reverse_path.shown());
        // Programs get it as it came, with the filter's word; `preline` adds
        // the other lines.
        let input = self.input(job.content.with(b"", job.fields.as_bytes()));
        let hidden = [&*self.data, self.accounts.homes().root()];
        let run = input.and_then(|file| {
            program::run(command, home, &environment, file, &self.limits, &hidden)
        });
        match run {
            Ok(ended) => Ok(ended.judge()),
            Err(error) => {
                error!(user = %job.user.address, %error, "a program could not be started");
                Err(trouble())
            }
        }
    }

    /// The message as a file: programs may seek in it.
    fn input(&self, mut message: Pieces<'_>) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(
            self.data.join("spool"),
            flags,
            Mode::RUSR | Mode::WUSR,
        )?);
        io::copy(&mut message, &mut file)?;
        file.flush()?;
        file.rewind()?;
        Ok(file)
    }
}

fn to_mbox(job: &Job<'_>, home: &Path, path: &Path) -> Result<String, Reply> {
    let above = above(job);
    let mut message = job.content.with(above.as_bytes(), job.fields.as_bytes());
    match mbox::append(home, path, job.reverse_path, job.now, &mut message) {
        Ok(()) => Ok(format!("mbox {}", path.display())),
        Err(error) => {
            error!(user = %job.user.address, mbox = %path.display(), %error, "cannot append");
            let unusable = || Reply::new(451, (4, 2, 0), "the mbox cannot be written");
            Err(Reply::for_full_disk(&error).unwrap_or_else(unusable))
        }
    }
}

/// What stands on top of a message in a mailbox.
fn above(job: &Job<'_>) -> String {
    return_path(job.reverse_path) + &delivered_to(job.address)
}

/// Who gets the reports of what is forwarded: qmail's owner files.
enum Sender {
    Same(ReversePath),
    Owner(Mailbox),
    /// Each recipient sees an owner of its own: variable envelope return
    /// paths.
    Verp {
        owner: LocalPart,
        domain: crate::smtp::Domain,
    },
}

impl Sender {
    /// As NEWSENDER shows it.
    fn shown(&self) -> String {
        match self {
            Self::Same(path) => path.to_string(),
            Self::Owner(mailbox) => mailbox.to_string(),
            Self::Verp { owner, domain } => format!("{owner}-@{domain}-@[]"),
        }
    }
}

fn forward_sender(job: &Job<'_>, home: &Path) -> Result<Sender, Reply> {
    let same = || Sender::Same(job.reverse_path.clone());
    let Some(extension) = job.extension else {
        return Ok(same());
    };
    if *job.reverse_path == ReversePath::Null {
        return Ok(same());
    }
    let is_there = |suffix: &str| {
        let name = format!("{}-{suffix}", extension.text);
        let found = instructions::find(home, Some(&name)).map_err(|error| failed(&error))?;
        Ok(found.is_some_and(|found| found.default.is_none() || suffix == "owner-default"))
    };
    if !is_there("owner")? {
        return Ok(same());
    }
    let owner = LocalPart::new(&format!("{}-owner", job.address.local_part.as_str()))
        .map_err(|_| Reply::new(554, (5, 1, 0), "the list's name is too long"))?;
    let domain = job.address.domain.clone();
    Ok(if is_there("owner-default")? {
        Sender::Verp { owner, domain }
    } else {
        Sender::Owner(Mailbox {
            local_part: owner,
            domain,
        })
    })
}

fn forwards(job: &Job<'_>, home: &Path, to: Vec<Mailbox>) -> Result<Vec<Forward>, Reply> {
    if to.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match forward_sender(job, home)? {
        Sender::Same(reverse_path) => vec![Forward {
            reverse_path,
            recipients: to,
        }],
        Sender::Owner(owner) => vec![Forward {
            reverse_path: ReversePath::Mailbox(owner),
            recipients: to,
        }],
        Sender::Verp { owner, domain } => to
            .into_iter()
            .map(|recipient| Forward {
                reverse_path: ReversePath::Mailbox(verp(&owner, &domain, &recipient)),
                recipients: vec![recipient],
            })
            .collect(),
    })
}

/// `list-owner-bob=example.net@example.org` for `bob@example.net`. Where that
/// is too long, the owner.
fn verp(owner: &LocalPart, domain: &crate::smtp::Domain, recipient: &Mailbox) -> Mailbox {
    let text = format!(
        "{}-{}={}",
        owner.as_str(),
        recipient.local_part.as_str(),
        recipient.domain
    );
    Mailbox {
        local_part: LocalPart::new(&text).unwrap_or_else(|_| owner.clone()),
        domain: domain.clone(),
    }
}

/// What failed is for the log, not for the sender.
fn failed(error: &Error) -> Reply {
    error!(%error, "delivery failed");
    error
        .system()
        .and_then(Reply::for_full_disk)
        .unwrap_or_else(trouble)
}

fn trouble() -> Reply {
    Reply::new(451, (4, 3, 0), "trouble with this mailbox, try again later")
}
