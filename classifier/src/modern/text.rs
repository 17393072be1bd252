//! Text as people read it: HTML without its tags, words, look-alikes.

use memchr::{memchr, memchr2, memmem};

use super::relations::shows_another;

/// What one or more parts of a message say.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// What a reader sees.
    pub(super) visible: String,
    /// Comments, style sheets, scripts and what is styled to be invisible.
    pub(super) hidden: String,
    /// What links and images point to.
    pub(super) urls: Vec<String>,
    /// A link shows the address of another host than it leads to.
    pub(super) shows_another_host: bool,
}

impl Text {
    /// Most bytes that are kept of each field: a long body repeats itself,
    /// and padding must not cost more than mail does.
    const MAX_BYTES: usize = 20_000;
    const MAX_URLS: usize = 100;

    /// Adds a text/plain part.
    pub(super) fn push_plain(&mut self, text: &str) {
        push_within(&mut self.visible, text, Self::MAX_BYTES);
        push_within(&mut self.visible, "\n", Self::MAX_BYTES);
    }

    /// Adds a text/html part: a reader of what people would see, not a parser.
    pub(super) fn push_html(&mut self, html: &str) {
        let mut state = HtmlState::default();
        let mut at = 0;
        while at < html.len() && self.visible.len() < Self::MAX_BYTES {
            at = match html.as_bytes()[at] {
                b'<' => self.tag(html, at, &mut state),
                b'&' => {
                    let (c, end) = entity(html, at);
                    self.push_text(c.encode_utf8(&mut [0; 4]), &state);
                    end
                }
                _ => {
                    let end =
                        memchr2(b'<', b'&', &html.as_bytes()[at..]).map_or(html.len(), |n| at + n);
                    self.push_text(&html[at..end], &state);
                    end
                }
            };
        }
        push_within(&mut self.visible, "\n", Self::MAX_BYTES);
    }

    fn push_text(&mut self, text: &str, state: &HtmlState) {
        let target = if state.is_hidden() {
            &mut self.hidden
        } else {
            &mut self.visible
        };
        push_within(target, text, Self::MAX_BYTES);
    }

    /// Reads the tag or comment that begins at `at`; returns where it ends.
    fn tag(&mut self, html: &str, at: usize, state: &mut HtmlState) -> usize {
        let bytes = html.as_bytes();
        if bytes[at..].starts_with(b"<!--") {
            let start = at + 4;
            let close = memmem::find(&bytes[start..], b"-->").map_or(html.len(), |n| start + n);
            push_within(&mut self.hidden, &html[start..close], Self::MAX_BYTES);
            push_within(&mut self.hidden, " ", Self::MAX_BYTES);
            return (close + 3).min(html.len());
        }
        let end = memchr(b'>', &bytes[at..]).map_or(html.len(), |n| at + n);
        let inner = &html[at + 1..end];
        let name_len = inner
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'!'))
            .count();
        if name_len == 0 {
            self.push_text("<", state);
            return at + 1;
        }
        let name = inner[..name_len].to_ascii_lowercase();
        state.enter(&name, inner);
        if !is_inline(&name) {
            self.push_text(" ", state);
        }
        if name == "/a"
            && let Some(Anchor { url, shown_at }) = state.anchor.take()
        {
            self.shows_another_host |= shows_another(&url, self.visible[shown_at..].trim());
        }
        if let Some(url) = link(inner) {
            if name == "a" {
                state.anchor = Some(Anchor {
                    url: url.to_owned(),
                    shown_at: self.visible.len(),
                });
            }
            if self.urls.len() < Self::MAX_URLS {
                self.urls.push(url.to_owned());
            }
        }
        (end + 1).min(html.len())
    }
}

#[derive(Default)]
struct HtmlState {
    /// Inside this element, whose text nobody sees.
    skip: Option<&'static str>,
    /// The name of the element that was styled to be invisible.
    invisible: Option<String>,
    /// The link whose text is being read.
    anchor: Option<Anchor>,
}

struct Anchor {
    url: String,
    /// Where what it shows begins in the visible text.
    shown_at: usize,
}

impl HtmlState {
    fn is_hidden(&self) -> bool {
        self.skip.is_some() || self.invisible.is_some()
    }

