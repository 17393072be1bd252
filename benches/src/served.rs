//! A whole `bmf -p`, as a delivery agent starts it, through `bmfd serve` and
//! by itself: it marks the message and registers it under its own verdict.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use memchr::memmem;
use tests::differential::Format;
use tests::programs::built;

use crate::filters::{Databases, Filter, ours};
use crate::mail::Mail;
use crate::process;
use crate::race::{Contender, Length, race};
use crate::record::{Bound, Record};

pub(crate) const WORKLOAD: &str = "mark and register one";
const SERVED: &str = "bmf, by bmfd";
const MODERN: Filter = Filter::Modern;
const ORIGINAL: Filter = Filter::Original(Format::Db);

/// All begin with what they learned of all the mail.
pub(crate) fn mark_and_register(
    record: &mut Record,
    databases: &Databases,
    mail: &Mail,
    length: Length,
    out: &Path,
) -> anyhow::Result<()> {
    let daemon = Daemon::start()?;
    fs::rename(
        databases.copy(MODERN, WORKLOAD)?,
        daemon.home().join(".bmf"),
    )?;
    // The first call hands the database over, and says so.
    process::run(daemon.client().arg("-p"), &mail.samples[0].path, out)?;
    let [modern, original] = [MODERN, ORIGINAL].map(|filter| databases.copy(filter, WORKLOAD));
    let (modern, original) = (modern?, original?);
    let commands: [(&str, &dyn Fn() -> Command); 3] = [
        (SERVED, &|| daemon.client()),
        (MODERN.name(), &|| MODERN.command(&modern)),
        (ORIGINAL.name(), &|| ORIGINAL.command(&original)),
    ];
    let mut contenders = commands.map(|(name, command)| {
        Contender::new(name, move |round| {
            let sample = &mail.samples[round % mail.samples.len()];
            let (taken, answer) = process::run(command().arg("-p"), &sample.path, out)?;
            // Without the daemon bmf judges by what it handed over, and says so.
            let said = fs::read_to_string(out.with_extension("err"))?;
            ensure!(
                said.is_empty() && memmem::find(&answer.stdout, b"\nX-Spam-Status: ").is_some(),
                "{name} does not mark as it should: {said}"
            );
            Ok(taken)
        })
    });
    race(record, WORKLOAD, length, &mut contenders)?;
    record.compare(WORKLOAD, SERVED, ORIGINAL.name(), Some(Bound::AtMost(0.5)));
    record.compare(
        WORKLOAD,
        MODERN.name(),
        ORIGINAL.name(),
        Some(Bound::AtMost(2.0)),
    );
    Ok(())
}

/// `bmfd serve` without mailboxes.
struct Daemon {
    child: Child,
    socket: PathBuf,
    dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (at, config) = (dir.path().display(), dir.path().join("bmfd.toml"));
        fs::write(
            &config,
            format!(
                "database.path = '{at}/database'\nservice.socket = '{at}/socket'\n\
                 mailboxes.patterns = ['{at}/none/*']\nmailboxes.dovecot = false\n"
            ),
        )?;
        let mut bmfd = Command::new(built("bmfd"));
        bmfd.arg("-c")
            .arg(config)
            .arg("serve")
            .stderr(Stdio::null());
        let daemon = Self {
            child: bmfd.spawn()?,
            socket: dir.path().join("socket"),
            dir,
        };
        fs::create_dir(daemon.home())?;
        let end = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(&daemon.socket).is_err() {
            ensure!(Instant::now() < end, "bmfd does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// The home of who asks.
    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A `bmf` that asks the daemon.
    fn client(&self) -> Command {
        let mut bmf = Command::new(ours());
        bmf.env("HOME", self.home()).env("BMF_SOCKET", &self.socket);
        bmf
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
