//! Copying a message through with the verdict in its header section.

use std::io::{self, Write};

use memchr::memchr;

/// Writes `message` to `out` without the header fields whose name begins with
/// `X-Spam-`, and with `fields` (whole lines, or nothing) after the last
/// header field. All else leaves byte for byte.
///
/// The header section ends at the first line that holds nothing but LF or
/// CRLF, whatever the lines before it are; without such a line all of
/// `message` is header section.
///
/// # Errors
/// When `out` cannot be written.
pub fn passthrough(message: &[u8], fields: &[u8], out: &mut impl Write) -> io::Result<()> {
    let (body, line_ended) = write_header_section(message, out)?;
    if !fields.is_empty() {
        // Deviation: bmf puts its fields behind a last line without LF, and so
        // makes one field of two.
        if !line_ended {
            out.write_all(b"\n")?;
        }
        out.write_all(fields)?;
    }
    out.write_all(&message[body..])
}

/// Writes what is kept of the header section and returns where the blank line
/// behind it begins, and whether the last line written is ended.
fn write_header_section(message: &[u8], out: &mut impl Write) -> io::Result<(usize, bool)> {
    // Runs of kept lines are written at once.
    let (mut at, mut kept_from) = (0, 0);
    let mut dropping = false;
    while at < message.len() {
        let rest = &message[at..];
        // A last CR would make a blank line of the LF that is added to it.
        if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") || rest == b"\r" {
            break;
        }
        let folded = matches!(rest[0], b' ' | b'\t');
        let drop = if folded { dropping } else { is_verdict(rest) };
        if drop && !dropping {
            out.write_all(&message[kept_from..at])?;
        } else if dropping && !drop {
            kept_from = at;
        }
        dropping = drop;
        at = memchr(b'\n', rest).map_or(message.len(), |n| at + n + 1);
    }
    if dropping {
        return Ok((at, true));
    }
    let kept = &message[kept_from..at];
    out.write_all(kept)?;
    Ok((at, kept.last().is_none_or(|b| *b == b'\n')))
}

fn is_verdict(line: &[u8]) -> bool {
    const NAME: &[u8] = b"X-Spam-";
    line.get(..NAME.len())
        .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: &str) {
        let mut out = Vec::new();
        passthrough(message.as_bytes(), b"X-Spam-Status: No\n", &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected, "of {message:?}");
    }

    #[test]
    fn puts_the_verdict_before_the_blank_line() {
        check("A: b\n\nbody\n", "A: b\nX-Spam-Status: No\n\nbody\n");
        check("A: b\r\n\r\nbody", "A: b\r\nX-Spam-Status: No\n\r\nbody");
        check("\nbody\n", "X-Spam-Status: No\n\nbody\n");
        check("A: b\n", "A: b\nX-Spam-Status: No\n");
        check("A: b\n \nC: d\n\n", "A: b\n \nC: d\nX-Spam-Status: No\n\n");
        check("", "X-Spam-Status: No\n");
    }

    #[test]
    fn mends_a_last_line_without_line_feed() {
        check("A: b", "A: b\nX-Spam-Status: No\n");
        check("A: b\r", "A: b\r\nX-Spam-Status: No\n");
        check("A: b\r\n\r", "A: b\r\nX-Spam-Status: No\n\r");
    }

    #[test]
    fn drops_foreign_verdicts_with_their_folded_lines() {
        check(
            "X-Spam-Status: Yes\n\tfolded\nA: b\n folded\nx-SPAM-\nC: d\n\nX-Spam-Flag: YES\n",
            "A: b\n folded\nC: d\nX-Spam-Status: No\n\nX-Spam-Flag: YES\n",
        );
        check("A: b\nX-Spam-Flag: YES", "A: b\nX-Spam-Status: No\n");
        check("X-Spam: b\n\n", "X-Spam: b\nX-Spam-Status: No\n\n");
    }

    #[test]
    fn adds_nothing_when_there_is_no_verdict() {
        let mut out = Vec::new();
        passthrough(b"X-Spam-Flag: YES\nA: b", b"", &mut out).unwrap();
        assert_eq!(out, b"A: b");
    }
}
