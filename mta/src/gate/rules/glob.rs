//! Patterns of header fields: `*`, `?` and `[a-z]` as a shell has them, without
//! regard to case.

/// A pattern for a whole field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    One(char),
    Any,
    /// Whether it is one of these ranges, or none.
    Of(bool, Vec<(char, char)>),
    Many,
}

/// More of a field is not looked at.
const MAX_FIELD: usize = 8192;
/// Nor more of a header section.
const MAX_SECTION: usize = 512 * 1024;

impl Glob {
    /// Reads a pattern, which must name a field.
    ///
    /// # Errors
    /// With the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains(':') {
            return Err(format!("{text:?} has no colon, so that it fits no field"));
        }
        let mut parts = Vec::new();
        let lower = text.to_lowercase();
        let mut chars = lower.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Many,
                '?' => Part::Any,
                '[' => {
                    set(&mut chars).ok_or_else(|| format!("{text:?} lacks a ] that ends its ["))?
                }
                c => Part::One(c),
            });
        }
        Ok(Self(parts))
    }

    /// Whether all of `field` fits. Time is bounded by the lengths of both,
    /// multiplied.
    pub fn fits(&self, field: &str) -> bool {
        let text: Vec<char> = field
            .chars()
            .take(MAX_FIELD)
            .flat_map(char::to_lowercase)
            .collect();
        let (mut at, mut part) = (0, 0);
        // Where the last `*` was, and how much it has taken.
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.0.get(part) {
                Some(Part::Many) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(one) if one.fits(text[at]) => {
                    (at, part) = (at + 1, part + 1);
                    continue;
                }
                _ => {}
            }
            let Some((many, taken)) = star else {
                return false;
            };
            star = Some((many, taken + 1));
            (at, part) = (taken + 1, many + 1);
        }
        self.0[part..].iter().all(|rest| *rest == Part::Many)
    }
}

impl Part {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::One(own) => *own == c,
            Self::Any | Self::Many => true,
            Self::Of(wanted, ranges) => {
                ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c))
                    == *wanted
            }
        }
    }
}

/// After `[`; `None` when it has no end.
fn set(chars: &mut impl Iterator<Item = char>) -> Option<Part> {
    let mut all = Vec::new();
    let mut wanted = true;
    loop {
        match chars.next()? {
            ']' if !all.is_empty() => break,
            '!' | '^' if all.is_empty() && wanted => wanted = false,
            c => all.push(c),
        }
    }
    let mut ranges = Vec::new();
    let mut rest = all.as_slice();
    while let [first, more @ ..] = rest {
        rest = match more {
            ['-', last, more @ ..] => {
                ranges.push((*first, *last));
                more
            }
            _ => {
                ranges.push((*first, *first));
                more
            }
        };
    }
    Some(Part::Of(wanted, ranges))
}

/// The fields of a header section, each in one line, runs of blanks as one.
pub fn unfolded(section: &[u8]) -> Vec<String> {
    let section = &section[..section.len().min(MAX_SECTION)];
    let mut fields: Vec<String> = Vec::new();
    for line in section.split(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(line);
        let words = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let continues = line.first().is_some_and(|b| *b == b' ' || *b == b'\t');
        match fields.last_mut() {
            Some(field) if continues => {
                field.push(' ');
                field.push_str(&words);
            }
            _ if words.is_empty() => {}
            _ => fields.push(words),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_fields() {
        for (pattern, field, expected) in [
            ("subject: *win*", "Subject: you WIN now", true),
            ("subject: *win*", "X-Subject: win", false),
            ("*: *", "a: b", true),
            ("from: ?@[a-c]x", "From: q@bx", true),
            ("from: ?@[!a-c]x", "From: q@bx", false),
            ("from: []]", "From: ]", true),
            ("from: [a-]", "From: -", true),
            ("x: **a*b", "x: aab", true),
            ("x: a", "x: ab", false),
            ("x: ü", "X: Ü", true),
        ] {
            assert_eq!(
                Glob::parse(pattern).unwrap().fits(field),
                expected,
                "{pattern} {field}"
            );
        }
        assert!(Glob::parse("subject").is_err());
        assert!(Glob::parse("x: [a").is_err());
    }

    #[test]
    fn many_stars_cost_no_time() {
        let pattern = Glob::parse(&format!("x: {}b", "*a".repeat(200))).unwrap();
        assert!(!pattern.fits(&format!("x: {}", "a".repeat(100_000))));
    }
}
