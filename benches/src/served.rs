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
use crate::process::{self, Answer, Taken};
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
    let home = daemon.dir.path().join("home");
    let own = home.join(".bmf");
    fs::create_dir_all(&home)?;
    fs::rename(databases.copy(MODERN, WORKLOAD)?, &own)?;
    // The first call hands the database over, and says so.
    daemon.ask(&home, mail, 0, out)?;
    let [modern, original] = [MODERN, ORIGINAL].map(|filter| databases.copy(filter, WORKLOAD));
    let (modern, original) = (modern?, original?);
    let mut contenders = vec![Contender::new(SERVED, |round| {
        let (taken, answer) = daemon.ask(&home, mail, round, out)?;
        // Without the daemon bmf judges by what it handed over, and says so.
        let said = fs::read_to_string(out.with_extension("err"))?;
        ensure!(
            is_marked(&answer.stdout) && said.is_empty(),
            "bmfd does not answer: {said}"
        );
        Ok(taken)
    })];
    for (filter, folder) in [(MODERN, modern), (ORIGINAL, original)] {
        contenders.push(Contender::new(filter.name(), move |round| {
            let sample = &mail.samples[round % mail.samples.len()];
            let mut command = filter.command(&folder);
            let (taken, answer) = process::run(command.arg("-p"), &sample.path, out)?;
            ensure!(is_marked(&answer.stdout), "{} marks nothing", filter.name());
            Ok(taken)
        }));
    }
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

fn is_marked(message: &[u8]) -> bool {
    memmem::find(message, b"\nX-Spam-Status: ").is_some()
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
        let end = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(&daemon.socket).is_err() {
            ensure!(Instant::now() < end, "bmfd does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Runs `bmf -p` on the message of this round.
    fn ask(
        &self,
        home: &Path,
        mail: &Mail,
        round: usize,
        out: &Path,
    ) -> anyhow::Result<(Taken, Answer)> {
        let sample = &mail.samples[round % mail.samples.len()];
        let mut bmf = Command::new(ours());
        bmf.arg("-p")
            .env("HOME", home)
            .env("BMF_SOCKET", &self.socket);
        process::run(&mut bmf, &sample.path, out)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
