//! qmail's `smtproutes`: which host gets the mail of a domain.

/// What stands after the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relay {
    /// A name or an address in brackets; empty: by MX.
    pub(super) host: String,
    /// Default: 25.
    pub(super) port: Option<u16>,
    /// Who logs in there, and with what.
    pub(super) login: Option<(String, String)>,
}

/// Reads `relay:port user password`, as eQmail has it, or
/// `relay:port|user|password`; the character behind the port decides.
///
/// # Errors
/// With the reason, which holds no password.
pub(super) fn relay(text: &str) -> Result<Relay, String> {
    let end = text.find([' ', '|']).unwrap_or(text.len());
    let (place, rest) = text.split_at(end);
    let (host, port) = match place
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((literal, port)) => {
            let prefix = if literal.contains(':') { "IPv6:" } else { "" };
            (format!("[{prefix}{literal}]"), port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (place.to_owned(), None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        None => None,
        Some(port) => Some(port.parse().map_err(|_| format!("{port:?} is no port"))?),
    };
    let login = match rest.chars().next() {
        None => None,
        Some(separator) => {
            let login = rest[1..].split_once(separator);
            let login = login.filter(|(user, _)| !user.is_empty());
            let (user, password) = login.ok_or("it has a user and no password, or no user")?;
            Some((user.to_owned(), password.to_owned()))
        }
    };
    Ok(Relay { host, port, login })
}

/// A line without what must not be shown.
pub(super) fn shown(line: &str) -> String {
    match line.find([' ', '|']) {
        Some(at) => format!("{} ...", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (text, host, port, login) in [
            ("", "", None, None),
            ("relay.example", "relay.example", None, None),
            ("relay.example:", "relay.example", None, None),
            ("relay.example:26", "relay.example", Some(26), None),
            ("[192.0.2.1]:587", "[192.0.2.1]", Some(587), None),
            ("[2001:db8::1]", "[IPv6:2001:db8::1]", None, None),
            (
                "relay.example:587 anna p w",
                "relay.example",
                Some(587),
                Some(("anna", "p w")),
            ),
            (
                "relay.example|anna|a b|c",
                "relay.example",
                None,
                Some(("anna", "a b|c")),
            ),
        ] {
            let found = relay(text).unwrap();
            let login = login.map(|(user, password): (&str, &str)| (user.into(), password.into()));
            assert_eq!(
                (&*found.host, found.port, found.login),
                (host, port, login),
                "{text}"
            );
        }
        for text in ["a:x", "a:99999", "a:1 anna", "a||b", "a anna"] {
            let error = relay(text).unwrap_err();
            assert!(!error.contains("anna"), "{text}: {error}");
        }
        assert_eq!(shown("x:relay:25 anna secret"), "x:relay:25 ...");
    }
}
