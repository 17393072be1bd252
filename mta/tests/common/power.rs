//! A small file system that loses power: it follows what strace recorded, and
//! gives what a power cut would leave.
//!
//! Only what was synced is sure to be there: bytes by fsync of their file,
//! names by fsync of their folder. Of the rest anything may be there too, names
//! each by itself, and bytes up to any length. A rename is two changes of
//! names, of which the old one never goes before the new one has come. A folder
//! whose name is not there takes along what lies in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// The number of a file or folder.
type Inode = usize;

/// Below `root`, as it is and as it is on disk.
#[derive(Clone, Debug, Default)]
pub struct FileSystem {
    root: PathBuf,
    files: Vec<Content>,
    /// As programs see them.
    names: BTreeMap<PathBuf, Inode>,
    /// As they are on disk.
    synced: BTreeMap<PathBuf, Inode>,
    /// What is not on disk yet, in its order.
    pending: Vec<Change>,
    open: HashMap<u32, Inode>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    is_folder: bool,
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Name(PathBuf, Inode),
    NoName(PathBuf),
}

/// How much of what was not synced is there after the power cut.
pub enum Rest<'a> {
    Nothing,
    Everything,
    Some(&'a mut Rng),
}

impl FileSystem {
    /// What lies below `root`, all of it synced.
    pub fn read(root: &Path) -> Self {
        let mut found = Self {
            root: root.to_owned(),
            ..Self::default()
        };
        found.read_folder(root);
        found.synced = found.names.clone();
        found
    }

