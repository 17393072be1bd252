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
use crate::journal::{Came, Event, story};
use crate::printable::printable;
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
            writeln!(out, "{}", printable(&line.id))?;
            last = Some(&line.id);
        }
        let at = trace::date(SystemTime::UNIX_EPOCH + Duration::from_secs(line.at));
        // Clients, other hosts and mail have had their words in it.
        let told = told(&line.event);
        let mut told = told.iter().map(|text| printable(text));
        writeln!(out, "  {at}  {}", told.next().unwrap_or_default())?;
        for more in told {
            writeln!(out, "    {more}")?;
        }
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

/// What happened, and what is to be said of it in lines of their own.
fn told(event: &Event) -> Vec<String> {
    let (what, more) = match event {
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
            let what = format!(
                "received from <{from}> for {}: {bytes} bytes, by {client}{}",
                to.join(", "),
                login.unwrap_or_default()
            );
            (what, Vec::new())
        }
        Event::Passed { seen } => ("passed the gate".into(), seen.clone()),
        Event::Authenticated { results } => ("authenticated".into(), results.clone()),
        Event::Refused {
            to,
            came,
            reply,
            reason,
            seen,
        } => {
            let came = came.as_ref();
            let came = came.map(|Came { from, client }| format!(", from <{from}> by {client}"));
            let what = format!(
                "refused for {}{}: {reply}",
                to.join(", "),
                came.unwrap_or_default()
            );
            let because = format!("because {reason}");
            (what, [because].into_iter().chain(seen.clone()).collect())
        }
        Event::Scanned { result } => (format!("virus scanner: {result}"), Vec::new()),
        Event::Judged {
            user,
            verdict,
            probability,
            required,
            evidence,
        } => {
            let what = format!(
                "{verdict} for {user}: probability {probability:.6}, spam is above {required:.6}"
            );
            let line = |(place, what, log_odds): &(String, String, f64)| {
                let (place, what) = (place.escape_debug(), what.escape_debug());
                format!("{log_odds:>+8.3}  {place}: {what}")
            };
            (what, evidence.iter().map(line).collect())
        }
        Event::Signed { domain, selectors } => {
            let what = format!("signed for {domain} with {}", selectors.join(", "));
            (what, Vec::new())
        }
        Event::Queued { to } => (format!("queued for {}", to.join(", ")), Vec::new()),
        Event::Delivered { to, place } => (format!("delivered to {to}: {place}"), Vec::new()),
        Event::Deferred { to, reason, next } => {
            let next = trace::date(SystemTime::UNIX_EPOCH + Duration::from_secs(*next));
            let what = format!("not yet delivered to {to}: {reason}; next attempt {next}");
            (what, Vec::new())
        }
        Event::Failed { to, reason } => (format!("not delivered to {to}: {reason}"), Vec::new()),
        Event::Discarded => ("discarded, because of the virus".into(), Vec::new()),
        Event::Quarantined => {
            let what = "put into quarantine; see `postern queue --quarantine list`";
            (what.into(), Vec::new())
        }
        Event::Administered { what } => (format!("by the administrator: {what}"), Vec::new()),
        Event::Renamed { from, to } => (format!("{from} is called {to} from now on"), Vec::new()),
        Event::Begot { what, child } => (format!("{what} queued as {child}"), Vec::new()),
    };
    [what].into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, Line};
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
        let failed = |text: &str| Event::Failed {
            to: "bob@example.net".into(),
            reason: text.into(),
        };
        note(failed("550 \u{1b}[2J no\nsuch user"));
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
             0.900000\n      +3.500  Subject: watches\\u{{1b}}\n  {date}  not delivered to bob@example.net: \
             550 ?[2J no?such user\n"
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
