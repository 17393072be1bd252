//! Whose mail an address is on a qmail host: from address to local name, from
//! there to a folder, and to the `.qmail` file in it.

use std::path::{Path, PathBuf};

use super::assign::Assign;
use super::source::{Content, Source};
use crate::Error;
use crate::accounts::Address;

/// What a qmail host knows of names.
pub struct Names<'a> {
    /// Where its files are.
    pub source: &'a dyn Source,
    /// Domains whose addresses are local names; the first is the host's own.
    pub locals: Vec<String>,
    /// Domains, addresses and beginnings of domains that lead elsewhere.
    pub virtuals: Vec<Virtual>,
    /// Domains that are received by their whole names, whoever has them.
    pub received: Vec<String>,
    /// All of ours: what [`Names::domains`] gives.
    pub domains: Vec<String>,
    /// Who has which local name.
    pub assign: Assign,
    /// Users of the system, who have the names that are assigned to nobody.
    pub system: Vec<SystemUser>,
    /// The folder of `alias`, who has all others.
    pub alias_home: PathBuf,
    /// What is put behind addresses without a domain.
    pub envnoathost: String,
}

/// A line of `virtualdomains`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// Where it stands.
    pub line: usize,
    /// A domain, an address, `.domain`, or nothing for all.
    pub key: String,
    /// What is put before the local part, without its dash; empty: mail goes
    /// to its own host.
    pub prepend: String,
}

/// A line of the system's passwd that can receive mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemUser {
    /// In lower case.
    pub name: String,
    /// The user's folder.
    pub home: PathBuf,
}

/// Who has a local name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In this folder
    pub home: PathBuf,
    /// the file `.qmail` with this
    pub dash: String,
    /// and this says what is done.
    pub extension: String,
}

/// A `.qmail` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// What stands in it.
    pub content: Content,
}

/// A local part that nobody has: only what is for all names gets its mail.
pub const NOBODY: &str = "\u{1}";

