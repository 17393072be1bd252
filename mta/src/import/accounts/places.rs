//! Which names there are, and whose folder each leads to.

use std::collections::BTreeSet;
use std::path::Path;

use super::Plan;
use crate::Error;
use crate::accounts::Address;
use crate::import::names::{NOBODY, Names, Place};
use crate::import::report::Outcome;

/// Whether what begins so are all names of a domain.
pub(super) fn is_whole(names: &Names<'_>, begin: &str) -> bool {
    let is_one = |prepend: &str| {
        let begin = begin.strip_prefix(prepend);
        !prepend.is_empty() && begin == Some("-")
    };
    let mut virtuals = names.virtuals.iter();
    begin.is_empty() || virtuals.any(|one| is_one(&one.prepend.to_ascii_lowercase()))
}

impl Plan<'_> {
    /// All places that a name leads to, those of exact names first, with the
    /// addresses of each. The first is the one that a user is called by.
    pub(super) fn places(&mut self) -> Result<Vec<(Place, Vec<Address>)>, Error> {
        let (names, assign) = (self.names, self.assign);
        let mut candidates: Vec<(String, Option<usize>)> = Vec::new();
        // Folders of `-default` files and what is asked for in them.
        let mut reaches: Vec<(String, Place)> = Vec::new();
        for one in &names.assign.all {
            match one.is_prefix {
                false => candidates.push((one.key.clone(), Some(one.line))),
                // All names of a domain: see catch_all.
                true if one.dash.is_empty() && is_whole(names, &one.key) => {}
                true if one.dash.is_empty() && !one.key.ends_with('+') => {
                    let why = format!(
                        "all names that begin so are one user: there is nothing like it here; {} \
                         alone is carried over, and an alias for each other name has it as before",
                        one.key
                    );
                    let text = format!("+{}", one.key);
                    let line = Some(one.line);
                    self.report.add(Outcome::Left, assign, line, text, why);
                    candidates.push((one.key.clone(), None));
                }
                true => reaches.push((
                    one.key.clone(),
                    Place {
                        home: one.home.clone(),
                        dash: one.dash.clone(),
                        extension: one.extension.clone(),
                    },
                )),
            }
        }
        let place = |home: &Path| Place {
            home: home.to_owned(),
            dash: "-".into(),
            extension: String::new(),
        };
        for user in &names.system {
            candidates.push((user.name.clone(), None));
            reaches.push((format!("{}-", user.name), place(&user.home)));
        }
        for one in names.virtuals.iter().filter(|one| !one.prepend.is_empty()) {
            if let Some((local_part, _)) = one.key.split_once('@') {
                let prepend = one.prepend.to_ascii_lowercase();
                candidates.push((format!("{prepend}-{local_part}"), None));
            }
        }
        reaches.push((String::new(), place(&names.alias_home)));
        let mut with_extensions = BTreeSet::new();
        for (prefix, place) in reaches {
            let name = prefix.strip_suffix('-').unwrap_or_default();
            let person = names.owner_of(name);
            if person.dash.is_empty() && person.home == place.home && place.extension.is_empty() {
                self.with_extensions.insert(place.home.clone());
                with_extensions.insert(name.to_owned());
            }
            let named = names.named_in(&prefix, &place)?;
            let any = Place {
                extension: format!("{}{NOBODY}", place.extension),
                ..place.clone()
            };
            if let (false, Some(found)) = (place.extension.is_empty(), names.find(&any)?) {
                let why = format!(
                    "it is also for all names that begin with {prefix:?}: there is nothing like it \
                     here; an alias for each name is"
                );
                self.report.add(Outcome::Left, &found.path, None, "", why);
            }
            candidates.extend(named.names.into_iter().map(|name| (name, None)));
            self.defaults.extend(named.defaults);
            for file in named.never {
                let why = "qmail looks for names in lower case, and never finds it";
                self.report.add(Outcome::Left, &file, None, "", why);
            }
        }
        let mut places: Vec<(Place, Vec<Address>)> = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, line) in candidates {
            if !seen.insert(name.clone()) {
                continue;
            }
            let addresses = names.addresses_of(&name);
            if let (true, Some(line)) = (addresses.is_empty(), line) {
                let why = "no domain's mail leads to this name";
                self.report
                    .add(Outcome::Left, assign, Some(line), name.clone(), why);
            }
            let assigned = names.assign.find(&name);
            if let Some(one) = assigned.filter(|one| one.is_root) {
                let why = "qmail delivers nothing as root, and keeps this mail waiting";
                self.report
                    .add(Outcome::Left, assign, Some(one.line), name, why);
                continue;
            }
            let place = names.owner_of(&name);
            match places.iter_mut().find(|(known, _)| *known == place) {
                // A user is called by the name that has extensions.
                Some((_, all)) if with_extensions.contains(&name) => {
                    all.splice(0..0, addresses);
                }
                Some((_, all)) => all.extend(addresses),
                None => places.push((place, addresses)),
            }
        }
        places.retain(|(_, addresses)| !addresses.is_empty());
        Ok(places)
    }

    /// A file for all names that begin so. Catch-alls of whole domains are seen
    /// to elsewhere, and so are extensions of people.
    pub(super) fn default_file(&mut self, begin: &str, file: &Path) {
        let names = self.names;
        let home = file.parent().unwrap_or(file);
        let person = self.people.get(home);
        let person = person.filter(|_| self.with_extensions.contains(home));
        let name = person.and_then(|user| names.name_of(&user.local_part, &user.domain));
        let is_own = name.is_some_and(|name| begin.starts_with(&format!("{name}-")));
        if !is_whole(names, begin) && !is_own {
            let why = format!(
                "it is for all names that begin with {begin:?}, and no user is called so: there is \
                 nothing like it here; an alias for each name is"
            );
            self.report.add(Outcome::Left, file, None, "", why);
        }
        // A user has extensions under the name of one domain.
        let mut virtuals = names.virtuals.iter();
        let is_virtual = virtuals.any(|one| {
            let prepend = format!("{}-", one.prepend.to_ascii_lowercase());
            begin.starts_with(&prepend) && begin != prepend
        });
        if is_own && (names.locals.len() > 1 || is_virtual) {
            let why = "for all names that begin so at the domain of its user; of other domains only \
                       names with a file of their own are aliases";
            self.report
                .add(Outcome::Changed, file, None, begin.to_owned(), why);
        }
    }
}
