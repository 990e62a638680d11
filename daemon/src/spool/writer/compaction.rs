//! What is left of a sparse segment, to be copied. A thread of its own reads it, so that mail is taken meanwhile.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

use tokio::sync::oneshot;
use tracing::error;

use crate::spool::LOG_TARGET;
use crate::spool::bulk::{self, PORTION_BYTES};
use crate::spool::disk::Disk;
use crate::spool::entry::{Head, Subject, Target};
use crate::spool::lane::Pair;
use crate::spool::segment::{Extent, Histories, Location, Mails, SegmentId, scan};
use crate::spool::store::{Entry, Room};

use super::job::{BulkAppend, BulkMessage, Origin, share_bytes};
use super::{Job, Jobs};

/// What was copied so far of the segment that is being compacted.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// What there are copies of.
    pub(super) from: Vec<Pair>,
    pub(super) mails: usize,
}

/// Has what waits in a segment read and sent to `jobs`, portion by portion; after the last comes
/// [`Job::EndCompaction`], whatever happens.
///
/// # Errors
/// When there can be no thread.
pub(super) fn begin<D: Disk, T: Send + 'static>(disk: D, extent: Extent, jobs: Jobs<T>) -> io::Result<()> {
    let mut end = End { jobs, segment: extent.segment, all: false };
    let read = move || match read(&disk, &extent, |copies| end.write(copies)) {
        Ok(all) => end.all = all,
        Err(error) => {
            error!(target: LOG_TARGET, segment = extent.segment, %error, "a segment cannot be compacted");
        }
    };
    bulk::spawn("compaction", read).map(drop)
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
    fn write(&self, messages: Vec<BulkMessage>) -> bool {
        let (reply, written) = oneshot::channel();
        // A writer that has gone answers nothing.
        let _ = self.jobs.send(Job::Bulk(BulkAppend { origin: Origin::Compaction, messages, reply }));
        written.blocking_recv().is_ok_and(|written| written.iter().all(Result::is_ok))
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::EndCompaction { segment: self.segment, all: self.all });
    }
}

/// Reads all mails that wait, and has copies written until one cannot be; whether it was all of them.
fn read<D: Disk>(
    disk: &D,
    extent: &Extent,
    mut write: impl FnMut(Vec<BulkMessage>) -> bool,
) -> io::Result<bool> {
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
    let (mut copies, mut bytes) = (Vec::new(), 0);
    for (offset, mut head, waiting) in left {
        let destinations = head.destinations.len();
        let targets = waiting.iter().filter_map(|destination| {
            let target = head.destinations.get(usize::from(*destination))?.clone();
            let mut history = histories.of(subject(offset, destination), &target);
            let mut progress = history.pop().unwrap_or_default();
            if !progress.is_none() {
                progress.due_ms = progress.due_ms.saturating_add_signed(extent.shift_ms);
            }
            Some(Target { progress, history, ..target })
        });
        head.destinations = targets.collect();
        if extent.shift_ms != 0 {
            head.lifetime_began_ms = Some(head.since_ms().saturating_add_signed(extent.shift_ms));
        }
        let loaded = mails.load(offset)?;
        if !loaded.intact {
            // A copy would have a sum that says it were not damaged.
            all = false;
            continue;
        }
        let replaces_bytes = share_bytes(loaded.entry_bytes, destinations);
        // What it is copied from goes.
        let entry = Entry { room: Room::Reserved, ..Entry::new(&head, loaded.content)? };
        let mail = Location { segment: extent.segment, offset };
        let replaces = waiting.iter().map(|destination| Pair { mail, destination: *destination }).collect();
        bytes += entry.bytes();
        copies.push(BulkMessage { entry, head, replaces, replaces_bytes });
        if bytes >= PORTION_BYTES {
            bytes = 0;
            if !write(std::mem::take(&mut copies)) {
                return Ok(false);
            }
        }
    }
    Ok((copies.is_empty() || write(copies)) && all)
}
