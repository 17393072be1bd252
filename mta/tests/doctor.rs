//! `postern dns` and `postern doctor`, before a name server on loopback: what
//! the one prints is entered, and then both are content.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use common::Host;
use common::dns::Dns;
use serde_json::Value;

const AUTHORITY: [&str; 3] = [
    "--local=/example.org/",
    "--local=/in-addr.arpa/",
    "--local=/ip6.arpa/",
];

fn ask(host: &Host, arguments: &[&str]) -> (i32, String) {
    let output: Output = host.command().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "", "{arguments:?}");
    let code = output.status.code().unwrap();
    (code, String::from_utf8(output.stdout).unwrap())
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A host that asks this name server, and sends all its mail to a port.
fn host(dns: &Dns, port: u16) -> Host {
    Host::new(&format!(
        "[remote]\ndns = [\"127.0.0.1:{}\"]\n[[route]]\ndomain = \"*\"\nhost = \"127.0.0.1\"\n\
         port = {port}\n",
        dns.port
    ))
}

/// A record as dnsmasq takes it.
fn option(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap();
    let (name, value) = (text("name"), text("value"));
    let words: Vec<&str> = value
        .split(' ')
        .map(|word| word.trim_end_matches('.'))
        .collect();
    match text("kind") {
        "A" | "AAAA" => format!("--host-record={name},{value}"),
        "MX" => format!("--mx-host={name},{},{}", words[1], words[0]),
        "PTR" => format!("--ptr-record={name},{}", words[0]),
        "SRV" => format!(
            "--srv-host={name},{},{},{},{}",
            words[3], words[2], words[0], words[1]
        ),
        "TXT" => {
            // On its command line dnsmasq knows no quotes.
            let parts = value.as_bytes().chunks(200);
            let parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
            format!("--txt-record={name},{}", parts.join(","))
        }
        kind => panic!("{kind}"),
    }
}

