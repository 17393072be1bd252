//! Users move mail by IMAP, with a real Dovecot and mbsync, while `bmfd serve`
//! learns from it and moves it on.
//!
//! Afterwards what was learned is counted from the folders in which the mail
//! lies and from what each user did. `make soak` runs the random part for half
//! an hour: `POSTERN_SOAK` says for how many seconds, else some.
//!
//! Dovecot's `imap` runs alone, as for a tunnel, from the unpacked packages,
//! which are laid over /usr in a mount namespace of its own. That needs root.

use std::collections::HashMap;
use std::env;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tempfile::TempDir;

use tests::bmfd::Bmfd;
use tests::imap::Imap;
use tests::programs::peer;
use tests::run::{Input, run, scratch};

/// Whose mail it is; Dovecot serves no root.
const UID: u32 = 12_345;

struct Host {
    bmfd: Bmfd,
    dir: TempDir,
    peers: PathBuf,
}

impl Host {
    /// `None`, and a note, without root.
    fn start(users: &[&str], move_after: u32) -> Option<Self> {
        let dir = scratch();
        let probe = dir.path().join("probe");
        fs::write(&probe, "").unwrap();
        if chown(&probe, Some(UID), Some(UID)).is_err() {
            tests::skip("only root can lay Dovecot over /usr");
            return None;
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let peers = PathBuf::from(peer("mbsync").get_program());
        let peers = peers.ancestors().nth(3).unwrap().to_owned();
        for user in users {
            let home = dir.path().join("home").join(user);
            fs::create_dir_all(home.join("Maildir")).unwrap();
            for path in [&home, &home.join("Maildir")] {
                chown(path, Some(UID), Some(UID)).unwrap();
            }
        }
        fs::write(dir.path().join("dovecot.conf"), DOVECOT).unwrap();
        let config = format!("learning.move_after_seconds = {move_after}\n");
        let mut bmfd = Bmfd::new(dir.path(), "home/*/Maildir", &config);
        let path = with_doveconf(dir.path(), &peers);
        bmfd.start_with(|command| {
            command.env("PATH", path);
        });
        Some(Self { bmfd, dir, peers })
    }

    fn home(&self, user: &str) -> PathBuf {
        self.dir.path().join("home").join(user)
    }

    /// A command line that speaks IMAP as `user`.
    fn tunnel(&self, user: &str) -> String {
        format!(
            "{} exec setpriv --reuid {UID} --regid {UID} --clear-groups \
             env USER={user} HOME={} /usr/lib/dovecot/imap -c {}'",
            overlaid(&self.peers),
            self.home(user).display(),
            self.dir.path().join("dovecot.conf").display()
        )
    }

    fn imap(&self, user: &str) -> Imap {
        let mut command = Command::new("sh");
        command.arg("-c").arg(self.tunnel(user));
        Imap::start(&mut command)
    }

    /// Waits until `is_so`, for longer than anything takes.
    fn wait<T: PartialEq + Debug>(&self, what: &str, wanted: &T, mut is: impl FnMut() -> T) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let found = is();
            if found == *wanted {
                return;
            }
            let log = || self.bmfd.log();
            assert!(
                Instant::now() < end,
                "{what}: {found:?}, not {wanted:?}: {}",
                log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until bmfd has logged `text` so many times.
    fn wait_for(&self, text: &str, times: usize) {
        self.wait(text, &true, || {
            self.bmfd.log().matches(text).count() >= times
        });
    }
}

/// The beginning of a command line, up to what is to run where the peers are
/// installed; `'` ends it.
fn overlaid(peers: &Path) -> String {
    format!(
        "unshare -m sh -c 'mount -t overlay overlay -o lowerdir={}/usr:/usr /usr &&",
        peers.display()
    )
}

/// Where bmfd finds programs: `doveconf` first, as if it were installed.
fn with_doveconf(dir: &Path, peers: &Path) -> String {
    let dir = dir.display();
    let bin = PathBuf::from(format!("{dir}/bin"));
    let doveconf = format!(
        "#!/bin/sh\n{} exec /usr/bin/doveconf -c {dir}/dovecot.conf \"$@\"' sh \"$@\"\n",
        overlaid(peers)
    );
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("doveconf"), doveconf).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bin.join("doveconf"), executable).unwrap();
    format!("{}:{}", bin.display(), env::var("PATH").unwrap())
}

const DOVECOT: &str = "\
mail_location = maildir:~/Maildir
ssl = no
log_path = /dev/stderr
default_login_user = root
default_internal_user = root
default_internal_group = root
first_valid_uid = 1
first_valid_gid = 1
protocols = imap
namespace inbox {
  inbox = yes
  separator = /
  mailbox Werbung {
    special_use = \\Junk
  }
  mailbox Papierkorb {
    special_use = \\Trash
  }
}
";

