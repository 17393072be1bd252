//! A user moves mail by IMAP with a real Courier while `bmfd serve` learns from
//! it and moves it on: all mail lies in one folder, and Courier's record of who
//! has which UID goes on.
//!
//! `imapd` runs alone, as for a tunnel, from the unpacked packages.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tests::bmfd::Bmfd;
use tests::imap::Imap;
use tests::programs::peer;
use tests::run::{make_maildir, scratch};

struct Host {
    bmfd: Bmfd,
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = scratch();
        let config = "learning.move_after_seconds = 1\nwatching.rescan_seconds = 1\n";
        let mut bmfd = Bmfd::new(dir.path(), "home/*/Maildir", config);
        make_maildir(&dir.path().join("home/anna/Maildir"));
        bmfd.start();
        Self { bmfd, dir }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("home/anna/Maildir").join(below)
    }

    /// Received a day ago.
    fn deliver(&self, n: u32) {
        let path = self.path(&format!("new/{n}.host"));
        let text = format!("Subject: number {n}\n\nwords{n} of mail{n} and some{n}\n");
        fs::write(&path, text).unwrap();
        let file = File::options().append(true).open(path).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        file.set_modified(SystemTime::now() - day).unwrap();
    }

    fn imap(&self) -> Imap {
        let mut command = peer("imapd");
        command
            .arg("Maildir")
            .current_dir(self.dir.path().join("home/anna"))
            .env("AUTHENTICATED", "anna")
            .env("IMAP_CAPABILITY", "IMAP4rev1 UIDPLUS")
            // Locks are told to a daemon that watches files.
            .env("IMAP_USELOCKS", "0");
        Imap::start(&mut command)
    }

    /// UIDVALIDITY and the next UID of a folder, as Courier wrote them.
    fn uids(&self, folder: &str) -> (u64, u64) {
        let path = self.path(folder).join("courierimapuiddb");
        let text = fs::read_to_string(path).unwrap();
        let mut words = text.lines().next().unwrap().split(' ').skip(1);
        let mut number = || words.next().unwrap().parse().unwrap();
        (number(), number())
    }

    fn wait_until_learned(&self, ham: u64, spam: u64) {
        self.bmfd.wait(&format!("{ham} ham, {spam} spam"), || {
            self.bmfd.learned("anna") == (ham, spam)
        });
    }

    fn n_files(&self, folder: &str) -> usize {
        let halves = ["new", "cur"].map(|half| fs::read_dir(self.path(folder).join(half)));
        halves.into_iter().flatten().map(Iterator::count).sum()
    }
}

/// As mail readers do that know no MOVE.
fn move_to(imap: &mut Imap, uids: &str, folder: &str) {
    imap.done(&format!("UID COPY {uids} {folder}"));
    imap.delete(uids);
}

#[test]
fn courier_sees_a_whole_mailbox_while_bmfd_moves_mail() {
    let host = Host::new();
    for n in 1..=6 {
        host.deliver(n);
    }
    let mut imap = host.imap();
    for folder in ["INBOX.Junk", "INBOX.Fine"] {
        imap.done(&format!("CREATE {folder}"));
    }
    let what = "FLAGS INTERNALDATE RFC822.SIZE";
    imap.select("INBOX");
    imap.done("STORE 1:* +FLAGS (\\Seen)");
    imap.done("STORE 2 +FLAGS (\\Answered)");
    let before = imap.fetch(what);
    assert_eq!(before.len(), 6, "{before:?}");
    let uid = |n: u32| before[&n].0.clone();

    // To the spam folder, while another session has that open.
    let mut watching = host.imap();
    watching.done("SELECT INBOX.Junk");
    let uids = [uid(1), uid(2), uid(3)].join(",");
    move_to(&mut imap, &uids, "INBOX.Junk");
    host.wait_until_learned(0, 3);
    host.bmfd
        .wait("moved on", || host.n_files(".Junk.Learned") == 3);
    watching.done("NOOP");
    assert_eq!(watching.select("INBOX.Junk"), BTreeMap::new());
    let folders = imap.done("LIST \"\" *");
    assert!(
        folders.concat().contains("INBOX.Junk.Learned"),
        "{folders:?}"
    );
    imap.select("INBOX.Junk.Learned");
    let learned = imap.fetch(what);
    for n in 1..=3 {
        let (was, is) = (&before[&n].1, &learned[&n].1);
        let plain = |text: &str| text.replace(" \\Recent", "").replace("\\Recent", "");
        assert_eq!(plain(is), plain(was));
    }
    let (junk, others) = (host.uids(".Junk"), host.uids(".Junk.Learned"));

    // Two come back, and one is copied away and stays.
    let uid = |n: u32| learned[&n].0.clone();
    move_to(&mut imap, &uid(1), "INBOX.Fine");
    imap.done(&format!("UID COPY {} INBOX", uid(2)));
    host.wait_until_learned(1, 2);
    let copied = uid(2);
    imap.done(&format!("UID STORE {copied} +FLAGS (\\Deleted)"));
    host.wait_until_learned(2, 1);
    imap.done("EXPUNGE");

    // What is put into the spam folder again has a new UID.
    imap.select("INBOX.Fine");
    move_to(&mut imap, "1:*", "INBOX.Junk");
    host.wait_until_learned(1, 2);
    host.bmfd
        .wait("moved on", || host.n_files(".Junk.Learned") == 2);
    let mut all: Vec<u32> = Vec::new();
    for folder in ["INBOX", "INBOX.Junk", "INBOX.Junk.Learned", "INBOX.Fine"] {
        all.extend(imap.select(folder).keys());
    }
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5, 6]);
    for (folder, (validity, next)) in [(".Junk", junk), (".Junk.Learned", others)] {
        let now = host.uids(folder);
        assert_eq!(now.0, validity, "{folder}");
        assert!(now.1 > next, "{folder}: {now:?}, {next}");
    }
    assert_eq!(host.bmfd.learned("anna"), (1, 2), "{}", host.bmfd.log());
}
