//! Awkward mail, deterministic by seed.
//!
//! What real mail seldom holds and a lexer can get wrong, mixed with plain
//! words of a small vocabulary, so that tokens repeat and their counts matter.
//! Nothing here tries to look like real mail; `corpora` has a generator that
//! does.

use fastrand::Rng;

/// An input for one run of bmf: mostly one message, sometimes an mbox, a
/// fragment, or noise.
pub fn input(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..20) {
        0 => fragment(rng),
        1 => noise(rng),
        2..=5 => mbox(rng),
        _ => message(rng),
    }
}

/// One message: a header section, a blank line and a body, each of which is
/// sometimes missing, with line ends that are sometimes CRLF or mixed.
pub fn message(rng: &mut Rng) -> Vec<u8> {
    let mut lines = Vec::new();
    let parts = rng.u8(..10);
    if parts != 0 {
        for _ in 0..rng.usize(1..8) {
            header_field(rng, &mut lines);
        }
    }
    if parts > 1 {
        lines.push(Vec::new());
    }
    if parts != 2 {
        for _ in 0..rng.usize(..12) {
            lines.push(body_line(rng));
        }
    }
    joined(rng, &lines)
}

/// An mbox of one to four messages, mostly with a blank line between them.
pub fn mbox(rng: &mut Rng) -> Vec<u8> {
    let mut mbox = Vec::new();
    for _ in 0..rng.usize(1..5) {
        mbox.extend_from_slice(b"From ");
        mbox.extend(words(rng));
        mbox.extend_from_slice(pick_text(rng, &["\n", "\n", "\n", "\r\n"]));
        mbox.extend(message(rng));
        // Without a final line end the next mark is no mark: that, too.
        if rng.u8(..8) > 0 && !mbox.ends_with(b"\n") {
            mbox.push(b'\n');
        }
        if rng.bool() {
            mbox.push(b'\n');
        }
    }
    mbox
}

/// A short input around the bounds of what is a message at all.
fn fragment(rng: &mut Rng) -> Vec<u8> {
    const FRAGMENTS: [&[u8]; 16] = [
        b"",
        b"\n",
        b"\r\n\r\n",
        b"x",
        b"\0",
        b"From",
        b"From ",
        b"From x",
        b"From \n",
        b"From x\n",
        b"word",
        b"two words",
        b"Subject: one\n",
        b"\n\nbody only here\n",
        b"From a\nFrom b\nFrom c word\n",
        b"\nFrom late mark\nSubject: one two\n",
    ];
    pick(rng, &FRAGMENTS).to_vec()
}

/// Bytes without sense, with line ends and blanks more often than by chance.
fn noise(rng: &mut Rng) -> Vec<u8> {
    (0..rng.usize(..600))
        .map(|_| match rng.u8(..12) {
            0 => b'\n',
            1 => b' ',
            2 => b'-',
            3..=7 => rng.u8(b'a'..=b'z'),
            _ => rng.u8(..),
        })
        .collect()
}

/// Joins lines by one kind of line end, or mixes them.
fn joined(rng: &mut Rng, lines: &[Vec<u8>]) -> Vec<u8> {
    let style = rng.u8(..10);
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(line);
        let crlf = style == 0 || style == 1 || (style == 2 && rng.bool());
        bytes.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
    }
    if rng.u8(..4) == 0 {
        bytes.pop();
    }
    bytes
}

/// One field with its folded lines.
fn header_field(rng: &mut Rng, lines: &mut Vec<Vec<u8>>) {
    const NAMES: [&str; 26] = [
        "Subject",
        "From",
        "To",
        "Received",
        "X-Mailer",
        "Content-Type",
        "Reply-To",
        "subject",
        "SUBJECT",
        "Date",
        "date",
        "DATE",
        "Delivery-date",
        "Message-ID",
        "Message-Id",
        "message-id",
        "X-Sorted",
        "X-Spam-Status",
        "X-Spam-Flag",
        "x-spam-level",
        "X-SPAM-",
        "X-Spam",
        "X-Spammer",
        "Dates",
        "X-Message-ID",
        "SPAM",
    ];
    let mut line = pick_text(rng, &NAMES).to_vec();
    line.extend_from_slice(pick_text(rng, &[": ", ": ", ": ", ":", ":\t", " : ", ""]));
    line.extend(words(rng));
    lines.push(line);
    while rng.u8(..4) == 0 {
        let mut folded = pick_text(rng, &[" ", "\t", "\t ", "\tid ", " id "]).to_vec();
        folded.extend(match rng.u8(..5) {
            0 => Vec::new(),
            1 => b"X-Spam-Flag: YES".to_vec(),
            _ => words(rng),
        });
        lines.push(folded);
    }
}

