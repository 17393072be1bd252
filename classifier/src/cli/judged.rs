//! What `bmf` prints of a verdict of the modern engine: the same data as text,
//! as JSON, in bmf's report and in the header section.

use std::io::{self, Write};

use serde::Serialize;

use super::Output;
use crate::Label;
use crate::modern::{
    Calibration, Class, Evidence, Explanation, Params, Verdict, header_fields, probability,
};

/// What is to be said of a message.
pub(super) struct Judged {
    class: Class,
    probability: f64,
    /// The probability above which a message is spam, and that at or below
    /// which it is ham.
    required: f64,
    allowed: f64,
    /// `None`: a person said what it is.
    verdict: Option<Verdict>,
    explanation: Option<Explanation>,
}

impl Judged {
    pub(super) fn new(verdict: Verdict, explanation: Option<Explanation>) -> Self {
        Self {
            class: verdict.class,
            probability: verdict.probability,
            required: probability(verdict.cutoffs.spam),
            allowed: probability(verdict.cutoffs.ham),
            verdict: Some(verdict),
            explanation,
        }
    }

    /// What a person said, as bmf prints it.
    pub(super) fn told(label: Label) -> Self {
        let cutoffs = Calibration::default().cutoffs(&Params::default());
        let (class, probability_told) = match label {
            Label::Ham => (Class::Ham, 0.0),
            Label::Spam => (Class::Spam, 1.0),
        };
        Self {
            class,
            probability: probability_told,
            required: probability(cutoffs.spam),
            allowed: probability(cutoffs.ham),
            verdict: None,
            explanation: None,
        }
    }

    pub(super) fn is_spam(&self) -> bool {
        self.class == Class::Spam
    }

    pub(super) fn header_fields(&self) -> String {
        header_fields(self.class, self.probability, self.required)
    }

    pub(super) fn write(&self, output: Output, out: &mut impl Write) -> io::Result<()> {
        match output {
            Output::Nothing => Ok(()),
            Output::Terse => writeln!(out, "{} {:.6}", self.class.name(), self.probability),
            Output::Report => self.write_report(out),
            Output::Json => self.write_json(out),
            Output::Explanation => self.write_explanation(out),
        }
    }

    /// In the form of bmf's report.
    fn write_report(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "# Spamicity: {:.6}", self.probability)?;
        for Evidence {
            place,
            what,
            log_odds,
        } in self.evidence()
        {
            writeln!(
                out,
                "# '{}: {}' -> {log_odds:+.6}",
                place.escape_debug(),
                what.escape_debug()
            )?;
        }
        Ok(())
    }

    /// For spam, then for ham, strongest first.
    fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        let explanation = self.explanation.iter();
        explanation.flat_map(|explanation| explanation.spam.iter().chain(&explanation.ham))
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let evidence = self.evidence().map(|evidence| JsonEvidence {
            place: &evidence.place,
            what: &evidence.what,
            log_odds: evidence.log_odds,
        });
        let verdict = JsonVerdict {
            r#type: "verdict",
            version: 1,
            engine: "modern",
            verdict: self.class.name(),
            hits: self.probability,
            required: self.required,
            allowed: self.allowed,
            log_odds: self.verdict.map(|verdict| verdict.log_odds),
            evidence: evidence.collect(),
            change: self.change(),
        };
        serde_json::to_writer(&mut *out, &verdict)?;
        out.write_all(b"\n")
    }

    fn write_explanation(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}: hits={:.6}", self.class.name(), self.probability)?;
        if let Some(verdict) = self.verdict {
            write!(out, " (log-odds {:+.3})", verdict.log_odds)?;
        }
        writeln!(
            out,
            ", spam is above {:.6}, ham is at or below {:.6}",
            self.required, self.allowed
        )?;
        let Some(explanation) = &self.explanation else {
            return Ok(());
        };
        for (evidence, class) in [(&explanation.spam, "spam"), (&explanation.ham, "ham")] {
            if evidence.is_empty() {
                writeln!(out, "nothing speaks for {class}")?;
                continue;
            }
            writeln!(out, "log-odds  for {class}, strongest first")?;
            for Evidence {
                place,
                what,
                log_odds,
            } in evidence
            {
                let (place, what) = (place.escape_debug(), what.escape_debug());
                writeln!(out, "{log_odds:>+8.3}  {place}: {what}")?;
            }
        }
        match self.change() {
            Some(change) => writeln!(out, "{change}"),
            None => Ok(()),
        }
    }

    /// What would have changed the verdict.
    fn change(&self) -> Option<String> {
        let (verdict, explanation) = (self.verdict?, self.explanation.as_ref()?);
        let Verdict {
            log_odds, cutoffs, ..
        } = verdict;
        if verdict.views == [0.0; 3] {
            return Some(
                "without a learned ham and a learned spam, or a known feature, all is unsure"
                    .into(),
            );
        }
        let without = |evidence: &[Evidence], excess: f64, class: &str| {
            let mut left = excess;
            let n = evidence.iter().position(|evidence| {
                left -= evidence.log_odds.abs();
                left < 0.0
            });
            match n {
                Some(0) => format!("without the first piece for {class} it would be unsure"),
                Some(n) => format!(
                    "without the first {} pieces for {class} it would be unsure",
                    n + 1
                ),
                None => format!(
                    "without all these pieces for {class} it would still be {class}: it is \
                     {excess:.3} beyond the cutoff"
                ),
            }
        };
        Some(match self.class {
            Class::Spam => without(&explanation.spam, log_odds - cutoffs.spam, "spam"),
            Class::Ham => without(&explanation.ham, cutoffs.ham - log_odds, "ham"),
            Class::Unsure => format!(
                "with {:.3} more log-odds it would be spam, with {:.3} less ham",
                cutoffs.spam - log_odds,
                log_odds - cutoffs.ham
            ),
        })
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
    allowed: f64,
    log_odds: Option<f64>,
    evidence: Vec<JsonEvidence<'a>>,
    change: Option<String>,
}

