//! A `bmfd` of a test, with all that is its own in one folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::built;
use crate::run::{Input, Outcome, run};

/// See the module. A daemon ends with the value.
#[derive(Debug)]
pub struct Bmfd {
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Bmfd {
    /// Configured in `dir`: mailboxes by a pattern below it, and `more`.
    pub fn new(dir: &Path, mailboxes: &str, more: &str) -> Self {
        let bmfd = Self {
            dir: dir.to_owned(),
            daemon: None,
        };
        let config = format!(
            "database.path = '{0}/lib'\nservice.socket = '{0}/socket'\n\
             mailboxes.patterns = ['{0}/{mailboxes}']\n{more}",
            dir.display()
        );
        fs::write(bmfd.config(), config).unwrap();
        bmfd
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("bmfd.toml")
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// What becomes `bmfd ARGS`.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(built("bmfd"));
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    /// Runs `bmfd ARGS`, words with blanks between them, to its end.
    pub fn run(&self, args: &str) -> Outcome {
        run(&mut self.command(args.split(' ')), Input::Empty)
    }

    /// Starts the daemon, and waits until it listens.
    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// The same with a command that is `prepared`.
    pub fn start_with(&mut self, prepared: impl FnOnce(&mut Command)) {
        self.begin_with(prepared);
        let socket = self.socket();
        self.wait("listening", || UnixStream::connect(&socket).is_ok());
    }

    /// The same, and does not wait. Returns the number of its process.
    pub fn begin_with(&mut self, prepared: impl FnOnce(&mut Command)) -> u32 {
        let mut command = self.command(["serve"]);
        prepared(&mut command);
        let log = self.dir.join("bmfd.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let daemon = command.stderr(log).spawn().unwrap();
        self.daemon.insert(daemon).id()
    }

    /// Kills the daemon, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("bmfd.log")).unwrap()
    }

    /// Waits until `is_so`, for longer than anything takes.
    pub fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "not {what}: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many messages a user's model holds: ham and spam.
    pub fn learned(&self, user: &str) -> (u64, u64) {
        let status = self.run(&format!("status --json {user}")).stdout_text();
        let number = |name: &str| {
            let found = status.split_once(&format!("\"{name}\":"));
            let (_, rest) = found.unwrap_or_else(|| panic!("no {name}: {status:?}"));
            rest.split(',').next().unwrap().parse().unwrap()
        };
        (number("ham"), number("spam"))
    }
}

impl Drop for Bmfd {
    fn drop(&mut self) {
        self.kill();
    }
}
