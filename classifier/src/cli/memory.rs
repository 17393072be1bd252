//! How the programs get their memory from the C library.

/// One heap for all threads, to be asked for before there are any, where a
/// store is changed. Threads that only read are quicker with a heap each: many
/// messages then take a sixth less time, since none waits for another's lock.
///
/// glibc gives each thread a heap of its own, which grows by a page at a time.
/// LMDB works on a thread of its own (see
/// [`FaultGuard`](crate::store::lmdb::FaultGuard)) and holds each page that it
/// changes in memory: two system calls for every one of them.
#[allow(unsafe_code)]
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number inside the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Makes a write beyond a limit on the size of files (`ulimit -f`), as delivery
/// agents set them, an error like any other. It would end the process, and with
/// it the message.
#[allow(unsafe_code)]
pub fn outlive_file_limits() {
    // SAFETY: nothing of ours runs at the signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
