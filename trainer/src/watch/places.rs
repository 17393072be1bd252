//! Finding mailboxes, and watching where new ones will appear.

use std::collections::HashSet;
use std::os::fd::AsFd;

use super::inotify::{Inotify, Of, Refused, Subject, Wd};
use crate::Error;
use crate::config::Config;
use crate::pattern::Place;

/// What there is by now.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Places with something that may be a mailbox.
    pub(crate) places: Vec<Place>,
    /// The watches that tell when to look again. Others are no longer needed.
    pub(crate) watches: HashSet<Wd>,
    /// Some folder could not be watched.
    pub(crate) is_incomplete: bool,
    /// What could not be read.
    pub(crate) errors: Vec<Error>,
}

/// Looks for mailboxes. Those that are `known` are not opened again.
pub(crate) fn find(config: &Config, known: &HashSet<Place>, inotify: &Inotify) -> Found {
    let mut found = Found::default();
    // First watched, then read, so that nothing appears in between.
    for pattern in &config.patterns {
        match pattern.roots() {
            Ok(roots) => roots.iter().for_each(|root| found.watch(root, inotify)),
            Err(error) => found.errors.push(error),
        }
    }
    let (places, errors) = config.places(None);
    found.errors.extend(errors);
    for place in places {
        if known.contains(&place) || found.is_there(&place, inotify) {
            found.places.push(place);
        }
    }
    found
}

impl Found {
    fn watch(&mut self, place: &Place, inotify: &Inotify) {
        self.is_there(place, inotify);
        if let Ok((folder, true)) = place.open_deepest() {
            self.note(inotify.watch(folder.as_fd(), Subject::Places, Of::Folders));
        }
    }

    /// Whether the place is there; if not, the last folder on the way to it is
    /// watched.
    fn is_there(&mut self, place: &Place, inotify: &Inotify) -> bool {
        // Each part of the path may appear while the one before it gets its
        // watch; more than these are left to the next rescan.
        const ATTEMPTS: usize = 8;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let Ok((folder, is_there)) = place.open_deepest() else {
                return false;
            };
            if is_there {
                return true;
            }
            let watch = inotify.watch(folder.as_fd(), Subject::Places, Of::Folders);
            let wd = self.note(watch);
            if wd == last {
                return false;
            }
            last = wd;
        }
        false
    }

    fn note(&mut self, watch: Result<Wd, Refused>) -> Option<Wd> {
        match watch {
            Ok(wd) => {
                self.watches.insert(wd);
                Some(wd)
            }
            Err(_) => {
                self.is_incomplete = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn users(found: &Found) -> Vec<&str> {
        found
            .places
            .iter()
            .map(|place| place.user.as_str())
            .collect()
    }

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("test")).unwrap()
    }

    #[test]
    fn what_appears_on_the_way_to_a_mailbox_gives_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("srv/home");
        let config = config(&format!(
            "mailboxes.patterns = ['{}/*/Maildir']",
            home.display()
        ));
        let inotify = Inotify::new(None).unwrap();
        let known = HashSet::new();
        for part in ["", "anna", "anna/Maildir"] {
            assert_eq!(users(&find(&config, &known, &inotify)), [""; 0]);
            fs::create_dir_all(home.join(part)).unwrap();
            assert_ne!(inotify.hints().unwrap(), [], "{part}");
        }
        let found = find(&config, &known, &inotify);
        assert_eq!((users(&found), found.is_incomplete), (vec!["anna"], false));
    }

    #[test]
    fn no_link_of_a_user_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("victim/private")).unwrap();
        fs::create_dir_all(path("home/anna")).unwrap();
        symlink("../../victim", path("home/anna/mail")).unwrap();
        let pattern = format!(
            "mailboxes.patterns = ['{}/home/*/mail/*']",
            dir.path().display()
        );
        let inotify = Inotify::new(None).unwrap();
        assert_eq!(
            users(&find(&config(&pattern), &HashSet::new(), &inotify)),
            [""; 0]
        );
        inotify.hints().unwrap();
        fs::create_dir(path("victim/new")).unwrap();
        assert_eq!(inotify.hints().unwrap(), []);
    }
}
