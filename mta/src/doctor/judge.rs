//! What is found in facts about a machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::records::{Kind, Record, State};
use super::storage::{Mount, Unflushed};
use super::{Finding, Level};

/// A certificate is renewed a month before its end by all who renew it
/// themselves.
const SOON: Duration = Duration::from_secs(21 * DAY);
const DAY: u64 = 24 * 3600;
/// A sync that takes longer bounds what the host can take.
const SLOW: Duration = Duration::from_millis(50);
/// No disk that keeps what it was given is so fast.
const IMPOSSIBLE: Duration = Duration::from_micros(5);
/// So many messages wait nowhere in ordinary times.
const MANY: usize = 1_000;
/// Senders are told of a delay after four hours.
const LONG: Duration = Duration::from_secs(4 * 3600);

/// How long a certificate is valid.
pub fn certificate(path: &Path, not_after: SystemTime, now: SystemTime) -> Finding {
    let path = path.display();
    let days = |time: Duration| time.as_secs() / DAY;
    let mend = "renew it; the server reads it again by itself";
    match not_after.duration_since(now) {
        Err(over) => {
            let days = days(over.duration());
            let text = format!("{path} has expired {days} days ago");
            Finding::bad("certificate", Level::Critical, text, mend)
        }
        Ok(left) if left < SOON => {
            let text = format!("{path} expires in {} days", days(left));
            Finding::bad("certificate", Level::Warning, text, mend)
        }
        Ok(left) => Finding::ok("certificate", format!("{path}: {} more days", days(left))),
    }
}

/// Whether the clock is right: `newest` is when a file of the host was last
/// written, and `is_synchronized` what the system says of itself.
pub fn clock(
    now: SystemTime,
    newest: Option<SystemTime>,
    is_synchronized: Option<bool>,
) -> Finding {
    let mend = "let systemd-timesyncd or chrony set it";
    let ahead = newest.and_then(|newest| newest.duration_since(now).ok());
    // A file may be written while we look.
    if let Some(ahead) = ahead.filter(|ahead| ahead.as_secs() > 60) {
        let text = format!(
            "the clock is wrong: a file was written in {} seconds from now",
            ahead.as_secs()
        );
        return Finding::bad("clock", Level::Critical, text, mend);
    }
    match is_synchronized {
        Some(true) => Finding::ok("clock", "synchronized"),
        Some(false) => {
            let text = "the system says that its clock is not synchronized";
            Finding::bad("clock", Level::Warning, text, mend)
        }
        None => Finding::ok("clock", "not behind any file; nobody here says more"),
    }
}

/// What was seen of the disk that holds a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The folder.
    pub folder: PathBuf,
    /// In the middle, what writing 4 KiB and syncing it took.
    pub sync: Duration,
    /// Whether what was synced could be read from the disk again.
    pub reads_back: bool,
    /// What is mounted there.
    pub mount: Mount,
    /// The cache of a disk that syncs leave full.
    pub unflushed: Option<Unflushed>,
    /// What takes syncs away from a process of ours.
    pub preloaded: Option<PathBuf>,
}

/// Options by which ext4, XFS, btrfs, reiserfs, f2fs, bcachefs and overlays
/// leave syncs, or what makes them last, out.
const LYING: [&str; 7] = [
    "nobarrier",
    "barrier=0",
    "barrier=none",
    "fsync_mode=nobarrier",
    "journal_flush_disabled",
    "volatile",
    "fsync=volatile",
];

/// Whether the disk keeps what it was given, as far as can be told from here,
/// and how fast.
pub fn disk(disk: &Disk) -> Finding {
    let time = disk.sync.as_secs_f64() * 1e3;
    let folder = disk.folder.display();
    let critical = |text: String, mend: &str| Finding::bad("disk", Level::Critical, text, mend);
    if !disk.reads_back {
        let text = format!("what was synced in {folder} was not there again");
        return critical(text, "replace the disk, after copying what can be read");
    }
    let kind = disk.mount.kind.as_str();
    if ["tmpfs", "ramfs", "rootfs"].contains(&kind) {
        let text = format!("{folder} lies in memory ({kind}) and ends with it");
        return critical(text, "let it lie on a disk");
    }
    let lies = |option: &&String| LYING.contains(&option.as_str());
    if let Some(option) = disk.mount.options.iter().find(lies) {
        let text = format!("{folder} is mounted with {option}: a power cut takes synced mail");
        return critical(text, "mount it without that option");
    }
    if let Some(library) = &disk.preloaded {
        let library = library.display();
        let text = format!("{library} takes syncs away from postern: a power cut takes mail");
        let mend = "see LD_PRELOAD where postern is started, and /etc/ld.so.preload";
        return critical(text, mend);
    }
    if let Some(Unflushed { disk, at }) = &disk.unflushed {
        let text = format!(
            "{folder}: the cache of {disk} is not emptied by a sync, since the kernel takes {at} \
             for one without (write through): a power cut takes synced mail"
        );
        let mend = format!("echo 'write back' >/sys/class/block/{at}/queue/write_cache");
        return critical(text, &mend);
    }
    if disk.sync < IMPOSSIBLE {
        let text =
            format!("{folder}: a sync takes {time:.3} ms, which no disk can do: it is not done");
        let mend = "look for a layer that takes syncs away, such as the machine's host";
        return Finding::bad("disk", Level::Warning, text, mend);
    }
    if disk.sync > SLOW {
        let text = format!("{folder}: a sync takes {time:.0} ms");
        let mend = "each message waits for two; a faster disk takes more mail";
        return Finding::bad("disk", Level::Warning, text, mend);
    }
    Finding::ok(
        "disk",
        format!("{folder} ({kind}): a sync takes {time:.2} ms"),
    )
}

