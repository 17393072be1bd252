//! The octets of a message as they come over the wire, turned into what is
//! kept: LF for CRLF, without transparency dots (RFC 5321 §4.5.2).
//!
//! The end of data is CRLF `.` CRLF and nothing else. A CR or an LF that
//! stands alone (RFC 5321 §2.3.8) is a defect, found out but read over: some
//! servers take "LF . LF" for an end, and whoever stopped reading there could
//! be made to take the rest of a message for commands.

use memchr::memchr2;

use super::limits::Limits;

/// Reads one message in pieces of any size.
#[derive(Debug)]
pub(crate) struct Content {
    /// DATA; with BDAT dots mean nothing and the octets are counted outside.
    transparency: bool,
    at: At,
    /// As RFC 1870 counts them: with CRLF, without transparency dots.
    octets: u64,
    /// Of the line that is being read.
    line_octets: u64,
    header: Option<HeaderSection>,
    defect: Option<Defect>,
}

/// What was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    /// A dot at the start of a line.
    Dot,
    /// That dot and CR.
    DotCr,
    Text,
    /// CR, which LF must follow.
    Cr,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    BareCr,
    BareLf,
    MessageTooLarge,
    HeaderTooLarge,
    LineTooLong,
    TooManyHops,
    /// Our own fault: it could not be kept.
    NotStored,
}

/// Before the empty line.
#[derive(Debug, Default)]
struct HeaderSection {
    octets: u64,
    hops: u32,
    /// The first octets of the line, for the name of its field.
    start: [u8; RECEIVED.len()],
    n_start: usize,
}

const RECEIVED: &[u8] = b"received:";

impl Content {
    /// For DATA.
    pub(crate) fn until_dot() -> Self {
        Self::new(true)
    }

    /// For BDAT.
    pub(crate) fn counted() -> Self {
        Self::new(false)
    }

    fn new(transparency: bool) -> Self {
        Self {
            transparency,
            at: At::LineStart,
            octets: 0,
            line_octets: 0,
            header: Some(HeaderSection::default()),
            defect: None,
        }
    }

    /// Reads from the beginning of `wire`, appends what is to be kept to
    /// `out`, and gives how much of `wire` it has read and whether the end of
    /// data was there. Without an end it reads everything.
    pub(crate) fn read(
        &mut self,
        wire: &[u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> (usize, bool) {
        let mut i = 0;
        while let Some(&b) = wire.get(i) {
            match (self.at, b) {
                (At::LineStart, b'.') if self.transparency => {
                    self.at = At::Dot;
                    i += 1;
                }
                (At::LineStart, _) => self.at = At::Text,
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    i += 1;
                }
                (At::Dot, _) => self.at = At::Text,
                (At::DotCr, b'\n') => return (i + 1, true),
                (At::Cr, b'\n') => {
                    self.line_end(limits, out);
                    i += 1;
                }
                (At::Cr | At::DotCr, _) => {
                    self.fail(Defect::BareCr);
                    self.at = At::Text;
                }
                (At::Text, _) => {
                    let rest = &wire[i..];
                    let n = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    self.text(&rest[..n], limits, out);
                    i += n;
                    match wire.get(i) {
                        Some(b'\r') => self.at = At::Cr,
                        Some(_) => self.fail(Defect::BareLf),
                        None => break,
                    }
                    i += 1;
                }
            }
        }
        (wire.len(), false)
    }

    /// What is wrong with the message, once all of it was read.
    pub(crate) fn verdict(&self) -> Option<Defect> {
        let ends_in_cr = self.at == At::Cr;
        self.defect.or(ends_in_cr.then_some(Defect::BareCr))
    }

    /// What is wrong with it already.
    pub(crate) fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// Notes the first thing that is wrong; nothing is kept from then on.
    pub(crate) fn fail(&mut self, defect: Defect) {
        self.defect.get_or_insert(defect);
    }

    fn text(&mut self, text: &[u8], limits: &Limits, out: &mut Vec<u8>) {
        self.count(text.len() as u64, limits);
        if let Some(header) = &mut self.header {
            header.text(text);
        }
        if self.defect.is_none() {
            out.extend_from_slice(text);
        }
    }

    fn line_end(&mut self, limits: &Limits, out: &mut Vec<u8>) {
        self.count(2, limits);
        if let Some(header) = &mut self.header
            && !header.line_end()
        {
            self.header = None;
        }
        if self
            .header
            .as_ref()
            .is_some_and(|header| header.hops > limits.hops)
        {
            self.fail(Defect::TooManyHops);
        }
        if self.defect.is_none() {
            out.push(b'\n');
        }
        self.line_octets = 0;
        self.at = At::LineStart;
    }

    fn count(&mut self, n: u64, limits: &Limits) {
        self.octets += n;
        self.line_octets += n;
        if self.octets > limits.message_octets {
            self.fail(Defect::MessageTooLarge);
        }
        if self.line_octets > limits.line_octets {
            self.fail(Defect::LineTooLong);
        }
        if let Some(header) = &mut self.header {
            header.octets += n;
            if header.octets > limits.header_octets {
                self.fail(Defect::HeaderTooLarge);
            }
        }
    }
}

impl HeaderSection {
    fn text(&mut self, text: &[u8]) {
        let free = &mut self.start[self.n_start..];
        let n = free.len().min(text.len());
        free[..n].copy_from_slice(&text[..n]);
        self.n_start += n;
    }

