//! Whole sessions, each in one piece, byte by byte and cut at random.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;

use super::super::address::ReversePath;
use super::super::auth::{Attempt, Mechanism, Proof};
use super::*;
use crate::handover::{Answer, Login, Refusal, Salt};

/// What a session did, however its input was cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    output: String,
    messages: Vec<(usize, String)>,
    closed: bool,
}

/// Accepts everybody but `nobody`; answers a message by its recipients.
fn run<'a>(settings: &Arc<Settings>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let now = Instant::now();
    let mut session = Session::new(Arc::clone(settings), None, false, now);
    if settings.is_submission() && !settings.starttls {
        session = session.within(tls());
    }
    let (mut seen, mut message) = (Seen::default(), Vec::new());
    for piece in [&b""[..]].into_iter().chain(pieces) {
        session.receive(now, piece);
        while let Some(action) = session.poll() {
            let outcome = match action {
                Action::Send(bytes) => {
                    seen.output += &String::from_utf8(bytes).unwrap();
                    continue;
                }
                Action::Store(bytes) => {
                    message.extend_from_slice(bytes);
                    continue;
                }
                Action::Discard => {
                    message.clear();
                    continue;
                }
                Action::Close => {
                    seen.closed = true;
                    continue;
                }
                Action::StartTls => Outcome::TlsStarted(tls()),
                Action::FindSalt(name) => Outcome::Salted(salt(&name)),
                Action::LogIn(attempt) => Outcome::LoggedIn(login(&attempt)),
                Action::CheckSender(path) => Outcome::Sender(sender(&path)),
                Action::CheckRecipient(recipient) => Outcome::Recipient(decision(&recipient)),
                Action::Commit(envelope) => {
                    let text = String::from_utf8_lossy(&mem::take(&mut message)).into_owned();
                    seen.messages.push((envelope.recipients.len(), text));
                    Outcome::Committed(answer(&envelope))
                }
            };
            session.resume(now, outcome);
        }
    }
    seen
}

fn tls() -> Tls {
    Tls {
        version: "TLSv1.3",
        cipher: "x",
        exporter: Some([7; 32]),
    }
}

/// Nonce 7, and no salt for `none`.
fn salt(name: &str) -> Result<Salt, Refusal> {
    if name == "none" {
        return Err(Refusal {
            reply: Reply::new(454, (4, 7, 0), "not now"),
            reason: String::new(),
        });
    }
    Ok(Salt {
        nonce: "7".into(),
        salt: b"salt".into(),
        iterations: 9,
    })
}

fn login(attempt: &Attempt) -> Login {
    let signature = match &attempt.proof {
        Proof::Password(password) if password == b"secret" => Some(None),
        Proof::Digest { digest, .. } if digest == "0a" => Some(None),
        Proof::Scram { proof, .. } if proof == b"a" => Some(Some([0; 32])),
        _ => None,
    };
    if let ("anna", Some(signature)) = (&*attempt.name, signature) {
        let account = "anna@example.org".into();
        return Login::As { account, signature };
    }
    Login::Refused(Refusal {
        reply: super::super::auth::wrong(),
        reason: String::new(),
    })
}

fn sender(path: &ReversePath) -> Decision {
    if path.mailbox().is_none() || path.to_string().starts_with("anna") {
        return Decision::Accept;
    }
    Decision::Refuse(Refusal {
        reply: Reply::new(550, (5, 7, 1), "not yours"),
        reason: String::new(),
    })
}

fn decision(recipient: &Recipient) -> Decision {
    if recipient.forward_path.to_string().starts_with("nobody") {
        return Decision::Refuse(Refusal {
            reply: Reply::new(550, (5, 1, 1), "no such user"),
            reason: String::new(),
        });
    }
    Decision::Accept
}

fn answer(envelope: &Envelope) -> Answer {
    let reply = |recipient: &Recipient| match recipient.forward_path.to_string() {
        path if path.starts_with("full") => Reply::new(452, (4, 2, 2), "full"),
        _ => Reply::new(250, (2, 0, 0), "taken"),
    };
    Answer::Each(envelope.recipients.iter().map(reply).collect())
}

