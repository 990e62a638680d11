//! The files of a spool, written by one writer.

mod corrections;
mod outcomes;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use self::outcomes::OutcomeFiles;
use self::usage::Sizes;
use super::clock::Corrections;
use super::disk::{Disk, DiskFile};
use super::entry::{
    FILE_HEADER_BYTES, Head, MAIL_HEADER_BYTES, MailHeader, Mark, Outcome, Subject, file_header,
};
use super::part::{Sealed, is_left_behind, random};
use super::segment::{Extent, FileKind, Location, SegmentId, damaged_file, mails_file, outcomes_file};

pub use self::outcomes::{Merge, Merged};
pub use self::usage::Usage;

/// Octets of a content that is copied so that it can be written together with its neighbours; a
/// larger one is written by itself.
const COPY_BYTES_MAX: usize = 64 * 1024;

/// Files with outcomes that are open at the same time.
const OPEN_FILES_MAX: usize = 16;

/// How large things may become.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets of all files together at which no mail is taken any more. What becomes of mails is
    /// written all the same.
    pub total_bytes: u64,
    /// Octets of a segment's mails; one mail alone may be larger.
    pub segment_bytes: u64,
    /// Bytes that are reserved for what becomes of each mail at each destination.
    pub outcome_bytes: u64,
}

/// A mail to be written.
#[derive(Debug)]
pub struct Entry {
    /// Its [`Head`], as JSON.
    pub head: Vec<u8>,
    /// How many destinations it has.
    pub destinations: usize,
    /// Its content.
    pub content: Vec<u8>,
    /// What it may fill.
    pub room: Room,
}

impl Entry {
    /// An entry for a mail that may fill what there is up to the bound.
    ///
    /// # Errors
    /// When there is no JSON for its head, which nothing is known to cause.
    pub fn new(head: &Head, content: Vec<u8>) -> io::Result<Self> {
        let (head, destinations) = (serde_json::to_vec(head)?, head.destinations.len());
        Ok(Self { head, destinations, content, room: Room::Bounded })
    }

    /// Octets of it in a segment.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (MAIL_HEADER_BYTES + self.head.len() + self.content.len()) as u64
    }
}

/// What a mail may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// What there is up to the bound.
    Bounded,
    /// More than that: it is a copy, and what it is copied from goes.
    Reserved,
}

/// Why a mail was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The spool has its size, or the disk is full.
    #[error("the spool is full")]
    Full,
    /// The disk failed.
    #[error("the spool cannot be written: {0}")]
    Failed(String),
}

impl From<&io::Error> for AppendError {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The writer's view of a spool.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: D,
    limits: Limits,
    next: SegmentId,
    sizes: Sizes,
    active: Option<Active<D::File>>,
    /// Whether files with outcomes may have been made since the directory was synced, by the process
    /// before, too.
    made: bool,
    outcomes: BTreeMap<SegmentId, OutcomeFiles<D::File>>,
    /// Segments whose files could not be removed, and are tried again.
    unremoved: BTreeSet<SegmentId>,
    corrections: Corrections,
    /// Whether the disk has them as they are.
    corrections_written: bool,
}

/// The segment that mails are appended to.
#[derive(Debug)]
struct Active<F> {
    segment: SegmentId,
    mark: Mark,
    file: F,
    /// Octets that are on disk for good.
    durable: u64,
}

