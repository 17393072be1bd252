//! Patterns of names and of addresses.

/// `mx.example.net`, or `.example.net` with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamePattern(String);

/// `anna@example.net`; `@example.net` with everything below; `anna@` anywhere;
/// `<>` for the null reverse-path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressPattern(String);

impl NamePattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix('.').unwrap_or(text);
        let is_label = |label: &str| !label.is_empty() && !label.contains(['@', '/', '*']);
        if !name.split('.').all(is_label) {
            return Err(format!("{text:?} is no name, nor .name for all below it"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match self.0.strip_prefix('.') {
            Some(domain) => is_at_or_below(&name, domain),
            None => name == self.0,
        }
    }
}

impl AddressPattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "<>" {
            return Ok(Self(String::new()));
        }
        match text.rsplit_once('@') {
            Some((local, domain)) if !(local.is_empty() && domain.is_empty()) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(format!(
                "{text:?} is no address, nor @domain, nor name@, nor <>"
            )),
        }
    }

    pub(super) fn fits(&self, address: &str) -> bool {
        let address = without_tag(&address.to_ascii_lowercase());
        let (Some((local, domain)), Some((own_local, own_domain))) =
            (address.rsplit_once('@'), self.0.rsplit_once('@'))
        else {
            return address == self.0;
        };
        match (own_local, own_domain) {
            ("", own_domain) => is_at_or_below(domain, own_domain),
            (own_local, "") => local == own_local,
            _ => address == self.0,
        }
    }
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    let above = name.strip_suffix(domain);
    above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// BATV puts a tag before the address: `prvs=tag=anna@example.net`, and in
/// older hosts `prvs=anna/tag@example.net`.
fn without_tag(address: &str) -> String {
    let Some(tagged) = address.strip_prefix("prvs=") else {
        return address.to_owned();
    };
    if let Some((_, rest)) = tagged.split_once('=') {
        return rest.to_owned();
    }
    match tagged.rsplit_once('@') {
        Some((local, domain)) => {
            let name = local.split('/').next().unwrap_or_default();
            format!("{name}@{domain}")
        }
        None => tagged.to_owned(),
    }
}
