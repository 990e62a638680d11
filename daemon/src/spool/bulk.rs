//! Threads for bulk work on messages that wait already: it must not delay what comes in.

use std::io;
use std::thread::JoinHandle;

/// Bytes that are read, or written and synced together: so few that a sync takes hardly longer for them.
pub(super) const PORTION_BYTES: u64 = 256 * 1024;

/// How much less of the processors bulk work gets than everything else, where there is not enough: a tenth
/// (`nice(2)`).
const NICENESS: i32 = 10;

/// Runs `task` on a thread that stands back behind others.
///
/// # Errors
/// When there can be no thread.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    task: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        stand_back();
        task()
    })
}

/// Has this thread stand back behind others.
pub fn stand_back() {
    // On Linux the value is the thread's own. Without it, all goes on a little slower.
    let _ = rustix::process::nice(NICENESS);
}
