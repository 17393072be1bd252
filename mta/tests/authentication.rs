//! What is found of mail from outside, with a zone on loopback and mail that
//! dkimpy has signed; each result is read as authres, which is not ours, reads
//! it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::dkimpy::run;
use common::dns::{Dns, connect_from};
use common::{Host, Server, Talk, wait_for};

const GOOD: &str = "127.0.0.10";
const BAD: &str = "127.0.0.11";

/// Keys of others: openssl's RSA, nacl's ed25519.
struct Keys {
    dir: tempfile::TempDir,
    records: Vec<String>,
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rsa = dir.path().join("rsa");
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl")
                .args(arguments)
                .stderr(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{arguments:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let path = rsa.to_str().unwrap();
        openssl(&["genrsa", "-traditional", "-out", path, "2048"]);
        let public = openssl(&["rsa", "-in", path, "-pubout"]);
        let public: String = public
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        const ED25519: &str = "\
import base64, nacl.signing, sys
key = nacl.signing.SigningKey.generate()
open(sys.argv[1], 'wb').write(base64.b64encode(bytes(key)))
print(base64.b64encode(bytes(key.verify_key)).decode(), end='')
";
        let ed25519 = run(
            ED25519,
            &[dir.path().join("ed25519").to_str().unwrap()],
            b"",
        );
        let (first, second) = public.split_at(200);
        let records = ["example.net", "example.com"]
            .into_iter()
            .flat_map(|domain| {
                [
                    format!(
                        "--txt-record=rsa._domainkey.{domain},v=DKIM1; k=rsa; p={first},{second}"
                    ),
                    format!(
                        "--txt-record=ed25519._domainkey.{domain},v=DKIM1; k=ed25519; p={ed25519}"
                    ),
                ]
            });
        Self {
            records: records.collect(),
            dir,
        }
    }

    fn key(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `message` with a signature of dkimpy's on top.
    fn sign(&self, key: &str, domain: &str, canonicalization: &str, message: &str) -> String {
        const SIGN: &str = "\
import dkim, sys
key, path, domain, ways = sys.argv[1:]
message = sys.stdin.buffer.read().replace(b'\\n', b'\\r\\n')
ways = tuple(way.encode() for way in ways.split('/'))
field = dkim.sign(message, key.encode(), domain.encode(), open(path, 'rb').read(), canonicalize=ways,
                  signature_algorithm={'rsa': b'rsa-sha256', 'ed25519': b'ed25519-sha256'}[key])
sys.stdout.buffer.write((field + message).replace(b'\\r\\n', b'\\n'))
";
        let path = self.key(key);
        run(
            SIGN,
            &[key, &path, domain, canonicalization],
            message.as_bytes(),
        )
    }

    /// `message` sealed by example.com, whose results of it are given.
    fn seal(&self, results: &str, message: &str) -> String {
        const SEAL: &str = "\
import dkim, sys
path, results = sys.argv[1:]
message = b'Authentication-Results: lists.example.com; ' + results.encode() + b'\\r\\n'
message += sys.stdin.buffer.read().replace(b'\\n', b'\\r\\n')
fields = dkim.arc_sign(message, b'rsa', b'example.com', open(path, 'rb').read(), b'lists.example.com')
sys.stdout.buffer.write((b''.join(fields) + message).replace(b'\\r\\n', b'\\n'))
";
        run(SEAL, &[&self.key("rsa"), results], message.as_bytes())
    }
}

const ZONE: &[&str] = &[
    "--local=/in-addr.arpa/",
    // What was told may be kept.
    "--local-ttl=60",
    // DMARC asks up to the top: RFC 9989 §4.10.
    "--local=/_dmarc.net/",
    "--local=/_dmarc.com/",
    "--txt-record=example.net,v=spf1 ip4:127.0.0.10 -all",
    "--txt-record=_dmarc.example.net,v=DMARC1; p=reject",
    "--txt-record=_dmarc.example.com,v=DMARC1; p=quarantine",
    "--host-record=mx.example.net,127.0.0.10",
    "--txt-record=mx.example.net,v=spf1 a -all",
    "--mx-host=mail.example.net,mx.example.net,10",
    "--txt-record=mail.example.net,v=spf1 mx -all",
    "--txt-record=soft.example.net,v=spf1 ip4:192.0.2.0/24 ~all",
    "--txt-record=neutral.example.net,v=spf1 ?all",
    "--txt-record=redirect.example.net,v=spf1 redirect=example.net",
    "--txt-record=include.example.net,v=spf1 include:example.net -all",
    "--txt-record=macro.example.net,v=spf1 exists:%{ir}.%{l}._spf.example.net -all",
    "--host-record=10.0.0.127.anna._spf.example.net,127.0.0.2",
    "--txt-record=wrong.example.net,v=spf1 include -all",
    "--txt-record=unknown.example.net,v=spf1 nonsense -all",
    "--txt-record=loop.example.net,v=spf1 include:loop.example.net -all",
    "--txt-record=gone.example.net,v=spf1 include:nothing.example.net -all",
    "--txt-record=late.example.net,v=spf1 include:elsewhere.test -all",
];

fn zone(keys: &Keys) -> Dns {
    let keys = keys.records.iter().map(String::as_str);
    Dns::start(&ZONE.iter().copied().chain(keys).collect::<Vec<_>>())
}

fn host(dns: &Dns, more: &str) -> Host {
    Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\n[authentication]\n{more}",
        dns.port
    ))
}

