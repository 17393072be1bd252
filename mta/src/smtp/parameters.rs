//! The arguments of MAIL and RCPT: a path in angle brackets, then parameters
//! of extensions, each `KEYWORD` or `KEYWORD=value` (RFC 5321 §4.1.2).

use super::address::{ForwardPath, Malformed, ReversePath};
use super::envelope::{Body, Notify, Recipient, Return};
use super::reply::Reply;

/// What MAIL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) reverse_path: ReversePath,
    pub(crate) body: Body,
    pub(crate) smtputf8: bool,
    /// Octets that the client announces: RFC 1870.
    pub(crate) size: Option<u64>,
    pub(crate) ret: Option<Return>,
    pub(crate) envid: Option<String>,
    /// Whether AUTH was given: RFC 4954 §5. Whose mail this was elsewhere is
    /// believed of nobody, so what it says is as `<>`.
    pub(crate) auth: bool,
}

impl Mail {
    /// Reads what follows `MAIL`.
    pub(crate) fn parse(arguments: &[u8]) -> Result<Self, Reply> {
        let (path, parameters) = split(arguments, "FROM:")?;
        let mut mail = Self {
            reverse_path: ReversePath::parse(path).map_err(bad_sender)?,
            body: Body::SevenBit,
            smtputf8: false,
            size: None,
            ret: None,
            envid: None,
            auth: false,
        };
        let mut seen = Vec::new();
        for parameter in parameters {
            let (keyword, value) = parameter?;
            once(&mut seen, &keyword)?;
            mail.set(&keyword, value)?;
        }
        let ascii = mail.reverse_path.mailbox().is_none_or(|m| m.is_ascii());
        if !ascii && !mail.smtputf8 {
            return Err(needs_smtputf8());
        }
        Ok(mail)
    }

    fn set(&mut self, keyword: &str, value: Option<&str>) -> Result<(), Reply> {
        match (keyword, value) {
            // RFC 1870 §4: up to 20 digits.
            ("SIZE", Some(n)) if (1..=20).contains(&n.len()) && is_digits(n) => {
                self.size = Some(n.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(value)) => {
                self.body = match value.to_ascii_uppercase().as_str() {
                    "7BIT" => Body::SevenBit,
                    "8BITMIME" => Body::EightBitMime,
                    _ => return Err(bad_parameter(keyword)),
                };
            }
            ("SMTPUTF8", None) => self.smtputf8 = true,
            ("RET", Some(value)) => {
                self.ret = match value.to_ascii_uppercase().as_str() {
                    "FULL" => Some(Return::Full),
                    "HDRS" => Some(Return::Headers),
                    _ => return Err(bad_parameter(keyword)),
                };
            }
            // RFC 3461 §4.4: at most 100 characters.
            ("ENVID", Some(value)) if value.len() <= 100 => {
                let envid = xtext_decoded(value).filter(|id| !id.is_empty());
                self.envid = Some(envid.ok_or_else(|| bad_parameter(keyword))?);
            }
            ("AUTH", Some(value)) => {
                let path = xtext_decoded(value).ok_or_else(|| bad_parameter(keyword))?;
                let path = if path == "<>" { "" } else { &*path };
                ReversePath::parse(path.as_bytes()).map_err(|_| bad_parameter(keyword))?;
                self.auth = true;
            }
            ("SIZE" | "SMTPUTF8" | "ENVID" | "AUTH", _) => return Err(bad_parameter(keyword)),
            _ => return Err(unknown(keyword)),
        }
        Ok(())
    }
}

/// Reads what follows `RCPT`.
pub(crate) fn recipient(arguments: &[u8], smtputf8: bool) -> Result<Recipient, Reply> {
    let (path, parameters) = split(arguments, "TO:")?;
    let mut recipient = Recipient {
        forward_path: ForwardPath::parse(path).map_err(bad_recipient)?,
        notify: None,
        orcpt: None,
    };
    let mut seen = Vec::new();
    for parameter in parameters {
        let (keyword, value) = parameter?;
        once(&mut seen, &keyword)?;
        match (keyword.as_str(), value) {
            ("NOTIFY", Some(value)) => {
                let notify = notify(value).ok_or_else(|| bad_parameter("NOTIFY"))?;
                recipient.notify = Some(notify);
            }
            // RFC 3461 §4.2: at most 500 characters.
            ("ORCPT", Some(value)) if value.len() <= 500 => {
                let orcpt = original_recipient(value).ok_or_else(|| bad_parameter("ORCPT"))?;
                recipient.orcpt = Some(orcpt);
            }
            ("NOTIFY" | "ORCPT", _) => return Err(bad_parameter(&keyword)),
            _ => return Err(unknown(&keyword)),
        }
    }
    let ascii = recipient
        .forward_path
        .mailbox()
        .is_none_or(|m| m.is_ascii());
    if !ascii && !smtputf8 {
        return Err(needs_smtputf8());
    }
    Ok(recipient)
}

/// `+2B` and the like: RFC 3461 §4. ASCII only; `None` when it is malformed.
pub(crate) fn xtext_decoded(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '+' => {
                let (hex, after) = rest.split_at_checked(2)?;
                // Lower case is not xtext.
                let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
                let byte = hex
                    .bytes()
                    .all(is_hex)
                    .then(|| u8::from_str_radix(hex, 16).ok())??;
                if !matches!(byte, b' '..=b'~') {
                    return None;
                }
                decoded.push(char::from(byte));
                rest = after;
            }
            '!'..='~' if c != '=' => decoded.push(c),
            _ => return None,
        }
    }
    Some(decoded)
}

