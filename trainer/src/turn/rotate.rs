//! The rotation of one folder of a mailbox, as planned and carried out.

use std::time::{SystemTime, UNIX_EPOCH};

use classifier::store::lmdb::Access;
use mailbox::{Folder, FolderName};
use tracing::{info, warn};

use super::{Subject, seconds};
use crate::Error;
use crate::config::Config;
use crate::decision::Role;
use crate::journal::{Event, Journal, What};
use crate::pass::{is_unlearned, known_since};
use crate::rotation::{
    Deletion, Outcome, Plan, Quota, execute, plan_asking, plan_rotation, take_inventory,
};

/// What is to go from `folder` now. The ledger is asked what the user has put
/// there and is not learned yet; what cannot be read may be that, and stays.
pub(crate) fn plan(
    config: &Config,
    subject: &Subject<'_>,
    folder: (&FolderName, &Folder),
    quota: &Quota,
    now: SystemTime,
) -> Result<Plan, Error> {
    let (name, folder) = folder;
    let mut inventory = take_inventory(folder)?;
    let user = subject.user;
    let taught = || config.databases.taught(user, Access::ReadOnly);
    let (taught, since) = match subject.settings.roles.role(name) {
        Role::Spam => (taught()?, UNIX_EPOCH),
        Role::Learned => {
            let taught = taught()?;
            match known_since(taught.reach()?, subject.settings) {
                Some(since) => (taught, since),
                // Whoever learned it did so before there was a ledger.
                None => return Ok(plan_rotation(&inventory, quota, now)),
            }
        }
        _ => return Ok(plan_rotation(&inventory, quota, now)),
    };
    let mark = config.databases.mark_key(user)?;
    let plan = plan_asking(&mut inventory, quota, now, |entry| {
        is_unlearned(folder, entry, &taught, mark.as_ref(), since).unwrap_or_else(|error| {
            warn!(user, folder = %name, file = %entry.name, %error, "message not deleted");
            true
        })
    });
    Ok(plan)
}

/// Deletes what the quota of `name` says, one line of the log for each, and
/// tells `tell` of each. Returns whether all that should go has gone.
///
/// # Errors
/// When the folder or the database cannot be worked with.
pub fn rotate(
    config: &Config,
    subject: &Subject<'_>,
    name: &FolderName,
    quota: &Quota,
    now: SystemTime,
    mut tell: impl FnMut(&Deletion, &Outcome),
) -> Result<bool, Error> {
    let Some(folder) = subject.mailbox.folder(name)? else {
        return Ok(true);
    };
    let plan = plan(config, subject, (name, &folder), quota, now)?;
    let (mut all, mut n_deleted) = (true, 0);
    let executed = execute(&plan, &subject.mailbox, name, |deletion, outcome| {
        all &= !matches!(outcome, Outcome::Failed(_));
        n_deleted += u64::from(matches!(outcome, Outcome::Deleted));
        log(subject.user, name, deletion, outcome);
        tell(deletion, outcome);
    });
    if n_deleted > 0 {
        let event = Event {
            time: seconds(now),
            what: What::Rotated(n_deleted),
            from: name.to_string(),
        };
        Journal::of(&config.databases.host()?, subject.user).add(&[event])?;
    }
    executed?;
    Ok(all)
}

fn log(user: &str, folder: &FolderName, deletion: &Deletion, outcome: &Outcome) {
    let Deletion {
        entry,
        bytes,
        reason,
        ..
    } = deletion;
    let file = &entry.name;
    match outcome {
        Outcome::Deleted => {
            info!(user, %folder, %file, bytes, %reason, "message deleted");
        }
        Outcome::Changed => {
            info!(user, %folder, %file, "message has changed and stays");
        }
        Outcome::Failed(error) => {
            warn!(user, %folder, %file, %error, "message not deleted");
        }
    }
}
