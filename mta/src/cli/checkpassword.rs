//! `postern checkpassword`: our accounts for programs that ask by DJB's
//! checkpassword interface, such as qmail-smtpd, qmail-popup and Dovecot.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

pub use self::request::Request;
use self::request::{MAX_OCTETS, MISUSED, WRONG};
use crate::accounts::Directory;
use crate::accounts::{Accounts, Address, User, is_cram_md5, is_right};

mod request;

/// It cannot be known now.
const LATER: i32 = 111;

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
    let accounts = Accounts::of_host(data)?;
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
