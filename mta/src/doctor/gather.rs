//! The facts of this machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Advice, fadvise};

use super::judge::{self, Disk, Rights};
use super::storage::{self, Mount};
use super::{Finding, Level};
use crate::config::Config;
use crate::queue::Queue;
use crate::queue::disk::Folder;
use crate::server::tls::Certificates;

/// So many syncs are timed.
const SYNCS: usize = 11;
const BLOCK: [u8; 4096] = [b'x'; 4096];

/// How long each certificate is valid.
pub fn certificates(config: &Config, now: SystemTime) -> Vec<Finding> {
    let trouble = |text: String| {
        let mend = "see [tls] of the configuration";
        vec![Finding::bad("certificate", Level::Critical, text, mend)]
    };
    if let Err(reason) = config.must_have_certificate() {
        return trouble(reason);
    }
    if !config.tls.is_there() {
        let text = "none: mail comes in clear";
        let mend = "name one in [tls] of the configuration";
        return vec![Finding::bad("certificate", Level::Warning, text, mend)];
    }
    match Certificates::read(&config.tls.pairs) {
        Err(error) => trouble(error.to_string()),
        Ok(read) => {
            let ends = read.ends().into_iter();
            ends.map(|(pair, end)| judge::certificate(&pair.certificate, end, now))
                .collect()
        }
    }
}

/// Whether the clock is right.
pub fn clock(data: &Path, now: SystemTime) -> Finding {
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let times = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    judge::clock(now, times.max(), is_synchronized())
}

/// What systemd says; nothing where there is none.
fn is_synchronized() -> Option<bool> {
    let mut asked = Command::new("timedatectl");
    asked.args(["show", "--property=NTPSynchronized", "--value"]);
    let output = asked
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// Whether the disks of the host's folders keep what they were given, and how
/// fast.
pub fn disks(data: &Path) -> Vec<Finding> {
    let folders = [data.to_owned(), data.join("queue"), data.join("mail")];
    let mut seen = Vec::new();
    // Mail may lie on another disk than the rest.
    let folders = folders.iter().filter(|folder| {
        let device = fs::metadata(folder).map(|found| found.dev());
        let is_new = match device {
            Ok(device) => !seen.contains(&device),
            Err(_) => *folder == data,
        };
        seen.extend(device.ok());
        is_new
    });
    folders.map(|folder| disk(folder)).collect()
}

fn disk(folder: &Path) -> Finding {
    let tried = try_disk(folder).map(|(sync, reads_back)| {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let at = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let mount = Mount::of(&at, &mounts);
        judge::disk(&Disk {
            folder: folder.to_owned(),
            sync,
            reads_back,
            unflushed: storage::unflushed(&at, &mount, "/sys".as_ref()),
            preloaded: storage::preloaded("/proc".as_ref()),
            mount,
        })
    });
    tried.unwrap_or_else(|error| {
        let text = format!("{} cannot be written: {error}", folder.display());
        Finding::bad(
            "disk",
            Level::Critical,
            text,
            "make room, or see to its rights",
        )
    })
}

/// The middle time of a sync, and whether all could be read again.
fn try_disk(folder: &Path) -> io::Result<(Duration, bool)> {
    let path = folder.join(format!(".doctor.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(&path)?;
    let tried = sync_and_read(&mut file);
    fs::remove_file(&path)?;
    tried
}

fn sync_and_read(file: &mut File) -> io::Result<(Duration, bool)> {
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&BLOCK)?;
        let begin = Instant::now();
        file.sync_all()?;
        times.push(begin.elapsed());
    }
    // Without this it would come from memory.
    fadvise(&*file, 0, None, Advice::DontNeed)?;
    let mut read = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut read)?;
    times.sort_unstable();
    Ok((times[SYNCS / 2], read == BLOCK.repeat(SYNCS)))
}

