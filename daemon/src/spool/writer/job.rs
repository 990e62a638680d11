//! What a writer is asked for, and what it says.

use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use crate::spool::entry::{Head, Outcome, Progress};
use crate::spool::lane::Pair;
use crate::spool::outcomes::OUTCOME_BYTES;
use crate::spool::part::Sealed;
use crate::spool::segment::{Extent, Location, SegmentId};
use crate::spool::store::{AppendError, Entry, Merge, Merged};

/// Requests to the writer.
pub type Jobs<T> = Sender<Job<T>>;

/// A request to the writer. What waits here is bounded by the sessions and the deliveries that
/// there are, each of which has asked for one thing at most, and by one portion of each kind of bulk work.
#[derive(Debug)]
pub enum Job<T> {
    /// Take a mail over.
    Append(Box<Append<T>>),
    /// Take over a mail that is on disk already.
    Adopt(Adoption),
    /// Note what became of a mail.
    Note(Pair, Outcome),
    /// Say what there is to read of a segment.
    Extent {
        /// The segment.
        segment: SegmentId,
        /// Where the answer goes.
        reply: oneshot::Sender<Extent>,
    },
    /// Reserve room for the outcomes of so many pairs of mail and destination in a segment of a process before.
    ExpectOutcomes(SegmentId, u64),
    /// Remove a segment, all mails of which have met their end, unless mails were written behind `end`
    /// meanwhile.
    Retire {
        /// The segment.
        segment: SegmentId,
        /// Where its last mail ended.
        end: Option<u64>,
    },
    /// Set a segment aside of which some is damaged and nothing else waits.
    SetAside(SegmentId),
    /// Copy what is left of a segment, none of which is under way, and remove it. One at a time.
    Compact {
        /// The segment.
        segment: SegmentId,
        /// Where the copies are sent as they are read.
        jobs: Jobs<T>,
    },
    /// Write messages that are on disk elsewhere already: bulk work, which stands back behind new messages.
    Bulk(BulkAppend),
    /// There is nothing more to copy: remove the segment, if all was.
    EndCompaction {
        /// The segment.
        segment: SegmentId,
        /// Whether all that waits in it was copied.
        all: bool,
    },
    /// The outcomes of a segment were merged, unless that failed.
    EndMerge(Merge, Option<Merged>),
    /// The clock was corrected by so many milliseconds.
    CorrectClock(i64),
    /// Write what was asked for so far, and end.
    Stop,
}

/// A mail to be taken over.
#[derive(Debug)]
pub struct Append<T> {
    /// What is written of it.
    pub entry: Entry,
    /// The names of its destinations.
    pub routes: Vec<String>,
    /// What is given back with it once it is written.
    pub rest: T,
    /// When its lifetime begins, in milliseconds since 1970.
    pub since_ms: u64,
    /// Told once it is on disk for good.
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

/// A mail on disk to be taken over.
#[derive(Debug)]
pub struct Adoption {
    /// Its file.
    pub sealed: Sealed,
    /// The mail's id.
    pub id: String,
    /// The names of its destinations.
    pub routes: Vec<String>,
    /// When its lifetime begins, in milliseconds since 1970.
    pub since_ms: u64,
    /// Told once it is in the spool for good.
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

/// Messages that are copied into the spool together.
#[derive(Debug)]
pub struct BulkAppend {
    /// Where they come from.
    pub origin: Origin,
    /// The messages.
    pub messages: Vec<BulkMessage>,
    /// Told of each message whether it was written.
    pub reply: oneshot::Sender<Vec<Result<(), AppendError>>>,
}

/// One of them.
#[derive(Debug)]
pub struct BulkMessage {
    /// What is written of it.
    pub entry: Entry,
    /// The same, for those who deliver it.
    pub head: Head,
    /// The pairs that this is a copy of, where it is compaction that copies.
    pub replaces: Vec<Pair>,
    /// Bytes that each of them counted for.
    pub replaces_bytes: u64,
}

/// Where copied messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The segment that is being compacted.
    Compaction,
    /// Dead letters that are sent on their way again.
    Replay,
}

/// A mail that is on disk.
#[derive(Debug)]
pub struct Spooled<T> {
    /// Where.
    pub at: Location,
    /// The mail's id, where the log may need it.
    pub id: Option<String>,
    /// Bytes that it counts for at each of its destinations: see [`share_bytes`].
    pub share_bytes: u64,
    /// Where its entry ends in the segment.
    pub end: u64,
    /// Bytes that it counted for before at each destination, if it was copied.
    pub replaces_bytes: u64,
    /// When its lifetime began, in milliseconds since 1970.
    pub since_ms: u64,
    /// Its destinations: the name of each and where the delivery stands.
    pub destinations: Vec<(String, Progress)>,
    /// Its content and what came with it, where they are still in memory.
    pub mail: Option<(Vec<u8>, T)>,
}

/// What the writer says.
#[derive(Debug)]
pub enum Said<T> {
    /// These were taken over.
    Spooled(Vec<Spooled<T>>),
    /// What became of messages that were to become dead letters.
    DeadLettered(Vec<(Pair, DeadLettered)>),
    /// A segment was removed, or not.
    Retired(SegmentId, bool),
    /// These were copied to where they are now.
    Copied(Vec<Spooled<T>>),
    /// What was left of a segment was copied; the segment is still there if it could not be all.
    Compacted {
        /// The segment.
        segment: SegmentId,
        /// How many mails were.
        mails: usize,
        /// Whether the segment has gone.
        gone: bool,
    },
}

/// What became of a message that was to become a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLettered {
    /// It is one.
    Kept,
    /// The disk failed. It waits on.
    Failed,
    /// The process ends before its turn. It waits on.
    Postponed,
    /// What is known of it is damaged. Its segment has to be set aside.
    Unreadable,
}

/// Bytes of the disk that a message counts for at each of its destinations: its part of the entry, and its outcomes.
#[must_use]
pub fn share_bytes(entry_bytes: u64, destinations: usize) -> u64 {
    entry_bytes / (destinations.max(1) as u64) + OUTCOME_BYTES
}

impl<T> Spooled<T> {
    /// One that is on disk, and in memory no longer.
    pub(super) fn copy(at: Location, message: BulkMessage) -> Self {
        let BulkMessage { entry, head, replaces_bytes, .. } = message;
        let since_ms = head.since_ms();
        let share_bytes = share_bytes(entry.bytes(), head.destinations.len());
        let destinations =
            head.destinations.into_iter().map(|target| (target.route, target.progress)).collect();
        let end = at.offset + entry.bytes();
        Self { at, id: None, share_bytes, end, replaces_bytes, since_ms, destinations, mail: None }
    }
}
