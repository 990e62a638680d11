//! Outcome records: what became of a message at each of its destinations, as bytes and folded into one fate. Pure.
//!
//! Folding does not depend on the order of the records: an end beats a deferral, and of two deferrals the one with more
//! failures is the later one. So files that hold the same records twice, as while they are merged, say the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::entry::{Mark, Outcome, Progress, Subject};

/// Bytes before what an outcome says.
pub const OUTCOME_HEADER_BYTES: usize = 12;

/// Failures of one delivery that are kept: what a person looks at to see what is the matter.
pub const HISTORY_MAX: usize = 8;

/// Bytes that all outcomes of one message at one destination take once they are merged, at most: 143 bytes of numbers
/// for [`HISTORY_MAX`] failures, and [`REASONS_BYTES_MAX`].
pub const OUTCOME_BYTES: u64 = 384;

/// Bytes of one reason: longer ones are cut.
const REASON_BYTES_MAX: usize = 200;

/// Bytes of all different reasons of one message at one destination. A webhook that is away fails for the same reason
/// again and again, which is kept once.
const REASONS_BYTES_MAX: usize = 240;

/// Bytes that an outcome says, at most: its own numbers and reasons fit twice.
const SAYS_BYTES_MAX: usize = 768;

/// The length of a reason that is the same as the one of the next failure.
const SAME_REASON: u16 = u16::MAX;

/// One failed delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How many deliveries had failed then, this one included.
    pub failures: u32,
    /// When it failed, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why it failed.
    pub reason: Arc<str>,
}

/// Deliveries that failed, the last [`HISTORY_MAX`] of them, and when the next is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferrals {
    /// When the next delivery is due, in milliseconds since 1970.
    pub due_ms: u64,
    /// The failures, the oldest first; at least one.
    pub failures: Vec<Failure>,
}

impl Deferrals {
    /// Where the delivery stands: its last failure.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let last = self.failures.last();
        Progress {
            failures: last.map_or(0, |last| last.failures),
            due_ms: self.due_ms,
            at_ms: last.map_or(0, |last| last.at_ms),
            reason: last.map_or_else(String::new, |last| last.reason.as_ref().to_owned()),
        }
    }

    /// All failures as they are kept in a message's head. Only the last one has a due time.
    #[must_use]
    pub fn history(&self) -> Vec<Progress> {
        let earlier = self.failures.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let earlier = earlier.iter().map(|failure| Progress {
            failures: failure.failures,
            due_ms: 0,
            at_ms: failure.at_ms,
            reason: failure.reason.as_ref().to_owned(),
        });
        earlier.chain(std::iter::once(self.progress())).collect()
    }

    fn last_key(&self) -> (u32, u64) {
        self.failures.last().map_or((0, 0), |last| (last.failures, last.at_ms))
    }

    /// Takes in the failures of another record about the same delivery, and keeps the last `keep` of all.
    fn join(&mut self, other: Self, keep: usize) {
        if other.last_key() > self.last_key() {
            self.due_ms = other.due_ms;
        }
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| (failure.failures, failure.at_ms));
        self.failures.dedup_by_key(|failure| (failure.failures, failure.at_ms));
        self.failures.drain(..self.failures.len().saturating_sub(keep));
    }
}

/// What all outcomes of a message at one destination come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It has met its end: never [`Outcome::Deferred`].
    Ended(Outcome),
    /// It goes on.
    Deferred(Deferrals),
}

impl Fate {
    /// The fate by one outcome alone; `keep` makes its reason one that is kept.
    fn of(outcome: &Outcome, keep: impl FnOnce(&str) -> Arc<str>) -> Self {
        match outcome {
            Outcome::Deferred(progress) => {
                let reason = keep(&progress.reason);
                let failure = Failure { failures: progress.failures, at_ms: progress.at_ms, reason };
                Self::Deferred(Deferrals { due_ms: progress.due_ms, failures: vec![failure] })
            }
            end => Self::Ended(end.clone()),
        }
    }
}

/// The fates of a segment's messages.
#[derive(Debug)]
pub struct Fates {
    by_subject: HashMap<Subject, Fate>,
    /// Failures that are kept of each.
    keep: usize,
    /// The reasons, each once: thousands of messages fail for the same.
    reasons: HashSet<Arc<str>>,
}

impl Fates {
    /// No fates; of each delivery the last `keep` failures will be kept, one at least.
    #[must_use]
    pub fn keeping(keep: usize) -> Self {
        Self { by_subject: HashMap::new(), keep: keep.max(1), reasons: HashSet::new() }
    }

    /// Folds an outcome in.
    pub fn add(&mut self, subject: Subject, outcome: &Outcome) {
        let fate = Fate::of(outcome, |reason| self.reason(reason));
        self.join(subject, fate);
    }

