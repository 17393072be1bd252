//! Accounts of ours from qmail's names and `.qmail` files.
//!
//! A name whose file is `.qmail` itself is a person: a user with that folder's
//! `.qmail` files, and other names of the same folder are aliases. A name whose
//! file is another one, `.qmail-info`, is an alias where that file only
//! forwards, an extension of the person whose folder it is, and else a user
//! whose `.qmail` it becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::dotqmail::{self, Step};
use super::names::{Found, NOBODY, Names, Place};
use super::passwords::Kept;
use super::report::{Outcome, Report};
use super::source::Content;
use crate::Error;
use crate::accounts::{Address, Homes};
use crate::smtp::Mailbox;

mod places;

use places::is_whole;

/// Users and aliases of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// By address.
    pub users: BTreeMap<Address, PlannedUser>,
    /// By address, with where each leads.
    pub aliases: BTreeMap<Address, Vec<String>>,
}

/// A user of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedUser {
    /// The folder on the old host; of one whose mailbox alone lies there, the
    /// one above it.
    pub home: PathBuf,
    /// Files of the user's folder, by name.
    pub files: BTreeMap<String, Content>,
    /// What the user logs in with.
    pub password: Option<Kept>,
    /// Where bmf keeps what the user has taught it.
    pub bmf: Option<PathBuf>,
}

/// The accounts of a host with these names. What becomes of lines of files
/// that say who has which name goes to `report`; `assign` is the file of
/// assignments.
///
/// # Errors
/// When a file cannot be read.
pub fn planned(names: &Names<'_>, assign: &Path, report: &mut Report) -> Result<Planned, Error> {
    let mut plan = Plan {
        names,
        assign,
        report,
        planned: Planned::default(),
        people: BTreeMap::new(),
        with_extensions: BTreeSet::new(),
        defaults: Vec::new(),
        used: BTreeSet::new(),
        maildirs: BTreeMap::new(),
    };
    let places = plan.places()?;
    for (place, addresses) in &places {
        if place.dash.is_empty() {
            plan.person(place, addresses);
        }
    }
    for (begin, file) in std::mem::take(&mut plan.defaults) {
        plan.default_file(&begin, &file);
    }
    for (place, addresses) in &places {
        if !place.dash.is_empty() {
            plan.extension(place, addresses)?;
        }
    }
    for domain in names.domains() {
        plan.catch_all(&domain)?;
    }
    plan.unused();
    plan.files()?;
    Ok(plan.planned)
}

struct Plan<'a> {
    names: &'a Names<'a>,
    assign: &'a Path,
    report: &'a mut Report,
    planned: Planned,
    /// Whose folder it is.
    people: BTreeMap<PathBuf, Address>,
    /// Folders of people, all of whose extensions are theirs.
    with_extensions: BTreeSet<PathBuf>,
    /// How names begin for which there is a `-default` file, with the file.
    defaults: Vec<(String, PathBuf)>,
    /// Files of people that are extensions by another name.
    used: BTreeSet<PathBuf>,
    /// Whose Maildir it is.
    maildirs: BTreeMap<PathBuf, Address>,
}

/// The first that a folder of a user can be called by, alone; all of them when
/// none can.
fn name_of_user(addresses: &[Address]) -> &[Address] {
    let homes = Homes::new("");
    let at = addresses.iter().position(|one| homes.home(one).is_ok());
    at.map_or(addresses, |at| &addresses[at..=at])
}

/// What a file that belongs to no person's folder says.
enum Says {
    /// To go on to these.
    Forward(Vec<String>),
    /// To lie in a Maildir, and to go on to these.
    Maildir(PathBuf, Vec<String>),
    /// Something else.
    Other,
}