/// Runs `input` however it is cut. Lines of the replies are joined by `|`, and
/// of EHLO's only the last stays.
fn check(settings: &Arc<Settings>, input: &str, replies: &str, messages: &[(usize, &str)]) {
    let bytes = input.as_bytes();
    let whole = run(settings, [bytes]);
    let said: Vec<_> = whole.output.split_terminator("\r\n").collect();
    let said: Vec<_> = said
        .into_iter()
        .filter(|line| line.as_bytes()[3] == b' ')
        .collect();
    assert_eq!(said[1..].join("|"), replies, "{input:?}");
    let taken: Vec<_> = whole
        .messages
        .iter()
        .map(|(n, text)| (*n, text.as_str()))
        .collect();
    assert_eq!(taken, messages, "{input:?}");
    assert_eq!(
        run(settings, bytes.chunks(1)),
        whole,
        "byte by byte: {input:?}"
    );
    for at in 0..bytes.len() {
        let pieces = [&bytes[..at], &bytes[at..]];
        assert_eq!(run(settings, pieces), whole, "cut at {at}: {input:?}");
    }
}

const OPEN: &str = "EHLO c\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<c@d.org>\r\n";
const OPENED: &str = "250 DSN|250 2.1.0 ok|250 2.1.5 ok";

#[test]
fn messages_by_data_and_by_chunks() {
    let settings = Settings::new("mx");
    for (input, replies, messages) in [
        (
            "DATA\r\nS: x\r\n\r\n..y\r\n.\r\nQUIT\r\n",
            "354 end the message with a line that is a dot|250 2.0.0 taken|221 2.0.0 bye",
            &[(1, "S: x\n\n.y\n")][..],
        ),
        (
            "BDAT 6\r\nS: x\r\nBDAT 5 LAST\r\n\r\n.\r\nNOOP\r\n",
            "250 2.0.0 go on|250 2.0.0 taken|250 2.0.0 ok",
            &[(1, "S: x\n\n.\n")],
        ),
        ("BDAT 0 LAST\r\n", "250 2.0.0 taken", &[(1, "")]),
        (
            "BDAT 3\r\na\nbBDAT 1 LAST\r\nxNOOP\r\n",
            "554 5.6.0 the message has an LF without CR|503 5.5.1 bad sequence of commands|\
             250 2.0.0 ok",
            &[],
        ),
        (
            "BDAT 1\r\nxMAIL FROM:<>\r\nRSET\r\n",
            "250 2.0.0 go on|503 5.5.1 bad sequence of commands|250 2.0.0 ok",
            &[],
        ),
        (
            "DATA\r\na\n.\nMAIL FROM:<x@y.org>\r\n.\r\nNOOP\r\n",
            "354 end the message with a line that is a dot|\
             554 5.6.0 the message has an LF without CR|250 2.0.0 ok",
            &[],
        ),
        (
            "BDAT x\r\nNOOP\r\n",
            "501 5.5.4 syntax: BDAT octets [LAST]",
            &[],
        ),
    ] {
        let replies = format!("{OPENED}|{replies}");
        check(&settings, &format!("{OPEN}{input}"), &replies, messages);
    }
}

#[test]
fn commands_out_of_order_and_malformed() {
    let settings = Settings::new("mx");
    let bad = "503 5.5.1 bad sequence of commands";
    for (input, replies) in [
        ("MAIL FROM:<>\r\n", bad),
        (
            "HELO c\r\nRCPT TO:<a@b.org>\r\nDATA\r\n",
            &format!("250 mx|{bad}|{bad}"),
        ),
        (
            "HELO\r\n",
            "501 5.5.4 the name of the client is missing or malformed",
        ),
        ("LHLO c\r\n", "500 5.5.1 command not known"),
        (
            "FOO\r\n\r\n",
            "500 5.5.1 command not known|500 5.5.1 command not known",
        ),
        (
            "GET / HTTP/1.1\r\nNOOP\r\n",
            "421 4.7.0 this is a mail server",
        ),
        ("BDAT 5\r\nNOOP\nNOOP\r\n", &format!("{bad}|250 2.0.0 ok")),
        // A refused chunk does not stand for EHLO.
        ("BDAT 1\r\nxMAIL FROM:<>\r\n", &format!("{bad}|{bad}")),
        (
            "NOOP\nNOOP\r\n",
            "500 5.5.2 a line ends with CR LF, and neither stands alone|250 2.0.0 ok",
        ),
        (
            "NO\rOP\r\n",
            "500 5.5.2 a line ends with CR LF, and neither stands alone",
        ),
        ("STARTTLS\r\n", "502 5.5.1 there is no TLS here"),
        (
            "helo c\r\nmail from:<> size=99999999999\r\n",
            "250 mx|552 5.3.4 the message is larger than 52428800 octets",
        ),
        (
            "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@b.org>\r\nDATA\r\nBDAT 3 LAST\r\na\r\nNOOP\r\n",
            "250 mx|250 2.1.0 ok|550 5.1.1 no such user|503 5.5.1 no recipient was accepted|\
             503 5.5.1 no recipient was accepted|250 2.0.0 ok",
        ),
    ] {
        check(&settings, input, replies, &[]);
    }
    let long = format!("NOOP {}\r\nNOOP\r\n", "x".repeat(3000));
    check(
        &settings,
        &long,
        "500 5.5.2 the line is too long|250 2.0.0 ok",
        &[],
    );
}

