//! What a user can put into his own mailbox to make a program with more
//! rights read, move or delete what is not his.
//!
//! Each attack runs against everything that can be done with a mailbox; in
//! the end the treasure outside must be untouched and unread.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use mailbox::{
    Entry, Error, Folder, FolderName, Foreign, Half, Layout, Mailbox, MessageName, Quota,
    UniqueNames, Usage,
};
use tempfile::TempDir;

const SECRET: &[u8] = b"Subject: another user's mail\n\nsecret\n";

struct Attack {
    dir: TempDir,
    layout: Layout,
}

impl Attack {
    /// A mailbox with INBOX, Junk and Learned, and a victim's one beside it.
    fn new(layout: Layout) -> Self {
        let attack = Self {
            dir: tempfile::tempdir().unwrap(),
            layout,
        };
        for user in ["mallory", "victim"] {
            fs::create_dir(attack.dir.path().join(user)).unwrap();
            let mailbox = Mailbox::open(attack.dir.path(), Path::new(user), layout).unwrap();
            for name in ["INBOX", "Junk", "Learned"] {
                mailbox.create_folder(&attack.name(name)).unwrap();
            }
        }
        fs::write(attack.victim().join("cur/1.h:2,"), SECRET).unwrap();
        fs::write(attack.victim().join("maildirsize"), SECRET).unwrap();
        attack
    }

    fn own(&self, below: &str) -> PathBuf {
        self.dir.path().join("mallory").join(below)
    }

    fn victim(&self) -> PathBuf {
        self.dir.path().join("victim")
    }

    fn mailbox(&self) -> Mailbox {
        Mailbox::open(self.dir.path(), Path::new("mallory"), self.layout).unwrap()
    }

    fn name(&self, name: &str) -> FolderName {
        FolderName::parse(name, self.layout).unwrap()
    }

    /// A folder's place on disk.
    fn folder_path(&self, name: &str) -> PathBuf {
        self.own(&match self.layout {
            Layout::MaildirPlusPlus => format!(".{name}"),
            Layout::Nested => name.to_owned(),
        })
    }

    fn folder(&self, name: &str) -> Result<Option<Folder>, Error> {
        self.mailbox().folder(&self.name(name))
    }

    /// Everything a program does with a mailbox. Errors are fine.
    fn do_everything(&self) {
        let mailbox = self.mailbox();
        let names = UniqueNames::new("host");
        let now = SystemTime::now();
        let _ = mailbox.quota_state();
        let _ = mailbox.note_usage(Usage {
            bytes: 1,
            messages: 1,
        });
        let _ = mailbox.create_folder(&self.name("Junk"));
        for name in mailbox.folders().unwrap().flatten() {
            let Ok(Some(folder)) = mailbox.folder(&name) else {
                continue;
            };
            let _ = folder.deliver(&names, now, &mut b"new mail\n".as_slice());
            let Ok(Some(learned)) = mailbox.folder(&self.name("Learned")) else {
                continue;
            };
            // Also those that a listing does not show.
            let named = ["1.h:2,", "2.h:2,"].map(|name| entry(Half::Cur, name));
            let listed: Vec<Entry> = folder.entries().into_iter().flatten().flatten().collect();
            for entry in listed.iter().chain(&named) {
                check_unread(&folder, entry);
                let _ = folder.move_to(entry, &learned);
                let _ = learned.remove(entry);
                let _ = folder.remove(entry);
            }
            let _ = folder.sync();
        }
        let _ = mailbox.recount(Quota::default(), &names, now);
    }

    fn check_victim(&self) {
        let names = files_below(&self.victim());
        assert_eq!(names, ["cur/1.h:2,", "maildirsize"]);
        for name in names {
            assert_eq!(fs::read(self.victim().join(name)).unwrap(), SECRET);
        }
    }
}

fn entry(half: Half, name: &str) -> Entry {
    let name = MessageName::parse(name.as_bytes()).unwrap();
    Entry { half, name }
}

