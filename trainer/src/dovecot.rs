//! Which folders have a special use (RFC 6154) in Dovecot, as `doveconf` prints
//! its configuration.
//!
//! Dovecot 2.3 keeps special uses nowhere else: a client's
//! `CREATE x (USE (\Junk))` succeeds and leaves nothing behind, and the
//! metadata entry `/private/specialuse` says what the configuration says and
//! cannot be set. So nothing is read from mailboxes.

use std::io::{self, ErrorKind};
use std::process::Command;

use crate::Error;
use crate::decision::Role;

/// Folders with what their special use makes of them, their parts separated by
/// `/`, in no order. None where Dovecot is not installed.
///
/// # Errors
/// When `doveconf` fails, with what it said.
pub(crate) fn special_uses() -> Result<Vec<(String, Role)>, Error> {
    let failed = Error::io("ask", "doveconf");
    let output = match Command::new("doveconf").arg("namespace").output() {
        // The latter also where a folder of programs is not for this user.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(Vec::new());
        }
        output => output,
    };
    match output {
        Ok(output) if output.status.success() => {
            Ok(parse(&String::from_utf8_lossy(&output.stdout)))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().last().unwrap_or("it failed").to_owned();
            Err(failed(io::Error::other(said)))
        }
        Err(error) => Err(failed(error)),
    }
}

/// What is read of a namespace; its keys come sorted, so that what holds for
/// its folders is known only at its end.
#[derive(Default)]
struct Namespace {
    folders: Vec<(String, Role)>,
    separator: String,
    is_shared: bool,
}

fn parse(text: &str) -> Vec<(String, Role)> {
    let mut found = Vec::new();
    let mut namespace = Namespace::default();
    let (mut depth, mut mailbox) = (0_usize, "");
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_suffix('{') {
            depth += 1;
            // Other sections have no special use.
            mailbox = section.strip_prefix("mailbox ").unwrap_or_default().trim();
        } else if line == "}" {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                found.extend(std::mem::take(&mut namespace).folders());
            }
        } else if let Some((key, value)) = line.split_once(" = ") {
            match (depth, key) {
                (1, "separator") => value.clone_into(&mut namespace.separator),
                (1, "type") => namespace.is_shared = value != "private",
                (2, "special_use") => {
                    let role = value.split(' ').find_map(role);
                    let name = mailbox.trim_matches('"').to_owned();
                    namespace.folders.extend(role.map(|role| (name, role)));
                }
                _ => {}
            }
        }
    }
    found
}

impl Namespace {
    /// Those of the user's own. A pattern is no name.
    fn folders(self) -> impl Iterator<Item = (String, Role)> {
        let folders = self.folders.into_iter();
        folders
            .filter(move |(name, _)| !self.is_shared && !name.contains(['*', '?']))
            .map(move |(name, role)| match &*self.separator {
                "" | "/" => (name, role),
                separator => (name.replace(separator, "/"), role),
            })
    }
}

fn role(special_use: &str) -> Option<Role> {
    match special_use.to_ascii_lowercase().as_str() {
        r"\junk" => Some(Role::Spam),
        r"\archive" => Some(Role::Archive),
        r"\trash" | r"\sent" | r"\drafts" => Some(Role::Never),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Dovecot 2.3.19 prints it, shortened.
    const PRINTED: &str = r#"
namespace inbox {
  inbox = yes
  mailbox Junk-* {
    special_use = \Junk
  }
  mailbox Werbung {
    auto = subscribe
    autoexpunge = 0
    special_use = \Important \Junk
  }
  mailbox "Un erwünscht.x" {
    special_use = \Junk
  }
  mailbox Papierkorb {
    special_use = \Trash
  }
  mailbox All {
    special_use = \All
  }
  mailbox Lists {
    special_use = 
  }
  separator = .
  type = private
}
namespace public {
  mailbox Spam {
    special_use = \Junk
  }
  separator = /
  type = public
}
"#;

    #[test]
    fn folders_with_a_special_use() {
        let named = |name: &str, role| (name.to_owned(), role);
        let expected = [
            named("Werbung", Role::Spam),
            named("Un erwünscht/x", Role::Spam),
            named("Papierkorb", Role::Never),
        ];
        assert_eq!(parse(PRINTED), expected);
    }

    #[test]
    fn what_is_no_configuration_names_nothing() {
        for text in [
            "",
            "}\n}\n",
            "{\n{\n{\nspecial_use = \\Junk\n",
            "mailbox x {",
        ] {
            assert_eq!(parse(text), [], "{text}");
        }
    }
}
