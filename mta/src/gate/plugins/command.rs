//! What plugins say: a command a line, by its first letter.

use crate::smtp::Reply;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `A`: no plugin runs any more in this session.
    Accept,
    /// `N`: none runs any more at this event.
    Next,
    /// `O`: as `N`, and the host's own checks do not count.
    Trust,
    /// `E`: the command is refused with this.
    Refuse(String),
    /// `R`: and the connection ends.
    Reject(String),
    /// `D`: the connection ends at once.
    Drop,
    /// `P`: a line before the reply.
    Print(String),
    /// `LM`, `LR`: each recipient is refused with this.
    RefuseRecipients(String),
    /// `LD`: the message is refused with this.
    RefuseMessage(String),
    /// `S`: sets a variable.
    Set(String, String),
    /// `U`: takes one away.
    Unset(String),
    /// `H`: a line of the header section.
    Header(String),
    /// `C`: another sender or recipient.
    Change(String),
}

impl Command {
    fn is_final(&self) -> bool {
        use Command::{Accept, Drop, Next, Refuse, Reject, Trust};
        matches!(self, Accept | Next | Trust | Refuse(_) | Reject(_) | Drop)
    }
}

/// The commands of a plugin's output, up to the final one.
pub fn commands(output: &[u8]) -> Vec<Command> {
    let mut all = Vec::new();
    for line in output.split(|b| *b == b'\n') {
        let Some(command) = command(line) else {
            continue;
        };
        let is_final = command.is_final();
        all.push(command);
        if is_final {
            break;
        }
    }
    all
}

/// No control character gets through: what a plugin has from a client must
/// not become another reply or header field.
fn command(line: &[u8]) -> Option<Command> {
    let text: String = String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect();
    let mut chars = text.chars();
    let letter = chars.next()?;
    let rest = chars.as_str().to_owned();
    Some(match letter {
        'A' => Command::Accept,
        'N' => Command::Next,
        'O' => Command::Trust,
        'E' => Command::Refuse(rest),
        'R' => Command::Reject(rest),
        'D' => Command::Drop,
        'P' => Command::Print(rest),
        'L' => match rest.split_at_checked(1)? {
            ("M" | "R", text) => Command::RefuseRecipients(text.to_owned()),
            ("D", text) => Command::RefuseMessage(text.to_owned()),
            _ => return None,
        },
        'S' => {
            let (name, value) = rest.split_once('=')?;
            may_set(name).then(|| Command::Set(name.to_owned(), value.to_owned()))?
        }
        'U' => may_set(&rest).then_some(Command::Unset(rest))?,
        'H' => Command::Header(rest),
        'C' => Command::Change(rest),
        _ => return None,
    })
}

/// Not what programs are found and loaded by.
fn may_set(name: &str) -> bool {
    let is_name = |b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_');
    !name.is_empty() && name.bytes().all(is_name) && name != "PATH" && !name.starts_with("LD_")
}

/// A reply as plugins write it, `553 5.7.1 no`, behind lines that were printed
/// before, `553-5.7.1 see`. One that refuses nothing is a failure of the
/// plugin.
pub fn reply(printed: &[String], text: &str) -> Reply {
    let code = text.get(..3).and_then(|digits| digits.parse::<u16>().ok());
    let code = code.filter(|code| matches!(code, 400..=599));
    let Some(code) = code else {
        let text = format!("a plugin refuses this with no code of a refusal: {text}");
        return Reply::new(451, (4, 3, 0), text);
    };
    let prefix = format!("{code}-");
    let before = printed.iter().filter_map(|line| line.strip_prefix(&prefix));
    let last = text.get(4..).unwrap_or_default();
    let lines: Vec<&str> = before.chain([last]).collect();
    Reply::plain(code, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_select_commands() {
        let text = |text: &str| text.to_owned();
        for (line, expected) in [
            ("A", Some(Command::Accept)),
            ("N", Some(Command::Next)),
            ("Oyes", Some(Command::Trust)),
            ("E550 no", Some(Command::Refuse(text("550 no")))),
            ("R550 no", Some(Command::Reject(text("550 no")))),
            ("D", Some(Command::Drop)),
            ("P550-see", Some(Command::Print(text("550-see")))),
            ("LM550 m", Some(Command::RefuseRecipients(text("550 m")))),
            ("LR550 r", Some(Command::RefuseRecipients(text("550 r")))),
            ("LD550 d", Some(Command::RefuseMessage(text("550 d")))),
            ("SA=b=c", Some(Command::Set(text("A"), text("b=c")))),
            ("SA", None),
            ("SLD_PRELOAD=x", None),
            ("SPATH=x", None),
            ("SA B=x", None),
            ("UA", Some(Command::Unset(text("A")))),
            ("HX-A: b\rc", Some(Command::Header(text("X-A: bc")))),
            ("Ca@b.org", Some(Command::Change(text("a@b.org")))),
            ("L", None),
            ("LX1", None),
            ("e550 no", None),
            ("", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(command(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn nothing_counts_behind_a_final_command() {
        let all = commands(b"SA=1\nbad\nE550 no\nO\n");
        assert_eq!(all.len(), 2);
        // Without its last newline too.
        assert_eq!(commands(b"N"), [Command::Next]);
        assert_eq!(commands(b"\n\n"), []);
    }

    #[test]
    fn replies_have_their_own_codes() {
        let printed = ["553-5.7.1 see".to_owned(), "250-no".to_owned()];
        for (text, expected) in [
            ("553 5.7.1 no", "553 5.7.1 see 5.7.1 no"),
            ("451", "451"),
            (
                "250 ok",
                "451 4.3.0 a plugin refuses this with no code of a refusal: 250 ok",
            ),
            (
                "no",
                "451 4.3.0 a plugin refuses this with no code of a refusal: no",
            ),
        ] {
            assert_eq!(reply(&printed, text).to_string(), expected);
        }
    }
}
