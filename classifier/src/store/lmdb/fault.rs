//! Faults of the process, caught.
//!
//! LMDB follows the offsets that stand in its file. In a damaged one they
//! lead anywhere: the process gets a SIGSEGV, a SIGBUS where the file ends
//! too early, a SIGFPE, or a SIGABRT once the allocator notices. A filter
//! must still hand its message on. So a database is used on a thread of its
//! own. The signal's handler, running on that thread, tells the thread that
//! waits, and never returns: what the thread was about to do is not done, and
//! what it holds stays held until the process ends, which is to be soon.
//!
//! Rejected: jumping out of the handler, which leaves locks and the allocator
//! in any state and then goes on with them; a child process for each message,
//! which costs more than the look-ups; checksums, which LMDB does not have.

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{io, mem, ptr, thread};

use libc::{c_int, c_void, sigaction, siginfo_t};

use crate::Error;

/// Runs work on a database so that a damaged one cannot end the process.
///
/// ```no_run
/// use std::path::Path;
///
/// use classifier::store::TokenLookup;
/// use classifier::store::lmdb::{FaultGuard, Lmdb, Options};
///
/// let dir = Path::new("/home/user/.bmf");
/// let guard = FaultGuard::new(&Lmdb::path(dir))?;
/// let trained = guard.run(move || {
///     let store = Lmdb::open(dir, &Options::read_only())?;
///     store.lookup(&[], &mut Vec::new())
/// })?;
/// # Ok::<(), classifier::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaultGuard {
    path: PathBuf,
}

impl FaultGuard {
    /// A guard for work on the database at `path`, which errors will name.
    ///
    /// From now on this process handles SIGSEGV, SIGBUS, SIGFPE and SIGABRT.
    /// On threads that are not guarded, what was to happen still happens.
    ///
    /// # Errors
    /// When the system refuses signal handlers.
    pub fn new(path: &Path) -> Result<Self, Error> {
        install().map_err(Error::io("guard", path))?;
        Ok(Self { path: path.into() })
    }

    /// Runs `work` on a thread of its own and waits for its answer. Any
    /// number of threads may do so at the same time.
    ///
    /// # Errors
    /// The error of `work`; [`Error::Damaged`] when it faulted. After that
    /// the database may stay locked by this process until it ends.
    ///
    /// # Panics
    /// When `work` does.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let refused = |error| Error::io("guard", &self.path)(error);
        let (reader, writer) = pipe().map_err(refused)?;
        let worker = thread::Builder::new()
            .name("database".into())
            .spawn(move || {
                let guarded = Guarded::begin(writer);
                let answer = work();
                drop(guarded);
                answer
            })
            .map_err(refused)?;
        match wait(reader).map_err(refused)? {
            None => worker.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Some(signal) => {
                let uncertain = match signal & UNCERTAIN {
                    0 => "",
                    _ => ", unless another process was writing: then try again",
                };
                let signal = name(signal & !UNCERTAIN);
                Err(Error::Damaged {
                    path: self.path.clone(),
                    detail: format!("using it ended in {signal}{uncertain}"),
                })
            }
        }
    }
}

