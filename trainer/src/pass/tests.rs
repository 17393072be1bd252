use super::*;
use crate::config::Config;
use classifier::store::MemoryModel;
use mailbox::Layout;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A user with a mailbox and a model.
struct User {
    dir: TempDir,
    mailbox: Mailbox,
    settings: Settings,
    store: MemoryModel,
}

impl User {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::open(dir.path(), Path::new("."), Layout::MaildirPlusPlus).unwrap();
        for folder in ["INBOX", "Junk", "Fine", "Trash", "Archive"] {
            mailbox.create_folder(&name(folder)).unwrap();
        }
        let config = Config::parse(config, Path::new("test")).unwrap();
        Self {
            dir,
            mailbox,
            settings: config.settings("anna").clone(),
            store: MemoryModel::default(),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A message whose words are those of its number.
    fn put(&self, path: &str, n: u32) {
        fs::write(self.path(path), mail(n)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// One pass, `later` from now. What it did: folder, message, what and why.
    fn pass(&mut self, later: Duration) -> Vec<String> {
        let now = SystemTime::now() + later;
        let pass = look(&self.mailbox, &self.settings, &self.store, now).unwrap();
        let mut done = Vec::new();
        let Self {
            mailbox,
            settings,
            store,
            ..
        } = self;
        pass.carry_out(mailbox, settings, store, now, |step, outcome| {
            let (name, decision) = (&step.entry.name, &step.decision);
            let what = match (decision.teaches(), decision.moves()) {
                (Some(label), false) => format!("{label:?}"),
                (Some(label), true) => format!("{label:?}, move"),
                (None, _) => "move".to_owned(),
            };
            done.push(format!("{} {name} {what} {outcome:?}", step.folder));
        })
        .unwrap();
        done
    }

    fn teach(&mut self, raw: &[u8], act: Act) {
        let (lesson, keep) = (Lesson::new(raw, act), Keep::default());
        learn(&mut self.store, &[lesson], 1, &keep, Durability::Synced).unwrap();
    }

    fn learned(&self, n: u32) -> Option<Label> {
        let digest = Canonical::new(&mail(n)).digest();
        let learned = modern::learned(&self.store, &digest).unwrap();
        learned.map(|learned| learned.label)
    }
}

fn mail(n: u32) -> Vec<u8> {
    format!("From: a{n}@example.org\nSubject: offer {n}\n\nwords{n} of message {n}\n").into_bytes()
}

fn name(name: &str) -> FolderName {
    FolderName::parse(name, Layout::MaildirPlusPlus).unwrap()
}

#[test]
fn spam_is_learned_at_once_and_moved_later_as_it_is() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,RSa", 1);
    let file = fs::File::options()
        .append(true)
        .open(anna.path(".Junk/cur/1.h:2,RSa"))
        .unwrap();
    let received = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.set_modified(received).unwrap();

    assert_eq!(anna.pass(Duration::ZERO), ["Junk 1.h:2,RSa Spam Done"]);
    assert_eq!(anna.learned(1), Some(Label::Spam));
    let before = format!("{:?}", anna.store);
    assert_eq!(anna.pass(4 * MINUTE), [""; 0]);
    assert_eq!(anna.pass(6 * MINUTE), ["Junk 1.h:2,RSa move Done"]);
    assert_eq!(anna.pass(6 * MINUTE), [""; 0]);
    assert_eq!(format!("{:?}", anna.store), before);
    let moved = fs::metadata(anna.path(".Junk.Learned/cur/1.h:2,RSa")).unwrap();
    assert_eq!(moved.modified().unwrap(), received);
    assert_eq!(moved.len(), mail(1).len() as u64);
}

#[test]
fn a_pass_says_when_the_next_one_has_something_to_do() {
    let anna = User::new("");
    anna.put(".Junk/cur/1.h:2,", 1);
    anna.put("cur/2.h:2,S", 2);
    let now = SystemTime::now() + MINUTE;
    let pass = look(&anna.mailbox, &anna.settings, &anna.store, now).unwrap();
    let due = pass.look_again.unwrap();
    assert!(due > 3 * MINUTE && due <= 4 * MINUTE, "{due:?}");
}

#[test]
fn what_leaves_the_spam_or_learned_folder_is_relearned_as_ham() {
    let mut anna = User::new("");
    for (n, from) in [(1, ".Junk"), (2, ".Junk.Learned")] {
        anna.put(&format!(".Junk/cur/{n}.h:2,S"), n);
        anna.pass(Duration::ZERO);
        if n == 2 {
            anna.pass(6 * MINUTE);
        }
        // As a mail server does that gives it a new name.
        anna.rename(&format!("{from}/cur/{n}.h:2,S"), &format!("cur/9{n}.h:2,S"));
        assert_eq!(
            anna.pass(Duration::ZERO),
            [format!("INBOX 9{n}.h:2,S Ham Done")]
        );
        assert_eq!(anna.learned(n), Some(Label::Ham));
    }
}

#[test]
fn a_copy_counts_when_the_original_has_gone() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,", 1);
    anna.pass(Duration::ZERO);
    anna.put("cur/2.h:2,", 1);
    assert_eq!(anna.pass(Duration::ZERO), [""; 0]);
    anna.rename(".Junk/cur/1.h:2,", ".Junk/cur/1.h:2,T");
    assert_eq!(anna.pass(Duration::ZERO), ["INBOX 2.h:2, Ham Done"]);
    fs::remove_file(anna.path(".Junk/cur/1.h:2,T")).unwrap();
    assert_eq!(anna.pass(Duration::ZERO), [""; 0]);
    assert_eq!(anna.learned(1), Some(Label::Ham));
}

#[test]
fn trash_and_flags_and_what_the_filter_filed() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,", 1);
    anna.put(".Junk/cur/2.h:2,F", 2);
    let marked = [b"X-Spam-Status: Yes, hits=0.99\n", &mail(3)[..]].concat();
    fs::write(anna.path(".Junk/cur/3.h:2,"), marked).unwrap();
    let mut done = anna.pass(Duration::ZERO);
    done.sort();
    assert_eq!(done, ["Junk 1.h:2, Spam Done", "Junk 2.h:2,F Spam Done"]);
    anna.rename(".Junk/cur/1.h:2,", ".Trash/cur/1.h:2,");
    assert_eq!(anna.pass(HOUR), [""; 0]);
    assert_eq!(anna.learned(1), Some(Label::Spam));
    assert_eq!(anna.learned(3), None);
}

