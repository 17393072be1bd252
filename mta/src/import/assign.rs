//! qmail's `users/assign`, and the `users/cdb` that is made of it.

use std::collections::HashMap;
use std::path::PathBuf;

use super::cdb;

/// Who gets the mail of a local name, or of all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Where it stands, counted from 1; of a cdb, the record.
    pub line: usize,
    /// In lower case.
    pub key: String,
    /// Whether it stands for all names that begin so.
    pub is_prefix: bool,
    /// The user's name.
    pub user: String,
    /// The user's folder.
    pub home: PathBuf,
    /// What follows `.qmail` in names of files.
    pub dash: String,
    /// What follows that.
    pub extension: String,
    /// Whether it is root, whom qmail refuses.
    pub is_root: bool,
}

/// All lines, and those that are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assign {
    /// In the order of the file.
    pub all: Vec<Assignment>,
    /// Each with its number, its text and what is wrong with it.
    pub wrong: Vec<(usize, String, String)>,
    /// Whether the line with a dot, which ends it, is there.
    pub is_whole: bool,
}

impl Assign {
    /// Reads the text.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut assign = Self::default();
        for (line, number) in bytes.split(|b| *b == b'\n').zip(1..) {
            let line = String::from_utf8_lossy(line);
            if line.starts_with('.') {
                assign.is_whole = true;
                break;
            }
            match assignment(number, &line) {
                Ok(assignment) => assign.all.push(assignment),
                // What follows the last line's end is none.
                Err(_) if line.is_empty() => {}
                Err(why) => assign.wrong.push((number, line.into_owned(), why)),
            }
        }
        assign
    }

    /// Reads the cdb.
    ///
    /// # Errors
    /// With the reason when it is none.
    pub fn of_cdb(bytes: &[u8]) -> Result<Self, String> {
        let mut assign = Self {
            is_whole: true,
            ..Self::default()
        };
        for ((key, data), number) in cdb::records(bytes)?.into_iter().zip(1..) {
            let Some(name) = key.strip_prefix(b"!") else {
                continue;
            };
            let name = String::from_utf8_lossy(name);
            let (mark, name) = match name.strip_suffix('\0') {
                Some(name) => ('=', name),
                None => ('+', &*name),
            };
            let data = String::from_utf8_lossy(data).replace('\0', ":");
            match assignment(number, &format!("{mark}{name}:{data}:")) {
                Ok(assignment) => assign.all.push(assignment),
                Err(why) => assign.wrong.push((number, name.to_owned(), why)),
            }
        }
        Ok(assign)
    }

    /// Which assignment counts for a local name: the exact one, else the
    /// longest that it begins with; of two that are the same the first.
    pub fn find(&self, name: &str) -> Option<&Assignment> {
        let exact = self
            .all
            .iter()
            .find(|one| !one.is_prefix && one.key == name);
        exact.or_else(|| {
            let mut best: Option<&Assignment> = None;
            for one in self.all.iter().filter(|one| one.is_prefix) {
                let is_longer = best.is_none_or(|best| one.key.len() > best.key.len());
                if is_longer && name.starts_with(&one.key) {
                    best = Some(one);
                }
            }
            best
        })
    }

    /// The lines that another one makes of no use: its key stands before.
    pub fn hidden(&self) -> Vec<&Assignment> {
        let mut first: HashMap<(bool, &str), usize> = HashMap::new();
        let mut hidden = Vec::new();
        for one in &self.all {
            if first.insert((one.is_prefix, &one.key), one.line).is_some() {
                hidden.push(one);
            }
        }
        hidden
    }

    /// The keys that `other` says something else of.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let said = |assign: &Self| {
            let mut said = HashMap::new();
            for one in assign.all.iter().rev() {
                let mark = if one.is_prefix { '+' } else { '=' };
                let (home, dash) = (one.home.clone(), one.dash.clone());
                said.insert(
                    format!("{mark}{}", one.key),
                    (home, dash, one.extension.clone()),
                );
            }
            said
        };
        let (ours, theirs) = (said(self), said(other));
        let mut keys: Vec<String> = ours.keys().chain(theirs.keys()).cloned().collect();
        keys.retain(|key| ours.get(key) != theirs.get(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn assignment(line: usize, text: &str) -> Result<Assignment, String> {
    let (is_prefix, rest) = match (text.strip_prefix('='), text.strip_prefix('+')) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("a line begins with = or +".into()),
    };
    let fields: Vec<&str> = rest.split(':').collect();
    let [key, user, uid, _gid, home, dash, extension, ..] = fields[..] else {
        return Err("seven fields, each with a colon behind it, are needed".into());
    };
    if rest.matches(':').count() < 7 {
        return Err("seven fields, each with a colon behind it, are needed".into());
    }
    if rest.contains('\0') {
        return Err("it holds a NUL".into());
    }
    Ok(Assignment {
        line,
        key: key.to_ascii_lowercase(),
        is_prefix,
        user: user.to_owned(),
        home: home.into(),
        dash: dash.to_owned(),
        extension: extension.to_owned(),
        is_root: uid.trim().parse() == Ok(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
=bob:bob:10007:10007:/srv/bob:::
=Bob.Shop:bob:10007:10007:/srv/bob:-:shop:
=bob:eve:1:1:/srv/eve:::
+bob-:bob:10007:10007:/srv/bob:-::
+b:other:1:1:/srv/b:-:all-:
+:alias:7001:2001:/var/qmail/alias:-::
=short:bob:1:1:/srv
no line
.
=late:x:1:1:/x:::
";

    #[test]
    fn the_exact_one_counts_then_the_longest_prefix() {
        let assign = Assign::parse(TEXT.as_bytes());
        assert!(assign.is_whole);
        let lines: Vec<usize> = assign.wrong.iter().map(|(line, ..)| *line).collect();
        assert_eq!(lines, [7, 8]);
        for (name, line) in [
            ("bob", 1),
            ("bob.shop", 2),
            ("bob-x", 4),
            ("bob-", 4),
            ("bobby", 5),
            ("b", 5),
            ("anna", 6),
            ("late", 6),
        ] {
            assert_eq!(assign.find(name).unwrap().line, line, "{name}");
        }
        let hidden: Vec<usize> = assign.hidden().iter().map(|one| one.line).collect();
        assert_eq!(hidden, [3]);
        assert!(!Assign::parse(b"=a:a:1:1:/a:::\n").is_whole);
        assert_eq!(Assign::parse(b"").find("x"), None);
    }

    #[test]
    fn a_cdb_says_what_the_text_said() {
        let fields = b"bob\x0010007\x0010007\x00/srv/bob\x00-\x00";
        let key = |text: &str| (text.as_bytes().to_vec(), fields.to_vec());
        let records = [key("!bob\0"), key("!bob-"), (Vec::new(), b"-".to_vec())];
        let bytes = crate::publish::cdb::write(&records).unwrap();
        let found = Assign::of_cdb(&bytes).unwrap();
        let text = "=bob:bob:10007:10007:/srv/bob:-::\n+bob-:bob:10007:10007:/srv/bob:-::\n.\n";
        assert_eq!(found.all, Assign::parse(text.as_bytes()).all);
        assert_eq!(found.differences(&Assign::parse(TEXT.as_bytes())).len(), 4);
        assert!(Assign::of_cdb(b"x").is_err());
    }
}
