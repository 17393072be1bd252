//! Reports to senders: RFC 3464, with a first part that people and old
//! programs read (qmail's QSBMF).
//!
//! A report has the null reverse-path, and mail with the null reverse-path
//! causes none (RFC 5321 §6.1): what cannot be delivered then goes to the
//! postmaster as it is.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::{Entry, Recipient, State};
use crate::delivery::content::header_section;
use crate::remote::REPORTS;
use crate::smtp::{Body, Notify, Return, trace};

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Recipients that failed for good.
    Failure,
    /// Recipients that take long.
    Delay,
    /// Recipients that were reached, where the sender wanted to know.
    Success,
}

/// Whether a recipient's fate is to be told: RFC 3461 §4.1. Without a word of
/// the sender's, failures and delays are.
pub fn is_wanted(about: About, notify: Option<Notify>) -> bool {
    match (about, notify) {
        (About::Failure, None) | (About::Delay, None) => true,
        (About::Success, None) => false,
        (About::Failure, Some(notify)) => notify.failure,
        (About::Delay, Some(notify)) => notify.delay,
        (About::Success, Some(notify)) => notify.success,
    }
}

/// The recipients that a report about the present state would be about.
pub fn concerned(about: About, entry: &Entry) -> Vec<&Recipient> {
    let fits = |recipient: &&Recipient| {
        let fits = match &recipient.state {
            State::Failed { is_reported, .. } => about == About::Failure && !is_reported,
            State::Open { attempts, .. } => about == About::Delay && *attempts > 0,
            State::Done(place) => about == About::Success && !place.ends_with(REPORTS),
        };
        fits && is_wanted(about, recipient.notify)
    };
    entry.recipients.iter().filter(fits).collect()
}

/// Who writes a report, and when.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// What this host calls itself.
    pub host: &'a str,
    /// The ID of the message in our queue.
    pub id: &'a str,
    /// Now.
    pub now: SystemTime,
}

/// The message that tells `entry`'s sender what became of `recipients`.
/// `original` is the message; a report of a delay gives back its header
/// section only, and so does one whose sender asked for that (RFC 3461 §4.3)
/// or whose original is larger than `MAX_RETURNED`.
pub fn report(
    about: About,
    entry: &Entry,
    recipients: &[&Recipient],
    original: &[u8],
    by: Reporter<'_>,
) -> Vec<u8> {
    let is_full = about == About::Failure
        && entry.ret != Some(Return::Headers)
        && original.len() <= MAX_RETURNED;
    let returned = if is_full {
        original
    } else {
        &original[..header_section(original)]
    };
    let boundary = boundary(by.id, returned);
    let mut text = head(about, entry, &boundary, by);
    let _ = write!(
        text,
        "--{boundary}\nContent-Type: text/plain; charset=utf-8\n"
    );
    let _ = write!(
        text,
        "Content-Transfer-Encoding: 8bit\n\n{}",
        intro(about, by.host)
    );
    for recipient in recipients {
        let _ = write!(text, "<{}>:\n{}\n\n", recipient.address, reason(recipient));
    }
    let type_of_status = if entry.smtputf8 {
        "global-delivery-status"
    } else {
        "delivery-status"
    };
    let _ = write!(
        text,
        "--{boundary}\nContent-Type: message/{type_of_status}\n\n"
    );
    text.push_str(&status(about, entry, recipients, by));
    let type_of_returned = match (is_full, entry.smtputf8) {
        (true, false) => "message/rfc822",
        (true, true) => "message/global",
        (false, false) => "text/rfc822-headers",
        (false, true) => "message/global-headers",
    };
    let _ = write!(text, "\n--{boundary}\nContent-Type: {type_of_returned}\n");
    if entry.body == Body::EightBitMime || !returned.is_ascii() {
        text.push_str("Content-Transfer-Encoding: 8bit\n");
    }
    text.push('\n');
    let mut message = text.into_bytes();
    message.extend_from_slice(returned);
    if !returned.ends_with(b"\n") {
        message.push(b'\n');
    }
    message.extend_from_slice(format!("\n--{boundary}--\n").as_bytes());
    message
}

