//! How the gate is kept for a recipient.

use super::{Delivery, Directory, Resolved, resolve};
use crate::Error;
use crate::handover::Wishes;
use crate::smtp::Mailbox;

/// Of all users who get its mail the one who wants most of the gate decides.
///
/// # Errors
/// When it cannot be known now.
pub fn wishes(recipient: &Mailbox, directory: &impl Directory) -> Result<Wishes, Error> {
    let domain = match recipient.domain.name() {
        Some(name) => directory.domain(name)?,
        None => None,
    };
    let Some(domain) = domain else {
        return Ok(Wishes::default());
    };
    let level = match resolve(recipient, directory)? {
        Resolved::Plan(plan) => {
            let users = plan
                .deliveries
                .iter()
                .filter_map(|delivery| match delivery {
                    Delivery::Local { user, .. } => Some(user.settings.gate.unwrap_or(domain.gate)),
                    Delivery::Remote(_) => None,
                });
            users.min()
        }
        _ => None,
    };
    Ok(Wishes {
        is_local: true,
        gate: level.unwrap_or(domain.gate),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Accounts, Address, Domain, Homes, User, UserSettings};
    use crate::handover::GateLevel::{self, NoGreylist, Off, On};

    #[test]
    fn who_wants_most_of_the_gate_decides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let accounts = Accounts::open(&path, Homes::new(dir.path())).unwrap();
        let user = |name: &str, gate| User {
            address: Address::new(name, "example.org"),
            settings: UserSettings {
                gate,
                ..UserSettings::default()
            },
        };
        let both = ["anna@example.org".to_owned(), "bob@example.org".to_owned()];
        let entered = accounts.change(|change| {
            change.put_domain(&Domain {
                name: "example.org".into(),
                gate: NoGreylist,
                ..Domain::default()
            })?;
            change.put_user(&user("anna", Some(Off)))?;
            change.put_user(&user("bob", None))?;
            change.put_user(&user("carol", Some(On)))?;
            change.put_alias(&Address::new("both", "example.org"), &both)
        });
        entered.unwrap();
        for (to, is_local, gate) in [
            ("anna+x@example.org", true, Off),
            ("bob@example.org", true, NoGreylist),
            ("carol@example.org", true, On),
            ("both@example.org", true, NoGreylist),
            ("nobody@example.org", true, NoGreylist),
            ("anna@example.net", false, GateLevel::On),
        ] {
            let mailbox = Mailbox::parse(to.as_bytes()).unwrap();
            let found = wishes(&mailbox, &accounts).unwrap();
            assert_eq!(found, Wishes { is_local, gate }, "{to}");
        }
    }
}