    fn enter(&mut self, name: &str, inner: &str) {
        if let Some(closed) = name.strip_prefix('/') {
            if self.skip == Some(closed) {
                self.skip = None;
            }
            if self.invisible.as_deref() == Some(closed) {
                self.invisible = None;
            }
            return;
        }
        match name {
            "style" => self.skip = Some("style"),
            "script" => self.skip = Some("script"),
            "br" | "img" | "input" | "meta" | "hr" => {}
            _ if self.invisible.is_none() && is_styled_invisible(inner) => {
                self.invisible = Some(name.to_owned());
            }
            _ => {}
        }
    }
}

/// Whether a tag shows its text to nobody: not at all, in no size, beside the
/// page, or in white where nothing says that the ground is another.
fn is_styled_invisible(tag: &str) -> bool {
    if memchr2(b':', b'#', tag.as_bytes()).is_none() && !has(tag.as_bytes(), "white") {
        return false;
    }
    let is_kept = |b: &u8| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'');
    let style: Vec<u8> = tag
        .bytes()
        .filter(is_kept)
        .map(|b| b.to_ascii_lowercase())
        .collect();
    let (mut is_white, mut is_ground_white) = (false, false);
    for at in memchr::memchr2_iter(b':', b'=', &style) {
        let (name, value) = (&style[..at], &style[at + 1..]);
        let is_colon = style[at] == b':';
        if is_colon && hides(name, value, &style) {
            return true;
        }
        if starts_white(value) {
            is_white |= is_whole(name, "color");
            is_ground_white |= is_colon && is_whole(name, "background-color");
        }
    }
    let has_ground = || has(&style, "background") || has(&style, "bgcolor");
    is_white && (!has_ground() || is_ground_white && !has(&style, "url"))
}

/// Whether the property at the end of `name` hides the text by the value that
/// begins `value`; both are parts of `style`.
fn hides(name: &[u8], value: &[u8], style: &[u8]) -> bool {
    let is = |names: &[&str]| names.iter().any(|n| name.ends_with(n.as_bytes()));
    match value.first() {
        Some(b'n') => value.starts_with(b"none") && is(&["display"]),
        Some(b'h') => value.starts_with(b"hidden") && is(&["visibility"]),
        Some(b'-') => is(&["left", "top", "text-indent"]) && !has(style, "margin-"),
        Some(b'0'..=b'9' | b'.' | b'p') => {
            is(&["font-size", "max-height", "opacity"]) && is_nothing(value)
        }
        _ => false,
    }
}

/// Letters in it, or nearly, are not to be seen on a ground like it.
fn starts_white(value: &[u8]) -> bool {
    ["#fff", "#fef", "#fdf", "white"]
        .iter()
        .any(|white| value.starts_with(white.as_bytes()))
}

/// Whether `name` ends in this property, and neither in another one, such as
/// "border-color", nor in "bgcolor".
fn is_whole(name: &[u8], property: &str) -> bool {
    let before = name.strip_suffix(property.as_bytes());
    before.is_some_and(|before| !before.ends_with(b"-") && !before.ends_with(b"g"))
}

fn has(style: &[u8], what: &str) -> bool {
    memmem::find(style, what.as_bytes()).is_some()
}

/// Whether a value is 0, or at most a pixel.
fn is_nothing(value: &[u8]) -> bool {
    let is_digit = |b: &&u8| b.is_ascii_digit() || **b == b'.';
    let len = value.iter().take_while(is_digit).count();
    let size = str::from_utf8(&value[..len]).unwrap_or_default().parse();
    let size: f32 = size.unwrap_or(1.0);
    size == 0.0 || size <= 1.0 && value[len..].starts_with(b"px")
}

/// Elements that can stand within a word.
fn is_inline(name: &str) -> bool {
    matches!(
        name.trim_start_matches('/'),
        "a" | "b" | "i" | "u" | "em" | "strong" | "font" | "span" | "small" | "big" | "!"
    )
}

/// The target of a link or an image.
fn link(tag: &str) -> Option<&str> {
    let bytes = tag.as_bytes();
    let equals = memchr::memchr_iter(b'=', bytes).find(|at| {
        let name = bytes[..*at].trim_ascii_end();
        [&b"href"[..], b"src", b"action", b"background"]
            .iter()
            .any(|n| name.len() > n.len() && name[name.len() - n.len()..].eq_ignore_ascii_case(n))
    })?;
    let value = tag[equals + 1..]
        .trim_start()
        .trim_start_matches(['"', '\'']);
    let end = value
        .find(['"', '\'', ' ', '\n', '>'])
        .unwrap_or(value.len());
    Some(&value[..end]).filter(|url| !url.is_empty())
}

