//! Where mail goes, and which is refused.

use toml::Table;

use super::tables::REFUSED;
use super::{Reader, is_domain};
use crate::gate::rules::Rules;
use crate::import::control::Line;
use crate::import::report::Outcome;
use crate::import::routes;
use crate::smtp::Domain;

impl Reader<'_> {
    pub(super) fn routes(&mut self) -> anyhow::Result<()> {
        let name = "smtproutes";
        let lines = self.keyed(name)?;
        let has_wider = |key: &str| {
            let wider = |(_, of, value): &(Line, String, String)| {
                let covers = of.is_empty() || (of.starts_with('.') && key.ends_with(&**of));
                covers && of != key && !value.is_empty()
            };
            lines.iter().any(wider)
        };
        for (line, key, value) in &lines {
            let shown = routes::shown(&line.text);
            // Of keys that stand twice the last counts.
            let last = lines.iter().rfind(|(_, other, _)| other == key);
            if last.is_some_and(|(last, ..)| last.number != line.number) {
                let why = "a line below has the same domain, and counts";
                self.add(Outcome::Left, name, Some(line.number), &shown, why);
                continue;
            }
            match self.route(key, value, line.number, has_wider(key)) {
                Ok((outcome, why)) => self.add(outcome, name, Some(line.number), &shown, why),
                Err(why) => self.add(Outcome::Left, name, Some(line.number), &shown, &why),
            }
        }
        Ok(())
    }

    fn route(
        &mut self,
        key: &str,
        value: &str,
        line: usize,
        has_wider: bool,
    ) -> Result<(Outcome, &'static str), String> {
        let relay = routes::relay(value)?;
        if relay.host.is_empty() && !has_wider {
            return Ok((Outcome::Carried, "by MX, as all mail without a route"));
        }
        let bare = key.strip_prefix('.').unwrap_or(key);
        if !(key.is_empty() || is_domain(bare)) {
            return Err("it is no name of a domain".into());
        }
        let domain = if key.is_empty() { "*" } else { key };
        let mut route = Table::new();
        route.insert("domain".into(), domain.into());
        if relay.host.is_empty() {
            self.plan.settings.routes.push(route);
            let why = "as [[route]] without a host: by MX, in spite of the wider route";
            return Ok((Outcome::Carried, why));
        }
        let host = Domain::parse(&relay.host).map_err(|error| error.to_string())?;
        route.insert("host".into(), host.to_string().into());
        if let Some(port) = relay.port {
            route.insert("port".into(), i64::from(port).into());
        }
        let mut said = (Outcome::Carried, "as [[route]]");
        if let Some((user, password)) = relay.login {
            let name = format!("secrets/route-{line}");
            let path = self.places.data.join(&name);
            route.insert("user".into(), user.into());
            route.insert("password_file".into(), path.display().to_string().into());
            self.plan.secrets.insert(name, (password + "\n").into());
            said = (
                Outcome::Changed,
                "as [[route]]; with a password TLS is required here, and a certificate for that name",
            );
        }
        self.plan.settings.routes.push(route);
        Ok(said)
    }

    /// Files of senders, recipients and names that are refused.
    pub(super) fn rules(&mut self) -> anyhow::Result<()> {
        for (name, condition) in REFUSED {
            let Some(lines) = self.list(name)? else {
                continue;
            };
            for line in lines {
                let number = Some(line.number);
                let text = line.text.to_ascii_lowercase();
                // `.domain`, which is everything below.
                let (value, outcome, why) = match (text.strip_prefix('.'), condition) {
                    (Some(domain), "sender" | "recipient") => (
                        format!("@{domain}"),
                        Outcome::Changed,
                        "as a rule, which also counts for the domain itself",
                    ),
                    _ if text.starts_with('@') => (
                        text.clone(),
                        Outcome::Changed,
                        "as a rule, which also counts for all domains below",
                    ),
                    _ => (text.clone(), Outcome::Carried, "as a rule"),
                };
                let rule = format!("deny {condition} {value}");
                match Rules::parse(&rule) {
                    Ok(_) => {
                        self.plan.rules.push(rule);
                        self.add(outcome, name, number, &line.text, why);
                    }
                    Err((_, why)) => self.add(Outcome::Left, name, number, &line.text, &why),
                }
            }
        }
        for line in self.list("dnsbllist")?.unwrap_or_default() {
            let zone = line.text.trim_start_matches('-');
            let zone = zone.split([':', ' ']).next().unwrap_or_default();
            match is_domain(zone) {
                true => {
                    let mut list = Table::new();
                    list.insert("zone".into(), zone.into());
                    list.insert("about".into(), "address".into());
                    self.plan.settings.dns_lists.push(list);
                    let why = "as [[gate.dns_list]]";
                    self.add(
                        Outcome::Carried,
                        "dnsbllist",
                        Some(line.number),
                        &line.text,
                        why,
                    );
                }
                false => {
                    let why = "it is no name of a DNS list";
                    self.add(
                        Outcome::Left,
                        "dnsbllist",
                        Some(line.number),
                        &line.text,
                        why,
                    );
                }
            }
        }
        Ok(())
    }
}
