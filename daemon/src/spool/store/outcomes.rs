//! The files in which it is noted what became of a segment's messages.
//!
//! Outcomes are appended to the file with the highest number. Once the files hold much more than they would merged, they
//! are merged: the writer goes on with the next number, a thread of its own folds those before into a new file, and that
//! replaces the last of them by being renamed. A crash at any moment leaves files that say the same.

use std::collections::{BTreeMap, HashMap};
use std::io;

use crate::spool::disk::{Disk, DiskFile};
use crate::spool::entry::{FILE_HEADER_BYTES, Mark, Outcome, Subject, file_header, mark_of};
use crate::spool::outcomes::{HISTORY_MAX, write_outcome};
use crate::spool::part::part_name;
use crate::spool::segment::{SegmentId, mails_file, mark_in, outcomes_file, read_fates};

/// Outcomes that wait in memory because the disk fails, before those of the same message at the same destination are
/// folded into the last of them. From then on they are no more than the segment has of those.
const UNWRITTEN_FOLD_MIN: usize = 64 * 1024;

/// Bytes that a segment's files grow by, at least, before they are merged: less would not be worth a thread.
const MERGE_BYTES_MIN: u64 = 64 * 1024;

/// What became of a segment's messages, as far as it is not on disk for good.
#[derive(Debug)]
pub(super) struct OutcomeFiles<F> {
    file: Option<(F, Mark)>,
    /// The number of the file that is written to.
    generation: u32,
    /// Bytes of that file.
    written: u64,
    /// Bytes of the other files.
    earlier: BTreeMap<u32, u64>,
    unwritten: Vec<(Subject, Outcome)>,
    /// How many of them there may be before they are folded.
    fold_at: usize,
    /// Written since the last sync.
    unsynced: Vec<(Subject, Outcome)>,
    /// Bytes of all files after the last merge.
    merged_bytes: u64,
    is_merging: bool,
}

/// Files with outcomes that are to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// The segment.
    pub segment: SegmentId,
    /// The number of the last file; those before are merged with it.
    last: u32,
}

/// A file that takes the place of those that were merged, on disk for good under a name of its own.
#[derive(Debug)]
pub struct Merged {
    name: String,
    bytes: u64,
}

impl Merge {
    /// Writes what the files come to into a new one.
    ///
    /// # Errors
    /// What the system says; then there is no new file, or one that the next start removes.
    pub fn run<D: Disk>(&self, disk: &D) -> io::Result<Merged> {
        let mark = mark_in(&disk.open(&mails_file(self.segment))?)?;
        let (fates, _) = read_fates(disk, self.segment, mark, self.last, HISTORY_MAX, &|_| true)?;
        let bytes = [&file_header(mark)[..], &fates.to_bytes(mark)].concat();
        let name = part_name()?;
        let file = disk.create(&name)?;
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync());
        if let Err(error) = written {
            let _ = disk.remove(&name);
            return Err(error);
        }
        Ok(Merged { name, bytes: bytes.len() as u64 })
    }
}

impl Merged {
    /// Removes the file, which nothing needs any more.
    pub(super) fn discard<D: Disk>(&self, disk: &D) -> io::Result<()> {
        disk.remove(&self.name)
    }
}

impl<F: DiskFile> OutcomeFiles<F> {
    /// The outcomes of a segment that has these files: the number and the bytes of each.
    pub(super) fn new(mut files: BTreeMap<u32, u64>) -> Self {
        let (generation, written) = files.pop_last().unwrap_or((0, 0));
        Self {
            file: None,
            generation,
            written,
            earlier: files,
            unwritten: Vec::new(),
            fold_at: UNWRITTEN_FOLD_MIN,
            unsynced: Vec::new(),
            merged_bytes: 0,
            is_merging: false,
        }
    }

    /// Takes an outcome to be written.
    pub(super) fn note(&mut self, subject: Subject, outcome: Outcome) {
        self.unwritten.push((subject, outcome));
        if self.unwritten.len() >= self.fold_at {
            let last: HashMap<Subject, Outcome> = std::mem::take(&mut self.unwritten).into_iter().collect();
            self.unwritten.extend(last);
            self.fold_at = (2 * self.unwritten.len()).max(UNWRITTEN_FOLD_MIN);
        }
    }

    /// What the files do not have yet.
    pub(super) fn unwritten(&self) -> &[(Subject, Outcome)] {
        &self.unwritten
    }

    /// Whether the disk does not have all for good.
    pub(super) fn needs_sync(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.earlier.values().sum::<u64>()
    }

