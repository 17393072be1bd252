//! How much a client may ask for, each bound with the section that asks for
//! one.

use std::time::Duration;

/// The bounds of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a message, line ends counted as two: RFC 1870.
    pub message_octets: u64,
    /// Octets of a header section. RFC 5321 §4.5.3.1.7 names it a part of the
    /// message; a bound of its own keeps parsers safe.
    pub header_octets: u64,
    /// Octets of a line of text with its CRLF. RFC 5321 §4.5.3.1.6 asks for
    /// 1,000 and advises against a limit; real mail has longer ones.
    pub line_octets: u64,
    /// Recipients of one message: RFC 5321 §4.5.3.1.8, at least 100.
    pub recipients: usize,
    /// `Received` fields, after which a message goes in circles: RFC 5321
    /// §6.3, at least 100.
    pub hops: u32,
    /// How long a client may take for a command, or between two blocks of
    /// data: RFC 5321 §4.5.3.2.7, at least 5 minutes.
    pub command_time: Duration,
    /// How long a message may take from DATA to its end, however steadily it
    /// trickles in. RFC 5321 §4.5.3.2 knows no such bound; without one, few
    /// clients could hold all sessions.
    pub message_time: Duration,
    /// How long a client may stay that transmits no message. RFC 5321 §4.5.3.2
    /// knows no such bound; without one, few clients could hold all sessions.
    pub session_time: Duration,
    /// Refused commands and recipients since the last message, after which the
    /// client is sent away: RFC 5321 §4.3.2 allows 421 at any time.
    pub errors: u32,
    /// Commands since the last message that bring no mail nearer.
    pub idle_commands: u32,
}

/// Octets of a command line with its CRLF. RFC 5321 §4.5.3.1.4 asks for 512;
/// the parameters of RFC 1870, 3461, 6152 and 6531 add some 700, and our local
/// parts may be longer than 64.
pub(crate) const MAX_COMMAND_LINE: usize = 2048;

/// Octets of a line within an exchange of AUTH, with its CRLF: RFC 4954 §4.
pub(crate) const MAX_AUTH_LINE: usize = 12_288 + 2;

/// Failed logins after which the client is sent away; it may connect again,
/// and is waited for longer then.
pub(crate) const MAX_FAILED_LOGINS: u32 = 5;

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_octets: 50 * 1024 * 1024,
            header_octets: 512 * 1024,
            line_octets: 1024 * 1024,
            recipients: 1000,
            hops: 100,
            command_time: Duration::from_secs(5 * 60),
            message_time: Duration::from_secs(60 * 60),
            session_time: Duration::from_secs(2 * 60 * 60),
            errors: 20,
            idle_commands: 100,
        }
    }
}