    fn read_folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let inode = if path.is_dir() {
                self.read_folder(&path);
                self.new_folder()
            } else {
                let bytes = fs::read(&path).unwrap();
                self.files.push(Content {
                    is_folder: false,
                    synced: bytes.clone(),
                    bytes,
                });
                self.files.len() - 1
            };
            self.names.insert(path, inode);
        }
    }

    fn new_folder(&mut self) -> Inode {
        self.files.push(Content {
            is_folder: true,
            ..Content::default()
        });
        self.files.len() - 1
    }

    /// What lies where mail lies, as programs see it: what files hold, and
    /// which folders there are.
    pub fn shown(&self) -> BTreeMap<&Path, Option<&[u8]>> {
        let names = self.names.iter().filter(|(path, _)| self.holds(path));
        let shown = names.map(|(path, inode)| {
            let file = &self.files[*inode];
            (&**path, (!file.is_folder).then_some(&*file.bytes))
        });
        shown.collect()
    }

    /// The program has ended; what it did not sync is still not synced.
    pub fn restarted(&mut self) {
        self.open.clear();
    }

    /// Follows a call; tells whether it was one that matters here.
    pub fn follow(&mut self, call: &Call) -> bool {
        let Call {
            name,
            arguments,
            result,
        } = call;
        let argument = |n: usize| arguments[n].as_str();
        let at = |n: usize| path_of(argument(n)).join(text_of(argument(n + 1)));
        match name.as_str() {
            "open" => self.opened(text_of(argument(0)).into(), argument(1), result),
            "openat" | "openat2" => self.opened(at(0), argument(2), result),
            "mkdir" => self.made(text_of(argument(0)).into()),
            "mkdirat" => self.made(at(0)),
            "close" => {
                self.open.remove(&number(argument(0)));
                false
            }
            "write" => self.written(argument(0), &bytes_of(argument(1)), result),
            "ftruncate" => {
                let len = argument(1).parse().unwrap();
                let Some(inode) = self.inode(argument(0)) else {
                    return false;
                };
                self.files[inode].bytes.resize(len, 0);
                true
            }
            "fsync" | "fdatasync" => self.sync(argument(0)),
            "linkat" => {
                let from = text_of(argument(1));
                let Some(fd) = from.strip_prefix("/proc/self/fd/") else {
                    panic!("a link that the model does not know: {call:?}");
                };
                let inode = self.open.get(&fd.parse().unwrap()).copied();
                let to = at(2);
                inode.is_some_and(|inode| self.change(Change::Name(to, inode)))
            }
            "renameat2" | "renameat" => {
                let (from, to) = (at(0), at(2));
                let Some(inode) = self.names.get(&from).copied() else {
                    assert!(!self.holds(&from) && !self.holds(&to), "{call:?}");
                    return false;
                };
                assert!(!self.files[inode].is_folder, "{call:?}");
                self.change(Change::Name(to, inode));
                self.change(Change::NoName(from))
            }
            "unlinkat" => self.change(Change::NoName(at(0))),
            "unlink" => self.change(Change::NoName(text_of(argument(0)).into())),
            // Others than those would change something that is not followed.
            "fchmod" | "fchown" => false,
            _ => {
                let paths = arguments.iter().map(|argument| path_of(argument));
                let texts = arguments
                    .iter()
                    .map(|argument| PathBuf::from(text_of(argument)));
                let is_here = paths.chain(texts).any(|path| self.holds(&path));
                assert!(!is_here, "the model does not know {call:?}");
                false
            }
        }
    }

    fn holds(&self, path: &Path) -> bool {
        let mut folders = ["mail", "queue"].iter();
        folders.any(|folder| path.starts_with(self.root.join(folder)))
    }

    fn made(&mut self, path: PathBuf) -> bool {
        let inode = self.new_folder();
        self.change(Change::Name(path, inode))
    }

    fn opened(&mut self, path: PathBuf, flags: &str, result: &str) -> bool {
        if !self.holds(&path) {
            return false;
        }
        let fd = number(result);
        if flags.contains("O_TMPFILE")
            || (flags.contains("O_CREAT") && !self.names.contains_key(&path))
        {
            self.files.push(Content::default());
            let inode = self.files.len() - 1;
            self.open.insert(fd, inode);
            return flags.contains("O_TMPFILE") || self.change(Change::Name(path, inode));
        }
        assert!(
            !flags.contains("O_TRUNC"),
            "the model does not know {flags}"
        );
        if let Some(inode) = self.names.get(&path)
            && !self.files[*inode].is_folder
        {
            self.open.insert(fd, *inode);
        }
        false
    }

    fn inode(&self, fd: &str) -> Option<Inode> {
        let is_here = self.holds(&path_of(fd));
        self.open.get(&number(fd)).copied().filter(|_| is_here)
    }

    /// All files here are written from their end on.
    fn written(&mut self, fd: &str, bytes: &[u8], result: &str) -> bool {
        let Some(inode) = self.inode(fd) else {
            return false;
        };
        assert_eq!(
            result.parse(),
            Ok(bytes.len()),
            "strace cut what was written"
        );
        self.files[inode].bytes.extend_from_slice(bytes);
        true
    }

    fn change(&mut self, change: Change) -> bool {
        let path = match &change {
            Change::Name(path, _) | Change::NoName(path) => path.clone(),
        };
        if !self.holds(&path) {
            return false;
        }
        apply(&mut self.names, &change);
        self.pending.push(change);
        true
    }

    fn sync(&mut self, fd: &str) -> bool {
        let path = path_of(fd);
        if !self.holds(&path) && path != self.root {
            return false;
        }
        if let Some(inode) = self.open.get(&number(fd)) {
            let file = &mut self.files[*inode];
            file.synced = file.bytes.clone();
            return true;
        }
        let lies_there = |change: &Change| match change {
            Change::Name(name, _) | Change::NoName(name) => name.parent() == Some(&path),
        };
        let (now, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| lies_there(change));
        self.pending = later;
        now.iter()
            .for_each(|change| apply(&mut self.synced, change));
        true
    }

    /// Writes what a power cut would leave now to a new folder `to`.
    pub fn cut(&self, to: &Path, mut rest: Rest<'_>) {
        let mut names = self.synced.clone();
        let mut gone = BTreeSet::new();
        for change in &self.pending {
            let is_there = match &mut rest {
                Rest::Nothing => false,
                Rest::Everything => true,
                Rest::Some(rng) => rng.bool(),
            };
            match change {
                Change::Name(_, inode) if !is_there => {
                    gone.insert(*inode);
                }
                // Its new name has not come.
                Change::NoName(path)
                    if names.get(path).is_some_and(|inode| gone.contains(inode)) => {}
                change if is_there => apply(&mut names, change),
                _ => {}
            }
        }
        fs::create_dir(to).unwrap();
        let mut folders = BTreeSet::from([self.root.clone()]);
        for (path, inode) in names {
            if path.parent().is_none_or(|folder| !folders.contains(folder)) {
                continue;
            }
            let file = &self.files[inode];
            let copy = to.join(path.strip_prefix(&self.root).unwrap());
            if file.is_folder {
                fs::create_dir(copy).unwrap();
                folders.insert(path);
                continue;
            }
            let bytes = match &mut rest {
                Rest::Nothing => file.synced.clone(),
                Rest::Everything => file.bytes.clone(),
                // Files only grow; what was synced stays.
                Rest::Some(rng) => {
                    let least = file.synced.len().min(file.bytes.len());
                    file.bytes[..rng.usize(least..=file.bytes.len())].to_vec()
                }
            };
            fs::write(copy, bytes).unwrap();
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Inode>, change: &Change) {
    match change {
        Change::Name(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::NoName(path) => {
            names.remove(path);
        }
    }
}

/// A call that succeeded, as strace prints it with `-y`.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub arguments: Vec<String>,
    pub result: String,
}

/// The calls of a log of `strace -f`, each where it ended.
pub fn calls(log: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(call) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, call);
            continue;
        }
        let whole = match call.strip_prefix("<... ") {
            Some(end) => {
                let (_, end) = end.split_once(" resumed>").unwrap();
                begun.remove(thread).unwrap().to_owned() + end
            }
            None => call.to_owned(),
        };
        calls.extend(parse(&whole));
    }
    calls
}

