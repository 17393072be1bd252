//! Instructions, counted by callgrind: a guard that no other program on the
//! machine disturbs.
//!
//! Of the engine those inside of the passes of [`crate::in_process`]; of a
//! process all of them, from the loader's first to the last, without what the
//! system does for it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use classifier::MessageTokens;
use classifier::classic::Scorer;
use classifier::store::lmdb::{Lmdb, Options};
use tests::differential::Format;

use crate::filters::{Databases, Filter};
use crate::in_process::{in_memory, lex_pass, score_pass, tokens_pass};
use crate::mail::Mail;
use crate::modern;
use crate::record::{Record, Series};

/// Work for callgrind to look at, once over all samples.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Pass {
    /// Find words.
    Lex,
    /// Find words and count each.
    Tokens,
    /// Score on the memory store.
    Memory,
    /// Score on LMDB.
    Lmdb,
    /// Find the features of the modern engine.
    Features,
    /// Score with the modern engine's decoded model.
    Decoded,
    /// Score with the modern engine on LMDB.
    Modern,
}

impl Pass {
    const ALL: [Self; 7] = [
        Self::Lex,
        Self::Tokens,
        Self::Memory,
        Self::Lmdb,
        Self::Features,
        Self::Decoded,
        Self::Modern,
    ];

    fn is_modern(self) -> bool {
        matches!(self, Self::Features | Self::Decoded | Self::Modern)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lex => "find words",
            Self::Tokens => "find words and count each",
            Self::Memory => "score on the memory store",
            Self::Lmdb => "score on LMDB",
            Self::Features => "modern: find features",
            Self::Decoded => "modern: score, decoded model",
            Self::Modern => "modern: score on LMDB",
        }
    }

    /// Does the work on the files at `samples`.
    pub(crate) fn carry_out(
        self,
        database: &Path,
        samples: &[impl AsRef<Path>],
    ) -> anyhow::Result<()> {
        let texts = samples
            .iter()
            .map(std::fs::read)
            .collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        if self.is_modern() {
            return self.carry_out_modern(database, &texts);
        }
        let (mut tokens, mut scorer) = (MessageTokens::default(), Scorer::default());
        let lmdb = Lmdb::open(database, &Options::read_only())?;
        let memory = in_memory(&lmdb)?;
        let mut pass = || {
            Ok(match self {
                Self::Lex => lex_pass(&texts) > 0,
                Self::Tokens => tokens_pass(&texts, &mut tokens) > 0,
                Self::Memory => score_pass(&texts, &memory, &mut scorer)? > 0.0,
                Self::Lmdb => score_pass(&texts, &lmdb, &mut scorer)? > 0.0,
                _ => false,
            })
        };
        // Memory is asked for once, which would be most of the count.
        ensure!(pass()? && counted(pass)?, "no words");
        Ok(())
    }

    fn carry_out_modern(self, database: &Path, texts: &[&[u8]]) -> anyhow::Result<()> {
        let lmdb = modern::open(database)?;
        let (_, model) = modern::in_memory(&lmdb)?;
        let pass = || {
            Ok(match self {
                Self::Features => modern::features_pass(texts) > 0,
                Self::Decoded => !modern::score_pass(texts, &model).is_empty(),
                _ => !modern::judge_pass(texts, &lmdb)?.is_empty(),
            })
        };
        ensure!(pass()? && counted(pass)?, "no features");
        Ok(())
    }
}

/// callgrind counts what happens inside of this.
#[inline(never)]
fn counted(mut pass: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    pass()
}

/// Counts for all passes and for whole processes with each kind of database.
pub(crate) fn count(record: &mut Record, databases: &Databases, mail: &Mail) -> anyhow::Result<()> {
    let n_bytes: usize = mail.samples.iter().map(|sample| sample.bytes.len()).sum();
    for pass in Pass::ALL {
        let mut command = callgrind(Some("*instructions*counted*"));
        let option = pass.to_possible_value().context("no pass is hidden")?;
        command
            .arg(std::env::current_exe()?)
            .args(["--pass", option.get_name()]);
        command
            .arg("--database")
            .arg(databases.trained(match pass.is_modern() {
                true => Filter::Modern,
                false => Filter::Ours(Format::Db),
            }));
        command.args(mail.samples.iter().map(|sample| &sample.path));
        let instructions = collected(&mut command)?;
        record.add(Series {
            workload: "5 kB message in memory",
            contender: pass.name(),
            quantity: "instructions",
            unit: "a byte",
            values: vec![instructions / n_bytes as f64],
        });
    }
    for filter in [
        Filter::Ours(Format::Text),
        Filter::Original(Format::Text),
        Filter::Ours(Format::Db),
        Filter::Original(Format::Db),
        Filter::Modern,
    ] {
        let process = filter.command(&databases.trained(filter));
        let mut command = callgrind(None);
        command
            .arg(process.get_program())
            .args(process.get_args())
            .arg("-t");
        command.stdin(std::fs::File::open(&mail.samples[0].path)?);
        record.add(Series {
            workload: "score one",
            contender: filter.name(),
            quantity: "instructions",
            unit: "million",
            values: vec![collected(&mut command)? / 1e6],
        });
    }
    Ok(())
}

fn callgrind(function: Option<&str>) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args(function.map(|name| format!("--toggle-collect={name}")));
    command.stdin(Stdio::null());
    command
}

fn collected(command: &mut Command) -> anyhow::Result<f64> {
    let output = command.output();
    let output = output.context("cannot run valgrind; install Debian's package valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let number = said
        .split("Collected :")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let number: f64 = number
        .with_context(|| format!("no count in: {said}"))?
        .parse()?;
    ensure!(number > 0.0, "callgrind found nothing to count: {said}");
    Ok(number)
}