/// A message for anna, and the last reply.
fn bring(server: &Server, client: &str, helo: &str, from: &str, message: &str) -> String {
    bring_to(server, client, helo, from, &["anna@example.org"], message)
}

fn bring_to(
    server: &Server,
    client: &str,
    helo: &str,
    from: &str,
    to: &[&str],
    message: &str,
) -> String {
    let mut talk = Talk::new(connect_from(client, server.smtp[0]));
    assert_eq!(talk.reply().unwrap(), 220);
    talk.ask(&format!("EHLO {helo}\r\n"), 250).unwrap();
    talk.ask(&format!("MAIL FROM:<{from}>\r\n"), 250).unwrap();
    for to in to {
        talk.ask(&format!("RCPT TO:<{to}>\r\n"), 250).unwrap();
    }
    talk.ask("DATA\r\n", 354).unwrap();
    let text = message.replace("\n.", "\n..").replace('\n', "\r\n") + ".\r\n";
    talk.say(text.as_bytes()).unwrap();
    talk.line().unwrap()
}

/// The results in the topmost field, which must be ours, and the message
/// below our trace field.
fn results(mail: &[u8]) -> (Vec<String>, String) {
    const READ: &str = "\
import authres, email, sys
text = email.message_from_bytes(sys.stdin.buffer.read())
name, body = [(name, body) for name, body in text.items() if name != 'Return-Path' and name != 'Delivered-To'][0]
field = authres.AuthenticationResultsHeader.parse(name + ': ' + ' '.join(body.split()))
assert field.authserv_id == 'mail.example.org', field
for result in field.results:
    shown = [f'{one.type}.{one.name}={one.value}' for one in result.properties]
    print(result.method, result.result, *shown)
";
    let text = String::from_utf8_lossy(mail).into_owned();
    let lines = run(READ, &[], mail).lines().map(str::to_owned).collect();
    let at = text.find("\nReceived: from ").unwrap() + 1;
    let rest = text[at..].split_once(" +0000\n").unwrap().1;
    (lines, rest.to_owned())
}

/// The mail of anna that came last.
fn last(host: &Host, folder: &str) -> Vec<u8> {
    host.mail("anna", folder).pop().unwrap()
}

/// What was found of one message.
fn found(
    host: &Host,
    server: &Server,
    client: &str,
    helo: &str,
    from: &str,
    text: &str,
) -> Vec<String> {
    let reply = bring(server, client, helo, from, text);
    assert!(reply.starts_with("250"), "{reply}");
    let folder = host.data().join("mail/example.org/anna/Maildir/new");
    let path = fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mail = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    results(&mail).0
}

