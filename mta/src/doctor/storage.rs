//! Whether what is synced is kept, as far as that can be seen without cutting
//! the power: on what a folder is mounted, whether the kernel empties the
//! caches of the disks below, and whether somebody takes syncs away.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is mounted where a folder lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Of what; a path, where it is a device.
    pub source: String,
    /// The kind of its file system.
    pub kind: String,
    /// How it is mounted.
    pub options: Vec<String>,
}

impl Mount {
    /// By what stands in `/proc/mounts`.
    pub fn of(path: &Path, mounts: &str) -> Self {
        let mounted = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let mut next = || words.next();
            let (source, at, kind, options) = (next()?, next()?, next()?, next()?);
            // A blank in a path is written so.
            let at = PathBuf::from(at.replace("\\040", " "));
            path.starts_with(&at).then_some((at, source, kind, options))
        });
        // Of two at the same place the later one hides the other.
        let last = mounted.max_by_key(|(at, ..)| at.components().count());
        let (_, source, kind, options) = last.unwrap_or_default();
        Self {
            source: source.to_owned(),
            kind: kind.to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
        }
    }
}

/// A disk's cache that nobody empties when a file is synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unflushed {
    /// Whose cache it is.
    pub disk: String,
    /// The device, it or one above, for which the kernel leaves flushes out.
    pub at: String,
}

/// Looks at the device of the folder `path` and what lies below it, by what
/// `sys`, which is `/sys`, says.
pub fn unflushed(path: &Path, mount: &Mount, sys: &Path) -> Option<Unflushed> {
    let of_folder = fs::metadata(path).ok()?.dev();
    // A file system of several disks, such as btrfs, has no number of theirs.
    let number = match rustix::fs::major(of_folder) {
        0 => fs::metadata(&mount.source).ok()?.rdev(),
        _ => of_folder,
    };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    below(&sys.join(format!("dev/block/{major}:{minor}")), None)
}

fn below(device: &Path, unflushed_at: Option<&str>) -> Option<Unflushed> {
    let mut device = fs::canonicalize(device).ok()?;
    if device.join("partition").exists() {
        device.pop();
    }
    let says = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
    let cached = |text: String| text.starts_with("write back");
    let name = device.file_name()?.to_string_lossy().into_owned();
    // What the kernel does for this device, and what a SCSI disk says of itself.
    let queue = says(device.join("queue/write_cache"));
    let is_flushed = !queue.starts_with("write through");
    let disks = fs::read_dir(device.join("device/scsi_disk"));
    let disks = disks.into_iter().flatten().flatten();
    let is_cached = cached(queue)
        || disks
            .map(|disk| says(disk.path().join("cache_type")))
            .any(cached);
    let at = unflushed_at.or((!is_flushed).then_some(&name));
    if let Some(at) = at.filter(|_| is_cached) {
        let at = at.to_owned();
        return Some(Unflushed { disk: name, at });
    }
    let parts = fs::read_dir(device.join("slaves"));
    let mut parts = parts.into_iter().flatten().flatten();
    parts.find_map(|part| below(&part.path(), at))
}

/// A library that is known to take syncs away, in a process of ours; `proc` is
/// `/proc`.
pub fn preloaded(proc: &Path) -> Option<PathBuf> {
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    processes.map(|entry| entry.path()).find_map(|process| {
        let program = fs::read_link(process.join("exe")).ok()?;
        // Of one that was replaced, ` (deleted)` stands behind it.
        if !program.file_name()?.to_str()?.starts_with("postern") {
            return None;
        }
        let maps = fs::read_to_string(process.join("maps")).ok()?;
        let paths = maps
            .lines()
            .filter_map(|line| line.find('/').map(|at| &line[at..]));
        let takes = |path: &&str| {
            ["libeatmydata", "libnosync"]
                .iter()
                .any(|name| path.contains(name))
        };
        paths.clone().find(takes).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_mounted_where() {
        let mounts = "/dev/a / ext4 rw,relatime 0 0\n/dev/b /var/lib xfs rw,nobarrier 0 0\n\
                      none /var/lib/my\\040mail tmpfs rw 0 0\n";
        for (path, source, kind, option) in [
            ("/home", "/dev/a", "ext4", "relatime"),
            ("/var/library", "/dev/a", "ext4", "relatime"),
            ("/var/lib/postern", "/dev/b", "xfs", "nobarrier"),
            ("/var/lib/my mail/x", "none", "tmpfs", "rw"),
        ] {
            let found = Mount::of(path.as_ref(), mounts);
            assert_eq!((&*found.source, &*found.kind), (source, kind), "{path}");
            assert_eq!(found.options.last().unwrap(), option, "{path}");
        }
    }

    /// A partition of a disk, by which a mapped device is made.
    #[test]
    fn caches_that_nobody_empties() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let write = |path: &str, text: &str| {
            let path = sys.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let number = fs::metadata(sys).unwrap().dev();
        let number = format!(
            "{}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        );
        write("block/sda/sda1/partition", "1\n");
        fs::create_dir_all(sys.join("block/dm-0/slaves")).unwrap();
        symlink("../../sda/sda1", sys.join("block/dm-0/slaves/sda1")).unwrap();
        fs::create_dir_all(sys.join("dev/block")).unwrap();
        symlink("../../block/dm-0", sys.join("dev/block").join(number)).unwrap();
        let of = |mapped: &str, queue: &str, disk: &str| {
            write("block/dm-0/queue/write_cache", mapped);
            write("block/sda/queue/write_cache", queue);
            write("block/sda/device/scsi_disk/0:0:0:0/cache_type", disk);
            let found = unflushed(sys, &Mount::default(), sys);
            found.map(|found| (found.disk, found.at))
        };
        let found = |at: &str| Some(("sda".to_owned(), at.to_owned()));
        const BACK: &str = "write back\n";
        const THROUGH: &str = "write through\n";
        assert_eq!(of(BACK, BACK, BACK), None);
        assert_eq!(of(THROUGH, THROUGH, THROUGH), None);
        assert_eq!(of(BACK, BACK, "write back, no read (daft)\n"), None);
        assert_eq!(of(BACK, THROUGH, BACK), found("sda"));
        assert_eq!(of(THROUGH, BACK, BACK), found("dm-0"));
        assert_eq!(of(THROUGH, BACK, "none\n"), found("dm-0"));
        assert_eq!(of(THROUGH, THROUGH, BACK), found("dm-0"));
        fs::remove_dir_all(sys.join("dev")).unwrap();
        assert_eq!(of(THROUGH, BACK, BACK), None);
    }

    #[test]
    fn libraries_that_take_syncs_away() {
        let dir = tempfile::tempdir().unwrap();
        let process = |id: &str, program: &str, library: &str| {
            let folder = dir.path().join(id);
            fs::create_dir(&folder).unwrap();
            symlink(program, folder.join("exe")).unwrap();
            let maps = format!(
                "7f00-7f01 r-xp 0 fe:00 1  {program}\n7f02-7f03 r-xp 0 fe:00 2  {library}\n7f04-7f05 rw-p 0 00:00 0\n"
            );
            fs::write(folder.join("maps"), maps).unwrap();
        };
        let library = "/usr/lib/x86_64-linux-gnu/libeatmydata.so.1.3.0";
        process("7", "/usr/bin/dpkg", library);
        process("8", "/usr/bin/postern", "/usr/lib/libc.so.6");
        assert_eq!(preloaded(dir.path()), None);
        process("9", "/usr/bin/postern (deleted)", library);
        assert_eq!(preloaded(dir.path()), Some(library.into()));
    }
}
