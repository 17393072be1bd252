//! Who holds a lock on a file.
//!
//! Read from the kernel's list of locks (Linux), so that it is true at that
//! moment; a note beside the database would outlive a killed owner. Asking
//! with `fcntl` would need the file opened, and closing it again gives up
//! this process's own lock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// "bmfd (process 123)", or `None` where the kernel does not say.
pub(crate) fn of(lock: &Path) -> Option<String> {
    let lock = fs::metadata(lock).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks
        .lines()
        .find_map(|line| holder(line, lock.dev(), lock.ino()))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} (process {pid})", name.trim_end()))
}

/// The process in a line such as
/// `1: POSIX  ADVISORY  WRITE 1462 08:02:5365790 0 EOF`, when the line is
/// about this file. A process that waits (`1: -> POSIX ...`) holds nothing.
fn holder(line: &str, device: u64, inode: u64) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "POSIX" {
        return None;
    }
    let pid = fields.nth(2)?;
    (fields.next()? == file_id(device, inode))
        .then(|| pid.parse().ok())
        .flatten()
}

/// Device and inode as in `/proc/locks`: major and minor number in
/// hexadecimal, as `stat` packs them on Linux, and the inode.
fn file_id(device: u64, inode: u64) -> String {
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    format!("{major:02x}:{minor:02x}:{inode}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_list() {
        let device = 0xfe << 8;
        let check = |line, expected| assert_eq!(holder(line, device, 77), expected, "{line}");
        check("1: POSIX  ADVISORY  WRITE 1462 fe:00:77 0 EOF", Some(1462));
        check("1: POSIX  ADVISORY  WRITE 1462 fe:01:77 0 EOF", None);
        check("1: POSIX  ADVISORY  WRITE 1462 fe:00:78 0 EOF", None);
        check("1: FLOCK  ADVISORY  WRITE 1462 fe:00:77 0 EOF", None);
        check("1: -> POSIX  ADVISORY  WRITE 1462 fe:00:77 0 EOF", None);
        check("1: POSIX  ADVISORY  WRITE -1 fe:00:77 0 EOF", None);
        check("1: POSIX", None);
        check("", None);
    }
}