#[test]
fn lmtp_answers_each_recipient() {
    let mut settings = Settings::clone(&Settings::new("mx"));
    settings.lmtp = true;
    let settings = Arc::new(settings);
    let input = "EHLO c\r\nLHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.org>\r\nRCPT TO:<nobody@b.org>\r\n\
                 RCPT TO:<full@b.org>\r\nDATA\r\nx\r\n.\r\nDATA\r\n";
    let replies = "500 5.5.1 command not known|250 DSN|250 2.1.0 ok|250 2.1.5 ok|\
                   550 5.1.1 no such user|250 2.1.5 ok|354 end the message with a line that is a dot|\
                   250 2.0.0 taken|452 4.2.2 full|503 5.5.1 bad sequence of commands";
    check(&settings, input, replies, &[(2, "x\n")]);
    let input = input.replace("x\r\n.", "\n\r\n.");
    let refused = "554 5.6.0 the message has an LF without CR";
    let replies = replies.replace("250 2.0.0 taken|452 4.2.2 full", &[refused; 2].join("|"));
    check(&settings, &input, &replies, &[]);
}

/// RFC 2033 §4.3.
#[test]
fn lmtp_answers_each_recipient_of_the_last_chunk_only() {
    let mut settings = Settings::clone(&Settings::new("mx"));
    settings.lmtp = true;
    let settings = Arc::new(settings);
    let open = "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.org>\r\nRCPT TO:<b@b.org>\r\n";
    let opened = "250 DSN|250 2.1.0 ok|250 2.1.5 ok|250 2.1.5 ok";
    let refused = "554 5.6.0 the message has an LF without CR";
    let bad = "503 5.5.1 bad sequence of commands";
    for (input, replies, messages) in [
        (
            "BDAT 1\r\nxBDAT 1 LAST\r\ny",
            "250 2.0.0 go on|250 2.0.0 taken|250 2.0.0 taken",
            &[(2, "xy")][..],
        ),
        (
            "BDAT 1\r\n\nBDAT 1 LAST\r\ny",
            &[refused, bad].join("|"),
            &[],
        ),
        ("BDAT 1 LAST\r\n\n", &[refused; 2].join("|"), &[]),
    ] {
        let replies = format!("{opened}|{replies}");
        check(&settings, &format!("{open}{input}"), &replies, messages);
    }
}

#[test]
fn over_smtp_mixed_answers_become_a_transient_one() {
    let input = format!("{OPEN}RCPT TO:<full@d.org>\r\nDATA\r\n.\r\n");
    let replies = format!(
        "{OPENED}|250 2.1.5 ok|354 end the message with a line that is a dot|\
         451 4.3.0 not all recipients could be served, try again"
    );
    check(&Settings::new("mx"), &input, &replies, &[(2, "")]);
}

#[test]
fn limits_send_the_client_away() {
    let mut settings = Settings::clone(&Settings::new("mx"));
    settings.limits.errors = 2;
    settings.limits.idle_commands = 2;
    settings.limits.recipients = 1;
    let settings = Arc::new(settings);
    check(
        &settings,
        "X\r\nX\r\nNOOP\r\n",
        "500 5.5.1 command not known|500 5.5.1 command not known|421 4.7.0 too many errors",
        &[],
    );
    check(
        &settings,
        "NOOP\r\nNOOP\r\nNOOP\r\n",
        "250 2.0.0 ok|250 2.0.0 ok|421 4.7.0 too many commands without a message",
        &[],
    );
    let input = format!("{OPEN}RCPT TO:<c@d.org>\r\n");
    check(
        &settings,
        &input,
        &format!("{OPENED}|452 4.5.3 too many recipients"),
        &[],
    );
}