type Parameter<'a> = Result<(String, Option<&'a str>), Reply>;

/// The path without its brackets, and the parameters with their keywords in
/// upper case. `word` is `FROM:` or `TO:`.
fn split<'a>(
    arguments: &'a [u8],
    word: &str,
) -> Result<(&'a [u8], impl Iterator<Item = Parameter<'a>>), Reply> {
    let syntax = || Reply::new(501, (5, 5, 4), format!("syntax: {word}<address>"));
    let (said, rest) = arguments.split_at_checked(word.len()).ok_or_else(syntax)?;
    if !said.eq_ignore_ascii_case(word.as_bytes()) {
        return Err(syntax());
    }
    // Deviation: spaces after the colon, which RFC 5321 §3.3 forbids and much
    // software sends.
    let rest = rest.trim_ascii_start();
    let path = rest.strip_prefix(b"<").ok_or_else(syntax)?;
    let end = path_end(path).ok_or_else(syntax)?;
    let (path, rest) = (&path[..end], &path[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(b" ") {
        return Err(syntax());
    }
    let words = rest.split(|b| *b == b' ').filter(|word| !word.is_empty());
    Ok((path, words.map(parameter)))
}

/// Where the closing bracket is; one in a quoted string is none.
fn path_end(path: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    path.iter().position(|b| {
        let end = *b == b'>' && !quoted;
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        end
    })
}

fn parameter(word: &[u8]) -> Parameter<'_> {
    let malformed = || Reply::new(501, (5, 5, 4), "malformed parameter");
    let word = str::from_utf8(word).map_err(|_| malformed())?;
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    // RFC 5321 §4.1.2: esmtp-keyword and esmtp-value.
    let allowed = |c: char| !c.is_control() && c != '=';
    let is_keyword = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if keyword.is_empty()
        || !keyword.bytes().all(is_keyword)
        || value.is_some_and(|v| v.is_empty() || !v.chars().all(allowed))
    {
        return Err(malformed());
    }
    Ok((keyword.to_ascii_uppercase(), value))
}

fn once(seen: &mut Vec<String>, keyword: &str) -> Result<(), Reply> {
    if seen.iter().any(|other| other == keyword) {
        let text = format!("parameter {keyword} is given twice");
        return Err(Reply::new(501, (5, 5, 4), text));
    }
    seen.push(keyword.to_owned());
    Ok(())
}

/// `NEVER`, or a list of the others: RFC 3461 §4.1.
fn notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

/// `addr-type;xtext`: RFC 3461 §4.2. The type utf-8 has an encoding of its own
/// (RFC 6533 §3), which is kept as it is.
fn original_recipient(value: &str) -> Option<String> {
    let (kind, address) = value.split_once(';')?;
    let is_atom = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if kind.is_empty() || !kind.bytes().all(is_atom) || address.is_empty() {
        return None;
    }
    if kind.eq_ignore_ascii_case("utf-8") {
        return Some(value.to_owned());
    }
    Some(format!("{kind};{}", xtext_decoded(address)?))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn bad_sender(malformed: Malformed) -> Reply {
    // RFC 3463 §3.2: bad sender's mailbox address syntax.
    Reply::new(501, (5, 1, 7), malformed.to_string())
}

fn bad_recipient(malformed: Malformed) -> Reply {
    // RFC 3463 §3.2: bad destination mailbox address syntax.
    Reply::new(501, (5, 1, 3), malformed.to_string())
}

fn bad_parameter(keyword: &str) -> Reply {
    let text = format!("parameter {keyword} has a malformed value");
    Reply::new(501, (5, 5, 4), text)
}

pub(crate) fn unknown(keyword: &str) -> Reply {
    // RFC 5321 §4.1.1.11.
    let text = format!("parameter {keyword} is not known");
    Reply::new(555, (5, 5, 4), text)
}

fn needs_smtputf8() -> Reply {
    // RFC 6531 §3.5.
    Reply::new(553, (5, 6, 7), "such an address needs SMTPUTF8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mail(text: &str) -> Result<Mail, String> {
        Mail::parse(text.as_bytes()).map_err(|reply| reply.to_string())
    }

    #[test]
    fn mail_with_everything() {
        let parsed = mail("from: <a@b.org>  size=100 BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=x+2B1");
        let mail = parsed.unwrap();
        assert_eq!(mail.reverse_path.to_string(), "a@b.org");
        assert_eq!((mail.size, mail.body), (Some(100), Body::EightBitMime));
        assert_eq!((mail.ret, mail.smtputf8), (Some(Return::Headers), true));
        assert_eq!(mail.envid.as_deref(), Some("x+1"));
    }

    #[test]
    fn mail_that_is_refused() {
        for (text, expected) in [
            ("", "501 5.5.4 syntax: FROM:<address>"),
            ("FROM", "501 5.5.4 syntax: FROM:<address>"),
            ("FROM:a@b.org", "501 5.5.4 syntax: FROM:<address>"),
            ("FROM:<a@b.org", "501 5.5.4 syntax: FROM:<address>"),
            ("FROM:<a@b.org>SIZE=1", "501 5.5.4 syntax: FROM:<address>"),
            ("FROM:<\"a>@b.org", "501 5.5.4 syntax: FROM:<address>"),
            (
                "FROM:<a>",
                "501 5.1.7 the address has no @ where one belongs",
            ),
            ("FROM:<> X=1", "555 5.5.4 parameter X is not known"),
            (
                "FROM:<> SIZE",
                "501 5.5.4 parameter SIZE has a malformed value",
            ),
            ("FROM:<> SIZE=", "501 5.5.4 malformed parameter"),
            ("FROM:<> SIZE=1=1", "501 5.5.4 malformed parameter"),
            (
                "FROM:<> SIZE=-1",
                "501 5.5.4 parameter SIZE has a malformed value",
            ),
            (
                "FROM:<> SIZE=1 SIZE=1",
                "501 5.5.4 parameter SIZE is given twice",
            ),
            (
                "FROM:<> BODY=BINARYMIME",
                "501 5.5.4 parameter BODY has a malformed value",
            ),
            (
                "FROM:<> RET=ALL",
                "501 5.5.4 parameter RET has a malformed value",
            ),
            (
                "FROM:<> ENVID=a+zz",
                "501 5.5.4 parameter ENVID has a malformed value",
            ),
            (
                "FROM:<> SMTPUTF8=1",
                "501 5.5.4 parameter SMTPUTF8 has a malformed value",
            ),
            ("FROM:<ü@b.org>", "553 5.6.7 such an address needs SMTPUTF8"),
            ("FROM:<a@ü.org>", "553 5.6.7 such an address needs SMTPUTF8"),
        ] {
            assert_eq!(mail(text), Err(expected.to_owned()), "{text:?}");
        }
        assert_eq!(
            mail("FROM:<ü@b.org> SMTPUTF8").map(|m| m.smtputf8),
            Ok(true)
        );
        assert_eq!(
            mail("FROM:<> SIZE=99999999999999999999").unwrap().size,
            Some(u64::MAX)
        );
    }

    #[test]
    fn recipients() {
        let parsed = recipient(
            b"TO:<\"a>b\"@c.org> NOTIFY=success,DELAY ORCPT=rfc822;a+3Db@c.org",
            false,
        );
        let parsed = parsed.unwrap();
        assert_eq!(parsed.forward_path.to_string(), "\"a>b\"@c.org");
        assert_eq!(parsed.orcpt.as_deref(), Some("rfc822;a=b@c.org"));
        let notify = parsed.notify.unwrap();
        assert!(notify.success && notify.delay && !notify.failure);
        for (text, expected) in [
            ("TO:<>", "501 5.1.3 the local part is malformed"),
            (
                "TO:<a@b.org> NOTIFY=NEVER,DELAY",
                "501 5.5.4 parameter NOTIFY has a malformed value",
            ),
            (
                "TO:<a@b.org> ORCPT=x",
                "501 5.5.4 parameter ORCPT has a malformed value",
            ),
            (
                "TO:<a@b.org> ORCPT=rfc822;+0A",
                "501 5.5.4 parameter ORCPT has a malformed value",
            ),
            (
                "TO:<a@b.org> ORCPT=rfc822;+0",
                "501 5.5.4 parameter ORCPT has a malformed value",
            ),
            (
                "TO:<a@b.org> SIZE=1",
                "555 5.5.4 parameter SIZE is not known",
            ),
            ("TO:<ü@b.org>", "553 5.6.7 such an address needs SMTPUTF8"),
        ] {
            let refused = recipient(text.as_bytes(), false).unwrap_err();
            assert_eq!(refused.to_string(), expected, "{text:?}");
        }
        let never = recipient(b"TO:<postmaster> NOTIFY=NEVER", false).unwrap();
        assert_eq!(never.forward_path, ForwardPath::Postmaster);
        assert_eq!(never.notify, Some(Notify::default()));
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(bytes: Vec<u8>, text in "(FROM|TO):<[a-z@\">\\\\ü]{0,9}>?( [A-Z0-9=+;,é]{0,9}){0,3}") {
            for input in [&bytes, text.as_bytes()] {
                let _ = Mail::parse(input);
                let _ = recipient(input, true);
            }
        }
    }
}
