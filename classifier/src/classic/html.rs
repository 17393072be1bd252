//! The names of HTML elements and attributes that bmf never counts.

/// Whether the first `len` bytes of `rest` are one of the names, in lower case
/// as given, or a word of [`MARKS`]. These bytes hold no NUL.
#[inline(always)]
pub(super) fn begins_with_name(rest: &[u8], len: usize) -> bool {
    let key = match rest.first_chunk() {
        Some(sixteen) => u128::from_le_bytes(*sixteen) & MASKS[len.min(MAX_LEN + 1)],
        None => last_key(rest, len),
    };
    TABLE[slot(key)] == key
}

/// Whether `word` is one of the names.
pub(super) fn is_name(word: &[u8]) -> bool {
    begins_with_name(word, word.len()) && !MARKS.iter().any(|mark| mark.as_bytes() == word)
}

/// Near the end of the text.
#[cold]
fn last_key(rest: &[u8], len: usize) -> u128 {
    match len {
        ..=MAX_LEN => key(&rest[..len]),
        _ => 0,
    }
}

/// The bits of the first n bytes of a key, for each length n of a name, and
/// none for what is longer.
static MASKS: [u128; MAX_LEN + 2] = {
    let mut masks = [0; MAX_LEN + 2];
    let mut len = 0;
    while len <= MAX_LEN {
        masks[len] = !(u128::MAX << (8 * len));
        len += 1;
    }
    masks
};

const MAX_LEN: usize = 12;

/// Every word of a message is looked up here, so this is a perfect hash table,
/// made at compile time: no branch but the answer. A sorted list costs seven
/// comparisons of strings.
static TABLE: [u128; SLOTS] = table();

const SLOTS: usize = 1 << 10;

/// Found by trying; [`table`] checks at compile time that no two names meet.
const MULTIPLIER: u64 = 0x3371_8450_c8f2_6f21;

/// The bytes of a word, the first one lowest.
const fn key(word: &[u8]) -> u128 {
    let mut key = 0;
    let mut i = word.len();
    while i > 0 {
        i -= 1;
        key = key << 8 | word[i] as u128;
    }
    key
}

const fn slot(key: u128) -> usize {
    let folded = (key as u64) ^ ((key >> 64) as u64) << 17;
    (folded.wrapping_mul(MULTIPLIER) >> 54) as usize
}

const fn table() -> [u128; SLOTS] {
    let mut table = [NO_KEY; SLOTS];
    let mut i = 0;
    while i < NAMES.len() + MARKS.len() {
        let name = if i < NAMES.len() {
            NAMES[i]
        } else {
            MARKS[i - NAMES.len()]
        };
        assert!(name.len() <= MAX_LEN, "a name is too long for a key");
        let key = key(name.as_bytes());
        assert!(
            table[slot(key)] == NO_KEY,
            "two names meet: try another multiplier"
        );
        table[slot(key)] = key;
        i += 1;
    }
    table
}

/// Longer than every name.
const NO_KEY: u128 = u128::MAX;

/// Words that are no names, but need a second look: marks begin with them.
const MARKS: [&str; 4] = ["SMTP", "boundary", "filename", "http"];

#[rustfmt::skip]
const NAMES: [&str; 152] = [
    "abbr", "above", "accesskey", "acronym", "align", "alink", "all", "alt", "applet",
    "archive", "axis", "basefont", "baseline", "below", "bgcolor", "big", "body", "border",
    "bottom", "box", "button", "cellpadding", "cellspacing", "center", "char", "charoff",
    "charset", "circle", "cite", "class", "classid", "clear", "codebase", "codetype", "color",
    "cols", "colspan", "compact", "content", "coords", "data", "datetime", "declare",
    "default", "defer", "dfn", "dir", "disabled", "face", "font", "frameborder", "groups",
    "head", "headers", "height", "href", "hreflang", "hsides", "hspace", "http-equiv",
    "iframe", "img", "input", "ismap", "justify", "kbd", "label", "lang", "language", "left",
    "lhs", "link", "longdesc", "map", "marginheight", "marginwidth", "media", "meta",
    "middle", "multiple", "name", "nohref", "none", "noresize", "noshade", "nowrap", "object",
    "onblur", "onchange", "onclick", "ondblclick", "onfocus", "onkeydown", "onkeypress",
    "onkeyup", "onload", "onmousedown", "onmousemove", "onmouseout", "onmouseover",
    "onmouseup", "onselect", "onunload", "param", "poly", "profile", "prompt", "readonly",
    "rect", "rel", "rev", "rhs", "right", "rows", "rowspan", "rules", "samp", "scheme",
    "scope", "script", "scrolling", "select", "selected", "shape", "size", "small", "span",
    "src", "standby", "strike", "strong", "style", "sub", "summary", "sup", "tabindex",
    "table", "target", "textarea", "title", "top", "type", "usemap", "valign", "value",
    "valuetype", "var", "vlink", "void", "vsides", "vspace", "width",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn is_name(word: &str) -> bool {
        let alone = begins_with_name(word.as_bytes(), word.len());
        let followed = format!("{word} and what follows");
        assert_eq!(alone, begins_with_name(followed.as_bytes(), word.len()));
        alone
    }

    #[test]
    fn finds_each_name_and_nothing_else() {
        for name in NAMES {
            assert!(is_name(name));
            assert!(!is_name(&name.to_ascii_uppercase()));
            for near in [&name[1..], &format!("{name}s")] {
                assert_eq!(is_name(near), NAMES.contains(&near), "{near:?}");
            }
        }
        assert!(!is_name(""));
        assert!(!is_name("an-ordinary-long-word"));
    }
}