/// Who may do what with a file or folder, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// Who should be.
    pub owner: u32,
}

/// Whether what only the host may read is read by it alone.
pub fn rights(path: &Path, rights: Rights) -> Option<Finding> {
    let shown = path.display();
    let bad = |text, mend| Some(Finding::bad("rights", Level::Critical, text, mend));
    if rights.uid != rights.owner {
        let text = format!("{shown} belongs to user {}", rights.uid);
        return bad(text, format!("chown {} {shown}", rights.owner));
    }
    let open = rights.mode & 0o077;
    if open != 0 {
        let text = format!("others may use {shown}: mode {:o}", rights.mode & 0o777);
        return bad(text, format!("chmod go= {shown}"));
    }
    None
}

/// Whether all folders can be watched.
pub fn watches(needed: u64, most: Option<u64>) -> Finding {
    let Some(most) = most else {
        return Finding::ok(
            "watches",
            format!("{needed} folders; the limit is not known"),
        );
    };
    if needed * 10 > most * 9 {
        let text = format!("{needed} folders are to be watched, of {most} that the system admits");
        let mend = format!(
            "sysctl fs.inotify.max_user_watches={}; others are looked at every few minutes",
            needed * 2
        );
        return Finding::bad("watches", Level::Warning, text, mend);
    }
    Finding::ok("watches", format!("{needed} folders of {most}"))
}

/// What waits in the queue: how many, how many of them held, and since when
/// the oldest.
pub fn backlog(n: usize, held: usize, oldest: Option<Duration>) -> Finding {
    let hours = oldest.unwrap_or_default().as_secs() / 3600;
    let held = match held {
        0 => String::new(),
        held => format!(", {held} of them held"),
    };
    let text = format!("{n} messages wait{held}, the oldest for {hours} hours");
    let is_bad = n > MANY || oldest.is_some_and(|age| age > LONG);
    match (n, is_bad) {
        (0, _) => Finding::ok("queue", "empty"),
        (_, false) => Finding::ok("queue", text),
        (_, true) => Finding::bad(
            "queue",
            Level::Warning,
            text,
            "`postern queue list` shows why each waits",
        ),
    }
}

