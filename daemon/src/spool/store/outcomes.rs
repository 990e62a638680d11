//! The file in which it is noted what became of a segment's mails.

use std::io;

use crate::spool::disk::{Disk, DiskFile};
use crate::spool::entry::{FILE_HEADER_BYTES, Mark, Outcome, Subject, file_header, mark_of, write_outcome};
use crate::spool::segment::{SegmentId, mails_file, mark_in, outcomes_file};

/// Outcomes of one segment that could not be written and wait in memory, as with a full disk: as
/// many as a segment has mails. Further ones are forgotten: after a restart, their mails are
/// delivered once more.
const UNWRITTEN_MAX: usize = 64 * 1024;

/// What became of a segment's mails, as far as it is not on disk for good.
#[derive(Debug)]
pub(super) struct Outcomes<F> {
    file: Option<(F, Mark)>,
    generation: u32,
    /// Octets of the file.
    written: u64,
    unwritten: Vec<(Subject, Outcome)>,
    /// Written since the last sync.
    unsynced: Vec<(Subject, Outcome)>,
}

impl<F> Default for Outcomes<F> {
    fn default() -> Self {
        Self { file: None, generation: 0, written: 0, unwritten: Vec::new(), unsynced: Vec::new() }
    }
}

impl<F: DiskFile> Outcomes<F> {
    /// Takes an outcome to be written.
    pub(super) fn note(&mut self, subject: Subject, outcome: Outcome) {
        if self.unwritten.len() < UNWRITTEN_MAX {
            self.unwritten.push((subject, outcome));
        }
    }

    /// What the file does not have yet.
    pub(super) fn unwritten(&self) -> &[(Subject, Outcome)] {
        &self.unwritten
    }

    /// Whether the disk has all for good.
    pub(super) fn is_idle(&self) -> bool {
        self.unwritten.is_empty() && self.unsynced.is_empty()
    }

    /// Writes what is unwritten and returns by how many octets the spool grew; `made` becomes true
    /// when a file was made.
    pub(super) fn write<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        segment: SegmentId,
        made: &mut bool,
    ) -> io::Result<u64> {
        if self.unwritten.is_empty() {
            return Ok(0);
        }
        if self.file.is_none() {
            self.file = Some(self.open(disk, segment, made)?);
        }
        let Some((file, mark)) = &self.file else { return Ok(0) };
        let mut bytes = Vec::new();
        for (subject, outcome) in &self.unwritten {
            write_outcome(&mut bytes, *mark, *subject, outcome);
        }
        file.write_at(&bytes, self.written)?;
        self.written += bytes.len() as u64;
        self.unsynced.append(&mut self.unwritten);
        Ok(bytes.len() as u64)
    }

    /// Sees to it that what was written survives a loss of power.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some((file, _)) = self.file.as_ref().filter(|_| !self.unsynced.is_empty()) else { return Ok(()) };
        let synced = file.sync();
        if synced.is_ok() {
            self.unsynced.clear();
        } else {
            // Nothing is known of what this file holds; what it should hold goes into another.
            self.file = None;
            self.generation += 1;
            self.unsynced.append(&mut self.unwritten);
            std::mem::swap(&mut self.unsynced, &mut self.unwritten);
        }
        synced
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
                    if mark_of(&header[..read]) == Some(mark) {
                        // The sync of a process before may have failed: then it is only seen, and it is
                        // by the header that what follows is found.
                        file.write_at(&file_header(mark), 0)?;
                        self.written = file.length()?;
                        return Ok((file, mark));
                    }
                    // What a crash has left of one, or what is damaged.
                    self.generation += 1;
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