#[derive(Serialize)]
struct JsonEvidence<'a> {
    place: &'a str,
    what: &'a str,
    log_odds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modern::Cutoffs;

    fn piece(place: &str, what: &str, log_odds: f64) -> Evidence {
        Evidence {
            place: place.into(),
            what: what.into(),
            log_odds,
        }
    }

    fn judged(class: Class, log_odds: f64) -> Judged {
        let verdict = Verdict {
            class,
            probability: probability(log_odds),
            log_odds,
            views: [log_odds, 0.0, 0.0],
            cutoffs: Cutoffs {
                ham: -1.0,
                spam: 3.0,
            },
        };
        let explanation = Explanation {
            spam: vec![
                piece("x-mailer", "Bulk \"9\"\u{7}", 2.25),
                piece("text", "grüße", 1.5),
            ],
            ham: vec![piece("subject", "lunch", -0.5)],
        };
        Judged::new(verdict, Some(explanation))
    }

    fn printed(judged: &Judged, output: Output) -> String {
        let mut out = Vec::new();
        judged.write(output, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The format is a promise to the programs that read it.
    #[test]
    fn json_is_as_documented() {
        let [hits, required, allowed] = [4.0, 3.0, -1.0].map(probability);
        assert_eq!(
            printed(&judged(Class::Spam, 4.0), Output::Json),
            format!(
                "{}{hits}{}{required}{}{allowed}{}\n",
                r#"{"type":"verdict","version":1,"engine":"modern","verdict":"spam","hits":"#,
                r#","required":"#,
                r#","allowed":"#,
                concat!(
                    r#","log_odds":4.0,"evidence":["#,
                    r#"{"place":"x-mailer","what":"Bulk \"9\"\u0007","log_odds":2.25},"#,
                    r#"{"place":"text","what":"grüße","log_odds":1.5},"#,
                    r#"{"place":"subject","what":"lunch","log_odds":-0.5}],"#,
                    r#""change":"without the first piece for spam it would be unsure"}"#
                )
            )
        );
        // What a person said has no evidence.
        let told = printed(&Judged::told(Label::Ham), Output::Json);
        let ends = r#""log_odds":null,"evidence":[],"change":null}"#;
        assert!(told.trim_end().ends_with(ends), "{told}");
    }

    #[test]
    fn text_says_the_same() {
        let [hits, required, allowed] = [4.0, 3.0, -1.0].map(probability);
        let judged = judged(Class::Spam, 4.0);
        assert_eq!(
            printed(&judged, Output::Explanation),
            format!(
                "spam: hits={hits:.6} (log-odds +4.000), spam is above {required:.6}, \
                 ham is at or below {allowed:.6}\n\
                 log-odds  for spam, strongest first\n  \
                 +2.250  x-mailer: Bulk \\\"9\\\"\\u{{7}}\n  \
                 +1.500  text: grüße\n\
                 log-odds  for ham, strongest first\n  \
                 -0.500  subject: lunch\n\
                 without the first piece for spam it would be unsure\n"
            )
        );
        assert_eq!(printed(&judged, Output::Terse), format!("spam {hits:.6}\n"));
    }

    #[test]
    fn what_would_change_the_verdict() {
        for (class, log_odds, change) in [
            (
                Class::Spam,
                6.0,
                "without the first 2 pieces for spam it would be unsure",
            ),
            (
                Class::Spam,
                9.0,
                "without all these pieces for spam it would still be spam: it is 6.000 beyond the cutoff",
            ),
            (
                Class::Ham,
                -1.25,
                "without the first piece for ham it would be unsure",
            ),
            (
                Class::Unsure,
                1.0,
                "with 2.000 more log-odds it would be spam, with 2.000 less ham",
            ),
        ] {
            assert_eq!(judged(class, log_odds).change().as_deref(), Some(change));
        }
        assert_eq!(Judged::told(Label::Spam).change(), None);
    }
}