impl Names<'_> {
    /// The local name of an address; `None` when its mail is for another host.
    pub fn name_of(&self, local_part: &str, domain: &str) -> Option<String> {
        if self.locals.iter().any(|name| name == domain) {
            return Some(local_part.to_owned());
        }
        let address = format!("{local_part}@{domain}");
        let suffixes = domain.match_indices('.').map(|(at, _)| &domain[at..]);
        let keys = [&*address, domain].into_iter().chain(suffixes).chain([""]);
        // Of keys that stand twice the last counts.
        let find = |key: &str| self.virtuals.iter().rev().find(|one| one.key == key);
        let found = keys.filter_map(find).next()?;
        (!found.prepend.is_empty()).then(|| {
            let prepend = found.prepend.to_ascii_lowercase();
            format!("{prepend}-{local_part}")
        })
    }

    /// The domains whose mail is received here under any name.
    pub fn domains(&self) -> Vec<String> {
        let virtuals = self.virtuals.iter().map(|one| &one.key);
        let whole = virtuals.filter(|key| !key.is_empty() && !key.starts_with('.'));
        let whole = whole.filter(|key| !key.contains('@'));
        let all = self.locals.iter().chain(whole).chain(&self.received);
        let mut domains: Vec<String> = Vec::new();
        for domain in all.filter(|domain| self.name_of(NOBODY, domain).is_some()) {
            if !domains.contains(domain) {
                domains.push(domain.clone());
            }
        }
        domains
    }

    /// The addresses that lead to a local name. Names by which mail of virtual
    /// domains goes are not taken for addresses of local ones too.
    pub fn addresses_of(&self, name: &str) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for one in &self.virtuals {
            let prefix = format!("{}-", one.prepend.to_ascii_lowercase());
            let Some(local_part) = name.strip_prefix(&prefix) else {
                continue;
            };
            let domains: Vec<&str> = match one.key.split_once('@') {
                Some((of, domain)) if of == local_part => vec![domain],
                Some(_) => continue,
                // Those of ours that it is for.
                None => self.domains.iter().map(String::as_str).collect(),
            };
            for domain in domains {
                let is_ours = self.domains.iter().any(|one| one == domain);
                let leads_here = self.name_of(local_part, domain).as_deref() == Some(name);
                let address = Address::new(local_part, domain);
                let is_new = !local_part.is_empty() && !addresses.contains(&address);
                if is_ours && leads_here && is_new {
                    addresses.push(address);
                }
            }
        }
        if !self.is_internal(name) {
            addresses.extend(self.locals.iter().map(|domain| Address::new(name, domain)));
        }
        addresses
    }

    /// Whether a name begins as those of virtual domains do.
    pub fn is_internal(&self, name: &str) -> bool {
        self.virtuals.iter().any(|one| {
            let prefix = format!("{}-", one.prepend.to_ascii_lowercase());
            // A user of the system whose extensions are a domain's names has
            // them under his own name too.
            let is_user = self.system.iter().any(|user| user.name == one.prepend);
            !one.prepend.is_empty() && !is_user && name.starts_with(&prefix)
        })
    }

    /// An address of the outside for one that a `.qmail` file names.
    pub fn outside(&self, address: &str) -> String {
        let (local_part, domain) = match address.rsplit_once('@') {
            Some((local_part, domain)) => (local_part, domain.to_ascii_lowercase()),
            None => (address, self.envnoathost.clone()),
        };
        let name = local_part.to_ascii_lowercase();
        if self.locals.contains(&domain)
            && self.is_internal(&name)
            && let Some(address) = self.addresses_of(&name).first()
        {
            return address.to_string();
        }
        format!("{local_part}@{domain}")
    }

    /// Who has a local name.
    pub fn owner_of(&self, name: &str) -> Place {
        if let Some(one) = self.assign.find(name) {
            let rest = if one.is_prefix {
                &name[one.key.len()..]
            } else {
                ""
            };
            return Place {
                home: one.home.clone(),
                dash: one.dash.clone(),
                extension: format!("{}{rest}", one.extension),
            };
        }
        let user = |name: &str| self.system.iter().find(|user| user.name == name);
        if let Some(user) = user(name) {
            return Place {
                home: user.home.clone(),
                dash: String::new(),
                extension: String::new(),
            };
        }
        for (at, _) in name.rmatch_indices('-') {
            if let Some(user) = user(&name[..at]) {
                return Place {
                    home: user.home.clone(),
                    dash: "-".into(),
                    extension: name[at + 1..].to_owned(),
                };
            }
        }
        Place {
            home: self.alias_home.clone(),
            dash: "-".into(),
            extension: name.to_owned(),
        }
    }

    /// The file that says what is done; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(&self, place: &Place) -> Result<Option<Found>, Error> {
        for name in file_names(place) {
            let path = place.home.join(name);
            if let Some(content) = self.source.read(&path)? {
                return Ok(Some(Found { path, content }));
            }
        }
        Ok(None)
    }

    /// The local names that the `.qmail` files in a folder name, when those
    /// that begin with `prefix` belong to it; of `-default` files what names
    /// begin with, and the file's.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn named_in(&self, prefix: &str, place: &Place) -> Result<Named, Error> {
        let mut named = Named::default();
        if place.dash.is_empty() {
            return Ok(named);
        }
        let begin = format!(".qmail{}{}", place.dash, safe(&place.extension));
        for file in self.source.list(&place.home)? {
            let Some(rest) = file.strip_prefix(&begin).filter(|rest| !rest.is_empty()) else {
                continue;
            };
            // qmail looks for names in lower case only.
            if *rest != rest.to_ascii_lowercase() {
                named.never.push(place.home.join(file));
                continue;
            }
            let rest = rest.replace(':', ".");
            match rest.strip_suffix("default") {
                Some(before) if before.is_empty() || before.ends_with('-') => {
                    let begin = format!("{prefix}{before}");
                    named.defaults.push((begin, place.home.join(file)));
                }
                _ => named.names.push(format!("{prefix}{rest}")),
            }
        }
        Ok(named)
    }
}

/// What the files of a folder name.
#[derive(Debug, Default)]
pub struct Named {
    /// Local names.
    pub names: Vec<String>,
    /// Beginnings of local names, with the `-default` file of each.
    pub defaults: Vec<(String, PathBuf)>,
    /// Files that qmail never looks at.
    pub never: Vec<PathBuf>,
}

/// The names of files in the order in which qmail looks for them.
fn file_names(place: &Place) -> Vec<String> {
    let extension = safe(&place.extension);
    let mut names = vec![format!(".qmail{}{extension}", place.dash)];
    if !place.dash.is_empty() {
        for (at, _) in extension.rmatch_indices('-') {
            names.push(format!(".qmail{}{}default", place.dash, &extension[..=at]));
        }
        names.push(format!(".qmail{}default", place.dash));
    }
    names.retain(|name| !name.contains(['/', '\0']) && name.len() <= 255);
    names
}

fn safe(extension: &str) -> String {
    extension.to_ascii_lowercase().replace('.', ":")
}

/// The lines of passwd that qmail would deliver to, given whose each folder is.
pub fn system_users(passwd: &Content, owner: impl Fn(&Path) -> Option<u32>) -> Vec<SystemUser> {
    let text = String::from_utf8_lossy(&passwd.bytes);
    let users = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, ..] = fields[..] else {
            return None;
        };
        let uid: u32 = uid.parse().ok()?;
        let is_usual = !name.is_empty() && name == name.to_ascii_lowercase();
        (uid != 0 && is_usual && home.len() > 1 && owner(Path::new(home)) == Some(uid)).then(|| {
            SystemUser {
                name: name.to_owned(),
                home: home.into(),
            }
        })
    });
    users.collect()
}
