//! The one configuration file, read into checked values.
//!
//! TOML; `docs/postern.toml` lists every key with its unit and default. What
//! is misspelt or impossible is refused with its line, never passed over.
//!
//! ```
//! use mta::config::Config;
//!
//! let config = Config::parse("host = 'mail.example.org'", "postern.toml".as_ref())?;
//! let wrong = Config::parse("host = 'm.example.org'\n[smtp]\nmax_bytes = 1", "postern.toml".as_ref());
//! assert!(wrong.unwrap_err().to_string().starts_with("postern.toml:3: unknown field `max_bytes`"));
//! # Ok::<(), mta::Error>(())
//! ```

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use trainer::config::wrong::{self, Wrong};

use crate::Error;
use crate::server::tls::Pair;
use crate::smtp::Limits;
use crate::{pipeline, publish, remote};

mod check;
mod gate;
pub mod network;
mod raw;
#[cfg(test)]
mod tests;

use check::{address, check, learning, no_host};
use network::Network;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder with everything of the host.
    pub data: PathBuf,
    /// Whose rights the server keeps.
    pub user: Option<String>,
    /// Where mail comes in.
    pub listening: Listening,
    /// What a client may ask for.
    pub limits: Limits,
    /// Who may send to other people's domains.
    pub relay_networks: Vec<Network>,
    /// Who may speak.
    pub gate: crate::gate::Settings,
    /// The certificates with their keys.
    pub tls: Tls,
    /// How mail is dealt with.
    pub pipeline: pipeline::Settings,
    /// What other programs get of the accounts.
    pub publish: publish::Settings,
    /// The way to other hosts.
    pub remote: remote::Settings,
    /// What the learning inside does.
    pub trainer: Arc<trainer::config::Config>,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// For other hosts.
    pub smtp: Vec<SocketAddr>,
    /// For users of ours who send mail, with STARTTLS (RFC 6409).
    pub submission: Vec<SocketAddr>,
    /// The same, within TLS from the first byte (RFC 8314).
    pub submissions: Vec<SocketAddr>,
    /// For another mail server that hands mail over.
    pub lmtp: Vec<Endpoint>,
    /// For programs of this machine.
    pub local: Option<PathBuf>,
    /// Connections at once.
    pub max_sessions: usize,
    /// Connections at once from one address.
    pub max_sessions_per_client: usize,
}

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address with a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What programs of this machine need to know, who may not read all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForPrograms {
    /// Where the server takes their mail.
    pub socket: PathBuf,
    /// What is put behind names without a domain.
    pub domain: String,
}

/// The certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The first for whoever asks for no other by name. Never empty.
    pub pairs: Vec<Pair>,
    /// Whether the administrator named them, so that they must be there.
    pub is_named: bool,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or as [`Config::parse`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(&text, path)
    }

    /// Says what is missing when users are to log in and there is no
    /// certificate.
    ///
    /// # Errors
    /// With that text.
    pub fn must_have_certificate(&self) -> Result<(), String> {
        let listening = &self.listening;
        let is_needed = !(listening.submission.is_empty() && listening.submissions.is_empty());
        if is_needed && !self.tls.is_there() {
            return Err(format!(
                "users log in within TLS only, and there is no certificate {}: put one there, \
                 name one in [tls], or leave submission and submissions in [listen] empty",
                self.tls.pairs[0].certificate.display()
            ));
        }
        Ok(())
    }

    /// Reads `text`; `path` stands in complaints. Passwords are read from the
    /// files that are named for them.
    ///
    /// # Errors
    /// At the first thing that is wrong, with its line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        wrong::parse(text, check).map_err(in_file(path))
    }
}

impl ForPrograms {
    /// Reads the file at `path`. What is wrong elsewhere in it is passed over.
    ///
    /// # Errors
    /// When it cannot be read, or is no TOML; when there is no socket.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let read = |file: raw::File| {
            let socket = match file.listen.local {
                None => LOCAL.into(),
                Some(path) if path.get_ref().as_os_str().is_empty() => {
                    let reason = "listen.local is empty: programs give no mail";
                    return Err(Wrong::at(&path)(reason.into()));
                }
                Some(path) => path.into_inner(),
            };
            let domain = file.domain.or(file.host).ok_or_else(no_host)?;
            let domain = domain.into_inner();
            Ok(Self { socket, domain })
        };
        wrong::parse(&text, read).map_err(in_file(path))
    }
}

impl Tls {
    /// Whether STARTTLS can be offered: unless they were named, the files may
    /// be missing.
    pub fn is_there(&self) -> bool {
        self.is_named || self.pairs[0].certificate.exists()
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// An absolute path, or an address with a port.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        address(text).map(Self::Tcp)
    }
}

/// Names the file in which a line is wrong.
fn in_file(path: &Path) -> impl FnOnce((usize, String)) -> Error {
    move |(line, reason)| Error::Config {
        path: path.to_owned(),
        line,
        reason,
    }
}

/// As much of bmfd's configuration as it takes to work on the models of the
/// host in `data`.
///
/// # Errors
/// With the reason when `data` is no absolute path.
pub fn models_in(data: &Path) -> Result<trainer::config::Config, String> {
    learning(&raw::File::default(), data).map_err(|wrong| wrong.reason)
}

/// Where the configuration is looked for.
pub const PATH: &str = "/etc/postern.toml";
/// Where everything is, if nothing else is said.
pub const DATA: &str = "/var/lib/postern";
/// Where programs give mail to the server.
const LOCAL: &str = "/run/postern/socket";