/// A listener for submission, within TLS unless the client is to start it.
fn submission(starttls: bool) -> Arc<Settings> {
    let mut settings = Settings::clone(&Settings::new("mx"));
    settings.mechanisms = vec![Mechanism::Plain, Mechanism::Login];
    settings.starttls = starttls;
    Arc::new(settings)
}

#[test]
fn logging_in_without_telling_the_password() {
    let mut settings = Settings::clone(&submission(false));
    settings.mechanisms = vec![
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::CramMd5,
    ];
    let settings = Arc::new(settings);
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let channel = "\x07".repeat(32);
    let binding = base64(&format!("p=tls-exporter,,{channel}"));
    let salted = base64("r=17,s=c2FsdA==,i=9");
    let signature = base64(&format!("v={}", base64(&"\0".repeat(32))));
    let (welcome, no) = (
        "235 2.7.0 welcome",
        "535 5.7.8 the name or the password is wrong",
    );
    for (mechanism, lines, replies) in [
        (
            "SCRAM-SHA-256-PLUS",
            vec![
                "p=tls-exporter,,n=anna,r=1".into(),
                format!("c={binding},r=17,p=YQ=="),
                String::new(),
            ],
            format!("334 |334 {salted}|334 {signature}|{welcome}"),
        ),
        (
            "SCRAM-SHA-256",
            vec![
                "n,,n=anna,r=1".into(),
                "c=biws,r=17,p=YQ==".into(),
                String::new(),
            ],
            format!("334 |334 {salted}|334 {signature}|{welcome}"),
        ),
        (
            "SCRAM-SHA-256",
            vec!["n,,n=anna,r=1".into(), "c=biws,r=17,p=Yg==".into()],
            format!("334 |334 {salted}|{no}"),
        ),
        (
            "SCRAM-SHA-256",
            vec!["y,,n=anna,r=1".into()],
            format!("334 |{no}"),
        ),
        (
            "SCRAM-SHA-256",
            vec!["n,,n=none,r=1".into()],
            "334 |454 4.7.0 not now".into(),
        ),
        // Who does not answer our proof has not logged in.
        (
            "SCRAM-SHA-256",
            vec![
                "n,,n=anna,r=1".into(),
                "c=biws,r=17,p=YQ==".into(),
                "x".into(),
            ],
            format!("334 |334 {salted}|334 {signature}|501 5.5.2 the response is malformed"),
        ),
        (
            "CRAM-MD5",
            vec!["anna 0a".into()],
            format!("334 {}|{welcome}", base64("<7@mx>")),
        ),
        (
            "CRAM-MD5",
            vec!["anna 0b".into()],
            format!("334 {}|{no}", base64("<7@mx>")),
        ),
        (
            "PLAIN",
            vec![],
            "504 5.5.4 this mechanism is not known".into(),
        ),
    ] {
        let lines: String = lines.iter().map(|line| base64(line) + "\r\n").collect();
        let input = format!("EHLO c\r\nAUTH {mechanism}\r\n{lines}");
        let replies = format!("250 DSN|{replies}");
        check(&settings, &input, &replies, &[]);
    }
    // A channel that is not known cannot be bound to.
    let now = Instant::now();
    let mut tls = tls();
    tls.exporter = None;
    let mut session = Session::new(settings, None, false, now).within(tls);
    session.receive(now, b"EHLO c\r\nAUTH SCRAM-SHA-256-PLUS\r\n");
    let output = drain(&mut session);
    assert!(
        output.contains("250-AUTH SCRAM-SHA-256 CRAM-MD5\r\n250 DSN\r\n504 "),
        "{output}"
    );
}