impl Plan<'_> {
    fn person(&mut self, place: &Place, addresses: &[Address]) {
        let home = place.home.clone();
        if let Some(known) = self.people.get(&home).cloned() {
            return self.aliases(addresses, &known);
        }
        if let Some(address) = self.user(addresses, &home) {
            self.maildirs.insert(home.join("Maildir"), address.clone());
            self.people.insert(home, address);
        }
    }

    /// Makes a user of the first address that can be one, and aliases of the
    /// others.
    fn user(&mut self, addresses: &[Address], home: &Path) -> Option<Address> {
        let first = name_of_user(addresses).first()?;
        if let Err(why) = Homes::new("").home(first) {
            let text: Vec<String> = addresses.iter().map(Address::to_string).collect();
            self.report
                .add(Outcome::Left, home, None, text.join(" "), why);
            return None;
        }
        let user = PlannedUser {
            home: home.to_owned(),
            ..PlannedUser::default()
        };
        self.planned.users.entry(first.clone()).or_insert(user);
        self.aliases(addresses, first);
        Some(first.clone())
    }

    fn aliases(&mut self, addresses: &[Address], target: &Address) {
        for address in addresses {
            if address != target {
                self.alias(address, vec![target.to_string()]);
            }
        }
    }

    fn alias(&mut self, address: &Address, targets: Vec<String>) {
        let entry = self.planned.aliases.entry(address.clone());
        entry.or_insert(targets);
    }

    fn extension(&mut self, place: &Place, addresses: &[Address]) -> Result<(), Error> {
        let Some(found) = self.names.find(place)? else {
            let text: Vec<String> = addresses.iter().map(Address::to_string).collect();
            let why =
                "it names no .qmail file that is there: qmail refuses this mail, and so do we";
            self.report
                .add(Outcome::Carried, &place.home, None, text.join(" "), why);
            return Ok(());
        };
        if let Some(person) = self.people.get(&place.home).cloned() {
            let own = self.own_extension(&person, &place.extension, &found)?;
            self.aliases(addresses, &own);
            return Ok(());
        }
        match self.says(&found, place) {
            Says::Forward(targets) => {
                self.has_owner(&found, place)?;
                for address in addresses {
                    self.alias(address, targets.clone());
                }
                let text = targets.join(" ");
                self.report
                    .add(Outcome::Carried, &found.path, None, text, "as aliases");
            }
            Says::Maildir(maildir, targets) => {
                let known = self.maildirs.get(&maildir).cloned();
                let home = maildir.parent().unwrap_or(&place.home).to_owned();
                let Some(user) = known
                    .clone()
                    .or_else(|| self.user(name_of_user(addresses), &home))
                else {
                    return Ok(());
                };
                match known {
                    None => drop(self.maildirs.insert(maildir, user.clone())),
                    Some(_) => self.shares(&found, &user)?,
                }
                for address in addresses {
                    let mut all = vec![user.to_string()];
                    all.extend(targets.iter().cloned());
                    if all.len() > 1 || *address != user {
                        self.alias(address, all);
                    }
                }
            }
            Says::Other => {
                if let Some(user) = self.user(addresses, &place.home) {
                    self.add_file(&user, ".qmail", &found, &place.home);
                }
            }
        }
        Ok(())
    }

    /// The address of a person's extension whose file is `found`. It is taken
    /// here, whether qmail has it or not.
    fn own_extension(
        &mut self,
        person: &Address,
        extension: &str,
        found: &Found,
    ) -> Result<Address, Error> {
        let names = self.names;
        self.used.insert(found.path.clone());
        let of = |extension: &str| {
            let local_part = format!("{}-{extension}", person.local_part);
            Address::new(&local_part, &person.domain)
        };
        let file = found.path.file_name().unwrap_or_default().to_string_lossy();
        // A `-default` file has all names that begin so.
        let begin = file.strip_prefix(".qmail-").unwrap_or_default();
        let begin = begin
            .strip_suffix("default")
            .map(|begin| begin.replace(':', "."));
        let any = begin.as_ref().map(|begin| of(&format!("{begin}{NOBODY}")));
        let own = of(extension);
        for one in [Some(&own), any.as_ref()].into_iter().flatten() {
            let name = names.name_of(&one.local_part, &one.domain);
            let there = name.map(|name| names.find(&names.owner_of(&name)));
            if there.transpose()?.flatten().as_ref() != Some(found) {
                let begin = begin.as_ref().map(|begin| of(begin).local_part);
                let all = begin.map_or(String::new(), |begin| {
                    format!(", and to all names that begin with {begin:?}")
                });
                let why = format!(
                    "as {own}: mail to that address is taken too{all}; qmail has none of it"
                );
                self.report
                    .add(Outcome::Changed, &found.path, None, "", why);
                break;
            }
        }
        Ok(own)
    }

    /// The file delivers to the mailbox of `user`, whose own mail may go
    /// elsewhere too.
    fn shares(&mut self, found: &Found, user: &Address) -> Result<(), Error> {
        let own = self.planned.users.get(user);
        let own = own.map(|user| user.home.join(".qmail"));
        let has_own = match own {
            Some(own) => self.names.source.read(&own)?.is_some(),
            None => false,
        };
        if has_own || self.planned.aliases.contains_key(user) {
            let why = format!(
                "it shares the mailbox of {user}, and its mail also goes where that of {user} does"
            );
            self.report
                .add(Outcome::Changed, &found.path, None, "", why);
        }
        Ok(())
    }

    fn says(&mut self, found: &Found, place: &Place) -> Says {
        if found.content.bytes.is_empty() {
            // The default delivery.
            return Says::Maildir(place.home.join("Maildir"), Vec::new());
        }
        let mut maildirs = Vec::new();
        let mut forwards = Vec::new();
        for (line, step) in dotqmail::steps(&found.content, &place.home) {
            match step {
                Step::Forward(address) => {
                    let address = self.names.outside(&address);
                    match Mailbox::parse(address.as_bytes()) {
                        Ok(mailbox) => forwards.push(mailbox.to_string()),
                        Err(error) => self.report.add(
                            Outcome::Left,
                            &found.path,
                            Some(line),
                            address,
                            error.to_string(),
                        ),
                    }
                }
                Step::Maildir(path) => maildirs.push(path),
                Step::Mbox(_) | Step::Program(_) => return Says::Other,
            }
        }
        // Users have theirs under this name.
        let is_usual = maildirs.iter().all(|path| path.ends_with("Maildir"));
        match (maildirs.len(), forwards.is_empty()) {
            (0, false) => Says::Forward(forwards),
            (1, _) if is_usual => Says::Maildir(maildirs.remove(0), forwards),
            _ => Says::Other,
        }
    }

    /// With a file `-owner` beside it, a list's reports go to its owner.
    fn has_owner(&mut self, found: &Found, place: &Place) -> Result<(), Error> {
        let name = found.path.file_name().unwrap_or_default();
        let owner = format!("{}-owner", name.to_string_lossy());
        if self.names.source.read(&place.home.join(owner))?.is_some() {
            let why = "the list has an owner, to whom qmail sends its reports; those of an alias go \
                       to the sender. A user of this name with both files in its folder has it as before";
            self.report
                .add(Outcome::Changed, &found.path, None, "", why);
        }
        Ok(())
    }

    /// Who gets what nobody is called.
    fn catch_all(&mut self, domain: &str) -> Result<(), Error> {
        let names = self.names;
        let Some(name) = names.name_of(NOBODY, domain) else {
            return Ok(());
        };
        let place = names.owner_of(&name);
        let address = Address::new("", domain);
        if place.dash.is_empty() {
            self.whole_domain(&name, &address);
            return Ok(());
        }
        let Some(found) = names.find(&place)? else {
            return Ok(());
        };
        if let Some(person) = self.people.get(&place.home).cloned() {
            let file = found.path.file_name().unwrap_or_default().to_string_lossy();
            let extension = file.strip_prefix(".qmail-").unwrap_or("default");
            let own = self.own_extension(&person, &extension.replace(':', "."), &found)?;
            let own = own.to_string();
            let why = format!(
                "as an alias of @{domain} for {own}, so that EXT and DEFAULT of programs say \"default\""
            );
            self.report
                .add(Outcome::Changed, &found.path, None, "", why);
            self.alias(&address, vec![own]);
            return Ok(());
        }
        let (maildir, more) = match self.says(&found, &place) {
            Says::Maildir(path, more) => (Some(path), more),
            Says::Forward(targets) => (None, targets),
            Says::Other => (None, Vec::new()),
        };
        let says = match maildir {
            None if more.is_empty() => None,
            None => Some(more),
            Some(path) => {
                let home = path.parent().unwrap_or(&place.home);
                let known = self.maildirs.get(&path).cloned();
                let user = known.or_else(|| self.spare("default", domain, home));
                user.map(|user| {
                    let targets = [vec![user.to_string()], more].concat();
                    self.maildirs.insert(path, user);
                    targets
                })
            }
        };
        match says {
            Some(targets) => {
                let text = targets.join(" ");
                let why = format!(
                    "as an alias of @{domain}, which also gets what there is refused: names that \
                     begin with somebody's, and have no .qmail file"
                );
                self.report
                    .add(Outcome::Changed, &found.path, None, text, why);
                self.alias(&address, targets);
            }
            None => {
                let text = String::from_utf8_lossy(&found.content.bytes).into_owned();
                let why = match text.contains("bounce") {
                    true => {
                        "names that nobody has are refused at RCPT, and need no program".to_owned()
                    }
                    false => format!(
                        "mail for names at {domain} that nobody has is no user's; \
                         `postern alias add @{domain} ADDRESS` gives it to one, else it is refused"
                    ),
                };
                self.report.add(
                    Outcome::Left,
                    &found.path,
                    None,
                    text.trim_end().to_owned(),
                    why,
                );
            }
        }
        Ok(())
    }

    /// A user for what no name leads to, unless somebody is called so.
    fn spare(&mut self, name: &str, domain: &str, home: &Path) -> Option<Address> {
        let own = Address::new(name, domain);
        let (users, aliases) = (&self.planned.users, &self.planned.aliases);
        let is_free = !users.contains_key(&own) && !aliases.contains_key(&own);
        is_free.then(|| self.user(&[own], home)).flatten()
    }

    /// All names of a domain are one user's, by an assignment of how they
    /// begin: `+example.org-:anna:1000:1000:/home/anna:::`.
    fn whole_domain(&mut self, name: &str, address: &Address) {
        let assigned = self.names.assign.find(name);
        let Some(one) = assigned.filter(|one| !one.is_root) else {
            return;
        };
        let known = self.people.get(&one.home).cloned();
        let name = one.user.to_ascii_lowercase();
        let user = known.or_else(|| self.spare(&name, &address.domain, &one.home));
        let Some(user) = user else {
            return;
        };
        self.people.insert(one.home.clone(), user.clone());
        self.alias(address, vec![user.to_string()]);
        let text = format!("+{}", one.key);
        let why = format!(
            "as an alias of @{} for {user}; there a .qmail file does not count for it, here that of \
             {user} does",
            address.domain
        );
        let assign = self.assign.to_owned();
        let line = Some(one.line);
        self.report.add(Outcome::Changed, &assign, line, text, why);
    }

    /// Assignments of all names of a domain that is not ours.
    fn unused(&mut self) {
        let is_told = |report: &Report, line| {
            let mut findings = report.findings.iter();
            findings.any(|one| one.file == self.assign && one.line == Some(line))
        };
        for one in &self.names.assign.all {
            let is_whole = one.is_prefix && one.dash.is_empty() && is_whole(self.names, &one.key);
            if is_whole && !is_told(self.report, one.line) {
                let why = "no domain's mail leads to names that begin so";
                let text = format!("+{}", one.key);
                self.report
                    .add(Outcome::Left, self.assign, Some(one.line), text, why);
            }
        }
    }

    /// Gives each person the `.qmail` files of the folder.
    fn files(&mut self) -> Result<(), Error> {
        for (home, address) in self.people.clone() {
            for name in self.names.source.list(&home)? {
                let is_one = name == ".qmail" || name.starts_with(".qmail-");
                if !is_one || name != name.to_ascii_lowercase() {
                    continue;
                }
                let path = home.join(&name);
                let is_used = name == ".qmail" || self.used.contains(&path);
                if !is_used && !self.with_extensions.contains(&home) {
                    let why = "no name leads to it: qmail never reads it";
                    self.report.add(Outcome::Left, &path, None, "", why);
                    continue;
                }
                if let Some(content) = self.names.source.read(&path)? {
                    self.add_file(&address, &name, &Found { path, content }, &home);
                }
            }
        }
        Ok(())
    }

    fn add_file(&mut self, user: &Address, name: &str, found: &Found, home: &Path) {
        let names = self.names;
        let rewritten = dotqmail::rewrite(&found.content, home, |address| names.outside(address));
        for (outcome, line, text, why) in rewritten.notes {
            self.report.add(outcome, &found.path, Some(line), text, why);
        }
        let mode = found.content.mode;
        if mode & 0o002 != 0 {
            let why = "everybody may write it, so that qmail keeps its mail waiting; the copy is its owner's alone";
            self.report
                .add(Outcome::Changed, &found.path, None, "", why);
        }
        let content = Content {
            bytes: rewritten.text,
            // Its owner's alone; the bit for forwards only stays.
            mode: mode & 0o700 | 0o600,
        };
        let why = format!("in the folder of {user}");
        self.report
            .add(Outcome::Carried, &found.path, None, "", why);
        if let Some(planned) = self.planned.users.get_mut(user) {
            planned.files.entry(name.to_owned()).or_insert(content);
        }
    }
}
