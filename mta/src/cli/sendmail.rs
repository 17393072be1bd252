//! `postern sendmail`: what programs call to send mail.
//!
//! | option | means |
//! | --- | --- |
//! | `-t` | recipients stand in To, Cc and Bcc; Bcc is taken out |
//! | `-f ADDRESS`, `-r ADDRESS` | who gets reports |
//! | `-F NAME` | the sender's name, where a From field must be made |
//! | `-i`, `-oi` | a line with a dot alone does not end the message |
//! | `-bs` | SMTP on standard input and output |
//! | `-bp` | what waits, as `postern queue list` prints it |
//! | `--` | no options follow |
//!
//! Other options of sendmail are passed over. Exit codes: 0 taken, 100 refused
//! for good, 111 to be tried again; as qmail's sendmail, and so that `.qmail`
//! programs may pass them on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::SystemTime;

use mail_parser::MessageParser;

use super::inject::{Letter, inject, with_domain};
use crate::delivery::content::header_section;
use crate::smtp::trace;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    from: Option<String>,
    name: Option<String>,
    to: Vec<String>,
    reads_recipients: bool,
    ignores_dots: bool,
    speaks_smtp: bool,
}

/// Where the server is, and who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The socket for programs of this machine.
    pub socket: &'a Path,
    /// Goes behind names without a domain.
    pub domain: &'a str,
    /// Who calls.
    pub user: &'a str,
    /// Now.
    pub now: SystemTime,
}

/// The exit codes.
pub(super) const HARD: i32 = 100;
pub(super) const SOFT: i32 = 111;

/// Sends what `input` holds.
pub fn run(
    arguments: &[String],
    caller: Caller<'_>,
    input: impl Read,
    mut errors: impl Write,
) -> i32 {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(reason) => {
            let _ = writeln!(errors, "sendmail: {reason}");
            return HARD;
        }
    };
    if options.speaks_smtp {
        return connect_through(caller.socket, errors);
    }
    let mut message = Vec::new();
    let mut input = input;
    if let Err(error) = input.read_to_end(&mut message) {
        let _ = writeln!(errors, "sendmail: cannot read the message: {error}");
        return SOFT;
    }
    let (to, message) = options.prepare(&message, caller);
    if to.is_empty() {
        let _ = writeln!(errors, "sendmail: no recipients");
        return HARD;
    }
    let from = options.from.as_deref().unwrap_or(caller.user);
    let letter = Letter {
        from: &with_domain(from, caller.domain),
        to: &to,
        message: &message,
    };
    match inject(caller.socket, &letter) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(errors, "sendmail: {error}");
            if error.is_transient() { SOFT } else { HARD }
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(option) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                options.to.push(argument.clone());
                continue;
            };
            // Those that bring a value, behind them or as the next word.
            let mut value = |letter: char| {
                let behind = &option[letter.len_utf8()..];
                match behind {
                    "" => arguments.next().cloned(),
                    behind => Some(behind.to_owned()),
                }
                .ok_or_else(|| format!("-{letter} needs a value"))
            };
            match option.chars().next() {
                Some('-') if option == "-" => {
                    options.to.extend(arguments.by_ref().cloned());
                }
                Some(letter @ ('f' | 'r')) => {
                    let address = value(letter)?;
                    let address = address
                        .strip_prefix('<')
                        .and_then(|a| a.strip_suffix('>'))
                        .unwrap_or(&address);
                    options.from = Some(address.to_owned());
                }
                Some('F') => options.name = Some(value('F')?),
                // Values that say nothing here: configuration, hops, notification.
                Some(letter @ ('B' | 'C' | 'h' | 'L' | 'N' | 'O' | 'p' | 'R' | 'V' | 'X')) => {
                    value(letter)?;
                }
                Some('i') => options.ignores_dots = true,
                Some('o') => options.ignores_dots |= option == "oi",
                Some('t') => {
                    options.reads_recipients = true;
                    options.ignores_dots |= option.contains('i');
                }
                Some('b') if option == "bs" => options.speaks_smtp = true,
                Some('b') if option != "bm" => {
                    return Err(format!(
                        "-{option} is not for this sendmail; see postern --help"
                    ));
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// The recipients, and the message as it is sent.
    fn prepare(&self, given: &[u8], caller: Caller<'_>) -> (Vec<String>, Vec<u8>) {
        let message = with_lf(given, !self.ignores_dots);
        let head = &message[..header_section(&message)];
        let mut to = self.to.clone();
        if self.reads_recipients {
            to.extend(recipients(head));
        }
        let to = to
            .iter()
            .map(|address| with_domain(address, caller.domain))
            .collect();
        let mut sent = self.missing_fields(head, caller).into_bytes();
        for field in fields(head) {
            if !self.reads_recipients || !is_named(field, "Bcc") {
                sent.extend_from_slice(field);
            }
        }
        if !sent.ends_with(b"\n") {
            sent.push(b'\n');
        }
        let body = &message[head.len()..];
        if !body.starts_with(b"\n") {
            sent.push(b'\n');
        }
        sent.extend_from_slice(body);
        (to, sent)
    }

    /// RFC 5322 §3.6: From and Date must be there, Message-ID should.
    fn missing_fields(&self, head: &[u8], caller: Caller<'_>) -> String {
        let has = |name: &str| fields(head).any(|field| is_named(field, name));
        let mut made = String::new();
        if !has("From") {
            let address = with_domain(self.from.as_deref().unwrap_or(caller.user), caller.domain);
            made += &match self
                .name
                .as_deref()
                .filter(|name| !name.contains(['\r', '\n']))
            {
                Some(name) => {
                    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
                    format!("From: \"{name}\" <{address}>\n")
                }
                None => format!("From: {address}\n"),
            };
        }
        if !has("Date") {
            made += &format!("Date: {}\n", trace::date(caller.now));
        }
        if !has("Message-ID") {
            let since = caller
                .now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let process = std::process::id();
            made += &format!(
                "Message-ID: <{}.{process}@{}>\n",
                since.as_nanos(),
                caller.domain
            );
        }
        made
    }
}

/// With LF line ends, and up to the dot that ends it.
fn with_lf(given: &[u8], ends_with_dot: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(given.len());
    for line in given.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if ends_with_dot && text == b"." {
            break;
        }
        message.extend_from_slice(text);
        message.push(b'\n');
    }
    message
}

