//! The list of cmd5checkpw and qmail-chkpw: `user:password`, a line each.

use std::fmt;

use crate::accounts::PasswordHash;

/// Somebody with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Where it stands, counted from 1.
    pub line: usize,
    /// As it is typed.
    pub name: String,
    /// The password, or what is kept of it.
    pub kept: Kept,
}

/// What stands behind the colon.
#[derive(Clone, PartialEq, Eq)]
pub enum Kept {
    /// The password itself.
    Clear(String),
    /// Its hash.
    Hash(PasswordHash),
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// Reads the lines; what is wrong with others, by number, without a password.
pub fn parse(text: &[u8]) -> (Vec<Login>, Vec<(usize, String)>) {
    let text = String::from_utf8_lossy(text);
    let (mut logins, mut wrong): (Vec<Login>, _) = (Vec::new(), Vec::new());
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        let Some((name, password)) = line.split_once(':').filter(|(_, text)| !text.is_empty())
        else {
            wrong.push((number, "a name, a colon and a password are needed".into()));
            continue;
        };
        let name = name.to_ascii_lowercase();
        if logins.iter().any(|login| login.name == name) {
            wrong.push((number, format!("{name} has a line above, which counts")));
            continue;
        }
        // As qmail-chkpw tells them apart.
        let mut bytes = password.bytes();
        let is_hash = bytes.next() == Some(b'$')
            && bytes.next().is_some_and(|b| b.is_ascii_digit())
            && password[2..].contains('$');
        let kept = match is_hash {
            false => Kept::Clear(password.to_owned()),
            true => match password.parse() {
                Ok(hash) => Kept::Hash(hash),
                Err(why) => {
                    wrong.push((number, format!("{name}: {why}")));
                    continue;
                }
            },
        };
        logins.push(Login {
            line: number,
            name,
            kept,
        });
    }
    (logins, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_name_counts() {
        let text = "Anna:secret:with colon\nbob@example.org:$1$saltstri$tLUlViHb5yJ7X0Ds1jy3B.\n\
                    anna:other\nnone\ncarl:$9$x$y\ndora:$money\n";
        let (logins, wrong) = parse(text.as_bytes());
        let names: Vec<&str> = logins.iter().map(|login| login.name.as_str()).collect();
        assert_eq!(names, ["anna", "bob@example.org", "dora"]);
        assert!(logins[0].kept == Kept::Clear("secret:with colon".into()));
        assert!(matches!(logins[1].kept, Kept::Hash(_)));
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }
}