/// Waits for the end of the work, `None`, or for the signal that it met.
fn wait(mut reader: PipeReader) -> io::Result<Option<c_int>> {
    let mut byte = [0];
    loop {
        match reader.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(c_int::from(byte[0]))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

thread_local! {
    /// Where a handler on this thread reports to. Negative: not guarded.
    /// Made at compile time and without a destructor, so that a handler may
    /// touch it.
    static REPORT_TO: Cell<c_int> = const { Cell::new(-1) };
    /// [`UNCERTAIN`] or 0.
    static CERTAINTY: Cell<c_int> = const { Cell::new(0) };
}

/// Set in what is reported if a writer may have been the cause.
const UNCERTAIN: c_int = 0x80;

/// Says of this thread, until further notice, whether a writer can disturb
/// what it reads, so that a fault need not mean damage.
pub(super) fn set_certain(is_certain: bool) {
    CERTAINTY.set(if is_certain { 0 } else { UNCERTAIN });
}

/// Marks this thread as guarded until dropped, which closes the pipe.
struct Guarded(#[expect(dead_code, reason = "held open")] PipeWriter);

impl Guarded {
    fn begin(writer: PipeWriter) -> Self {
        REPORT_TO.set(writer.as_raw_fd());
        Self(writer)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        REPORT_TO.set(-1);
    }
}

const SIGNALS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGABRT];

fn name(signal: c_int) -> &'static str {
    match signal {
        libc::SIGSEGV => "a memory fault (SIGSEGV)",
        libc::SIGBUS => "a read beyond its end (SIGBUS)",
        libc::SIGFPE => "an arithmetic fault (SIGFPE)",
        _ => "an abort (SIGABRT)",
    }
}

/// What was in force before, in the order of [`SIGNALS`]: for SIGSEGV and
/// SIGBUS usually Rust's own handler, which reports a stack overflow.
static BEFORE: OnceLock<[sigaction; SIGNALS.len()]> = OnceLock::new();

/// Installs the handlers, once in a process.
#[allow(unsafe_code)]
fn install() -> io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if BEFORE.get().is_some() {
        return Ok(());
    }
    // SAFETY: `sigaction` is plain data for which zeros are a value: the
    // default disposition, no flags, nothing blocked.
    let mut before: [sigaction; SIGNALS.len()] = unsafe { mem::zeroed() };
    for (signal, before) in SIGNALS.iter().zip(&mut before) {
        // SAFETY: only reads the disposition into valid memory.
        check(unsafe { libc::sigaction(*signal, ptr::null(), before) })?;
    }
    // Before the handlers, which look at it.
    let _ = BEFORE.set(before);
    for signal in SIGNALS {
        // SAFETY: as above.
        let mut action: sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as usize;
        // On the alternate stack that Rust gives its threads, since the
        // fault may be a stack overflow.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `on_fault` has the signature that SA_SIGINFO asks for and
        // does only what POSIX allows in a handler.
        check(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) })?;
    }
    Ok(())
}

fn check(outcome: c_int) -> io::Result<()> {
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// On a guarded thread: reports and stops the thread for good. Elsewhere:
/// what would have happened without us.
#[allow(unsafe_code)]
extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let pipe = REPORT_TO.get();
    if pipe >= 0 {
        let byte = (signal | CERTAINTY.get()) as u8;
        // SAFETY: `write` and `pause` may be called in a handler; the byte
        // is valid, and a failed write leaves only the process to be killed.
        unsafe {
            libc::write(pipe, ptr::from_ref(&byte).cast(), 1);
            loop {
                libc::pause();
            }
        }
    }
    let at = SIGNALS.iter().position(|known| *known == signal);
    let Some(before) = BEFORE.get().zip(at).and_then(|(all, at)| all.get(at)) else {
        return;
    };
    // SAFETY: the disposition came from the system, with the flags that tell
    // which signature its handler has. Re-installing it and returning meets
    // the fault again, now without us; an `abort` ends the process anyway.
    unsafe {
        match before.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                libc::sigaction(signal, before, ptr::null_mut());
            }
            handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(c_int) = mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> FaultGuard {
        FaultGuard::new(Path::new("a/bmf.mdb")).unwrap()
    }

    fn raise(signal: c_int) -> Result<(), Error> {
        #[allow(unsafe_code)]
        // SAFETY: the handler may run anywhere.
        unsafe {
            libc::raise(signal);
        }
        Ok(())
    }

    #[test]
    fn each_fault_becomes_an_error() {
        for signal in SIGNALS {
            let error = guard().run(move || raise(signal)).unwrap_err();
            let expected = format!("a/bmf.mdb is damaged: using it ended in {}", name(signal));
            assert_eq!(error.to_string(), expected);
        }
        let error = guard().run::<()>(|| std::process::abort()).unwrap_err();
        assert!(error.to_string().contains("SIGABRT"), "{error}");
    }

    #[test]
    fn answers_and_errors_come_through_from_many_threads() {
        thread::scope(|scope| {
            for n in 0..16 {
                scope.spawn(move || match n % 3 {
                    0 => assert!(guard().run(|| raise(libc::SIGSEGV)).is_err()),
                    1 => assert_eq!(guard().run(move || Ok(n)).unwrap(), n),
                    _ => {
                        let failed =
                            || Err::<(), _>(Error::io("open", "x")(io::Error::other("no")));
                        let error = guard().run(failed).unwrap_err();
                        assert_eq!(error.to_string(), "cannot open x: no");
                    }
                });
            }
        });
    }

    #[test]
    #[should_panic(expected = "a mistake of ours")]
    fn panics_go_on() {
        let _ = guard().run::<()>(|| panic!("a mistake of ours"));
    }
}