/// `None` for what failed, and for what is no call.
fn parse(call: &str) -> Option<Call> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ").or_else(|| {
        // strace aligns short ones.
        let (arguments, result) = rest.rsplit_once(" = ")?;
        Some((arguments.trim_end().strip_suffix(')')?, result))
    })?;
    // `?`: the program was killed in place of it.
    let failed = result.starts_with(['-', '?']);
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || failed {
        return None;
    }
    let mut split = vec![String::new()];
    let (mut quoted, mut escaped, mut depth) = (false, false, 0);
    for c in arguments.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '<' | '[' if !quoted => depth += 1,
            '}' | '>' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                split.push(String::new());
                continue;
            }
            _ => {}
        }
        split.last_mut()?.push(c);
    }
    Some(Call {
        name: name.to_owned(),
        arguments: split.iter().map(|one| one.trim().to_owned()).collect(),
        result: result.to_owned(),
    })
}

/// The number of `31</a/path>`.
fn number(fd: &str) -> u32 {
    let digits = fd.split('<').next().unwrap();
    digits.parse().unwrap_or(u32::MAX)
}

/// The path of `31</a/path>`.
pub fn path_of(fd: &str) -> PathBuf {
    let path = fd.split_once('<').map_or("", |(_, path)| path);
    path.strip_suffix('>').unwrap_or(path).into()
}

/// The text of `"a path"`.
fn text_of(argument: &str) -> String {
    String::from_utf8(bytes_of(argument)).unwrap()
}

fn bytes_of(argument: &str) -> Vec<u8> {
    let Some(inside) = argument
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    let mut rest = inside.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().unwrap() {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            digit @ b'0'..=b'7' => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    if let Some(digit) = rest.next_if(|b| (b'0'..=b'7').contains(b)) {
                        value = value * 8 + u32::from(digit - b'0');
                    }
                }
                u8::try_from(value).unwrap()
            }
            other => other,
        });
    }
    bytes
}