/// The character that the entity at `at` stands for, and where it ends.
/// What is no entity is an ampersand.
fn entity(html: &str, at: usize) -> (char, usize) {
    let name_len = html.as_bytes()[at + 1..]
        .iter()
        .take(10)
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'#')
        .count();
    let name = &html[at + 1..at + 1 + name_len];
    let c = match name {
        "nbsp" => Some(' '),
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "zwnj" | "zwj" | "shy" => Some('\u{200b}'),
        _ => name.strip_prefix('#').and_then(|number| {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }),
    };
    let end = at + 1 + name_len;
    match c {
        Some(c) => (
            c,
            end + usize::from(html.as_bytes().get(end) == Some(&b';')),
        ),
        None => ('&', at + 1),
    }
}

fn push_within(target: &mut String, text: &str, max_bytes: usize) {
    let mut room = text.len().min(max_bytes.saturating_sub(target.len()));
    while !text.is_char_boundary(room) {
        room -= 1;
    }
    target.push_str(&text[..room]);
}

/// Lower case, without characters that nobody sees, with compatibility forms
/// of Latin letters as Latin letters, runs of blanks as one blank.
pub(super) fn fold(text: &str, out: &mut String) {
    let mut folded = std::mem::take(out).into_bytes();
    folded.reserve(text.len());
    let mut is_blank = true;
    let mut rest = text;
    while let Some(byte) = rest.bytes().next() {
        if byte.is_ascii() {
            let n = fold_ascii(rest.as_bytes(), &mut folded, &mut is_blank);
            rest = &rest[n..];
            continue;
        }
        let mut chars = rest.chars();
        if let Some(c) = chars.next() {
            fold_char(c, &mut folded, &mut is_blank);
        }
        rest = chars.as_str();
    }
    *out = String::from_utf8(folded).expect("only characters were written");
}

/// The ASCII characters that `text` begins with. Returns how many.
fn fold_ascii(text: &[u8], out: &mut Vec<u8>, is_blank: &mut bool) -> usize {
    let n = match text.is_ascii() {
        true => text.len(),
        false => text.iter().take_while(|b| b.is_ascii()).count(),
    };
    let start = out.len();
    out.resize(start + n, 0);
    let (folded, mut len) = (&mut out[start..], 0);
    for byte in &text[..n] {
        let byte = FOLDED[usize::from(*byte)];
        let is_now_blank = byte == b' ';
        folded[len] = byte;
        len += usize::from(!(is_now_blank & *is_blank));
        *is_blank = is_now_blank;
    }
    out.truncate(start + len);
    n
}

/// ASCII characters in lower case, blanks and controls as blanks.
const FOLDED: [u8; 256] = {
    let mut folded = [b' '; 256];
    let mut n = 0;
    while n < 128 {
        let byte = n as u8;
        if !byte.is_ascii_whitespace() && !byte.is_ascii_control() {
            folded[n] = byte.to_ascii_lowercase();
        }
        n += 1;
    }
    folded
};

fn fold_char(c: char, out: &mut Vec<u8>, is_blank: &mut bool) {
    if c.is_whitespace() {
        if !*is_blank {
            out.push(b' ');
        }
        *is_blank = true;
    } else if let Some(c) = fold_compatible(c) {
        for c in c.to_lowercase() {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        *is_blank = false;
    }
}

/// `None`: a character without width, whose only use in a mail is to part
/// what belongs together.
fn fold_compatible(c: char) -> Option<char> {
    let code = c as u32;
    match code {
        0xad | 0x34f | 0x61c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e => None,
        0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff | 0xe0000..=0xe007f => None,
        // Fullwidth forms.
        0xff01..=0xff5e => char::from_u32(code - 0xff01 + 0x21),
        // Mathematical alphanumerics: alphabets of 52 letters, then digits.
        0x1d400..=0x1d6a3 => {
            let letter = (code - 0x1d400) % 52;
            char::from_u32(if letter < 26 {
                0x41 + letter
            } else {
                0x61 + letter - 26
            })
        }
        0x1d7ce..=0x1d7ff => char::from_u32(0x30 + (code - 0x1d7ce) % 10),
        // Circled letters.
        0x24b6..=0x24cf => char::from_u32(code - 0x24b6 + 0x41),
        0x24d0..=0x24e9 => char::from_u32(code - 0x24d0 + 0x61),
        _ => Some(c),
    }
}

/// A Greek or Cyrillic letter as the Latin one it looks like.
fn look_alike(c: char) -> char {
    const PAIRS: &str = "аaеeоoрpсcуyхxіiјjѕsһhԁdԛqԝwвbкkмmнhтtαaοoρpνvιiκkτtυuχxεe";
    let mut pairs = PAIRS.chars();
    while let (Some(from), Some(to)) = (pairs.next(), pairs.next()) {
        if from == c {
            return to;
        }
    }
    c
}

/// The words of folded `text`, in order. One that mixes scripts whose letters
/// look alike comes with its Latin reading. A script that parts no words
/// (Chinese, Japanese, Thai, Korean) gives pairs of neighbouring characters.
pub(super) fn words<'a>(text: &'a str, mut word: impl FnMut(&'a str, Option<&str>)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let class = CLASS[usize::from(*byte)];
        if class & ALPHANUMERIC != 0
            && let Some(end) = ascii_word(bytes, at)
        {
            word(&text[at..end], None);
            at = end;
        } else if class & (ALPHANUMERIC | BEYOND) != 0 {
            at = token(text, at, &mut word);
        } else {
            at += 1;
            if class & SELLS != 0 {
                word(&text[at - 1..at], None);
            }
        }
    }
}

