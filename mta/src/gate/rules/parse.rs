//! The text of the rules.

use super::glob::Glob;
use super::pattern::{AddressPattern, NamePattern};
use super::{Condition, Does, Effect, Line, Rule, Rules};

/// A word, and a value in quotes that stands right behind it.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    plain: String,
    /// What stood in quotes, if anything did.
    quoted: Option<String>,
}

impl Rules {
    /// Reads all lines.
    ///
    /// # Errors
    /// At the first that is wrong: its number and the reason.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lines = Vec::new();
        for (n, text) in text.lines().enumerate() {
            let number = n + 1;
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let line = words(text).and_then(|words| line(number, words));
            lines.push(line.map_err(|reason| (number, reason))?);
        }
        Ok(Self { lines })
    }
}

fn line(number: usize, words: Vec<Word>) -> Result<Line, String> {
    let mut words = words.into_iter().peekable();
    let action = words.next().map(|word| word.plain).unwrap_or_default();
    let does = match action.as_str() {
        "allow" => Does::Decide(Effect::Allow),
        "deny" => Does::Decide(Effect::Refuse),
        "defer" => Does::Decide(Effect::RefuseForNow),
        "set" => Does::Set,
        "skip" => Does::Skip(rules(
            &words.next().map(|word| word.plain).unwrap_or_default(),
        )?),
        other => {
            return Err(format!(
                "{other:?} is none of: allow, deny, defer, skip, set"
            ));
        }
    };
    let mut conditions = Vec::new();
    while let Some(word) = words.next_if(|word| !word.is_variable()) {
        let value = words.next().filter(|value| !value.is_variable());
        let value = value.ok_or_else(|| format!("{} of what?", word.plain))?;
        conditions.push(condition(&word.plain, &value.text())?);
    }
    let mut variables = Vec::new();
    for word in words {
        variables.push(word.variable()?);
    }
    if conditions.is_empty() {
        return Err("there is no condition; \"address 0.0.0.0/0\" is true of all of IPv4".into());
    }
    let is_header = |condition: &Condition| matches!(condition, Condition::Header(_));
    let refuses = matches!(does, Does::Decide(Effect::Refuse | Effect::RefuseForNow));
    if conditions.iter().any(is_header) && !refuses {
        return Err("header fields come too late for anything but deny and defer".into());
    }
    if matches!(does, Does::Set) && variables.is_empty() {
        return Err("nothing is set; write NAME=\"value\"".into());
    }
    if refuses && !variables.is_empty() {
        return Err("who is refused needs no variables".into());
    }
    Ok(Line {
        number,
        does,
        conditions,
        variables,
    })
}

fn rules(text: &str) -> Result<Vec<Rule>, String> {
    text.split(',').map(str::parse).collect()
}

fn condition(name: &str, value: &str) -> Result<Condition, String> {
    Ok(match name {
        "address" => Condition::Address(value.parse()?),
        "name" => Condition::Name(NamePattern::parse(value)?),
        "helo" => Condition::Helo(NamePattern::parse(value)?),
        "sender" => Condition::Sender(AddressPattern::parse(value)?),
        "recipient" => Condition::Recipient(AddressPattern::parse(value)?),
        "header" => Condition::Header(Glob::parse(value)?),
        other => {
            return Err(format!(
                "{other:?} is none of: address, name, helo, sender, recipient, header"
            ));
        }
    })
}

impl Word {
    fn is_variable(&self) -> bool {
        self.plain.ends_with('=') && self.quoted.is_some()
    }

    fn text(self) -> String {
        self.plain + &self.quoted.unwrap_or_default()
    }

    fn variable(self) -> Result<(String, String), String> {
        let name = self.plain.strip_suffix('=').unwrap_or_default();
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
            && !name.starts_with(|c: char| c.is_ascii_digit());
        // What programs would be run with, and by.
        let is_ours = name == "PATH" || name.starts_with("LD_");
        match self.quoted {
            Some(value) if is_name && !is_ours && !value.contains('\0') => {
                Ok((name.to_owned(), value))
            }
            value => {
                let text = self.plain + &value.unwrap_or_default();
                Err(format!("{text:?} sets no variable; write NAME=\"value\""))
            }
        }
    }
}

/// Words are separated by blanks; in double quotes `\` takes the next
/// character as it is.
fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let mut plain = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_ascii_whitespace() && *c != '"') {
            plain.push(c);
        }
        let mut quoted = None;
        if chars.next_if_eq(&'"').is_some() {
            let mut inside = String::new();
            loop {
                match chars.next() {
                    Some('"') => break,
                    Some('\\') => inside.extend(chars.next()),
                    Some(c) => inside.push(c),
                    None => return Err("a quote is not closed".into()),
                }
            }
            if chars.peek().is_some_and(|c| !c.is_ascii_whitespace()) {
                return Err("a blank belongs behind a closing quote".into());
            }
            quoted = Some(inside);
        }
        words.push(Word { plain, quoted });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            (
                "\n# x\nblock address 192.0.2.1",
                "3: \"block\" is none of: allow, deny",
            ),
            ("allow", "1: there is no condition"),
            ("allow address", "1: address of what?"),
            (
                "allow address 192.0.2.0/33",
                "1: \"192.0.2.0/33\" is no network",
            ),
            ("allow ip 192.0.2.1", "1: \"ip\" is none of: address, name"),
            ("deny name *.example.net", "1: \"*.example.net\" is no name"),
            (
                "deny sender example.net",
                "1: \"example.net\" is no address",
            ),
            ("deny header Subject", "1: \"Subject\" has no colon"),
            ("deny header \"Subject: x", "1: a quote is not closed"),
            ("deny header \"a: b\"c", "1: a blank belongs behind"),
            ("allow header \"a: b\"", "1: header fields come too late"),
            ("skip all address ::1", "1: \"all\" is no rule of the gate"),
            ("set address ::1", "1: nothing is set"),
            ("set address ::1 x=\"1\"", "1: \"x=1\" sets no variable"),
            (
                "set address ::1 PATH=\"/\"",
                "1: \"PATH=/\" sets no variable",
            ),
            ("set address ::1 A=\"1\" B", "1: \"B\" sets no variable"),
            (
                "deny address ::1 A=\"1\"",
                "1: who is refused needs no variables",
            ),
        ] {
            let (line, reason) = Rules::parse(text).unwrap_err();
            let error = format!("{line}: {reason}");
            assert!(error.starts_with(expected), "{text}\ngave {error}");
        }
    }

    #[test]
    fn quotes_hold_anything() {
        let found = words(r#"a "b c" D="\"e\\" F="""#).unwrap();
        let found: Vec<_> = found
            .into_iter()
            .map(|word| (word.plain, word.quoted))
            .collect();
        let word =
            |plain: &str, quoted: Option<&str>| (plain.to_owned(), quoted.map(str::to_owned));
        let expected = [
            word("a", None),
            word("", Some("b c")),
            word("D=", Some("\"e\\")),
            word("F=", Some("")),
        ];
        assert_eq!(found, expected);
    }
}