impl<D: Disk> Store<D> {
    /// Opens what is in `disk`. Nothing but names and sizes is read, so it takes no time worth
    /// mentioning, however much there is.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn open(disk: D, limits: Limits) -> io::Result<Self> {
        let mut sizes = Sizes::new(limits.outcome_bytes);
        let mut files: BTreeMap<SegmentId, BTreeMap<u32, u64>> = BTreeMap::new();
        for (name, bytes) in disk.list()? {
            match FileKind::of(&name) {
                Some(FileKind::Mails(segment)) => sizes.add_mails(segment, bytes, 0),
                Some(FileKind::Damaged(segment)) => sizes.add_aside(segment, bytes),
                Some(FileKind::Outcomes(segment, generation)) => {
                    files.entry(segment).or_default().insert(generation, bytes);
                }
                // Its mail was never acknowledged. That it stays costs only space.
                None if is_left_behind(&name) => drop(disk.remove(&name)),
                None => {}
            }
        }
        let aside = sizes.aside();
        // A number is never used twice, not even that of a segment of which only outcomes are left.
        let used = sizes.segments().chain(aside.iter().copied()).chain(files.keys().copied());
        let next = used.max().map_or(1, |newest| newest + 1);
        let mut outcomes = BTreeMap::new();
        for (segment, files) in files {
            let bytes = files.values().sum();
            if sizes.has(segment) {
                sizes.set_outcomes(segment, bytes);
                outcomes.insert(segment, OutcomeFiles::new(files));
            } else if aside.contains(&segment) {
                sizes.add_aside(segment, bytes);
            } else {
                // Its mails were removed first. That it stays costs only space.
                files.keys().for_each(|generation| drop(disk.remove(&outcomes_file(segment, *generation))));
            }
        }
        let mut corrections = corrections::read(&disk);
        let next = next.max(corrections.next_segment());
        corrections.prune(sizes.segments().next().unwrap_or(next));
        Ok(Self {
            disk,
            limits,
            next,
            sizes,
            active: None,
            made: true,
            outcomes,
            unremoved: BTreeSet::new(),
            corrections,
            corrections_written: true,
        })
    }

    /// The directory.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// All segments, the oldest first.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.sizes.segments()
    }

    /// All segments with the bytes of their mails, the oldest first.
    pub fn segment_bytes(&self) -> impl Iterator<Item = (SegmentId, u64)> {
        self.sizes.mail_bytes()
    }

    /// The segment that is still written to.
    #[must_use]
    pub fn active(&self) -> Option<SegmentId> {
        self.active.as_ref().map(|active| active.segment)
    }

    /// Octets of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sizes.files()
    }

    /// Bytes of all files and those reserved for outcomes, for others, whatever they become.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.sizes.charged().clone()
    }

    /// Bytes that count against the bound.
    fn charged(&self) -> u64 {
        self.sizes.charged().bytes()
    }

    /// How many segments are set aside because some of them is damaged.
    #[must_use]
    pub fn segments_aside(&self) -> usize {
        self.sizes.aside().len()
    }

    /// Notes for how many pairs of mail and destination a segment of a process before needs outcomes.
    pub fn expect_outcomes(&mut self, segment: SegmentId, pairs: u64) {
        self.sizes.set_pairs(segment, pairs);
    }

    /// What there is to read of a segment, as of now.
    #[must_use]
    pub fn extent(&self, segment: SegmentId) -> Extent {
        let active = self.active.as_ref().filter(|active| active.segment == segment);
        let unwritten = self.outcomes.get(&segment).map(|outcomes| outcomes.unwritten().to_vec());
        Extent {
            segment,
            end: active.map(|active| active.durable),
            unwritten: unwritten.unwrap_or_default(),
            shift_ms: self.corrections.of(segment),
        }
    }

    /// Notes that the clock was corrected: what comes next goes into a new segment, whose times are those of the
    /// corrected clock, and the times in older ones are read as if they had been noted by it.
    ///
    /// # Errors
    /// What the system says; the correction holds until the process ends, and [`Self::write_corrections`] tries again.
    pub fn correct_clock(&mut self, by_ms: i64) -> io::Result<()> {
        self.active = None;
        self.corrections.add(self.next, by_ms);
        self.corrections_written = false;
        self.write_corrections()
    }

    /// Writes corrections of the clock that the disk does not have.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_corrections(&mut self) -> io::Result<()> {
        if !self.corrections_written {
            self.corrections.prune(self.sizes.segments().next().unwrap_or(self.next));
            corrections::write(&self.disk, &self.corrections)?;
            self.corrections_written = true;
        }
        Ok(())
    }

    /// Where the last mail of a segment ends.
    ///
    /// # Errors
    /// What the system says.
    pub fn end(&self, segment: SegmentId) -> io::Result<u64> {
        match self.active.as_ref().filter(|active| active.segment == segment) {
            Some(active) => Ok(active.durable),
            None => self.disk.open(&mails_file(segment))?.length(),
        }
    }

    /// Writes mails. Those whose result is a location are on disk for good: they survive a loss of
    /// power. Of the others none will be found again, unless the disk fails in this very moment.
    pub fn append(&mut self, entries: &[Entry]) -> Vec<Result<Location, AppendError>> {
        let mut results = Vec::with_capacity(entries.len());
        while results.len() < entries.len() {
            let rest = &entries[results.len()..];
            match self.ready_for(&rest[0]) {
                Ok(start) => {
                    let taken = self.fitting(rest, start);
                    results.extend(self.write(start, &rest[..taken]));
                }
                Err(error) => results.push(Err(error)),
            }
        }
        results
    }

    /// Takes a sealed file in as a segment, with a mail to so many destinations. A location means that it
    /// is there for good; otherwise it has gone.
    ///
    /// # Errors
    /// Why it was not taken in.
    pub fn adopt(&mut self, sealed: &Sealed, destinations: usize) -> Result<Location, AppendError> {
        let adopted = self.try_adopt(sealed, destinations);
        if adopted.is_err() {
            // That it stays costs only space: it is removed at the next start.
            let _ = self.disk.remove(&sealed.name);
        }
        adopted
    }

    fn try_adopt(&mut self, sealed: &Sealed, destinations: usize) -> Result<Location, AppendError> {
        let outcome_bytes = self.limits.outcome_bytes.saturating_mul(destinations as u64);
        if self.charged() + sealed.bytes + outcome_bytes > self.limits.total_bytes {
            return Err(AppendError::Full);
        }
        // Segments are written to in the order of their numbers.
        self.active = None;
        let segment = self.next;
        self.next += 1;
        let name = mails_file(segment);
        self.disk.rename(&sealed.name, &name).map_err(|error| AppendError::from(&error))?;
        if let Err(error) = self.disk.sync() {
            let _ = self.disk.remove(&name);
            return Err(AppendError::from(&error));
        }
        self.sizes.add_mails(segment, sealed.bytes, destinations as u64);
        Ok(Location { segment, offset: FILE_HEADER_BYTES as u64 })
    }

    /// Makes an active segment with room for `entry`; returns how many octets it has.
    fn ready_for(&mut self, entry: &Entry) -> Result<u64, AppendError> {
        let (file_bytes, all_bytes) = self.needed(entry);
        if entry.room == Room::Bounded && self.charged() + all_bytes > self.limits.total_bytes {
            return Err(AppendError::Full);
        }
        let has_room = |active: &Active<D::File>| {
            active.durable == FILE_HEADER_BYTES as u64
                || active.durable + file_bytes <= self.limits.segment_bytes
        };
        if let Some(active) = self.active.as_ref().filter(|active| has_room(active)) {
            return Ok(active.durable);
        }
        let active = self.begin_segment().map_err(|error| AppendError::from(&error))?;
        Ok(self.active.insert(active).durable)
    }

    /// How many of `entries` fit into the active segment, which has `bytes`; at least one.
    fn fitting(&self, entries: &[Entry], bytes: u64) -> usize {
        let (mut in_file, mut in_all) = (bytes, self.charged());
        let fits = |entry: &&Entry| {
            let (file_bytes, all_bytes) = self.needed(entry);
            in_file += file_bytes;
            in_all += all_bytes;
            in_file <= self.limits.segment_bytes
                && (entry.room == Room::Reserved || in_all <= self.limits.total_bytes)
        };
        entries.iter().take_while(fits).count().max(1)
    }

    /// Writes entries behind the first `start` octets of the active segment, all or none.
    fn write(&mut self, start: u64, entries: &[Entry]) -> Vec<Result<Location, AppendError>> {
        let Some(active) = &mut self.active else {
            return vec![Err(AppendError::Failed("there is no segment".to_owned())); entries.len()];
        };
        let written = write_entries(active, start, entries);
        let durable = match &written {
            Ok((_, end)) => active.file.sync().map(|()| *end),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        match (written, durable) {
            (Ok((offsets, _)), Ok(end)) => {
                active.durable = end;
                let pairs = entries.iter().map(|entry| entry.destinations as u64).sum();
                self.sizes.add_mails(active.segment, end - start, pairs);
                let segment = active.segment;
                offsets.into_iter().map(|offset| Ok(Location { segment, offset })).collect()
            }
            (written, durable) => {
                let error = durable.err().unwrap_or_else(|| io::ErrorKind::Other.into());
                let refused = AppendError::from(&error);
                // A file whose sync failed is not trusted again: nothing is known of what it holds
                // behind its durable part, and a later success would say nothing about it.
                let trusted = written.is_err() && refused == AppendError::Full;
                if active.file.cut(start).is_err() || !trusted {
                    self.active = None;
                }
                vec![Err(refused); entries.len()]
            }
        }
    }

    fn begin_segment(&mut self) -> io::Result<Active<D::File>> {
        let segment = self.next;
        let mark = Mark(random()?);
        self.next += 1;
        let name = mails_file(segment);
        let file = self.disk.create(&name)?;
        let made =
            file.write_at(&file_header(mark), 0).and_then(|()| file.sync()).and_then(|()| self.disk.sync());
        if let Err(error) = made {
            // An empty segment that stays costs only space.
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        self.sizes.add_mails(segment, FILE_HEADER_BYTES as u64, 0);
        Ok(Active { segment, mark, file, durable: FILE_HEADER_BYTES as u64 })
    }

    /// Octets of an entry in the segment, and with what becomes of the mail.
    fn needed(&self, entry: &Entry) -> (u64, u64) {
        let file_bytes = entry.bytes();
        (file_bytes, file_bytes + self.limits.outcome_bytes.saturating_mul(entry.destinations as u64))
    }

    /// Notes what became of a mail. It is written by [`Self::write_outcomes`].
    pub fn note(&mut self, mail: Location, destination: u16, outcome: Outcome) {
        if !self.sizes.has(mail.segment) {
            return;
        }
        let outcomes =
            self.outcomes.entry(mail.segment).or_insert_with(|| OutcomeFiles::new(BTreeMap::new()));
        let shift_ms = self.corrections.of(mail.segment);
        let outcome = match outcome {
            // All times in a segment's files are by one clock.
            Outcome::Deferred(mut progress) if shift_ms != 0 => {
                progress.due_ms = progress.due_ms.saturating_sub_signed(shift_ms);
                progress.at_ms = progress.at_ms.saturating_sub_signed(shift_ms);
                Outcome::Deferred(progress)
            }
            outcome => outcome,
        };
        outcomes.note(Subject { offset: mail.offset, destination }, outcome);
    }

    /// Writes what was noted; with `durable`, it survives a loss of power from then on. What cannot
    /// be written is kept for the next time.
    ///
    /// # Errors
    /// The first thing that the system says.
    pub fn write_outcomes(&mut self, durable: bool) -> io::Result<()> {
        let mut result = Ok(());
        for (segment, outcomes) in &mut self.outcomes {
            let written = outcomes.write(&self.disk, *segment, &mut self.made);
            self.sizes.set_outcomes(*segment, outcomes.bytes());
            result = result.and(written);
        }
        while durable && let Some(synced) = self.sync_next() {
            result = result.and(synced);
            if result.is_err() {
                break;
            }
        }
        result
    }

    /// Makes what was noted of one segment, or the names of its files, survive a loss of power; `None` when all does.
    ///
    /// One at a time: each takes as long as a sync of mail, and there may be as many as there are segments.
    pub fn sync_next(&mut self) -> Option<io::Result<()>> {
        if let Some(outcomes) = self.outcomes.values_mut().find(|outcomes| outcomes.needs_sync()) {
            return Some(outcomes.sync());
        }
        if self.made {
            let synced = self.disk.sync();
            self.made = synced.is_err();
            return Some(synced);
        }
        let surplus = self.outcomes.values().filter(|it| it.is_open()).count().saturating_sub(OPEN_FILES_MAX);
        self.outcomes.values_mut().filter(|it| it.is_open()).take(surplus).for_each(OutcomeFiles::close);
        None
    }

    /// Begins to merge the outcomes of a segment, if those of one have grown so much.
    ///
    /// # Errors
    /// When what was written so far cannot be synced.
    pub fn begin_merge(&mut self) -> io::Result<Option<Merge>> {
        let next = self.outcomes.iter_mut().find(|(_, outcomes)| outcomes.needs_merge());
        next.map(|(segment, outcomes)| outcomes.begin_merge(*segment)).transpose()
    }

    /// Ends to merge the outcomes of a segment, which may have gone meanwhile.
    ///
    /// # Errors
    /// What the system says; nothing is lost by that.
    pub fn end_merge(&mut self, merge: Merge, merged: Option<&Merged>) -> io::Result<()> {
        let segment = merge.segment;
        let Some(outcomes) = self.outcomes.get_mut(&segment).filter(|_| self.sizes.has(segment)) else {
            merged.map_or(Ok(()), |merged| merged.discard(&self.disk))?;
            return Ok(());
        };
        let result = outcomes.end_merge(&self.disk, merge, merged);
        self.sizes.set_outcomes(segment, outcomes.bytes());
        result
    }

    /// Removes a segment, all mails of which have met their end.
    ///
    /// # Errors
    /// What the system says; then it is there still, or comes back as one of which nothing is known.
    /// [`Self::remove_again`] tries again.
    pub fn retire(&mut self, segment: SegmentId) -> io::Result<()> {
        let removed = self.remove(segment);
        if removed.is_err() {
            self.unremoved.insert(segment);
        }
        removed
    }

    /// Removes the segments that could not be removed before.
    ///
    /// # Errors
    /// What the system says; then they stay until the next try.
    pub fn remove_again(&mut self) -> io::Result<()> {
        while let Some(segment) = self.unremoved.pop_first() {
            self.retire(segment)?;
        }
        Ok(())
    }

    fn remove(&mut self, segment: SegmentId) -> io::Result<()> {
        if self.active() == Some(segment) {
            self.active = None;
        }
        let name = mails_file(segment);
        let file = self.disk.open(&name);
        match self.disk.remove(&name) {
            // It went at the try before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        // Mails that came back without their outcomes would be delivered again.
        self.disk.sync()?;
        // The system gives back what a file takes when the last who has it open closes it: milliseconds in which mail
        // can be taken. Without a thread, it is done here.
        let _ = std::thread::Builder::new().name("removal".to_owned()).spawn(move || drop(file));
        if let Some(outcomes) = self.outcomes.get(&segment) {
            for generation in outcomes.generations() {
                match self.disk.remove(&outcomes_file(segment, generation)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.outcomes.remove(&segment);
        self.sizes.remove(segment);
        Ok(())
    }

    /// Sets a segment aside that is damaged and of which nothing more can be delivered: its files stay, the one with the
    /// mails under another name, for a person to look at.
    ///
    /// # Errors
    /// What the system says; then it is found again at the next start.
    pub fn set_aside(&mut self, segment: SegmentId) -> io::Result<()> {
        if self.active() == Some(segment) {
            self.active = None;
        }
        self.write_outcomes(true)?;
        self.disk.rename(&mails_file(segment), &damaged_file(segment))?;
        self.sizes.set_aside(segment);
        self.outcomes.remove(&segment);
        self.disk.sync()
    }

    /// Notices which of the segments that were set aside a person has removed.
    pub fn look_aside(&mut self) {
        for segment in self.sizes.aside() {
            let opened = self.disk.open(&damaged_file(segment));
            if opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                self.sizes.remove_aside(segment);
            }
        }
    }
}

/// Writes entries at `start`; returns where each begins, and where the last ends.
fn write_entries<F: DiskFile>(
    active: &Active<F>,
    start: u64,
    entries: &[Entry],
) -> io::Result<(Vec<u64>, u64)> {
    let (mut offsets, mut end) = (Vec::with_capacity(entries.len()), start);
    let (mut gathered, mut gathered_at) = (Vec::new(), start);
    for entry in entries {
        let header = MailHeader::of(&entry.head, &entry.content).ok_or(io::ErrorKind::FileTooLarge)?;
        offsets.push(end);
        end += header.entry_bytes();
        gathered.extend_from_slice(&header.to_bytes(active.mark));
        gathered.extend_from_slice(&entry.head);
        if entry.content.len() <= COPY_BYTES_MAX {
            gathered.extend_from_slice(&entry.content);
            continue;
        }
        active.file.write_at(&gathered, gathered_at)?;
        active.file.write_at(&entry.content, gathered_at + gathered.len() as u64)?;
        gathered.clear();
        gathered_at = end;
    }
    active.file.write_at(&gathered, gathered_at)?;
    Ok((offsets, end))
}