const ALPHANUMERIC: u8 = 1;
/// A mark within a word, if a letter or digit follows.
const JOINS: u8 = 2;
/// Marks that sell; the others are in every text.
const SELLS: u8 = 4;
/// Not ASCII.
const BEYOND: u8 = 8;

/// What each byte of a text is, so that most of it is read byte by byte.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut n = 0;
    while n < class.len() {
        let byte = n as u8;
        class[n] = if byte.is_ascii_alphanumeric() {
            ALPHANUMERIC
        } else if matches!(byte, b'\'' | b'.' | b'_' | b'-') {
            JOINS
        } else if matches!(byte, b'!' | b'$' | b'%' | b'*' | b'?' | b'#' | b'@') {
            SELLS
        } else if !byte.is_ascii() {
            BEYOND
        } else {
            0
        };
        n += 1;
    }
    class
};

/// Where the word that begins at `start` ends. `None`: a character that is not
/// ASCII may belong to it.
fn ascii_word(text: &[u8], start: usize) -> Option<usize> {
    let class = |at: usize| text.get(at).map_or(0, |byte| CLASS[usize::from(*byte)]);
    let mut end = start + 1;
    loop {
        match class(end) {
            ALPHANUMERIC => end += 1,
            BEYOND => return None,
            JOINS => match class(end + 1) {
                ALPHANUMERIC => end += 2,
                BEYOND => return None,
                _ => return Some(end),
            },
            _ => return Some(end),
        }
    }
}

/// Reads a word, or a character that is none, at `start`, of any script.
/// Returns where to go on.
fn token<'a>(text: &'a str, start: usize, word: &mut impl FnMut(&'a str, Option<&str>)) -> usize {
    let mut chars = text[start..].char_indices().peekable();
    let Some((_, c)) = chars.next() else {
        return text.len();
    };
    let mut end = start + c.len_utf8();
    if parts_no_words(c) {
        let pair = match chars.peek() {
            Some((_, next)) if parts_no_words(*next) => end + next.len_utf8(),
            _ => end,
        };
        word(&text[start..pair], None);
        return end;
    }
    if !c.is_alphanumeric() {
        if matches!(c, '!' | '$' | '%' | '€' | '£' | '¥' | '*' | '?' | '#' | '@') {
            word(&text[start..end], None);
        }
        return end;
    }
    let (mut latin, mut other) = (c.is_ascii_alphabetic(), is_greek_or_cyrillic(c));
    for (_, next) in chars {
        if parts_no_words(next) || !(next.is_alphanumeric() || joins(text, end, next)) {
            break;
        }
        latin |= next.is_ascii_alphabetic();
        other |= is_greek_or_cyrillic(next);
        end += next.len_utf8();
    }
    if latin && other {
        let unmixed: String = text[start..end].chars().map(look_alike).collect();
        word(&text[start..end], Some(&unmixed));
    } else {
        word(&text[start..end], None);
    }
    end
}

/// Whether `c` at `at` is a mark within a word, such as in "don't", "3.14",
/// "example.org" or "e-mail".
fn joins(text: &str, at: usize, c: char) -> bool {
    matches!(c, '\'' | '.' | '’' | '_' | '-')
        && text[at + c.len_utf8()..]
            .chars()
            .next()
            .is_some_and(char::is_alphanumeric)
}

fn is_greek_or_cyrillic(c: char) -> bool {
    matches!(c as u32, 0x370..=0x52f)
}

