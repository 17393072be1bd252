//! Which messages of a folder go when its quota is reached: the oldest, and
//! no more than needed.
//!
//! Planned as data by [`plan_rotation`], which prints as a dry run, and
//! carried out by [`execute`]. Nothing is remembered in between: whoever was
//! interrupted plans again from what is there.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use mailbox::{Entry, Error, Flags, Folder, FolderName, Mailbox, Usage};

/// What a folder may hold. Where nothing is said, anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The sizes of all messages together.
    pub bytes: Option<u64>,
    /// How many messages.
    pub messages: Option<u64>,
    /// How long ago the oldest was received.
    pub age: Option<Duration>,
}

/// What lies in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// In any order.
    pub messages: Vec<Item>,
}

/// A message of an [`Inventory`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name when the folder was listed.
    pub entry: Entry,
    /// IMAP's INTERNALDATE.
    pub received: SystemTime,
    /// The size of the file.
    pub bytes: u64,
    /// Why it must stay, if it must.
    pub protection: Option<Protection>,
}

/// Why a message stays whatever the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// The user marked it.
    Flagged,
    /// The user filed it, and it has not been learned yet.
    NotLearned,
}

/// What will go, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which to delete.
    pub deletions: Vec<Deletion>,
    /// When it was planned; ages are printed as of then.
    pub now: SystemTime,
}

/// One message that will go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its name when the folder was listed.
    pub entry: Entry,
    /// IMAP's INTERNALDATE.
    pub received: SystemTime,
    /// The size of the file.
    pub bytes: u64,
    /// Which part of the quota it makes room for.
    pub reason: Reason,
}

/// The first part of the quota that a deletion is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was received longer ago than [`Quota::age`].
    Age,
    /// The folder held more than [`Quota::messages`].
    Messages,
    /// The folder held more than [`Quota::bytes`].
    Bytes,
}

/// Plans to delete the oldest messages that are not protected, by date and
/// then by name, until the folder holds no more than `quota`.
///
/// What is protected counts and stays; if it alone is too much, all else goes.
/// A message from the future is as old as one that has just come.
pub fn plan_rotation(inventory: &Inventory, quota: &Quota, now: SystemTime) -> Plan {
    let mut messages = inventory.messages.len() as u64;
    let mut bytes: u128 = inventory
        .messages
        .iter()
        .map(|item| u128::from(item.bytes))
        .sum();
    let mut oldest_first: Vec<&Item> = inventory
        .messages
        .iter()
        .filter(|item| item.protection.is_none())
        .collect();
    oldest_first.sort_by_key(|item| (item.received, &item.entry.name, item.entry.half));

    let mut deletions = Vec::new();
    for item in oldest_first {
        let age = now.duration_since(item.received).unwrap_or_default();
        let reason = if quota.age.is_some_and(|limit| age > limit) {
            Reason::Age
        } else if quota.messages.is_some_and(|limit| messages > limit) {
            Reason::Messages
        } else if quota.bytes.is_some_and(|limit| bytes > u128::from(limit)) {
            Reason::Bytes
        } else {
            // None of the younger ones need go either.
            break;
        };
        messages -= 1;
        bytes -= u128::from(item.bytes);
        deletions.push(Deletion {
            entry: item.entry.clone(),
            received: item.received,
            bytes: item.bytes,
            reason,
        });
    }
    Plan { deletions, now }
}

/// As [`plan_rotation`], where finding out what is learned is dear:
/// `is_unlearned` is asked once about each message that would go, and what it
/// protects is noted in `inventory`.
pub fn plan_asking(
    inventory: &mut Inventory,
    quota: &Quota,
    now: SystemTime,
    mut is_unlearned: impl FnMut(&Entry) -> bool,
) -> Plan {
    let mut asked = HashSet::new();
    loop {
        let plan = plan_rotation(inventory, quota, now);
        let mut unlearned = HashSet::new();
        for deletion in &plan.deletions {
            if asked.insert(deletion.entry.clone()) && is_unlearned(&deletion.entry) {
                unlearned.insert(&deletion.entry);
            }
        }
        if unlearned.is_empty() {
            return plan;
        }
        for item in &mut inventory.messages {
            if unlearned.contains(&item.entry) {
                item.protection = Some(Protection::NotLearned);
            }
        }
    }
}

