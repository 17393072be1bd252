//! A new password: a line of standard input, or what somebody types unseen.
//!
//! Never an argument, which every user of the machine can see.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::accounts::{MAX_PASSWORD_OCTETS, Password};

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Unseen(Termios);

/// Reads it from standard input and hashes it; a terminal is asked twice.
/// `keep_clear`: it is kept itself too, for CRAM-MD5.
///
/// # Errors
/// With the reason, when it is no password.
pub(super) fn read(keep_clear: bool) -> anyhow::Result<Password> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let _unseen = Unseen::new().context("cannot ask for a password")?;
        let first = ask("New password: ")?;
        ensure!(first == ask("Once more: ")?, "these are two passwords");
        first
    } else {
        line(stdin.lock())?
    };
    Password::of(&password, keep_clear).map_err(anyhow::Error::msg)
}

fn ask(question: &str) -> anyhow::Result<Vec<u8>> {
    let mut err = io::stderr();
    write!(err, "{question}")?;
    let answer = line(io::stdin().lock());
    writeln!(err)?;
    answer
}

/// The first line, without its end.
fn line(input: impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    // What is longer is refused when it is hashed.
    let most = MAX_PASSWORD_OCTETS as u64 + 2;
    input
        .take(most)
        .read_until(b'\n', &mut line)
        .context("cannot read the password")?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

impl Unseen {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_line_is_no_part_of_it() {
        for (input, expected) in [
            ("secret\n", "secret"),
            ("secret\r\nmore\n", "secret"),
            ("secret", "secret"),
            (" a b \n", " a b "),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(line(input.as_bytes()).unwrap(), expected.as_bytes());
        }
        let endless = io::BufReader::new(io::repeat(b'a'));
        let password = line(endless).unwrap();
        assert!(Password::of(&password, false).is_err());
    }
}
