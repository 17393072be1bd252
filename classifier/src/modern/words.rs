//! Words of a text as people read them: folded, with look-alikes seen through.

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
        while let Some(bytes) = text[end..].first_chunk() {
            let n = n_alphanumeric(u64::from_le_bytes(*bytes));
            end += n;
            if n < 8 {
                break;
            }
        }
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

/// With how many ASCII letters and digits these 8 bytes begin, all looked at
/// at once: nobody foresees how long a word is.
fn n_alphanumeric(bytes: u64) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let low = bytes & !HIGH;
    let from = |bytes: u64, first: u8| bytes + u64::from(0x80 - first) * EACH;
    let within = |bytes: u64, first: u8, last: u8| from(bytes, first) & !from(bytes, last + 1);
    let letters = within(low | (0x20 * EACH), b'a', b'z');
    let digits = within(low, b'0', b'9');
    let others = !(letters | digits) | bytes;
    (others & HIGH).trailing_zeros() as usize / 8
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
        #[test]
        fn letters_and_digits_are_counted(bytes in proptest::array::uniform8("[a-zA-Z0-9]|[@-\\[`{/:]|\\PC")) {
            let bytes = bytes.map(|text| text.into_bytes()[0]);
            let expected = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            prop_assert_eq!(n_alphanumeric(u64::from_le_bytes(bytes)), expected);
        }

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
}
