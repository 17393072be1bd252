//! How qmail reads its control files.

use super::source::Content;

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// Without blanks at its end.
    pub text: String,
    /// Whether a carriage return stood at its end, which qmail takes for a
    /// part of the text.
    pub had_return: bool,
}

/// The first line, without blanks at its end. A file that is there and empty
/// says "", which is not the default.
pub fn line(content: &Content) -> Line {
    let first = content.bytes.split(|b| *b == b'\n').next();
    trimmed(1, first.unwrap_or_default())
}

/// The digits that the first line begins with.
pub fn number(content: &Content) -> Option<u64> {
    let text = line(content).text;
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

/// All lines but empty ones and those that begin with `#`.
pub fn list(content: &Content) -> Vec<Line> {
    let lines = content.bytes.split(|b| *b == b'\n').zip(1..);
    let mut lines: Vec<Line> = lines.map(|(text, n)| trimmed(n, text)).collect();
    lines.retain(|line| !line.text.is_empty() && !line.text.starts_with('#'));
    lines
}

/// What stands before and after the first colon.
pub fn keyed(line: &Line) -> Option<(String, String)> {
    let (key, value) = line.text.split_once(':')?;
    Some((key.to_ascii_lowercase(), value.to_owned()))
}

fn trimmed(number: usize, bytes: &[u8]) -> Line {
    let text = String::from_utf8_lossy(bytes);
    let blanks = [' ', '\t'];
    let end = text.trim_end_matches(blanks);
    let without = end.trim_end_matches([' ', '\t', '\r']);
    Line {
        number,
        text: without.to_owned(),
        had_return: without.len() < end.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str) -> Content {
        Content {
            bytes: text.into(),
            mode: 0o644,
        }
    }

    #[test]
    fn lists_are_read_as_qmail_does() {
        let text = "# none\nexample.org \t\n\n #odd\nb.example\r\nlast";
        let found = list(&content(text)).into_iter();
        let found: Vec<_> = found
            .map(|line| (line.number, line.text, line.had_return))
            .collect();
        let line = |n, text: &str, had_return| (n, text.to_owned(), had_return);
        let expected = [
            line(2, "example.org", false),
            line(4, " #odd", false),
            line(5, "b.example", true),
            line(6, "last", false),
        ];
        assert_eq!(found, expected);
        assert_eq!(list(&content("")), []);
    }

    #[test]
    fn lines_and_numbers() {
        assert_eq!(line(&content("")).text, "");
        assert_eq!(line(&content("\nsecond")).text, "");
        assert_eq!(
            line(&content("#mx.example.org \nx")).text,
            "#mx.example.org"
        );
        assert_eq!(number(&content("600 s\n")), Some(600));
        assert_eq!(number(&content("-1")), None);
        assert_eq!(number(&content("")), None);
        let key = |text: &str| keyed(&list(&content(text))[0]);
        assert_eq!(
            key("A.Example:b:C"),
            Some(("a.example".into(), "b:C".into()))
        );
        assert_eq!(key("none"), None);
    }
}
