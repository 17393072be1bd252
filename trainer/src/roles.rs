//! What each folder of a mailbox is for, by its name.

use mailbox::{FolderName, Layout};

use crate::decision::Role;

/// The folders of a mailbox that have a role of their own. All others count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    layout: Layout,
    /// In the order in which they were named; no folder twice, no INBOX.
    named: Vec<(FolderName, Role)>,
}

impl Roles {
    /// No folder has a role of its own yet.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            named: Vec::new(),
        }
    }

    /// Gives a folder and those below it a role.
    ///
    /// # Errors
    /// With the reason when there can be no such folder, or it has a role.
    pub fn add(&mut self, folder: &str, role: Role) -> Result<(), String> {
        let name = FolderName::parse(folder, self.layout).map_err(|error| error.to_string())?;
        if name == FolderName::inbox() {
            return Err("INBOX always counts and can be nothing else".to_owned());
        }
        if self.named.iter().any(|(other, _)| *other == name) {
            return Err(format!("{folder:?} is named for two purposes"));
        }
        self.named.push((name, role));
        Ok(())
    }

    /// What `folder` is for: of the named folders that it is or lies below,
    /// the deepest decides, so that `Junk/Learned` is no part of `Junk`.
    pub fn role(&self, folder: &FolderName) -> Role {
        let mut nearest: Option<&(FolderName, Role)> = None;
        for named in &self.named {
            let nearer = nearest.is_none_or(|(name, _)| named.0.is_within(name));
            if folder.is_within(&named.0) && nearer {
                nearest = Some(named);
            }
        }
        nearest.map_or(Role::Counting, |(_, role)| *role)
    }

    /// The folders named for `role`, without those below them.
    pub fn named(&self, role: Role) -> impl Iterator<Item = &FolderName> {
        let of_role = move |named: &&(FolderName, Role)| named.1 == role;
        self.named.iter().filter(of_role).map(|(name, _)| name)
    }

    /// How the folders lie on disk.
    pub fn layout(&self) -> Layout {
        self.layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_named_folder_decides() {
        let layout = Layout::MaildirPlusPlus;
        let mut roles = Roles::new(layout);
        for (folder, role) in [
            ("Junk", Role::Spam),
            ("Junk.Learned", Role::Learned),
            ("Trash", Role::Never),
            ("Archive.Spam", Role::Spam),
            ("Archive", Role::Archive),
        ] {
            roles.add(folder, role).unwrap();
        }
        for (folder, expected) in [
            ("INBOX", Role::Counting),
            ("Junk", Role::Spam),
            ("Junk.2024", Role::Spam),
            ("Junk.Learned", Role::Learned),
            ("Junk.Learned.old", Role::Learned),
            ("Junkyard", Role::Counting),
            ("Archive.2024", Role::Archive),
            ("Archive.Spam.x", Role::Spam),
            ("Trash.x", Role::Never),
        ] {
            let name = FolderName::parse(folder, layout).unwrap();
            assert_eq!(roles.role(&name), expected, "{folder}");
        }
        assert_eq!(roles.named(Role::Spam).count(), 2);
    }

    #[test]
    fn what_cannot_have_a_role() {
        let mut roles = Roles::new(Layout::MaildirPlusPlus);
        roles.add("Junk.Learned", Role::Learned).unwrap();
        for (folder, reason) in [
            ("inbox", "INBOX"),
            ("Junk/Learned", "two purposes"),
            ("../x", "cannot be a folder"),
        ] {
            let error = roles.add(folder, Role::Spam).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
