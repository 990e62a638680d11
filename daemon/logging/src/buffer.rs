//! Buffer between the threads that log and standard error, which may block for ever.
//!
//! A pipe holds 64 KiB. When its reader hangs, a write to it blocks the calling thread, and a few blocked threads are a
//! blocked process. So callers append to a buffer, and one thread writes it. A buffer that is full refuses records; they
//! are counted, and one record reports their number as soon as standard error accepts bytes again.
//!
//! `tracing-appender` has such a writer. It bounds the number of records instead of their bytes, allocates for each of
//! them, wakes its thread for each, and does not report how many records it dropped.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

/// Bytes that wait or are being written. Two records of some 200 bytes for each of 27,000 messages a second, which is the
/// most that the daemon was measured with, fill it in 0.4 s: longer than a collector of logs takes to rotate a file.
pub(crate) const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Pause of the writer before it writes what a first record announced: at most 200 wake-ups a second, whatever the rate
/// of records. Waking a thread and a write cost several times as much as a record.
const LINGER: Duration = Duration::from_millis(5);

/// Bytes that end the pause: what a pipe takes at once.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of one write. Room is given back after each.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Capacity that an empty buffer keeps.
const KEPT_BYTES_MAX: usize = 4 * LINGER_BYTES_MAX;

/// Pause after an output that is set to non-blocking did not accept a byte.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(10);

/// Records that were dropped since the last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Number of records.
    pub(crate) records: u64,
    /// Time of the first.
    pub(crate) since: SystemTime,
}

/// Records that wait for the writer.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those that wait in [`Self::flush`].
    written: Condvar,
    /// Records dropped since the start.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the writer has taken and that are not written yet.
    taken: usize,
    writer: Writer,
    /// The thread of [`Buffer::write_to`], whose report always finds room.
    thread: Option<ThreadId>,
    dropped: Option<Dropped>,
    /// Calls of [`Buffer::flush`] that wait.
    flushing: usize,
}

/// Occupation of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Writer {
    /// It writes, or looks for work by itself.
    #[default]
    Awake,
    /// It waits for a first record.
    Idle,
    /// It waits for more records.
    Lingers,
}

impl Buffer {
    /// Appends a whole record, or drops it where there is no room. Never waits for the output.
    pub(crate) fn push(&self, record: &[u8]) {
        let mut state = self.lock();
        if state.taken + state.waiting.len() + record.len() > BYTES_MAX
            && state.thread != Some(thread::current().id())
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            state.dropped.get_or_insert_with(|| Dropped { records: 0, since: SystemTime::now() }).records +=
                1;
            return;
        }
        state.waiting.extend_from_slice(record);
        let wakes = match state.writer {
            Writer::Awake => false,
            Writer::Idle => true,
            Writer::Lingers => state.waiting.len() >= LINGER_BYTES_MAX,
        };
        if wakes {
            state.writer = Writer::Awake;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Number of records dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written and reported, for `time_max` at most. Returns whether it is.
    pub(crate) fn flush(&self, time_max: Duration) -> bool {
        let deadline = Instant::now() + time_max;
        let mut state = self.lock();
        state.flushing += 1;
        self.work.notify_one();
        while !state.is_clean() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.flushing -= 1;
        state.is_clean()
    }

    /// Writes what comes to `output`, for ever, and calls `report` after a write that succeeded when records were dropped
    /// before. `report` may push a record.
    pub(crate) fn write_to(&self, mut output: impl Write, report: impl Fn(Dropped)) -> ! {
        self.lock().thread = Some(thread::current().id());
        let mut batch = Vec::new();
        loop {
            self.take(&mut batch);
            let mut accepted = false;
            for piece in batch.chunks(WRITE_BYTES_MAX) {
                let result = write(&mut output, piece);
                accepted |= result.is_ok();
                let mut state = self.lock();
                state.taken -= piece.len();
                if result.is_err() {
                    // A record counts where it ends.
                    let records = piece.iter().filter(|byte| **byte == b'\n').count();
                    let records = u64::try_from(records).unwrap_or(u64::MAX);
                    self.dropped.fetch_add(records, Ordering::Relaxed);
                    let dropped = Dropped { records: 0, since: SystemTime::now() };
                    state.dropped.get_or_insert(dropped).records += records;
                }
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES_MAX);
            let mut state = self.lock();
            if accepted && let Some(dropped) = state.dropped.take() {
                drop(state);
                report(dropped);
                state = self.lock();
            }
            if state.is_clean() {
                self.written.notify_all();
            }
        }
    }

    /// Waits for records, and takes all there are.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            state.writer = Writer::Idle;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + LINGER;
        while state.flushing == 0 && state.waiting.len() < LINGER_BYTES_MAX {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            state.writer = Writer::Lingers;
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.writer = Writer::Awake;
        state.taken = state.waiting.len();
        mem::swap(&mut state.waiting, batch);
    }

    /// A panic elsewhere cannot leave the state half-changed: none happens under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_clean(&self) -> bool {
        self.waiting.is_empty() && self.taken == 0
    }
}

