//! From bytes to hashed features, in three views of a message.
//!
//! Each view is sorted and holds each feature once: how often something
//! stands in a message says less than that it does, and padding by
//! repetition must gain nothing.

use std::borrow::Cow;
use std::sync::LazyLock;

use mail_parser::{HeaderName, MessageParser, MimeHeaders, PartType};
use memchr::memmem;

use super::canonical::Canonical;
use super::charset;
use super::distinct::{extend_with_new, sort_distinct};
use super::relations;
use super::text::Text;
use super::words::{fold, words};

/// What a feature was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Byte 5-grams of the header section. They see what no rule foresaw:
    /// program names, forged routes, odd spacing.
    HeaderGrams,
    /// Byte 5-grams of the subject and of the text as it is read. They need
    /// no words, so they hold for every language and for misspelt words.
    TextGrams,
    /// Words, neighbouring words, words of header fields, links, attachments, and
    /// what belongs to the sender.
    Words,
}

impl View {
    /// All views in the order of [`Features::views`].
    pub const ALL: [Self; 3] = [Self::HeaderGrams, Self::TextGrams, Self::Words];
}

/// The features of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Hashes, ascending and distinct, by view in the order of [`View::ALL`].
    pub views: [Vec<u32>; 3],
}

/// The features of a message. Any bytes will do.
/// Cost: bounded, however long the message is, but for one pass over it.
pub fn features(raw: &[u8]) -> Features {
    let mut features = Features {
        views: MOST_AT_FIRST.map(|most| Vec::with_capacity(raw.len().min(most))),
    };
    visit(raw, &mut features);
    let mut scratch = Vec::new();
    for view in &mut features.views {
        sort_distinct(view, &mut scratch);
    }
    features
}

/// Where a feature stood and what it is, for a reader.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// 5 bytes at this offset of the text that view reads.
    Gram { text: &'a [u8], at: usize },
    /// A word, and the place that it is told apart by.
    Word { place: &'a str, word: &'a str },
    /// Two words of the text, side by side.
    Pair { first: &'a str, second: &'a str },
}

/// Where features go, in order of the message, repetitions too.
pub(super) trait Sink {
    fn add(&mut self, view: View, hash: u32, origin: Origin<'_>);

    /// The grams of `text`, of which the first begins at its first byte.
    fn add_grams(&mut self, view: View, text: &[u8], hashes: impl ExactSizeIterator<Item = u32>) {
        for (at, hash) in hashes.enumerate() {
            self.add(view, hash, Origin::Gram { text, at });
        }
    }
}

impl<F: FnMut(View, u32, Origin<'_>)> Sink for F {
    fn add(&mut self, view: View, hash: u32, origin: Origin<'_>) {
        self(view, hash, origin);
    }
}

impl Sink for Features {
    fn add(&mut self, view: View, hash: u32, _: Origin<'_>) {
        self.views[view as usize].push(hash);
    }

    fn add_grams(&mut self, view: View, _: &[u8], hashes: impl ExactSizeIterator<Item = u32>) {
        extend_with_new(&mut self.views[view as usize], hashes);
    }
}

/// Bytes of a gram. 3 to 6 were measured; 5 is best where header and text
/// are apart (docs/modern-engine.md).
pub(super) const GRAM: usize = 5;
/// Header sections and texts are read up to here: long enough for what is
/// pitched, short enough that padding after it counts for nothing.
const MAX_HEADER_BYTES: usize = 4_000;
const MAX_TEXT_BYTES: usize = 6_000;
/// Features of a view that there is room for, more than most messages have.
const MOST_AT_FIRST: [usize; 3] = [MAX_HEADER_BYTES, MAX_TEXT_BYTES, 2_000];
/// Words of the text beyond this many are not read.
const MAX_WORDS: usize = 2_000;
/// Header fields beyond this many are not read, nor words of one field.
const MAX_FIELDS: usize = 100;
const MAX_FIELD_WORDS: usize = 60;

/// A relation is worth so many words: there are few of them, and each says more.
/// Real collections do not mind 1 to 8; with 8 it takes the fewest messages to
/// learn what false senders have in common.
const WORDS_PER_RELATION: u64 = 8;

/// Reads no more header fields than are asked for.
static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .with_mime_headers()
        .header_text(HeaderName::Subject)
        .header_text(HeaderName::From)
        .default_header_ignore()
});

