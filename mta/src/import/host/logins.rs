//! Who logs in.

use super::Reader;
use crate::accounts::Address;
use crate::import::names::Names;
use crate::import::passwords::{self, Kept};
use crate::import::report::Outcome;

impl Reader<'_> {
    pub(super) fn logins(&mut self, names: &Names<'_>) -> anyhow::Result<()> {
        let places = match &self.places.passwords {
            Some(path) => vec![path.clone()],
            None => vec![
                self.users.join("authuser"),
                self.users.join("smtpauth"),
                "/etc/poppasswd".into(),
            ],
        };
        for path in places {
            let Some(content) = self.source.read(&path)? else {
                if self.places.passwords.is_some() {
                    let why = "it is not there";
                    self.plan.report.add(Outcome::Left, &path, None, "", why);
                }
                continue;
            };
            let (logins, wrong) = passwords::parse(&content.bytes);
            for (line, why) in wrong {
                self.plan
                    .report
                    .add(Outcome::Left, &path, Some(line), "", why);
            }
            for login in logins {
                let name = login.name.clone();
                // Who has the mailbox that the name leads to.
                let address = match name.split_once('@') {
                    Some((local_part, domain)) => Some(Address::new(local_part, domain)),
                    None => names.addresses_of(&name).into_iter().next(),
                };
                let user = address.and_then(|address| self.plan.accounts.users.get_mut(&address));
                let Some(user) = user else {
                    let why = "no user of ours is called so; login is by the address of a mailbox";
                    let line = Some(login.line);
                    self.plan.report.add(Outcome::Left, &path, line, name, why);
                    continue;
                };
                let is_bare = !name.contains('@');
                let (outcome, why) = match (is_bare, &login.kept) {
                    (true, _) => (Outcome::Changed, "the name to log in with is the address"),
                    (false, Kept::Clear(_)) => (Outcome::Carried, "kept, for CRAM-MD5"),
                    (false, Kept::Hash(_)) => (Outcome::Carried, "as the hash it is"),
                };
                if user.password.is_none() {
                    user.password = Some(login.kept);
                }
                let line = Some(login.line);
                self.plan.report.add(outcome, &path, line, name, why);
            }
        }
        Ok(())
    }
}
