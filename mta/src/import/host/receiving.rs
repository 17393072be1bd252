//! Whose mail is received, and who has it.

use std::path::Path;

use anyhow::Context;

use super::{Reader, is_domain};
use crate::import::assign::Assign;
use crate::import::cdb;
use crate::import::names::{NOBODY, Names, Virtual, system_users};
use crate::import::report::Outcome;

impl<'a> Reader<'a> {
    /// Which names there are, and who has them.
    pub(super) fn names(&mut self) -> anyhow::Result<Names<'a>> {
        let mut names = Names {
            source: self.source,
            locals: self.locals()?,
            virtuals: Vec::new(),
            received: Vec::new(),
            domains: Vec::new(),
            assign: self.assign()?,
            system: Vec::new(),
            alias_home: self.places.qmail.join("alias"),
            envnoathost: self
                .line("envnoathost")?
                .unwrap_or_else(|| self.plan.host.clone())
                .to_ascii_lowercase(),
        };
        if let Some(passwd) = self.source.read(Path::new("/etc/passwd"))? {
            names.system = system_users(&passwd, |home| self.source.owner(home));
        }
        names.virtuals = self.virtuals(&names.locals)?;
        let received = self.list("rcpthosts")?.unwrap_or_default();
        let received = received
            .into_iter()
            .map(|line| line.text.to_ascii_lowercase());
        names.received = received.filter(|name| is_domain(name)).collect();
        names.domains = names.domains();
        if names.name_of(NOBODY, &names.envnoathost).is_none() {
            let why = "names without a domain, as .qmail files may have them, are of this domain, \
                       which is not local: their mail leaves the host, there and here; write the \
                       domain behind them, or `postern domain add` it";
            let domain = &names.envnoathost;
            self.add(Outcome::ToDo, "envnoathost", None, domain, why);
        }
        Ok(names)
    }

    fn locals(&mut self) -> anyhow::Result<Vec<String>> {
        let host = self.plan.host.clone();
        let Some(lines) = self.list("locals")? else {
            let why = "it is missing, so that the host's own name is the only local one";
            self.add(Outcome::Carried, "locals", None, &host, why);
            return Ok(vec![host]);
        };
        let mut locals: Vec<String> = Vec::new();
        for line in &lines {
            let name = line.text.to_ascii_lowercase();
            match is_domain(&name) {
                true if locals.contains(&name) => {}
                // The host's own name is what its users are called by.
                true if name == host => locals.insert(0, name),
                true => locals.push(name),
                false => {
                    let why = "it is no name of a domain";
                    self.add(Outcome::Left, "locals", Some(line.number), &line.text, why);
                }
            }
        }
        let why = match lines.is_empty() {
            true => "it is empty: no domain is local",
            false => "as domains",
        };
        self.add(Outcome::Carried, "locals", None, &locals.join(" "), why);
        Ok(locals)
    }

    fn virtuals(&mut self, locals: &[String]) -> anyhow::Result<Vec<Virtual>> {
        let name = "virtualdomains";
        let mut virtuals: Vec<Virtual> = Vec::new();
        let lines = self.keyed(name)?;
        let whole = |domain: &str| {
            let mut keys = lines.iter().map(|(_, key, _)| key.as_str());
            locals.iter().any(|one| one == domain) || keys.any(|key| key == domain)
        };
        for (line, key, prepend) in &lines {
            let (number, text) = (Some(line.number), line.text.as_str());
            let domain = key.rsplit_once('@').map_or(&**key, |(_, domain)| domain);
            let bare = domain.strip_prefix('.').unwrap_or(domain);
            let (outcome, why) = if locals.iter().any(|one| one == domain) {
                (Outcome::Left, "the domain is in locals too, which counts")
            } else if prepend.is_empty() {
                (
                    Outcome::Left,
                    "mail for it goes to its own host, as for every domain that is not ours",
                )
            } else if !(bare.is_empty() || is_domain(bare)) {
                (Outcome::Left, "it is no name of a domain")
            } else if domain.is_empty() || domain.starts_with('.') {
                (
                    Outcome::Changed,
                    "a domain is received here by its whole name: those that rcpthosts names are; \
                     enter others with `postern domain add`",
                )
            } else if key.contains('@') && !whole(domain) {
                (
                    Outcome::Left,
                    "only this address of the domain is received there; here a domain is ours \
                     wholly or not at all",
                )
            } else {
                (Outcome::Carried, "")
            };
            self.add(outcome, name, number, text, why);
            virtuals.push(Virtual {
                line: line.number,
                key: key.clone(),
                prepend: prepend.clone(),
            });
        }
        Ok(virtuals)
    }

    /// What qmail has in effect is `cdb`, which is made of `assign`.
    fn assign(&mut self) -> anyhow::Result<Assign> {
        let (text_path, cdb_path) = (self.users.join("assign"), self.users.join("cdb"));
        let text = self.source.read(&text_path)?;
        let text = text.map(|content| Assign::parse(&content.bytes));
        let cdb = match self.source.read(&cdb_path)? {
            None => None,
            Some(content) => Some(
                Assign::of_cdb(&content.bytes)
                    .map_err(anyhow::Error::msg)
                    .with_context(|| format!("cannot understand {}", cdb_path.display()))?,
            ),
        };
        let report = &mut self.plan.report;
        let assign = match (text, cdb) {
            (None, None) => return Ok(Assign::default()),
            (Some(text), cdb) if text.is_whole => {
                if let Some(cdb) = cdb {
                    for key in text.differences(&cdb) {
                        let why = "users/cdb, by which qmail goes, says something else: qmail-newu \
                                   was not run since; the text counts here";
                        report.add(Outcome::Changed, &text_path, None, key, why);
                    }
                }
                text
            }
            (text, cdb) => {
                if text.is_some() {
                    let why = "it lacks the line with a dot at its end, so that qmail-newu refuses \
                               it; what counts is users/cdb";
                    report.add(Outcome::Left, &text_path, None, "", why);
                }
                cdb.unwrap_or_default()
            }
        };
        for (line, text, why) in &assign.wrong {
            report.add(Outcome::Left, &text_path, Some(*line), text, why);
        }
        for one in assign.hidden() {
            let why = "a line before it has the same name, and counts";
            report.add(Outcome::Left, &text_path, Some(one.line), &one.key, why);
        }
        let n = assign.all.len();
        report.add(
            Outcome::Carried,
            &text_path,
            None,
            format!("{n} assignments"),
            "",
        );
        Ok(assign)
    }

    /// From whom mail for which domain is taken.
    pub(super) fn received(&mut self, names: &Names<'_>) -> anyhow::Result<()> {
        let Some(lines) = self.list("rcpthosts")? else {
            let why = "it is missing, so that qmail takes mail for everybody from anybody: an open \
                       relay; here only mail for the domains above is taken";
            self.add(Outcome::Changed, "rcpthosts", None, "", why);
            return Ok(());
        };
        let mut received: Vec<String> = Vec::new();
        for line in &lines {
            let name = line.text.to_ascii_lowercase();
            let is_ours = |domain: &String| match name.starts_with('.') {
                true => domain.ends_with(&name),
                false => *domain == name,
            };
            match names.domains.iter().any(is_ours) {
                true if name.starts_with('.') => {
                    let why = "of the names below it those above are taken; qmail also takes mail \
                               for others, to be passed on: `set recipient @NAME RELAYCLIENT=\"\"` \
                               in the rules of the gate does so for one";
                    let number = Some(line.number);
                    self.add(Outcome::Changed, "rcpthosts", number, &line.text, why);
                }
                true => {}
                false => self.passed_on(names, "rcpthosts", Some(line.number), &line.text),
            }
            received.push(name);
        }
        received.extend(self.more_received(names)?);
        for domain in &names.domains {
            let covers = |name: &String| match name.starts_with('.') {
                true => domain.ends_with(name),
                false => name == domain,
            };
            if !received.iter().any(covers) {
                let why = "qmail takes no mail for it from other hosts; here it is taken";
                self.add(Outcome::Changed, "rcpthosts", None, domain, why);
            }
        }
        self.add(Outcome::Carried, "rcpthosts", None, "", "");
        Ok(())
    }

    /// A domain whose mail another host has, and which is taken to be passed on
    /// there.
    fn passed_on(&mut self, names: &Names<'_>, file: &str, line: Option<usize>, text: &str) {
        let name = text.to_ascii_lowercase();
        let bare = name.strip_prefix('.').unwrap_or(&name);
        let below = format!(".{bare}");
        let covers = |one: &str| one == bare || one.ends_with(&below);
        let mut virtuals = names.virtuals.iter().filter(|one| !one.prepend.is_empty());
        let is_partly_ours = names.domains.iter().any(|one| covers(one))
            || names.name_of(NOBODY, &format!("{NOBODY}.{bare}")).is_some()
            || virtuals.any(|one| {
                let domain = one.key.rsplit('@').next().unwrap_or_default();
                covers(domain.trim_start_matches('.'))
            });
        let rule = format!("set recipient @{bare} RELAYCLIENT=\"\"");
        let (outcome, why) = if is_partly_ours {
            (
                Outcome::Left,
                "part of it is ours, and a rule of the gate for the rest would count for all of it: \
                 `postern domain add` enters what is ours, and `set recipient NAME@DOMAIN \
                 RELAYCLIENT=\"\"` in the rules lets mail for another address through",
            )
        } else if !is_domain(bare) {
            (Outcome::Left, "it is no name of a domain")
        } else {
            self.plan.rules.push(rule);
            (
                Outcome::Changed,
                "as a rule of the gate, which counts for it and all below: mail is taken, and goes on \
                 to its own host, by MX or a [[route]]; remove the line where that is no more wanted",
            )
        };
        self.add(outcome, file, line, text, why);
    }

    /// The continuation, of which only the cdb counts.
    fn more_received(&mut self, names: &Names<'_>) -> anyhow::Result<Vec<String>> {
        let name = "morercpthosts.cdb";
        let Some(content) = self.read(name)? else {
            if let Some(lines) = self.list("morercpthosts")? {
                let why = "morercpthosts.cdb, by which qmail goes, is missing";
                let text = format!("{} lines", lines.len());
                self.add(Outcome::Left, "morercpthosts", None, &text, why);
            }
            return Ok(Vec::new());
        };
        self.seen.insert("morercpthosts".into());
        let records = cdb::records(&content.bytes).map_err(anyhow::Error::msg);
        let records =
            records.with_context(|| format!("cannot understand {}", self.path(name).display()))?;
        let all: Vec<String> = records
            .iter()
            .map(|(key, _)| String::from_utf8_lossy(key).to_ascii_lowercase())
            .collect();
        for domain in &all {
            if !names.domains.contains(domain) {
                self.passed_on(names, name, None, domain);
            }
        }
        self.add(Outcome::Carried, name, None, "", "");
        Ok(all)
    }
}
