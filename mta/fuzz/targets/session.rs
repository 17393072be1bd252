//! Any bytes from a client, cut anywhere: nothing panics, memory stays within
//! bounds, and the replies and messages do not depend on the cuts.
//!
//! The protocol is compiled from its sources, not as a part of the crate, so
//! that neither RocksDB nor tokio must be instrumented.
#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../src/handover.rs"]
mod handover;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/smtp/mod.rs"]
mod smtp;

use std::sync::Arc;
use std::time::{Duration, Instant};

use handover::{Answer, Decision, Login, Refusal, Salt};
use libfuzzer_sys::fuzz_target;
use smtp::session::{Action, Outcome, Session, Settings};
use smtp::{Limits, Mechanism, Proof, Reply, Tls};

/// What a client and the host have seen.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    output: Vec<u8>,
    messages: Vec<(usize, Vec<u8>)>,
}

fn run<'a>(settings: &Arc<Settings>, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut now = Instant::now();
    let mut session = Session::new(Arc::clone(settings), None, false, now);
    if settings.is_submission() && !settings.starttls {
        session = session.within(TLS);
    }
    let mut seen = Seen::default();
    let mut message = Vec::new();
    for piece in std::iter::once(&b""[..]).chain(pieces) {
        now += Duration::from_millis(1);
        session.receive(now, piece);
        while let Some(action) = session.poll() {
            match action {
                Action::Send(bytes) => seen.output.extend(bytes),
                Action::Store(bytes) => message.extend_from_slice(bytes),
                Action::Discard => message.clear(),
                Action::FindSalt(name) => {
                    let salt = Salt {
                        nonce: "7".into(),
                        salt: name.into_bytes(),
                        iterations: 9,
                    };
                    session.resume(now, Outcome::Salted(Ok(salt)));
                }
                Action::LogIn(attempt) => {
                    assert!(session.client().tls.is_some());
                    let signature = match &attempt.proof {
                        Proof::Password(password) => password.starts_with(b"s").then_some(None),
                        Proof::Digest { digest, .. } => digest.starts_with('0').then_some(None),
                        Proof::Scram { proof, .. } => proof.first().map(|b| Some([*b; 32])),
                    };
                    let login = match signature {
                        Some(signature) => Login::As {
                            account: attempt.name,
                            signature,
                        },
                        None => Login::Refused(refusal(535, "wrong")),
                    };
                    session.resume(now, Outcome::LoggedIn(login));
                }
                Action::CheckSender(path) => {
                    assert!(session.client().account.is_some());
                    let decision = match path.to_string().starts_with('n') {
                        true => Decision::Refuse(refusal(550, "not yours")),
                        false => Decision::Accept,
                    };
                    session.resume(now, Outcome::Sender(decision));
                }
                Action::CheckRecipient(recipient) => {
                    let refused = recipient.forward_path.to_string().starts_with('n');
                    let decision = match refused {
                        true => Decision::Refuse(refusal(550, "no such user")),
                        false => Decision::Accept,
                    };
                    session.resume(now, Outcome::Recipient(decision));
                }
                Action::Commit(envelope) => {
                    assert!(!envelope.recipients.is_empty());
                    assert!(!settings.is_submission() || envelope.client.account.is_some());
                    seen.messages.push((envelope.recipients.len(), std::mem::take(&mut message)));
                    let reply = Reply::new(250, (2, 0, 0), "taken");
                    let each = vec![reply; envelope.recipients.len()];
                    session.resume(now, Outcome::Committed(Answer::Each(each)));
                }
                Action::StartTls => {
                    session.resume(now, Outcome::TlsStarted(TLS));
                }
                Action::Close => return seen,
            }
            assert!(message.len() <= 4096);
        }
    }
    seen
}

const TLS: Tls = Tls {
    version: "TLSv1.3",
    cipher: "x",
    exporter: Some([7; 32]),
};
const MECHANISMS: [Mechanism; 5] = [
    Mechanism::ScramSha256Plus,
    Mechanism::ScramSha256,
    Mechanism::Plain,
    Mechanism::Login,
    Mechanism::CramMd5,
];

fn refusal(code: u16, text: &'static str) -> Refusal {
    Refusal {
        reply: Reply::new(code, (5, 0, 0), text),
        reason: String::new(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([flags, cut], stream)) = bytes.split_first_chunk() else {
        return;
    };
    let settings = Arc::new(Settings {
        host: "mx".into(),
        lmtp: flags & 1 != 0,
        local: flags & 2 != 0,
        starttls: flags & 4 != 0,
        mechanisms: match flags & 9 == 8 {
            true => MECHANISMS.to_vec(),
            false => Vec::new(),
        },
        limits: Limits {
            message_octets: 2000,
            header_octets: 500,
            line_octets: 300,
            recipients: 3,
            hops: 3,
            errors: 5,
            idle_commands: 10,
            ..Limits::default()
        },
    });
    let whole = run(&settings, std::iter::once(stream));
    let cut = usize::from(*cut).max(1);
    let pieces = run(&settings, stream.chunks(cut));
    // What follows STARTTLS counts or not by when it came, and must.
    if !settings.starttls {
        assert_eq!(whole, pieces, "in pieces of {cut}");
    }
});