fn append(imap: &mut Imap, n: u32) {
    let mail = mail(n);
    imap.done(&format!("APPEND INBOX {{{}+}}\r\n{mail}", mail.len()));
}

fn mail(n: u32) -> String {
    format!("Subject: number {n}\r\n\r\nwords{n} of mail{n} and some{n}\r\n")
}

#[test]
fn moves_and_copies_by_imap_teach_and_the_mailbox_stays_whole() {
    let Some(host) = Host::start(&["anna"], 0) else {
        return;
    };
    let mut imap = host.imap("anna");
    imap.done("CREATE Junk");
    for n in 1..=2 {
        append(&mut imap, n);
    }
    let uids = imap.select("INBOX");
    let dated = |lines: Vec<String>| {
        let all = lines.join(" ");
        all.split("INTERNALDATE ")
            .nth(1)
            .map(|date| date[..28].to_owned())
    };
    let before = dated(imap.done(&format!("UID FETCH {} (INTERNALDATE)", uids[&1])));
    imap.done(&format!(
        "UID STORE {} +FLAGS (\\Seen \\Answered)",
        uids[&1]
    ));
    imap.done(&format!("UID MOVE {} Junk", uids[&1]));
    imap.done(&format!("UID COPY {} Junk", uids[&2]));
    imap.done(&format!("UID STORE {} +FLAGS (\\Deleted)", uids[&2]));
    imap.done("EXPUNGE");
    host.wait_for("message learned user=\"anna\" folder=Junk", 2);
    host.wait_for("message moved user=\"anna\" folder=Junk", 2);
    assert_eq!(host.bmfd.learned("anna"), (0, 2));

    assert!(imap.select("Junk").is_empty());
    let learned = imap.select("Junk/Learned");
    assert_eq!(learned.len(), 2);
    let lines = imap.done(&format!("UID FETCH {} (FLAGS INTERNALDATE)", learned[&1]));
    assert!(lines[0].contains("\\Answered \\Seen"), "{lines:?}");
    assert_eq!(dated(lines), before);

    imap.done(&format!("UID COPY {} INBOX", learned[&1]));
    imap.done(&format!(
        "UID STORE {} +FLAGS.SILENT (\\Deleted)",
        learned[&1]
    ));
    imap.done("EXPUNGE");
    host.wait_for("label=\"ham\" reason=it left the spam folder", 1);
    imap.done("CREATE Trash");
    imap.done(&format!("UID MOVE {} Trash", learned[&2]));
    // What is learned next shows that this one taught nothing.
    append(&mut imap, 3);
    let uids = imap.select("INBOX");
    imap.done(&format!("UID MOVE {} Junk", uids[&3]));
    host.wait_for("message learned user=\"anna\" folder=Junk", 3);
    assert_eq!(host.bmfd.learned("anna"), (1, 2));
}

/// The configuration is all that Dovecot 2.3 knows of special uses: what a
/// client asks for leaves nothing behind.
#[test]
fn a_special_use_says_what_a_folder_is_for() {
    let Some(host) = Host::start(&["anna"], 0) else {
        return;
    };
    let mut imap = host.imap("anna");
    for folder in ["Werbung", "Papierkorb", "Wunsch (USE (\\Junk))"] {
        imap.done(&format!("CREATE {folder}"));
    }
    let listed = imap.done("LIST \"\" * RETURN (SPECIAL-USE)");
    let uses = |folder: &str| {
        let line = listed.iter().find(|line| line.ends_with(folder)).unwrap();
        line.contains("\\Junk")
    };
    assert!(uses("Werbung") && !uses("Wunsch"), "{listed:?}");
    for n in 1..=3 {
        append(&mut imap, n);
    }
    let uids = imap.select("INBOX");
    imap.done(&format!("UID MOVE {} Werbung", uids[&1]));
    host.wait_for("message moved user=\"anna\" folder=Werbung", 1);
    let learned = imap.select("Junk/Learned");
    imap.done(&format!("UID MOVE {} Papierkorb", learned[&1]));
    imap.select("INBOX");
    imap.done(&format!("UID MOVE {} Wunsch", uids[&2]));
    // What is learned next shows that those taught nothing.
    imap.done(&format!("UID MOVE {} Werbung", uids[&3]));
    host.wait_for("message learned user=\"anna\" folder=Werbung", 2);
    assert_eq!(host.bmfd.learned("anna"), (0, 2));
}

/// What a message must have taught by what its user did with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taught {
    #[default]
    Nothing,
    Ham,
    Spam,
}

impl Taught {
    fn after(self, to: &str) -> Self {
        match (to, self) {
            ("Junk", _) => Self::Spam,
            ("Trash", taught) => taught,
            (_, Self::Spam) => Self::Ham,
            (_, taught) => taught,
        }
    }
}

