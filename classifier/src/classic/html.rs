//! The names of HTML elements and attributes that bmf never counts.

/// Whether the first `len` bytes of `rest` are one of the names, in lower case
/// as given. These bytes hold no NUL.
#[inline(always)]
pub(super) fn begins_with_name(rest: &[u8], len: usize) -> bool {
    let Some(mask) = MASKS.get(len) else {
        return false;
    };
    let key = match rest.first_chunk() {
        Some(sixteen) => u128::from_le_bytes(*sixteen) & mask,
        None => key(&rest[..len]),
    };
    TABLE[slot(key)] == key && key != 0
}

/// The bits of the first n bytes of a key, for each length n of a name.
static MASKS: [u128; MAX_LEN + 1] = {
    let mut masks = [0; MAX_LEN + 1];
    let mut len = 0;
    while len < masks.len() {
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
    let mut table = [0; SLOTS];
    let mut i = 0;
    while i < NAMES.len() {
        assert!(NAMES[i].len() <= MAX_LEN, "a name is too long for a key");
        let key = key(NAMES[i].as_bytes());
        assert!(
            table[slot(key)] == 0,
            "two names meet: try another multiplier"
        );
        table[slot(key)] = key;
        i += 1;
    }
    table
}

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
