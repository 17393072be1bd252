//! A queue file: what is known of a message as lines of text, the message
//! byte for byte, and what became of it, again as lines.
//!
//! ```text
//! postern queue 1
//! arrived 1764188000
//! from <anna@example.org>
//! client 192.0.2.7:40112 mail.example.net ESMTP
//! body 8bitmime
//! to <bob@example.net> notify=failure,delay orcpt=rfc822;bob@example.net
//! to <carol@example.com>
//! size 1234
//!
//! Received: ...            1234 bytes, the message
//! 1764188001 1 done 250 2.0.0 ok
//! 1764188001 2 defer 1764188401 451 4.2.2 mailbox full
//! 1764190000 * hold
//! ```
//!
//! The lines above the message never change. Those below are only ever
//! appended, one for each event; the last one does not count when its line
//! feed is missing. `1` is the first `to`. The events:
//!
//! | event | means |
//! | --- | --- |
//! | `N done TEXT` | delivered |
//! | `N defer SECONDS TEXT` | failed for now, to be tried again then |
//! | `N fail TEXT` | failed for good |
//! | `* reported` | the sender was told of all failures so far |
//! | `* warned` | the sender was told that it takes long |
//! | `* hold`, `* release` | not to be tried; to be tried again |
//! | `* retry` | to be tried now |
//!
//! Lines that may be missing: `client` (for people), `body`, `smtputf8`, `junk`
//! (our users get it where spam goes), `ret full` or `ret hdrs`, `envid TEXT`,
//! `double-bounce`; what a later version adds is passed over.

use std::fmt::Write as _;

use super::entry::{Entry, Event, Recipient, Record, State};
use crate::printable::printable;
use crate::smtp::{Body, Mailbox, Notify, Return, ReversePath};

const FIRST_LINE: &str = "postern queue 1";
/// What `1` is.
pub(super) const VERSION: u64 = 1;

impl Entry {
    /// The lines above a message of so many bytes.
    pub fn head(&self, size: u64) -> String {
        let mut head = format!(
            "{FIRST_LINE}\narrived {}\nfrom <{}>\n",
            self.arrived, self.reverse_path
        );
        if !self.client.is_empty() {
            line(&mut head, "client", &self.client);
        }
        if self.body == Body::EightBitMime {
            head.push_str("body 8bitmime\n");
        }
        if self.smtputf8 {
            head.push_str("smtputf8\n");
        }
        if self.to_junk {
            head.push_str("junk\n");
        }
        match self.ret {
            Some(Return::Full) => head.push_str("ret full\n"),
            Some(Return::Headers) => head.push_str("ret hdrs\n"),
            None => {}
        }
        if let Some(envid) = &self.envid {
            line(&mut head, "envid", envid);
        }
        if self.is_double_bounce {
            head.push_str("double-bounce\n");
        }
        for recipient in &self.recipients {
            let _ = write!(head, "to <{}>", recipient.address);
            if let Some(notify) = recipient.notify {
                let _ = write!(head, " notify={}", notify_words(notify));
            }
            if let Some(orcpt) = &recipient.orcpt {
                let _ = write!(head, " orcpt={}", printable(orcpt));
            }
            head.push('\n');
        }
        let _ = write!(head, "size {size}\n\n");
        head
    }

    /// The version of a queue file that a later version of this program wrote.
    pub(super) fn newer(head: &str) -> Option<u64> {
        let version = head.lines().next()?.strip_prefix("postern queue ")?;
        version.parse().ok().filter(|version| *version > VERSION)
    }

