//! Doing what was planned. What is there already stays as it is, and where it
//! says something else the report says so.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Plan;
use super::passwords::Kept;
use super::report::{Outcome, Report};
use crate::Error;
use crate::accounts::{Accounts, Address, Directory, Domain, Homes, Password, User, UserSettings};
use crate::authentication::keys::{self, Keys};
use crate::whole;

/// Something that is missing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file that is the host's alone.
    File {
        /// Where.
        path: PathBuf,
        /// What is to stand in it.
        bytes: Vec<u8>,
        /// Its rights.
        mode: u32,
    },
    /// A domain.
    Domain(String),
    /// A user, with a mailbox.
    User(Address),
    /// A user's password, of one who has none.
    Password(Address, Kept),
    /// An alias, with where it leads.
    Alias(Address, Vec<String>),
    /// The keys by which mail of a domain is signed.
    Keys(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "file {}", path.display()),
            Self::Domain(name) => write!(f, "domain {name}"),
            Self::User(address) => write!(f, "user {address}"),
            Self::Password(address, _) => write!(f, "password of {address}"),
            Self::Alias(address, to) => write!(f, "alias {address}: {}", to.join(", ")),
            Self::Keys(domain) => write!(f, "DKIM keys of {domain}"),
        }
    }
}

/// The name of the file with rules for the gate.
pub const RULES: &str = "gate.rules";

/// What is missing in the host of the folder `data`; what says something else
/// goes to `report`. Without accounts yet everything is missing.
///
/// # Errors
/// When the host cannot be read.
pub fn missing(
    plan: &Plan,
    data: &Path,
    accounts: Option<&Accounts>,
    report: &mut Report,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    for (name, bytes) in &plan.secrets {
        file(data.join(name), bytes, 0o600, &mut steps, report)?;
    }
    if !plan.rules.is_empty() {
        let rules = format!("{}\n", plan.rules.join("\n"));
        file(
            data.join(RULES),
            rules.as_bytes(),
            0o600,
            &mut steps,
            report,
        )?;
    }
    for name in &plan.domains {
        let known = accounts.map(|accounts| accounts.domain(name)).transpose()?;
        if known.flatten().is_none() {
            steps.push(Step::Domain(name.clone()));
        }
    }
    let homes = Homes::new(data.join("mail"));
    for (address, user) in &plan.accounts.users {
        let known = accounts
            .map(|accounts| accounts.user(address))
            .transpose()?;
        let known = known.flatten();
        if known.is_none() {
            steps.push(Step::User(address.clone()));
        }
        let has_password = known.is_some_and(|user| user.settings.password.is_some());
        if let Some(kept) = user.password.as_ref().filter(|_| !has_password) {
            steps.push(Step::Password(address.clone(), kept.clone()));
        }
        let Ok(home) = homes.home(address) else {
            continue;
        };
        for (name, content) in &user.files {
            let path = home.join(name);
            file(path, &content.bytes, content.mode, &mut steps, report)?;
        }
    }
    for (address, targets) in &plan.accounts.aliases {
        let known = accounts
            .map(|accounts| accounts.alias(address))
            .transpose()?;
        let known: Vec<String> = known
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        if known.is_empty() {
            steps.push(Step::Alias(address.clone(), targets.clone()));
        } else if known != *targets {
            let why = format!(
                "it is there and leads to {}; on the old host to {}",
                known.join(", "),
                targets.join(", ")
            );
            let path = data.join("accounts.db");
            report.add(Outcome::Left, &path, None, address.to_string(), why);
        }
    }
    for name in &plan.domains {
        if Keys::read(data, name)?.keys.is_empty() {
            steps.push(Step::Keys(name.clone()));
            let why =
                "mail of it is signed: put the records that `postern dns` prints into the DNS";
            report.add(Outcome::ToDo, &keys::folder(data).join(name), None, "", why);
        }
    }
    Ok(steps)
}

fn file(
    path: PathBuf,
    bytes: &[u8],
    mode: u32,
    steps: &mut Vec<Step>,
    report: &mut Report,
) -> Result<(), Error> {
    match fs::read(&path) {
        Ok(found) if found == bytes => {}
        Ok(_) => {
            let why = "it is there and says something else than what the old host would make it; \
                       remove it to have it made";
            report.add(Outcome::Left, &path, None, "", why);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => steps.push(Step::File {
            path,
            bytes: bytes.to_vec(),
            mode,
        }),
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    Ok(())
}

/// Does it in the host of the folder `data`: files first, then all accounts in
/// one transaction. Cut off, what is left is what the next run finds missing.
///
/// # Errors
/// When the disk refuses.
pub fn carry_out(
    steps: &[Step],
    data: &Path,
    accounts: &Accounts,
    now: SystemTime,
) -> Result<(), Error> {
    for step in steps {
        match step {
            // Folders of users are made as the host makes them.
            Step::User(address) => accounts.homes().mailbox(address).map(drop)?,
            Step::Keys(domain) => Keys::read(data, domain)?.make(now)?,
            _ => {}
        }
    }
    for step in steps {
        if let Step::File { path, bytes, mode } = step {
            write(path, bytes, *mode).map_err(Error::io("write", path))?;
        }
    }
    // Hashing takes its time, and holds nobody up.
    let mut passwords = Vec::new();
    for step in steps {
        if let Step::Password(address, kept) = step {
            let password = match kept {
                Kept::Hash(hash) => Ok(Password::from(hash.clone())),
                Kept::Clear(text) => Password::of(text.as_bytes(), true),
            };
            let refused = |reason| {
                let place = Path::new("the password of").join(address.to_string());
                Error::io("keep", place)(io::Error::other(reason))
            };
            passwords.push((address, password.map_err(refused)?));
        }
    }
    accounts.change(|change| {
        // Users and aliases belong to domains.
        for step in steps {
            if let Step::Domain(name) = step {
                change.put_domain(&Domain {
                    name: name.clone(),
                    ..Domain::default()
                })?;
            }
        }
        for step in steps {
            match step {
                Step::User(address) => change.put_user(&User {
                    address: address.clone(),
                    settings: UserSettings::default(),
                })?,
                Step::Alias(address, targets) => {
                    change.put_alias(address, targets)?;
                }
                Step::Domain(_) | Step::Password(..) | Step::File { .. } | Step::Keys(_) => {}
            }
        }
        for (address, password) in &passwords {
            change.set_password(address, Some(password))?;
        }
        Ok(())
    })
}

/// A new file, in a folder that may be missing.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    whole::replace(path, |file| {
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(mode))
    })
}