fn check_unread(folder: &Folder, entry: &Entry) {
    let Ok(Some(mut file)) = folder.open_message(entry) else {
        return;
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    assert_ne!(text, SECRET, "{entry:?}");
}

/// Paths of all files, sorted, `maildirfolder` left out.
fn files_below(path: &Path) -> Vec<String> {
    fn visit(path: &Path, top: &Path, files: &mut Vec<String>) {
        for found in fs::read_dir(path).unwrap() {
            let found = found.unwrap().path();
            if found.is_dir() {
                visit(&found, top, files);
            } else if found.file_name().unwrap() != "maildirfolder" {
                files.push(found.strip_prefix(top).unwrap().display().to_string());
            }
        }
    }
    let mut files = Vec::new();
    visit(path, path, &mut files);
    files.sort();
    files
}

fn both_layouts(attack: impl Fn(&Attack)) {
    for layout in [Layout::MaildirPlusPlus, Layout::Nested] {
        let it = Attack::new(layout);
        attack(&it);
        it.do_everything();
        it.check_victim();
    }
}

fn found<T: std::fmt::Debug>(result: Result<T, Error>) -> Foreign {
    match result.unwrap_err() {
        Error::Foreign { found, .. } => found,
        other => panic!("{other}"),
    }
}

#[test]
fn a_message_that_is_a_link() {
    both_layouts(|attack| {
        symlink(attack.victim().join("cur/1.h:2,"), attack.own("cur/2.h:2,")).unwrap();
        symlink(
            "../../victim/cur/1.h:2,",
            attack.folder_path("Junk").join("cur/2.h:2,"),
        )
        .unwrap();
        let junk = attack.folder("Junk").unwrap().unwrap();
        let entry = entry(Half::Cur, "2.h:2,");
        assert_eq!(junk.entries().unwrap().count(), 0);
        assert_eq!(found(junk.examine(&entry)), Foreign::Link);
        assert_eq!(found(junk.open_message(&entry)), Foreign::Link);
        assert_eq!(found(junk.remove(&entry)), Foreign::Link);
    });
}

#[test]
fn a_folder_that_is_a_link() {
    both_layouts(|attack| {
        let junk = attack.folder_path("Junk");
        fs::remove_dir_all(&junk).unwrap();
        symlink(attack.victim(), &junk).unwrap();
        // Which of the two depends on what the kernel checks first.
        assert!(matches!(
            found(attack.folder("Junk")),
            Foreign::Link | Foreign::NotFolder
        ));
    });
}

#[test]
fn a_half_of_a_folder_that_is_a_link() {
    for part in ["cur", "new", "tmp"] {
        both_layouts(|attack| {
            let part = attack.folder_path("Junk").join(part);
            fs::remove_dir(&part).unwrap();
            symlink(attack.victim().join("cur"), &part).unwrap();
        });
    }
}

#[test]
fn a_mailbox_that_is_a_link() {
    let attack = Attack::new(Layout::MaildirPlusPlus);
    symlink(attack.victim(), attack.own("Maildir")).unwrap();
    for path in [
        "mallory/Maildir",
        "mallory/../victim",
        "mallory/Maildir/cur",
    ] {
        let opened = Mailbox::open(attack.dir.path(), Path::new(path), attack.layout);
        assert!(matches!(opened, Err(Error::Foreign { .. })), "{path}");
    }
    attack.check_victim();
}

#[test]
fn a_fifo_neither_blocks_nor_counts() {
    both_layouts(|attack| {
        for path in [
            attack.folder_path("Junk").join("cur/2.h:2,"),
            attack.own("maildirsize"),
        ] {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }
        let junk = attack.folder("Junk").unwrap().unwrap();
        let entry = entry(Half::Cur, "2.h:2,");
        assert_eq!(junk.entries().unwrap().count(), 0);
        assert_eq!(found(junk.open_message(&entry)), Foreign::NotFile);
        assert_eq!(found(attack.mailbox().quota_state()), Foreign::NotFile);
    });
}

#[test]
fn a_device_is_not_opened() {
    both_layouts(|attack| {
        let path = attack.folder_path("Junk").join("cur/2.h:2,");
        let made = Command::new("mknod")
            .arg(path)
            .args(["c", "1", "5"])
            .output()
            .unwrap();
        if !made.status.success() {
            tests::skip("only root may make devices");
            return;
        }
        let junk = attack.folder("Junk").unwrap().unwrap();
        assert_eq!(
            found(junk.open_message(&entry(Half::Cur, "2.h:2,"))),
            Foreign::NotFile
        );
    });
}

#[test]
fn a_folder_in_place_of_a_message() {
    both_layouts(|attack| {
        let folder = attack.folder_path("Junk").join("cur/2.h:2,");
        fs::create_dir(&folder).unwrap();
        let junk = attack.folder("Junk").unwrap().unwrap();
        assert_eq!(
            found(junk.remove(&entry(Half::Cur, "2.h:2,"))),
            Foreign::NotFile
        );
        assert!(folder.is_dir());
    });
}

#[test]
fn a_hard_link_to_another_users_file() {
    both_layouts(|attack| {
        let treasure = attack.victim().join("cur/1.h:2,");
        if chown(&treasure, Some(12345), None).is_err() {
            tests::skip("only root can own files of others");
            return;
        }
        let mode = fs::metadata(&treasure).unwrap().permissions().mode();
        let links = [
            attack.folder_path("Junk").join("cur/2.h:2,"),
            attack.own("maildirsize"),
        ];
        for link in &links {
            fs::hard_link(&treasure, link).unwrap();
        }
        let junk = attack.folder("Junk").unwrap().unwrap();
        let entry = entry(Half::Cur, "2.h:2,");
        let learned = attack.folder("Learned").unwrap().unwrap();
        for refused in [
            found(junk.examine(&entry)),
            found(junk.open_message(&entry)),
            found(junk.move_to(&entry, &learned)),
            found(junk.remove(&entry)),
            found(attack.mailbox().note_usage(Usage {
                bytes: 1,
                messages: 1,
            })),
        ] {
            assert!(matches!(refused, Foreign::OtherOwner { uid: 12345, .. }));
        }
        assert_eq!(fs::metadata(&treasure).unwrap().permissions().mode(), mode);
    });
}

#[test]
fn a_folder_of_another_user() {
    both_layouts(|attack| {
        let junk = attack.folder_path("Junk");
        if chown(&junk, Some(12345), None).is_err() {
            tests::skip("only root can make folders of others");
            return;
        }
        assert!(matches!(
            found(attack.folder("Junk")),
            Foreign::OtherOwner { uid: 12345, .. }
        ));
    });
}

#[test]
fn a_quota_file_that_is_a_link() {
    both_layouts(|attack| {
        symlink(
            attack.victim().join("maildirsize"),
            attack.own("maildirsize"),
        )
        .unwrap();
        assert_eq!(found(attack.mailbox().quota_state()), Foreign::Link);
        assert_eq!(
            found(attack.mailbox().note_usage(Usage {
                bytes: 1,
                messages: 1
            })),
            Foreign::Link
        );
    });
}

#[test]
fn names_with_line_breaks_are_ordinary_and_printed_escaped() {
    let attack = Attack::new(Layout::MaildirPlusPlus);
    let evil = "2.h\ndeleted another:2,S";
    fs::write(attack.own("cur").join(evil), "own mail").unwrap();
    let inbox = attack.folder("INBOX").unwrap().unwrap();
    let learned = attack.folder("Learned").unwrap().unwrap();
    let listed: Vec<Entry> = inbox.entries().unwrap().map(Result::unwrap).collect();
    assert_eq!(listed, [entry(Half::Cur, evil)]);
    assert!(inbox.move_to(&listed[0], &learned).unwrap());
    assert!(learned.remove(&listed[0]).unwrap());

    symlink("nowhere", attack.own("cur").join(evil)).unwrap();
    let error = inbox.remove(&listed[0]).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    fs::create_dir(attack.own(".Junk\n.x")).unwrap();
    fs::create_dir(attack.own(".Junk\n.x/cur")).unwrap();
    let shown: Vec<String> = attack
        .mailbox()
        .folders()
        .unwrap()
        .map(|name| name.unwrap().to_string())
        .collect();
    assert!(shown.contains(&r"Junk\n/x".to_owned()), "{shown:?}");
}

#[test]
fn folders_swapped_for_links_at_every_moment() {
    both_layouts(|attack| {
        let junk = attack.folder_path("Junk");
        let aside = attack.own("aside");
        let message = junk.join("cur/2.h:2,");
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                for _ in 0..2000 {
                    swap(&junk, &aside, &attack.victim());
                    let _ = fs::write(&message, "own mail");
                    let _ = fs::remove_file(&message);
                    let _ = symlink(attack.victim().join("cur/1.h:2,"), &message);
                    let _ = fs::remove_file(&message);
                }
            });
            while !swapping.is_finished() {
                attack.do_everything();
            }
        });
    });
}

/// The folder is a link to the victim's mailbox for a moment.
fn swap(folder: &Path, aside: &Path, victim: &Path) {
    let swapped: io::Result<()> = (|| {
        fs::rename(folder, aside)?;
        symlink(victim, folder)?;
        fs::remove_file(folder)?;
        fs::rename(aside, folder)
    })();
    // The program under test may have made the folder anew meanwhile.
    if swapped.is_err() {
        let _ = fs::remove_file(folder);
        let _ = fs::remove_dir_all(folder);
        let _ = fs::rename(aside, folder);
    }
}

#[test]
fn folders_without_end_are_not_followed() {
    let attack = Attack::new(Layout::Nested);
    let deep = attack.own("").join("d/".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(deep.join("cur")).unwrap();
    let names: Vec<FolderName> = attack
        .mailbox()
        .folders()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}
