//! One process: started, measured to its end, and its answer.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// From before it was started until it was gone.
    pub(crate) wall: Duration,
    /// Of all processors, in the process and in the system for it. Other
    /// programs on the machine disturb this much less than `wall`.
    pub(crate) cpu: Duration,
}

/// What one run answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
}

/// Runs `command` from `stdin` to the file `stdout`. Both are files so that
/// nobody has to read or write while the time runs.
pub(crate) fn run(
    command: &mut Command,
    stdin: &Path,
    stdout: &Path,
) -> anyhow::Result<(Taken, Answer)> {
    let stderr = stdout.with_extension("err");
    command
        .stdin(File::open(stdin)?)
        .stdout(File::create(stdout)?)
        .stderr(File::create(&stderr)?);
    let cpu = cpu_time(libc::RUSAGE_CHILDREN);
    let start = Instant::now();
    let status = command.spawn().and_then(|mut child| child.wait());
    let wall = start.elapsed();
    let cpu = cpu_time(libc::RUSAGE_CHILDREN) - cpu;
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    // bmf says by 1 that a message is ham, bogofilter by 2 that it is unsure.
    let Some(code @ 0..=2) = status.code() else {
        let said = fs::read_to_string(&stderr)?;
        bail!("{command:?}: {status}: {said}");
    };
    let stdout = fs::read(stdout)?;
    Ok((Taken { wall, cpu }, Answer { code, stdout }))
}

/// Processor time used so far by `RUSAGE_CHILDREN` that have ended or by
/// `RUSAGE_THREAD`, which is this one.
#[allow(unsafe_code)]
pub(crate) fn cpu_time(who: libc::c_int) -> Duration {
    // SAFETY: `rusage` is plain data for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: fills the valid memory it is given, and cannot fail for the
    // two values of `who`.
    unsafe { libc::getrusage(who, &mut usage) };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
