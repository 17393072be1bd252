//! `postern checkpassword`: our accounts for programs that ask by DJB's
//! checkpassword interface, such as qmail-smtpd, qmail-popup and Dovecot.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::accounts::Directory;
use crate::accounts::{Accounts, Address, Homes, User, is_cram_md5, is_right};

/// The password is wrong, or there is no such account.
const WRONG: i32 = 1;
/// We were called wrongly.
const MISUSED: i32 = 2;
/// It cannot be known now.
const LATER: i32 = 111;
const MAX_OCTETS: u64 = 512;

/// What descriptor 3 says.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    name: String,
    password: Vec<u8>,
    timestamp: Vec<u8>,
}

impl Request {
    /// Reads descriptor 3 and closes it; before any file is opened, which
    /// would get its number where the caller has forgotten it.
    ///
    /// # Errors
    /// With the exit code when nothing can be read there.
    pub fn read() -> Result<Self, i32> {
        let mut bytes = Vec::new();
        let read = File::open("/dev/fd/3").and_then(|file| {
            let mut file = file.take(MAX_OCTETS + 1);
            file.read_to_end(&mut bytes)
        });
        read.map_err(|_| MISUSED)?;
        // Programs that are run must not find it open.
        let _ = nix::unistd::close(3);
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, i32> {
        if bytes.len() as u64 > MAX_OCTETS {
            return Err(WRONG);
        }
        let mut fields = bytes.split(|b| *b == 0);
        let (Some(name), Some(password), Some(timestamp), Some(_)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(MISUSED);
        };
        Ok(Self {
            name: str::from_utf8(name).map_err(|_| WRONG)?.to_owned(),
            password: password.to_owned(),
            timestamp: timestamp.to_owned(),
        })
    }

    /// Whose request it is, if it is right. One hash in any case.
    ///
    /// # Errors
    /// When the accounts cannot be read.
    fn check(&self, accounts: &Accounts) -> Result<Option<User>, crate::Error> {
        let address = Address::parse(&self.name).ok();
        let user = match &address {
            Some(address) => accounts.user(address)?,
            None => None,
        };
        let stored = user
            .as_ref()
            .and_then(|user| user.settings.password.as_ref());
        let is_password = is_right(stored.map(|stored| &stored.hash), &self.password);
        // By POP3 a timestamp comes with the password itself too.
        let clear = stored.and_then(|stored| stored.clear.as_deref());
        let digest = str::from_utf8(&self.password).unwrap_or_default();
        let challenge = str::from_utf8(&self.timestamp).unwrap_or_default();
        let is_digest = is_cram_md5(clear.unwrap_or_default(), challenge, digest);
        let is_digest = is_digest && clear.is_some() && !challenge.is_empty();
        Ok(user.filter(|_| is_password || is_digest))
    }
}

/// Answers `request`, and becomes `program` when it is right. Returns the exit
/// code when it is not.
///
/// # Errors
/// Never; what fails is told on standard error, and its code is 111.
pub fn run(request: &Request, data: &Path, program: &[String]) -> i32 {
    match answer(request, data, program) {
        Ok(code) => code,
        Err(error) => {
            use io::Write;
            let _ = writeln!(io::stderr(), "postern: {error:#}");
            LATER
        }
    }
}

fn answer(request: &Request, data: &Path, program: &[String]) -> anyhow::Result<i32> {
    let Some((name, arguments)) = program.split_first() else {
        return Ok(MISUSED);
    };
    let path = data.join("accounts.db");
    anyhow::ensure!(path.exists(), "there are no accounts in {}", data.display());
    let accounts = Accounts::open(&path, Homes::new(data.join("mail")))?;
    let Some(user) = request.check(&accounts)? else {
        return Ok(WRONG);
    };
    let home = accounts.homes().home(&user.address);
    let home = home.map_err(anyhow::Error::msg)?;
    drop(accounts);
    let error = Command::new(name)
        .args(arguments)
        .env("USER", user.address.to_string())
        .env("HOME", &home)
        .env("SHELL", "/bin/sh")
        .current_dir(&home)
        .exec();
    Err(error).with_context(|| format!("cannot run {name} in {}", home.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_descriptor_3_says() {
        let request = |timestamp: &str| Request {
            name: "anna".into(),
            password: b"p w".into(),
            timestamp: timestamp.into(),
        };
        let long = [&[b'a'; 510][..], b"\0\0\0"].concat();
        for (bytes, expected) in [
            (&b"anna\0p w\0\0"[..], Ok(request(""))),
            (b"anna\0p w\0<1>\0", Ok(request("<1>"))),
            (b"anna\0p w\0<1>\0more\0", Ok(request("<1>"))),
            (b"anna\0p w\0", Err(MISUSED)),
            (b"anna\0p w\0<1>", Err(MISUSED)),
            (b"", Err(MISUSED)),
            (b"\xff\0\0\0", Err(WRONG)),
            (&long, Err(WRONG)),
        ] {
            assert_eq!(Request::parse(bytes), expected);
        }
    }
}