/// Writes all of `bytes`, also to an output that another process has set to non-blocking.
fn write(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Longer than anything that is waited for takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// An output that accepts a write when the test lets it.
    struct Gate {
        permits: Receiver<io::Result<()>>,
        attempts: Sender<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.attempts.send(()).ok();
            // Without a test there is nobody to wait for.
            self.permits.recv().unwrap_or(Ok(()))?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Setup {
        buffer: Arc<Buffer>,
        permit: Sender<io::Result<()>>,
        attempts: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Setup {
        fn new() -> Self {
            let (permit, permits) = channel();
            let (attempt, attempts) = channel();
            let (buffer, written) = (Arc::new(Buffer::default()), Arc::default());
            let gate = Gate { permits, attempts: attempt, written: Arc::clone(&written) };
            let writer = Arc::clone(&buffer);
            thread::spawn(move || {
                let report =
                    |dropped: Dropped| writer.push(format!("dropped {}\n", dropped.records).as_bytes());
                writer.write_to(gate, report)
            });
            Self { buffer, permit, attempts, written }
        }

        /// Waits until the writer is blocked in a write.
        fn wait_for_attempt(&self) {
            self.attempts.recv_timeout(PATIENCE).expect("a write");
        }

        fn written(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn records_are_written_in_order() {
        let Setup { buffer, permit, written, .. } = Setup::new();
        drop(permit);
        let expected: String = (0..50_000).map(|number| format!("record {number}\n")).collect();
        expected.split_inclusive('\n').for_each(|record| buffer.push(record.as_bytes()));
        assert!(buffer.flush(PATIENCE));
        assert_eq!(buffer.dropped(), 0);
        assert!(String::from_utf8(written.lock().unwrap().clone()).unwrap() == expected);
    }

    #[test]
    fn a_blocked_output_drops_records_and_one_report_follows() {
        let setup = Setup::new();
        setup.buffer.push(b"first\n");
        setup.wait_for_attempt();
        let record = [vec![b'x'; 1_023], b"\n".to_vec()].concat();
        let fitting = (BYTES_MAX - "first\n".len()) / record.len();
        for _ in 0..fitting + 7 {
            setup.buffer.push(&record);
        }
        assert_eq!(setup.buffer.dropped(), 7);
        assert!(!setup.buffer.flush(Duration::from_millis(1)), "a flush has its time");

        drop(setup.permit);
        assert!(setup.buffer.flush(PATIENCE));
        let written = setup.written.lock().unwrap().clone();
        let text = std::str::from_utf8(&written).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.trim_start_matches('x')).collect();
        assert_eq!(lines.len(), 1 + fitting + 1);
        assert_eq!(
            lines.iter().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
            [&"first", &"dropped 7"]
        );
        assert_eq!(setup.buffer.dropped(), 7, "the report is not a drop");
    }

    #[test]
    fn a_report_finds_room_in_a_full_buffer() {
        let Setup { buffer, permit, attempts, written } = Setup::new();
        let full = vec![b'\n'; BYTES_MAX];
        buffer.push(b"first\n");
        attempts.recv_timeout(PATIENCE).unwrap();
        buffer.push(&full);
        assert_eq!(buffer.dropped(), 1);
        // The room is taken again while the first write succeeds.
        buffer.push(&full[6..]);
        permit.send(Ok(())).unwrap();
        attempts.recv_timeout(PATIENCE).unwrap();
        drop(permit);
        assert!(buffer.flush(PATIENCE));
        assert!(String::from_utf8(written.lock().unwrap().clone()).unwrap().ends_with("dropped 1\n"));
    }

    #[test]
    fn a_failed_write_counts_its_records_and_the_next_one_reports_them() {
        let setup = Setup::new();
        setup.permit.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
        setup.buffer.push(b"lost\nlost\n");
        assert!(setup.buffer.flush(PATIENCE));
        assert_eq!((setup.buffer.dropped(), setup.written().as_str()), (2, ""));
        setup.permit.send(Ok(())).unwrap();
        setup.permit.send(Ok(())).unwrap();
        setup.buffer.push(b"next\n");
        assert!(setup.buffer.flush(PATIENCE));
        assert_eq!(setup.written(), "next\ndropped 2\n");
    }

    #[test]
    fn an_output_that_would_block_is_tried_again() {
        let setup = Setup::new();
        for result in [Err(ErrorKind::WouldBlock.into()), Err(ErrorKind::Interrupted.into()), Ok(())] {
            setup.permit.send(result).unwrap();
        }
        setup.buffer.push(b"record\n");
        assert!(setup.buffer.flush(PATIENCE));
        assert_eq!((setup.buffer.dropped(), setup.written().as_str()), (0, "record\n"));
    }
}
