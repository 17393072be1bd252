//! Text as people see it: HTML without its tags, and apart from what it hides.

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

#[cfg(test)]
mod tests {
    use super::*;

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
