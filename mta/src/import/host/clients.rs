//! What stands in front of qmail: the server's rules for clients.

use std::path::{Path, PathBuf};

use toml::Value;

use super::Reader;
use crate::gate::rules::Rules;
use crate::import::report::Outcome;
use crate::import::tcprules::{self, Rule, Who};

/// Where the text of the rules is looked for.
const TCPRULES: [&str; 4] = [
    "/etc/tcp.smtp",
    "/etc/tcprules.d/tcp.smtp",
    "/var/qmail/control/tcp.smtp",
    "/var/qmail/rules/tcp.smtp",
];
/// As many as people write, and no more than are looked through each time.
const MAX_NETWORKS: usize = 1_000;

impl Reader<'_> {
    pub(super) fn tcprules(&mut self) -> anyhow::Result<()> {
        let places = match &self.places.tcprules {
            Some(path) => vec![path.clone()],
            None => TCPRULES.iter().map(PathBuf::from).collect(),
        };
        for path in &places {
            let Some(content) = self.source.read(path)? else {
                continue;
            };
            self.seen.insert("tcp.smtp".into());
            let (mut rules, wrong) = tcprules::parse(&content.bytes);
            for (line, text, why) in wrong {
                self.plan
                    .report
                    .add(Outcome::Left, path, Some(line), text, why);
            }
            tcprules::join_loopback(&mut rules);
            self.clients(path, &rules);
            return Ok(());
        }
        let path = self
            .places
            .tcprules
            .clone()
            .unwrap_or_else(|| TCPRULES[0].into());
        let why = "no text for tcprules was found: who may relay is what smtp.relay_networks says; \
                   --tcprules names the text";
        let outcome = match self.places.tcprules {
            Some(_) => Outcome::Left,
            None => Outcome::ToDo,
        };
        self.plan.report.add(outcome, &path, None, "", why);
        Ok(())
    }

    fn clients(&mut self, path: &Path, rules: &[Rule]) {
        let mut relays: Vec<String> = Vec::new();
        for (rule, networks) in rules.iter().zip(tcprules::networks(rules)) {
            let (who, names) = match &rule.who {
                Who::Addresses(_) => ("address", networks.iter().map(tcprules::written).collect()),
                Who::Name(name) => ("name", vec![name.clone()]),
            };
            let line = Some(rule.line);
            let mut outcome = match who {
                "name" => Outcome::Changed,
                _ => Outcome::Carried,
            };
            let mut whys: Vec<String> = Vec::new();
            if who == "name" {
                whys.push("it counts here beside lines about the client's address".into());
            }
            let says_something = rule.denies || !rule.variables.is_empty();
            if says_something && names.len() > MAX_NETWORKS {
                let why = "it stands for too many networks";
                self.plan.report.add(Outcome::Left, path, line, "", why);
                continue;
            }
            let mut lines: Vec<String> = Vec::new();
            if rule.denies {
                lines.extend(names.iter().map(|name| format!("deny {who} {name}")));
            } else {
                for (variable, value) in &rule.variables {
                    let rule = match (variable.as_str(), value.as_str()) {
                        ("RELAYCLIENT", "") if who == "address" => {
                            relays.extend(names.iter().cloned());
                            continue;
                        }
                        ("RELAYCLIENT", "") => format!("set {who} NAME RELAYCLIENT=\"\""),
                        ("NOSPP", _) => format!("set {who} NAME NOSPP=\"\""),
                        ("RBLSMTPD", "") => format!("skip dns-lists {who} NAME"),
                        ("RBLSMTPD", text) if text.starts_with('-') => format!("deny {who} NAME"),
                        ("RBLSMTPD", _) => format!("defer {who} NAME"),
                        ("QMAILQUEUE", _) => {
                            outcome = Outcome::Left;
                            let why = "no program stands before the queue: filter.clamd names a \
                                       scanner, and the filter is the host's own";
                            whys.push(why.into());
                            continue;
                        }
                        _ => {
                            outcome = Outcome::Left;
                            whys.push(format!("{variable} has no counterpart"));
                            continue;
                        }
                    };
                    lines.extend(names.iter().map(|name| rule.replace("NAME", name)));
                }
            }
            for text in lines {
                match Rules::parse(&text) {
                    Ok(_) => self.plan.rules.push(text),
                    Err((_, why)) => {
                        outcome = Outcome::Left;
                        whys.push(why);
                    }
                }
            }
            let text = rule
                .variables
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"));
            let text = text.collect::<Vec<_>>().join(",");
            self.plan
                .report
                .add(outcome, path, line, text, whys.join("; "));
        }
        let relays: Vec<Value> = relays.into_iter().map(Value::from).collect();
        self.plan.settings.set("smtp", "relay_networks", relays);
    }
}
