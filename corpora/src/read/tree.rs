//! Files by name: of a folder, of an archive, or one file alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::trec;
use crate::Error;

/// Names (parts joined by `/`) and contents. Names are ordered with numbers
/// by value, so that `inmail.10` follows `inmail.9`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<NaturalName, Vec<u8>>,
}

impl Tree {
    /// The TREC index that `path` is, or that stands in the folder `path`,
    /// with the folder to which its names relate.
    pub(super) fn index_beside(path: &Path) -> Option<(PathBuf, PathBuf)> {
        let is_index = |file: &Path| {
            let mut begin = Vec::new();
            let opened = File::open(file).ok()?;
            opened.take(4096).read_to_end(&mut begin).ok()?;
            trec::looks_like_index(&begin).then(|| file.to_path_buf())
        };
        let found = if path.is_dir() {
            INDEX_NAMES
                .iter()
                .find_map(|name| is_index(&path.join(name)))
        } else {
            is_index(path)
        };
        found.map(|index| {
            let folder = index.parent().map(Path::to_path_buf).unwrap_or_default();
            (index, folder)
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        if path.is_dir() {
            tree.add_folder(path, "")?;
            return Ok(tree);
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let name = path.to_string_lossy().to_ascii_lowercase();
        let mut file = BufReader::new(file);
        if let Some(mut plain) = decompressed(&name, &mut file, path)? {
            tree.add_archive(&mut plain)
                .map_err(Error::io("unpack", path))?;
        } else {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)
                .map_err(Error::io("read", path))?;
            let name = path.file_name().unwrap_or(path.as_os_str());
            tree.insert(&name.to_string_lossy(), bytes);
        }
        Ok(tree)
    }

    /// All files in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.text.as_str(), bytes.as_slice()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(&NaturalName::new(name)).map(Vec::as_slice)
    }

    /// The name of the TREC index inside, if there is one.
    pub(super) fn find_index(&self) -> Option<String> {
        let is_index = |name: &str| {
            INDEX_NAMES
                .iter()
                .any(|index| name == *index || name.ends_with(&format!("/{index}")))
        };
        self.files
            .iter()
            .find(|(name, text)| is_index(&name.text) && trec::looks_like_index(text))
            .map(|(name, _)| name.text.clone())
    }

    /// The files that are mail: in a Maildir those below `cur` and `new`,
    /// elsewhere all whose names do not begin with a dot.
    pub(super) fn mail_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let in_maildir = |name: &str| {
            name.starts_with("cur/")
                || name.starts_with("new/")
                || name.contains("/cur/")
                || name.contains("/new/")
        };
        let maildir = self.files.keys().any(|name| in_maildir(&name.text));
        self.files.iter().filter_map(move |(name, bytes)| {
            let last = name.text.rsplit('/').next().unwrap_or_default();
            let wanted = if maildir {
                in_maildir(&name.text)
            } else {
                !last.starts_with('.')
            };
            (wanted && !bytes.is_empty()).then_some((name.text.as_str(), bytes.as_slice()))
        })
    }

    fn insert(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(NaturalName::new(name), bytes);
    }

    /// Symbolic links are followed to files, not to folders: no loops.
    fn add_folder(&mut self, folder: &Path, prefix: &str) -> Result<(), Error> {
        for entry in fs::read_dir(folder).map_err(Error::io("open", folder))? {
            let entry = entry.map_err(Error::io("read", folder))?;
            let path = entry.path();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(Error::io("examine", &path))?;
            if kind.is_dir() {
                self.add_folder(&path, &format!("{name}/"))?;
            } else if path.is_file() {
                let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
                self.insert(&name, bytes);
            }
        }
        Ok(())
    }

    fn add_archive(&mut self, plain: &mut dyn Read) -> std::io::Result<()> {
        for entry in tar::Archive::new(plain).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path()?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            self.insert(&joined("", &name), bytes);
        }
        Ok(())
    }
}

const INDEX_NAMES: [&str; 2] = ["index", "full/index"];

/// The bytes of a tar archive, or `None` when `name` is not one's.
fn decompressed<'a>(
    name: &str,
    file: &'a mut BufReader<File>,
    path: &Path,
) -> Result<Option<Box<dyn Read + 'a>>, Error> {
    let is = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    Ok(Some(if is(&[".tar"]) {
        Box::new(file)
    } else if is(&[".tar.gz", ".tgz"]) {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else if is(&[".tar.bz2", ".tbz"]) {
        Box::new(bzip2::read::MultiBzDecoder::new(file))
    } else if is(&[".tar.xz", ".txz"]) {
        let mut plain = Vec::new();
        lzma_rs::xz_decompress(file, &mut plain)
            .map_err(|error| std::io::Error::other(format!("{error:?}")))
            .map_err(Error::io("unpack", path))?;
        Box::new(std::io::Cursor::new(plain))
    } else if is(&[".tar.zst", ".tzst"]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(file)
            .map_err(std::io::Error::other)
            .map_err(Error::io("unpack", path))?;
        Box::new(decoder)
    } else {
        return Ok(None);
    }))
}

/// `path` as seen from `folder`, without `.` and `..`.
pub(super) fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A name that orders by its parts, runs of digits by their value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NaturalName {
    parts: Vec<(String, u128)>,
    text: String,
}

impl NaturalName {
    fn new(name: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = name;
        while !rest.is_empty() {
            let digit = |c: char| c.is_ascii_digit();
            let word = rest.find(digit).unwrap_or(rest.len());
            let (letters, after) = rest.split_at(word);
            let end = after.find(|c| !digit(c)).unwrap_or(after.len());
            let (number, after) = after.split_at(end);
            parts.push((letters.to_owned(), number.parse().unwrap_or(u128::MAX)));
            rest = after;
        }
        Self {
            parts,
            text: name.to_owned(),
        }
    }
}