/// Gives each feature to `sink`.
pub(super) fn visit(raw: &[u8], sink: &mut impl Sink) {
    let canonical = Canonical::new(raw);
    let parsed = PARSER.parse(canonical.as_bytes());

    let header = without_random_runs(canonical.header_section());
    grams(
        View::HeaderGrams,
        &header,
        MAX_HEADER_BYTES,
        u8::clone,
        sink,
    );

    let mut text = Text::default();
    let mut subject = String::new();
    if let Some(message) = &parsed {
        let bytes = canonical.as_bytes();
        match message.subject() {
            Some(decoded) if decoded.contains('\u{fffd}') => {
                fold(&raw_subject(&canonical), &mut subject);
            }
            decoded => fold(decoded.unwrap_or_default(), &mut subject),
        }
        for part in &message.parts {
            match &part.body {
                PartType::Text(plain) => text.push_plain(&charset::repaired(bytes, part, plain)),
                PartType::Html(html) => text.push_html(&charset::repaired(bytes, part, html)),
                _ => {}
            }
            mime(part, sink);
        }
        let mut from = String::new();
        let name = message.header(HeaderName::From).and_then(|h| h.as_text());
        fold(name.unwrap_or_default(), &mut from);
        words_at("from", &from, sink);
    }
    header_words(&canonical, sink);

    let mut read = subject;
    read.push('\n');
    let body_at = read.len();
    fold(&text.visible, &mut read);
    let (subject, body) = read.split_at(body_at);
    let mut pairs = Pairs::default();
    let mut add = |word, sink: &mut _| pairs.add(word, sink);
    words_and("subject", subject, sink, &mut add);
    let bytes = read.as_bytes();
    grams(View::TextGrams, bytes, MAX_TEXT_BYTES, any_digit, sink);
    words_and("text", body, sink, &mut add);

    let mut hidden = String::new();
    fold(&text.hidden, &mut hidden);
    words_at("hidden", &hidden, sink);
    let links: Vec<&str> = text
        .urls
        .iter()
        .map(String::as_str)
        .chain(links(&text.visible))
        .collect();
    for link in &links {
        url(link, sink);
    }
    let mut relation = |place, what: &str| {
        for n in 0..WORDS_PER_RELATION {
            feature(hash(n, b"relation"), place, what, sink);
        }
    };
    if text.shows_another_host {
        relation("link", "shows another host");
    }
    relations::visit(&canonical, &links, &mut |what| relation("sender", what));
}

/// The subject as it stands, for one of bytes that no encoded word announces.
fn raw_subject(canonical: &Canonical) -> String {
    let mut fields = canonical.fields();
    let subject = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"Subject"));
    subject.map_or_else(String::new, |(_, body)| charset::guess(body))
}

fn grams(
    view: View,
    text: &[u8],
    max_bytes: usize,
    fold: impl Fn(&u8) -> u8,
    sink: &mut impl Sink,
) {
    const MASK: u64 = (1 << (8 * GRAM)) - 1;
    let text = &text[..text.len().min(max_bytes)];
    let Some((begin, rest)) = text.split_at_checked(GRAM - 1) else {
        return;
    };
    let view_bits = (view as u64) << (8 * GRAM);
    let mut gram = begin
        .iter()
        .fold(0, |gram, byte| gram << 8 | u64::from(fold(byte)));
    let hashes = rest.iter().map(|byte| {
        gram = (gram << 8 | u64::from(fold(byte))) & MASK;
        mix(gram | view_bits)
    });
    sink.add_grams(view, text, hashes);
}

/// One digit for all: in a text, what a number is says less than that there
/// is one, and prices, dates and telephone numbers are new in each message.
fn any_digit(byte: &u8) -> u8 {
    if byte.is_ascii_digit() { b'0' } else { *byte }
}

/// Runs of 32 and more letters and digits are signatures, keys and queue
/// names: new in each message, so they would fill the model and teach
/// nothing. Each becomes one byte that no header section holds.
fn without_random_runs(header: &[u8]) -> Vec<u8> {
    const MIN_RUN: usize = 32;
    let mut out = Vec::with_capacity(MAX_HEADER_BYTES.min(header.len()));
    let is_other = |b: &u8| !IN_RUN[usize::from(*b)];
    // What is copied, and where a run may begin. A window without any other
    // byte is one; else none begins before the last of those.
    let (mut copied, mut at) = (0, 0);
    while let Some(window) = header.get(at..at + MIN_RUN)
        && out.len() + at - copied < MAX_HEADER_BYTES
    {
        if let Some(other) = window.iter().rposition(is_other) {
            at += other + 1;
            continue;
        }
        out.extend_from_slice(&header[copied..at]);
        out.push(1);
        let len = header[at..].iter().position(is_other);
        at = len.map_or(header.len(), |len| at + len);
        copied = at;
    }
    let room = MAX_HEADER_BYTES.saturating_sub(out.len());
    out.extend(header[copied..].iter().take(room));
    out
}

