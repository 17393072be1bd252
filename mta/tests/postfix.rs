//! A real Postfix sends to the host and receives from it, each finding the
//! other by the MX of a zone on loopback, and receives by a relay route; every
//! message arrives byte for byte, its signatures whole.
//!
//! Postfix has a resolver of its own. That needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use common::dkimpy::verify;
use common::exact::{assert_arrived, by_smtp, give, messages};
use common::{Host, Process, opendkim, peer_in_sbin, wait_for};
use tests::overlaid::{self, Overlaid};

/// Where the name server listens, on port 53: `resolv.conf` knows no other.
const NAME_SERVER: &str = "127.0.0.99";

/// Which sends mail for example.org to PORT of its MX.
const MAIN: &str = "\
myhostname = mail.example.net
virtual_mailbox_domains = example.net, route.example
virtual_mailbox_maps = static:bob/
transport_maps = inline:{ example.org=smtp:example.org:PORT }
smtp_tls_security_level = may
";

fn postfix(our_port: u16, port: u16) -> Overlaid {
    let dir = tempfile::tempdir().unwrap();
    let resolver = format!("nameserver {NAME_SERVER}\n");
    fs::write(dir.path().join("resolv.conf"), resolver).unwrap();
    let main = MAIN.replace("PORT", &our_port.to_string());
    tests::postfix::start(dir, port, &main)
}

fn read_all(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder).into_iter().flatten();
    files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

/// Answers for example.org and example.net.
fn name_server() -> Process {
    let mut process = peer_in_sbin("dnsmasq")
        .args(["--keep-in-foreground", "--no-resolv", "--no-hosts"])
        .args(["--conf-file=/dev/null", "--bind-interfaces", "--pid-file="])
        .arg(format!("--listen-address={NAME_SERVER}"))
        .args(["--local=/example.org/", "--local=/example.net/"])
        .args(["--log-facility=-", "--user=root"])
        .args([
            "--mx-host=example.org,mail.example.org,10",
            "--mx-host=example.net,mail.example.net,10",
            "--host-record=mail.example.org,127.0.0.1",
            "--host-record=mail.example.net,127.0.0.1",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = said.map(Result::unwrap);
    let started = said.any(|line| line.contains("started"));
    assert!(started, "dnsmasq does not start");
    std::thread::spawn(move || said.count());
    Process(process)
}

#[test]
fn mail_from_and_to_postfix_arrives_byte_for_byte() {
    if !overlaid::is_possible() {
        tests::skip("only root can lay Postfix over the system");
        return;
    }
    let _names = name_server();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let host = Host::new(&format!(
        "[remote]\ndns = [\"{NAME_SERVER}:53\"]\nport = {port}\n\
         [[route]]\ndomain = \"route.example\"\nhost = \"127.0.0.1\"\nport = {port}\n"
    ));
    let server = host.serve();
    let postfix = postfix(server.smtp[0].port(), port);
    let at_postfix = || read_all(&postfix.path("mail/bob/new"));

    let n = messages().len();
    let keys = host.run(&["dkim", "list", "--json"]);
    // By MX, then by the route.
    for to in ["bob@example.net", "bob@route.example"] {
        for message in messages() {
            let mut sendmail = host.command();
            sendmail.args(["sendmail", "-i", "-f", "anna@example.org", "--", to]);
            give(sendmail, &message);
        }
        wait_for("mail at Postfix", || {
            (at_postfix().len() >= n).then_some(())
        });
        assert_arrived(&at_postfix(), &postfix.log());
        // Nothing on the way has broken the signatures.
        for mail in at_postfix() {
            let results = verify(&mail, &keys);
            let hold = results.iter().filter(|result| result.ends_with(" True"));
            assert_eq!(
                hold.count(),
                2,
                "{results:?}: {}",
                String::from_utf8_lossy(&mail)
            );
            let others = opendkim::verify(&mail, &keys);
            let hold = others.iter().filter(|said| said.contains(" succeeded"));
            assert_eq!(hold.count(), 2, "{others:?}");
        }
        for file in fs::read_dir(postfix.path("mail/bob/new")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    for message in messages() {
        by_smtp(port, &message);
    }
    let mail = host.wait_for_mail("anna", "", n);
    assert_arrived(&mail, &postfix.log());
    for mail in mail {
        let top = String::from_utf8_lossy(&mail).into_owned();
        assert!(top.contains("Received: from mail.example.net "), "{top}");
        assert!(top.contains(" with ESMTPS (TLSv1.3 "), "{top}");
    }
    let done = || host.run(&["queue", "list"]).is_empty().then_some(());
    wait_for("an empty queue", done);
}
