//! The files of a folder of mail that a person has sorted already.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::classic::Layout;

/// Where messages lie, and how, if that is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MailFile {
    pub(super) path: PathBuf,
    pub(super) layout: Option<Layout>,
}

/// The files below `path`, in order of their names: itself, if it is a file;
/// those in `new` and `cur` of a Maildir; or those that lie in the folder.
/// Links, sub-folders and names that begin with a dot are left out.
pub(super) fn files(path: &Path) -> io::Result<Vec<MailFile>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![MailFile {
            path: path.into(),
            layout: None,
        }]);
    }
    let parts = ["new", "cur"].map(|part| path.join(part));
    if !parts.iter().any(|part| part.is_dir()) {
        let files = files_in(path, None)?;
        if files.is_empty() && holds_folders(path)? {
            let what = "it holds folders and no mail; name one that holds mail";
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        return Ok(files);
    }
    let mut all = Vec::new();
    for part in parts.iter().filter(|part| part.is_dir()) {
        all.extend(files_in(part, Some(Layout::Single))?);
    }
    Ok(all)
}

fn holds_folders(path: &Path) -> io::Result<bool> {
    let entries = fs::read_dir(path)?;
    let kinds = entries.map(|entry| entry?.file_type());
    let kinds = kinds.collect::<io::Result<Vec<_>>>()?;
    Ok(kinds.iter().any(|kind| kind.is_dir()))
}

/// Refuses a file that is an archive or compressed, which would be learned as one
/// message.
pub(super) fn check_unpacked(file: &File) -> io::Result<()> {
    // gzip, xz, zstd, bzip2, zip
    const BEGINS: [&[u8]; 5] = [
        b"\x1f\x8b",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"BZh",
        b"PK\x03\x04",
    ];
    // Of tar, behind the first name.
    const MARK: (u64, &[u8; 5]) = (257, b"ustar");
    let (mut begin, mut mark) = ([0; 6], [0; MARK.1.len()]);
    let n = file.read_at(&mut begin, 0)?;
    file.read_at(&mut mark, MARK.0)?;
    let what = if BEGINS.iter().any(|of| begin[..n].starts_with(of)) {
        "it is compressed; unpack it first"
    } else if mark == *MARK.1 && begin[..n].iter().all(|byte| *byte != b'\n') {
        "it is an archive; unpack it first"
    } else {
        return Ok(());
    };
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

fn files_in(folder: &Path, layout: Option<Layout>) -> io::Result<Vec<MailFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type()?.is_file() {
            files.push(MailFile {
                path: entry.path(),
                layout,
            });
        }
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let name = |file: MailFile| {
            let path = file.path.strip_prefix(path).unwrap_or(&file.path);
            path.to_string_lossy().into_owned()
        };
        files(path).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn a_maildir_a_folder_of_files_and_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(names(dir.path()), ["a", "b"]);
        assert_eq!(names(&dir.path().join("a")).len(), 1);
        for part in ["tmp", "new", "cur"] {
            fs::create_dir(dir.path().join(part)).unwrap();
            fs::write(dir.path().join(part).join("m"), "x").unwrap();
        }
        assert_eq!(names(dir.path()), ["new/m", "cur/m"]);
        assert!(files(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_folder_of_folders_and_a_compressed_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(files(dir.path()).unwrap(), []);
        fs::create_dir(dir.path().join("2026")).unwrap();
        let error = files(dir.path()).unwrap_err().to_string();
        assert!(error.contains("holds folders"), "{error}");

        let path = dir.path().join("mail");
        for (begin, is_mail) in [
            (&b""[..], true),
            (b"P", true),
            (b"From a", true),
            (b"BZ is a subject", true),
            (b"\x1f\x8b\x08\0", false),
            (b"\xfd7zXZ\0\0", false),
            (&[&[b'a'; 257][..], b"ustar\0"].concat(), false),
            (&[b"Ab:\n", &[b'a'; 253][..], b"ustar\0"].concat(), true),
        ] {
            fs::write(&path, begin).unwrap();
            let checked = check_unpacked(&File::open(&path).unwrap());
            assert_eq!(checked.is_ok(), is_mail, "{begin:?}");
        }
    }
}