    /// Reads the lines above a message, without the empty one, and the size
    /// of the message. `None` when they make no sense.
    pub fn parse(head: &str) -> Option<(Self, u64)> {
        let mut lines = head.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut entry = Self {
            arrived: 0,
            reverse_path: ReversePath::Null,
            client: String::new(),
            body: Body::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            is_double_bounce: false,
            recipients: Vec::new(),
            to_junk: false,
            is_warned: false,
            is_held: false,
        };
        let (mut from, mut size) = (None, None);
        for line in lines {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "arrived" => entry.arrived = rest.parse().ok()?,
                "from" => from = Some(ReversePath::parse(bracketed(rest)?.0.as_bytes()).ok()?),
                "client" => entry.client = rest.to_owned(),
                "body" if rest == "8bitmime" => entry.body = Body::EightBitMime,
                "smtputf8" => entry.smtputf8 = true,
                "junk" => entry.to_junk = true,
                "ret" if rest == "full" => entry.ret = Some(Return::Full),
                "ret" if rest == "hdrs" => entry.ret = Some(Return::Headers),
                "envid" => entry.envid = Some(rest.to_owned()),
                "double-bounce" => entry.is_double_bounce = true,
                "to" => entry.recipients.push(Recipient::parse(rest)?),
                "size" => size = Some(rest.parse().ok()?),
                _ => {}
            }
        }
        entry.reverse_path = from?;
        for recipient in &mut entry.recipients {
            recipient.state = State::new(entry.arrived);
        }
        (!entry.recipients.is_empty()).then_some((entry, size?))
    }
}

impl Recipient {
    fn parse(text: &str) -> Option<Self> {
        let (address, rest) = bracketed(text)?;
        // The last one, since it may hold spaces.
        let (rest, orcpt) = match rest.split_once(" orcpt=") {
            Some((rest, orcpt)) => (rest, Some(orcpt.to_owned())),
            None => (rest, None),
        };
        let mut words = rest.split_ascii_whitespace();
        let notify = words.find_map(|word| word.strip_prefix("notify="));
        let notify = notify.map(parse_notify);
        Some(Self {
            address: Mailbox::parse(address.as_bytes()).ok()?,
            notify,
            orcpt,
            state: State::new(0),
        })
    }
}

impl Record {
    /// As a line with its line feed.
    pub fn line(&self) -> String {
        let at = self.at;
        match &self.event {
            Event::Done(n, text) => format!("{at} {} done {}\n", n + 1, printable(text)),
            Event::Failed(n, text) => format!("{at} {} fail {}\n", n + 1, printable(text)),
            Event::Deferred(n, next, text) => {
                format!("{at} {} defer {next} {}\n", n + 1, printable(text))
            }
            Event::Reported => format!("{at} * reported\n"),
            Event::Warned => format!("{at} * warned\n"),
            Event::Hold => format!("{at} * hold\n"),
            Event::Release => format!("{at} * release\n"),
            Event::Retry => format!("{at} * retry\n"),
        }
    }

    /// Reads a line without its line feed; `None` when it makes no sense.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let at = words.next()?.parse().ok()?;
        let (who, what) = (words.next()?, words.next()?);
        let rest = words.next().unwrap_or("");
        let event = if who == "*" {
            match what {
                "reported" => Event::Reported,
                "warned" => Event::Warned,
                "hold" => Event::Hold,
                "release" => Event::Release,
                "retry" => Event::Retry,
                _ => return None,
            }
        } else {
            let n = who.parse::<usize>().ok()?.checked_sub(1)?;
            match what {
                "done" => Event::Done(n, rest.to_owned()),
                "fail" => Event::Failed(n, rest.to_owned()),
                "defer" => {
                    let (next, text) = rest.split_once(' ').unwrap_or((rest, ""));
                    Event::Deferred(n, next.parse().ok()?, text.to_owned())
                }
                _ => return None,
            }
        };
        Some(Self { at, event })
    }
}

/// `<...>` and what follows. A local part in quotes may hold `>`.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            '>' if !quoted => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn line(head: &mut String, word: &str, text: &str) {
    let _ = writeln!(head, "{word} {}", printable(text));
}

fn notify_words(notify: Notify) -> String {
    let words = [
        (notify.success, "success"),
        (notify.failure, "failure"),
        (notify.delay, "delay"),
    ];
    let words: Vec<&str> = words
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| *word)
        .collect();
    if words.is_empty() {
        "never".to_owned()
    } else {
        words.join(",")
    }
}

