//! Programs of `.qmail` files: run by the shell in the user's folder, within
//! limits, and judged by their exit code.
//!
//! | exit code | means |
//! | --- | --- |
//! | 0 | done, go on |
//! | 99 | done, and read no further instructions |
//! | 100, 64, 65, 70, 76, 77, 78, 112 | failed for good |
//! | all others, a signal, too much time | failed for now |
//!
//! Source: qmail-command(8). The limits are set by the shell's `ulimit`, so
//! that nothing has to be done between fork and exec. What a program started
//! and left running ends with it.
//!
//! It sees nothing of the host but its user's folder, where the kernel knows
//! Landlock: see [`crate::confinement`].

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tracing::warn;

use crate::confinement;
use crate::smtp::Reply;

/// What a program may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it may run. Default: 5 minutes.
    pub time: Duration,
    /// How much memory each of its processes may map. Default: 1 GiB.
    pub memory_bytes: u64,
    /// The largest file it may write. Default: 1 GiB.
    pub file_bytes: u64,
    /// Where programs are looked for.
    pub path: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(300),
            memory_bytes: 1 << 30,
            file_bytes: 1 << 30,
            path: "/usr/local/bin:/usr/bin:/bin".into(),
        }
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Whether it ran out of time.
    pub is_late: bool,
    /// The beginning of what it printed, on either stream.
    pub output: String,
}

/// What an exit code means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Go on.
    Done,
    /// Done, and the other instructions do not count.
    Stop,
    /// What is to be said of the recipient.
    Failure(Reply),
}

/// How much of its output is kept.
const MAX_OUTPUT: u64 = 3_000;

/// Runs `command` in `home` with `input` from its beginning. Of `hidden` it
/// sees its home only.
///
/// # Errors
/// When it cannot be started.
pub fn run(
    command: &str,
    home: &Path,
    environment: &[(&'static str, String)],
    input: File,
    limits: &Limits,
    hidden: &[&Path],
) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    let mut shell = Command::new("/bin/sh");
    let kib = limits.memory_bytes / 1024;
    let blocks = limits.file_bytes / 512;
    let seconds = limits.time.as_secs().max(1);
    shell
        .arg("-c")
        .arg(format!(
            "umask 077; ulimit -c 0; ulimit -v {kib}; ulimit -f {blocks}; ulimit -t {seconds}; \
             exec /bin/sh -c \"$1\""
        ))
        .arg("sh")
        .arg(command)
        .env_clear()
        .env("PATH", &limits.path)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(home)
        .stdin(Stdio::from(input))
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    // A thread gives its rights up for good, so that it is one for this alone.
    let confined = thread::scope(|scope| {
        let started = scope.spawn(|| {
            if !confinement::hide(hidden, home)? {
                say_that_nothing_is_hidden();
            }
            shell.spawn()
        });
        started.join()
    });
    let mut child = confined.map_err(|_| io::Error::other("the thread has failed"))??;
    // Our ends of the pipe, or it would never end.
    drop(shell);
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let kill = || group.map(|group| kill_process_group(group, Signal::KILL));
    let output = in_thread(move || read_output(reader));
    let status = in_thread(move || child.wait());
    let ended = status.recv_timeout(limits.time);
    let is_late = ended.is_err();
    kill();
    let status = ended
        .or_else(|_| status.recv())
        .map_err(io::Error::other)??;
    // Whoever left the group may hold the pipe for ever.
    let output = output
        .recv_timeout(Duration::from_secs(1))
        .unwrap_or_default();
    Ok(ended_with(status, is_late, &output))
}

fn say_that_nothing_is_hidden() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        warn!("programs of users can see other users' mail: this kernel lacks Landlock (5.19)");
    });
}

fn ended_with(status: ExitStatus, is_late: bool, output: &[u8]) -> Ended {
    Ended {
        code: status.code().filter(|_| status.signal().is_none()),
        is_late,
        output: String::from_utf8_lossy(output).trim().to_owned(),
    }
}

fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Whoever asked may have stopped waiting.
        let _ = sender.send(work());
    });
    receiver
}

/// Keeps the beginning and reads all, so that nobody waits to write.
fn read_output(mut pipe: impl Read) -> Vec<u8> {
    let mut output = Vec::new();
    let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut output);
    let _ = io::copy(&mut pipe, &mut io::sink());
    output
}