    /// The numbers of all files there may be.
    pub(super) fn generations(&self) -> impl Iterator<Item = u32> {
        self.earlier.keys().copied().chain(std::iter::once(self.generation))
    }

    /// Closes the file, if nothing is to be written or synced.
    pub(super) fn close(&mut self) {
        if self.unwritten.is_empty() && self.unsynced.is_empty() {
            self.file = None;
        }
    }

    /// Whether the file is open.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Writes what is unwritten; `made` becomes true when a file was made.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: SegmentId,
        made: &mut bool,
    ) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.file = Some(self.open(disk, segment, made)?);
        }
        let Some((file, mark)) = &self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        for (subject, outcome) in &self.unwritten {
            write_outcome(&mut bytes, *mark, *subject, outcome);
        }
        file.write_at(&bytes, self.written)?;
        self.written += bytes.len() as u64;
        self.unsynced.append(&mut self.unwritten);
        self.fold_at = UNWRITTEN_FOLD_MIN;
        Ok(())
    }

    /// Makes sure that what was written survives a loss of power.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some((file, _)) = self.file.as_ref().filter(|_| !self.unsynced.is_empty()) else { return Ok(()) };
        let synced = file.sync();
        if synced.is_ok() {
            self.unsynced.clear();
        } else {
            // Nothing is known of what this file holds; what it should hold goes into another.
            self.next_file();
            self.unsynced.append(&mut self.unwritten);
            std::mem::swap(&mut self.unsynced, &mut self.unwritten);
        }
        synced
    }

    fn next_file(&mut self) {
        self.earlier.insert(self.generation, self.written);
        self.file = None;
        self.generation += 1;
        self.written = 0;
    }

    /// Whether merging would give much back.
    pub(super) fn needs_merge(&self) -> bool {
        let slack = (self.merged_bytes / 2).max(MERGE_BYTES_MIN);
        !self.is_merging && self.unwritten.is_empty() && self.bytes() > self.merged_bytes + slack
    }

    /// Goes on with another file, so that those so far can be merged.
    ///
    /// # Errors
    /// When what was written so far cannot be synced.
    pub(super) fn begin_merge(&mut self, segment: SegmentId) -> io::Result<Merge> {
        self.sync()?;
        let last = self.generation;
        self.next_file();
        self.is_merging = true;
        Ok(Merge { segment, last })
    }

    /// Puts a merged file in the place of those that it was made of; `None` where there is no such file.
    ///
    /// # Errors
    /// What the system says; the files that there are say the same as before.
    pub(super) fn end_merge<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        merge: Merge,
        merged: Option<&Merged>,
    ) -> io::Result<()> {
        self.is_merging = false;
        let result = match merged {
            Some(merged) => self.replace(disk, merge, merged),
            None => Ok(()),
        };
        // If it failed, the next try comes after they have grown again.
        self.merged_bytes = self.bytes();
        result
    }

    fn replace<D: Disk<File = F>>(&mut self, disk: &D, merge: Merge, merged: &Merged) -> io::Result<()> {
        let name = outcomes_file(merge.segment, merge.last);
        disk.rename(&merged.name, &name).inspect_err(|_| drop(disk.remove(&merged.name)))?;
        self.earlier.insert(merge.last, merged.bytes);
        // Those before must not go while a loss of power could still take the merged one away.
        disk.sync()?;
        let before: Vec<u32> = self.earlier.range(..merge.last).map(|(generation, _)| *generation).collect();
        for generation in before {
            match disk.remove(&outcomes_file(merge.segment, generation)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => drop(self.earlier.remove(&generation)),
            }
        }
        Ok(())
    }

    /// Opens the file, or makes it.
    fn open<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: SegmentId,
        made: &mut bool,
    ) -> io::Result<(F, Mark)> {
        let mut header = [0; FILE_HEADER_BYTES];
        let mark = mark_in(&disk.open(&mails_file(segment))?)?;
        loop {
            let name = outcomes_file(segment, self.generation);
            match disk.open_for_writing(&name) {
                Ok(file) => {
                    let read = file.read_at(&mut header, 0)?;
                    self.written = file.length()?;
                    if mark_of(&header[..read]) == Some(mark) {
                        // The sync of a process before may have failed: then it is only seen, and it is
                        // by the header that what follows is found.
                        file.write_at(&file_header(mark), 0)?;
                        return Ok((file, mark));
                    }
                    // What a crash has left of one, or what is damaged.
                    self.next_file();
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let file = disk.create(&name)?;
                    *made = true;
                    file.write_at(&file_header(mark), 0)?;
                    self.written = FILE_HEADER_BYTES as u64;
                    return Ok((file, mark));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
