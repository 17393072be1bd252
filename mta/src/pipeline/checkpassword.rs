//! A program that knows passwords in place of our accounts: DJB's
//! checkpassword interface, which cmd5checkpw and vchkpw speak as well.
//!
//! The program gets name, password and NULs on descriptor 3, 512 bytes at most,
//! and the arguments that it runs when all is right, `true` by custom. For
//! CRAM-MD5 the digest stands in the password's place, and the challenge
//! behind it.
//!
//! | exit code | means |
//! | --- | --- |
//! | 0 | right |
//! | 1 | wrong |
//! | all others, a signal, too much time | it cannot be known now |

use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::smtp::Proof;

/// The program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpassword {
    /// It and its arguments; never empty.
    pub command: Vec<String>,
    /// Whether it also checks digests.
    pub cram_md5: bool,
}

/// As long as spamdyke gives one.
const TIME: Duration = Duration::from_secs(30);
/// What the interface allows, and the C programs hold.
const MAX_OCTETS: usize = 512;
const PAUSE: Duration = Duration::from_millis(5);

impl Checkpassword {
    /// Whether the program says that `proof` is that of `name`. Blocks.
    ///
    /// # Errors
    /// With the reason when it cannot be known now.
    pub fn check(&self, name: &str, proof: &Proof) -> Result<bool, String> {
        let Some(input) = input(name, proof) else {
            return Ok(false);
        };
        let program = self.command.first().map_or("", String::as_str);
        let status = self
            .run(&input)
            .map_err(|error| format!("{program}: {error}"))?;
        match status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            Some(2) => Err(format!(
                "{program} says that it was called wrongly: exit code 2"
            )),
            Some(111) => Err(format!("{program} cannot tell now: exit code 111")),
            Some(code) => Err(format!("{program} ended with exit code {code}")),
            None => Err(format!(
                "{program} was ended by signal {}",
                status.signal().unwrap_or_default()
            )),
        }
    }

    fn run(&self, input: &[u8]) -> io::Result<ExitStatus> {
        // The shell makes descriptor 3 of its own input, so that nothing has
        // to be done between fork and exec.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec 3<&0 </dev/null; exec \"$@\"", "sh"])
            .args(&self.command)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Who knows what it prints.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let given = child.stdin.take().map(|mut pipe| pipe.write_all(input));
        match given {
            // It decides without reading.
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                end(&mut child);
                Err(error)
            }
            _ => wait(child),
        }
    }
}

fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > TIME {
            end(&mut child);
            let text = format!("no answer within {} seconds", TIME.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(PAUSE);
    }
}

/// Ends it with whatever it has started.
fn end(child: &mut Child) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(id) = id {
        let _ = kill_process_group(id, Signal::KILL);
    }
    let _ = child.wait();
}

/// What the program reads; `None` where that cannot be said.
fn input(name: &str, proof: &Proof) -> Option<Vec<u8>> {
    let fields: [&[u8]; 3] = match proof {
        Proof::Password(password) => [name.as_bytes(), password, b""],
        Proof::Digest { challenge, digest } => {
            [name.as_bytes(), digest.as_bytes(), challenge.as_bytes()]
        }
        Proof::Scram { .. } => return None,
    };
    let mut input = Vec::new();
    for field in fields {
        input.extend_from_slice(field);
        input.push(0);
    }
    let holds_nul = fields.iter().any(|field| field.contains(&0));
    (!holds_nul && !name.is_empty() && input.len() <= MAX_OCTETS).then_some(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a password with a program of the shell.
    fn ask(script: &str, password: &str) -> Result<bool, String> {
        let checkpassword = Checkpassword {
            command: ["sh", "-c", script, "sh", "true"].map(str::to_owned).into(),
            cram_md5: false,
        };
        checkpassword.check("anna", &Proof::Password(password.into()))
    }

    /// Reads descriptor 3 as the interface says.
    const REAL: &str = r#"
        test "$(tr '\0' ' ' <&3 | tr -d '\n')" = "anna secret  " || exit 1
        exec "$@""#;

    #[test]
    fn what_a_program_answers() {
        assert_eq!(ask(REAL, "secret"), Ok(true));
        assert_eq!(ask(REAL, "guess"), Ok(false));
        // It never learns of what does not fit.
        assert_eq!(ask("exit 0", &"x".repeat(505)), Ok(true));
        assert_eq!(ask("exit 0", &"x".repeat(506)), Ok(false));
        assert_eq!(ask("exit 0", "a\0b"), Ok(false));
        for (script, expected) in [
            ("exit 2", "called wrongly"),
            ("exit 111", "cannot tell now"),
            ("exit 3", "exit code 3"),
            ("kill -9 $$", "signal 9"),
        ] {
            let error = ask(script, "secret").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let missing = Checkpassword {
            command: vec!["/nonexistent/checkpassword".into()],
            cram_md5: false,
        };
        let error = missing.check("anna", &Proof::Password(b"x".into()));
        assert!(error.unwrap_err().contains("exit code 127"));
    }

    #[test]
    fn what_it_reads() {
        let digest = Proof::Digest {
            challenge: "<1@mx>".into(),
            digest: "0a".into(),
        };
        assert_eq!(input("anna", &digest).unwrap(), b"anna\x000a\x00<1@mx>\x00");
        let password = Proof::Password(b"p w".into());
        assert_eq!(input("anna", &password).unwrap(), b"anna\0p w\0\0");
        assert_eq!(input("", &password), None);
    }
}