#[test]
fn senders_and_clients_by_spf() {
    let keys = Keys::new();
    let dns = zone(&keys);
    let host = host(&dns, "");
    let server = host.serve();
    let text = "From: x@example.net\n\nx\n";
    for (client, from, expected) in [
        (GOOD, "x@example.net", "pass"),
        (BAD, "x@example.net", "fail"),
        (GOOD, "x@mail.example.net", "pass"),
        (BAD, "x@mail.example.net", "fail"),
        (BAD, "x@soft.example.net", "softfail"),
        (BAD, "x@neutral.example.net", "neutral"),
        (BAD, "x@none.example.net", "none"),
        (GOOD, "x@redirect.example.net", "pass"),
        (GOOD, "x@include.example.net", "pass"),
        (BAD, "x@include.example.net", "fail"),
        (GOOD, "anna@macro.example.net", "pass"),
        (GOOD, "bob@macro.example.net", "fail"),
        (BAD, "x@wrong.example.net", "permerror"),
        (BAD, "x@unknown.example.net", "permerror"),
        (BAD, "x@loop.example.net", "permerror"),
        (BAD, "x@gone.example.net", "permerror"),
        // The name server does not speak about it.
        (BAD, "x@late.example.net", "temperror"),
        (BAD, "x@elsewhere.test", "temperror"),
        (BAD, "\"a (b) ; c\"@example.net", "fail"),
    ] {
        let found = found(&host, &server, client, "mx.example.net", from, text);
        let of_sender = found.iter().find(|line| line.contains("smtp.mailfrom="));
        let of_sender = of_sender.unwrap_or_else(|| panic!("{from}: {found:?}"));
        assert!(
            of_sender.starts_with(&format!("spf {expected} ")),
            "{from}: {of_sender}"
        );
        let helo = if client == GOOD { "pass" } else { "fail" };
        let of_helo = format!("spf {helo} smtp.helo=mx.example.net");
        assert!(found.contains(&of_helo), "{found:?}");
    }
    // Reports have no sender; what is no name has no record.
    for helo in ["[127.0.0.10]", "a[b", "x,y", "_"] {
        let found = found(&host, &server, GOOD, helo, "", text);
        assert!(
            !found.iter().any(|line| line.starts_with("spf ")),
            "{found:?}"
        );
    }
    let found = found(
        &host,
        &server,
        GOOD,
        "mx.example.net",
        "x@[192.0.2.1]",
        text,
    );
    assert!(
        !found.iter().any(|line| line.contains("mailfrom")),
        "{found:?}"
    );
}

#[test]
fn signatures_by_dkimpy_and_what_dmarc_makes_of_them() {
    let keys = Keys::new();
    let dns = zone(&keys);
    let host = host(&dns, "");
    let server = host.serve();
    let text =
        "From: X <x@example.net>\nTo: anna@example.org\nSubject: a\n\tb  c\n\n..\nbody \t x \n\n\n";
    let other = text.replace("example.net", "example.com");
    let changed = |text: &str| text.replace("body", "bodies");
    let rsa = keys.sign("rsa", "example.net", "relaxed/relaxed", text);
    let simple = keys.sign("rsa", "example.net", "simple/simple", text);
    let both = keys.sign("ed25519", "example.net", "relaxed/simple", &rsa);
    let foreign = keys.sign("rsa", "example.com", "relaxed/relaxed", text);
    let unknown = keys
        .sign("rsa", "example.net", "relaxed/relaxed", text)
        .replace("s=rsa", "s=gone");
    let lots = (0..30).fold(text.to_owned(), |text, _| {
        format!("DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=rsa; h=from; bh=AAAA; b=AAAA\n{text}")
    });
    let odd = "DKIM-Signature: v=1; a=rsa-sha256; d=a[b; s=r,s; h=from; bh=AAAA; b=AAAA\n";
    let odd = odd.to_owned() + text;
    for (client, text, dkim, dmarc) in [
        (BAD, &*odd, &["dkim none"][..], "fail"),
        (BAD, text, &["dkim none"], "fail"),
        (GOOD, text, &["dkim none"], "pass"),
        (
            BAD,
            &rsa,
            &["dkim pass header.i=@example.net header.s=rsa"],
            "pass",
        ),
        (
            BAD,
            &simple,
            &["dkim pass header.i=@example.net header.s=rsa"],
            "pass",
        ),
        (
            BAD,
            &both,
            &[
                "dkim pass header.i=@example.net header.s=ed25519",
                "dkim pass header.i=@example.net header.s=rsa",
            ],
            "pass",
        ),
        (
            BAD,
            &changed(&rsa),
            &["dkim neutral header.i=@example.net header.s=rsa"],
            "fail",
        ),
        (
            BAD,
            &rsa.replace("Subject: a", "Subject: b"),
            &["dkim fail header.i=@example.net header.s=rsa"],
            "fail",
        ),
        (
            BAD,
            &unknown,
            &["dkim permerror header.i=@example.net header.s=gone"],
            "fail",
        ),
        (
            BAD,
            &foreign,
            &["dkim pass header.i=@example.com header.s=rsa"],
            "fail",
        ),
        (BAD, &other, &["dkim none"], "fail"),
        (
            BAD,
            &lots,
            &["dkim neutral header.d=example.net header.s=rsa"; 10],
            "fail",
        ),
    ] {
        let found = found(
            &host,
            &server,
            client,
            "mx.example.net",
            "x@example.net",
            text,
        );
        let shown = |line: &&String| line.split(" header.b=").next().unwrap().to_owned();
        let of_dkim = found.iter().filter(|line| line.starts_with("dkim "));
        assert_eq!(
            of_dkim.map(|line| shown(&line)).collect::<Vec<_>>(),
            dkim,
            "{text}"
        );
        let of_dmarc = found
            .iter()
            .find(|line| line.starts_with("dmarc "))
            .unwrap();
        assert!(
            of_dmarc.starts_with(&format!("dmarc {dmarc} header.from=example.")),
            "{of_dmarc}"
        );
    }
    let story = host.run(&["why", "anna@example.org"]);
    assert!(story.contains("authenticated\n"), "{story}");
}

