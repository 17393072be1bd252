//! One run of a program: input in, exit code and output out, bounded in time.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// Longer than any run here takes, also on a busy machine.
const TIME_BOUND: Duration = Duration::from_secs(120);

/// What a program reads from its standard input.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Nothing: the end of file at once.
    Empty,
    /// These bytes, through a pipe.
    Bytes(&'a [u8]),
    /// This file, opened as standard input.
    File(&'a Path),
}

/// What a program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// All it wrote to standard output.
    pub stdout: Vec<u8>,
    /// All it wrote to standard error, for people.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; panics when a signal ended the program.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("{}: {}", self.status, self.stderr))
    }

    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Runs `command` to its end.
///
/// # Panics
///
/// When it cannot be started, or takes longer than two minutes: it is killed
/// then, so that a hanging program fails its test instead of hanging it too.
pub fn run(command: &mut Command, input: Input<'_>) -> Outcome {
    let stdin = match input {
        Input::Empty => Stdio::null(),
        Input::Bytes(_) => Stdio::piped(),
        Input::File(path) => fs::File::open(path).unwrap().into(),
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let pid = child.id();
    let pipe = child.stdin.take();
    let (sender, ended) = mpsc::channel();
    thread::scope(|scope| {
        if let (Input::Bytes(bytes), Some(mut pipe)) = (input, pipe) {
            // A program may end without reading all: no error here.
            scope.spawn(move || drop(pipe.write_all(bytes)));
        }
        scope.spawn(move || sender.send(child.wait_with_output()));
        let output = ended.recv_timeout(TIME_BOUND).unwrap_or_else(|_| {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            panic!("{command:?} did not end within {TIME_BOUND:?}");
        });
        let output = output.unwrap();
        Outcome {
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    })
}

/// A new folder that vanishes with the value.
///
/// It lies in memory where there is such a file system, because the tests
/// start tens of thousands of short processes that each sync their files.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Makes a Maildir, and the folders above it.
pub fn make_maildir(path: &Path) {
    for half in ["tmp", "new", "cur"] {
        fs::create_dir_all(path.join(half)).unwrap();
    }
}
