//! Plugins that speak qmail-spp's protocol: environment in, command letters
//! out. They are also the way to ask a policy of one's own.
//!
//! `[connection]`, `[helo]` and `[mail]` run when the first recipient is asked
//! about, since nothing is refused before; `[data]` when the message has come.
//! What refuses there refuses the recipient, or the message.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::gather::Question;
use super::rules::Ruled;
use crate::smtp::{Reply, ReversePath};

pub mod command;
pub mod table;

use command::{Command, commands, reply};
pub use table::Event;
use table::{Plugin, Table};

/// The plugins of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugins {
    /// Which run when.
    pub table: Table,
    /// Where they run, and their paths begin.
    pub home: PathBuf,
    /// How long each may take.
    pub time: Duration,
}

/// What plugins have said in one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What they see.
    pub environment: BTreeMap<String, String>,
    /// None runs any more.
    pub is_over: bool,
    /// What each recipient of this transaction is refused with.
    pub refuse_recipients: Option<Reply>,
    /// What the message is refused with.
    pub refuse_message: Option<Reply>,
    /// Lines for the header section.
    pub header: Vec<String>,
    /// How the connection ends.
    pub end: Option<End>,
}

/// How a plugin ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After the reply.
    AfterReply,
    /// At once.
    AtOnce,
}

/// What the plugins of one event lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The refusal, and by which plugin.
    pub refusal: Option<(Reply, String)>,
    /// The host's own checks do not count.
    pub is_trusted: bool,
    /// Another sender or recipient.
    pub change: Option<String>,
}

/// Where plugins see the sender.
pub(super) const SENDER: &str = "SMTPMAILFROM";
/// What one prints is not read beyond this.
const MAX_OUTPUT: u64 = 64 * 1024;
/// Header lines of one message.
const MAX_HEADER: usize = 100;
/// The exit code of one that could not be executed.
const NOT_EXECUTED: i32 = 120;

impl Plugins {
    /// Runs those of an event, one after the other; blocks.
    pub fn run(&self, event: Event, said: &mut Said) -> Outcome {
        let mut outcome = Outcome::default();
        if said.is_over {
            return outcome;
        }
        for plugin in self.table.of(event) {
            let name = plugin.name().to_owned();
            let output = match call(plugin, &self.home, &said.environment, self.time) {
                Ok(output) => output,
                Err(reason) => {
                    let text = format!("qmail-spp failure: {name}: {reason}");
                    outcome.refusal = Some((Reply::new(451, (4, 3, 0), text), name));
                    return outcome;
                }
            };
            if said.follow(event, &name, commands(&output), &mut outcome) {
                break;
            }
        }
        outcome
    }
}