/// One user and what he does.
struct User {
    name: &'static str,
    imap: Imap,
    n_mails: u32,
    taught: HashMap<u32, Taught>,
    moved: HashMap<u32, Instant>,
    /// When bmfd was last known to have learned all that he had done.
    caught_up: Instant,
    pause: Duration,
}

/// So long a message stays where it is, so that bmfd has seen it there: a mail
/// that passes through a folder within moments teaches nothing by it. In half
/// an hour a machine has moments in which it does something else.
fn pause(seconds: u64) -> Duration {
    Duration::from_secs(if seconds < 60 { 3 } else { 10 })
}

const FOLDERS: [&str; 5] = ["INBOX", "Junk", "Junk/Learned", "Trash", "Lists"];

impl User {
    fn new(host: &Host, name: &'static str, pause: Duration) -> Self {
        let mut imap = host.imap(name);
        for folder in &FOLDERS[1..] {
            imap.done(&format!("CREATE {folder}"));
        }
        Self {
            name,
            imap,
            n_mails: 0,
            taught: HashMap::new(),
            moved: HashMap::new(),
            caught_up: Instant::now(),
            pause,
        }
    }

    /// How many messages he has taught: ham and spam.
    fn expected(&self) -> (u64, u64) {
        let count = |taught| self.taught.values().filter(|t| **t == taught).count() as u64;
        (count(Taught::Ham), count(Taught::Spam))
    }

    /// Looks whether bmfd has kept up with him, however slow the machine is.
    fn look_at(&mut self, host: &Host) {
        let now = Instant::now();
        if host.bmfd.learned(self.name) == self.expected() {
            self.caught_up = now;
        }
    }

    /// Whether bmfd has seen this message where it is.
    fn has_rested(&self, n: u32) -> bool {
        let moved = self.moved.get(&n);
        moved.is_none_or(|at| *at + self.pause < self.caught_up)
    }

    /// In which folders each message is.
    fn folders(&mut self) -> HashMap<u32, Vec<&'static str>> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        for folder in FOLDERS {
            for n in self.imap.select(folder).into_keys() {
                found.entry(n).or_default().push(folder);
            }
        }
        found
    }

    /// Deletes the one of two copies that bmfd moved on from `Junk` while the
    /// user took the other out of it: IMAP has no lock against that.
    fn tidy(&mut self, n: u32) {
        if let Some(uid) = self.imap.select("Junk/Learned").get(&n) {
            self.imap.delete(uid);
        }
    }

    fn act(&mut self, host: &Host, rng: &mut Rng) {
        if self.n_mails < 20 || rng.u8(..10) == 0 {
            self.n_mails += 1;
            append(&mut self.imap, self.n_mails);
            self.taught.insert(self.n_mails, Taught::Nothing);
            return;
        }
        let from = FOLDERS[rng.usize(..FOLDERS.len())];
        let to = ["INBOX", "Junk", "Trash", "Lists"][rng.usize(..4)];
        self.look_at(host);
        let uids = self.imap.select(from);
        let rested = |n: &u32| self.has_rested(*n);
        let mut there: Vec<_> = uids.keys().copied().filter(rested).collect();
        there.sort_unstable();
        if there.is_empty() || from == to || (from, to) == ("Junk/Learned", "Junk") {
            return;
        }
        let n = there[rng.usize(..there.len())];
        let uid = &uids[&n];
        let by_move = rng.bool();
        let verb = if by_move { "MOVE" } else { "COPY" };
        let (result, mut lines) = self.imap.command(&format!("UID {verb} {uid} {to}"));
        lines.push(result);
        // bmfd may have moved it on between our look and our move.
        if lines.iter().any(|line| line.contains("[COPYUID")) {
            if !by_move {
                self.imap.delete(uid);
            }
            if from == "Junk" {
                self.tidy(n);
            }
            let taught = self.taught.get_mut(&n).unwrap();
            *taught = taught.after(to);
        }
        self.moved.insert(n, Instant::now());
    }

    /// A laptop on which the user moves mail while it is offline. Whether he
    /// has moved some.
    fn sync(&mut self, host: &Host, rng: &mut Rng) -> bool {
        let local = host.dir.path().join(format!("laptop-{}", self.name));
        let config = host.dir.path().join(format!("mbsyncrc-{}", self.name));
        if !config.exists() {
            fs::create_dir(&local).unwrap();
            fs::write(&config, mbsyncrc(&local, &host.tunnel(self.name))).unwrap();
        }
        // Else the laptop would move what somebody else has moved meanwhile.
        if !mbsync(&config) {
            return false;
        }
        let from = ["INBOX", "Junk", "Lists"][rng.usize(..3)];
        let to = ["INBOX", "Junk", "Lists", "Trash"][rng.usize(..4)];
        self.look_at(host);
        // What the user has not read lies in new.
        let halves = ["new", "cur"].map(|half| fs::read_dir(local.join(from).join(half)));
        let chosen = halves
            .into_iter()
            .flatten()
            .flatten()
            .flatten()
            .find_map(|entry| {
                let text = fs::read_to_string(entry.path()).ok()?;
                let n: u32 = text
                    .split("Subject: number ")
                    .nth(1)?
                    .lines()
                    .next()?
                    .trim()
                    .parse()
                    .ok()?;
                self.has_rested(n).then(|| (n, entry.path()))
            });
        let Some((n, path)) = chosen.filter(|_| from != to && local.join(to).exists()) else {
            return false;
        };
        // Without mbsync's own `,U=` it is a new message there.
        let name = format!("{}.{n}.laptop:2,S", rng.u64(..));
        fs::rename(path, local.join(to).join("cur").join(name)).unwrap();
        let is_synced = (0..5).any(|_| mbsync(&config));
        assert!(is_synced, "mbsync fails again and again");
        if from == "Junk" {
            self.tidy(n);
        }
        let taught = self.taught.get_mut(&n).unwrap();
        *taught = taught.after(to);
        self.moved.insert(n, Instant::now());
        true
    }
}

