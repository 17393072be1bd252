//! `postern why`: the story of a message, by its ID, by a file that it became,
//! or by an address.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use clap::Args;

use super::accounts::Places;
use crate::delivery::content::header_section;
use crate::journal::{Came, Event, Line, story};
use crate::smtp::trace;

/// What is asked about.
#[derive(Args, Debug)]
pub struct Question {
    /// An ID, a file with the message, or the address of a sender, recipient or user
    about: String,
    /// For an address: so many messages, the last ones
    #[arg(short = 'n', long, default_value_t = 10)]
    messages: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Answers it.
///
/// # Errors
/// When nothing is known, or it cannot be read.
pub fn run(question: &Question, places: &Places, out: &mut dyn Write) -> anyhow::Result<()> {
    let about = if Path::new(&question.about).is_file() {
        id_of_file(Path::new(&question.about))?
    } else {
        question.about.clone()
    };
    let lines = story(&places.journal(), &about, question.messages)
        .with_context(|| format!("cannot read {}", places.journal().display()))?;
    ensure!(
        !lines.is_empty(),
        "nothing is known of {about}: it never came, or too long ago"
    );
    let mut last = None;
    for line in &lines {
        if question.json {
            serde_json::to_writer(&mut *out, line)?;
            writeln!(out)?;
            continue;
        }
        if last != Some(&line.id) {
            writeln!(out, "{}", line.id)?;
            last = Some(&line.id);
        }
        write_line(line, out)?;
    }
    Ok(())
}

/// The ID in the topmost `Received` field, which is ours.
fn id_of_file(path: &Path) -> anyhow::Result<String> {
    let message = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let head = String::from_utf8_lossy(&message[..header_section(&message)]).into_owned();
    let field = head
        .split("\nReceived: ")
        .nth(1)
        .or_else(|| head.strip_prefix("Received: "));
    let id = field
        .and_then(|field| field.split_once("\n\tid "))
        .and_then(|(_, rest)| rest.split([';', '\n', ' ']).next());
    id.map(str::to_owned)
        .with_context(|| format!("{} has no Received field of ours", path.display()))
}

fn write_line(line: &Line, out: &mut dyn Write) -> anyhow::Result<()> {
    let at = trace::date(SystemTime::UNIX_EPOCH + Duration::from_secs(line.at));
    write!(out, "  {at}  ")?;
    match &line.event {
        Event::Received {
            from,
            to,
            client,
            account,
            bytes,
        } => {
            let login = account
                .as_ref()
                .map(|name| format!(", logged in as {name}"));
            writeln!(
                out,
                "received from <{from}> for {}: {bytes} bytes, by {client}{}",
                to.join(", "),
                login.unwrap_or_default()
            )?;
        }
        Event::Passed { seen } => {
            writeln!(out, "passed the gate")?;
            write_all(seen, out)?;
        }
        Event::Authenticated { results } => {
            writeln!(out, "authenticated")?;
            write_all(results, out)?;
        }
        Event::Refused {
            to,
            came,
            reply,
            reason,
            seen,
        } => {
            write!(out, "refused for {}", to.join(", "))?;
            if let Some(Came { from, client }) = came {
                write!(out, ", from <{from}> by {client}")?;
            }
            let reason = printable(reason);
            writeln!(out, ": {reply}\n    because {reason}")?;
            write_all(seen, out)?;
        }
        Event::Scanned { result } => writeln!(out, "virus scanner: {result}")?,
        Event::Judged {
            user,
            verdict,
            probability,
            required,
            evidence,
        } => {
            writeln!(
                out,
                "{verdict} for {user}: probability {probability:.6}, spam is above {required:.6}"
            )?;
            for (place, what, log_odds) in evidence {
                let (place, what) = (place.escape_debug(), what.escape_debug());
                writeln!(out, "    {log_odds:>+8.3}  {place}: {what}")?;
            }
        }
        Event::Signed { domain, selectors } => {
            writeln!(out, "signed for {domain} with {}", selectors.join(", "))?;
        }
        Event::Queued { to } => writeln!(out, "queued for {}", to.join(", "))?,
        Event::Delivered { to, place } => writeln!(out, "delivered to {to}: {place}")?,
        Event::Deferred { to, reason, next } => {
            let next = trace::date(SystemTime::UNIX_EPOCH + Duration::from_secs(*next));
            writeln!(
                out,
                "not yet delivered to {to}: {reason}; next attempt {next}"
            )?;
        }
        Event::Failed { to, reason } => writeln!(out, "not delivered to {to}: {reason}")?,
        Event::Begot { what, child } => writeln!(out, "{what} queued as {child}")?,
    }
    Ok(())
}

/// What the gate found, which may hold anybody's words.
fn write_all(seen: &[String], out: &mut dyn Write) -> anyhow::Result<()> {
    for line in seen {
        writeln!(out, "    {}", printable(line))?;
    }
    Ok(())
}

/// Without what could move the cursor of a terminal.
pub(super) fn printable(text: &str) -> String {
    let replaced = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use clap::Parser;

    #[derive(Parser)]
    struct Asked {
        #[command(flatten)]
        question: Question,
    }

    #[test]
    fn a_story_is_told_by_id_file_and_address() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path());
        let journal = Journal::new(places.journal(), 1 << 20);
        let note = |event| {
            let line = Line {
                at: 1_000,
                id: "00000000abc".into(),
                event,
            };
            journal.note(&line).unwrap();
        };
        note(Event::Received {
            from: "x@example.net".into(),
            to: vec!["anna@example.org".into()],
            client: "192.0.2.1:25 mx ESMTP".into(),
            account: Some("bob@example.org".into()),
            bytes: 12,
        });
        note(Event::Judged {
            user: "anna@example.org".into(),
            verdict: "spam".into(),
            probability: 0.99,
            required: 0.9,
            evidence: vec![("Subject".into(), "watches\u{1b}".into(), 3.5)],
        });
        let file = dir.path().join("mail");
        fs::write(
            &file,
            "Delivered-To: a\nReceived: from x\n\tby y\n\tid 00000000abc; Thu\nReceived: z\n\n",
        )
        .unwrap();
        let ask = |about: &str| {
            let question = Asked::parse_from(["why", about]).question;
            let mut out = Vec::new();
            run(&question, &places, &mut out)?;
            Ok::<_, anyhow::Error>(String::from_utf8(out)?)
        };
        let date = "Thu, 1 Jan 1970 00:16:40 +0000";
        let expected = format!(
            "00000000abc\n  {date}  received from <x@example.net> for anna@example.org: 12 bytes, by \
             192.0.2.1:25 mx ESMTP, logged in as bob@example.org\n  {date}  spam for anna@example.org: probability 0.990000, spam is above \
             0.900000\n      +3.500  Subject: watches\\u{{1b}}\n"
        );
        for about in [
            "00000000abc",
            "Anna@example.org",
            "bob@example.org",
            file.to_str().unwrap(),
        ] {
            assert_eq!(ask(about).unwrap(), expected, "{about}");
        }
        assert!(
            ask("nobody@example.org")
                .unwrap_err()
                .to_string()
                .contains("nothing is known")
        );
    }
}