/// Bytes that signatures, keys and queue names are made of.
const IN_RUN: [bool; 256] = byte_set(b"+/=_");

fn words_at(place: &str, folded: &str, sink: &mut impl Sink) {
    words_and(place, folded, sink, |_, _| {});
}

/// The words of a place, and each word, looked alike or not, to `also`.
fn words_and<'a, S: Sink>(
    place: &str,
    folded: &'a str,
    sink: &mut S,
    mut also: impl FnMut(&'a str, &mut S),
) {
    let seed = hash(0, place.as_bytes());
    let mut n = 0;
    words(folded, |word, latin| {
        also(word, sink);
        n += 1;
        if n > MAX_WORDS {
            return;
        }
        feature(seed, place, latin.unwrap_or(word), sink);
        if latin.is_some() {
            feature(hash(1, b"text"), "text", "look-alike letters", sink);
        }
    });
}

/// Neighbouring words. Pairs with others between them were measured: within
/// 4 MiB they cost more by collisions than they give.
#[derive(Default)]
struct Pairs<'a> {
    first: &'a str,
    first_code: u64,
    n_words: usize,
}

impl<'a> Pairs<'a> {
    fn add(&mut self, second: &'a str, sink: &mut impl Sink) {
        self.n_words += 1;
        if self.n_words > MAX_WORDS {
            return;
        }
        let code = hash(7, second.as_bytes());
        let first = self.first;
        if !first.is_empty() {
            let both = self.first_code.rotate_left(17) ^ code;
            sink.add(View::Words, mix(both), Origin::Pair { first, second });
        }
        (self.first_code, self.first) = (code, second);
    }
}

fn feature(seed: u64, place: &str, word: &str, sink: &mut impl Sink) {
    sink.add(
        View::Words,
        mix(hash(seed, word.as_bytes())),
        Origin::Word { place, word },
    );
}

/// Field names as written, and the words of field bodies by field. Of fields
/// that are new in each message only what repeats: the zone of a date, the
/// route without its times, the domain and the shape of a message identifier.
fn header_words(canonical: &Canonical, sink: &mut impl Sink) {
    for (name, body) in canonical.fields().take(MAX_FIELDS) {
        let name = lossy(name);
        feature(hash(0, b"field"), "field", &name, sink);
        let place = name.to_ascii_lowercase();
        let body = lossy(body);
        match place.as_str() {
            "subject" => {}
            "received" | "x-received" => {
                let (route, date) = body.rsplit_once(';').unwrap_or((&body, ""));
                field_words(&place, route, sink);
                let zone = date.find(['+', '-']).map_or("", |at| &date[at..]);
                field_words(&place, zone, sink);
            }
            "date" => field_words(&place, body.get(17..).unwrap_or_default(), sink),
            "message-id" => {
                let (left, domain) = body.split_once('@').unwrap_or((&body, ""));
                field_words(&place, domain, sink);
                feature(hash(1, place.as_bytes()), &place, &shape(left), sink);
            }
            _ => field_words(&place, &body, sink),
        }
    }
}

/// As [`String::from_utf8_lossy`], sooner where nothing is lost.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn field_words(place: &str, body: &str, sink: &mut impl Sink) {
    /// Longer ones are signatures and keys.
    const MAX_WORD_BYTES: usize = 40;
    let seed = hash(0, place.as_bytes());
    let mut n_words = 0;
    let mut say = |word: &str| {
        if !word.is_empty() && word.len() <= MAX_WORD_BYTES && n_words < MAX_FIELD_WORDS {
            n_words += 1;
            feature(seed, place, word, sink);
        }
    };
    if !body.is_ascii() {
        let is_mark = |c: char| !(c.is_alphanumeric() || FIELD_MARKS.contains(c));
        body.split(is_mark).for_each(say);
        return;
    }
    let mut start = 0;
    for (end, byte) in body.bytes().enumerate() {
        if !IN_FIELD_WORD[usize::from(byte)] {
            say(&body[start..end]);
            start = end + 1;
        }
    }
    say(&body[start..]);
}

/// Marks within words of header fields.
const FIELD_MARKS: &str = ".-_$!'";

/// ASCII characters that words of header fields are made of.
const IN_FIELD_WORD: [bool; 256] = byte_set(FIELD_MARKS.as_bytes());

