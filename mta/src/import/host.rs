//! What the control files of a qmail host say, one by one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;

use super::accounts::planned;
use super::control::{self, Line};
use super::report::Outcome;
use super::source::{Content, Source};
use super::{Places, Plan, routes};
use crate::models::FILES;
use crate::smtp::Domain;

mod clients;
mod filter;
mod logins;
mod receiving;
mod sending;
mod tables;

use tables::{LINES, NONE, NUMBERS};

/// The old host while it is read.
struct Reader<'a> {
    source: &'a dyn Source,
    places: &'a Places,
    /// The folder of control files.
    control: PathBuf,
    users: PathBuf,
    /// Names of control files that were understood.
    seen: BTreeSet<String>,
    plan: Plan,
}

pub(super) fn plan(source: &dyn Source, places: &Places) -> anyhow::Result<Plan> {
    // eQmail's development line has other names.
    let folder = |names: [&str; 2]| {
        let all = names.map(|name| places.qmail.join(name));
        let found = all.iter().find(|path| source.is_folder(path));
        found.unwrap_or(&all[0]).clone()
    };
    let mut reader = Reader {
        source,
        places,
        control: folder(["control", "etc"]),
        users: folder(["users", "var/users"]),
        seen: BTreeSet::new(),
        plan: Plan::default(),
    };
    reader.name()?;
    let names = reader.names()?;
    reader.plan.domains = names.domains();
    reader.received(&names)?;
    let assign = reader.users.join("assign");
    reader.plan.accounts = planned(&names, &assign, &mut reader.plan.report)?;
    reader.settings()?;
    reader.routes()?;
    reader.logins(&names)?;
    reader.tcprules()?;
    reader.rules()?;
    reader.spamdyke()?;
    reader.certificate()?;
    reader.others()?;
    reader.left_to_do()?;
    Ok(reader.plan)
}

