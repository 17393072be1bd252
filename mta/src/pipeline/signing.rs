//! What leaves this host in the name of its domains is signed.

use std::time::SystemTime;

use tracing::error;

use super::{Inner, sender};
use crate::accounts::Directory;
use crate::authentication::signing::Signed;
use crate::journal::Event;
use crate::smtp::{Client, Protocol};

impl Inner {
    /// The signatures of a message of ours, whole lines; none when its author
    /// has no address here, or the domain has no keys. Mail goes unsigned
    /// rather than not at all.
    pub(super) fn signatures(&self, id: &str, now: SystemTime, message: &[u8]) -> String {
        let signed = self.signing_domain(message).and_then(|domain| {
            let signed = domain.map(|domain| {
                let signed = self.signers.sign(&domain, message)?;
                Ok::<_, crate::Error>((domain, signed))
            });
            signed.transpose()
        });
        match signed {
            Ok(Some((domain, Signed { fields, selectors }))) if !selectors.is_empty() => {
                self.note(id, now, Event::Signed { domain, selectors });
                fields
            }
            Ok(_) => String::new(),
            Err(error) => {
                error!(queue_id = id, %error, "mail leaves unsigned");
                String::new()
            }
        }
    }

    /// The domain of ours that all authors are of or below.
    fn signing_domain(&self, message: &[u8]) -> Result<Option<String>, crate::Error> {
        let Ok(from) = sender::from(message) else {
            return Ok(None);
        };
        let mut names = from.iter().map(|mailbox| mailbox.domain.name());
        let first = names.next().flatten();
        let Some(name) = first.filter(|_| names.all(|name| name == first)) else {
            return Ok(None);
        };
        let dots = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        for domain in std::iter::once(name).chain(dots) {
            if self.accounts().domain(domain)?.is_some() {
                return Ok(Some(domain.to_owned()));
            }
        }
        Ok(None)
    }
}

/// Whether `client` speaks for this host: its users, its programs, and those
/// whom its administrator lets send anywhere.
pub(super) fn is_ours(client: &Client) -> bool {
    client.account.is_some() || client.may_relay || client.protocol == Protocol::Local
}
