//! The trace field that each server puts on top of a message: RFC 5321 §4.4.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::address::Domain;
use super::envelope::{Client, Envelope, Protocol};

/// `Received: from ... by ... with ... id ...; date`, folded, with LF at the
/// end of each line. `host` is what we call ourselves, `id` what the log calls
/// the message. The recipient is named only when there is one: others must not
/// learn of blind copies (RFC 5321 §7.2).
pub fn received(envelope: &Envelope, host: &str, id: &str, now: SystemTime) -> String {
    let client = &envelope.client;
    let mut field = String::from("Received: ");
    if client.protocol != Protocol::Local {
        field.push_str(&from(client));
        field.push_str("\n\t");
    }
    let _ = write!(field, "by {host} with {}", with(envelope));
    if let Some(tls) = &client.tls {
        let _ = write!(field, " ({} {})", tls.version, tls.cipher);
    }
    let _ = write!(field, "\n\tid {id}");
    if let [recipient] = envelope.recipients.as_slice() {
        let _ = write!(field, "\n\tfor <{}>", recipient.forward_path);
    }
    let _ = writeln!(field, "; {}", date(now));
    field
}

/// `Thu, 26 Nov 2026 19:44:15 +0000`: RFC 5322 §3.3.
pub fn date(now: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = seconds(now);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{}, {day} {} {year} {:02}:{:02}:{:02} +0000",
        DAYS[usize::try_from(days % 7).unwrap_or(0)],
        MONTHS[month],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Seconds since 1970; 0 before that.
pub fn seconds(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// `20261130`, the day of `now`.
pub fn calendar_day(now: SystemTime) -> String {
    let (year, month, day) = civil(seconds(now) / 86_400);
    format!("{year:04}{:02}{day:02}", month + 1)
}

/// Year, month from 0, and day from 1, of the Gregorian calendar. Counts from
/// 1 March 0000, so that the leap day comes last in its year; a cycle of 400
/// years has 146,097 days.
fn civil(days_since_1970: u64) -> (u64, usize, u64) {
    let days = days_since_1970 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Months of 31, 30, 31, 30, 31 days repeat from March on.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let january = month >= 10;
    let index = if january { month - 10 } else { month + 2 };
    let year = cycle * 400 + year + u64::from(january);
    (year, usize::try_from(index).unwrap_or(0), day)
}

/// What the client calls itself and where it is. What is no domain, though it
/// was said for one, goes into the comment.
fn from(client: &Client) -> String {
    let helo = client.helo.as_deref().unwrap_or("unknown");
    let address = client
        .peer
        .map(|peer| Domain::Literal(peer.ip().to_canonical()));
    let address = address.map_or("local".to_owned(), |literal| literal.to_string());
    if Domain::parse(helo).is_ok() {
        return format!("from {helo} ({address})");
    }
    let inert = |c: char| {
        if matches!(c, '(' | ')' | '\\') {
            '?'
        } else {
            c
        }
    };
    let helo: String = helo.chars().map(inert).collect();
    format!("from {address} (HELO {helo})")
}

/// RFC 3848, RFC 6531 §4.3.
fn with(envelope: &Envelope) -> String {
    let name = match envelope.client.protocol {
        Protocol::Local => return "local".to_owned(),
        Protocol::Smtp => "SMTP",
        Protocol::Esmtp if envelope.smtputf8 => "UTF8SMTP",
        Protocol::Esmtp => "ESMTP",
        Protocol::Lmtp if envelope.smtputf8 => "UTF8LMTP",
        Protocol::Lmtp => "LMTP",
    };
    let secure = if envelope.client.tls.is_some() {
        "S"
    } else {
        ""
    };
    let account = if envelope.client.account.is_some() {
        "A"
    } else {
        ""
    };
    format!("{name}{secure}{account}")
}

#[cfg(test)]
mod tests {
    use super::super::address::{ForwardPath, ReversePath};
    use super::super::envelope::{Body, Recipient, Tls};
    use super::*;

    fn envelope(helo: &str, peer: &str, n_recipients: usize) -> Envelope {
        let recipient = Recipient {
            forward_path: ForwardPath::parse(b"anna@example.org").unwrap(),
            notify: None,
            orcpt: None,
        };
        Envelope {
            size: 0,
            reverse_path: ReversePath::Null,
            recipients: vec![recipient; n_recipients],
            body: Body::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            gate: Vec::new(),
            client: Client {
                peer: peer.parse().ok(),
                helo: Some(helo.to_owned()),
                protocol: Protocol::Esmtp,
                tls: None,
                account: None,
                may_relay: false,
            },
        }
    }

    #[test]
    fn fields() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_722_255);
        let plain = envelope("mx.example.net", "192.0.2.1:25", 1);
        let mut secure = envelope("(x)", "[::ffff:192.0.2.1]:25", 2);
        secure.smtputf8 = true;
        secure.client.tls = Some(Tls {
            version: "TLSv1.3",
            cipher: "TLS13_AES_256_GCM_SHA384",
            exporter: None,
        });
        let mut submitted = secure.clone();
        submitted.client.account = Some("anna@example.org".into());
        submitted.smtputf8 = false;
        let mut local = envelope("", "", 2);
        local.client.protocol = Protocol::Local;
        for (envelope, expected) in [
            (
                plain,
                "Received: from mx.example.net ([192.0.2.1])\n\tby host with ESMTP\n\tid 7\n\t\
                 for <anna@example.org>; Thu, 26 Nov 2026 19:44:15 +0000\n",
            ),
            (
                secure,
                "Received: from [192.0.2.1] (HELO ?x?)\n\tby host with UTF8SMTPS \
                 (TLSv1.3 TLS13_AES_256_GCM_SHA384)\n\tid 7; Thu, 26 Nov 2026 19:44:15 +0000\n",
            ),
            (
                submitted,
                "Received: from [192.0.2.1] (HELO ?x?)\n\tby host with ESMTPSA \
                 (TLSv1.3 TLS13_AES_256_GCM_SHA384)\n\tid 7; Thu, 26 Nov 2026 19:44:15 +0000\n",
            ),
            (
                local,
                "Received: by host with local\n\tid 7; Thu, 26 Nov 2026 19:44:15 +0000\n",
            ),
        ] {
            assert_eq!(received(&envelope, "host", "7", now), expected);
        }
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (978_220_800, "Sun, 31 Dec 2000 00:00:00 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 +0000"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(date(time), expected);
        }
    }
}
