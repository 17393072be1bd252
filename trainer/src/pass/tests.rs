use super::*;
use crate::config::Config;
use crate::taught;
use classifier::store::MemoryModel;
use mailbox::Layout;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

mod forgetting;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A user with a mailbox and a model.
struct User {
    dir: TempDir,
    mailbox: Mailbox,
    settings: Settings,
    taught: Taught,
    mark: MarkKey,
    more: bool,
    in_vain: Vec<(String, String)>,
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
            taught: Taught::Memory(MemoryModel::default()),
            mark: MarkKey::of_user(&[1; 32], "anna"),
            more: false,
            in_vain: Vec::new(),
        }
    }

    fn view(&self, now: SystemTime) -> View<'_> {
        View {
            mailbox: &self.mailbox,
            settings: &self.settings,
            mark: Some(&self.mark),
            now,
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
        let mut memory = Memory::default();
        self.pass_with(&mut memory, usize::MAX, now)
    }

    fn pass_with(&mut self, memory: &mut Memory, most: usize, now: SystemTime) -> Vec<String> {
        let Self {
            mailbox,
            settings,
            taught,
            mark,
            ..
        } = self;
        let view = View {
            mailbox,
            settings,
            mark: Some(mark),
            now,
        };
        let pass = look(&view, taught, memory, most).unwrap();
        self.more = pass.more;
        let in_vain = pass.in_vain.iter();
        self.in_vain = in_vain
            .map(|one| (one.way.clone(), one.reason.clone()))
            .collect();
        let mut done = Vec::new();
        pass.carry_out(&view, taught, memory, |step, outcome| {
            if step.decision.lesson == decision::Lesson::NoteFiled {
                return;
            }
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
        self.taught.learn(&[(raw.into(), act)], 1).unwrap();
    }

    fn learned(&self, n: u32) -> Option<Label> {
        let digest = Canonical::new(&mail(n)).digest();
        match self.taught.entries(&[digest]).unwrap()[0] {
            Some(taught::Entry::Learned(learned)) => Some(learned.label),
            _ => None,
        }
    }
}

fn mail(n: u32) -> Vec<u8> {
    format!("From: a{n}@example.org\nSubject: offer {n}\n\nwords{n} of message {n}\n").into_bytes()
}

/// As the filter files it.
fn filed(mark: &MarkKey, n: u32) -> Vec<u8> {
    [mark.field_of(&mail(n)).as_bytes(), &mail(n)].concat()
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
    let before = format!("{:?}", anna.taught);
    assert_eq!(anna.pass(4 * MINUTE), [""; 0]);
    assert_eq!(anna.pass(6 * MINUTE), ["Junk 1.h:2,RSa move Done"]);
    assert_eq!(anna.pass(6 * MINUTE), [""; 0]);
    assert_eq!(format!("{:?}", anna.taught), before);
    let moved = fs::metadata(anna.path(".Junk.Learned/cur/1.h:2,RSa")).unwrap();
    assert_eq!(moved.modified().unwrap(), received);
    assert_eq!(moved.len(), mail(1).len() as u64);
}

#[test]
fn a_pass_says_when_the_next_one_has_something_to_do() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,", 1);
    anna.put("cur/2.h:2,S", 2);
    let now = SystemTime::now() + MINUTE;
    let mut memory = Memory::default();
    assert_eq!(anna.pass_with(&mut memory, 9, now).len(), 1);
    let due = memory.due().unwrap().duration_since(now).unwrap();
    assert!(
        due > 3 * MINUTE && due <= 4 * MINUTE + 2 * SECOND,
        "{due:?}"
    );
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

/// What comes last weighs most.
#[test]
fn mail_is_learned_in_the_order_in_which_it_came() {
    let mut anna = User::new("");
    let names: Vec<_> = (0..20).map(|n| format!("{}.h:2,S", n * 7 % 20)).collect();
    for (n, name) in (0..).zip(&names) {
        let folder = if n % 2 == 0 { ".Junk" } else { ".Spam" };
        fs::create_dir_all(anna.path(folder).join("cur")).unwrap();
        fs::create_dir_all(anna.path(folder).join("new")).unwrap();
        fs::create_dir_all(anna.path(folder).join("tmp")).unwrap();
        anna.put(&format!("{folder}/cur/{name}"), n);
        std::thread::sleep(Duration::from_millis(10));
    }
    let done = anna.pass(Duration::ZERO);
    let done: Vec<_> = done
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(done, names);
}

#[test]
fn trash_and_flags_and_what_the_filter_filed() {
    let mut anna = User::new("");
    anna.put(".Junk/cur/1.h:2,", 1);
    anna.put(".Junk/cur/2.h:2,F", 2);
    fs::write(anna.path(".Junk/cur/3.h:2,"), filed(&anna.mark, 3)).unwrap();
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
    let mut memory = Memory::default();
    let pass = look(&anna.view(now), &anna.taught, &mut memory, 9).unwrap();
    anna.rename(".Junk/cur/1.h:2,", ".Junk/cur/1.h:2,F");
    let mut changed = 0;
    let mut taught = anna.taught.clone();
    pass.carry_out(&anna.view(now), &mut taught, &mut memory, |_, outcome| {
        changed += usize::from(matches!(outcome, Outcome::Changed));
    })
    .unwrap();
    anna.taught = taught;
    assert_eq!((changed, anna.learned(1)), (1, None));
    assert_eq!(
        anna.pass_with(&mut memory, 9, now),
        ["Junk 1.h:2,F Spam Done"]
    );
}

#[test]
fn what_the_filter_filed_is_ham_when_it_leaves_and_spam_when_it_comes_back() {
    let mut anna = User::new("");
    fs::write(anna.path(".Junk/new/1.h"), filed(&anna.mark, 1)).unwrap();
    assert_eq!(anna.pass(Duration::ZERO), [""; 0]);
    assert_eq!(anna.learned(1), None);
    assert_eq!(anna.pass(HOUR), [""; 0]);
    anna.rename(".Junk/new/1.h", "cur/1.h:2,S");
    assert_eq!(anna.pass(Duration::ZERO), ["INBOX 1.h:2,S Ham Done"]);
    anna.rename("cur/1.h:2,S", ".Junk/cur/1.h:2,S");
    assert_eq!(anna.pass(Duration::ZERO), ["Junk 1.h:2,S Spam Done"]);
    assert_eq!(anna.learned(1), Some(Label::Spam));
}

#[test]
fn nobody_else_can_mark_mail_as_filed() {
    let mut anna = User::new("");
    let bert = MarkKey::of_user(&[1; 32], "bert");
    fs::write(anna.path(".Junk/cur/1.h:2,"), filed(&bert, 1)).unwrap();
    let forged = [
        b"X-Spam-Status: Yes, hits=0.99\nX-Spam-Flag: YES\n",
        &mail(2)[..],
    ]
    .concat();
    fs::write(anna.path(".Junk/cur/2.h:2,"), forged).unwrap();
    // Ours, but of another message.
    let field = anna.mark.field_of(&mail(4));
    fs::write(
        anna.path(".Junk/cur/3.h:2,"),
        [field.as_bytes(), &mail(3)].concat(),
    )
    .unwrap();
    assert_eq!(anna.pass(Duration::ZERO).len(), 3);
}

#[test]
fn much_mail_is_read_in_parts() {
    let mut anna = User::new("");
    for n in 0..10 {
        anna.put(&format!(".Junk/cur/{n}.h:2,"), n);
        anna.put(&format!("cur/1{n}.h:2,S"), 10 + n);
    }
    let (mut memory, now) = (Memory::default(), SystemTime::now() + 25 * HOUR);
    let mut parts = Vec::new();
    loop {
        parts.push(anna.pass_with(&mut memory, 4, now).len());
        if !anna.more {
            break;
        }
    }
    // INBOX, Junk, and what was moved on from there; ham at last, when all of
    // it has been seen, as far as it is not sure by then.
    assert_eq!(parts, [0, 0, 2, 4, 4, 0, 0, 4, 4, 0]);
    assert_eq!(anna.pass_with(&mut memory, 4, now), [""; 0]);
}

/// More than the ledger may hold until they are moved.
#[test]
fn of_very_much_mail_at_once_a_part_is_learned_at_once() {
    const N: u32 = 1_300;
    let mut anna = User::new("");
    for n in 0..N {
        anna.put(&format!(".Junk/cur/{n}.h:2,"), n);
    }
    let mut memory = Memory::default();
    let now = SystemTime::now();
    let mut n_learned = 0;
    loop {
        let done = anna.pass_with(&mut memory, 300, now);
        assert!(done.iter().all(|line| line.ends_with(" Spam Done")));
        n_learned += done.len();
        if !anna.more {
            break;
        }
    }
    assert_eq!(n_learned, MOST_WAITING);
    let (mut n_learned, mut n_moved) = (0, 0);
    loop {
        let done = anna.pass_with(&mut memory, 300, now + 6 * MINUTE);
        n_learned += done.iter().filter(|line| line.contains(" Spam")).count();
        n_moved += done.iter().filter(|line| line.contains("move")).count();
        if !anna.more {
            break;
        }
    }
    assert_eq!(
        (n_learned, n_moved),
        (N as usize - MOST_WAITING, N as usize)
    );
}

#[test]
fn with_a_memory_and_without_the_same_is_done() {
    let moves = [
        (".Junk/cur/1.h:2,", "cur/1.h:2,S"),
        ("cur/2.h:2,S", ".Junk/cur/2.h:2,S"),
        (".Junk/cur/3.h:2,", ".Trash/cur/3.h:2,"),
        ("cur/1.h:2,S", ".Junk/cur/x1.h:2,S"),
        (".Junk/cur/2.h:2,S", ".Archive/cur/2.h:2,S"),
        ("cur/4.h:2,S", "cur/4.h:2,FS"),
        (".Junk/cur/x1.h:2,S", "new/y1.h"),
    ];
    let start = || {
        let mut user = User::new("learning.keep_before_ham_hours = 1");
        for (path, n) in [
            (".Junk/cur/1.h:2,", 1),
            ("cur/2.h:2,S", 2),
            (".Junk/cur/3.h:2,", 3),
        ] {
            user.put(path, n);
        }
        user.put("cur/4.h:2,S", 4);
        user.more = false;
        user
    };
    let (mut one, mut other, mut memory) = (start(), start(), Memory::default());
    for (from, to) in moves {
        for later in [Duration::ZERO, 2 * HOUR] {
            let now = SystemTime::now() + later;
            let mut expected = one.pass(later);
            let mut done = other.pass_with(&mut memory, usize::MAX, now);
            expected.sort();
            done.sort();
            assert_eq!(done, expected, "before {from} to {to}");
        }
        // A later look may have moved it on.
        if one.path(from).exists() {
            one.rename(from, to);
            other.rename(from, to);
        }
    }
    assert_eq!(
        format!("{:?}", one.taught).len(),
        format!("{:?}", other.taught).len()
    );
}

#[test]
fn a_clock_that_jumps_back_delays_and_loses_nothing() {
    let mut anna = User::new("");
    let mut memory = Memory::default();
    let (early, late) = (SystemTime::now(), SystemTime::now() + 48 * HOUR);
    anna.put(".Junk/cur/1.h:2,", 1);
    assert_eq!(
        anna.pass_with(&mut memory, 9, late),
        ["Junk 1.h:2, Spam, move Done"]
    );
    anna.put(".Junk/cur/2.h:2,", 2);
    assert_eq!(
        anna.pass_with(&mut memory, 9, early),
        ["Junk 2.h:2, Spam Done"]
    );
    anna.rename(".Junk.Learned/cur/1.h:2,", "cur/1.h:2,");
    assert_eq!(
        anna.pass_with(&mut memory, 9, early),
        ["INBOX 1.h:2, Ham Done"]
    );
    // Before anything came: what waits no longer knows since when.
    let back = early - 48 * HOUR;
    anna.put("cur/3.h:2,S", 3);
    anna.put(".Junk/cur/4.h:2,F", 4);
    assert_eq!(
        anna.pass_with(&mut memory, 9, back),
        ["Junk 2.h:2, move Done", "Junk 4.h:2,F Spam Done"]
    );
    // The ledger seems to know of days of which it does not.
    anna.put(".Junk.Learned/cur/5.h:2,S", 5);
    assert_eq!(anna.pass_with(&mut memory, 9, back + 25 * HOUR), [""; 0]);
    assert_eq!(
        anna.pass_with(&mut memory, 9, early + 26 * HOUR),
        ["INBOX 3.h:2,S Ham Done"]
    );
}

#[test]
fn moves_in_vain_are_told_with_their_reason() {
    let mut anna = User::new("");
    let mut memory = Memory::default();
    let now = SystemTime::now() + HOUR / 60;
    anna.put(".Junk/cur/1.h:2,S", 1);
    anna.put("cur/2.h:2,", 2);
    fs::write(anna.path("cur/3.h:2,"), filed(&anna.mark, 3)).unwrap();
    anna.pass_with(&mut memory, 99, now);
    assert_eq!(anna.in_vain, []);
    // Learned, filed by its user where it counts, and deleted: nothing to say.
    anna.rename("cur/2.h:2,", ".Fine/cur/2.h:2,");
    anna.rename(".Junk/cur/1.h:2,S", "cur/1.h:2,S");
    anna.pass_with(&mut memory, 99, now);
    assert_eq!(
        (anna.learned(1), &*anna.in_vain),
        (Some(Label::Ham), &[][..])
    );
    anna.rename("cur/1.h:2,S", ".Junk/cur/1.h:2,S");
    anna.rename("cur/3.h:2,", ".Junk/cur/3.h:2,");
    anna.pass_with(&mut memory, 99, now);
    let told = |way: &str, why: &str| (way.to_owned(), why.to_owned());
    assert_eq!(anna.in_vain, [told("INBOX to Junk", "the filter filed it")]);
    anna.rename(".Junk/cur/1.h:2,S", ".Archive/cur/1.h:2,S");
    anna.pass_with(&mut memory, 99, now);
    assert_eq!(
        anna.in_vain,
        [told("Junk to Archive", "spam that was archived")]
    );
    // What bmfd itself moves on is no move of the user's.
    anna.put(".Junk/cur/4.h:2,", 4);
    anna.pass_with(&mut memory, 99, now + HOUR);
    anna.pass_with(&mut memory, 99, now + HOUR);
    assert_eq!(anna.in_vain, []);
}

#[test]
fn what_has_not_changed_is_not_listed() {
    let mut anna = User::new("");
    anna.put("cur/1.h:2,", 1);
    let mut memory = Memory::default();
    let now = SystemTime::now() + MINUTE;
    anna.pass_with(&mut memory, 9, now);
    // Unnoticed, since nothing came or went.
    fs::set_permissions(anna.path("cur"), fs::Permissions::from_mode(0o300)).unwrap();
    let before = memory.folders.len();
    assert_eq!(anna.pass_with(&mut memory, 9, now), [""; 0]);
    fs::set_permissions(anna.path("cur"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(memory.folders.len(), before);
    let marks = anna
        .mailbox
        .folder(&name("INBOX"))
        .unwrap()
        .unwrap()
        .marks()
        .unwrap();
    assert!(memory.is_current(&name("INBOX"), &marks, now));
    anna.rename("cur/1.h:2,", "cur/1.h:2,S");
    let marks = anna
        .mailbox
        .folder(&name("INBOX"))
        .unwrap()
        .unwrap()
        .marks()
        .unwrap();
    assert!(!memory.is_current(&name("INBOX"), &marks, now));
}
