//! The disguises. Each takes a message and gives one of the same sender, way
//! and subject that says the same to its reader; where a filter reads
//! something else, that is the attack.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_parser::MessageParser;

use super::knowledge::{Knowledge, text};
use crate::Random;
use crate::generate::wrapped;

pub(super) fn good_words(raw: &[u8], known: &Knowledge, _: &mut Random) -> Vec<u8> {
    plain(raw, &format!("{}\n\n{}\n", text(raw), filled(&known.hammy)))
}

pub(super) fn good_words_first(raw: &[u8], known: &Knowledge, _: &mut Random) -> Vec<u8> {
    plain(raw, &format!("{}\n\n{}\n", filled(&known.hammy), text(raw)))
}

pub(super) fn random_words(raw: &[u8], known: &Knowledge, random: &mut Random) -> Vec<u8> {
    const N_WORDS: usize = 400;
    let words: Vec<String> = (0..N_WORDS)
        .map(|_| random.pick(&known.words).clone())
        .collect();
    plain(raw, &format!("{}\n\n{}\n", text(raw), filled(&words)))
}

pub(super) fn long_body(raw: &[u8], known: &Knowledge, random: &mut Random) -> Vec<u8> {
    const N_BYTES: usize = 2 << 20;
    const MAX_PITCH: usize = 400;
    let mut body: String = text(raw).chars().take(MAX_PITCH).collect();
    while body.len() < N_BYTES {
        body.push_str("\n\n");
        body.push_str(random.pick(&known.ham).as_str());
    }
    plain(raw, &body)
}

pub(super) fn image_only(raw: &[u8], _: &Knowledge, random: &mut Random) -> Vec<u8> {
    const N_BYTES: usize = 12_000;
    let mut image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    image.extend((0..N_BYTES).map(|_| random.next_u64() as u8));
    let boundary = format!("=_{:016x}", random.next_u64());
    let content = format!(
        "Content-Type: multipart/related; boundary=\"{boundary}\"\n\n--{boundary}\n\
         Content-Type: text/html; charset=utf-8\n\n<html><body><img src=\"cid:1\"></body></html>\n\
         --{boundary}\nContent-Type: image/png; name=\"1.png\"\nContent-ID: <1>\n\
         Content-Transfer-Encoding: base64\n\n{}--{boundary}--\n",
        wrapped(&BASE64.encode(image), 76)
    );
    with_content(raw, None, &content)
}

pub(super) fn base64_text(raw: &[u8], _: &Knowledge, _: &mut Random) -> Vec<u8> {
    let content = format!(
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{}",
        wrapped(&BASE64.encode(text(raw)), 76)
    );
    with_content(raw, None, &content)
}

pub(super) fn zero_width(raw: &[u8], _: &Knowledge, random: &mut Random) -> Vec<u8> {
    const INVISIBLE: [char; 4] = ['\u{200b}', '\u{200c}', '\u{2060}', '\u{ad}'];
    letters(raw, |c, out| {
        out.push(c);
        if c.is_alphanumeric() {
            out.push(*random.pick(&INVISIBLE));
        }
    })
}

pub(super) fn look_alikes(raw: &[u8], _: &Knowledge, _: &mut Random) -> Vec<u8> {
    // Both ways: Cyrillic and Greek for Latin letters, Latin for Cyrillic.
    const PAIRS: &str = "aаeеoоpрcсyуxхiіAАBВEЕHНKКMМOОPРCСTТXХvν";
    let pairs: Vec<char> = PAIRS.chars().collect();
    letters(raw, |c, out| {
        let at = pairs.iter().position(|known| *known == c);
        out.push(at.map_or(c, |at| pairs[at ^ 1]));
    })
}

pub(super) fn html_comments(raw: &[u8], known: &Knowledge, random: &mut Random) -> Vec<u8> {
    let mut body = String::new();
    for word in escaped(&text(raw)).split_inclusive(char::is_whitespace) {
        let middle = word.char_indices().nth(word.chars().count() / 2);
        let (left, right) = word.split_at(middle.map_or(0, |(at, _)| at));
        // No comment within an entity.
        if word.contains('&') || left.is_empty() {
            body.push_str(word);
        } else {
            let ham = random.pick(&known.hammy);
            body.push_str(&format!("{left}<!-- {ham} -->{right}"));
        }
    }
    html(raw, &body)
}