/// One line of a body.
fn body_line(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..24) {
        0..=2 => Vec::new(),
        3 => vocabulary(rng).to_vec(),
        4 | 5 => base64_like(rng),
        6 | 7 => boundary_like(rng),
        8..=11 => special_line(rng),
        12 if rng.u8(..8) == 0 => long_line(rng),
        _ => words(rng),
    }
}

/// Words with all that may stand between two words.
fn words(rng: &mut Rng) -> Vec<u8> {
    const BETWEEN: [&[u8]; 25] = [
        b" ", b" ", b" ", b" ", b" ", b"  ", b"\t", b", ", b". ", b"-", b".", b"'", b"_", b"@",
        b"=", b"<", b">", b"</", b"/", b"\0", b"\xe9", b"\r", b"--", b" $", b"\"",
    ];
    let mut line = Vec::new();
    for _ in 0..rng.usize(1..10) {
        match rng.u8(..10) {
            0 => line.extend(html_like(rng)),
            1 => line.extend(address_like(rng)),
            2 => line.extend(edge_word(rng)),
            3 => line.extend_from_slice(pick(rng, &MARKS)),
            _ => line.extend_from_slice(vocabulary(rng)),
        }
        line.extend_from_slice(pick(rng, &BETWEEN));
    }
    if rng.bool() {
        line.pop();
    }
    line
}

/// What the lexer treats specially inside a line, and its near misses.
const MARKS: [&[u8]; 24] = [
    b"<!--",
    b"-->",
    b"<!-",
    b"<!---->",
    b"SMTP id ",
    b"ESMTP id 4A3",
    b"SMTP idea",
    b"smtp id x",
    b"boundary=",
    b"boundary=\"--x\" tail",
    b"Boundary=x",
    b"xboundary=y",
    b"boundary =z",
    b"name=\"",
    b"filename=\"",
    b"filename=\"report.txt\"",
    b"Name=\"x",
    b"name=x",
    b"rename=\"x",
    b"name=\"\"",
    b"--",
    b"$",
    b"...",
    b"''",
];

/// A line that is skipped whole, or nearly one.
fn special_line(rng: &mut Rng) -> Vec<u8> {
    const STARTS: [&[u8]; 22] = [
        b"Date:",
        b"DATE: ",
        b"Delivery-date: ",
        b"delivery-DATE:",
        b"Message-ID: ",
        b"message-id:",
        b"X-Sorted: ",
        b"x-sorted:",
        b"X-Spam-",
        b"X-Spam-Flag: ",
        b"x-sPAM-x",
        b"SPAM:",
        b"SPAM: ",
        b"spam: ",
        b"\tid ",
        b"\tID ",
        b" id ",
        b"\t id ",
        b" Date: ",
        b">From ",
        b"From",
        b"FROM ",
    ];
    let mut line = pick(rng, &STARTS).to_vec();
    if rng.u8(..4) > 0 {
        line.extend(words(rng));
    }
    line
}

/// A line of base64, or one that a single byte keeps from being one.
fn base64_like(rng: &mut Rng) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut line: Vec<u8> = (0..rng.usize(1..78)).map(|_| pick(rng, ALPHABET)).collect();
    match rng.u8(..4) {
        0 => line.extend_from_slice(b"=="),
        1 => {
            let at = rng.usize(..line.len());
            line[at] = pick(rng, b" -=.\t_\0\x80");
        }
        _ => {}
    }
    line
}

/// A line that begins with dashes.
fn boundary_like(rng: &mut Rng) -> Vec<u8> {
    let mut line = pick_text(rng, &["--", "--", "---", "-", "-- ", "----=_"]).to_vec();
    match rng.u8(..4) {
        0 => {}
        1 => line.extend(words(rng)),
        _ => {
            line.extend(edge_word(rng));
            line.extend_from_slice(pick_text(rng, &["", "--", " ", "\t", "\r", "=_3.7"]));
        }
    }
    line
}

