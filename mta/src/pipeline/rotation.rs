//! A delivery that takes a rotated folder over its quota rotates it, by bmfd's
//! planner, however fast mail arrives.

use std::time::SystemTime;

use mailbox::FolderName;
use tracing::warn;
use trainer::turn::{Subject, rotate::rotate};

use super::Inner;
use crate::accounts::User;
use crate::delivery::local::{INBOX, JUNK};

impl Inner {
    /// After a delivery to `user`'s INBOX or Junk. Most have no quota, and pay
    /// nothing.
    pub(super) fn rotate(&self, user: &User, is_junk: bool, now: SystemTime) {
        let Some(config) = &self.settings.learning else {
            return;
        };
        let name = user.address.to_string();
        let settings = config.settings(&name);
        let wanted = if is_junk { JUNK } else { INBOX };
        let Ok(folder) = FolderName::parse(wanted, settings.roles.layout()) else {
            return;
        };
        let mut quotas = settings.quotas.iter();
        let Some((_, quota)) = quotas.find(|(rotated, _)| *rotated == folder) else {
            return;
        };
        let rotated = self.deliverer.accounts().homes().mailbox(&user.address);
        let rotated = rotated.map_err(anyhow::Error::from).and_then(|mailbox| {
            let subject = Subject::new(config, &name, mailbox);
            Ok(rotate(config, &subject, &folder, quota, now, |_, _| {})?)
        });
        if let Err(error) = rotated {
            warn!(user = name, folder = wanted, %error, "not rotated");
        }
    }
}