/// ASCII letters, digits and these.
const fn byte_set(marks: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut n = 0;
    while n < set.len() {
        set[n] = (n as u8).is_ascii_alphanumeric();
        n += 1;
    }
    let mut n = 0;
    while n < marks.len() {
        set[marks[n] as usize] = true;
        n += 1;
    }
    set
}

/// "20040301.A1b" as "0.A0a": which program made an identifier.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.chars().take(80) {
        let class = match c {
            '0'..='9' => '0',
            'a'..='z' => 'a',
            'A'..='Z' => 'A',
            _ => c,
        };
        if !shape.ends_with(class) {
            shape.push(class);
        }
    }
    shape
}

fn mime(part: &mail_parser::MessagePart<'_>, sink: &mut impl Sink) {
    let mut say = |word: &str| feature(hash(0, b"mime"), "mime", word, sink);
    if let Some(kind) = part.content_type() {
        let subtype = kind.subtype().unwrap_or_default();
        say(&format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase());
        if let Some(charset) = kind.attribute("charset") {
            say(&charset.to_ascii_lowercase());
        }
    }
    if let Some(encoding) = part.content_transfer_encoding() {
        say(&encoding.to_ascii_lowercase());
    }
    if let Some(name) = part.attachment_name() {
        let mut folded = String::new();
        fold(name, &mut folded);
        if let Some((_, extension)) = folded.rsplit_once('.') {
            say(&format!(".{extension}"));
        }
        words_at("attachment", &folded, sink);
    }
}

/// What looks like a link in text: in each word, what stands between blanks,
/// the first one.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut http = memmem::find_iter(text.as_bytes(), "http").peekable();
    let mut www = memmem::find_iter(text.as_bytes(), "www.").peekable();
    let mut read = 0;
    let links = std::iter::from_fn(move || {
        while http.next_if(|at| *at < read).is_some() {}
        while www.next_if(|at| *at < read).is_some() {}
        let first = match (http.peek(), www.peek()) {
            (Some(http), Some(www)) => *http.min(www),
            (Some(at), None) | (None, Some(at)) => *at,
            (None, None) => return None,
        };
        let end = text[first..].find(char::is_whitespace);
        read = end.map_or(text.len(), |end| first + end);
        // Before "www." of the same word.
        let at = http.next_if(|at| *at < read).unwrap_or(first);
        let link = &text[at..read];
        let end = link.find(['"', '\'', '<', '>', ')', ']']);
        Some(&link[..end.unwrap_or(link.len())])
    });
    links.take(100)
}

/// The host, each domain above it, and the words of the path.
fn url(url: &str, sink: &mut impl Sink) {
    let url = url.to_lowercase();
    let after_scheme = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let (host, path) = after_scheme.split_once('/').unwrap_or((after_scheme, ""));
    let seed = hash(0, b"link");
    let mut domain = host;
    loop {
        feature(seed, "link", domain, sink);
        match domain.split_once('.') {
            Some((_, above)) => domain = above,
            None => break,
        }
    }
    path.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 1)
        .take(10)
        .for_each(|word| feature(hash(1, b"link"), "link path", word, sink));
}

// The hash is part of the model's format: a change needs a new version.
const K: u64 = 0xd6e8_feb8_6659_fd93;

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut h = seed ^ (bytes.len() as u64).wrapping_mul(K);
    for chunk in bytes.chunks(8) {
        h = (h ^ little_endian(chunk)).wrapping_mul(K);
        h ^= h >> 32;
    }
    h
}

/// The number that 1 to 8 bytes are, without a copy of unforeseen length.
fn little_endian(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    if let Some(all) = bytes.first_chunk() {
        return u64::from_le_bytes(*all);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // What both hold is the same.
        let last = u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4));
        return u64::from(u32::from_le_bytes(*first)) | last;
    }
    let byte = |at: usize| u64::from(bytes[at]) << (8 * at);
    byte(0) | byte(n / 2) | byte(n - 1)
}

