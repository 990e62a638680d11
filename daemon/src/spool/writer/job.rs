//! What a writer is asked for, and what it says.

use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use crate::spool::entry::{Death, Head, Outcome, Progress};
use crate::spool::lane::Pair;
use crate::spool::part::Sealed;
use crate::spool::segment::{Extent, Location, SegmentId};
use crate::spool::selector::Selector;
use crate::spool::store::{AppendError, Entry};

use super::compaction::Copies;

/// What asks the writer.
pub type Jobs<T> = Sender<Job<T>>;

/// What the writer is asked for. What waits here is bounded by the sessions and the deliveries that
/// there are: each has asked for one thing at most.
#[derive(Debug)]
pub enum Job<T> {
    /// Take a mail over.
    Append(Box<Append<T>>),
    /// Take over a mail that is on disk already.
    Adopt(Adoption),
    /// Note what became of a mail.
    Note(Pair, Outcome),
    /// Make a mail a dead letter.
    Bury(Burial),
    /// Say what there is to read of a segment.
    Extent(SegmentId),
    /// Remove a segment, all mails of which have met their end, unless mails were written behind `end`
    /// meanwhile.
    Retire {
        /// Which.
        segment: SegmentId,
        /// Where its last mail ended.
        end: Option<u64>,
    },
    /// Copy what is left of a segment, none of which is under way, and remove it. One at a time.
    Compact {
        /// Which.
        segment: SegmentId,
        /// Where the copies are sent as they are read.
        jobs: Jobs<T>,
    },
    /// Write copies.
    Copy {
        /// Of mails of the segment that is being compacted.
        copies: Copies,
        /// Told whether all of them were written.
        reply: oneshot::Sender<bool>,
    },
    /// There is nothing more to copy: remove the segment, if all was.
    EndCompaction {
        /// Which.
        segment: SegmentId,
        /// Whether all that waits in it was copied.
        all: bool,
    },
    /// Act on dead letters.
    Dead(DeadAction),
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
    /// The names of its destinations.
    pub routes: Vec<String>,
    /// When its lifetime begins, in milliseconds since 1970.
    pub since_ms: u64,
    /// Told once it is in the spool for good.
    pub reply: oneshot::Sender<Result<(), AppendError>>,
}

/// A mail to be made a dead letter.
#[derive(Debug)]
pub struct Burial {
    /// Which, and for which of its destinations.
    pub pair: Pair,
    /// Why.
    pub death: Death,
    /// Its last failure, if that was not noted.
    pub last: Option<Progress>,
}

/// What a person wants of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// They are delivered, now.
    Retry,
    /// They go.
    Discard,
}

/// Dead letters to be acted on.
#[derive(Debug)]
pub struct DeadAction {
    /// Which.
    pub selector: Selector,
    /// What is done to them.
    pub wish: Wish,
    /// Told how many there were.
    pub reply: oneshot::Sender<Result<u64, String>>,
}

/// A mail that is on disk.
#[derive(Debug)]
pub struct Spooled<T> {
    /// Where.
    pub at: Location,
    /// Octets of its entry.
    pub bytes: u64,
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
    /// There is so much to read of a segment.
    Extent(Extent),
    /// Whether mails became dead letters.
    Buried(Vec<(Pair, bool)>),
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

impl<T> Spooled<T> {
    /// One that is on disk, and in memory no longer.
    pub(super) fn copy(at: Location, entry: &Entry, head: Head) -> Self {
        let since_ms = head.since_ms();
        let destinations =
            head.destinations.into_iter().map(|target| (target.route, target.progress)).collect();
        Self { at, bytes: entry.bytes(), since_ms, destinations, mail: None }
    }
}
