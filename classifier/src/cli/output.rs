//! What `bmf` prints about a message.

use std::io::{self, Write};

use serde::Serialize;

use super::judged::Judged;
use super::wire::{self, Ask};
use super::{Config, Output};
use crate::classic::{Params, Score};

/// What an engine says of a message.
pub(super) enum Answer {
    Classic(Score),
    Modern(Judged),
    /// Printed by the daemon.
    Said(wire::Verdict),
}

impl Answer {
    pub(super) fn is_spam(&self, params: &Params) -> bool {
        match self {
            Self::Classic(score) => score.is_spam(params),
            Self::Modern(judged) => judged.is_spam(),
            Self::Said(verdict) => verdict.is_spam,
        }
    }

    /// The header fields of `-p`, each line ended by LF.
    pub(super) fn header_fields(&self, params: &Params) -> Vec<u8> {
        match self {
            Self::Classic(score) => score.header_fields(params).into_bytes(),
            Self::Modern(judged) => judged.header_fields().into_bytes(),
            Self::Said(verdict) => verdict.header_fields.clone(),
        }
    }

    /// All of it, to be sent to who has asked.
    pub(super) fn to_verdict(&self, ask: &Ask) -> wire::Verdict {
        let params = ask.params();
        let mut printed = Vec::new();
        let written = print(ask.output, &params, self, &mut printed);
        written.expect("memory can be written to");
        wire::Verdict {
            is_spam: self.is_spam(&params),
            header_fields: self.header_fields(&params),
            printed,
        }
    }
}

/// Writes what `config` wants to know of `answer`.
pub(super) fn write(config: &Config, answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    print(config.output, &config.params, answer, out)
}

fn print(output: Output, params: &Params, answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let score = match answer {
        Answer::Classic(score) => score,
        Answer::Modern(judged) => return judged.write(output, out),
        Answer::Said(verdict) => return out.write_all(&verdict.printed),
    };
    match output {
        Output::Nothing => Ok(()),
        Output::Terse => writeln!(out, "{} {:.6}", verdict(score, params), score.hits),
        Output::Report => score.write_report(out),
        Output::Json => write_json(score, params, out),
        Output::Explanation => write_explanation(score, params, out),
    }
}

/// One line of `--json`. Fields are only ever added within a version.
#[derive(Serialize)]
struct JsonVerdict<'a> {
    r#type: &'static str,
    version: u32,
    engine: &'static str,
    verdict: &'static str,
    hits: f64,
    required: f64,
    tokens: Vec<JsonToken<'a>>,
}

#[derive(Serialize)]
struct JsonToken<'a> {
    token: std::borrow::Cow<'a, str>,
    spamicity: f64,
    ham: u32,
    spam: u32,
}

fn write_json(score: &Score, params: &Params, out: &mut impl Write) -> io::Result<()> {
    let tokens = score.evidence.iter().map(|evidence| JsonToken {
        token: String::from_utf8_lossy(evidence.token.as_bytes()),
        spamicity: evidence.spamicity,
        ham: evidence.counts.ham,
        spam: evidence.counts.spam,
    });
    let verdict = JsonVerdict {
        r#type: "verdict",
        version: 1,
        engine: "classic",
        verdict: verdict(score, params),
        hits: score.hits,
        required: params.spam_cutoff,
        tokens: tokens.collect(),
    };
    serde_json::to_writer(&mut *out, &verdict)?;
    out.write_all(b"\n")
}

fn write_explanation(score: &Score, params: &Params, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{}: hits={:.6}, spam is above {:.6}",
        verdict(score, params),
        score.hits,
        params.spam_cutoff
    )?;
    if score.evidence.is_empty() {
        return writeln!(out, "no token of this message is known");
    }
    writeln!(out, "spamicity   in ham  in spam  token")?;
    for evidence in &score.evidence {
        write!(
            out,
            "{:>9.6} {:>8} {:>8}  ",
            evidence.spamicity, evidence.counts.ham, evidence.counts.spam
        )?;
        out.write_all(evidence.token.as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn verdict(score: &Score, params: &Params) -> &'static str {
    if score.is_spam(params) { "spam" } else { "ham" }
}