impl Reader<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.control.join(name)
    }

    fn add(&mut self, outcome: Outcome, name: &str, line: Option<usize>, text: &str, why: &str) {
        let path = self.path(name);
        self.plan.report.add(outcome, &path, line, text, why);
    }

    fn read(&mut self, name: &str) -> anyhow::Result<Option<Content>> {
        self.seen.insert(name.to_owned());
        Ok(self.source.read(&self.path(name))?)
    }

    fn line(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(content) = self.read(name)? else {
            return Ok(None);
        };
        let line = control::line(&content);
        self.returned(name, &line);
        Ok(Some(line.text))
    }

    fn number(&mut self, name: &str) -> anyhow::Result<Option<u64>> {
        let Some(content) = self.read(name)? else {
            return Ok(None);
        };
        let number = control::number(&content);
        if number.is_none() {
            let text = control::line(&content).text;
            let why = "it begins with no number, so that qmail has its default";
            self.add(Outcome::Left, name, Some(1), &text, why);
        }
        Ok(number)
    }

    fn list(&mut self, name: &str) -> anyhow::Result<Option<Vec<Line>>> {
        let Some(content) = self.read(name)? else {
            return Ok(None);
        };
        let lines = control::list(&content);
        for line in &lines {
            self.returned(name, line);
        }
        Ok(Some(lines))
    }

    /// A line of a keyed file with what stands on both sides of its colon.
    fn keyed(&mut self, name: &str) -> anyhow::Result<Vec<(Line, String, String)>> {
        let mut all = Vec::new();
        for line in self.list(name)?.unwrap_or_default() {
            match control::keyed(&line) {
                Some((key, value)) => all.push((line, key, value)),
                None => {
                    let text = routes::shown(&line.text);
                    let why = "it has no colon: qmail passes it over";
                    self.add(Outcome::Left, name, Some(line.number), &text, why);
                }
            }
        }
        Ok(all)
    }

    fn returned(&mut self, name: &str, line: &Line) {
        if line.had_return {
            let why = "it ends with a carriage return, which qmail takes for a part of it, so that \
                       it never counted there; here it counts";
            self.add(
                Outcome::Changed,
                name,
                Some(line.number),
                &routes::shown(&line.text),
                why,
            );
        }
    }

    fn name(&mut self) -> anyhow::Result<()> {
        let me = self.line("me")?;
        let path = self.path("me");
        let me = me.with_context(|| {
            format!(
                "{} is missing: is {} the folder of a qmail host?",
                path.display(),
                self.places.qmail.display()
            )
        })?;
        let name = Domain::parse(&me.to_ascii_lowercase()).ok();
        let name = name.as_ref().and_then(Domain::name).map(str::to_owned);
        self.plan.host = name
            .filter(|name| name.contains('.') && name.is_ascii())
            .with_context(|| {
                format!(
                    "{}: {me:?} is no host name such as mail.example.org",
                    path.display()
                )
            })?;
        let host = self.plan.host.clone();
        self.plan.settings.set("", "host", host.clone());
        self.add(Outcome::Carried, "me", Some(1), &host, "as host");
        Ok(())
    }

    /// Files of one line that have a key of ours, or none.
    fn settings(&mut self) -> anyhow::Result<()> {
        let host = self.plan.host.clone();
        if let Some(domain) = self.line("defaulthost")? {
            match is_domain(&domain.to_ascii_lowercase()) {
                true => {
                    self.plan
                        .settings
                        .set("", "domain", domain.to_ascii_lowercase());
                    self.add(
                        Outcome::Carried,
                        "defaulthost",
                        Some(1),
                        &domain,
                        "as domain",
                    );
                }
                false => {
                    let why = "it is no name of a domain";
                    self.add(Outcome::Left, "defaulthost", Some(1), &domain, why);
                }
            }
        }
        for (name, section, key) in NUMBERS {
            let Some(number) = self.number(name)? else {
                continue;
            };
            let why = match (name, number) {
                ("databytes", 0) => {
                    let why = "no limit; here messages of 50 MiB are the largest, see \
                               smtp.max_message_bytes";
                    self.add(Outcome::Changed, name, Some(1), "0", why);
                    continue;
                }
                (_, 0) => {
                    let why = "0 means 1 second there; the default counts here";
                    self.add(Outcome::Changed, name, Some(1), "0", why);
                    continue;
                }
                _ => format!("as {section}.{key}"),
            };
            let value = match name {
                "queuelifetime" => number.div_ceil(3600),
                _ => number,
            };
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            self.plan.settings.set(section, key, value);
            self.add(Outcome::Carried, name, Some(1), &number.to_string(), &why);
        }
        for (name, default, why) in LINES {
            let Some(text) = self.line(name)? else {
                continue;
            };
            let default = default.unwrap_or(&host);
            // A greeting begins with the host's name.
            let first = text.split(' ').next().unwrap_or_default();
            match first.eq_ignore_ascii_case(default) {
                true => self.add(Outcome::Carried, name, Some(1), &text, "it is so here too"),
                false => self.add(Outcome::Left, name, Some(1), &text, why),
            }
        }
        for name in ["defaultdelivery", "aliasempty"] {
            let Some(text) = self.line(name)? else {
                continue;
            };
            match text.as_str() {
                "./Maildir/" => self.add(Outcome::Carried, name, Some(1), &text, ""),
                _ => {
                    let why = "who has no .qmail file gets mail into Maildir here; give users one \
                               who need something else";
                    self.add(Outcome::Changed, name, Some(1), &text, why);
                }
            }
        }
        Ok(())
    }

    /// Certificate and key are in one file, which is copied.
    fn certificate(&mut self) -> anyhow::Result<()> {
        let name = "servercert.pem";
        let Some(content) = self.read(name)? else {
            return Ok(());
        };
        let copy = "secrets/servercert.pem";
        let path = self.places.data.join(copy).display().to_string();
        self.plan.secrets.insert(copy.into(), content.bytes);
        self.plan.settings.set("tls", "certificate", path.clone());
        self.plan.settings.set("tls", "key", path);
        let why = "a copy is tls.certificate and tls.key; what renews the certificate must be told \
                   the new place";
        self.add(Outcome::Changed, name, None, "", why);
        Ok(())
    }

    /// What has no counterpart, and what nobody knows.
    fn others(&mut self) -> anyhow::Result<()> {
        for name in self.source.list(&self.control)? {
            if self.seen.contains(&name) {
                continue;
            }
            let known = NONE.iter().find(|(names, _)| names.contains(&&*name));
            let why = known.map_or("no control file of this name is known", |(_, why)| why);
            if self.source.is_folder(&self.path(&name)) {
                let inside = self.source.list(&self.path(&name))?;
                self.add(Outcome::Left, &name, None, &inside.join(" "), why);
                continue;
            }
            let Some(content) = self.source.read(&self.path(&name))? else {
                continue;
            };
            let is_text = !name.ends_with(".pem") && !name.ends_with(".cdb");
            let lines = control::list(&content);
            match known {
                Some(_) if is_text && !lines.is_empty() => {
                    for line in lines {
                        let text = match &*name {
                            // It may hold passwords.
                            "authsenders" => &routes::shown(&line.text),
                            _ => &line.text,
                        };
                        self.add(Outcome::Left, &name, Some(line.number), text, why);
                    }
                }
                _ => self.add(Outcome::Left, &name, None, "", why),
            }
        }
        let pw2u = ["include", "exclude", "mailnames", "subusers", "append"];
        for name in pw2u {
            let path = self.users.join(name);
            if self.source.read(&path)?.is_some() {
                let why = "qmail-pw2u made users/assign of it, which was read";
                self.plan.report.add(Outcome::Left, &path, None, "", why);
            }
        }
        Ok(())
    }

    /// What the import does not touch.
    fn left_to_do(&mut self) -> anyhow::Result<()> {
        let mess = ["queue/mess", "var/queue/mess"].map(|name| self.places.qmail.join(name));
        for folder in mess {
            let mut n = 0;
            for part in self.source.list(&folder)? {
                n += self.source.list(&folder.join(part))?.len();
            }
            if n > 0 {
                let why = "they wait in qmail's queue: let qmail deliver them before it is removed";
                let text = format!("{n} messages");
                self.plan
                    .report
                    .add(Outcome::ToDo, &folder, None, text, why);
            }
        }
        let mut found = Vec::new();
        for (address, user) in &self.plan.accounts.users {
            let maildir = user.home.join("Maildir");
            if self.source.is_folder(&maildir) {
                let new = self.places.data.join("mail").join(&address.domain);
                let new = new.join(&address.local_part).join("Maildir");
                let why = format!(
                    "mail of {address}: cp -a its new, cur and .folders to {}, while neither host \
                     delivers",
                    new.display()
                );
                found.push((maildir, why));
            }
            for name in ["Mailbox", "mbox"] {
                if self.source.read(&user.home.join(name))?.is_some() {
                    let why = format!("an mbox of {address}, to be made a Maildir");
                    found.push((user.home.join(name), why));
                }
            }
        }
        for (address, user) in &mut self.plan.accounts.users {
            let folder = user.home.join(".bmf");
            let of_bmf = |name: &String| FILES.contains(&name.as_str());
            if self.source.list(&folder)?.iter().any(of_bmf) {
                let why = format!("as the model of {address}");
                self.plan
                    .report
                    .add(Outcome::Carried, &folder, None, "", why);
                user.bmf = Some(folder);
            }
        }
        for (path, why) in found {
            self.plan.report.add(Outcome::ToDo, &path, None, "", why);
        }
        Ok(())
    }
}

fn is_domain(name: &str) -> bool {
    Domain::parse(name).is_ok_and(|domain| domain.name().is_some())
}
