//! The same steps with two programs, and what differs.
//!
//! A [`Case`] is a sequence of runs of bmf against one database. Carried out
//! with a [`Pair`] of programs it gives a [`Transcript`]: what anybody can see
//! of it, that is exit codes, standard output, and the lists at the end. Two
//! transcripts are equal or one of the programs is wrong. Standard error is
//! for people and not compared.
//!
//! A case is kept as a folder, so that one found by chance stays tested:
//!
//! ```text
//! steps       first line the format, then a line a run: input file, options
//! 0.eml ...   the inputs
//! expected    the transcript, as the original gave it
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;

use crate::messages;
use crate::programs;
use crate::run::{Input, Outcome, run, scratch};

/// Where a database lies, as `-f` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `goodlist.txt` and `spamlist.txt`.
    Text,
    /// Berkeley DB for the original, LMDB for ours.
    Db,
}

impl Format {
    /// The word after `-f`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Db => "db",
        }
    }
}

/// One run: an input by its number in the case, and the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which of the inputs is read.
    pub input: usize,
    /// Mode and options, without those for database and input.
    pub options: Vec<String>,
}

/// Runs of bmf one after the other, on a database that is empty at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Format of the database.
    pub format: Format,
    /// What the steps read.
    pub inputs: Vec<Vec<u8>>,
    /// The runs in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// A random case, always the same for the same seed.
    pub fn generate(seed: u64) -> Case {
        let mut rng = Rng::with_seed(seed);
        // The original takes several times as long with `db`.
        let format = if rng.u8(..4) == 0 {
            Format::Db
        } else {
            Format::Text
        };
        let inputs: Vec<_> = (0..rng.usize(1..5))
            .map(|_| messages::input(&mut rng))
            .collect();
        let steps = (0..rng.usize(1..12))
            .map(|_| {
                loop {
                    let input = rng.usize(..inputs.len());
                    let options = options(&mut rng);
                    let step = Step { input, options };
                    if step.is_compared(&inputs[input]) {
                        return step;
                    }
                }
            })
            .collect();
        Case {
            format,
            inputs,
            steps,
        }
    }

    /// Whether both programs should do the same: see
    /// `docs/bmf-differences.md`. Holds for generated cases, not for every
    /// smaller one.
    pub fn is_compared(&self) -> bool {
        let compared = |step: &Step| step.is_compared(&self.inputs[step.input]);
        self.steps.iter().all(compared)
    }

    /// Carries the case out and returns all that can be seen of it.
    pub fn transcript(&self, pair: Pair) -> Transcript {
        let folder = scratch();
        let database = folder.path().join("db");
        let runs = self
            .steps
            .iter()
            .map(|step| {
                let mut bmf = pair.bmf();
                bmf.args(["-f", self.format.name(), "-d"]).arg(&database);
                bmf.args(&step.options);
                let outcome = run(&mut bmf, Input::Bytes(&self.inputs[step.input]));
                comparable(&outcome)
            })
            .collect();
        Transcript {
            runs,
            lists: lists(pair, self.format, &database),
        }
    }

    /// Writes the case as a folder, with `expected` as its transcript.
    pub fn save(&self, folder: &Path, expected: &Transcript) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut steps = format!("{}\n", self.format.name());
        for step in &self.steps {
            steps.push_str(&format!("{} {}\n", step.input, step.options.join(" ")));
        }
        fs::write(folder.join("steps"), steps)?;
        for (number, input) in self.inputs.iter().enumerate() {
            fs::write(folder.join(format!("{number}.eml")), input)?;
        }
        fs::write(folder.join("expected"), expected.to_bytes())
    }

    /// Reads a case that [`Case::save`] wrote.
    pub fn load(folder: &Path) -> io::Result<Case> {
        let text = fs::read_to_string(folder.join("steps"))?;
        let mut lines = text.lines();
        let format = match lines.next() {
            Some("text") => Format::Text,
            Some("db") => Format::Db,
            other => return Err(io::Error::other(format!("format {other:?} in steps"))),
        };
        let mut steps = Vec::new();
        for line in lines {
            let mut words = line.split_whitespace();
            let input = words.next().and_then(|word| word.parse().ok());
            let input = input.ok_or_else(|| io::Error::other(format!("no input in {line:?}")))?;
            let options = words.map(str::to_owned).collect();
            steps.push(Step { input, options });
        }
        let n_inputs = steps.iter().map(|step| step.input + 1).max().unwrap_or(0);
        let inputs = (0..n_inputs)
            .map(|number| fs::read(folder.join(format!("{number}.eml"))))
            .collect::<io::Result<_>>()?;
        Ok(Case {
            format,
            inputs,
            steps,
        })
    }
}

