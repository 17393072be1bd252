//! spamdyke's options as settings and rules of the gate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Reader;
use crate::gate::rules::Rules;
use crate::import::report::Outcome::{self, Carried, Changed, Left};
use crate::import::spamdyke::{self, Said};
use crate::import::tcprules;

/// Where spamdyke's file is looked for.
const PLACES: [&str; 3] = [
    "/etc/spamdyke.conf",
    "/etc/spamdyke/spamdyke.conf",
    "/var/qmail/control/spamdyke.conf",
];
/// Files that name files.
const MAX_FILES: usize = 10_000;

/// An option with the file that it stands in.
type Placed = (PathBuf, Said);

impl Reader<'_> {
    pub(super) fn spamdyke(&mut self) -> anyhow::Result<()> {
        let places = match &self.places.spamdyke {
            Some(path) => vec![path.clone()],
            None => PLACES.iter().map(PathBuf::from).collect(),
        };
        for path in &places {
            if self.source.read(path)?.is_none() {
                continue;
            }
            self.seen.insert("spamdyke.conf".into());
            let mut all: Vec<Placed> = Vec::new();
            self.file(path, &mut all, &mut BTreeSet::new())?;
            let why = "what it does not speak of is as docs/postern.toml says under [gate]: clients \
                       without a reverse name are refused, suspects are greylisted";
            self.plan.report.add(Changed, path, None, "", why);
            return self.options(all);
        }
        if let Some(path) = &self.places.spamdyke {
            self.plan
                .report
                .add(Left, path, None, "", "it is not there");
        }
        Ok(())
    }

    /// Reads a file and those that it names.
    fn file(
        &mut self,
        path: &Path,
        all: &mut Vec<Placed>,
        seen: &mut BTreeSet<PathBuf>,
    ) -> anyhow::Result<()> {
        if seen.len() >= MAX_FILES || !seen.insert(path.to_owned()) {
            let why = "it is named by a file that it names, which spamdyke refuses";
            self.plan.report.add(Left, path, None, "", why);
            return Ok(());
        }
        let Some(content) = self.source.read(path)? else {
            self.plan
                .report
                .add(Left, path, None, "", "it is not there");
            return Ok(());
        };
        for said in spamdyke::parse(&content.bytes) {
            match said.option.as_str() {
                "config-file" => self.file(Path::new(&said.value), all, seen)?,
                // Values are taken out of lists again.
                _ if said.value == "!!!" => all.retain(|(_, other)| other.option != said.option),
                _ if said.value.starts_with('!') => {
                    let gone = &said.value[1..];
                    all.retain(|(_, other)| other.option != said.option || other.value != gone);
                }
                _ => all.push((path.to_owned(), said)),
            }
        }
        Ok(())
    }

    fn options(&mut self, all: Vec<Placed>) -> anyhow::Result<()> {
        // Whoever is let in is not refused by a line before.
        let (allow, deny): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|(_, said)| said.option.contains("whitelist"));
        for (path, said) in allow.into_iter().chain(deny) {
            // Of an option with one value the last counts.
            let is_last = |(_, other): &&Placed| other.option == said.option;
            let last = all.iter().rfind(is_last).map(|(_, other)| other);
            let is_list = ["-entry", "-file", "-dir"]
                .iter()
                .any(|end| said.option.ends_with(end))
                || said.option.starts_with("reject-sender")
                || said.option.starts_with("reject-recipient");
            let (outcome, why) = match last {
                Some(last) if last != said && !is_list => (
                    Left,
                    "the same option is said again below, which counts".to_owned(),
                ),
                _ => self.option(said, "")?,
            };
            let text = match said.option.contains("password") {
                true => said.option.clone(),
                false => format!("{}={}", said.option, said.value),
            };
            self.plan
                .report
                .add(outcome, path, Some(said.line), text, why);
        }
        Ok(())
    }

    /// What becomes of an option; `more` are conditions of its folder.
    fn option(&mut self, said: &Said, more: &str) -> anyhow::Result<(Outcome, String)> {
        let value = said.value.as_str();
        let number: Option<i64> = value.parse().ok();
        let is_yes = spamdyke::is_yes(value);
        if let Some((kind, condition, end)) = list_of(&said.option) {
            return self.entries(kind, condition, end, value, more);
        }
        let plain = more.is_empty();
        let rule = |reader: &mut Self, rule: String| match Rules::parse(&rule) {
            Ok(_) => {
                reader.plan.rules.push(rule);
                (Carried, "as a rule of the gate".to_owned())
            }
            Err((_, why)) => (Left, why),
        };
        let switch = SWITCHES.iter().find(|(option, ..)| *option == said.option);
        if let Some((_, key, name)) = switch {
            return Ok(match (plain, is_yes) {
                (true, true) => {
                    self.plan.settings.set("gate", key, "refuse");
                    match *key {
                        "address_in_reverse_name" => (
                            Changed,
                            format!("as gate.{key}, which asks for no country in the name"),
                        ),
                        _ => (Carried, format!("as gate.{key}")),
                    }
                }
                (true, false) => {
                    self.plan.settings.set("gate", key, "pass");
                    (Carried, format!("as gate.{key}"))
                }
                (false, false) => rule(self, format!("skip {name} {more}")),
                (false, true) => (Left, "what is looked at is looked at for all".into()),
            });
        }
        let seconds = SECONDS.iter().find(|(option, ..)| *option == said.option);
        if let (true, Some((_, section, key)), Some(number)) = (plain, seconds, number) {
            if number <= 0 && *key != "greeting_delay_seconds" {
                return Ok((Changed, format!("no limit; here {section}.{key} has one")));
            }
            let value = match *key {
                "greylist_days" => number.saturating_add(86_399) / 86_400,
                _ => number,
            };
            self.plan.settings.set(section, key, value);
            return Ok((Carried, format!("as {section}.{key}")));
        }
        Ok(match (said.option.as_str(), value) {
            ("filter-level", "normal") | ("relay-level", "normal") => (Carried, String::new()),
            ("filter-level", "allow-all") if !plain => rule(self, format!("allow {more}")),
            ("filter-level", "reject-all") if !plain => rule(self, format!("deny {more}")),
            ("graylist-level", "none") if !plain => rule(self, format!("skip greylist {more}")),
            ("graylist-level", level) if plain => {
                let whom = if level == "none" { "nobody" } else { "all" };
                self.plan.settings.set("gate", "greylist", whom);
                let outcome = if level.starts_with("only") {
                    Changed
                } else {
                    Carried
                };
                (
                    outcome,
                    "as gate.greylist; who is known there is asked to come again once more".into(),
                )
            }
            ("reject-sender", "no-mx") if plain => {
                self.plan.settings.set("gate", "no_sender_domain", "refuse");
                (Carried, "as gate.no_sender_domain".into())
            }
            ("reject-sender", "authentication-mismatch" | "authentication-domain-mismatch") => (
                Changed,
                "who submits mail may use any address whose mail the account gets".into(),
            ),
            ("reject-recipient", "invalid" | "unavailable") => {
                (Carried, "recipients are always looked up".into())
            }
            ("config-dir", _) if plain => self.folder(Path::new(value))?,
            (option, _) => {
                let known = OTHERS.iter().find(|(begin, ..)| option.starts_with(begin));
                match known {
                    Some((_, outcome, why)) => (*outcome, (*why).to_owned()),
                    None => (
                        Left,
                        "it has no counterpart; docs/gate.md has a table".to_owned(),
                    ),
                }
            }
        })
    }

    /// Entries of a list, in the option or in a file.
    fn entries(
        &mut self,
        kind: &str,
        condition: &str,
        end: &str,
        value: &str,
        more: &str,
    ) -> anyhow::Result<(Outcome, String)> {
        let entries = match end {
            "-entry" => vec![(0, value.to_owned())],
            "-file" => match self.source.read(Path::new(value))? {
                Some(content) => spamdyke::list(&content.bytes),
                None => return Ok((Left, format!("{value} is not there"))),
            },
            _ => {
                return Ok((
                    Left,
                    "folders of names are no longer needed: list the names".into(),
                ));
            }
        };
        let n = entries.len();
        let mut all_fit = true;
        for (line, entry) in entries {
            if let Err(why) = self.entry(kind, condition, &entry, more) {
                all_fit = false;
                let (path, line) = match end {
                    "-file" => (Path::new(value), Some(line)),
                    _ => return Ok((Left, why)),
                };
                self.plan.report.add(Left, path, line, entry, why);
            }
        }
        Ok(match (all_fit, end) {
            (_, "-entry") => (Carried, String::new()),
            (true, _) => (Carried, format!("{n} entries")),
            (false, _) => (
                Changed,
                "without those of its entries that are named above".into(),
            ),
        })
    }

    fn entry(
        &mut self,
        kind: &str,
        condition: &str,
        entry: &str,
        more: &str,
    ) -> Result<(), String> {
        let entry = entry.to_ascii_lowercase();
        if condition == "list" {
            let (about, weight) = match kind {
                "dns-blacklist" => ("address", 1.0),
                "rhs-blacklist" => ("domain", 1.0),
                "dns-whitelist" => ("address", -2.0),
                _ => ("domain", -2.0),
            };
            if !super::is_domain(&entry) {
                return Err("it is no name of a DNS list".into());
            }
            if !more.is_empty() {
                return Err("DNS lists are asked about all clients".into());
            }
            let mut list = Table::new();
            list.insert("zone".into(), entry.into());
            list.insert("about".into(), about.into());
            if weight < 0.0 {
                list.insert("weight".into(), Value::from(weight));
            }
            self.plan.settings.dns_lists.push(list);
            return Ok(());
        }
        let values = match condition {
            "address" => addresses(&entry)?,
            "header" => vec![format!("\"{}\"", entry.replace(['"', '\\'], "?"))],
            _ => vec![entry],
        };
        let action = match kind {
            "relay" => "set",
            _ if kind.contains("exception") => "skip greylist",
            _ if kind.ends_with("whitelist") => "allow",
            _ => "deny",
        };
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(" {more}")
        };
        let variable = if kind == "relay" {
            " RELAYCLIENT=\"\""
        } else {
            ""
        };
        for value in values {
            let rule = format!("{action} {condition} {value}{more}{variable}");
            Rules::parse(&rule).map_err(|(_, why)| why)?;
            self.plan.rules.push(rule);
        }
        Ok(())
    }

    /// Option files of a folder, by client, sender and recipient.
    fn folder(&mut self, base: &Path) -> anyhow::Result<(Outcome, String)> {
        let mut open = vec![String::new()];
        let mut n = 0;
        while let Some(below) = open.pop() {
            for name in self.source.list(&base.join(&below))?.into_iter().rev() {
                let path = match below.as_str() {
                    "" => name,
                    below => format!("{below}/{name}"),
                };
                let whole = base.join(&path);
                n += 1;
                if n > MAX_FILES {
                    return Ok((Left, "it holds too many files".into()));
                }
                if self.source.is_folder(&whole) {
                    open.push(path);
                    continue;
                }
                let Some(content) = self.source.read(&whole)? else {
                    continue;
                };
                let conditions = spamdyke::conditions(&path);
                for said in spamdyke::parse(&content.bytes) {
                    let (outcome, why) = match &conditions {
                        Ok(more) => self.option(&said, more)?,
                        Err(why) => (Left, why.clone()),
                    };
                    let text = format!("{}={}", said.option, said.value);
                    self.plan
                        .report
                        .add(outcome, &whole, Some(said.line), text, why);
                }
            }
        }
        let why =
            "as conditions of rules; there the most specific folder counts, here the first line";
        Ok((Changed, why.into()))
    }
}