impl Ended {
    /// By qmail's table.
    pub fn judge(&self) -> Judgement {
        let said = if self.output.is_empty() {
            String::new()
        } else {
            format!(": {}", self.output)
        };
        let transient = |why: String| Judgement::Failure(Reply::new(451, (4, 3, 0), why + &said));
        match self.code {
            _ if self.is_late => transient("the program took too long".into()),
            None => transient("a signal ended the program".into()),
            Some(0) => Judgement::Done,
            Some(99) => Judgement::Stop,
            Some(code @ (100 | 64 | 65 | 70 | 76 | 77 | 78 | 112)) => {
                let why = format!("the recipient's program refused it with code {code}{said}");
                Judgement::Failure(Reply::new(554, (5, 3, 0), why))
            }
            Some(code) => transient(format!("the recipient's program ended with code {code}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Seek, Write};

    fn input(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    fn run_in(home: &Path, command: &str, limits: &Limits) -> Ended {
        let environment = [("SENDER", "a$(touch evil)@example.org".to_owned())];
        run(
            command,
            home,
            &environment,
            input("Subject: hello\n"),
            limits,
            &[home],
        )
        .unwrap()
    }

    #[test]
    fn a_program_gets_the_message_and_nothing_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let ended = run_in(
            dir.path(),
            "cat >got; echo \"$SENDER\"; echo oops >&2; env | wc -l",
            &Limits::default(),
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("got")).unwrap(),
            "Subject: hello\n"
        );
        assert!(!dir.path().join("evil").exists());
        let lines: Vec<&str> = ended.output.lines().collect();
        assert_eq!(lines[..2], ["a$(touch evil)@example.org", "oops"]);
        // SENDER, PATH, and what the shell itself sets.
        assert!(lines[2].trim().parse::<u32>().unwrap() <= 6, "{ended:?}");
        assert_eq!((ended.code, ended.is_late), (Some(0), false));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join("got")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_exit_codes_mean() {
        let dir = tempfile::tempdir().unwrap();
        for (command, expected) in [
            ("exit 0", "Done"),
            ("exit 99", "Stop"),
            (
                "echo no; exit 100",
                "554 5.3.0 the recipient's program refused it with code 100: no",
            ),
            (
                "exit 77",
                "554 5.3.0 the recipient's program refused it with code 77",
            ),
            (
                "exit 111",
                "451 4.3.0 the recipient's program ended with code 111",
            ),
            (
                "exit 73",
                "451 4.3.0 the recipient's program ended with code 73",
            ),
            ("kill -9 $$", "451 4.3.0 a signal ended the program"),
        ] {
            let said = match run_in(dir.path(), command, &Limits::default()).judge() {
                Judgement::Failure(reply) => reply.to_string(),
                other => format!("{other:?}"),
            };
            assert_eq!(said, expected, "{command}");
        }
    }

    #[test]
    fn limits_hold() {
        let dir = tempfile::tempdir().unwrap();
        let late = Limits {
            time: Duration::from_millis(300),
            ..Limits::default()
        };
        let late = run_in(dir.path(), "exec sleep 600", &late);
        assert!(late.is_late && late.code.is_none());
        // What it leaves behind is not waited for.
        let child = run_in(dir.path(), "sleep 600 & echo done", &Limits::default());
        assert_eq!((child.code, child.output.as_str()), (Some(0), "done"));
        let small = Limits {
            file_bytes: 1024,
            ..Limits::default()
        };
        let large = run_in(dir.path(), "yes >large; echo $?", &small);
        assert!(!large.is_late, "{large:?}");
        assert_eq!(fs::metadata(dir.path().join("large")).unwrap().len(), 1024);
        let much = run_in(
            dir.path(),
            "head -c 500000 /dev/zero | tr '\\0' x",
            &Limits::default(),
        );
        assert_eq!((much.code, much.output.len()), (Some(0), 3_000));
        let narrow = Limits {
            memory_bytes: 64 << 20,
            ..Limits::default()
        };
        for (limits, has_room) in [(Limits::default(), true), (narrow, false)] {
            let large = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
            let ended = run_in(dir.path(), large, &limits);
            let is_there = ended.output.contains("100000000");
            assert_eq!((is_there, ended.is_late), (has_room, false), "{ended:?}");
        }
    }
}