    fn reason(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.reasons.get(text) {
            return Arc::clone(known);
        }
        let reason: Arc<str> = Arc::from(text);
        self.reasons.insert(Arc::clone(&reason));
        reason
    }

    fn join(&mut self, subject: Subject, mut fate: Fate) {
        if let Fate::Deferred(deferrals) = &mut fate {
            let surplus = deferrals.failures.len().saturating_sub(self.keep);
            deferrals.failures.drain(..surplus);
        }
        match (self.by_subject.get_mut(&subject), fate) {
            (None, fate) => drop(self.by_subject.insert(subject, fate)),
            (Some(Fate::Ended(_)), _) => {}
            (Some(known), fate @ Fate::Ended(_)) => *known = fate,
            (Some(Fate::Deferred(known)), Fate::Deferred(other)) => known.join(other, self.keep),
        }
    }

    /// Takes the fate of one delivery out; `None` when there is no outcome.
    pub fn take(&mut self, subject: Subject) -> Option<Fate> {
        self.by_subject.remove(&subject)
    }

    /// Writes one record for each delivery.
    #[must_use]
    pub fn to_bytes(&self, mark: Mark) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (subject, fate) in &self.by_subject {
            write_fate(&mut bytes, mark, *subject, fate);
        }
        bytes
    }
}

/// Appends an outcome as it is written.
pub fn write_outcome(output: &mut Vec<u8>, mark: Mark, subject: Subject, outcome: &Outcome) {
    write_fate(output, mark, subject, &Fate::of(outcome, |reason| Arc::from(reason)));
}

fn write_fate(output: &mut Vec<u8>, mark: Mark, subject: Subject, fate: &Fate) {
    let mut says = Vec::with_capacity(128);
    says.push(kind(fate));
    says.extend_from_slice(&subject.offset.to_le_bytes());
    says.extend_from_slice(&subject.destination.to_le_bytes());
    if let Fate::Deferred(deferrals) = fate {
        says.extend_from_slice(&deferrals.due_ms.to_le_bytes());
        write_failures(&mut says, &deferrals.failures);
    }
    let length = u32::try_from(says.len()).unwrap_or(u32::MAX).to_le_bytes();
    output.extend_from_slice(&mark.0[..4]);
    output.extend_from_slice(&length);
    output.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&length), &says).to_le_bytes());
    output.extend_from_slice(&says);
}

/// Writes the last failures, the newest first, whose reason has the first claim on the room.
fn write_failures(says: &mut Vec<u8>, failures: &[Failure]) {
    let mut room = REASONS_BYTES_MAX;
    let mut newer: Option<&str> = None;
    for failure in failures.iter().rev().take(HISTORY_MAX) {
        says.extend_from_slice(&failure.failures.to_le_bytes());
        says.extend_from_slice(&failure.at_ms.to_le_bytes());
        let reason = &failure.reason[..failure.reason.floor_char_boundary(REASON_BYTES_MAX)];
        if newer.replace(reason) == Some(reason) {
            says.extend_from_slice(&SAME_REASON.to_le_bytes());
            continue;
        }
        let reason = &reason[..reason.floor_char_boundary(room)];
        room -= reason.len();
        says.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(0).to_le_bytes());
        says.extend_from_slice(reason.as_bytes());
    }
}

fn kind(fate: &Fate) -> u8 {
    match fate {
        Fate::Ended(Outcome::Delivered) => 1,
        Fate::Deferred(_) | Fate::Ended(Outcome::Deferred(_)) => 2,
        Fate::Ended(Outcome::Dead) => 3,
        Fate::Ended(Outcome::Discarded) => 4,
        Fate::Ended(Outcome::Moved) => 5,
        Fate::Ended(Outcome::Unreadable) => 6,
    }
}

impl Fates {
    /// Reads records, those of which `wanted` says so, and says how many bytes were read and how many of them are
    /// damaged. Unless these bytes are the last (`at_end`), a record that is not whole is left for the next ones.
    pub fn read(
        &mut self,
        bytes: &[u8],
        mark: Mark,
        at_end: bool,
        wanted: impl Fn(Subject) -> bool,
    ) -> (usize, usize) {
        let (mut damaged, mut rest) = (0, bytes);
        while !rest.is_empty() {
            match self.read_one(rest, mark, &wanted) {
                Read::Whole(length) => rest = &rest[length..],
                Read::Short if !at_end => break,
                read => {
                    let next = memchr::memmem::find(&rest[1..], &mark.0[..4]).map(|found| found + 1);
                    if next.is_none() && matches!(read, Read::Short) {
                        // A crash in the middle of a write, which costs a second delivery and no more.
                        rest = &[];
                        break;
                    }
                    // The next mark may begin at the very end.
                    let kept = if at_end { 0 } else { rest.len().min(3) };
                    let next = next.unwrap_or(rest.len() - kept);
                    if next == 0 {
                        break;
                    }
                    damaged += next;
                    rest = &rest[next..];
                }
            }
        }
        (bytes.len() - rest.len(), damaged)
    }

