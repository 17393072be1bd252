//! An old host, and what the import says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mta::import::report::Outcome;
use mta::import::source::Content;
use mta::import::{Places, Plan, plan};

/// The files of an old host.
pub fn tree(files: &[(&str, &str)]) -> BTreeMap<PathBuf, Content> {
    let content = |text: &str| Content {
        bytes: text.into(),
        mode: 0o644,
    };
    let files = files.iter();
    files
        .map(|(path, text)| (path.into(), content(text)))
        .collect()
}

/// Where they are, and where the new host is.
pub fn places() -> Places {
    Places {
        qmail: "/var/qmail".into(),
        data: "/var/lib/postern".into(),
        ..Places::default()
    }
}

/// What would be made of them.
pub fn planned(files: &[(&str, &str)]) -> Plan {
    plan(&tree(files), &places()).unwrap()
}

/// What the report says of a file, outcome and line.
pub fn found(plan: &Plan, file: &str) -> Vec<(Outcome, Option<usize>)> {
    let findings = plan.report.findings.iter();
    let of = findings.filter(|finding| finding.file == Path::new(file));
    of.map(|finding| (finding.outcome, finding.line)).collect()
}

/// A host as netqmail and notqmail have it. Users of the system are uid 1000.
pub const NOTQMAIL: &[(&str, &str)] = &[
    (
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\nnone:x:1001:1001::/home/none:/bin/sh\nHigh:x:1000:1000::/home/high:/bin/sh\n",
    ),
    ("/var/qmail/control/me", "mail.example.org \nsecond line\n"),
    (
        "/var/qmail/control/locals",
        "# ours\nexample.org\nEXAMPLE.org\nmail.example.org\nwin.example\r\nlast.example",
    ),
    (
        "/var/qmail/control/virtualdomains",
        "joe.example:joe\nshop.example:shop\nexample.org:wrong\nexcept.example:\n.wild.example:shop\nno colon\nanna@part.example:shop\n",
    ),
    ("/var/qmail/control/databytes", "20000000 bytes\n"),
    ("/var/qmail/control/queuelifetime", "604800\n"),
    ("/var/qmail/control/timeoutsmtpd", "no number\n"),
    ("/var/qmail/control/concurrencyremote", "100\n"),
    ("/var/qmail/control/helohost", "other.example.org\n"),
    (
        "/var/qmail/control/smtpgreeting",
        "mail.example.org ready\n",
    ),
    ("/var/qmail/control/defaulthost", ""),
    ("/var/qmail/control/doublebounceto", "\n"),
    (
        "/var/qmail/control/badmailfrom",
        "spam@example.com\n@example.net\n.example.test\nnobody\n",
    ),
    ("/var/qmail/control/unheard-of", "x\n"),
    (
        "/var/qmail/users/assign",
        "\
=bob:bob:10007:10007:/srv/bob:::
=bob.x:bob:10007:10007:/srv/bob:-:x:
+bob-:bob:10007:10007:/srv/bob:-::
=eve:eve:10008:10008:/srv/eve:::
=admin:root:0:0:/root:::
+shop-:vmail:5000:5000:/srv/shop:-::
=bob:eve:10008:10008:/srv/eve:::
+joker:eve:10008:10008:/srv/eve:::
.
after the dot
",
    ),
    ("/srv/bob/.qmail", "/srv/bob/Maildir/\n|vacation\n&joe\n"),
    ("/srv/bob/.qmail-x", "./x/Maildir/\n"),
    ("/srv/bob/.qmail-News", "./never/\n"),
    ("/srv/eve/Maildir/new/1.x", "mail\n"),
    ("/srv/shop/.qmail-anna", "./anna/Maildir/\n"),
    (
        "/srv/shop/.qmail-info",
        "&anna@shop.example\n&shop-joe.x\nbob\n",
    ),
    ("/srv/shop/.qmail-joe:x", "./joe/Maildir/\n"),
    ("/srv/shop/.qmail-orders", "|/usr/local/bin/orders\n"),
    ("/srv/shop/.qmail-null", "# nobody\n"),
    (
        "/srv/shop/.qmail-both",
        "./anna/Maildir/\n&bob@example.net\n",
    ),
    ("/srv/shop/.qmail-default", "|bouncesaying 'nobody'\n"),
    ("/home/joe/.qmail-sales", "&bob\n"),
    ("/home/joe/.qmail-default", "./Maildir/\n"),
    ("/home/joe/Maildir/cur/1.x:2,S", "mail\n"),
    ("/home/high/x", ""),
    ("/var/qmail/alias/.qmail-postmaster", "&joe"),
    ("/var/qmail/alias/.qmail-root", "joe\nbob@Example.org\n"),
    ("/var/qmail/alias/.qmail-list", "&a@example.net\n"),
    ("/var/qmail/alias/.qmail-list-owner", "&joe\n"),
    ("/var/qmail/alias/.qmail-team-default", "&joe\n"),
    ("/var/qmail/alias/.qmail-default", "&eve\n"),
    ("/var/qmail/queue/mess/3/33", "waits\n"),
];