#[test]
fn logging_in() {
    let settings = submission(false);
    let long = "A".repeat(12_288);
    let too_long = "A".repeat(12_289);
    let mail = "MAIL FROM:<anna@example.org>\r\n";
    // NUL anna NUL secret, and the like.
    let (right, wrong) = ("AGFubmEAc2VjcmV0", "AGFubmEAZ3Vlc3M=");
    let welcome = "235 2.7.0 welcome";
    let no = "535 5.7.8 the name or the password is wrong";
    let first = "530 5.7.0 log in first";
    for (input, replies) in [
        (
            format!("AUTH PLAIN {right}\r\n{mail}"),
            format!("{welcome}|250 2.1.0 ok"),
        ),
        (
            format!("auth plain\r\n{right}\r\n{mail}"),
            format!("334 |{welcome}|250 2.1.0 ok"),
        ),
        (
            "AUTH LOGIN\r\nYW5uYQ==\r\nc2VjcmV0\r\n".into(),
            format!("334 VXNlcm5hbWU6|334 UGFzc3dvcmQ6|{welcome}"),
        ),
        (
            "AUTH LOGIN YW5uYQ==\r\nc2VjcmV0\r\n".into(),
            format!("334 UGFzc3dvcmQ6|{welcome}"),
        ),
        (
            format!("AUTH PLAIN {wrong}\r\n{mail}"),
            format!("{no}|{first}"),
        ),
        (
            format!("AUTH PLAIN\r\n*\r\nAUTH LOGIN YQ==\r\n*\r\n{mail}"),
            format!("334 |501 5.7.0 cancelled|334 UGFzc3dvcmQ6|501 5.7.0 cancelled|{first}"),
        ),
        (
            "AUTH PLAIN =\r\nAUTH PLAIN !\r\nAUTH PLAIN YQ==\r\n".into(),
            "501 5.5.2 the response is malformed|501 5.5.2 this is no base64|\
             501 5.5.2 the response is malformed"
                .into(),
        ),
        (
            "AUTH\r\nAUTH GSSAPI\r\nAUTH PLAIN a b\r\n".into(),
            "501 5.5.4 syntax: AUTH mechanism [initial-response]|504 5.5.4 this mechanism is not \
             known|501 5.5.4 syntax: AUTH mechanism [initial-response]"
                .into(),
        ),
        (
            format!("AUTH PLAIN\r\n{long}\r\nAUTH PLAIN\r\n{too_long}\r\nNOOP\r\n"),
            "334 |501 5.5.2 the response is malformed|334 |\
             500 5.5.6 the line of the exchange is too long|250 2.0.0 ok"
                .into(),
        ),
        (
            format!("AUTH PLAIN\r\n{right}\nNOOP\r\n"),
            "334 |500 5.5.2 a line ends with CR LF, and neither stands alone|250 2.0.0 ok".into(),
        ),
        // Not twice, and not within a transaction.
        (
            format!("AUTH PLAIN {right}\r\nAUTH PLAIN\r\n{mail}AUTH PLAIN\r\nRSET\r\n"),
            format!(
                "{welcome}|503 5.5.1 you have logged in already|250 2.1.0 ok|\
                 503 5.5.1 bad sequence of commands|250 2.0.0 ok"
            ),
        ),
        // What somebody may send as; receipts and reports come from nobody.
        (
            format!("AUTH PLAIN {right}\r\nMAIL FROM:<bob@example.org>\r\nMAIL FROM:<>\r\n"),
            format!("{welcome}|550 5.7.1 not yours|250 2.1.0 ok"),
        ),
        // RFC 4954 §5: what others say of whose mail it is.
        (
            format!(
                "AUTH PLAIN {right}\r\nMAIL FROM:<anna@example.org> AUTH=<>\r\nRSET\r\n\
                 MAIL FROM:<anna@example.org> AUTH=e+3Dmc2@example.com\r\nRSET\r\n\
                 MAIL FROM:<anna@example.org> AUTH=+3d\r\n"
            ),
            format!(
                "{welcome}|250 2.1.0 ok|250 2.0.0 ok|250 2.1.0 ok|250 2.0.0 ok|\
                 501 5.5.4 parameter AUTH has a malformed value"
            ),
        ),
        // Nothing goes without.
        (
            "RCPT TO:<a@b.org>\r\nDATA\r\nVRFY a\r\nBDAT 3 LAST\r\nNONOOP\r\n".into(),
            format!("{first}|{first}|{first}|{first}|500 5.5.1 command not known"),
        ),
    ] {
        check(
            &settings,
            &format!("EHLO c\r\n{input}"),
            &format!("250 DSN|{replies}"),
            &[],
        );
    }
    check(
        &settings,
        "AUTH PLAIN\r\nHELO c\r\nAUTH PLAIN\r\n",
        "503 5.5.1 bad sequence of commands|250 mx|503 5.5.1 say EHLO first",
        &[],
    );
    let input = format!("EHLO c\r\n{}", format!("AUTH PLAIN {wrong}\r\n").repeat(6));
    let replies = format!(
        "250 DSN|{}421 4.7.0 too many failed logins",
        format!("{no}|").repeat(5)
    );
    check(&settings, &input, &replies, &[]);
}

