//! `postern preline`: puts the lines on top of a message that programs made
//! for mailboxes expect, and hands it to one: `|preline procmail -m RC`.
//!
//! Source: preline(1). The lines come from the environment of a `.qmail`
//! program: UFLINE, RPLINE and DTLINE.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use clap::Args;

/// A command, and which lines it does without.
#[derive(Args, Debug)]
pub struct Preline {
    /// Without the line Delivered-To
    #[arg(short)]
    delivered_to: bool,
    /// Without the line From
    #[arg(short)]
    from: bool,
    /// Without the line Return-Path
    #[arg(short)]
    return_path: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Failed for good, and for now: what `.qmail` programs say so with.
const HARD: i32 = 100;
const SOFT: i32 = 111;

/// Runs the command and returns the exit code: the command's own, 111 when it
/// crashed or cannot be started for now, 100 when there is none.
pub fn run(
    preline: &Preline,
    variable: impl Fn(&str) -> Option<String>,
    mut message: impl Read,
    mut errors: impl Write,
) -> i32 {
    let wanted = [
        ("UFLINE", !preline.from),
        ("RPLINE", !preline.return_path),
        ("DTLINE", !preline.delivered_to),
    ];
    let mut lines = String::new();
    for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        let Some(line) = variable(name) else {
            let _ = writeln!(
                errors,
                "preline: {name} is not set: not run by a .qmail file"
            );
            return HARD;
        };
        lines.push_str(&line);
    }
    let Some((program, arguments)) = preline.command.split_first() else {
        return HARD;
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(errors, "preline: cannot run {program}: {error}");
            return if error.kind() == io::ErrorKind::NotFound {
                HARD
            } else {
                SOFT
            };
        }
    };
    if let Some(mut input) = child.stdin.take() {
        // The program may have read enough.
        let _ = input
            .write_all(lines.as_bytes())
            .and_then(|()| io::copy(&mut message, &mut input));
    }
    match child.wait() {
        Ok(status) if status.signal().is_none() => status.code().unwrap_or(SOFT),
        _ => SOFT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        preline: Preline,
    }

    fn code(line: &[&str], complete: bool) -> i32 {
        let preline = Line::parse_from([&["preline"], line].concat()).preline;
        let variable = |name: &str| complete.then(|| format!("{name}\n"));
        run(&preline, variable, &b"A: b\n"[..], io::sink())
    }

    #[test]
    fn the_command_gets_the_lines_and_its_code_is_ours() {
        let expects =
            |text: &str| format!("test \"$(cat)\" = \"$(printf '{text}')\" || exit 3; exit 42");
        for (options, text) in [
            (&[][..], "UFLINE\\nRPLINE\\nDTLINE\\nA: b"),
            (&["-f"], "RPLINE\\nDTLINE\\nA: b"),
            (&["-d", "-r"], "UFLINE\\nA: b"),
            (&["-dfr"], "A: b"),
        ] {
            let script = expects(text);
            let line = [options, &["sh", "-c", &script]].concat();
            assert_eq!(code(&line, true), 42, "{options:?}");
        }
        assert_eq!(code(&["true"], false), HARD);
        assert_eq!(code(&["/nonexistent/program"], true), HARD);
        assert_eq!(code(&["sh", "-c", "kill -9 $$"], true), SOFT);
        assert_eq!(code(&["sh", "-c", "exec <&-; exit 0"], true), 0);
    }
}