#[test]
fn what_the_filter_learned_by_itself_is_not_what_a_person_said() {
    let mut anna = User::new("");
    for n in 0..60 {
        for (n, label) in [(1, Label::Spam), (2, Label::Ham)].map(|(k, l)| (k * 100 + n, l)) {
            let word = format!("{label:?}");
            let raw = format!("Subject: {word} {n}\n\n{word} {word}{n}\n");
            anna.teach(raw.as_bytes(), Act::Learn(label));
        }
    }
    let raw = b"Subject: Spam x\n\nSpam y\n";
    anna.teach(raw, Act::OwnVerdict);
    fs::write(anna.path(".Junk/cur/1.h:2,"), raw).unwrap();
    assert_eq!(anna.pass(HOUR), [""; 0]);
    assert!(anna.path(".Junk/cur/1.h:2,").exists());

    // Kept mail of which the model is sure teaches nothing either.
    fs::write(anna.path("cur/2.h:2,S"), "Subject: Ham x\n\nHam y\n").unwrap();
    assert_eq!(anna.pass(25 * HOUR), [""; 0]);
}

#[test]
fn read_mail_that_is_kept_is_ham_up_to_so_much_a_day() {
    let mut anna = User::new("learning.ham_per_day = 2");
    for n in 1..=3 {
        anna.put(&format!("cur/{n}.h:2,S"), n);
    }
    anna.put("cur/4.h:2,", 4);
    anna.put("new/5.h", 5);
    assert_eq!(anna.pass(23 * HOUR), [""; 0]);
    let done = anna.pass(25 * HOUR);
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(
        done.iter().all(|line| line.ends_with(":2,S Ham Done")),
        "{done:?}"
    );
    assert_eq!(anna.pass(26 * HOUR), [""; 0]);
}

#[test]
fn the_folder_for_wrongly_caught_mail() {
    let mut anna = User::new("folders.wrongly_caught = ['Fine']");
    anna.put(".Fine/cur/1.h:2,S", 1);
    assert_eq!(anna.pass(Duration::ZERO), ["Fine 1.h:2,S Ham Done"]);
    assert_eq!(anna.pass(6 * MINUTE), ["Fine 1.h:2,S move Done"]);
    assert!(anna.path("cur/1.h:2,S").exists());
}

#[test]
fn what_is_no_message_of_the_users_is_left_alone() {
    let mut anna = User::new("");
    let treasure = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(treasure.path(), anna.path(".Junk/cur/1.h:2,")).unwrap();
    anna.put(".Junk/cur/2.h:2,", 2);
    assert_eq!(anna.pass(HOUR), ["Junk 2.h:2, Spam, move Done"]);
    assert!(anna.path(".Junk/cur/1.h:2,").is_symlink());
}

#[test]
fn what_vanishes_between_looking_and_doing_teaches_nothing() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,", 1);
    let now = SystemTime::now() + HOUR;
    let pass = look(&anna.mailbox, &anna.settings, &anna.store, now).unwrap();
    anna.rename(".Junk/cur/1.h:2,", ".Junk/cur/1.h:2,F");
    let mut changed = 0;
    pass.carry_out(
        &anna.mailbox,
        &anna.settings,
        &mut anna.store,
        now,
        |_, outcome| {
            changed += usize::from(matches!(outcome, Outcome::Changed));
        },
    )
    .unwrap();
    assert_eq!((changed, anna.learned(1)), (1, None));
}