#[test]
fn logging_in_needs_tls_and_a_listener_for_it() {
    check(
        &submission(true),
        "EHLO c\r\nAUTH PLAIN AGFubmEAc2VjcmV0\r\nMAIL FROM:<>\r\nSTARTTLS\r\n",
        "250 DSN|538 5.7.11 say STARTTLS first|530 5.7.0 log in first|220 2.0.0 begin TLS",
        &[],
    );
    check(
        &Settings::new("mx"),
        "EHLO c\r\nAUTH PLAIN AGFubmEAc2VjcmV0\r\nMAIL FROM:<a@b.org> AUTH=<>\r\nMAIL FROM:<>\r\n",
        "250 DSN|502 5.5.1 there is no AUTH here|555 5.5.4 parameter AUTH is not known|250 2.1.0 ok",
        &[],
    );
}

#[test]
fn who_has_logged_in_is_in_the_envelope() {
    let now = Instant::now();
    let mut session = Session::new(submission(true), None, false, now);
    session.receive(now, b"EHLO c\r\nSTARTTLS\r\n");
    drain(&mut session);
    session.resume(now, Outcome::TlsStarted(tls()));
    session.receive(now, b"EHLO c\r\nAUTH PLAIN AGFubmEAc2VjcmV0\r\n");
    assert_eq!(drain(&mut session), "LogIn(Attempt(PLAIN))\n");
    assert_eq!(session.deadline(), None);
    let (account, signature) = ("anna@example.org".into(), None);
    session.resume(now, Outcome::LoggedIn(Login::As { account, signature }));
    // A new EHLO forgets no login, and there is no other.
    session.receive(now, b"EHLO d\r\nMAIL FROM:<>\r\n");
    assert_eq!(drain(&mut session), "CheckSender(Null)\n");
    session.resume(now, Outcome::Sender(Decision::Accept));
    let envelope = session.envelope().unwrap();
    assert_eq!(envelope.client.account.as_deref(), Some("anna@example.org"));
    assert!(envelope.client.may_relay);
    let output = drain(&mut session);
    assert!(
        output.contains("250-AUTH PLAIN LOGIN\r\n250 DSN\r\n235 2.7.0 welcome\r\n250-mx"),
        "{output}"
    );
    assert!(output.ends_with("250 DSN\r\n250 2.1.0 ok\r\n"), "{output}");
}

fn drain(session: &mut Session) -> String {
    let mut output = String::new();
    while let Some(action) = session.poll() {
        match action {
            Action::Send(bytes) => output += &String::from_utf8(bytes).unwrap(),
            other => output += &format!("{other:?}\n"),
        }
    }
    output
}

#[test]
fn nothing_passes_from_before_tls() {
    let mut settings = Settings::clone(&Settings::new("mx"));
    settings.starttls = true;
    let settings = Arc::new(settings);
    let now = Instant::now();
    let mut session = Session::new(Arc::clone(&settings), None, false, now);
    session.receive(now, b"EHLO c\r\nSTARTTLS\r\n");
    assert!(
        drain(&mut session)
            .ends_with("250-STARTTLS\r\n250 DSN\r\n220 2.0.0 begin TLS\r\nStartTls\n")
    );
    assert_eq!(session.client().protocol, Protocol::Esmtp);
    // Said in clear by whoever stands in between.
    session.receive(now, b"EHLO x\r\n");
    assert_eq!(drain(&mut session), "");
    session.resume(now, Outcome::TlsStarted(tls()));
    assert_eq!(session.client().helo, None);
    assert_eq!(session.client().protocol, Protocol::Smtp);
    session.receive(now, b"MAIL FROM:<>\r\nEHLO c\r\nSTARTTLS\r\n");
    let output = drain(&mut session);
    assert!(output.starts_with("503 ") && output.ends_with("503 5.5.1 TLS is active already\r\n"));
    assert!(!output.contains("STARTTLS"), "{output}");

    let mut session = Session::new(settings, None, false, now);
    session.receive(now, b"STARTTLS\r\nMAIL FROM:<>\r\n");
    assert_eq!(
        drain(&mut session),
        "220 mx ESMTP\r\n503 5.5.1 nothing may follow STARTTLS before its reply\r\nClose\n"
    );
}

