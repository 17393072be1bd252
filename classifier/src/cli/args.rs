//! The command line of `bmf`: the letters of bmf 0.9.4, and long options for
//! people.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser};

use super::{Config, Engine, Format, Mode, Outcome, Output};
use crate::classic::{Layout, Params};

/// Options of `bmf`, as typed.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "bmf",
    version,
    about = "Bayesian mail filter: scores a message, learns from it, marks it",
    long_about = "Bayesian mail filter, a drop-in for bmf 0.9.4. Reads a message or an mbox from \
                  standard input. Without a mode it scores each message and registers it under \
                  its own verdict. Of several modes the last one counts. Any number of bmf may \
                  use one database at the same time.\n\n\
                  A new database is of the engine modern, which learns each message once, takes \
                  back exactly what it learned, and can be unsure: X-Spam-Status then says No \
                  beside X-Spam-Unsure: YES. Where bmf 0.9.4 left its lists, and with -f text, \
                  the engine is classic, which is bmf 0.9.4 to the last printed digit.",
    after_help = "Exit codes: without -p 0 spam, 1 ham; with -p 0 done; 2 failed; \
                  75 try again (only with --temp-fail).",
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Args {
    /// Score only: print the report, learn nothing
    #[arg(short = 't', overrides_with_all = ["ham", "spam", "to_ham", "to_spam"])]
    test: bool,
    /// Register as ham
    #[arg(short = 'n', overrides_with_all = ["test", "spam", "to_ham", "to_spam"])]
    ham: bool,
    /// Register as spam
    #[arg(short = 's', overrides_with_all = ["test", "ham", "to_ham", "to_spam"])]
    spam: bool,
    /// Register as ham and take back a registration as spam
    #[arg(short = 'N', overrides_with_all = ["test", "ham", "spam", "to_spam"])]
    to_ham: bool,
    /// Register as spam and take back a registration as ham
    #[arg(short = 'S', overrides_with_all = ["test", "ham", "spam", "to_ham"])]
    to_spam: bool,

    /// Copy each message to standard output with the verdict in its header section
    #[arg(short = 'p')]
    passthrough: bool,
    /// Database format: db (one file for many processes) or text (bmf's lists)
    #[arg(
        short = 'f',
        value_name = "FORMAT",
        default_value = "db",
        allow_hyphen_values = true
    )]
    format: String,
    /// Database folder [default: ~/.bmf]
    #[arg(short = 'd', value_name = "DIR", allow_hyphen_values = true)]
    dir: Option<PathBuf>,
    /// Use this user's model; only the daemon's mail user may name another
    #[arg(long, value_name = "NAME", conflicts_with = "dir")]
    user: Option<String>,
    /// Read this file instead of standard input
    #[arg(short = 'i', value_name = "FILE", allow_hyphen_values = true)]
    input: Option<PathBuf>,
    /// How many tokens decide
    #[arg(
        short = 'k',
        value_name = "N",
        default_value_t = 15,
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(u64).range(..=Params::MAX_EXTREMA as u64)
    )]
    extrema: u64,
    /// Take the input for an mbox, or for one message
    #[arg(
        short = 'm',
        value_name = "mbox|maildir",
        ignore_case = true,
        value_parser = PossibleValuesParser::new(["mbox", "maildir"]).map(|name| {
            if name.eq_ignore_ascii_case("mbox") { Layout::Mbox } else { Layout::Single }
        })
    )]
    layout: Option<Layout>,
    /// Say more on standard error; may be repeated
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,

    /// Print one JSON object for each message instead of the report; with the evidence, as --explain
    #[arg(long, conflicts_with = "passthrough")]
    json: bool,
    /// Print the verdict with the evidence that decided
    #[arg(long, conflicts_with = "passthrough")]
    explain: bool,
    /// Print verdict and probability of each message, one line each, instead of the report
    #[arg(long, conflicts_with_all = ["passthrough", "json", "explain"])]
    terse: bool,
    /// Engine of the database [default: the one that it was made with; for a new one modern, or
    /// classic with -f text or where bmf's old lists lie]
    #[arg(long, value_name = "NAME")]
    engine: Option<Engine>,
    /// Begin with what this base model knows (`bmfconv --make-base`); it is only read. With the
    /// engine modern, and a database that no daemon owns [default: $BMF_BASE]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Learn all messages of this Maildir, folder or mbox; with -s, -n, -S or -N
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["passthrough", "input", "json", "explain", "terse", "layout"]
    )]
    learn_folder: Option<PathBuf>,
    /// Longest wait for a locked database
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lock_wait: u64,
    /// Exit with 75 instead of 2 when the database stays locked, for delivery agents
    #[arg(long)]
    temp_fail: bool,
    /// Do not wait until what was learned is on disk: for bulk training that can be repeated
    #[arg(long)]
    no_sync: bool,

    /// Print the options and exit with 2
    #[arg(short = 'h')]
    usage: bool,
    /// Print the version and exit with 2
    #[arg(short = 'V')]
    release: bool,
    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Print the version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,

    /// bmf ignores what is no option.
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

/// What the arguments ask for.
#[derive(Debug)]
pub enum Request {
    /// Filter messages.
    Run(Box<Config>),
    /// Print this and exit.
    Print(Outcome),
}