#[test]
fn what_dns_prints_is_what_doctor_wants() {
    let elsewhere = Host::new("");
    let server = elsewhere.serve();
    let port = server.smtp[0].port();

    let empty = Dns::start(&AUTHORITY);
    let ill = host(&empty, port);
    let addresses = ["--address", "192.0.2.7", "--address", "2001:db8::7"];
    let (code, zone) = ask(&ill, &[&["dns"], &addresses[..]].concat());
    assert_eq!(code, 1);
    let first = "example.org. IN MX 10 mail.example.org.\n;   MISSING (mail finds this host)\n";
    assert!(zone.starts_with(first), "{zone}");
    assert!(zone.contains("\n7.2.0.192.in-addr.arpa. IN PTR mail.example.org.\n"));
    let (code, json) = ask(
        &ill,
        &[&["dns", "example.org", "--json"], &addresses[..]].concat(),
    );
    let records = objects(&json);
    assert_eq!((code, zone.lines().count()), (1, 2 * records.len()));
    assert!(records.iter().all(|record| record["state"] == "missing"));

    // Nobody reads mail here before the accounts are published for somebody.
    let refused = ill.command().args(["dns", "--autoconfig"]).output();
    let said = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(said.contains("[publish] names no IMAP server"), "{said}");

    let misspelt = ill.command().args(["dns", "exmaple.org"]).output();
    let said = String::from_utf8(misspelt.unwrap().stderr).unwrap();
    assert!(
        said.contains("there is no domain exmaple.org here"),
        "{said}"
    );

    let (code, said) = ask(&ill, &["doctor"]);
    assert_eq!(code, 2, "{said}");
    for part in [
        "critical  dns: example.org has no such MX record: mail finds this host\n          \
         mend: enter: example.org. IN MX 10 mail.example.org.\n",
        "critical  dns: mail.example.org has no address",
        "ok        way out: 127.0.0.1:",
        "ok        rights: ",
        "ok        queue: empty",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let options: Vec<String> = records.iter().map(option).collect();
    let options = options.iter().map(String::as_str);
    let options: Vec<&str> = AUTHORITY.into_iter().chain(options).collect();
    let full = Dns::start(&options);
    // The same host, for each has keys of its own.
    let of = |dns: &Dns| format!("dns = [\"127.0.0.1:{}\"]", dns.port);
    let text = fs::read_to_string(ill.config()).unwrap();
    fs::write(ill.config(), text.replace(&of(&empty), &of(&full))).unwrap();
    let well = ill;
    let (code, zone) = ask(&well, &["dns"]);
    assert_eq!((code, zone.matches("MISSING").count()), (0, 0), "{zone}");
    let (_, json) = ask(&well, &["doctor", "--json"]);
    let of = |check: &str| {
        let findings = objects(&json).into_iter();
        let mut found = findings.filter(|finding| finding["check"] == check);
        let finding = found.next().unwrap();
        (finding["level"].clone(), finding["text"].clone())
    };
    for check in [
        "dns",
        "way out",
        "certificate",
        "rights",
        "watches",
        "queue",
        "clock",
    ] {
        assert_eq!(of(check).0, "ok", "{:?}", of(check));
    }

    // Nobody listens there any more, and others can read the key.
    server.signal("TERM");
    server.wait();
    let key = well.data().join("tls/key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = ask(&well, &["doctor"]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("critical  way out: no mail can leave: 127.0.0.1:"),
        "{said}"
    );
    let mend = format!("mend: chmod go= {}", key.display());
    assert!(said.contains(&mend), "{said}");
}

/// What the doctor of a host finds.
fn findings(host: &Host, more: &[&str]) -> Vec<Value> {
    let (_, said) = ask(host, &[&["doctor", "--json"], more].concat());
    objects(&said)
}

/// Whether one of this level says so, and how to mend it.
fn assert_found(all: &[Value], check: &str, level: &str, text: &str, mend: &str) {
    let is_one = |one: &Value| {
        let holds = |key: &str, part: &str| one[key].as_str().is_some_and(|all| all.contains(part));
        one["check"] == check && one["level"] == level && holds("text", text) && holds("mend", mend)
    };
    assert!(all.iter().any(is_one), "{check}: {text}: {all:#?}");
}

#[test]
fn what_is_spoiled_is_found_with_its_mend() {
    let lost = ["--mx-host=lost.example.org,nowhere.example.org,10"];
    let dns = Dns::start(&[&AUTHORITY[..], &lost].concat());
    let host = host(&dns, 9);
    let config = fs::read_to_string(host.config()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        fs::write(host.config(), config.replace(from, to)).unwrap();
    };
    let data = host.data();

    let certificate = data.join("tls/cert.pem");
    let good = fs::read(&certificate).unwrap();
    fs::write(&certificate, "no certificate\n").unwrap();
    let all = findings(&host, &[]);
    assert_found(&all, "certificate", "critical", "cert.pem", "see [tls]");
    // Users cannot log in without one; others come in clear.
    fs::remove_file(&certificate).unwrap();
    let all = findings(&host, &[]);
    assert_found(
        &all,
        "certificate",
        "critical",
        "no certificate",
        "see [tls]",
    );
    with("[\"127.0.0.1:0\"]\n", "[]\n");
    let all = findings(&host, &[]);
    assert_found(
        &all,
        "certificate",
        "warning",
        "in clear",
        "name one in [tls]",
    );
    fs::write(&certificate, good).unwrap();
    fs::write(host.config(), &config).unwrap();

    fs::create_dir_all(data.join("queue")).unwrap();
    fs::write(data.join("queue/00000000abc"), "postern queue 9\n\n").unwrap();
    let all = findings(&host, &[]);
    assert_found(
        &all,
        "queue",
        "critical",
        "format version 9",
        "move the file",
    );
    fs::remove_file(data.join("queue/00000000abc")).unwrap();

    // No relay: whoever takes mail of the domain that is to be reached.
    let route = config.find("[[route]]\ndomain").unwrap();
    let end = config[route..].find("port = 9\n").unwrap() + route + "port = 9\n".len();
    fs::write(host.config(), [&config[..route], &config[end..]].concat()).unwrap();
    let all = findings(&host, &["--reach", "nobody.example.org"]);
    let text = "there is no domain nobody.example.org";
    assert_found(&all, "way out", "critical", text, "[[route]]");
    let all = findings(&host, &["--reach", "lost.example.org"]);
    assert_found(
        &all,
        "way out",
        "critical",
        "it has no address",
        "[[route]]",
    );
    // Who greets, and wants no mail.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"554 not you\r\n").unwrap();
    });
    with("port = 9\n", &format!("port = {port}\n"));
    let all = findings(&host, &[]);
    assert_found(&all, "way out", "critical", "554 not you", "[[route]]");

    let failing = format!("127.0.0.1:{}", common::dns::failing());
    with(&format!("127.0.0.1:{}", dns.port), &failing);
    let all = findings(&host, &[]);
    assert_found(&all, "dns", "critical", "mail.example.org", "name servers");
    fs::write(host.config(), &config).unwrap();

    let keys = data.join("dkim/example.org/keys.toml");
    let mode = |mode| fs::set_permissions(&keys, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let all = findings(&host, &[]);
    let mend = format!("chmod go= {}", keys.display());
    assert_found(&all, "rights", "critical", "others may use", &mend);
    mode(0o600);
    let good = fs::read(&keys).unwrap();
    fs::write(&keys, "version = 9\n").unwrap();
    let all = findings(&host, &[]);
    assert_found(&all, "keys", "critical", "format version 9", "a copy of it");
    fs::write(&keys, good).unwrap();

    fs::write(data.join("accounts.db"), "no database\n".repeat(100)).unwrap();
    let all = findings(&host, &[]);
    let text = "the domains are not known";
    assert_found(&all, "accounts", "critical", text, "a copy of it");
    fs::rename(&data, host.path("moved")).unwrap();
    let all = findings(&host, &[]);
    assert_found(
        &all,
        "rights",
        "critical",
        "cannot be looked at",
        "postern init",
    );
    assert_found(&all, "disk", "critical", "cannot be written", "make room");
    // Whatever is wrong, there is something to do about it.
    for finding in all.iter().filter(|finding| finding["level"] != "ok") {
        assert!(finding["mend"].is_string(), "{finding}");
    }
}

