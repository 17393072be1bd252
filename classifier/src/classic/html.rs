//! The names of HTML elements and attributes that bmf never counts.

/// Whether `word` is one of the names, in lower case as given.
pub(super) fn is_html_name(word: &[u8]) -> bool {
    let Some(key) = key(word) else { return false };
    let mut slot = slot(key);
    loop {
        match TABLE[slot] {
            0 => return false,
            found if found == key => return true,
            _ => slot = (slot + 1) % SLOTS,
        }
    }
}

/// Most words of mail are in lower case and must be looked up, so the set is
/// an open-addressing table made at compile time: one multiplication and
/// mostly one probe. A sorted list costs seven string comparisons.
static TABLE: [u128; SLOTS] = table();

const SLOTS: usize = 512;

/// The word as a number; `None` for words longer than any name.
const fn key(word: &[u8]) -> Option<u128> {
    if word.len() > 12 {
        return None;
    }
    let mut key = 0;
    let mut i = 0;
    while i < word.len() {
        key = key << 8 | word[i] as u128;
        i += 1;
    }
    Some(key)
}

const fn slot(key: u128) -> usize {
    let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(24);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize
}

const fn table() -> [u128; SLOTS] {
    let mut table = [0; SLOTS];
    let mut i = 0;
    while i < NAMES.len() {
        let Some(key) = key(NAMES[i].as_bytes()) else {
            panic!("a name is longer than a key can hold");
        };
        let mut slot = slot(key);
        while table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = key;
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

    #[test]
    fn finds_each_name_and_nothing_else() {
        for name in NAMES {
            assert!(is_html_name(name.as_bytes()), "{name}");
            assert!(
                !is_html_name(name.to_ascii_uppercase().as_bytes()),
                "{name}"
            );
            assert!(
                !is_html_name(format!("{name}s").as_bytes())
                    || NAMES.contains(&&*format!("{name}s"))
            );
            assert!(!is_html_name(&name.as_bytes()[1..]) || NAMES.contains(&&name[1..]));
        }
        assert!(!is_html_name(b""));
        assert!(!is_html_name(b"an-ordinary-long-word"));
    }
}