/// Whether a record is there; nothing when it is, or need not be. What an
/// administrator has others believe of a domain is his to say, once he has.
pub fn record(record: &Record, state: &State) -> Option<Finding> {
    let is_key = record.name.contains("._domainkey.");
    let is_policy = record.kind == Kind::Txt && !is_key;
    let level = match record.kind {
        Kind::Srv => return None,
        Kind::Mx => Level::Critical,
        Kind::A | Kind::Aaaa | Kind::Ptr => Level::Warning,
        Kind::Txt if is_key => Level::Critical,
        Kind::Txt => Level::Warning,
    };
    let (name, kind) = (&record.name, record.kind.name());
    let paste = format!("enter: {}", record.line());
    match state {
        State::There => None,
        State::Differs { .. } if is_policy => None,
        State::Missing => {
            let text = format!("{name} has no such {kind} record: {}", record.why);
            Some(Finding::bad("dns", level, text, paste))
        }
        State::Differs { found } => {
            let found = found.join(", ");
            let text = format!("{name} has another {kind} record, {found}: {}", record.why);
            Some(Finding::bad("dns", level, text, paste))
        }
        State::Unknown { reason } => {
            let text = format!("{name}, {kind}: {reason}");
            let mend = "see to the name servers of this machine, or of [remote]";
            Some(Finding::bad("dns", Level::Warning, text, mend))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(finding: &Finding) -> String {
        format!("{:?} {}", finding.level, finding.text)
    }

    #[test]
    fn certificates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 * DAY);
        for (days, expected) in [
            (90_i64, "Ok cert.pem: 90 more days"),
            (20, "Warning cert.pem expires in 20 days"),
            (0, "Warning cert.pem expires in 0 days"),
            (-2, "Critical cert.pem has expired 2 days ago"),
        ] {
            let time = Duration::from_secs(days.unsigned_abs() * DAY);
            let end = if days < 0 { now - time } else { now + time };
            assert_eq!(said(&certificate("cert.pem".as_ref(), end, now)), expected);
        }
    }

    #[test]
    fn clocks() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let later = Some(now + Duration::from_secs(100));
        for (newest, synchronized, level) in [
            (None, None, Level::Ok),
            (Some(now), Some(true), Level::Ok),
            (Some(now), Some(false), Level::Warning),
            (later, Some(true), Level::Critical),
        ] {
            assert_eq!(clock(now, newest, synchronized).level, level);
        }
    }

    #[test]
    fn disks() {
        let good = Disk {
            folder: "/mail".into(),
            sync: Duration::from_micros(800),
            reads_back: true,
            mount: Mount {
                source: "/dev/sda1".into(),
                kind: "ext4".into(),
                options: vec!["rw".into(), "relatime".into()],
            },
            unflushed: None,
            preloaded: None,
        };
        let with = |change: &dyn Fn(&mut Disk)| {
            let mut changed = good.clone();
            change(&mut changed);
            said(&disk(&changed))
        };
        assert_eq!(with(&|_| {}), "Ok /mail (ext4): a sync takes 0.80 ms");
        assert!(with(&|d| d.reads_back = false).starts_with("Critical what was synced"));
        let memory = with(&|d| d.mount.kind = "tmpfs".into());
        assert!(memory.starts_with("Critical /mail lies in memory (tmpfs)"));
        for option in LYING {
            let lying = with(&|d| d.mount.options.push(option.into()));
            let start = format!("Critical /mail is mounted with {option}: ");
            assert!(lying.starts_with(&start), "{lying}");
        }
        let preloaded = with(&|d| d.preloaded = Some("/lib/libeatmydata.so".into()));
        assert!(preloaded.starts_with("Critical /lib/libeatmydata.so takes syncs away"));
        let unflushed = with(&|d| {
            let (disk, at) = ("sda".into(), "dm-0".into());
            d.unflushed = Some(Unflushed { disk, at });
        });
        assert!(unflushed.starts_with("Critical /mail: the cache of sda is not emptied"));
        let slow = with(&|d| d.sync = Duration::from_millis(80));
        assert_eq!(slow, "Warning /mail: a sync takes 80 ms");
        let none = with(&|d| d.sync = Duration::from_nanos(900));
        assert!(none.starts_with("Warning /mail: a sync takes 0.001 ms, which no disk"));
    }

    #[test]
    fn rights_of_files() {
        let path = Path::new("key.pem");
        let of = |mode, uid| {
            rights(
                path,
                Rights {
                    mode,
                    uid,
                    owner: 7,
                },
            )
        };
        assert_eq!(of(0o100_600, 7), None);
        assert_eq!(of(0o40_700, 7), None);
        let open = of(0o100_640, 7).unwrap();
        assert_eq!(open.text, "others may use key.pem: mode 640");
        assert_eq!(open.mend.as_deref(), Some("chmod go= key.pem"));
        let foreign = of(0o100_600, 0).unwrap();
        assert_eq!(foreign.text, "key.pem belongs to user 0");
    }

    #[test]
    fn limits() {
        assert_eq!(watches(10, Some(100)).level, Level::Ok);
        assert_eq!(watches(10, None).level, Level::Ok);
        assert_eq!(watches(95, Some(100)).level, Level::Warning);
        let hours = |n: u64| Some(Duration::from_secs(n * 3600));
        for (n, held, oldest, expected) in [
            (0, 0, None, "Ok empty"),
            (3, 0, hours(1), "Ok 3 messages wait, the oldest for 1 hours"),
            (
                3,
                1,
                hours(9),
                "Warning 3 messages wait, 1 of them held, the oldest for 9 hours",
            ),
            (
                2_000,
                0,
                hours(0),
                "Warning 2000 messages wait, the oldest for 0 hours",
            ),
        ] {
            assert_eq!(said(&backlog(n, held, oldest)), expected);
        }
    }

    #[test]
    fn records_of_domains() {
        let of = |kind, name: &str| Record {
            name: name.into(),
            kind,
            value: "x".into(),
            why: "reason",
        };
        let differs = State::Differs {
            found: vec!["y".into()],
        };
        let unknown = State::Unknown {
            reason: "late".into(),
        };
        let (mx, ptr) = (
            of(Kind::Mx, "example.org"),
            of(Kind::Ptr, "7.2.in-addr.arpa"),
        );
        let (spf, key) = (
            of(Kind::Txt, "example.org"),
            of(Kind::Txt, "k._domainkey.example.org"),
        );
        let srv = of(Kind::Srv, "_submission._tcp.example.org");
        for (one, state, expected) in [
            (&mx, &State::There, None),
            (&mx, &State::Missing, Some(Level::Critical)),
            (&mx, &unknown, Some(Level::Warning)),
            (&ptr, &differs, Some(Level::Warning)),
            (&spf, &State::Missing, Some(Level::Warning)),
            (&spf, &differs, None),
            (&key, &differs, Some(Level::Critical)),
            (&srv, &State::Missing, None),
        ] {
            let found = record(one, state);
            assert_eq!(
                found.map(|finding| finding.level),
                expected,
                "{one:?} {state:?}"
            );
        }
    }
}
