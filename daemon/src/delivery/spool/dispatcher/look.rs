//! What of a segment has to be delivered.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;

use crate::spool::clock::in_millis;
use crate::spool::disk::Directory;
use crate::spool::entry::Progress;
use crate::spool::lane::{LaneId, Pair, Waiting};
use crate::spool::pace::WAIT_MAX;
use crate::spool::segment::{Damage, Extent, Location, scan};
use crate::spool::selector::Selector;
use crate::spool::writer::share_bytes;

use super::Held;

/// What a look at a segment has found.
pub(super) struct Look {
    pub(super) names: Vec<String>,
    /// Its mails that wait; their lane is an index of the names.
    pub(super) waiting: Vec<Waiting<Held>>,
    /// Those that the command chooses, each with its id.
    pub(super) chosen: Vec<(Waiting<Held>, String)>,
    /// Bytes of all its mails, with what is reserved for their outcomes.
    pub(super) bytes: u64,
    /// Pairs of mail and destination, those that have met their end among them.
    pub(super) pairs: u64,
    pub(super) damage: Damage,
}

impl Look {
    /// That of a segment without a mail.
    pub(super) fn nothing() -> Self {
        Self {
            names: Vec::new(),
            waiting: Vec::new(),
            chosen: Vec::new(),
            bytes: 0,
            pairs: 0,
            damage: Damage::default(),
        }
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
        look.damage = scan(disk, extent, |found| {
            let at = Location { segment: extent.segment, offset: found.offset };
            let destinations = found.states.len();
            let share_bytes = share_bytes(found.entry_bytes, destinations);
            look.pairs += destinations as u64;
            look.bytes += share_bytes * destinations as u64;
            let since_ms = found.head.since_ms().saturating_add_signed(extent.shift_ms);
            for (destination, target, progress) in found.pending() {
                let lane = *names.entry(target.route.clone()).or_insert_with(|| {
                    look.names.push(target.route.clone());
                    LaneId::try_from(look.names.len() - 1).unwrap_or(LaneId::MAX)
                });
                let pair = Pair { mail: at, destination };
                let times = Times { since_ms, shift_ms: extent.shift_ms, now_ms };
                let one = || Waiting { lane, ..waiting(pair, share_bytes, progress, times) };
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
    share_bytes: u64,
    since_ms: u64,
    destinations: Vec<(String, Progress)>,
    now_ms: u64,
) -> impl Iterator<Item = (Waiting<Held>, String)> {
    let times = Times { since_ms, shift_ms: 0, now_ms };
    destinations.into_iter().zip(0..).map(move |((name, progress), destination)| {
        (waiting(Pair { mail: at, destination }, share_bytes, &progress, times), name)
    })
}

/// The times of a message, and by how much those of its progress differ from the clock's.
#[derive(Debug, Clone, Copy)]
struct Times {
    since_ms: u64,
    shift_ms: i64,
    now_ms: u64,
}

/// A pair that waits. Times that no clock could have noted are corrected: a message is not from the future, and waits no
/// longer for its next delivery than any does.
fn waiting(pair: Pair, bytes: u64, progress: &Progress, times: Times) -> Waiting<Held> {
    let Times { since_ms, shift_ms, now_ms } = times;
    let since_ms = since_ms.min(now_ms);
    let due_ms = if progress.is_none() {
        // What was never tried is due since it is there.
        since_ms
    } else {
        progress.due_ms.saturating_add_signed(shift_ms).min(now_ms.saturating_add(in_millis(WAIT_MAX)))
    };
    Waiting { pair, lane: LaneId::MAX, since_ms, due_ms, failures: progress.failures, bytes, held: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(since_ms: u64, due_ms: Option<u64>, shift_ms: i64, now_ms: u64) -> (u64, u64) {
        let pair = Pair { mail: Location { segment: 1, offset: 28 }, destination: 0 };
        let progress = due_ms.map_or_else(Progress::default, |due_ms| Progress {
            failures: 3,
            due_ms,
            at_ms: 0,
            reason: String::new(),
        });
        let waiting = waiting(pair, 1, &progress, Times { since_ms, shift_ms, now_ms });
        (waiting.since_ms, waiting.due_ms)
    }

    #[test]
    fn message_from_the_future_is_due_at_once_and_starts_to_live_now() {
        let hour = 3_600_000;
        let now_ms = 100 * hour;
        assert_eq!(times(now_ms + 5 * hour, None, 0, now_ms), (now_ms, now_ms));
        assert_eq!(times(now_ms - hour, None, 0, now_ms), (now_ms - hour, now_ms - hour));
        // No wait is longer than an hour, whatever a clock that was wrong has noted.
        assert_eq!(times(now_ms - hour, Some(now_ms + 7 * hour), 0, now_ms).1, now_ms + hour);
        assert_eq!(times(now_ms - hour, Some(now_ms + 60_000), 0, now_ms).1, now_ms + 60_000);
        // The clock was set back by seven hours since that was noted.
        let shift_ms = -7 * 3_600_000;
        assert_eq!(times(0, Some(now_ms + 7 * hour + 60_000), shift_ms, now_ms).1, now_ms + 60_000);
    }
}
