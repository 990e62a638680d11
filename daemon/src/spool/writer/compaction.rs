//! What is left of a sparse segment, to be copied. A thread of its own reads it, so that mail is taken meanwhile.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

use tokio::sync::oneshot;
use tracing::error;

use crate::spool::LOG_TARGET;
use crate::spool::disk::Disk;
use crate::spool::entry::{Head, Subject, Target};
use crate::spool::lane::Pair;
use crate::spool::segment::{Extent, Histories, Location, Mails, SegmentId, scan};
use crate::spool::store::{Entry, Room};

use super::{Job, Jobs};

/// Octets of copies that are written together, and synced together with mail that comes in: so few that it takes
/// hardly longer for them.
const COPIES_BYTES_MAX: u64 = 256 * 1024;

/// How much less of the processors the reading gets than everything else, where there is not enough: a tenth
/// (`nice(2)`).
const NICENESS: i32 = 10;

/// Mails that are copied together.
#[derive(Debug, Default)]
pub struct Copies {
    pub(super) entries: Vec<Entry>,
    /// Of each entry, what it is a copy of, and its head.
    pub(super) of: Vec<(Vec<Pair>, Head)>,
    bytes: u64,
}

impl Copies {
    fn add(&mut self, from: Vec<Pair>, head: Head, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push(entry);
        self.of.push((from, head));
    }
}

/// What was copied so far of the segment that is being compacted.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// What there are copies of.
    pub(super) from: Vec<Pair>,
    pub(super) mails: usize,
}

/// Has what waits in a segment read and sent to `jobs`, group by group; after the last comes [`Job::EndCompaction`],
/// whatever happens.
///
/// # Errors
/// When there can be no thread.
pub(super) fn begin<D: Disk, T: Send + 'static>(disk: D, extent: Extent, jobs: Jobs<T>) -> io::Result<()> {
    let mut end = End { jobs, segment: extent.segment, all: false };
    let read = move || {
        // On Linux that is the thread's own. Without it, all goes on a little slower.
        let _ = rustix::process::nice(NICENESS);
        match read(&disk, &extent, |copies| end.write(copies)) {
            Ok(all) => end.all = all,
            Err(error) => {
                error!(target: LOG_TARGET, segment = extent.segment, %error, "a segment cannot be compacted");
            }
        }
    };
    std::thread::Builder::new().name("compaction".to_owned()).spawn(read).map(drop)
}

/// Where copies are sent. That no more come is said when it is dropped.
struct End<T> {
    jobs: Jobs<T>,
    segment: SegmentId,
    /// Whether all that waits was copied.
    all: bool,
}

impl<T> End<T> {
    /// Has copies written; whether all of them were.
    fn write(&self, copies: Copies) -> bool {
        let (reply, written) = oneshot::channel();
        // A writer that has gone answers nothing.
        let _ = self.jobs.send(Job::Copy { copies, reply });
        written.blocking_recv().unwrap_or(false)
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::EndCompaction { segment: self.segment, all: self.all });
    }
}

/// Reads all mails that wait, and has copies written until one cannot be; whether it was all of them.
fn read<D: Disk>(disk: &D, extent: &Extent, mut write: impl FnMut(Copies) -> bool) -> io::Result<bool> {
    let mut left: Vec<(u64, Head, Vec<u16>)> = Vec::new();
    scan(disk, extent, |found| {
        let waiting: Vec<u16> = found.pending().map(|(destination, ..)| destination).collect();
        if !waiting.is_empty() {
            left.push((found.offset, found.head, waiting));
        }
        ControlFlow::Continue(())
    })?;
    let subject = |offset: u64, destination: &u16| Subject { offset, destination: *destination };
    let subjects: HashSet<Subject> = left
        .iter()
        .flat_map(|(offset, _, waiting)| waiting.iter().map(|destination| subject(*offset, destination)))
        .collect();
    let mut histories = Histories::read(disk, extent, |subject| subjects.contains(&subject))?;
    let mails = Mails::open(disk, extent.segment)?;
    let mut all = true;
    let mut copies = Copies::default();
    for (offset, mut head, waiting) in left {
        let targets = waiting.iter().filter_map(|destination| {
            let target = head.destinations.get(usize::from(*destination))?.clone();
            let mut history = histories.of(subject(offset, destination), &target);
            let progress = history.pop().unwrap_or_default();
            Some(Target { progress, history, ..target })
        });
        head.destinations = targets.collect();
        let loaded = mails.load(offset)?;
        if !loaded.intact {
            // A copy would have a sum that says it were not damaged.
            all = false;
            continue;
        }
        // What it is copied from goes.
        let entry = Entry { room: Room::Reserved, ..Entry::new(&head, loaded.content)? };
        let mail = Location { segment: extent.segment, offset };
        let from = waiting.iter().map(|destination| Pair { mail, destination: *destination });
        copies.add(from.collect(), head, entry);
        if copies.bytes >= COPIES_BYTES_MAX && !write(std::mem::take(&mut copies)) {
            return Ok(false);
        }
    }
    Ok(write(copies) && all)
}