#[test]
fn time_runs_out() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let settings = Settings::new("mx");
    let mut session = Session::new(Arc::clone(&settings), None, false, start);
    session.receive(after(200), b"NO");
    assert_eq!(
        session.deadline(),
        Some(after(300)),
        "half a command gives no time"
    );
    session.receive(after(250), b"OP\r\n");
    assert_eq!(session.deadline(), Some(after(550)));
    session.receive(after(550), b"");
    assert!(drain(&mut session).contains("421 4.4.2 timed out\r\n"));

    let mut session = Session::new(Arc::clone(&settings), None, false, start);
    for i in 1..36 {
        session.receive(after(200 * i), b"NOOP\r\n");
        drain(&mut session);
    }
    let end = Some(after(7200));
    assert_eq!(session.deadline(), end, "however many commands come");

    let mut session = Session::new(settings, None, false, start);
    session.receive(start, OPEN.as_bytes());
    drain(&mut session);
    session.resume(start, Outcome::Recipient(Decision::Accept));
    session.receive(start, b"DATA\r\n");
    drain(&mut session);
    for i in 1..18 {
        session.receive(after(200 * i), b"x");
        drain(&mut session);
    }
    assert_eq!(
        session.deadline(),
        Some(after(3600)),
        "however steadily it trickles"
    );
}

#[test]
fn a_shutdown_waits_for_the_message() {
    let now = Instant::now();
    let mut session = Session::new(Settings::new("mx"), None, false, now);
    session.receive(now, OPEN.as_bytes());
    drain(&mut session);
    session.resume(now, Outcome::Recipient(Decision::Accept));
    session.receive(now, b"DATA\r\nx\r\n");
    drain(&mut session);
    session.shut_down();
    assert_eq!(drain(&mut session), "");
    session.receive(now, b".\r\n");
    assert!(drain(&mut session).starts_with("Commit"));
    session.resume(
        now,
        Outcome::Committed(Answer::All(Reply::new(250, (2, 0, 0), "taken"))),
    );
    let output = drain(&mut session);
    assert!(output.starts_with("250 2.0.0 taken\r\n421 4.3.2 ") && output.ends_with("Close\n"));
}

#[test]
fn what_cannot_be_stored_is_refused_for_now() {
    let now = Instant::now();
    for input in ["DATA\r\nx\r\n.\r\n", "BDAT 1 LAST\r\nx"] {
        let mut session = Session::new(Settings::new("mx"), None, false, now);
        session.receive(now, OPEN.as_bytes());
        drain(&mut session);
        session.resume(now, Outcome::Recipient(Decision::Accept));
        session.receive(now, input.as_bytes());
        let mut failed = false;
        while let Some(action) = session.poll() {
            if matches!(action, Action::Store(_)) {
                session.not_stored();
                failed = true;
                break;
            }
        }
        let output = drain(&mut session);
        assert!(failed && output.starts_with("Discard\n"), "{output}");
        let refused = "\r\n452 4.3.1 the message cannot be stored now\r\n";
        assert!(output.ends_with(refused), "{output}");
    }
}

proptest! {
    #[test]
    fn any_session_is_the_same_however_it_is_cut(
        lines in prop::collection::vec(
            "(EHLO c|AUTH PLAIN|AUTH LOGIN YW5uYQ|AGFubmEAc2VjcmV0|c2VjcmV0|\\*|MAIL FROM:<>|RCPT TO:<a@b.org>|DATA|BDAT 4|BDAT 3 LAST|RSET|\\.|x|\\PC{0,4})\r?\n?",
            0..20,
        ),
        cuts in prop::collection::vec(1_usize..9, 1..200),
        is_submission: bool,
    ) {
        let input = lines.concat();
        let settings = match is_submission {
            true => submission(false),
            false => Settings::new("mx"),
        };
        let mut rest = input.as_bytes();
        let pieces: Vec<_> = cuts.iter().cycle().map_while(|n| {
            let (piece, after) = rest.split_at((*n).min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        }).collect();
        prop_assert_eq!(run(&settings, pieces), run(&settings, [input.as_bytes()]));
    }
}
