//! Authentication-Results fields that bear our name though we have not written
//! them: RFC 8601 §5. Whoever believes ours must not believe a stranger's.

use std::borrow::Cow;

const NAME: &[u8] = b"Authentication-Results";

/// `message` without the fields that are said to be of `host`; nothing else
/// changes.
pub fn without<'a>(message: &'a [u8], host: &str) -> Cow<'a, [u8]> {
    let mut kept: Option<Vec<u8>> = None;
    let mut at = 0;
    while !is_end(&message[at..]) {
        let end = field_end(message, at);
        let field = &message[at..end];
        if is_of(field, host) {
            kept.get_or_insert_with(|| message[..at].to_vec());
        } else if let Some(kept) = &mut kept {
            kept.extend_from_slice(field);
        }
        at = end;
    }
    match kept {
        None => Cow::Borrowed(message),
        Some(mut kept) => {
            kept.extend_from_slice(&message[at..]);
            Cow::Owned(kept)
        }
    }
}

/// Whether the header section ends before `rest`.
fn is_end(rest: &[u8]) -> bool {
    rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
}

/// Behind the last line of the field that begins at `at`.
fn field_end(message: &[u8], mut at: usize) -> usize {
    loop {
        at = memchr::memchr(b'\n', &message[at..]).map_or(message.len(), |n| at + n + 1);
        if !matches!(message.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
}

fn is_of(field: &[u8], host: &str) -> bool {
    let Some((name, rest)) = field.split_at_checked(NAME.len()) else {
        return false;
    };
    name.eq_ignore_ascii_case(NAME)
        && rest
            .trim_ascii_start()
            .strip_prefix(b":")
            .is_some_and(|body| names(body, host))
}

/// Whether a word before the first `;` is `host`. That is where the
/// authserv-id stands (RFC 8601 §2.2), with comments and a version beside it,
/// perhaps in quotes; readers differ in what they take there, so any word
/// counts.
fn names(body: &[u8], host: &str) -> bool {
    let mut word = Vec::new();
    let mut depth = 0_usize;
    let mut bytes = body.iter().copied();
    let mut found = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'\\' if depth > 0 => {
                bytes.next();
                continue;
            }
            _ if depth > 0 => continue,
            b'"' | b'\\' => continue,
            b';' => break,
            byte if !byte.is_ascii_whitespace() && byte != b'/' => {
                word.push(byte);
                continue;
            }
            _ => {}
        }
        found |= word.eq_ignore_ascii_case(host.as_bytes());
        word.clear();
    }
    found || word.eq_ignore_ascii_case(host.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = "mail.example.org";

    #[test]
    fn only_fields_with_our_name_go() {
        for (field, is_ours) in [
            ("Authentication-Results: mail.example.org; spf=pass", true),
            (
                "authentication-results : MAIL.example.ORG\n\t; spf=pass",
                true,
            ),
            ("Authentication-Results:mail.example.org", true),
            (
                "Authentication-Results:\n (a (b\\) c) d)\n mail.example.org 1; none",
                true,
            ),
            ("Authentication-Results: \"mail.example.org\"; none", true),
            ("Authentication-Results: mail.example.org/1; none", true),
            ("Authentication-Results: other.example.org; spf=pass", false),
            ("Authentication-Results: mail.example.org.net; none", false),
            ("Authentication-Results: x; d=mail.example.org", false),
            ("Authentication-Results: (mail.example.org) x; none", false),
            ("Authentication-Results-X: mail.example.org; none", false),
            (
                "ARC-Authentication-Results: i=1; mail.example.org; none",
                false,
            ),
            ("Authentication-Results", false),
        ] {
            let [above, below] = ["Received: x\n\ty\n", "Subject: z\n"];
            let body = format!("\n{field}\n\n");
            let message = format!("{above}{field}\n{below}{body}");
            let expected = match is_ours {
                true => format!("{above}{below}{body}"),
                false => message.clone(),
            };
            let found = without(message.as_bytes(), HOST);
            assert_eq!(String::from_utf8_lossy(&found), expected, "{field}");
            assert_eq!(matches!(found, Cow::Owned(_)), is_ours);
        }
        assert_eq!(&*without(b"", HOST), b"");
        let alone = b"Authentication-Results: mail.example.org";
        assert_eq!(&*without(alone, HOST), b"");
    }

    proptest! {
        #[test]
        fn what_is_left_is_part_of_what_came_and_holds_none(text in
            "((Authentication-Results: ?)?[ -~]{0,9}(mail.example.org)?[;(\"\\\\) ]{0,3}\n?){0,9}")
        {
            let once = without(text.as_bytes(), HOST).into_owned();
            prop_assert_eq!(&*without(&once, HOST), &once);
            prop_assert!(once.len() <= text.len());
            let body = |text: &[u8]| memchr::memmem::find(text, b"\n\n").map(|at| text[at..].to_vec());
            if let Some(body) = body(&once) {
                prop_assert!(text.as_bytes().ends_with(&body));
            }
        }
    }
}