    /// Whether the header section goes on.
    fn line_end(&mut self) -> bool {
        let goes_on = self.n_start > 0;
        self.hops += u32::from(self.start[..self.n_start].eq_ignore_ascii_case(RECEIVED));
        self.n_start = 0;
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Read {
        kept: Vec<u8>,
        end: Option<usize>,
        defect: Option<Defect>,
        octets: u64,
    }

    fn read(content: &mut Content, pieces: &[&[u8]], limits: &Limits) -> Read {
        let (mut kept, mut total, mut end) = (Vec::new(), 0, None);
        for piece in pieces {
            let (n, ended) = content.read(piece, limits, &mut kept);
            total += n;
            if ended {
                end = Some(total);
                break;
            }
            assert_eq!(n, piece.len());
        }
        Read {
            kept,
            end,
            defect: content.verdict(),
            octets: content.octets,
        }
    }

    /// In one piece, in all pairs of pieces, and byte by byte.
    fn every_split(wire: &[u8], limits: &Limits, check: impl Fn(Read)) {
        let run = |pieces: &[&[u8]]| check(read(&mut Content::until_dot(), pieces, limits));
        for i in 0..=wire.len() {
            run(&[&wire[..i], &wire[i..]]);
        }
        run(&wire.chunks(1).collect::<Vec<_>>());
    }

    fn check_data(wire: &str, kept: &str) {
        every_split(wire.as_bytes(), &Limits::default(), |read| {
            assert_eq!(String::from_utf8_lossy(&read.kept), kept, "{wire:?}");
            assert_eq!(read.end, Some(wire.len()), "{wire:?}");
            assert_eq!(read.defect, None, "{wire:?}");
            assert_eq!(read.octets, kept.replace('\n', "\r\n").len() as u64);
        });
    }

    #[test]
    fn dots_and_line_ends() {
        for (wire, kept) in [
            (".\r\n", ""),
            ("\r\n.\r\n", "\n"),
            ("a\r\n.\r\n", "a\n"),
            ("a\r\n..\r\n.\r\n", "a\n.\n"),
            ("...a\r\n.b\r\n.\r\n", "..a\nb\n"),
            ("a.\r\n.\r\n", "a.\n"),
            ("a\r\n. \r\n.\r\n", "a\n \n"),
            ("S: x\r\n\r\n\0\u{e9}\r\n.\r\n", "S: x\n\n\0\u{e9}\n"),
        ] {
            check_data(wire, kept);
        }
    }

    /// Each of these ends a message for some server. None does for us, each is
    /// refused, and the true end is still found.
    #[test]
    fn smuggling() {
        for (ending, defect) in [
            ("\n.\n", Defect::BareLf),
            ("\n.\r\n", Defect::BareLf),
            ("\r\n.\n", Defect::BareLf),
            ("\r.\r", Defect::BareCr),
            ("\r.\r\n", Defect::BareCr),
            ("\r\n.\r", Defect::BareCr),
            ("\r\n\r.\r\n", Defect::BareCr),
            ("\r\r\n.\r\r\n", Defect::BareCr),
            ("\r\n.\r\r\n", Defect::BareCr),
            ("\n\n.\r\n", Defect::BareLf),
            ("\n\r.\r\n", Defect::BareLf),
            ("\r\0\n.\r\n", Defect::BareCr),
            ("\r\n.\0\n", Defect::BareLf),
            ("\n..\r\n", Defect::BareLf),
        ] {
            let wire = format!("a{ending}MAIL FROM:<x@example.org>\r\n.\r\n");
            every_split(wire.as_bytes(), &Limits::default(), |read| {
                assert_eq!(read.end, Some(wire.len()), "{ending:?}");
                assert_eq!(read.defect, Some(defect), "{ending:?}");
            });
        }
        for ending in [
            "\r\n\0.\r\n",
            "\r\n.\0\r\n",
            "\r\n .\r\n",
            "\r\n. \r\n",
            "\u{85}.\u{85}",
        ] {
            let wire = format!("a{ending}b\r\n.\r\n");
            every_split(wire.as_bytes(), &Limits::default(), |read| {
                assert_eq!(
                    (read.end, read.defect),
                    (Some(wire.len()), None),
                    "{ending:?}"
                );
            });
        }
    }

    #[test]
    fn limits_stop_the_keeping_and_not_the_reading() {
        let limits = Limits {
            message_octets: 56,
            header_octets: 41,
            line_octets: 20,
            hops: 2,
            ..Limits::default()
        };
        for (text, defect) in [
            (
                "a: b\r\n\r\n1234567890\r\n1234567890\r\n1234567890\r\n1234567890\r\n",
                None,
            ),
            (
                "a: b\r\n\r\n1234567890\r\n1234567890\r\n1234567890\r\n12345678901\r\n",
                Some(Defect::MessageTooLarge),
            ),
            ("a: 456789012345678\r\n\r\n", None),
            ("a: 4567890123456789\r\n\r\n", Some(Defect::LineTooLong)),
            (
                "a: 456789012345678\r\nb: 45678901234567\r\n\r\n1234567\r\n",
                None,
            ),
            (
                "a: 456789012345678\r\nb: 456789012345678\r\n\r\n",
                Some(Defect::HeaderTooLarge),
            ),
            ("Received: a\r\nRECEIVED: b\r\n\r\nReceived: c\r\n", None),
            (
                "Received: a\r\nreceived:\r\nReceived:\r\n\r\n",
                Some(Defect::TooManyHops),
            ),
            ("Received-X:\r\nReceived-X:\r\nReceived-X:\r\n", None),
        ] {
            let wire = format!("{text}.\r\n");
            every_split(wire.as_bytes(), &limits, |read| {
                assert_eq!(read.end, Some(wire.len()), "{text:?}");
                assert_eq!(read.defect, defect, "{text:?}");
                assert!(read.kept.len() <= 60);
            });
        }
    }

    #[test]
    fn counted_octets_have_no_dots_but_the_same_line_ends() {
        for (wire, kept, defect) in [
            ("a\r\n.\r\n..b\r\n", "a\n.\n..b\n", None),
            ("no line end", "no line end", None),
            ("a\r\nb\r", "a\nb", Some(Defect::BareCr)),
            ("a\nb", "a", Some(Defect::BareLf)),
        ] {
            for i in 0..=wire.len() {
                let (one, two) = wire.as_bytes().split_at(i);
                let read = read(&mut Content::counted(), &[one, two], &Limits::default());
                assert_eq!(read.kept, kept.as_bytes(), "{wire:?}");
                assert_eq!((read.end, read.defect), (None, defect), "{wire:?}");
            }
        }
    }
}