#[test]
fn disks_that_keep_nothing_are_found_and_who_takes_syncs_away() {
    let dns = Dns::start(&AUTHORITY);
    let host = host(&dns, 9);
    // Built, not taken from the machine: what eatmydata does.
    let (source, library) = (host.path("eat.c"), host.path("libeatmydata.so"));
    fs::write(&source, "int fsync(int f) { return 0; }\n").unwrap();
    let mut cc = std::process::Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(cc.status().unwrap().success());
    let mut doctor = host.command();
    doctor
        .args(["doctor", "--json"])
        .env("LD_PRELOAD", &library);
    let said = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    let text = format!("{} takes syncs away", library.display());
    assert_found(&objects(&said), "disk", "critical", &text, "LD_PRELOAD");

    if !rustix::process::geteuid().is_root() {
        return tests::skip("only root can mount");
    }
    let of = |mount: &str| {
        let script = format!("{mount} && exec \"$@\"");
        let mut command = std::process::Command::new("unshare");
        command
            .env("MAIL", host.data().join("mail"))
            .args(["-m", "sh", "-c", &script, "sh"])
            .arg(env!("CARGO_BIN_EXE_postern"))
            .arg("--config")
            .arg(host.config())
            .args(["doctor", "--json"]);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            !said.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let all = objects(&said).into_iter();
        all.filter(|finding| finding["check"] == "disk")
            .collect::<Vec<_>>()
    };
    let mail = host.data().join("mail").display().to_string();
    let all = of("mount -t tmpfs none \"$MAIL\"");
    assert_eq!(all.len(), 2, "{all:?}");
    let text = format!("{mail} lies in memory (tmpfs)");
    assert_found(&all, "disk", "critical", &text, "on a disk");
    let all = of(
        "D=$MAIL/../over && mkdir -p $D && mount -t tmpfs none $D && \
                  mkdir $D/a $D/b $D/c && mount -t overlay none \
                  -o volatile,lowerdir=$D/a,upperdir=$D/b,workdir=$D/c \"$MAIL\"",
    );
    // Linux 6.18 writes fsync= before it.
    assert_found(&all, "disk", "critical", "volatile: a power", "that option");
}

#[test]
fn a_certificate_that_ends_is_told_of() {
    let host = Host::new("");
    let end = |year| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["mail.example.org".to_owned()];
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(host.data().join("tls/cert.pem"), certificate.pem()).unwrap();
        fs::write(host.data().join("tls/key.pem"), key.serialize_pem()).unwrap();
        let output = host.command().arg("check").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("cert.pem"))
            .collect();
        (output.status.code().unwrap(), lines.join("\n"))
    };
    let (code, said) = end(2020);
    assert!(code == 1 && said.contains("has expired"), "{said}");
    let (code, said) = end(3000);
    assert!(code == 0 && !said.contains("expire"), "{said}");
}