/// The kind of a list option, the condition of a rule, and where entries are.
fn list_of(option: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let ends = ["-entry", "-file", "-dir"];
    let end = ends.into_iter().find(|end| option.ends_with(end))?;
    let kind = &option[..option.len() - end.len()];
    let list = LISTS.iter().find(|(name, ..)| *name == kind)?;
    Some((list.1, list.2, end))
}

/// `192.0.2.7`, `192.0.2`, `192.0.2.`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`.
fn addresses(entry: &str) -> Result<Vec<String>, String> {
    if let Some((address, mask)) = entry.split_once('/') {
        let bits = match mask.parse::<std::net::Ipv4Addr>() {
            Ok(mask) if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32 => {
                mask.to_bits().leading_ones().to_string()
            }
            Ok(_) => return Err("the mask has holes".into()),
            Err(_) => mask.to_owned(),
        };
        return Ok(vec![format!("{address}/{bits}")]);
    }
    let n = entry.trim_end_matches('.').split('.').count();
    let text = match n {
        4 => entry.trim_end_matches('.').to_owned(),
        _ => format!("{}.", entry.trim_end_matches('.')),
    };
    let networks = tcprules::of_ipv4(&text)?;
    Ok(networks.iter().map(tcprules::written).collect())
}

/// Lists: the option without its end, its kind, and the condition of a rule.
const LISTS: [(&str, &str, &str); 17] = [
    ("ip-blacklist", "blacklist", "address"),
    ("ip-whitelist", "whitelist", "address"),
    ("rdns-blacklist", "blacklist", "name"),
    ("rdns-whitelist", "whitelist", "name"),
    ("sender-blacklist", "blacklist", "sender"),
    ("sender-whitelist", "whitelist", "sender"),
    ("recipient-blacklist", "blacklist", "recipient"),
    ("recipient-whitelist", "whitelist", "recipient"),
    ("header-blacklist", "blacklist", "header"),
    ("dns-blacklist", "dns-blacklist", "list"),
    ("dns-whitelist", "dns-whitelist", "list"),
    ("rhs-blacklist", "rhs-blacklist", "list"),
    ("rhs-whitelist", "rhs-whitelist", "list"),
    ("ip-relay", "relay", "address"),
    ("rdns-relay", "relay", "name"),
    ("graylist-exception-ip", "exception", "address"),
    ("graylist-exception-rdns", "exception", "name"),
];