fn parse_notify(words: &str) -> Notify {
    let has = |word| words.split(',').any(|other| other == word);
    Notify {
        success: has("success"),
        failure: has("failure"),
        delay: has("delay"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::queue) fn entry(recipients: &[&str]) -> Entry {
        let recipient = |text: &&str| Recipient {
            address: Mailbox::parse(text.as_bytes()).unwrap(),
            notify: None,
            orcpt: None,
            state: State::new(1_000),
        };
        Entry {
            arrived: 1_000,
            reverse_path: ReversePath::parse(b"anna@example.org").unwrap(),
            client: String::new(),
            body: Body::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            is_double_bounce: false,
            recipients: recipients.iter().map(recipient).collect(),
            to_junk: false,
            is_warned: false,
            is_held: false,
        }
    }

    #[test]
    fn everything_comes_back() {
        let mut full = entry(&["bob@example.net", r#""a>\" b"@example.com"#]);
        full.client = "192.0.2.7:40112 mail.example.net ESMTP".into();
        full.body = Body::EightBitMime;
        full.smtputf8 = true;
        full.ret = Some(Return::Headers);
        full.envid = Some("QQ 314159".into());
        full.recipients[0].notify = Some(Notify::default());
        full.recipients[1].orcpt = Some("rfc822;b c@example.com".into());
        full.recipients[1].notify = Some(Notify {
            success: true,
            failure: true,
            delay: false,
        });
        let mut null = entry(&["b@example.net"]);
        null.reverse_path = ReversePath::Null;
        null.is_double_bounce = true;
        for entry in [full, null] {
            let head = entry.head(17);
            assert!(head.ends_with("size 17\n\n"));
            assert_eq!(Entry::parse(head.trim_end()), Some((entry, 17)), "{head}");
        }
    }

    #[test]
    fn records_come_back() {
        for event in [
            Event::Done(0, "250 2.0.0 ok".into()),
            Event::Failed(3, "550 5.1.1 no".into()),
            Event::Deferred(1, 77, "451 4.2.2 a b".into()),
            Event::Deferred(1, 77, String::new()),
            Event::Reported,
            Event::Warned,
            Event::Hold,
            Event::Release,
            Event::Retry,
        ] {
            let record = Record { at: 5, event };
            let line = record.line();
            assert_eq!(
                Record::parse(line.trim_end_matches('\n')),
                Some(record),
                "{line}"
            );
        }
        let forged = Record {
            at: 5,
            event: Event::Failed(0, "no\n6 1 done".into()),
        };
        assert_eq!(forged.line().matches('\n').count(), 1);
    }

    #[test]
    fn what_was_noted_decides_what_is_next() {
        let mut entry = entry(&["a@example.net", "b@example.net"]);
        let mut apply = |line: &str| {
            entry.apply(&Record::parse(line).unwrap());
            (entry.next_attempt(), entry.is_finished())
        };
        assert_eq!(apply("1001 1 defer 1400 later"), (Some(1_000), false));
        assert_eq!(apply("1002 2 done ok"), (Some(1_400), false));
        assert_eq!(apply("1002 9 done ok"), (Some(1_400), false));
        assert_eq!(apply("1003 * hold"), (None, false));
        assert_eq!(apply("1003 * release"), (Some(1_400), false));
        assert_eq!(apply("1004 * retry"), (Some(1_004), false));
        assert_eq!(apply("1005 1 fail no"), (Some(0), false));
        assert_eq!(apply("1006 1 done no"), (Some(0), false));
        assert_eq!(apply("1006 * reported"), (Some(0), true));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(postern queue 1\n)?(from <a@b>\n|to <a@b> \\PC*\n|size 3\n|\\PC*\n)*") {
            let _ = Entry::parse(&text);
            let _ = text.lines().map(Record::parse).count();
        }
    }
}
