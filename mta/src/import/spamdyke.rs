//! spamdyke's configuration: lines of `option=value`, in files that name
//! others.

use super::tcprules;

/// An option, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Counted from 1.
    pub line: usize,
    /// In lower case, as version 5 calls it.
    pub option: String,
    /// What follows the `=`; "" where nothing does.
    pub value: String,
}

/// Names of version 4, and what stands for them.
const RENAMED: [(&str, &str, &str); 7] = [
    ("reject-missing-sender-mx", "reject-sender", "no-mx"),
    (
        "reject-identical-sender-recipient",
        "reject-recipient",
        "same-as-sender",
    ),
    ("local-domains-file", "qmail-rcpthosts-file", ""),
    ("check-dnsrbl", "dns-blacklist-entry", ""),
    (
        "rejection-text-missing-sender-mx",
        "rejection-text-sender-no-mx",
        "",
    ),
    (
        "rejection-text-identical-sender-recipient",
        "rejection-text-recipient-same-as-sender",
        "",
    ),
    ("greylist-level", "graylist-level", ""),
];

/// The options of one file, in their order.
pub fn parse(text: &[u8]) -> Vec<Said> {
    let text = String::from_utf8_lossy(text);
    let mut all = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (option, value) = line.split_once('=').unwrap_or((line, ""));
        let mut option = option
            .trim()
            .to_ascii_lowercase()
            .replace("greylist", "graylist");
        let mut value = value.trim().to_owned();
        let renamed = RENAMED.iter().find(|(old, ..)| {
            old.replace("greylist", "graylist") == option && *old != "greylist-level"
        });
        if let Some((_, new, means)) = renamed {
            if means.is_empty() {
                option = (*new).to_owned();
            } else if is_yes(&value) {
                (option, value) = ((*new).to_owned(), (*means).to_owned());
            }
        }
        all.push(Said {
            line: number,
            option,
            value,
        });
    }
    all
}

/// Whether a switch is on; a bare name is.
pub fn is_yes(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "" | "yes" | "true" | "1"
    )
}

/// The entries of a list file.
pub fn list(text: &[u8]) -> Vec<(usize, String)> {
    let text = String::from_utf8_lossy(text);
    let lines = text
        .lines()
        .zip(1..)
        .map(|(line, n)| (n, line.trim().to_owned()));
    let said = |(_, line): &(usize, String)| !line.is_empty() && !line.starts_with('#');
    lines.filter(said).collect()
}

/// The path of an option file below a `config-dir`, as conditions of a rule:
/// `_recipient_/org/example/_at_/bob/_ip_/192/0`.
///
/// # Errors
/// With the reason when it cannot be said so.
pub fn conditions(path: &str) -> Result<String, String> {
    let mut all: Vec<String> = Vec::new();
    let mut parts = path.split('/').peekable();
    while let Some(kind) = parts.next() {
        let mut labels = Vec::new();
        while let Some(label) = parts.next_if(|part| !is_kind(part)) {
            labels.push(label.to_ascii_lowercase());
        }
        if labels.is_empty() {
            return Err(format!("nothing stands below {kind}"));
        }
        let name = |labels: &[String]| {
            let reversed: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
            reversed.join(".")
        };
        all.push(match kind {
            "_ip_" => {
                let dot = if labels.len() < 4 { "." } else { "" };
                match &tcprules::of_ipv4(&(labels.join(".") + dot))?[..] {
                    [network] => format!("address {}", tcprules::written(network)),
                    _ => return Err("ranges are no part of a path".into()),
                }
            }
            "_rdns_" => format!("name .{}", name(&labels)),
            "_sender_" | "_recipient_" => {
                let kind = kind.trim_matches('_');
                match labels.iter().position(|label| label == "_at_") {
                    None => format!("{kind} @{}", name(&labels)),
                    Some(at) => {
                        let local_part = labels[at + 1..].join("/");
                        format!("{kind} {local_part}@{}", name(&labels[..at]))
                    }
                }
            }
            other => {
                return Err(format!(
                    "{other} is none of _ip_, _rdns_, _sender_, _recipient_"
                ));
            }
        });
    }
    Ok(all.join(" "))
}

fn is_kind(part: &str) -> bool {
    ["_ip_", "_rdns_", "_sender_", "_recipient_"].contains(&part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_options_and_old_names_are_new_ones() {
        let text = " # none\n\nreject-empty-rdns\nGreeting-Delay-Secs = 3\nreject-missing-sender-mx=yes\n\
                    reject-missing-sender-mx=no\nlocal-domains-file=/x=y\ngreylist-min-secs=5\r\n";
        let found = parse(text.as_bytes()).into_iter();
        let found: Vec<_> = found
            .map(|said| format!("{} {}={}", said.line, said.option, said.value))
            .collect();
        let expected = [
            "3 reject-empty-rdns=",
            "4 greeting-delay-secs=3",
            "5 reject-sender=no-mx",
            "6 reject-missing-sender-mx=no",
            "7 qmail-rcpthosts-file=/x=y",
            "8 graylist-min-secs=5",
        ];
        assert_eq!(found, expected);
        assert!(is_yes("") && is_yes("TRUE") && !is_yes("0"));
    }

    #[test]
    fn paths_are_conditions() {
        for (path, expected) in [
            ("_ip_/192/0/2/7", "address 192.0.2.7"),
            ("_ip_/192/0", "address 192.0.0.0/16"),
            ("_rdns_/net/example/mx1", "name .mx1.example.net"),
            ("_sender_/net/example", "sender @example.net"),
            (
                "_recipient_/org/example/_at_/bob/_ip_/10",
                "recipient bob@example.org address 10.0.0.0/8",
            ),
        ] {
            assert_eq!(conditions(path).as_deref(), Ok(expected));
        }
        for path in ["", "x", "_ip_", "_ip_/1-2", "_ip_/x", "other/_ip_/1"] {
            assert!(conditions(path).is_err(), "{path}");
        }
    }
}
