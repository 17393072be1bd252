//! Whether a reverse name holds its address, as those of dialled-up homes do:
//! `dsl-192-0-2-7.example.net`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `name` holds `address`, forwards or backwards, in one of the usual
/// spellings. The last two labels are whoever owns the domain.
pub(super) fn holds(name: &str, address: IpAddr) -> bool {
    let name = name.to_ascii_lowercase();
    let labels: Vec<&str> = name.split('.').collect();
    let own = labels[..labels.len().saturating_sub(2)].join(".");
    match address.to_canonical() {
        IpAddr::V4(address) => holds_v4(&own, address),
        IpAddr::V6(address) => holds_v6(&own, address),
    }
}

fn holds_v4(own: &str, address: Ipv4Addr) -> bool {
    let forwards = address.octets();
    let mut backwards = forwards;
    backwards.reverse();
    let digits = own.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u32> = digits.filter_map(|run| run.parse().ok()).collect();
    let apart = |octets: &[u8]| {
        let octets: Vec<u32> = octets.iter().map(|octet| u32::from(*octet)).collect();
        numbers.windows(octets.len()).any(|run| run == octets)
    };
    // Three octets, with separators: the fourth is often left to the domain.
    if [forwards, backwards]
        .iter()
        .any(|octets| octets.windows(3).any(apart))
    {
        return true;
    }
    let padded = |octets: [u8; 4]| octets.map(|octet| format!("{octet:03}")).concat();
    let joined = forwards.map(|octet| octet.to_string()).concat();
    let hex = forwards.map(|octet| format!("{octet:02x}")).concat();
    let decimal = address.to_bits().to_string();
    let whole = |run: &str| {
        let run = run.trim_start_matches(|c: char| !c.is_ascii_hexdigit());
        [&padded(forwards), &padded(backwards), &hex, &decimal].contains(&&run.to_owned())
            // Few digits are found anywhere.
            || joined.len() >= 8 && run == joined
    };
    own.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|run| whole(run) || whole(run.trim_start_matches(|c: char| c.is_ascii_alphabetic())))
}

/// The lower half, or all, in full nibbles, however they are separated.
fn holds_v6(own: &str, address: Ipv6Addr) -> bool {
    let nibbles: String = own.chars().filter(char::is_ascii_hexdigit).collect();
    let forwards = format!("{:032x}", address.to_bits());
    let backwards: String = forwards.chars().rev().collect();
    nibbles.contains(&forwards[16..]) || nibbles.contains(&backwards[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_their_address() {
        for (address, name, expected) in [
            ("192.0.2.7", "192.0.2.7.dsl.example.net", true),
            ("192.0.2.7", "dsl-7-2-0-192.example.net", true),
            ("192.0.2.7", "7.2.0-192.example.net", true),
            ("192.0.2.7", "host192-000-002-007.example.net", true),
            ("192.0.2.7", "host192000002007.example.net", true),
            ("192.0.2.7", "c0000207.example.net", true),
            ("192.0.2.7", "ip-c0000207.example.net", true),
            ("192.0.2.7", "p3221225991.example.net", true),
            ("192.168.12.34", "x1921681234.example.net", true),
            ("192.168.12.34", "34.12.168.pool.example.net", true),
            ("192.0.2.7", "mx7.example.net", false),
            ("192.0.2.7", "mail-2-7.example.net", false),
            ("192.0.2.7", "192.0.2.7", false),
            ("192.0.2.7", "mx", false),
            ("192.0.2.7", "", false),
            ("1.2.3.4", "x1234.example.net", false),
            // The domain's own digits.
            ("192.0.2.7", "mail.192-0-2-7.net", false),
            (
                "2001:db8::1",
                "p20010db8000000000000000000000001.example.net",
                true,
            ),
            (
                "2001:db8::1",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.example.net",
                true,
            ),
            ("2001:db8::1", "mx1.example.net", false),
            ("::ffff:192.0.2.7", "192-0-2-7.dsl.example.net", true),
        ] {
            let found = holds(name, address.parse().unwrap());
            assert_eq!(found, expected, "{name} of {address}");
        }
    }
}
