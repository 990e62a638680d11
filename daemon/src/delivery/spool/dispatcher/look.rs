//! What of a segment has to be delivered.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use crate::spool::disk::Directory;
use crate::spool::entry::Progress;
use crate::spool::lane::{LaneId, Pair, Waiting};
use crate::spool::segment::{Extent, Location, scan};
use crate::spool::selector::Selector;

use super::Held;

/// What a look at a segment has found.
pub(super) struct Look {
    pub(super) names: Vec<String>,
    /// Its mails that wait; their lane is an index of the names.
    pub(super) waiting: Vec<Waiting<Held>>,
    /// Those that the command chooses, each with its id.
    pub(super) chosen: Vec<(Waiting<Held>, String)>,
    pub(super) bytes: u64,
    pub(super) damaged_bytes: u64,
}

impl Look {
    /// That of a segment without a mail.
    pub(super) fn nothing() -> Self {
        Self { names: Vec::new(), waiting: Vec::new(), chosen: Vec::new(), bytes: 0, damaged_bytes: 0 }
    }

    /// Reads a segment; `selector` chooses among the mails that wait.
    pub(super) fn at(
        disk: &Directory,
        extent: &Extent,
        selector: Option<&Selector>,
        now_ms: u64,
    ) -> io::Result<Self> {
        let mut look = Self::nothing();
        let mut names: HashMap<String, LaneId> = HashMap::new();
        look.damaged_bytes = scan(disk, extent, |found| {
            look.bytes += found.entry_bytes;
            let at = Location { segment: extent.segment, offset: found.offset };
            let pending = found.pending().count() as u64;
            let since_ms = found.head.since_ms();
            for (destination, target, progress) in found.pending() {
                let lane = *names.entry(target.route.clone()).or_insert_with(|| {
                    look.names.push(target.route.clone());
                    LaneId::try_from(look.names.len() - 1).unwrap_or(LaneId::MAX)
                });
                let (pair, share) = (Pair { mail: at, destination }, found.entry_bytes / pending);
                let one = || Waiting { lane, ..waiting(pair, share, since_ms, progress) };
                let chosen = selector
                    .is_some_and(|selector| selector.chooses_waiting(&found.head, target, progress, now_ms));
                look.chosen.extend(chosen.then(|| (one(), found.head.id.clone())));
                look.waiting.push(one());
            }
            ControlFlow::Continue(())
        })?;
        Ok(look)
    }
}

/// The pairs of a mail, each with the name of its destination.
pub(super) fn pairs(
    at: Location,
    bytes: u64,
    since_ms: u64,
    destinations: Vec<(String, Progress)>,
) -> impl Iterator<Item = (Waiting<Held>, String)> {
    let share = bytes / destinations.len().max(1) as u64;
    destinations.into_iter().zip(0..).map(move |((name, progress), destination)| {
        (waiting(Pair { mail: at, destination }, share, since_ms, &progress), name)
    })
}

fn waiting(pair: Pair, bytes: u64, since_ms: u64, progress: &Progress) -> Waiting<Held> {
    // What was never tried is due since it is there.
    let due_ms = if progress.is_none() { since_ms } else { progress.due_ms };
    Waiting { pair, lane: LaneId::MAX, since_ms, due_ms, failures: progress.failures, bytes, held: None }
}