pub(super) fn hidden_text(raw: &[u8], known: &Knowledge, random: &mut Random) -> Vec<u8> {
    let style = random.pick(&[
        "display:none",
        "visibility: hidden",
        "font-size:0px",
        "max-height:0;overflow:hidden",
        "opacity:0",
    ]);
    in_disguise(raw, known, random, &format!("style=\"{style}\""))
}

pub(super) fn white_text(raw: &[u8], known: &Knowledge, random: &mut Random) -> Vec<u8> {
    let style = random.pick(&[
        "style=\"color:#ffffff\"",
        "style=\"color: white; background-color: white\"",
        "style=\"position:absolute;left:-9999px\"",
        "style=\"font-size:1px\"",
        "style=\"color:#fefefe\"",
    ]);
    in_disguise(raw, known, random, style)
}

/// The pitch behind ham in an element with this attribute.
fn in_disguise(raw: &[u8], known: &Knowledge, random: &mut Random, attribute: &str) -> Vec<u8> {
    let ham: Vec<&str> = (0..3).map(|_| random.pick(&known.ham).as_str()).collect();
    let ham = escaped(&ham.join("\n"));
    let pitch = escaped(&text(raw));
    html(
        raw,
        &format!(
            "<div {attribute}>{ham} {}</div>\n<p>{pitch}</p>",
            filled(&known.hammy)
        ),
    )
}

/// A message that says all words.
pub(super) fn dictionary(known: &Knowledge, random: &mut Random) -> Vec<u8> {
    let mut words = known.words.clone();
    random.shuffle(&mut words);
    let raw = format!(
        "From: <{:x}@{:x}.example>\nSubject: {}\n\n",
        random.next_u64(),
        random.below(1 << 24),
        random.pick(&known.words)
    );
    plain(raw.as_bytes(), &filled(&words))
}

/// Subject and text with each letter written anew.
fn letters(raw: &[u8], mut write: impl FnMut(char, &mut String)) -> Vec<u8> {
    let mut rewritten = |text: &str| {
        let mut out = String::with_capacity(text.len() * 2);
        text.chars().for_each(|c| write(c, &mut out));
        out
    };
    let parsed = MessageParser::new().parse(raw);
    let subject = parsed.as_ref().and_then(|message| message.subject());
    let subject = rewritten(subject.unwrap_or_default());
    let body = rewritten(&text(raw));
    with_content(raw, Some(&subject), &text_content("plain", &body))
}

fn plain(raw: &[u8], body: &str) -> Vec<u8> {
    with_content(raw, None, &text_content("plain", body))
}

fn html(raw: &[u8], body: &str) -> Vec<u8> {
    let body = format!(
        "<html><body>{}</body></html>\n",
        body.replace("\n\n", "<p>\n")
    );
    with_content(raw, None, &text_content("html", &body))
}

fn text_content(subtype: &str, body: &str) -> String {
    format!(
        "Content-Type: text/{subtype}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{body}"
    )
}

/// The header section of `raw` without what tells of its old content, then
/// `content`: its fields, a blank line, its body.
fn with_content(raw: &[u8], subject: Option<&str>, content: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 4096);
    let mut keeps = true;
    for line in raw.split_inclusive(|b| *b == b'\n') {
        if line.trim_ascii_end().is_empty() {
            break;
        }
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|b| *b == b':').next().unwrap_or_default();
            let name = name.to_ascii_lowercase();
            let is_replaced = name.starts_with(b"content-")
                || name == b"mime-version"
                || (name == b"subject" && subject.is_some());
            keeps = !is_replaced;
        }
        if keeps {
            out.extend_from_slice(line);
        }
    }
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    if let Some(subject) = subject {
        // RFC 2047 §2: at most 75 characters each.
        let chars: Vec<char> = subject.chars().collect();
        let words = chars.chunks(11).map(|part| {
            let part: String = part.iter().collect();
            format!("=?utf-8?B?{}?=", BASE64.encode(part))
        });
        let words: Vec<String> = words.collect();
        out.extend_from_slice(format!("Subject: {}\n", words.join("\n ")).as_bytes());
    }
    out.extend_from_slice(b"MIME-Version: 1.0\n");
    out.extend_from_slice(content.as_bytes());
    out
}

/// Words in lines.
fn filled(words: &[String]) -> String {
    words
        .chunks(10)
        .map(|line| line.join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
