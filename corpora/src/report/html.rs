//! One self-contained page: tables, ROC curves on log-odds axes, learning
//! curves, score histograms, and the worst mistakes with their explanation.

use classifier::Label;

use super::svg::{Axis, COLOURS, Line, Scale, histogram, line_chart};
use super::table::table;
use crate::experiment::{Outcome, Report};
use crate::measure::{learning_curve, roc_points};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:84em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}\
pre{overflow-x:auto;background:#f6f6f6;padding:.8em;font-size:11.5px}pre.command{white-space:pre-wrap}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(34em,100%),1fr));gap:1.5em}\
figure{margin:0;overflow-x:auto}figcaption{font-weight:600}svg{width:100%;min-width:24em;height:auto}\
svg text{font-size:11px;fill:#444}\
.grid{stroke:#e4e4e4}.axis{stroke:#444;fill:none}.key span{display:inline-block;margin-right:1.2em}\
.key i{display:inline-block;width:1.2em;height:.7em;margin-right:.4em}\
details{overflow-x:auto;margin:.3em 0}summary{cursor:pointer}\
table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:left;vertical-align:top;border-top:1px solid #ddd}\
td pre{margin:0;padding:.3em .5em;max-width:60em}";

/// Mistakes listed for each filter and class.
const N_WORST: usize = 10;
/// Bars of a histogram.
const N_BARS: usize = 50;

/// The page for `reports`; `command` is what made it.
pub fn html(reports: &[Report], command: &str) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>bmfeval</title><style>{STYLE}</style></head><body>\n\
         <h1>Spam filters, measured</h1>\n<pre class=\"command\">{}</pre>\n",
        escaped(command)
    );
    for report in reports {
        out.push_str(&section(report));
    }
    out.push_str("</body></html>\n");
    out
}

pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

fn section(report: &Report) -> String {
    let mut out = format!(
        "<h2>{}</h2>\n<pre>{}</pre>\n<p class=\"key\">",
        escaped(&report.name),
        escaped(&table(report))
    );
    for (n, outcome) in report.outcomes.iter().enumerate() {
        out.push_str(&format!(
            "<span><i style=\"background:{}\"></i>{}</span>",
            COLOURS[n % COLOURS.len()],
            escaped(&outcome.filter)
        ));
    }
    out.push_str("</p>\n<div class=\"charts\">\n");
    out.push_str(&figure(
        "ROC: spam misclassified against ham misclassified",
        &roc(report),
    ));
    out.push_str(&figure(
        "Learning: 1-ROCA % of all messages so far",
        &learning(report),
    ));
    for outcome in &report.outcomes {
        let caption = format!("Scores of {}, by rank", outcome.filter);
        out.push_str(&figure(&caption, &scores(outcome)));
    }
    out.push_str("</div>\n");
    for outcome in &report.outcomes {
        out.push_str(&mistakes(report, outcome));
    }
    out
}

fn figure(caption: &str, svg: &str) -> String {
    format!(
        "<figure><figcaption>{}</figcaption>{svg}</figure>\n",
        escaped(caption)
    )
}

const ERRORS: [f64; 7] = [0.01, 0.1, 1.0, 5.0, 20.0, 50.0, 80.0];

fn roc(report: &Report) -> String {
    let axis = |title| Axis {
        title,
        scale: Scale::LogOdds,
        low: 0.005,
        high: 90.0,
        ticks: &ERRORS,
    };
    let lines = lines(report, |outcome, run| {
        roc_points(&outcome.runs[run].records)
    });
    line_chart(
        &axis("ham misclassified, %"),
        &axis("spam misclassified, %"),
        &lines,
    )
}

fn learning(report: &Report) -> String {
    let n_messages = report.message_ids.len() as f64;
    let x = Axis {
        title: "messages",
        scale: Scale::Logarithmic,
        low: 50.0,
        high: n_messages.max(51.0),
        ticks: ticks_up_to(n_messages),
    };
    let y = Axis {
        title: "1-ROCA, %",
        scale: Scale::Logarithmic,
        low: 0.001,
        high: 50.0,
        ticks: &[0.001, 0.01, 0.1, 1.0, 10.0, 50.0],
    };
    let lines = lines(report, |outcome, run| {
        let curve = learning_curve(&outcome.runs[run].records);
        curve
            .iter()
            .filter_map(|p| Some((p.n_messages as f64, p.one_minus_roca?)))
            .collect()
    });
    line_chart(&x, &y, &lines)
}

fn ticks_up_to(n: f64) -> &'static [f64] {
    const TICKS: [f64; 11] = [50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];
    &TICKS[..TICKS.iter().take_while(|tick| **tick <= n).count().max(1)]
}

fn lines<'a>(
    report: &'a Report,
    points: impl Fn(&Outcome, usize) -> Vec<(f64, f64)>,
) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for (colour, outcome) in report.outcomes.iter().enumerate() {
        for run in 0..outcome.runs.len() {
            lines.push(Line {
                name: &outcome.filter,
                colour,
                points: points(outcome, run),
            });
        }
    }
    lines
}

/// Ham and spam by the rank of their scores: filters count on scales of their
/// own, many of them crowded at both ends.
fn scores(outcome: &Outcome) -> String {
    let Some(run) = outcome.runs.first() else {
        return String::new();
    };
    let mut records: Vec<_> = run.records.iter().collect();
    records.sort_by(|a, b| a.answer.score.total_cmp(&b.answer.score));
    let share = |part: &[&crate::protocol::Record], label| {
        part.iter().filter(|r| r.label == label).count() as f64 / part.len().max(1) as f64
    };
    let size = records.len().div_ceil(N_BARS).max(1);
    let bars: Vec<(f64, f64)> = records
        .chunks(size)
        .map(|part| (share(part, Label::Ham), share(part, Label::Spam)))
        .collect();
    let end = |record: Option<&&crate::protocol::Record>| {
        record.map_or_else(String::new, |r| format!("{:.4}", r.answer.score))
    };
    histogram(&bars, &end(records.first()), &end(records.last()))
}

fn mistakes(report: &Report, outcome: &Outcome) -> String {
    let Some(run) = outcome.runs.first() else {
        return String::new();
    };
    let mut out = format!(
        "<details><summary>Worst mistakes of {}</summary>\n<table><tr><th>message</th><th>truth</th>\
         <th>verdict</th><th>score</th><th>why</th></tr>\n",
        escaped(&outcome.filter)
    );
    for label in [Label::Ham, Label::Spam] {
        let mut wrong: Vec<_> = run
            .mistakes
            .iter()
            .map(|mistake| (&run.records[mistake.record], mistake))
            .filter(|(record, _)| record.label == label)
            .collect();
        // The worst first: ham with the highest score, spam with the lowest.
        wrong.sort_by(|(a, _), (b, _)| {
            let by_score = a.answer.score.total_cmp(&b.answer.score);
            match label {
                Label::Ham => by_score.reverse(),
                Label::Spam => by_score,
            }
        });
        for (record, mistake) in wrong.into_iter().take(N_WORST) {
            let verdict = record.answer.verdict.name();
            out.push_str(&format!(
                "<tr><td>{}</td><td>{}</td><td>{verdict}</td><td>{:.6}</td><td><pre>{}</pre></td></tr>\n",
                escaped(&report.message_ids[record.message]),
                label.name(),
                record.answer.score,
                escaped(&mistake.explanation.join("\n"))
            ));
        }
    }
    out.push_str("</table></details>\n");
    out
}