    fn read_one(&mut self, bytes: &[u8], mark: Mark, wanted: &impl Fn(Subject) -> bool) -> Read {
        let begins = bytes.len().min(4);
        if bytes[..begins] != mark.0[..begins] {
            return Read::Damaged;
        }
        let Some(header) = bytes.get(..OUTCOME_HEADER_BYTES) else { return Read::Short };
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > SAYS_BYTES_MAX {
            return Read::Damaged;
        }
        let Some(says) = bytes.get(OUTCOME_HEADER_BYTES..OUTCOME_HEADER_BYTES + length) else {
            return Read::Short;
        };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&header[4..8]), says);
        if sum.to_le_bytes() != header[8..12] {
            return Read::Damaged;
        }
        let Some((subject, fate)) = self.parse(says) else { return Read::Damaged };
        if wanted(subject) {
            self.join(subject, fate);
        }
        Read::Whole(OUTCOME_HEADER_BYTES + length)
    }

    fn parse(&mut self, says: &[u8]) -> Option<(Subject, Fate)> {
        let (kind, rest) = says.split_first()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (destination, rest) = rest.split_first_chunk()?;
        let subject =
            Subject { offset: u64::from_le_bytes(*offset), destination: u16::from_le_bytes(*destination) };
        let ended = |outcome| Some((subject, Fate::Ended(outcome)));
        match kind {
            1 => ended(Outcome::Delivered),
            2 => {
                let (due_ms, rest) = rest.split_first_chunk()?;
                let failures = self.parse_failures(rest)?;
                let due_ms = u64::from_le_bytes(*due_ms);
                Some((subject, Fate::Deferred(Deferrals { due_ms, failures })))
            }
            3 => ended(Outcome::Dead),
            4 => ended(Outcome::Discarded),
            5 => ended(Outcome::Moved),
            6 => ended(Outcome::Unreadable),
            _ => None,
        }
    }

    fn parse_failures(&mut self, mut rest: &[u8]) -> Option<Vec<Failure>> {
        let mut failures: Vec<Failure> = Vec::new();
        while !rest.is_empty() {
            let (count, after) = rest.split_first_chunk()?;
            let (at_ms, after) = after.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let reason = match u16::from_le_bytes(*length) {
                SAME_REASON => (Arc::clone(&failures.last()?.reason), after),
                length => {
                    let (reason, after) = after.split_at_checked(usize::from(length))?;
                    (self.reason(&String::from_utf8_lossy(reason)), after)
                }
            };
            rest = reason.1;
            let failures_then = u32::from_le_bytes(*count);
            let at_ms = u64::from_le_bytes(*at_ms);
            failures.push(Failure { failures: failures_then, at_ms, reason: reason.0 });
        }
        failures.reverse();
        (!failures.is_empty()).then_some(failures)
    }
}

/// What was read of one record.
enum Read {
    /// All of it: so many bytes.
    Whole(usize),
    /// Its beginning.
    Short,
    /// Something else.
    Damaged,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: Mark = Mark(*b"0123456789abcdef");

    fn progress(failures: u32, reason: &str) -> Progress {
        let at_ms = 1_600_000_000_000 + u64::from(failures);
        Progress { failures, due_ms: at_ms + 60_000, at_ms, reason: reason.to_owned() }
    }

    fn subject(offset: u64) -> Subject {
        Subject { offset, destination: u16::try_from(offset % 7).unwrap() }
    }

    fn some_outcomes() -> Vec<(Subject, Outcome)> {
        let outcomes = [
            Outcome::Delivered,
            Outcome::Deferred(progress(7, "the webhook answered 503")),
            Outcome::Dead,
            Outcome::Discarded,
            Outcome::Moved,
            Outcome::Unreadable,
        ];
        (0..).map(|n| subject(n * 1_000)).zip(outcomes).collect()
    }

    fn written(outcomes: &[(Subject, Outcome)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        outcomes.iter().for_each(|(subject, outcome)| write_outcome(&mut bytes, MARK, *subject, outcome));
        bytes
    }

    fn read(bytes: &[u8]) -> (HashMap<Subject, Fate>, usize) {
        let mut fates = Fates::keeping(HISTORY_MAX);
        let (read, damaged) = fates.read(bytes, MARK, true, |_| true);
        assert_eq!(read, bytes.len());
        (fates.by_subject, damaged)
    }

    #[test]
    fn damaged_outcome_costs_itself_alone() {
        let outcomes = some_outcomes();
        let bytes = written(&outcomes);
        let (all, damaged) = read(&bytes);
        assert_eq!((all.len(), damaged), (outcomes.len(), 0));
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            let (fates, _) = read(&broken);
            assert_eq!(fates.len(), outcomes.len() - 1, "byte {at}");
            assert!(fates.iter().all(|(subject, fate)| all.get(subject) == Some(fate)), "byte {at}");
        }
        for length in 0..bytes.len() {
            let (fates, damaged) = read(&bytes[..length]);
            assert!(damaged == 0 && fates.len() <= all.len(), "cut at {length}");
            assert!(fates.iter().all(|(subject, fate)| all.get(subject) == Some(fate)), "cut at {length}");
        }
    }