/// Whether what only the host may read is read by it alone.
pub fn rights(config: &Config) -> Vec<Finding> {
    let data = &config.data;
    let user = config.user.as_deref();
    let user = user.and_then(|name| nix::unistd::User::from_name(name).ok().flatten());
    let owner = match fs::metadata(data) {
        Ok(found) => user.map_or(found.uid(), |user| user.uid.as_raw()),
        Err(error) => {
            let text = format!("{} cannot be looked at: {error}", data.display());
            let mend = "`postern init DOMAIN` makes a host";
            return vec![Finding::bad("rights", Level::Critical, text, mend)];
        }
    };
    let mut found = Vec::new();
    let files = [
        "accounts.db",
        "greylist.db",
        "journal",
        "queue",
        "quarantine",
        "models",
    ];
    // A key that the server cannot read leaves mail unsigned.
    let keys = ["dkim", "secrets"].map(|name| with_all_below(data.join(name)));
    let files = files.map(|name| data.join(name)).into_iter();
    for path in files
        .chain(keys.into_iter().flatten())
        .chain([data.clone()])
    {
        let path = &path;
        found.extend(of(path).and_then(|(mode, uid)| {
            let rights = Rights { mode, uid, owner };
            judge::rights(path, rights)
        }));
    }
    for pair in &config.tls.pairs {
        // Keys of the administrator's are read before rights are given up.
        found.extend(of(&pair.key).and_then(|(mode, uid)| {
            let owner = if uid == 0 { 0 } else { owner };
            // Debian's group for keys may read them.
            let mode = mode & !0o040;
            judge::rights(&pair.key, Rights { mode, uid, owner })
        }));
    }
    if found.is_empty() {
        found.push(Finding::ok("rights", "what the host keeps is its own"));
    }
    found
}

/// Links are not followed.
fn with_all_below(path: PathBuf) -> Vec<PathBuf> {
    let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
    let inside = is_folder.then(|| fs::read_dir(&path));
    let inside = inside.into_iter().flatten().flatten().flatten();
    let mut all: Vec<_> = inside
        .flat_map(|entry| with_all_below(entry.path()))
        .collect();
    all.push(path);
    all
}

fn of(path: &Path) -> Option<(u32, u32)> {
    let found = fs::metadata(path).ok()?;
    Some((found.mode(), found.uid()))
}

/// Whether all folders of mail can be watched.
pub fn watches(mail: &Path) -> Finding {
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    let most = most.ok().and_then(|text| text.trim().parse().ok());
    let folders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let entries = entries.filter(|entry| entry.path().is_dir());
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let users = folders(mail)
        .into_iter()
        .flat_map(|domain| folders(&domain));
    // Each folder of a mailbox, its new and its cur.
    let needed: usize = users
        .map(|home| {
            let below = folders(&home.join("Maildir"));
            let is_folder = |path: &&PathBuf| path.join("cur").is_dir();
            3 * (1 + below.iter().filter(is_folder).count())
        })
        .sum();
    judge::watches(needed as u64, most)
}

/// What waits in the queue.
pub fn backlog(queue: &Path, now: SystemTime) -> Finding {
    if !queue.exists() {
        return judge::backlog(0, 0, None);
    }
    let looked = Folder::open(queue).and_then(|folder| {
        let queue = Queue::new(folder);
        let ids = queue.ids()?;
        let (mut held, mut oldest) = (0, u64::MAX);
        for id in &ids {
            // One that has gone meanwhile is none.
            if let Some(found) = queue.look(id)? {
                held += usize::from(found.entry.is_held);
                oldest = oldest.min(found.entry.arrived);
            }
        }
        Ok((ids.len(), held, oldest))
    });
    match looked {
        Ok((n, held, oldest)) => {
            let oldest = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(oldest));
            let age = oldest.and_then(|oldest| now.duration_since(oldest).ok());
            judge::backlog(n, held, age)
        }
        Err(error) => {
            let text = format!("{} cannot be read: {error}", queue.display());
            let mend = "see to its rights, or move the file that is named away";
            Finding::bad("queue", Level::Critical, text, mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_timed_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (time, reads_back) = try_disk(dir.path()).unwrap();
        assert!(reads_back && time < Duration::from_secs(60));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