/// Lists a folder. What has gone meanwhile is left out, and so is what is no
/// message of the owner's; flagged messages are protected.
///
/// # Errors
/// When the folder cannot be read.
pub fn take_inventory(folder: &Folder) -> Result<Inventory, Error> {
    let mut inventory = Inventory::default();
    for entry in folder.entries()? {
        let entry = entry?;
        let details = match folder.examine(&entry) {
            Ok(Some(details)) => details,
            Ok(None) | Err(Error::Foreign { .. }) => continue,
            Err(error) => return Err(error),
        };
        let flagged = entry.name.flags().contains(Flags::FLAGGED);
        inventory.messages.push(Item {
            protection: flagged.then_some(Protection::Flagged),
            received: details.received,
            bytes: details.bytes,
            entry,
        });
    }
    Ok(inventory)
}

/// What became of one planned deletion.
#[derive(Debug)]
pub enum Outcome {
    /// It is gone.
    Deleted,
    /// It was no longer there under its name: the user moved, removed or
    /// flagged it since the plan was made.
    Changed,
    /// It could not be removed.
    Failed(Error),
}

/// Deletes what `plan` says from the folder `name`, and tells `log` about each
/// message. One that fails does not stop the others. The mailbox's own quota
/// is kept right, knowledge of what was learned stays.
///
/// # Errors
/// When the folder cannot be opened, or the mailbox's quota not be noted.
pub fn execute(
    plan: &Plan,
    mailbox: &Mailbox,
    name: &FolderName,
    mut log: impl FnMut(&Deletion, &Outcome),
) -> Result<(), Error> {
    let Some(folder) = mailbox.folder(name)? else {
        return Ok(());
    };
    for batch in plan.deletions.chunks(BATCH) {
        let mut freed = Usage::default();
        for deletion in batch {
            let outcome = match folder.remove(&deletion.entry) {
                Ok(true) => Outcome::Deleted,
                Ok(false) => Outcome::Changed,
                Err(error) => Outcome::Failed(error),
            };
            if matches!(outcome, Outcome::Deleted) {
                freed = freed.plus(Usage::of_message(&deletion.entry.name, deletion.bytes));
            }
            log(deletion, &outcome);
        }
        if Mailbox::counts(name) {
            mailbox.note_usage(freed.negated())?;
        }
    }
    folder.sync()
}

/// So many deletions are one line in `maildirsize`, which others write anew
/// when it has grown; a kill leaves at most so many unnoted until then.
const BATCH: usize = 64;

