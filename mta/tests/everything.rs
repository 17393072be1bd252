//! A host with everything on: the gate before a real Postfix, which sends as a
//! good, a greylisted and a listed client, and one that does not wait for the
//! greeting; clamd; submission by each mechanism; and a real Dovecot, to whom
//! the accounts are published, shows what came.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::dns::{Dns, connect_from, free_port};
use common::dovecot::{Dovecot, published, share};
use common::{Clamd, EICAR, Host, by_scram, passwd, swaks, wait_for};
use tests::overlaid;

/// One Postfix with three addresses: one that nothing is said against, one
/// that calls itself oddly, one that a DNS list has.
const SENDERS: &str = "\
good unix - - n - - smtp -o smtp_bind_address=127.0.0.10 -o smtp_helo_name=mx.example.net
grey unix - - n - - smtp -o smtp_bind_address=127.0.0.30 -o smtp_helo_name=odd.example.net
listed unix - - n - - smtp -o smtp_bind_address=127.0.0.12 -o smtp_helo_name=mx.example.net
";

const PASSWORD: &str = "secret word";

#[test]
fn good_mail_comes_in_once_goes_out_and_is_read_and_the_rest_stays_out() {
    if !overlaid::is_possible() {
        tests::skip("only root can lay Postfix over the system");
        return;
    }
    let dns = Dns::start(&[
        "--mx-host=example.net,mx.example.net,10",
        "--host-record=mx.example.net,192.0.2.10",
        "--address=/12.0.0.127.block.example.com/127.0.0.2",
    ]);
    let shared = tempfile::tempdir().unwrap();
    let scanner = tempfile::tempdir().unwrap();
    fs::set_permissions(scanner.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let clamd = Clamd::start(scanner.path());
    let users = shared.path().join("users");
    let host = Host::new(&format!(
        "[scanner]\nclamd = {:?}\n[publish]\ndovecot = {users:?}\n[remote]\ndns = [\"127.0.0.1:{}\"]\n[gate]\ngreeting_delay_seconds = 1\ngreylist_seconds = 2\n\
         [[gate.dns_list]]\nzone = \"block.example.com\"\nabout = \"address\"\n",
        clamd.socket, dns.port
    ));
    host.run(&["user", "set", "bob@example.org", "--gate", "no-greylist"]);
    assert!(host.give_to_owner(shared.path()));
    fs::remove_file(&users).unwrap();
    share(shared.path());
    passwd(&host, "anna@example.org", &["--keep-clear"], PASSWORD);
    let server = host.serve_as_owner();
    let ours = server.smtp[0];
    let next = |transport: &str| {
        format!(
            "{transport}@example.net={transport}:[127.0.0.1]:{}",
            ours.port()
        )
    };
    let more = format!(
        "myhostname = mail.example.net\nvirtual_mailbox_domains = example.net\n\
         virtual_mailbox_maps = static:bob/\nsmtpd_peername_lookup = no\n\
         sender_dependent_default_transport_maps = inline:{{ {{{}}}, {{{}}}, {{{}}} }}\n\
         minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n",
        next("good"),
        next("grey"),
        next("listed"),
    );
    let port = free_port();
    let dir = tempfile::tempdir().unwrap();
    let postfix = tests::postfix::start_with(dir, port, &more, SENDERS);

    // Who does not wait, and goes on as if nothing had been said.
    let mut early = connect_from("127.0.0.11", ours);
    let said = "HELO mx.example.net\r\nMAIL FROM:<early@example.net>\r\n\
                RCPT TO:<anna@example.org>\r\nDATA\r\nSubject: early\r\n\r\nx\r\n.\r\nQUIT\r\n";
    early.write_all(said.as_bytes()).unwrap();
    let replies: Vec<String> = BufReader::new(early)
        .lines()
        .map_while(Result::ok)
        .collect();
    let replies = replies.join("\n");
    let refusal = "554 5.7.1 \"HELO mx.example.net\" came before the greeting\n503 5.5.1";
    assert!(replies.contains(refusal), "{replies}");

    const SEND: &str = "\
import smtplib, sys
with smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=60) as client:
    for name in ['good', 'grey', 'listed']:
        client.sendmail(name + '@example.net', ['anna@example.org', 'bob@example.org'],
                        'Subject: ' + name + '\\r\\n\\r\\nx\\r\\n')
    client.sendmail('good@example.net', ['anna@example.org'],
                    'Subject: virus\\r\\n\\r\\n' + sys.argv[2] + '\\r\\n')
";
    let sent = Command::new("python3")
        .args(["-c", SEND, &port.to_string(), &EICAR.concat()])
        .status();
    assert!(sent.unwrap().success());
    let subjects = |user: &str| {
        let mail = host
            .mail(user, "")
            .into_iter()
            .chain(host.mail(user, "Junk"));
        let subject = |mail: Vec<u8>| {
            let text = String::from_utf8(mail).unwrap();
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: "));
            subject.unwrap().to_owned()
        };
        let mut subjects: Vec<String> = mail.map(subject).collect();
        subjects.sort();
        subjects.join(" ")
    };
    wait_for(&format!("mail through the gate: {}", postfix.log()), || {
        (subjects("anna").len() >= 9 && subjects("bob").len() >= 9).then_some(())
    });
    // The refusals of the list and of the scanner went back to the senders.
    let reports = wait_for("two reports", || {
        let files = fs::read_dir(postfix.path("mail/bob/new")).ok()?;
        let read = |file: fs::DirEntry| fs::read(file.path()).unwrap();
        let all: Vec<_> = files.map(Result::unwrap).map(read).collect();
        (all.len() == 2).then(|| all.concat())
    });
    let reports = String::from_utf8_lossy(&reports).replace("\n    ", " ");
    for why in [
        "554 5.7.1 127.0.0.12 is listed at block.example.com",
        "554 5.7.1 this message holds Eicar",
    ] {
        assert!(reports.contains(why), "{why} is not in {reports}");
    }
    let story = host.run(&["why", "-n", "100", "anna@example.org"]);
    let first = story.find("because greylist: this host does not know yours");
    let second = story.find("greylist: the client has come again");
    assert!(first.is_some() && first < second, "{story}");
    // Nothing waits any more, and each message came to each recipient once.
    let log = postfix.log();
    assert_eq!(
        log.matches("status=sent (250 2.0.0 ok ").count(),
        4,
        "{log}"
    );
    assert_eq!(
        (subjects("anna"), subjects("bob")),
        ("good grey".into(), "good grey".into())
    );

    // Users send from anywhere, by each mechanism, over both kinds of TLS.
    let (starttls, implicit) = (server.submission[0], server.submission[1]);
    for (address, tls, mechanism) in [
        (starttls, "--tls", "PLAIN"),
        (implicit, "--tls-on-connect", "LOGIN"),
        (implicit, "--tls-on-connect", "CRAM-MD5"),
    ] {
        let output = swaks(address)
            .args(["--from", "anna@example.org", "--to", "bob@example.org", tls])
            .args(["--auth", mechanism, "--auth-user", "anna@example.org"])
            .args(["--auth-password", PASSWORD])
            .args(["--h-Subject", &format!("by {mechanism}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    by_scram(implicit, PASSWORD).unwrap();
    let to_bob = "by CRAM-MD5 by LOGIN by PLAIN by SCRAM good grey";
    assert_eq!(subjects("bob"), to_bob);

    // What came is read by IMAP, and what a client moves is learned.
    let dovecot = Dovecot::start(&host, &published(&users));
    let shown = dovecot.fetch("anna@example.org", PASSWORD);
    assert_eq!(shown.len(), 2);
    assert!(
        shown
            .iter()
            .all(|mail| host.mail("anna", "").contains(mail))
    );
    dovecot.move_to_junk("anna@example.org", PASSWORD);
    let line = server.wait_for_line("message learned");
    assert!(
        line.contains("anna@example.org") && line.contains("label=\"spam\""),
        "{line}"
    );
}