#[test]
fn chains_of_who_passed_it_on() {
    let keys = Keys::new();
    let dns = zone(&keys);
    let host = host(&dns, "");
    let server = host.serve();
    let text = "From: x@example.net\nTo: anna@example.org\nSubject: a\n\nbody\n";
    let once = keys.seal("spf=pass smtp.mailfrom=x@example.net", text);
    let twice = keys.seal("arc=pass", &once);
    for (text, expected) in [
        (text, None),
        (&once, Some("pass")),
        (&twice, Some("pass")),
        (&once.replace("\nbody", "\nbodies"), Some("neutral")),
        (
            &twice.replace("smtp.mailfrom=x", "smtp.mailfrom=y"),
            Some("fail"),
        ),
    ] {
        let found = found(&host, &server, BAD, "mx.example.net", "x@example.net", text);
        let arc = found.iter().find_map(|line| line.strip_prefix("arc "));
        assert_eq!(
            arc.map(|line| line.split(' ').next().unwrap()),
            expected,
            "{text}"
        );
    }
}

#[test]
fn only_what_this_host_has_found_bears_its_name() {
    let keys = Keys::new();
    let dns = zone(&keys);
    let host = host(&dns, "");
    let server = host.serve();
    let kept = "Authentication-Results: other.example.com; spf=pass\nFrom: x@example.net\n\
                Subject: b\n\nAuthentication-Results: mail.example.org; x=y\n";
    let text = format!(
        "Authentication-Results: mail.example.org; dmarc=pass\n\theader.from=example.net\n\
         authentication-results: (x) Mail.Example.ORG 1; dkim=pass\n{kept}"
    );
    bring(&server, BAD, "mx.example.net", "x@example.net", &text);
    let (found, rest) = results(&last(&host, ""));
    assert!(
        found.iter().any(|line| line.starts_with("dmarc fail ")),
        "{found:?}"
    );
    assert!(
        !rest.contains("dmarc=pass") && !rest.contains("dkim=pass"),
        "{rest}"
    );
    let kept = kept.split_once("\n\n").unwrap();
    assert!(rest.starts_with(kept.0) && rest.ends_with(kept.1), "{rest}");
    // Who may relay is not looked at, and may lie no more than others.
    bring(
        &server,
        "127.0.0.1",
        "mx.example.net",
        "x@example.net",
        &text,
    );
    let mail = String::from_utf8(last(&host, "")).unwrap();
    let head = mail.split_once("\n\n").unwrap().0;
    assert!(
        !head.to_lowercase().contains("authentication-results: mail"),
        "{head}"
    );
}