/// One line for each message, as a dry run prints it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deletions.iter().try_for_each(|deletion| {
            let age = self
                .now
                .duration_since(deletion.received)
                .unwrap_or_default();
            let days = age.as_secs() / (24 * 60 * 60);
            let Deletion {
                entry,
                bytes,
                reason,
                ..
            } = deletion;
            writeln!(
                f,
                "delete {} ({days} days old, {bytes} bytes): {reason}",
                entry.name
            )
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Age => "older than the folder's quota allows",
            Self::Messages => "more messages than the folder's quota allows",
            Self::Bytes => "more bytes than the folder's quota allows",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailbox::{Half, Layout, MessageName, UniqueNames};
    use proptest::prelude::*;
    use std::fs;
    use std::path::Path;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn item(name: &str, received: u64, bytes: u64, protection: Option<Protection>) -> Item {
        let name = MessageName::parse(name.as_bytes()).unwrap();
        Item {
            entry: Entry {
                half: Half::Cur,
                name,
            },
            received: at(received),
            bytes,
            protection,
        }
    }

    const NOW: u64 = 200;

    fn planned(messages: Vec<Item>, quota: Quota) -> Vec<(String, Reason)> {
        let plan = plan_rotation(&Inventory { messages }, &quota, at(NOW));
        plan.deletions
            .into_iter()
            .map(|d| (d.entry.name.to_string(), d.reason))
            .collect()
    }

    #[test]
    fn the_oldest_go_first_and_equals_by_name() {
        let all = || {
            vec![
                item("c", 20, 10, None),
                item("b", 10, 10, None),
                item("a", 10, 10, None),
            ]
        };
        let check = |quota, expected: &[(&str, Reason)]| {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, reason)| ((*name).to_owned(), *reason))
                .collect();
            assert_eq!(planned(all(), quota), expected, "{quota:?}");
        };
        let none = Quota::default();
        check(none, &[]);
        check(
            Quota {
                messages: Some(3),
                bytes: Some(30),
                age: Some(Duration::from_secs(190)),
            },
            &[],
        );
        check(
            Quota {
                messages: Some(2),
                ..none
            },
            &[("a", Reason::Messages)],
        );
        check(
            Quota {
                bytes: Some(29),
                ..none
            },
            &[("a", Reason::Bytes)],
        );
        check(
            Quota {
                bytes: Some(10),
                ..none
            },
            &[("a", Reason::Bytes), ("b", Reason::Bytes)],
        );
        check(
            Quota {
                age: Some(Duration::from_secs(185)),
                ..none
            },
            &[("a", Reason::Age), ("b", Reason::Age)],
        );
        let all_gone = [
            ("a", Reason::Messages),
            ("b", Reason::Messages),
            ("c", Reason::Messages),
        ];
        check(
            Quota {
                messages: Some(0),
                ..none
            },
            &all_gone,
        );
    }

    #[test]
    fn the_plan_prints() {
        let messages = vec![item("1.h\n:2,", 0, 7, None)];
        let quota = Quota {
            messages: Some(0),
            ..Quota::default()
        };
        let plan = plan_rotation(&Inventory { messages }, &quota, at(86_400 * 3));
        let line = "delete 1.h\\n:2, (3 days old, 7 bytes): more messages than the folder's quota allows\n";
        assert_eq!(plan.to_string(), line);
    }

    #[test]
    fn asks_only_about_what_would_go() {
        let messages = ["a", "b", "c", "d"]
            .iter()
            .zip(1..)
            .map(|(name, n)| item(name, n, 1, None));
        let mut inventory = Inventory {
            messages: messages.collect(),
        };
        let quota = Quota {
            messages: Some(3),
            ..Quota::default()
        };
        let mut asked = Vec::new();
        let plan = plan_asking(&mut inventory, &quota, at(NOW), |entry| {
            asked.push(entry.name.to_string());
            entry.name.as_bytes() == b"a"
        });
        assert_eq!(asked, ["a", "b"]);
        assert_eq!(plan.deletions[0].entry.name.as_bytes(), b"b");
        assert_eq!(
            inventory.messages[0].protection,
            Some(Protection::NotLearned)
        );
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let protection = prop_oneof![
            3 => Just(None),
            1 => Just(Some(Protection::Flagged)),
            1 => Just(Some(Protection::NotLearned)),
        ];
        // Dates before and after NOW, and many equal ones.
        let one = (
            0..300_u64,
            prop_oneof![0..50_u64, Just(u64::MAX)],
            protection,
        );
        prop::collection::vec(one, 0..30).prop_map(|all| {
            let numbered = all.into_iter().enumerate();
            numbered
                .map(|(n, (date, bytes, p))| item(&format!("{n}"), date / 10, bytes, p))
                .collect()
        })
    }

    fn quotas() -> impl Strategy<Value = Quota> {
        let age = prop::option::of((0..250_u64).prop_map(Duration::from_secs));
        (
            prop::option::of(0..500_u64),
            prop::option::of(0..20_u64),
            age,
        )
            .prop_map(|(bytes, messages, age)| Quota {
                bytes,
                messages,
                age,
            })
    }

    /// Whether these messages may lie in the folder. What is protected may be
    /// of any age.
    fn fits<'a>(items: impl Iterator<Item = &'a Item> + Clone, quota: &Quota) -> bool {
        let bytes: u128 = items.clone().map(|item| u128::from(item.bytes)).sum();
        let young_enough = |item: &Item| {
            let age = at(NOW).duration_since(item.received).unwrap_or_default();
            item.protection.is_some() || quota.age.is_none_or(|limit| age <= limit)
        };
        quota.bytes.is_none_or(|limit| bytes <= u128::from(limit))
            && quota
                .messages
                .is_none_or(|limit| items.clone().count() as u64 <= limit)
            && items.clone().all(young_enough)
    }

    proptest! {
        #[test]
        fn below_the_quota_and_no_more_than_needed(messages in items(), quota in quotas()) {
            let inventory = Inventory { messages };
            let plan = plan_rotation(&inventory, &quota, at(NOW));
            let n = plan.deletions.len();
            let stays_after = |n: usize| {
                let gone = &plan.deletions[..n];
                inventory.messages.iter().filter(move |item| !gone.iter().any(|d| d.entry == item.entry))
            };
            let protected = |item: &&Item| item.protection.is_some();

            let all_protected = inventory.messages.iter().filter(protected).count();
            prop_assert_eq!(stays_after(n).filter(protected).count(), all_protected);
            prop_assert!(fits(stays_after(n), &quota) || stays_after(n).all(|item| protected(&item)));
            // With one less it would not fit.
            prop_assert!(n == 0 || !fits(stays_after(n - 1), &quota));
            // Nothing younger goes before something older.
            let order = |item: &Item| (item.received, item.entry.name.clone());
            let mut gone: Vec<_> = plan.deletions.iter().map(|d| (d.received, d.entry.name.clone())).collect();
            prop_assert!(gone.is_sorted());
            gone.extend(stays_after(n).filter(|item| !protected(item)).map(order).min());
            prop_assert!(gone.is_sorted());
        }
    }

    #[test]
    fn carried_out_it_keeps_the_mailbox_quota_and_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("u")).unwrap();
        let mailbox = Mailbox::open(dir.path(), Path::new("u"), Layout::MaildirPlusPlus).unwrap();
        mailbox.create_folder(&FolderName::inbox()).unwrap();
        let name = FolderName::parse("Junk.Learned", Layout::MaildirPlusPlus).unwrap();
        let folder = mailbox.create_folder(&name).unwrap();
        let cur = dir.path().join("u/.Junk.Learned/cur");
        for (file, seconds) in [
            ("1.h:2,F", 1),
            ("2.h:2,S", 2),
            ("3.h:2,S", 3),
            ("4.h:2,S", 4),
        ] {
            fs::write(cur.join(file), "mail").unwrap();
            let file = fs::File::options()
                .append(true)
                .open(cur.join(file))
                .unwrap();
            file.set_modified(at(seconds)).unwrap();
        }
        mailbox
            .recount(mailbox::Quota::default(), &UniqueNames::new("h"), at(NOW))
            .unwrap();

        let quota = Quota {
            messages: Some(2),
            ..Quota::default()
        };
        let plan = plan_rotation(&take_inventory(&folder).unwrap(), &quota, at(NOW));
        // The user flags one of the two that would go.
        fs::rename(cur.join("2.h:2,S"), cur.join("2.h:2,FS")).unwrap();
        let mut events = Vec::new();
        execute(&plan, &mailbox, &name, |deletion, outcome| {
            events.push(format!("{} {outcome:?}", deletion.entry.name));
        })
        .unwrap();
        assert_eq!(events, ["2.h:2,S Changed", "3.h:2,S Deleted"]);
        let usage = mailbox.quota_state().unwrap().unwrap().usage;
        assert_eq!(
            usage,
            Usage {
                bytes: 12,
                messages: 3
            }
        );
        // Once more, from what is there: the other one goes, then nothing.
        for expected in [1, 0] {
            let plan = plan_rotation(&take_inventory(&folder).unwrap(), &quota, at(NOW));
            assert_eq!(plan.deletions.len(), expected);
            execute(&plan, &mailbox, &name, |_, _| {}).unwrap();
        }
        assert_eq!(fs::read_dir(cur).unwrap().count(), 2);
    }
}