fn mix(mut h: u64) -> u32 {
    h = (h ^ (h >> 32)).wrapping_mul(K);
    h = (h ^ (h >> 32)).wrapping_mul(K);
    (h >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(raw: &str) -> Vec<String> {
        let mut all = Vec::new();
        visit(
            raw.as_bytes(),
            &mut |_, _, origin: Origin<'_>| match origin {
                Origin::Word { place, word } => all.push(format!("{place}:{word}")),
                Origin::Pair { first, second } => all.push(format!("{first}_{second}")),
                Origin::Gram { .. } => {}
            },
        );
        all
    }

    #[test]
    fn words_know_their_place() {
        let all = said(
            "From: =?utf-8?q?J=C3=B6rg?= <j@example.org>\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\n\
             Message-ID: <20A.b@mx.example.org>\nContent-Type: text/plain; charset=UTF-8\n\n\
             Look at http://www.example.net/free/offer now\n",
        );
        for expected in [
            "field:Message-ID",
            "from:jörg",
            "subject:grüße",
            "message-id:mx.example.org",
            "message-id:<0A.a",
            "mime:utf-8",
            "text:look",
            "look_at",
            "link:example.net",
            "link path:offer",
        ] {
            assert!(all.iter().any(|s| s == expected), "{expected} in {all:?}");
        }
    }

    #[test]
    fn bytes_are_a_number_whatever_their_length() {
        for n in 1..=8u64 {
            let bytes: Vec<u8> = (1..=n as u8).collect();
            let expected = (1..=n).fold(0, |all, byte| all | byte << (8 * (byte - 1)));
            assert_eq!(little_endian(&bytes), expected);
        }
    }

    #[test]
    fn delivery_changes_nothing() {
        let sent = "Received: from a\nSubject: b\n\nc d e f g h\n";
        let arrived = format!(
            "From a@b Mon\r\nReturn-Path: <x>\r\nX-Spam-Status: Yes\r\n{}",
            sent.replace('\n', "\r\n")
        );
        assert_eq!(features(sent.as_bytes()), features(arrived.as_bytes()));
    }

    #[test]
    fn bytes_without_a_character_set_are_told_apart() {
        let mail = |text: &[u8]| {
            let mut raw = b"Subject: ".to_vec();
            raw.extend_from_slice(text);
            raw.extend_from_slice(b"\nContent-Type: text/plain; charset=us-ascii\n\n");
            raw.extend_from_slice(text);
            features(&raw).views
        };
        let (one, other) = (mail(b"\xc3\xe2\xb7\xd1"), mail(b"\xbb\xfa\xbb\xe1"));
        assert!(one[1] != other[1] && one[2] != other[2]);
    }

    /// Run by run, as it is described.
    fn runs_replaced(header: &[u8]) -> Vec<u8> {
        let is_run = |b: &&u8| b.is_ascii_alphanumeric() || b"+/=_".contains(b);
        let mut out = Vec::new();
        let mut rest = header;
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(is_run).count();
            match run {
                0 => out.push(*first),
                1..32 => out.extend_from_slice(&rest[..run]),
                _ => out.push(1),
            }
            rest = &rest[run.max(1)..];
        }
        out.truncate(MAX_HEADER_BYTES);
        out
    }

    #[test]
    fn signatures_teach_nothing() {
        let mail = |key: &str| format!("DKIM-Signature: v=1; b={key}\nSubject: a\n\nb\n");
        let key = |c: &str| c.repeat(64);
        assert_eq!(
            features(mail(&key("aB3")).as_bytes()),
            features(mail(&key("xY9")).as_bytes())
        );
    }

    #[test]
    fn a_long_body_costs_no_more() {
        let long = format!("Subject: a\n\n{}", "word another third\n".repeat(100_000));
        assert!(
            features(long.as_bytes())
                .views
                .iter()
                .all(|v| v.len() < 4_000)
        );
    }

    proptest! {
        #[test]
        fn long_runs_become_one_byte(
            header in "([a-z+=]{1,40}|[ :;]{1,3}|[a-z]{31,34}[ -]){0,200}"
        ) {
            prop_assert_eq!(without_random_runs(header.as_bytes()), runs_replaced(header.as_bytes()));
        }

        #[test]
        fn ascii_fields_have_the_words_of_others(body in "[a-c.'! ;@\\n-]{0,40}") {
            let words = |body: &str| {
                let mut all = Vec::new();
                field_words("a", body, &mut |_, hash, _: Origin<'_>| all.push(hash));
                all
            };
            let (ascii, mut other) = (words(&body), words(&format!("{body} \u{e9}")));
            other.pop();
            prop_assert_eq!(ascii, other);
        }

        #[test]
        fn any_bytes_will_do(raw in proptest::collection::vec(any::<u8>(), 0..600)) {
            features(&raw);
        }

        #[test]
        fn any_html_will_do(body in "[<>!&;a-z/=\"' \u{e9}\u{4e00}\u{200b}-]{0,200}") {
            features(format!("Content-Type: text/html\n\n{body}").as_bytes());
        }
    }
}