    #[test]
    fn merged_outcomes_keep_the_last_failures_within_their_bound() {
        let reasons = ["short", &"\u{fc}".repeat(10_000), &"x".repeat(10_000)];
        for pattern in [[0, 0, 0], [0, 1, 2], [1, 1, 2], [2, 1, 1]] {
            let mut fates = Fates::keeping(HISTORY_MAX);
            for failures in 1..=30u32 {
                let reason = reasons[pattern[failures as usize % 3]];
                fates.add(subject(1), &Outcome::Deferred(progress(failures, reason)));
            }
            let bytes = fates.to_bytes(MARK);
            assert!(bytes.len() as u64 <= OUTCOME_BYTES, "{} bytes", bytes.len());
            let (mut read, damaged) = read(&bytes);
            let Some(Fate::Deferred(deferrals)) = read.remove(&subject(1)) else { panic!("no deferrals") };
            assert_eq!(damaged, 0);
            assert_eq!(deferrals.due_ms, progress(30, "").due_ms);
            let counts: Vec<u32> = deferrals.failures.iter().map(|failure| failure.failures).collect();
            assert_eq!(counts, (23..=30).collect::<Vec<_>>());
            let newest = reasons[pattern[0]];
            assert!(newest.starts_with(deferrals.failures[7].reason.as_ref()));
            assert!(deferrals.failures[7].reason.len() >= newest.len().min(REASON_BYTES_MAX) - 1);
        }
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            1 => Just(Outcome::Delivered),
            1 => Just(Outcome::Dead),
            8 => (1u32..40, prop::sample::select(vec!["a", "b"]))
                .prop_map(|(failures, reason)| Outcome::Deferred(progress(failures, reason))),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..300) {
            let at = at.min(bytes.len());
            bytes.splice(at..at, written(&some_outcomes()));
            let (fates, _) = read(&bytes);
            prop_assert!(fates.len() >= some_outcomes().len());
        }

        /// However the bytes are cut into pieces, the same is read.
        #[test]
        fn records_are_read_across_pieces(pieces in prop::collection::vec(1usize..200, 1..20), damage in 0usize..600) {
            let mut bytes = written(&some_outcomes());
            if let Some(byte) = bytes.get_mut(damage) {
                *byte ^= 1;
            }
            let mut fates = Fates::keeping(HISTORY_MAX);
            let (mut held, mut rest, mut pieces) = (Vec::new(), &bytes[..], pieces.into_iter());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(pieces.next().unwrap_or(rest.len()).min(rest.len()));
                rest = after;
                held.extend_from_slice(piece);
                let (read, _) = fates.read(&held, MARK, rest.is_empty(), |_| true);
                held.drain(..read);
            }
            prop_assert_eq!(&fates.by_subject, &read(&bytes).0);
        }

        /// What is read of records does not depend on their order, nor on merging some of them before.
        #[test]
        fn folding_does_not_depend_on_order(
            outcomes in prop::collection::vec((0u64..3, outcome()), 0..40),
            merged in 0usize..40,
            shuffled in any::<prop::sample::Index>(),
        ) {
            let mut outcomes: Vec<(Subject, Outcome)> =
                outcomes.into_iter().map(|(offset, outcome)| (subject(offset), outcome)).collect();
            // Of one failure there is one record.
            let mut seen = HashSet::new();
            outcomes.retain(|(subject, outcome)| match outcome {
                Outcome::Deferred(progress) => seen.insert((*subject, progress.failures)),
                _ => seen.insert((*subject, 0)),
            });
            let all = read(&written(&outcomes)).0;
            let (first, rest) = outcomes.split_at(merged.min(outcomes.len()));
            let mut fates = Fates::keeping(HISTORY_MAX);
            first.iter().for_each(|(subject, outcome)| fates.add(*subject, outcome));
            let mut bytes = written(rest);
            bytes.extend(fates.to_bytes(MARK));
            bytes.extend(written(first));
            prop_assert_eq!(&read(&bytes).0, &all);
            if !outcomes.is_empty() {
                let middle = shuffled.index(outcomes.len());
                outcomes.rotate_left(middle);
                outcomes.reverse();
                prop_assert_eq!(&read(&written(&outcomes)).0, &all);
            }
        }
    }
}
