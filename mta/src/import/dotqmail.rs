//! What the lines of a `.qmail` file say, and the same for a folder of ours.

use std::path::{Component, Path, PathBuf};

use super::report::Outcome;
use super::source::Content;
use crate::smtp::Mailbox;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To go on to this address, as it stands there.
    Forward(String),
    /// To lie in this Maildir.
    Maildir(PathBuf),
    /// To lie in this mbox.
    Mbox(PathBuf),
    /// To be given to this command.
    Program(String),
}

/// The lines of a file, as qmail reads them in the folder `home`.
pub fn steps(content: &Content, home: &Path) -> Vec<(usize, Step)> {
    let lines = content.bytes.split(|b| *b == b'\n').zip(1..);
    let steps = lines.filter_map(|(line, number)| {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches([' ', '\t', '\r']);
        let step = match text.chars().next()? {
            '#' | '+' => return None,
            '|' => Step::Program(text[1..].to_owned()),
            '.' | '/' => {
                let path = plain(&home.join(text));
                match text.ends_with('/') {
                    true => Step::Maildir(path),
                    false => Step::Mbox(path),
                }
            }
            _ => Step::Forward(text.strip_prefix('&').unwrap_or(text).to_owned()),
        };
        Some((number, step))
    });
    steps.collect()
}

/// A file for a folder of ours, and what is to be said of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The file.
    pub text: Vec<u8>,
    /// Outcome, line, its text, and why.
    pub notes: Vec<(Outcome, usize, String, String)>,
}

/// The file of the folder `home` for a folder of ours. `outside` gives an
/// address that means the same everywhere.
pub fn rewrite(content: &Content, home: &Path, outside: impl Fn(&str) -> String) -> Rewritten {
    let mut all = Rewritten::default();
    let mut had_steps = false;
    let mut has_steps = false;
    let mut lines: Vec<&[u8]> = content.bytes.split(|b| *b == b'\n').collect();
    // What follows the last line's end is no line.
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    for (line, number) in lines.into_iter().zip(1..) {
        let whole = String::from_utf8_lossy(line);
        let text = whole.trim_end_matches([' ', '\t', '\r']);
        if line.contains(&b'\r') {
            let why = "it ends with a carriage return, which qmail takes for a part of it; here it is none";
            all.note(Outcome::Changed, number, text, why);
        }
        let is_step = !matches!(text.chars().next(), None | Some('#' | '+'));
        had_steps |= is_step;
        let said = match text.chars().next() {
            None if number == 1 => {
                let why = "the first line is blank: qmail and we both keep the mail waiting";
                all.note(Outcome::ToDo, number, text, why);
                Ok(String::new())
            }
            None | Some('#' | '+') => Ok(text.to_owned()),
            Some('|') => {
                let why = "it runs here only for who may: `postern user set ADDRESS --programs on`; until then mail waits";
                all.note(Outcome::ToDo, number, text, why);
                Ok(text.to_owned())
            }
            Some('.' | '/') => inside(text, home).inspect(|said| {
                if said != text {
                    all.note(Outcome::Carried, number, text, said);
                }
            }),
            Some(_) => {
                let address = outside(text.strip_prefix('&').unwrap_or(text));
                match Mailbox::parse(address.as_bytes()) {
                    Ok(mailbox) => Ok(format!("&{mailbox}")),
                    Err(error) => Err(format!("{error}")),
                }
            }
        };
        match said {
            Ok(said) => {
                has_steps |= is_step;
                all.text.extend_from_slice(said.as_bytes());
            }
            Err(why) => {
                all.note(Outcome::Left, number, text, &why);
                all.text.extend_from_slice(format!("# {text}").as_bytes());
            }
        }
        all.text.push(b'\n');
    }
    if had_steps && !has_steps {
        all.text.extend_from_slice(b"./Maildir/\n");
        let why = "no line of it could be carried over, so that mail goes to the mailbox";
        all.note(Outcome::Changed, 1, "", why);
    }
    all
}

impl Rewritten {
    fn note(&mut self, outcome: Outcome, line: usize, text: &str, why: &str) {
        self.notes
            .push((outcome, line, text.to_owned(), why.to_owned()));
    }
}

/// A path as it is from the user's folder.
fn inside(text: &str, home: &Path) -> Result<String, String> {
    let path = plain(&home.join(text));
    let below = path.strip_prefix(plain(home)).ok();
    let below = below.filter(|below| !below.as_os_str().is_empty());
    let below =
        below.ok_or("it leads out of the user's folder, and all mail is the host's here")?;
    let end = if text.ends_with('/') { "/" } else { "" };
    Ok(format!("./{}{end}", below.display()))
}

/// Without `.` and `..`; what leads above `/` stays there.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (String, Vec<(Outcome, usize)>) {
        let content = Content {
            bytes: text.into(),
            mode: 0o644,
        };
        let outside = |address: &str| match address.contains('@') {
            true => address.to_owned(),
            false => format!("{address}@example.org"),
        };
        let all = rewrite(&content, Path::new("/home/bob"), outside);
        let notes = all
            .notes
            .into_iter()
            .map(|(outcome, line, ..)| (outcome, line));
        (String::from_utf8(all.text).unwrap(), notes.collect())
    }

    #[test]
    fn lines_mean_the_same_in_another_folder() {
        use Outcome::{Carried, Changed, Left, ToDo};
        for (text, expected, notes) in [
            ("", "", &[][..]),
            ("./Maildir/", "./Maildir/\n", &[]),
            ("/home/bob/Maildir/\n", "./Maildir/\n", &[(Carried, 1)]),
            ("./a/../Mailbox\n", "./Mailbox\n", &[(Carried, 1)]),
            (
                "&anna\nbob@example.net \n",
                "&anna@example.org\n&bob@example.net\n",
                &[],
            ),
            ("# none\n", "# none\n", &[]),
            ("|cat\n", "|cat\n", &[(ToDo, 1)]),
            ("anna\r\n", "&anna@example.org\n", &[(Changed, 1)]),
            (
                "/srv/box/\n&anna\n",
                "# /srv/box/\n&anna@example.org\n",
                &[(Left, 1)],
            ),
            (
                "../eve/Maildir/\n",
                "# ../eve/Maildir/\n./Maildir/\n",
                &[(Left, 1), (Changed, 1)],
            ),
            ("&a b\n&c\n", "# &a b\n&c@example.org\n", &[(Left, 1)]),
            ("\n&c\n", "\n&c@example.org\n", &[(ToDo, 1)]),
            ("+list\n&c\n", "+list\n&c@example.org\n", &[]),
        ] {
            assert_eq!(
                rewritten(text),
                (expected.to_owned(), notes.to_vec()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn steps_are_those_of_qmail() {
        let text = "# x\n./Maildir/\n/srv/box\n|preline x\n&anna\nbob@example.net";
        let content = Content {
            bytes: text.into(),
            mode: 0o600,
        };
        let found = steps(&content, Path::new("/home/bob"));
        let expected = [
            (2, Step::Maildir("/home/bob/Maildir".into())),
            (3, Step::Mbox("/srv/box".into())),
            (4, Step::Program("preline x".into())),
            (5, Step::Forward("anna".into())),
            (6, Step::Forward("bob@example.net".into())),
        ];
        assert_eq!(found, expected);
    }
}
