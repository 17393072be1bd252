//! What stands at descriptor 3: name, password and timestamp, each with a NUL
//! behind it.

/// The password is wrong, or there is no such account.
pub(super) const WRONG: i32 = 1;
/// We were called wrongly.
pub(super) const MISUSED: i32 = 2;
pub(super) const MAX_OCTETS: u64 = 512;

/// What descriptor 3 says.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) name: String,
    pub(super) password: Vec<u8>,
    pub(super) timestamp: Vec<u8>,
}

impl Request {
    /// Reads it; an error is the exit code.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, i32> {
        if bytes.len() as u64 > MAX_OCTETS {
            return Err(WRONG);
        }
        let mut fields = bytes.split(|b| *b == 0);
        let (Some(name), Some(password), Some(timestamp), Some(_)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(MISUSED);
        };
        Ok(Self {
            name: str::from_utf8(name).map_err(|_| WRONG)?.to_owned(),
            password: password.to_owned(),
            timestamp: timestamp.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_descriptor_3_says() {
        let request = |timestamp: &str| Request {
            name: "anna".into(),
            password: b"p w".into(),
            timestamp: timestamp.into(),
        };
        let long = [&[b'a'; 510][..], b"\0\0\0"].concat();
        for (bytes, expected) in [
            (&b"anna\0p w\0\0"[..], Ok(request(""))),
            (b"anna\0p w\0<1>\0", Ok(request("<1>"))),
            (b"anna\0p w\0<1>\0more\0", Ok(request("<1>"))),
            (b"anna\0p w\0", Err(MISUSED)),
            (b"anna\0p w\0<1>", Err(MISUSED)),
            (b"", Err(MISUSED)),
            (b"\xff\0\0\0", Err(WRONG)),
            (&long, Err(WRONG)),
        ] {
            assert_eq!(Request::parse(bytes), expected);
        }
    }
}