impl Step {
    /// Whether ours does on this input what the original does, or better on
    /// purpose in a way that [`comparable`] cannot even out.
    fn is_compared(&self, input: &[u8]) -> bool {
        let is_mbox = input.starts_with(b"From ") && input.len() > 5;
        let passes = |option: &String| option.starts_with('-') && option.contains('p');
        // The original puts its fields behind a last CR.
        let may_pass = !has_late_mark(input) && !input.ends_with(b"\n\r");
        // With `-m mbox` it looks for the first mark behind lines that it skips.
        let may_be_forced = is_mbox || !(has_late_mark(input) || input == b"From ");
        self.options.iter().all(|option| {
            (may_pass || !passes(option)) && (may_be_forced || !option.eq_ignore_ascii_case("mbox"))
        })
    }
}

/// Whether a line but the first begins with `From `. With `-p` the original
/// takes the body of one message of an mbox for the beginning of the next, so
/// there is nothing to compare with.
pub fn has_late_mark(input: &[u8]) -> bool {
    let mark = b"\nFrom ";
    input.windows(mark.len()).any(|window| window == mark)
}

/// Mode and options of one run: what the original takes without a crash.
fn options(rng: &mut Rng) -> Vec<String> {
    const MODES: [&str; 12] = [
        "", "", "-t", "-t", "-s", "-n", "-s", "-n", "-S", "-N", "-ns", "-st",
    ];
    let mut options = Vec::new();
    let mode = MODES[rng.usize(..MODES.len())];
    match (mode, rng.u8(..5)) {
        ("", 0 | 1) => options.push("-p".to_owned()),
        ("", _) => {}
        // Bundled, before, and after.
        (_, 0) => options.push(format!("{mode}p")),
        (_, 1) => options.extend(["-p".to_owned(), mode.to_owned()]),
        _ => options.push(mode.to_owned()),
    }
    if rng.u8(..8) == 0 {
        const KEEPERS: [u32; 9] = [0, 1, 2, 5, 14, 15, 16, 40, 150];
        options.push(format!("-k{}", KEEPERS[rng.usize(..KEEPERS.len())]));
    }
    if rng.u8(..14) == 0 {
        const TYPES: [&str; 4] = ["maildir", "MailDir", "mbox", "MBOX"];
        options.extend(["-m".to_owned(), TYPES[rng.usize(..TYPES.len())].to_owned()]);
    }
    if rng.u8(..20) == 0 {
        options.push("-v".to_owned());
    }
    if rng.u8(..20) == 0 {
        options.extend(["-i".to_owned(), "/dev/stdin".to_owned()]);
    }
    options
}

/// A bmf and the bmfconv that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Debian's bmf 0.9.4.
    Original,
    /// What this workspace built.
    Ours,
}

impl Pair {
    /// A command for `bmf` with the engine that both have.
    pub fn bmf(self) -> Command {
        let mut bmf = self.command("bmf");
        if self == Pair::Ours {
            bmf.args(["--engine", "classic"]);
        }
        bmf
    }

    /// A command for `bmfconv`.
    pub fn bmfconv(self) -> Command {
        self.command("bmfconv")
    }

    fn command(self, name: &str) -> Command {
        match self {
            Pair::Original => programs::peer(name),
            Pair::Ours => Command::new(programs::built(name)),
        }
    }
}

/// All that can be seen of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Exit code and standard output of each run.
    pub runs: Vec<(i32, Vec<u8>)>,
    /// The good and the spam list at the end, as text.
    pub lists: [Vec<u8>; 2],
}

impl Transcript {
    /// One file for people and for comparing.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, (code, stdout)) in self.runs.iter().enumerate() {
            bytes.extend(format!("== run {}: exit {code}\n", number + 1).into_bytes());
            bytes.extend_from_slice(stdout);
        }
        for (name, list) in ["goodlist.txt", "spamlist.txt"].iter().zip(&self.lists) {
            bytes.extend(format!("== {name}\n").into_bytes());
            bytes.extend_from_slice(list);
        }
        bytes
    }
}

/// Exit code and standard output, less what ours does better on purpose and
/// `docs/bmf-differences.md` lists: what a failed run prints, and a line end in
/// front of the new fields where the message lacks one.
pub fn comparable(outcome: &Outcome) -> (i32, Vec<u8>) {
    // A signal has no code; it differs from every run that has one.
    let code = outcome.status.code().unwrap_or(-1);
    let mut stdout = Vec::new();
    if code != 2 {
        for (at, &byte) in outcome.stdout.iter().enumerate() {
            let new_field = outcome.stdout[at..].starts_with(b"X-Spam-Status: ");
            if new_field && !stdout.ends_with(b"\n") {
                stdout.push(b'\n');
            }
            stdout.push(byte);
        }
    }
    (code, stdout)
}