/// A line that no buffer of a usual size holds.
fn long_line(rng: &mut Rng) -> Vec<u8> {
    let mut line = Vec::new();
    let length = rng.usize(1_000..80_000);
    while line.len() < length {
        line.extend(words(rng));
    }
    line
}

/// A word of the small vocabulary.
fn vocabulary(rng: &mut Rng) -> &'static [u8] {
    const WORDS: [&[u8]; 30] = [
        b"meeting",
        b"tomorrow",
        b"report",
        b"project",
        b"lunch",
        b"invoice",
        b"thanks",
        b"draft",
        b"cheap",
        b"watches",
        b"viagra",
        b"winner",
        b"lottery",
        b"click",
        b"here",
        b"free",
        b"Free",
        b"FREE",
        b"money",
        b"Money",
        b"$1000",
        b"don't",
        b"e-mail",
        b"www.example.com",
        b"the",
        b"you",
        b"we",
        b"a",
        b"Hello",
        b"from",
    ];
    pick(rng, &WORDS)
}

/// A name of the lexer's HTML list, cut, extended or in capitals.
fn html_like(rng: &mut Rng) -> Vec<u8> {
    const NAMES: [&[u8]; 29] = [
        b"body",
        b"name",
        b"size",
        b"left",
        b"data",
        b"datetime",
        b"content",
        b"style",
        b"http-equiv",
        b"font",
        b"frame",
        b"frameborder",
        b"onclick",
        b"ondblclick",
        b"width",
        b"abbr",
        b"above",
        b"alt",
        b"href",
        b"hreflang",
        b"type",
        b"value",
        b"valuetype",
        b"img",
        b"input",
        b"sub",
        b"summary",
        b"sup",
        b"vspace",
    ];
    const ENDS: [&[u8]; 16] = [
        b"x", b"s", b"1", b"$", b"-", b".", b"'", b"--", b"..", b"-x", b".x", b"..x", b"'s",
        b".-$", b"=", b"\xff",
    ];
    let mut word = pick(rng, &NAMES).to_vec();
    match rng.u8(..6) {
        0 => word.truncate(word.len() - 1),
        1 | 2 => word.extend_from_slice(pick(rng, &ENDS)),
        3 => word[0] = word[0].to_ascii_uppercase(),
        _ => {}
    }
    word
}

/// An IP address, or something with too many digits, dots or groups.
fn address_like(rng: &mut Rng) -> Vec<u8> {
    let mut address = String::new();
    let groups = pick(rng, &[4, 4, 4, 3, 5, 8]);
    for group in 0..groups {
        if group > 0 {
            address.push_str(pick(rng, &[".", ".", ".", ".", ".", ".", "..", "-"]));
        }
        for _ in 0..pick(rng, &[1, 1, 2, 3, 3, 4, 5]) {
            address.push(char::from(rng.u8(b'0'..=b'9')));
        }
    }
    address.push_str(pick(rng, &["", "", "", ".", "x", "abc", "-abc"]));
    address.into_bytes()
}

/// A word around the bounds of length and of what may begin and end it.
fn edge_word(rng: &mut Rng) -> Vec<u8> {
    const INNER: &[u8] = b"aaabbcxyzABZ0199$'.-";
    let length = pick(rng, &[1, 2, 3, 3, 4, 5, 19, 20, 20, 21, 22, 40]);
    let mut word: Vec<u8> = (0..length).map(|_| pick(rng, INNER)).collect();
    if rng.u8(..3) > 0 {
        word[0] = pick(rng, b"abzABZ$");
    }
    if rng.u8(..3) == 0 {
        word.extend_from_slice(pick_text(rng, &[".", "-", "'", "--", "...", ".-'"]));
    }
    word
}

/// One of `choices`, which must not be empty.
fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// One of `choices`, as bytes.
fn pick_text(rng: &mut Rng, choices: &[&'static str]) -> &'static [u8] {
    pick(rng, choices).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mail_and_another_seed_other_mail() {
        let inputs = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..50).map(|_| input(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
