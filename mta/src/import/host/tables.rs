//! Control files by what they have here.

/// Files with a number, and its key.
pub(super) const NUMBERS: [(&str, &str, &str); 7] = [
    ("databytes", "smtp", "max_message_bytes"),
    ("maxrcpt", "smtp", "max_recipients"),
    ("timeoutsmtpd", "smtp", "command_seconds"),
    ("timeoutconnect", "remote", "connect_seconds"),
    ("timeoutremote", "remote", "reply_seconds"),
    ("queuelifetime", "queue", "lifetime_hours"),
    ("concurrencyincoming", "listen", "max_sessions"),
];

/// Files with a line that is fixed here; without a default the host's name.
pub(super) const LINES: [(&str, Option<&str>, &str); 8] = [
    (
        "helohost",
        None,
        "the host calls itself by one name, `host`, in both directions",
    ),
    ("smtpgreeting", None, "the greeting is the host's name"),
    ("bouncehost", None, "reports come from the host's name"),
    (
        "bouncefrom",
        Some("MAILER-DAEMON"),
        "reports come from MAILER-DAEMON",
    ),
    (
        "localiphost",
        None,
        "mail for addresses in brackets is not received",
    ),
    (
        "defaultdomain",
        None,
        "names without a dot are taken as they are; see domain",
    ),
    (
        "plusdomain",
        None,
        "names that end with + are taken as they are",
    ),
    (
        "idhost",
        None,
        "Message-ID fields that are added bear the host's name",
    ),
];

/// Files whose lines are refused, and the condition of a rule.
pub(super) const REFUSED: [(&str, &str); 5] = [
    ("badmailfrom", "sender"),
    ("badmailfromnorelay", "sender"),
    ("badrcptto", "recipient"),
    ("badmailto", "recipient"),
    ("badhelo", "helo"),
];

/// Files that have no counterpart, and why.
pub(super) const NONE: [(&[&str], &str); 16] = [
    (
        &["concurrencylocal"],
        "local deliveries are bounded by memory, not by number",
    ),
    (
        &["concurrencyremote"],
        "connections are bounded for each destination: remote.connections_per_destination",
    ),
    (&["percenthack"], "a % in an address means nothing here"),
    (
        &["doublebounceto", "doublebouncehost"],
        "a report that cannot be delivered is dropped; the log and `postern why` tell of it",
    ),
    (
        &["qmqpservers"],
        "mail is not handed to other hosts by QMQP; a [[route]] does it by SMTP",
    ),
    (
        &["smtpplugins"],
        "copy the table and its programs to a folder of their own, and name it in gate.plugins",
    ),
    (
        &["beforemote"],
        "no program runs in place of the SMTP client",
    ),
    (
        &[
            "clientca.pem",
            "clientcrl.pem",
            "clientcert.pem",
            "tlsclients",
        ],
        "client certificates are not asked for, nor shown; users log in with passwords",
    ),
    (
        &[
            "dh2048.pem",
            "dh1024.pem",
            "dh512.pem",
            "rsa2048.pem",
            "rsa512.pem",
        ],
        "TLS needs no such file here",
    ),
    (
        &["tlsserverciphers", "tlsclientciphers"],
        "ciphers are those that are good today",
    ),
    (
        &["tlshosts", "notlshosts"],
        "TLS is used where it is offered; only routes with a password verify",
    ),
    (
        &["spfbehavior", "spfrules", "spfguess", "spfexp"],
        "a file for the SPF patch",
    ),
    (
        &["authsenders"],
        "routes go by domain of the recipient, not by sender: a [[route]] of domain \"*\" with user and \
         password_file is for all mail",
    ),
    (&["servercerts"], "name them in tls.more"),
    (
        &["validrcptto", "validrcptto.cdb"],
        "recipients are looked up in the accounts",
    ),
    (
        &[
            "outgoingip",
            "moreipme",
            "notipme",
            "taps",
            "brtlimit",
            "tarpitcount",
            "tarpitdelay",
            "filterargs",
            "qfilters",
        ],
        "a file for a patch that has no counterpart",
    ),
];
