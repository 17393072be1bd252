//! A delivery that takes a rotated folder over its quota rotates it, by bmfd's
//! planner, however fast mail arrives.

use std::time::SystemTime;

use classifier::store::lmdb::Access;
use mailbox::FolderName;
use tracing::{info, warn};
use trainer::config::Config;
use trainer::decision::Role;
use trainer::pass::is_unlearned;
use trainer::rotation::{Outcome, Quota, execute, plan_asking, plan_rotation, take_inventory};

use super::Inner;
use crate::accounts::User;
use crate::delivery::local::{INBOX, JUNK};

impl Inner {
    /// After a delivery to `user`'s INBOX or Junk.
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
        // Most have none, and pay nothing.
        let Some((_, quota)) = quotas.find(|(rotated, _)| *rotated == folder) else {
            return;
        };
        if let Err(error) = self.make_room(config, user, &folder, quota, now) {
            warn!(user = name, folder = wanted, %error, "not rotated");
        }
    }

    fn make_room(
        &self,
        config: &Config,
        user: &User,
        name: &FolderName,
        quota: &Quota,
        now: SystemTime,
    ) -> anyhow::Result<()> {
        let mailbox = self.deliverer.accounts().homes().mailbox(&user.address)?;
        let Some(folder) = mailbox.folder(name)? else {
            return Ok(());
        };
        let user = user.address.to_string();
        let mut inventory = take_inventory(&folder)?;
        let plan = if config.settings(&user).roles.role(name) == Role::Spam {
            // What the user put there stays until it is learned.
            let store = config.databases.open(&user, Access::ReadOnly)?;
            plan_asking(&mut inventory, quota, now, |entry| {
                is_unlearned(&folder, entry, &store)
            })?
        } else {
            plan_rotation(&inventory, quota, now)
        };
        execute(&plan, &mailbox, name, |deletion, outcome| {
            let file = &deletion.entry.name;
            match outcome {
                Outcome::Failed(error) => warn!(user, folder = %name, %file, %error, "not deleted"),
                _ => info!(user, folder = %name, %file, "message deleted: the folder is full"),
            }
        })?;
        Ok(())
    }
}
