//! A draft as the bytes of a message: header section, parts, transfer
//! encodings (RFC 5322, 2045, 2047, 2183).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use encoding_rs::Encoding;
use mail_parser::DateTime;

use super::compose::{Attachment, Draft};
use super::world::{self, Correspondent};
use crate::Random;

/// Longest line of an encoded part (RFC 2045 §6.7 and §6.8).
const LINE: usize = 76;

/// The message of `draft`, received at `time` (Unix seconds). Lines end in LF
/// as in most mail on disk, now and then in CRLF as on the wire.
pub(super) fn encode(draft: &Draft, time: i64, random: &mut Random) -> Vec<u8> {
    let charset = Charset::choose(draft, random);
    let body = body(draft, &charset, random);
    let mut text = header_section(draft, &charset, time, random);
    text.push_str("MIME-Version: 1.0\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&body);
    if random.chance(10.0) {
        bytes = with_crlf(&bytes);
    }
    bytes
}

fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 40);
    for &byte in bytes {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

/// A character set that holds the whole draft.
struct Charset {
    name: String,
    encoding: &'static Encoding,
}

impl Charset {
    fn choose(draft: &Draft, random: &mut Random) -> Self {
        let utf8 = || Self {
            name: "utf-8".to_owned(),
            encoding: encoding_rs::UTF_8,
        };
        if random.chance(55.0) {
            return utf8();
        }
        let name = random.pick(&draft.language.charsets);
        let mut text = draft.paragraphs.concat();
        text.push_str(&draft.subject);
        text.push_str(&draft.from.name);
        text.push_str(draft.hidden.as_deref().unwrap_or_default());
        // The web's labels, which encoding_rs follows, give ASCII and Latin-1
        // more letters than they have.
        let fits = match name.as_str() {
            "us-ascii" => text.is_ascii(),
            "iso-8859-1" => text.chars().all(|c| c <= '\u{ff}'),
            _ => true,
        };
        match Encoding::for_label(name.as_bytes()) {
            Some(encoding) if fits && !encoding.encode(&text).2 => Self {
                name: name.clone(),
                encoding,
            },
            _ => utf8(),
        }
    }

    fn encode(&self, text: &str) -> Vec<u8> {
        self.encoding.encode(text).0.into_owned()
    }

    /// `text` for a header field, as encoded words where it needs them
    /// (RFC 2047 §2: none above 75 characters, none splitting a letter).
    fn encoded_words(&self, text: &str) -> String {
        if text.is_ascii() {
            return text.to_owned();
        }
        let room = 75 - "=??B?==".len() - self.name.len();
        let mut words = Vec::new();
        let mut chunk = String::new();
        for c in text.chars() {
            chunk.push(c);
            if BASE64.encode(self.encode(&chunk)).len() > room {
                chunk.pop();
                words.push(std::mem::replace(&mut chunk, c.to_string()));
            }
        }
        words.push(chunk);
        let word =
            |chunk: &String| format!("=?{}?B?{}?=", self.name, BASE64.encode(self.encode(chunk)));
        words.iter().map(word).collect::<Vec<_>>().join("\n ")
    }
}

fn header_section(draft: &Draft, charset: &Charset, time: i64, random: &mut Random) -> String {
    let from = &draft.from;
    let to = &draft.to;
    let address = format!("{}@{}", from.local_part, from.domain);
    let date = |seconds: i64| DateTime::from_timestamp(seconds).to_rfc822();
    let mut out = format!(
        "Return-Path: <{}>\n",
        draft.list.as_ref().map_or(address.clone(), |list| {
            format!("{}-bounces@{}", list.local_part, list.domain)
        })
    );
    out.push_str(&format!("Delivered-To: {}@{}\n", to.local_part, to.domain));
    out.push_str(&received(draft, time, random));
    out.push_str(&format!(
        "Authentication-Results: mx.example.org; spf={} smtp.mailfrom={};\n\tdkim={}\n",
        draft.authenticated, from.domain, draft.authenticated
    ));
    if draft.authenticated != "none" {
        out.push_str(&dkim_signature(&from.domain, random));
    }
    let sent = time - random.between(5, 900) as i64;
    out.push_str(&format!("Date: {}\n", date(sent)));
    out.push_str(&format!(
        "From: {} <{address}>\n",
        display_name(from, charset)
    ));
    let to_address = draft.list.as_ref().unwrap_or(to);
    out.push_str(&format!(
        "To: {}@{}\n",
        to_address.local_part, to_address.domain
    ));
    out.push_str(&format!(
        "Subject: {}\n",
        charset.encoded_words(&draft.subject)
    ));
    let id = format!("{:x}.{:x}", random.next_u64(), random.below(1 << 20));
    out.push_str(&format!("Message-ID: <{id}@{}>\n", from.domain));
    if draft.subject.starts_with("Re: ") {
        out.push_str(&format!(
            "In-Reply-To: <{:x}@{}>\n",
            random.next_u64(),
            to.domain
        ));
    }
    if let Some(list) = &draft.list {
        out.push_str(&format!(
            "List-Id: <{0}.{1}>\nList-Unsubscribe: <mailto:{0}-leave@{1}>\nPrecedence: list\n",
            list.local_part, list.domain
        ));
    } else if draft.bulk && random.chance(40.0) {
        out.push_str(&format!("List-Unsubscribe: <{}>\n", draft.link));
    }
    let agents = if draft.bulk { &MAILERS } else { &READERS };
    let agent = *random.pick(agents);
    out.push_str(agent);
    out
}

/// Trace fields, the last host on top (RFC 5321 §4.4).
fn received(draft: &Draft, time: i64, random: &mut Random) -> String {
    let hop = |from: &str, by: &str, seconds: i64, random: &mut Random| {
        format!(
            "Received: from {from} ({from} [{}])\n\tby {by} with ESMTPS id {:x};\n\t{}\n",
            world::ip_address(random),
            random.next_u64() >> 16,
            DateTime::from_timestamp(seconds).to_rfc822()
        )
    };
    let mut out = String::new();
    let mut host = "mx.example.org".to_owned();
    if let Some(list) = &draft.list {
        out.push_str(&hop(&list.domain, &host, time, random));
        host.clone_from(&list.domain);
    }
    out.push_str(&hop(&draft.sending_host, &host, time - 2, random));
    if random.chance(60.0) {
        let client = format!("host-{:x}.{}", random.below(1 << 16), world::domain(random));
        out.push_str(&hop(&client, &draft.sending_host, time - 4, random));
    }
    out
}

fn dkim_signature(domain: &str, random: &mut Random) -> String {
    let body_hash = BASE64.encode(noise(32, random));
    let signature = wrapped(&BASE64.encode(noise(128, random)), 64).replace('\n', "\n\t ");
    format!(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d={domain}; s=mail;\n\t\
         h=from:to:subject:date:message-id; bh={body_hash};\n\tb={}\n",
        signature.trim_end()
    )
}

fn display_name(who: &Correspondent, charset: &Charset) -> String {
    if who.name.is_ascii() {
        format!("\"{}\"", who.name)
    } else {
        charset.encoded_words(&who.name)
    }
}

/// Content fields, blank line and body.
fn body(draft: &Draft, charset: &Charset, random: &mut Random) -> Vec<u8> {
    let text = plain_text(draft);
    let html = || html_text(draft);
    let hidden_needs_html = draft.hidden.is_some() || draft.shown_link.is_some();
    let shape = random.weighted(&[if hidden_needs_html { 10 } else { 50 }, 20, 30]);
    let content = match shape {
        0 => text_part("plain", &text, charset, random),
        1 => text_part("html", &html(), charset, random),
        _ => {
            let parts = [
                text_part("plain", &text, charset, random),
                text_part("html", &html(), charset, random),
            ];
            multipart("alternative", &parts, random)
        }
    };
    match draft.attachment {
        None => content,
        Some(kind) => {
            let attached = attachment_part(kind, draft, random);
            multipart("mixed", &[content, attached], random)
        }
    }
}

fn plain_text(draft: &Draft) -> String {
    let mut out = String::new();
    for paragraph in &draft.paragraphs {
        out.push_str(&filled(paragraph));
        out.push_str("\n\n");
    }
    out
}

/// `text` in lines of at most 72 letters where blanks allow it.
fn filled(text: &str) -> String {
    let mark = if text.starts_with("> ") { "> " } else { "" };
    let mut out = String::with_capacity(text.len() + 8);
    let mut column = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > 72 {
            out.push('\n');
            out.push_str(mark);
            column = mark.len();
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

fn html_text(draft: &Draft) -> String {
    let mut out = String::from("<html><body>\n");
    if let Some(hidden) = &draft.hidden {
        out.push_str(&format!(
            "<div style=\"display:none\">{}</div>\n",
            escaped(hidden)
        ));
    }
    let shown = draft.shown_link.as_deref().unwrap_or(&draft.link);
    let anchor = format!("<a href=\"{}\">{shown}</a>", draft.link);
    for paragraph in &draft.paragraphs {
        let paragraph = escaped(paragraph).replace(&draft.link, &anchor);
        out.push_str(&format!("<p>{paragraph}</p>\n"));
    }
    out.push_str("</body></html>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn text_part(subtype: &str, text: &str, charset: &Charset, random: &mut Random) -> Vec<u8> {
    let bytes = charset.encode(text);
    let (encoding, encoded) = match random.below(10) {
        0..=2 if bytes.is_ascii() => ("7bit", bytes),
        0..=2 => ("8bit", bytes),
        3..=6 => ("quoted-printable", quoted_printable_text(&bytes)),
        _ => ("base64", wrapped(&BASE64.encode(&bytes), LINE).into_bytes()),
    };
    let mut part = format!(
        "Content-Type: text/{subtype}; charset={}\nContent-Transfer-Encoding: {encoding}\n\n",
        charset.name
    )
    .into_bytes();
    part.extend_from_slice(&encoded);
    part
}

fn quoted_printable_text(bytes: &[u8]) -> Vec<u8> {
    let options =
        quoted_printable::Options::default().input_mode(quoted_printable::InputMode::Text);
    let mut encoded = quoted_printable::encode_with_options(with_crlf(bytes), options);
    encoded.retain(|c| c != '\r');
    encoded.into_bytes()
}

fn multipart(subtype: &str, parts: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let boundary = format!("=_{:016x}", random.next_u64());
    let mut out =
        format!("Content-Type: multipart/{subtype};\n boundary=\"{boundary}\"\n\n").into_bytes();
    for part in parts {
        out.extend_from_slice(format!("--{boundary}\n").as_bytes());
        out.extend_from_slice(part);
        out.push(b'\n');
    }
    out.extend_from_slice(format!("--{boundary}--\n").as_bytes());
    out
}

/// An attachment that a type sniffer would believe; past its first bytes a
/// picture or an archive is noise, which no filter under test looks into.
fn attachment_part(kind: Attachment, draft: &Draft, random: &mut Random) -> Vec<u8> {
    let n_bytes = random.between(400, 2400);
    let (media_type, name, bytes) = match kind {
        Attachment::Pdf => ("application/pdf", "pdf", pdf(&draft.from.name)),
        Attachment::Png => {
            let magic = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
            ("image/png", "png", [magic, noise(n_bytes, random)].concat())
        }
        Attachment::Zip => {
            let magic = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
            (
                "application/zip",
                "zip",
                [magic, noise(n_bytes, random)].concat(),
            )
        }
    };
    let stem = random.pick(&["invoice", "document", "scan", "picture", "form", "file"]);
    let file_name = format!("{stem}-{}.{name}", random.between(1, 9999));
    format!(
        "Content-Type: {media_type}; name=\"{file_name}\"\n\
         Content-Disposition: attachment; filename=\"{file_name}\"\n\
         Content-Transfer-Encoding: base64\n\n{}",
        wrapped(&BASE64.encode(bytes), LINE)
    )
    .into_bytes()
}

/// A page that shows one line.
fn pdf(line: &str) -> Vec<u8> {
    let line: String = line.chars().filter(char::is_ascii_alphanumeric).collect();
    let page = format!("BT /F1 12 Tf 72 720 Td ({line}) Tj ET");
    format!(
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
         2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
         3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R>>endobj\n\
         4 0 obj<</Length {}>>stream\n{page}\nendstream endobj\n\
         trailer<</Root 1 0 R>>\n%%EOF\n",
        page.len()
    )
    .into_bytes()
}

fn noise(n_bytes: usize, random: &mut Random) -> Vec<u8> {
    (0..n_bytes).map(|_| random.next_u64() as u8).collect()
}

/// `text` in lines of `width` bytes.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / width + 1);
    for line in text.as_bytes().chunks(width) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out
}

/// Readers used by people.
const READERS: [&str; 4] = [
    "User-Agent: Courier Pigeon 3.2\n",
    "X-Mailer: Desk Mail (14.1)\n",
    "User-Agent: Pocketpost/88\n",
    "",
];
/// Programs that send to many.
const MAILERS: [&str; 4] = [
    "X-Mailer: Postbag 2.0\n",
    "X-Mailer: Circular 5.1\nPrecedence: bulk\n",
    "X-Mailer: shopmail.php\n",
    "",
];
