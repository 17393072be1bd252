//! Result files of the TREC spam track: a line for each message in the order
//! in which they were classified,
//! `file=inmail.1 judge=spam class=spam score=0.97`.

use std::fs;
use std::io::Write;
use std::path::Path;

use classifier::Label;

use crate::filter::{Answer, Verdict};
use crate::protocol::Record;
use crate::{Error, Message};

/// Writes the answers of a run over `messages`.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, messages: &[Message], records: &[Record]) -> Result<(), Error> {
    let mut text = Vec::new();
    for record in records {
        let class = record.answer.verdict.name();
        // `{:?}` prints the shortest digits that read back as the same number.
        let _ = writeln!(
            text,
            "file={} judge={} class={class} score={:?}",
            messages[record.message].id,
            record.label.name(),
            record.answer.score
        );
    }
    fs::write(path, text).map_err(Error::io("write", path))
}

/// Reads a result file: the names of the messages, and the answers in order.
///
/// # Errors
/// When it cannot be read, or a line is not one of a result file.
pub fn read(path: &Path) -> Result<(Vec<String>, Vec<Record>), Error> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    let mut ids = Vec::new();
    let mut records = Vec::new();
    for (n, line) in String::from_utf8_lossy(&text).lines().enumerate() {
        let wrong = || Error::Results {
            path: path.into(),
            line: n + 1,
        };
        // A file name may hold blanks, what follows it may not.
        let (file, rest) = line.split_once(" judge=").ok_or_else(wrong)?;
        let mut words = rest.split_whitespace();
        let label = match words.next() {
            Some("ham" | "Ham") => Label::Ham,
            Some("spam" | "Spam") => Label::Spam,
            _ => return Err(wrong()),
        };
        let value = |key: &str| {
            rest.split_whitespace()
                .find_map(|word| word.strip_prefix(key))
        };
        let verdict = match value("class=").ok_or_else(wrong)? {
            "ham" => Verdict::Ham,
            "unsure" => Verdict::Unsure,
            "spam" => Verdict::Spam,
            _ => return Err(wrong()),
        };
        let score: f64 = value("score=")
            .and_then(|s| s.parse().ok())
            .ok_or_else(wrong)?;
        if score.is_nan() {
            return Err(wrong());
        }
        ids.push(file.strip_prefix("file=").ok_or_else(wrong)?.to_owned());
        records.push(Record {
            message: n,
            label,
            answer: Answer { verdict, score },
        });
    }
    Ok((ids, records))
}