/// Header fields with their folded lines. A first line that is none, as of an
/// mbox, is left out.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            end += memchr::memchr(b'\n', &rest[end..]).map_or(rest.len() - end, |n| n + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, after) = rest.split_at(end);
        rest = after;
        Some(field)
    })
    .filter(|field| !field.starts_with(b"From "))
}

fn is_named(field: &[u8], name: &str) -> bool {
    let field_name = field.split(|b| *b == b':').next().unwrap_or_default();
    field_name
        .trim_ascii_end()
        .eq_ignore_ascii_case(name.as_bytes())
}

/// The addresses of To, Cc and Bcc.
fn recipients(head: &[u8]) -> Vec<String> {
    let Some(message) = MessageParser::default().parse_headers(head) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for header in message.headers() {
        let name = header.name();
        let is_wanted = ["To", "Cc", "Bcc"]
            .iter()
            .any(|n| name.eq_ignore_ascii_case(n));
        if let (true, mail_parser::HeaderValue::Address(addresses)) = (is_wanted, header.value()) {
            // A name of this host without a domain is read as a display name.
            let text =
                |one: &mail_parser::Addr<'_>| one.address().or(one.name()).map(str::to_owned);
            found.extend(addresses.iter().filter_map(text));
        }
    }
    found
}

/// Carries bytes between the server and standard input and output.
fn connect_through(socket: &Path, mut errors: impl Write) -> i32 {
    let carry = || -> io::Result<()> {
        let stream = UnixStream::connect(socket)?;
        let mut to_server = stream.try_clone()?;
        // The caller holds the lock of standard input.
        let mut input = File::from(rustix::io::dup(rustix::stdio::stdin())?);
        thread::spawn(move || {
            // Ends with the process, if not before.
            let _ = io::copy(&mut input, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let mut from_server = stream;
        let mut out = io::stdout().lock();
        let mut buffer = [0; 4096];
        loop {
            match from_server.read(&mut buffer)? {
                0 => return Ok(()),
                n => out.write_all(&buffer[..n]).and_then(|()| out.flush())?,
            }
        }
    };
    match carry() {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(errors, "sendmail: the server does not answer: {error}");
            SOFT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_as_scripts_write_them() {
        let some = |text: &str| Some(text.to_owned());
        let parsed = parse("-oi -fanna@example.org -F Anna -t").unwrap();
        assert_eq!(
            (parsed.from, parsed.name),
            (some("anna@example.org"), some("Anna"))
        );
        assert!(parsed.ignores_dots && parsed.reads_recipients && parsed.to.is_empty());
        let parsed = parse("-i -f <> -- -odd@example.org bob").unwrap();
        assert_eq!(
            (parsed.from, parsed.to.join(" ")),
            (some(""), "-odd@example.org bob".into())
        );
        assert!(parse("-bs").unwrap().speaks_smtp);
        assert!(parse("-ti").unwrap().ignores_dots);
        assert_eq!(parse("-oem -odi -bm -v -N never bob").unwrap().to, ["bob"]);
        assert!(parse("-bi").is_err() && parse("bob -f").is_err());
    }

    fn prepared(arguments: &str, text: &str) -> (String, String) {
        let caller = Caller {
            socket: Path::new("/nonexistent"),
            domain: "example.org",
            user: "anna",
            now: SystemTime::UNIX_EPOCH,
        };
        let (to, message) = parse(arguments).unwrap().prepare(text.as_bytes(), caller);
        (to.join(" "), String::from_utf8(message).unwrap())
    }

    #[test]
    fn recipients_and_fields() {
        let text = "From: a@b.org\r\nTo: Bob <bob@example.net>,\r\n carl\nBCC: dan@example.net\nDate: x\nMessage-ID: <y>\n\nbody\n.\nmore\n";
        let (to, message) = prepared("-t", text);
        assert_eq!(to, "bob@example.net carl@example.org dan@example.net");
        assert_eq!(
            message,
            "From: a@b.org\nTo: Bob <bob@example.net>,\n carl\nDate: x\nMessage-ID: <y>\n\nbody\n"
        );
        let (to, message) = prepared("-i bob", text);
        assert_eq!(to, "bob@example.org");
        assert!(message.contains("BCC: dan") && message.ends_with("body\n.\nmore\n"));
        let (_, message) = prepared("-F A\"b bob", "Subject: x\n");
        assert!(message.starts_with("From: \"A\\\"b\" <anna@example.org>\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <0."), "{message}");
        assert!(message.ends_with("Subject: x\n\n"), "{message}");
        let (_, message) = prepared("bob", "");
        assert!(message.ends_with(">\n\n"), "{message}");
    }
}