/// Understands the arguments of `bmf`, the program's name first. `home` is the
/// user's home folder, if any.
pub fn parse(args: impl IntoIterator<Item = OsString>, home: Option<PathBuf>) -> Request {
    let (args, mut command): (Args, _) = match super::parse_args(args) {
        Ok(parsed) => parsed,
        Err(outcome) => return Request::Print(outcome),
    };
    if args.usage {
        return Request::Print(Outcome::usage(&mut command, ""));
    }
    if args.release {
        return Request::Print(Outcome::print(command.render_version(), 2));
    }
    let Some(format) = Format::from_name(&args.format) else {
        let complaint = format!("unknown database format '{}'", args.format);
        return Request::Print(Outcome::usage(&mut command, &complaint));
    };
    if (format, args.engine) == (Format::Text, Some(Engine::Modern)) {
        let complaint = "the text format holds only what the engine classic learned; \
                         use -f db with --engine modern";
        return Request::Print(Outcome::usage(&mut command, complaint));
    }
    let config = args.into_config(format, home);
    if config.learn_folder.is_some() && config.mode.label().is_none() {
        let complaint = "--learn-folder needs -s, -n, -S or -N";
        return Request::Print(Outcome::usage(&mut command, complaint));
    }
    Request::Run(Box::new(config))
}

impl Args {
    fn into_config(self, format: Format, home: Option<PathBuf>) -> Config {
        // At most one is set, since each overrides the others.
        let mode = match &self {
            Self { test: true, .. } => Mode::Test,
            Self { ham: true, .. } => Mode::Ham,
            Self { spam: true, .. } => Mode::Spam,
            Self { to_ham: true, .. } => Mode::ToHam,
            Self { to_spam: true, .. } => Mode::ToSpam,
            _ => Mode::Register,
        };
        let output = match &self {
            Self { json: true, .. } => Output::Json,
            Self { explain: true, .. } => Output::Explanation,
            Self { terse: true, .. } => Output::Terse,
            _ if mode == Mode::Test => Output::Report,
            _ => Output::Nothing,
        };
        let in_home = || home.unwrap_or_else(|| ".".into()).join(".bmf");
        Config {
            mode,
            output,
            passthrough: self.passthrough,
            format,
            engine: self.engine,
            is_own_database: self.dir.is_none() && format == Format::Db,
            dir: self.dir.unwrap_or_else(in_home),
            sockets: Vec::new(),
            user: self.user.unwrap_or_default(),
            base: self.base,
            learn_folder: self.learn_folder,
            input: self.input,
            layout: self.layout,
            params: Params {
                // The parser keeps it below `Params::MAX_EXTREMA`.
                n_extrema: self.extrema as usize,
                ..Params::bmf()
            },
            verbose: self.verbose > 0,
            lock_wait: Duration::from_secs(self.lock_wait),
            temp_fail: self.temp_fail,
            syncs: !self.no_sync,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Config {
        let args = ["bmf"].into_iter().chain(line.split_whitespace());
        match parse(args.map(Into::into), Some("/home/me".into())) {
            Request::Run(config) => *config,
            Request::Print(outcome) => panic!("{line:?} was refused: {outcome:?}"),
        }
    }

    /// Exit code, and whether there is a complaint.
    fn refused(line: &str) -> (u8, bool) {
        let args = ["bmf"].into_iter().chain(line.split_whitespace());
        match parse(args.map(Into::into), None) {
            Request::Run(config) => panic!("{line:?} was taken: {config:?}"),
            Request::Print(Outcome {
                stdout,
                stderr,
                code,
            }) => {
                assert!(!stdout.is_empty());
                (code, !stderr.is_empty())
            }
        }
    }

    #[test]
    fn the_last_mode_counts() {
        for (line, mode) in [
            ("", Mode::Register),
            ("-t", Mode::Test),
            ("-n -s -t -N", Mode::ToHam),
            ("-N -S -n", Mode::Ham),
            ("-tSs", Mode::Spam),
            ("-s -s -S -p -S", Mode::ToSpam),
            ("-ts -t", Mode::Test),
        ] {
            assert_eq!(config(line).mode, mode, "{line:?}");
        }
    }

    #[test]
    fn options_are_taken_as_getopt_takes_them() {
        let config = config("foo -tpf TEXT -d a -d b -k5 bar -i x -vv -m MailDir -- -s");
        assert_eq!(config.mode, Mode::Test);
        assert!(config.passthrough && config.verbose);
        assert_eq!(config.format, Format::Text);
        assert_eq!(config.dir, PathBuf::from("b"));
        assert_eq!(config.params.n_extrema, 5);
        assert_eq!(config.input, Some("x".into()));
        assert_eq!(config.layout, Some(Layout::Single));
    }

    #[test]
    fn the_database_is_in_the_home_folder() {
        assert_eq!(config("").dir, PathBuf::from("/home/me/.bmf"));
        assert_eq!(config("-d -t").dir, PathBuf::from("-t"));
        match parse(["bmf".into()], None) {
            Request::Run(config) => assert_eq!(config.dir, PathBuf::from("./.bmf")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for line in [
            "-q",
            "--what",
            "-k",
            "-k abc",
            "-k -1",
            "-k 65537",
            "-f dbm",
            "-m mh",
            "-f",
            "--json -p",
            "--engine later",
        ] {
            assert_eq!(refused(line), (2, true), "{line:?}");
        }
    }

    #[test]
    fn help_and_version_are_no_failures_but_those_of_bmf() {
        assert_eq!(refused("-h"), (2, false));
        assert_eq!(refused("-V"), (2, false));
        assert_eq!(refused("--help"), (0, false));
        assert_eq!(refused("--version"), (0, false));
    }
}