fn parts_no_words(c: char) -> bool {
    matches!(c as u32,
        0xe00..=0xeff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x2e80..=0x2fff | 0x3005..=0x9fff
        | 0xac00..=0xd7af | 0xf900..=0xfaff | 0x20000..=0x3134f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        let mut folded = String::new();
        fold(text, &mut folded);
        let mut all = Vec::new();
        words(&folded, |w, latin| {
            all.push(latin.map_or(w.to_owned(), |l| format!("{l}*")))
        });
        all
    }

    #[test]
    fn words_are_what_people_read() {
        let rows: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("Don't  pay $3.14!", &["don't", "pay", "$", "3.14", "!"]),
            ("www.example.org.", &["www.example.org"]),
            ("V\u{200b}i\u{ad}agra", &["viagra"]),
            ("\u{ff36}\u{ff29}\u{ff21}", &["via"]),
            ("𝐅𝐫𝐞𝐞 𝟏", &["free", "1"]),
            ("pаypal", &["paypal*"]),
            ("привет", &["привет"]),
            ("免费机会", &["免费", "费机", "机会", "会"]),
        ];
        for (text, expected) in rows {
            assert_eq!(words_of(text), expected, "{text}");
        }
    }

    proptest! {
        /// Word by word as by characters alone, which [`token`] reads.
        #[test]
        fn bytes_give_the_words_of_characters(
            text in "([a-z0-9 '.!@#_/-]|[a-z]{1,9}|[\u{e9}\u{430}\u{4e00}\u{e01}\u{2019}\u{20ac}\u{301}]){0,60}"
        ) {
            let mut expected = Vec::new();
            let mut at = 0;
            while at < text.len() {
                at = token(&text, at, &mut |w, l| expected.push((w, l.map(str::to_owned))));
            }
            let mut found = Vec::new();
            words(&text, |w, l| found.push((w, l.map(str::to_owned))));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn bytes_are_folded_as_characters(
            text in "([A-Z \t\n\u{1}\u{b}\u{7f}]|[a-z]{1,9}|[\u{a0}\u{85}\u{c9}\u{130}\u{200b}\u{ff21}\u{4e00}]){0,40}"
        ) {
            let (mut expected, mut is_blank) = (String::new(), true);
            for c in text.chars() {
                let is_now_blank = c.is_whitespace() || c.is_ascii_control();
                match fold_compatible(c) {
                    _ if is_now_blank && is_blank => {}
                    _ if is_now_blank => expected.push(' '),
                    Some(c) => expected.extend(c.to_lowercase()),
                    None => continue,
                }
                is_blank = is_now_blank;
            }
            let mut folded = String::new();
            fold(&text, &mut folded);
            prop_assert_eq!(folded, expected);
        }
    }

    #[test]
    fn what_nobody_sees_is_hidden() {
        let hidden = [
            "<p style='font-size:0px'>",
            "<p style=\"max-height: 0; overflow: hidden\">",
            "<p style=opacity:0>",
            "<font color=#FFFFFF>",
            "<p style='color:white; background-color: white'>",
            "<p style='position:absolute;left:-999px'>",
        ];
        let seen = [
            "<p style='font-size:10px'>",
            "<p style='opacity:0.9'>",
            "<td bgcolor=#003366 style='color:#ffffff'>",
            "<p style='background-color:#fff'>",
            "<p style='margin-left:-3px'>",
            "<p title='white: lies'>",
        ];
        for (tags, is_hidden) in [(hidden, true), (seen, false)] {
            for tag in tags {
                let mut text = Text::default();
                text.push_html(&format!("{tag}word</p>"));
                assert_eq!(text.visible.contains("word"), !is_hidden, "{tag}");
            }
        }
    }

    #[test]
    fn html_is_read_as_people_see_it() {
        let mut text = Text::default();
        text.push_html(
            "<style>a{}</style><p>Buy&nbsp;<b>Via</b>gra<!-- ham --><span style='display: none'>meeting\
             </span> 1 &lt; 2 &#x41;&bad; <a HREF=\"http://x.example/y\">here</a><",
        );
        assert_eq!(text.visible.trim(), "Buy Viagra 1 < 2 A&bad; here<");
        assert_eq!(
            text.hidden.split_whitespace().collect::<Vec<_>>(),
            ["a{}", "ham", "meeting"]
        );
        assert_eq!(text.urls, ["http://x.example/y"]);
        assert!(!text.shows_another_host);
        text.push_html("<a href='http://x.example/'>http://bank.example/</A>");
        assert!(text.shows_another_host);
    }
}