/// The largest message that is given back whole: a report should arrive.
const MAX_RETURNED: usize = 1 << 20;

/// So much of the original is enough to write a report: header sections are
/// shorter.
pub const MAX_READ: u64 = MAX_RETURNED as u64 + 1;

fn head(about: About, entry: &Entry, boundary: &str, by: Reporter<'_>) -> String {
    let Reporter { host, id, now } = by;
    let subject = match about {
        About::Failure => "failure notice",
        About::Delay => "delayed mail, still being tried",
        About::Success => "delivery notice",
    };
    let report_type = "multipart/report; report-type=delivery-status";
    format!(
        "Date: {}\nFrom: MAILER-DAEMON@{host}\nTo: {}\nSubject: {subject}\n\
         Message-ID: <{id}.{}@{host}>\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n\
         Content-Type: {report_type};\n\tboundary=\"{boundary}\"\n\n",
        trace::date(now),
        entry.reverse_path,
        word(about),
    )
}

fn intro(about: About, host: &str) -> String {
    let rest = match about {
        About::Failure => {
            "I'm afraid I wasn't able to deliver your message to the following addresses.\n\
             This is a permanent error; I've given up. Sorry it didn't work out."
        }
        About::Delay => {
            "I have not been able to deliver your message to the following addresses yet.\n\
             There is nothing to do for you: I keep trying, and tell you if I give up."
        }
        About::Success => "Your message was delivered to the following addresses.",
    };
    format!("Hi. This is the postern program at {host}.\n{rest}\n\n")
}

/// RFC 3464 §2.2 and §2.3.
fn status(about: About, entry: &Entry, recipients: &[&Recipient], by: Reporter<'_>) -> String {
    let mut text = format!("Reporting-MTA: dns; {}\n", by.host);
    if let Some(envid) = &entry.envid {
        let _ = writeln!(text, "Original-Envelope-Id: {envid}");
    }
    let arrived = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(entry.arrived);
    let _ = writeln!(text, "Arrival-Date: {}", trace::date(arrived));
    for recipient in recipients {
        let reason = reason(recipient);
        let address_type = if recipient.address.is_ascii() {
            "rfc822"
        } else {
            "utf-8"
        };
        text.push('\n');
        if let Some(orcpt) = &recipient.orcpt {
            let _ = writeln!(text, "Original-Recipient: {}", orcpt.replacen(';', "; ", 1));
        }
        let _ = writeln!(
            text,
            "Final-Recipient: {address_type}; {}",
            recipient.address
        );
        let _ = writeln!(text, "Action: {}", word(about));
        let _ = writeln!(text, "Status: {}", status_code(about, reason));
        if about != About::Success && reason.starts_with(|c: char| c.is_ascii_digit()) {
            let _ = writeln!(text, "Diagnostic-Code: smtp; {reason}");
        }
    }
    text
}

fn word(about: About) -> &'static str {
    match about {
        About::Failure => "failed",
        About::Delay => "delayed",
        About::Success => "delivered",
    }
}

fn reason(recipient: &Recipient) -> &str {
    match &recipient.state {
        State::Open { text, .. } | State::Done(text) | State::Failed { text, .. } => text,
    }
}

/// The enhanced code of a reply, `550 5.1.1 no such user`, made to agree with
/// what is reported.
fn status_code(about: About, reason: &str) -> String {
    let class = match about {
        About::Failure => 5,
        About::Delay => 4,
        About::Success => 2,
    };
    let rest = reason.split_once(' ').map_or("", |(_, rest)| rest);
    match crate::smtp::EnhancedCode::read(rest) {
        Some((code, _)) => format!("{class}.{}.{}", code.subject, code.detail),
        None => format!("{class}.0.0"),
    }
}

