//! The file by which Thunderbird and programs like it set themselves up; they
//! do not ask for the SRV records. No RFC has it.

use std::fmt::Write;

use mail_auth::common::to_a_label;

/// For users of `domains` on `host`, which is served as `services` say: names
/// of RFC 6186 and RFC 8314 with their ports. `None` if no mail can be read or
/// none sent: programs would refuse it.
pub fn autoconfig(domains: &[String], host: &str, services: &[(&str, u16)]) -> Option<String> {
    let of = |wanted: &str| services.iter().find(|(name, _)| *name == wanted);
    let imap = of("imaps")?;
    let smtp = of("submissions").or(of("submission"))?;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<clientConfig version=\"1.1\">\n  \
         <emailProvider id=\"{host}\">\n"
    );
    for domain in domains {
        let _ = writeln!(text, "    <domain>{}</domain>", to_a_label(domain));
    }
    let _ = writeln!(text, "    <displayName>{host}</displayName>");
    for (element, kind, (name, port)) in [
        ("incomingServer", "imap", imap),
        ("outgoingServer", "smtp", smtp),
    ] {
        let tls = match *name {
            "submission" => "STARTTLS",
            _ => "SSL",
        };
        let _ = write!(
            text,
            "    <{element} type=\"{kind}\">\n      <hostname>{host}</hostname>\n      \
             <port>{port}</port>\n      <socketType>{tls}</socketType>\n      \
             <authentication>password-cleartext</authentication>\n      \
             <username>%EMAILADDRESS%</username>\n    </{element}>\n"
        );
    }
    Some(text + "  </emailProvider>\n</clientConfig>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_where_to_read_and_send() {
        let domains = ["example.org".to_owned(), "b\u{fc}cher.example".to_owned()];
        let of = |services: &[(&str, u16)]| autoconfig(&domains, "mail.example.org", services);
        let (imaps, submission) = (("imaps", 993), ("submission", 587));
        assert_eq!(of(&[imaps]), None);
        assert_eq!(of(&[submission]), None);
        let text = of(&[submission, imaps]).unwrap();
        let expected = include_str!("../../tests/data/config-v1.1.xml");
        assert_eq!(text, expected);
        let text = of(&[submission, ("submissions", 465), imaps]).unwrap();
        assert!(text.contains("<port>465</port>\n      <socketType>SSL<"));
    }
}