impl Said {
    /// Shows plugins a recipient: `counts` are of those accepted and of all.
    pub(super) fn see(
        &mut self,
        question: &Question<'_>,
        ruled: &Ruled,
        counts: (usize, usize),
        may_write: bool,
    ) {
        let proto = if question.address.is_ipv4() {
            "TCP"
        } else {
            "TCP6"
        };
        let sender = match question.reverse_path {
            ReversePath::Null => String::new(),
            ReversePath::Mailbox(mailbox) => mailbox.to_string(),
        };
        let own = [
            ("PROTO", proto.to_owned()),
            ("TCPREMOTEIP", question.address.to_string()),
            ("SMTPHELOHOST", question.helo.to_owned()),
            (SENDER, sender),
            ("SMTPRCPTTO", question.forward_path.to_string()),
            ("SMTPRCPTHOSTSOK", u8::from(may_write).to_string()),
            ("SMTPRCPTCOUNT", counts.0.to_string()),
            ("SMTPRCPTCOUNTALL", counts.1.to_string()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        for (name, value) in &ruled.variables {
            // What a plugin has set stays.
            let known = self.environment.entry(name.clone());
            known.or_insert_with(|| value.clone());
        }
        self.environment.extend(own);
    }

    /// Forgets what was said of a message that has ended.
    pub fn forget_message(&mut self) {
        self.header.clear();
        (self.refuse_recipients, self.refuse_message) = (None, None);
    }

    /// Does what one plugin says; whether it ends the event.
    fn follow(
        &mut self,
        event: Event,
        name: &str,
        commands: Vec<Command>,
        outcome: &mut Outcome,
    ) -> bool {
        let mut printed = Vec::new();
        for command in commands {
            match command {
                Command::Print(text) => printed.push(text),
                Command::Set(name, value) => {
                    self.environment.insert(name, value);
                }
                Command::Unset(name) => {
                    self.environment.remove(&name);
                }
                Command::Header(line) if self.header.len() < MAX_HEADER => self.header.push(line),
                Command::Header(_) => {}
                Command::RefuseRecipients(text) => {
                    self.refuse_recipients = Some(reply(&[], &text));
                }
                Command::RefuseMessage(text) => self.refuse_message = Some(reply(&[], &text)),
                Command::Change(address) => {
                    let variable = match event {
                        Event::Mail => SENDER,
                        Event::Rcpt => "SMTPRCPTTO",
                        _ => continue,
                    };
                    self.environment.insert(variable.into(), address.clone());
                    outcome.change = Some(address);
                }
                Command::Accept => {
                    self.is_over = true;
                    return true;
                }
                Command::Next => return true,
                Command::Trust => {
                    outcome.is_trusted = true;
                    return true;
                }
                Command::Refuse(text) => {
                    outcome.refusal = Some((reply(&printed, &text), name.to_owned()));
                    return true;
                }
                Command::Reject(text) => {
                    outcome.refusal = Some((reply(&printed, &text), name.to_owned()));
                    self.end = Some(End::AfterReply);
                    return true;
                }
                Command::Drop => {
                    let text = Reply::new(421, (4, 7, 0), "closing");
                    outcome.refusal = Some((text, name.to_owned()));
                    self.end = Some(End::AtOnce);
                    return true;
                }
            }
        }
        false
    }
}

/// What a plugin prints.
fn call(
    plugin: &Plugin,
    home: &Path,
    environment: &BTreeMap<String, String>,
    time: Duration,
) -> Result<Vec<u8>, String> {
    let mut process = match plugin {
        Plugin::Program(path) => Process::new(home.join(path)),
        Plugin::Shell(line) => {
            let mut shell = Process::new("/bin/sh");
            shell.arg("-c").arg(line);
            shell
        }
    };
    let mut child = process
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .envs(environment)
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let kill = || group.map(|group| kill_process_group(group, Signal::KILL));
    let pipe = child.stdout.take();
    let (send, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = Vec::new();
        // Closed behind the bound, so that it cannot print for ever.
        let read = pipe.map(|pipe| pipe.take(MAX_OUTPUT).read_to_end(&mut output));
        let status = child.wait();
        // Whoever asked may have stopped waiting.
        let _ = send.send((output, read, status));
    });
    let Ok((output, _, status)) = ended.recv_timeout(time) else {
        kill();
        return Err(format!("it took longer than {} s", time.as_secs()));
    };
    // What it left behind has no business any more.
    kill();
    match status.map_err(|error| error.to_string())?.code() {
        None => Err("a signal ended it".into()),
        Some(NOT_EXECUTED) => Err("it could not be executed".into()),
        Some(_) => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugins(home: &Path, text: &str) -> Plugins {
        Plugins {
            table: Table::parse(text),
            home: home.to_owned(),
            time: Duration::from_secs(10),
        }
    }

    #[test]
    fn plugins_see_and_set_the_environment_until_one_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let plugins = plugins(
            dir.path(),
            "[mail]\n:echo SSEEN=$SMTPMAILFROM; echo HX-Seen: yes\n:test \"$SEEN\" = a@b.org && echo Cc@d.org\n\
             :exit 111\n:echo \"E550 5.7.1 not $SMTPMAILFROM\"\n:touch late\n[rcpt]\n:echo A\n:touch late\n",
        );
        let mut said = Said::default();
        said.environment
            .insert("SMTPMAILFROM".into(), "a@b.org".into());
        let outcome = plugins.run(Event::Mail, &mut said);
        let (reply, by) = outcome.refusal.unwrap();
        assert_eq!(reply.to_string(), "550 5.7.1 not c@d.org");
        assert!(by.starts_with("echo \"E550"), "{by}");
        assert_eq!(outcome.change.as_deref(), Some("c@d.org"));
        assert_eq!(said.header, ["X-Seen: yes"]);
        assert_eq!(plugins.run(Event::Rcpt, &mut said), Outcome::default());
        assert!(said.is_over);
        assert_eq!(plugins.run(Event::Mail, &mut said), Outcome::default());
        assert!(!dir.path().join("late").exists());
    }

    #[test]
    fn what_fails_is_answered_451_and_stops_the_event() {
        let dir = tempfile::tempdir().unwrap();
        for (plugin, reason) in [
            ("missing", "No such file"),
            (":kill -9 $$", "a signal ended it"),
            (":exit 120", "it could not be executed"),
            (":sleep 60", "it took longer than 0 s"),
            (":sleep 60 & echo N", "it took longer than 0 s"),
        ] {
            let mut plugins = plugins(dir.path(), &format!("[rcpt]\n{plugin}\n:touch late\n"));
            if reason.contains("longer") {
                plugins.time = Duration::from_millis(300);
            }
            let outcome = plugins.run(Event::Rcpt, &mut Said::default());
            let (reply, _) = outcome.refusal.unwrap();
            let text = reply.to_string();
            assert!(text.starts_with("451 4.3.0 qmail-spp failure: "), "{text}");
            assert!(text.contains(reason), "{text}");
        }
        // More than is read.
        let plugins = plugins(dir.path(), "[rcpt]\n:yes; true\n");
        let outcome = plugins.run(Event::Rcpt, &mut Said::default());
        assert_eq!(outcome, Outcome::default());
        assert!(!dir.path().join("late").exists());
    }
}