/// One that does not stand in what is given back.
fn boundary(id: &str, returned: &[u8]) -> String {
    let candidates = (0..).map(|n| format!("=_{id}_{n}"));
    let is_free = |boundary: &String| memchr::memmem::find(returned, boundary.as_bytes()).is_none();
    candidates
        .into_iter()
        .find(is_free)
        .expect("a message of finite length lacks some of all numbers")
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::entry;
    use super::*;
    use std::time::Duration;

    const ORIGINAL: &[u8] = b"Subject: hello\nFrom: anna\n\nA body =_1_0\n";

    fn failed() -> Entry {
        let mut entry = entry(&["bob@example.net", "carol@example.net", "dan@example.net"]);
        entry.envid = Some("QQ314159".into());
        entry.recipients[0].state = State::Failed {
            text: "550 5.1.1 no such user".into(),
            is_reported: false,
        };
        entry.recipients[0].orcpt = Some("rfc822;Bob@example.net".into());
        entry.recipients[1].state = State::Failed {
            text: "no route".into(),
            is_reported: false,
        };
        entry.recipients[1].notify = Some(Notify::default());
        entry
    }

    fn written(about: About, entry: &Entry) -> String {
        let by = Reporter {
            host: "mx.example.org",
            id: "1",
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(2_000),
        };
        let recipients = concerned(about, entry);
        String::from_utf8(report(about, entry, &recipients, ORIGINAL, by)).unwrap()
    }

    #[test]
    fn a_failure_is_told_with_its_reason_and_the_original() {
        let text = written(About::Failure, &failed());
        for part in [
            "To: anna@example.org\nSubject: failure notice\n",
            "boundary=\"=_1_1\"\n\n--=_1_1\n",
            "Hi. This is the postern program at mx.example.org.\n",
            "\n\n<bob@example.net>:\n550 5.1.1 no such user\n\n",
            "Reporting-MTA: dns; mx.example.org\nOriginal-Envelope-Id: QQ314159\n\
             Arrival-Date: Thu, 1 Jan 1970 00:16:40 +0000\n\n\
             Original-Recipient: rfc822; Bob@example.net\n\
             Final-Recipient: rfc822; bob@example.net\nAction: failed\nStatus: 5.1.1\n\
             Diagnostic-Code: smtp; 550 5.1.1 no such user\n\n--=_1_1\n",
            "Content-Type: message/rfc822\n\nSubject: hello\nFrom: anna\n\nA body =_1_0\n\n--=_1_1--\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        // Who wanted no report, and who has not failed.
        assert!(!text.contains("carol") && !text.contains("dan"));
    }

    #[test]
    fn only_the_header_section_where_that_is_enough() {
        let mut entry = failed();
        entry.ret = Some(Return::Headers);
        let text = written(About::Failure, &entry);
        assert!(
            text.contains("text/rfc822-headers\n\nSubject: hello\nFrom: anna\n\n--=_1_0--\n"),
            "{text}"
        );
        entry.recipients[2].state = State::Open {
            attempts: 3,
            next_attempt: 9,
            text: "451 4.4.1 no answer".into(),
        };
        let text = written(About::Delay, &entry);
        assert!(
            text.contains("Action: delayed\nStatus: 4.4.1\n") && !text.contains("bob"),
            "{text}"
        );
    }

    #[test]
    fn what_the_sender_wants_to_know() {
        let only_success = Notify {
            success: true,
            ..Notify::default()
        };
        for (about, notify, expected) in [
            (About::Failure, None, true),
            (About::Delay, None, true),
            (About::Success, None, false),
            (About::Failure, Some(Notify::default()), false),
            (About::Success, Some(only_success), true),
            (About::Delay, Some(only_success), false),
        ] {
            assert_eq!(is_wanted(about, notify), expected, "{about:?} {notify:?}");
        }
    }
}
