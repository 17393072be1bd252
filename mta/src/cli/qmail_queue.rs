//! `postern qmail-queue`: takes a message from descriptor 0 and its envelope
//! from descriptor 1, as programs give it to qmail.
//!
//! The envelope: `F`, the sender, NUL; for each recipient `T`, the address,
//! NUL; NUL. Exit codes: 0 taken, 11 an address is too long, 31 refused for
//! good, 54 cannot be read, 55 so is the configuration, 71 refused for now, 74 the server does not answer,
//! 91 the envelope is malformed. Source: qmail-queue(8).

use std::io::{Read, Write};
use std::path::Path;

use super::inject::{Letter, NotTaken, inject, with_domain};

/// What stands in an envelope.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    from: String,
    to: Vec<String>,
}

/// qmail's code for a configuration that cannot be read: to be tried again.
pub(super) const NO_CONFIG: i32 = 55;
/// qmail's own bound.
const MAX_ADDRESS: usize = 1003;
/// Some thousand recipients; whoever has more sends more messages.
const MAX_ENVELOPE: u64 = 4 << 20;

/// Hands a message over, and returns the exit code.
pub fn run(
    socket: &Path,
    domain: &str,
    mut message: impl Read,
    envelope: impl Read,
    mut errors: impl Write,
) -> i32 {
    let (mut text, mut said) = (Vec::new(), Vec::new());
    // First the message, as writers expect.
    let read = message
        .read_to_end(&mut text)
        .and_then(|_| envelope.take(MAX_ENVELOPE).read_to_end(&mut said));
    if let Err(error) = read {
        let _ = writeln!(errors, "qmail-queue: cannot read: {error}");
        return 54;
    }
    let envelope = match parse(&said) {
        Ok(envelope) => envelope,
        Err(code) => return code,
    };
    for (from, to) in expand(&envelope) {
        let to: Vec<String> = to.iter().map(|one| with_domain(one, domain)).collect();
        let letter = Letter {
            from: &with_domain(&from, domain),
            to: &to,
            message: &text,
        };
        match inject(socket, &letter) {
            Ok(()) => {}
            Err(error) => {
                let _ = writeln!(errors, "qmail-queue: {error}");
                return match error {
                    NotTaken::NoServer(_) => 74,
                    refused if refused.is_transient() => 71,
                    _ => 31,
                };
            }
        }
    }
    0
}

/// The envelope, or the exit code.
pub(super) fn parse(said: &[u8]) -> Result<Envelope, i32> {
    const MALFORMED: i32 = 91;
    // After the last NUL nothing counts.
    let mut parts = said.split(|b| *b == 0);
    let mut next = || parts.next().ok_or(MALFORMED);
    let text = |part: &[u8]| match part.len() > MAX_ADDRESS {
        true => Err(11),
        false => String::from_utf8(part.to_vec()).map_err(|_| MALFORMED),
    };
    let from = text(next()?.strip_prefix(b"F").ok_or(MALFORMED)?)?;
    let mut to = Vec::new();
    loop {
        let part = next()?;
        if part.is_empty() {
            break;
        }
        to.push(text(part.strip_prefix(b"T").ok_or(MALFORMED)?)?);
    }
    // The empty part before it was the terminator only if a NUL follows.
    let n_nul = said.iter().filter(|b| **b == 0).count();
    match n_nul >= to.len() + 2 && !to.is_empty() {
        true => Ok(Envelope { from, to }),
        false => Err(MALFORMED),
    }
}

/// Sender and recipients of each message that it makes: a sender that ends
/// with `-@[]` is another for each recipient (variable envelope return paths).
pub(super) fn expand(envelope: &Envelope) -> Vec<(String, Vec<String>)> {
    // Whoever gets a report of a report gets none.
    if envelope.from == "#@[]" {
        return vec![(String::new(), envelope.to.clone())];
    }
    let verp = envelope
        .from
        .strip_suffix("-@[]")
        .and_then(|from| from.rsplit_once('@'));
    let Some((owner, host)) = verp else {
        return vec![(envelope.from.clone(), envelope.to.clone())];
    };
    let own = |to: &String| {
        let marked = to.replacen('@', "=", to.matches('@').count());
        (format!("{owner}{marked}@{host}"), vec![to.clone()])
    };
    envelope.to.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes() {
        let long = format!("Fa\0T{}@b\0\0", "x".repeat(MAX_ADDRESS));
        for (said, expected) in [
            ("Fa@b\0Tc@d\0Te\0\0", Ok(("a@b", "c@d e"))),
            ("F\0Tc@d\0\0trailing", Ok(("", "c@d"))),
            ("", Err(91)),
            ("Fa@b\0\0", Err(91)),
            ("Fa@b\0Tc@d\0", Err(91)),
            ("Fa@b\0Tc@d", Err(91)),
            ("Ta@b\0Tc@d\0\0", Err(91)),
            ("Fa@b\0c@d\0\0", Err(91)),
            (&long, Err(11)),
        ] {
            let parsed = parse(said.as_bytes());
            let found = parsed.map(|envelope| (envelope.from, envelope.to.join(" ")));
            let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
            assert_eq!(found, expected, "{said:?}");
        }
    }

    #[test]
    fn senders_for_each_recipient() {
        let envelope = |from: &str| Envelope {
            from: from.into(),
            to: vec!["bob@example.net".into(), "carl@example.com".into()],
        };
        let senders = |from: &str| -> Vec<String> {
            expand(&envelope(from))
                .into_iter()
                .map(|(from, _)| from)
                .collect()
        };
        assert_eq!(
            senders("list-owner-@example.org-@[]"),
            [
                "list-owner-bob=example.net@example.org",
                "list-owner-carl=example.com@example.org"
            ]
        );
        assert_eq!(senders("a@b.org"), ["a@b.org"]);
        assert_eq!(senders("#@[]"), [""]);
    }
}