/// Switches: the option, the key of `[gate]`, the rule to skip.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("reject-empty-rdns", "no_reverse_name", "no-reverse-name"),
    (
        "reject-unresolvable-rdns",
        "unresolvable_reverse_name",
        "unresolvable-reverse-name",
    ),
    (
        "reject-ip-in-cc-rdns",
        "address_in_reverse_name",
        "address-in-reverse-name",
    ),
];

/// Numbers: the option, the section, the key.
const SECONDS: [(&str, &str, &str); 6] = [
    ("greeting-delay-secs", "gate", "greeting_delay_seconds"),
    ("idle-timeout-secs", "smtp", "command_seconds"),
    ("connection-timeout-secs", "smtp", "session_seconds"),
    ("max-recipients", "smtp", "max_recipients"),
    ("graylist-min-secs", "gate", "greylist_seconds"),
    ("graylist-max-secs", "gate", "greylist_days"),
];

/// Options that begin so, and what becomes of them.
const OTHERS: [(&str, Outcome, &str); 14] = [
    (
        "log-",
        Carried,
        "there is one log line for each recipient, and `postern why`",
    ),
    (
        "full-log-dir",
        Left,
        "sessions are not recorded; --verbose says more",
    ),
    (
        "graylist-dir",
        Left,
        "first contacts are asked to come again once more",
    ),
    (
        "ip-in-rdns-keyword",
        Left,
        "keywords guess what the address in a name tells: address_in_reverse_name",
    ),
    (
        "config-dir-search",
        Left,
        "the first line that fits decides",
    ),
    ("qmail-", Carried, "the domains are those of the accounts"),
    (
        "recipient-validation-command",
        Carried,
        "recipients are always looked up",
    ),
    (
        "run-as-user",
        Carried,
        "the server keeps the rights of `user`",
    ),
    (
        "smtp-auth-",
        Left,
        "users log in to submission with the passwords of the accounts, or of login.checkpassword",
    ),
    ("hostname", Carried, "challenges bear the host's name"),
    ("tls-", Left, "certificates stand in [tls]"),
    (
        "dns-",
        Left,
        "the resolver sees to it; gate.dns_seconds and remote.dns",
    ),
    ("policy-url", Left, "texts say what was found"),
    ("rejection-text", Left, "texts say what was found"),
];