fn mbsyncrc(local: &Path, tunnel: &str) -> String {
    format!(
        "IMAPStore host\nTunnel \"{}\"\n\nMaildirStore laptop\nPath {local}/\nInbox {local}/INBOX\n\
         SubFolders Verbatim\n\nChannel all\nFar :host:\nNear :laptop:\nPatterns *\nCreate Near\n\
         Expunge Both\nSync All\nSyncState *\n",
        tunnel.replace('"', "\\\""),
        local = local.display(),
    )
}

/// Whether it could do all: mail that bmfd moves on meanwhile is found by the
/// next run.
fn mbsync(config: &Path) -> bool {
    let mut mbsync = peer("mbsync");
    mbsync.arg("-q").arg("-c").arg(config).arg("-a");
    let outcome = run(&mut mbsync, Input::Empty);
    outcome.code() == 0
}

#[test]
fn random_moves_leave_no_drift() {
    let seconds = env::var("POSTERN_SOAK").map_or(15, |seconds| seconds.parse().unwrap());
    let names = ["anna", "bert", "carl"];
    let Some(host) = Host::start(&names, 1) else {
        return;
    };
    let mut users = names.map(|name| User::new(&host, name, pause(seconds)));
    let mut rng = Rng::with_seed(7);
    let start = Instant::now();
    let (mut n_acts, mut n_by_laptop) = (0, 0);
    let both_labels = |users: &[User]| {
        let (ham, spam): (Vec<_>, Vec<_>) = users.iter().map(User::expected).unzip();
        ham.iter().any(|n| *n > 0) && spam.iter().any(|n| *n > 0)
    };
    // A slow machine gets the time until there is something to see.
    let least = Duration::from_secs(seconds);
    while start.elapsed() < least || n_by_laptop == 0 || !both_labels(&users) {
        assert!(start.elapsed() < 10 * least, "too little done");
        let user = &mut users[rng.usize(..names.len())];
        if rng.u8(..20) == 0 {
            n_by_laptop += u32::from(user.sync(&host, &mut rng));
        } else {
            user.act(&host, &mut rng);
        }
        n_acts += 1;
    }
    thread::sleep(pause(seconds));
    for user in &mut users {
        let expected = user.expected();
        host.wait(user.name, &expected, || host.bmfd.learned(user.name));
        // While bmfd moves mail on it is seen here and, a moment later, there.
        let twice = format!("{}: found in two folders", user.name);
        host.wait(&twice, &Vec::new(), || {
            let found = user.folders();
            let twice = found.into_iter().filter(|(_, folders)| folders.len() > 1);
            twice.collect()
        });
        let found = user.folders();
        for (n, folders) in &found {
            let taught = user.taught[n];
            match folders[0] {
                "Junk" | "Junk/Learned" => assert_eq!(taught, Taught::Spam, "{n} in {folders:?}"),
                "Trash" => {}
                _ => assert_ne!(taught, Taught::Spam, "{n} in {folders:?}"),
            }
        }
        assert_eq!(
            found.len(),
            user.n_mails as usize,
            "{}: mail is lost",
            user.name
        );
        println!(
            "{}: {} messages, learned {expected:?}",
            user.name, user.n_mails
        );
    }
    println!("{n_acts} acts in {seconds} s, {n_by_laptop} of them by mbsync, no drift");
}