/// The model in a database as text, but for the times in its ledger and the
/// order that comes of them.
///
/// # Panics
///
/// When `bmfconv` fails.
pub fn model(database: &Path) -> String {
    let folder = scratch();
    let mut bmfconv = Pair::Ours.bmfconv();
    bmfconv.arg("-ed").arg(database).current_dir(folder.path());
    let outcome = run(&mut bmfconv, Input::Empty);
    assert_eq!(outcome.code(), 0, "bmfconv -e: {}", outcome.stderr);
    let text = fs::read_to_string(folder.path().join("model.txt")).unwrap();
    let mut lines: Vec<&str> = text
        .lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((entry, _time)) if line.starts_with("entry ") => entry,
            _ => line,
        })
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The lists of a database, good first. Whether a list of nothing has a first
/// line, or a file, is not worth a difference: it is empty here.
///
/// # Panics
///
/// When `bmfconv` fails, or a file is there and cannot be read.
pub fn lists(pair: Pair, format: Format, database: &Path) -> [Vec<u8>; 2] {
    let exported = scratch();
    let folder = match format {
        Format::Text => database,
        Format::Db if !database.exists() => return Default::default(),
        Format::Db => {
            let mut bmfconv = pair.bmfconv();
            bmfconv.args(["-e", "-f", "db", "-d"]).arg(database);
            let outcome = run(bmfconv.current_dir(exported.path()), Input::Empty);
            assert_eq!(outcome.code(), 0, "bmfconv -e: {}", outcome.stderr);
            exported.path()
        }
    };
    ["goodlist.txt", "spamlist.txt"].map(|name| match fs::read(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Ok(list) if list == b"# bogofilter wordlist (format version A): 0\n" => Vec::new(),
        read => read.unwrap(),
    })
}

/// The smallest case found that `fails` still: fewer runs, fewer options,
/// shorter inputs. Deterministic; gives up after some thousand attempts.
pub fn minimise(case: Case, fails: impl Fn(&Case) -> bool) -> Case {
    let mut smallest = case;
    let mut attempts = 3_000;
    let mut try_smaller = |smallest: &mut Case, candidate: Case| {
        attempts -= 1;
        let smaller = attempts > 0 && fails(&candidate);
        if smaller {
            *smallest = candidate;
        }
        smaller
    };
    loop {
        let before = smallest.clone();
        for at in (0..smallest.steps.len()).rev() {
            let mut fewer = smallest.clone();
            fewer.steps.remove(at);
            try_smaller(&mut smallest, fewer);
        }
        for at in 0..smallest.steps.len() {
            for option in (0..smallest.steps[at].options.len()).rev() {
                let mut fewer = smallest.clone();
                fewer.steps[at].options.remove(option);
                try_smaller(&mut smallest, fewer);
            }
        }
        for input in 0..smallest.inputs.len() {
            let mut length = smallest.inputs[input].len();
            while length > 0 {
                let mut from = 0;
                while from < smallest.inputs[input].len() {
                    let mut shorter = smallest.clone();
                    let to = (from + length).min(shorter.inputs[input].len());
                    shorter.inputs[input].drain(from..to);
                    if !try_smaller(&mut smallest, shorter) {
                        from += length;
                    }
                }
                length /= 2;
            }
        }
        if smallest == before {
            return smallest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_case_is_loaded_as_it_was() {
        for seed in 0..50 {
            let mut case = Case::generate(seed);
            // Inputs behind the last one used are not kept.
            let used = case.steps.iter().map(|step| step.input + 1).max().unwrap();
            case.inputs.truncate(used);
            let folder = scratch();
            let nothing = Transcript {
                runs: Vec::new(),
                lists: Default::default(),
            };
            case.save(folder.path(), &nothing).unwrap();
            assert_eq!(Case::load(folder.path()).unwrap(), case);
        }
    }

    #[test]
    fn a_case_is_minimised_to_what_makes_it_fail() {
        let needs = |case: &Case| {
            let spams = case
                .steps
                .iter()
                .filter(|step| step.options.contains(&"-s".to_owned()));
            spams.count() >= 1 && case.inputs.iter().any(|input| input.contains(&b'x'))
        };
        let case = (0..)
            .map(Case::generate)
            .find(|case| needs(case) && case.steps.len() > 3)
            .unwrap();
        let smallest = minimise(case, needs);
        assert_eq!(smallest.steps.len(), 1);
        assert_eq!(smallest.steps[0].options, ["-s"]);
        assert_eq!(smallest.inputs.concat(), b"x");
    }
}