#[test]
fn domains_are_obeyed_only_when_the_administrator_says_so() {
    let keys = Keys::new();
    let dns = zone(&keys);
    let host = host(&dns, "dmarc = \"obey\"\n");
    let server = host.serve();
    let [reject, quarantine] = ["net", "com"].map(|end| format!("From: x@example.{end}\n\nx\n"));
    let reply = bring(&server, BAD, "mx.example.net", "x@example.net", &reject);
    assert!(reply.starts_with("550 5.7.26 "), "{reply}");
    let story = host.run(&["why", "x@example.net"]);
    assert!(story.contains("dmarc=fail"), "{story}");
    let reply = bring(&server, BAD, "mx.example.net", "y@example.net", &quarantine);
    assert!(reply.starts_with("250"), "{reply}");
    // The host has filed it, so that it teaches nothing.
    let junk = String::from_utf8(last(&host, "Junk")).unwrap();
    assert!(junk.contains("\nX-Spam-Mark: "), "{junk}");
    let reply = bring(&server, GOOD, "mx.example.net", "x@example.net", &reject);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(host.mail("anna", "").len(), 1);
    // Also on the way through the queue.
    fs::write(
        host.data().join("mail/example.org/anna/.qmail"),
        "./copy\n./Maildir/\n",
    )
    .unwrap();
    bring(&server, BAD, "mx.example.net", "y@example.net", &quarantine);
    host.wait_for_mail("anna", "Junk", 2);
}

#[test]
fn the_gate_refuses_by_spf_where_it_is_told_to() {
    let keys = Keys::new();
    let dns = zone(&keys);
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    let plugins = dir.path().join("plugins");
    fs::write(
        &rules,
        "set address 127.0.0.12 RELAYCLIENT=\"\"\nset recipient x@partner.test RELAYCLIENT=\"\"\n",
    )
    .unwrap();
    let by_plugin = "[rcpt]\n:test \"$SMTPRCPTTO\" != y@partner.test || echo O\n";
    fs::write(&plugins, by_plugin).unwrap();
    let gate = format!(
        "[gate]\ngreeting_delay_seconds = 0\nno_reverse_name = \"pass\"\n\
         unresolvable_reverse_name = \"pass\"\naddress_in_reverse_name = \"pass\"\n\
         odd_helo = \"pass\"\nunresolvable_helo = \"pass\"\nno_sender_domain = \"pass\"\n\
         tarpit_seconds = 0\nspf_fail = \"refuse\"\ngreylist = \"nobody\"\nrules = \"{}\"\n\
         plugins = \"{}\"\n",
        rules.display(),
        plugins.display()
    );
    let host = host(&dns, &gate);
    let server = host.serve();
    let ask = |client: &str, from: &str| {
        let mut talk = Talk::new(connect_from(client, server.smtp[0]));
        talk.greet("EHLO").unwrap();
        talk.ask(&format!("MAIL FROM:<{from}>\r\n"), 250).unwrap();
        talk.say(b"RCPT TO:<anna@example.org>\r\n").unwrap();
        talk.line().unwrap()
    };
    for (client, from, expected) in [
        (GOOD, "x@example.net", "250 "),
        (BAD, "x@example.net", "554 5.7.23 "),
        (BAD, "x@soft.example.net", "250 "),
        (BAD, "x@elsewhere.test", "250 "),
        (BAD, "", "250 "),
    ] {
        let reply = ask(client, from);
        assert!(reply.starts_with(expected), "{client} {from}: {reply}");
    }
    // Whom a rule lets send anywhere is not looked at later either; who may
    // only write to somebody is.
    let anna = "anna@example.org";
    let (by_rule, by_plugin) = ("x@partner.test", "y@partner.test");
    for (n, (client, to, is_looked_at)) in [
        (BAD, &[anna][..], true),
        ("127.0.0.12", &[anna], false),
        (BAD, &[by_rule, anna], true),
        (BAD, &[anna, by_plugin], true),
        ("127.0.0.12", &[by_rule, anna, by_plugin], false),
    ]
    .into_iter()
    .enumerate()
    {
        let text = "From: x@example.net\n\nx\n";
        let from = "x@soft.example.net";
        let reply = bring_to(&server, client, "mx.example.net", from, to, text);
        assert!(reply.starts_with("250"), "{reply}");
        host.wait_for_mail("anna", "", n + 1);
        let mail = String::from_utf8(last(&host, "")).unwrap();
        let found = mail.contains("\nAuthentication-Results: mail.example.org;");
        assert_eq!(found, is_looked_at, "{mail}");
    }
    // What the gate was told the host need not ask again: DMARC comes later.
    wait_for("DMARC", || {
        (dns.n_asked("TXT", "_dmarc.example.net") > 0).then_some(())
    });
    assert_eq!(dns.n_asked("TXT", "soft.example.net"), 1);
    let story = host.run(&["why", "x@example.net"]);
    let expected = "because spf-fail: example.net says by SPF that 127.0.0.11 does not";
    assert!(story.contains(expected), "{story}");
}
