//! A large mail that is written to disk while it comes in: a segment of its own, which the writer takes
//! into the spool once the mail is whole.

use std::io;

use super::disk::{Disk, DiskFile};
use super::entry::{FILE_HEADER_BYTES, Head, MAIL_HEADER_BYTES, MailHeader, Mark, file_header};
use super::segment::exactly;

/// What the names of such files begin with.
const PREFIX: &str = "incoming-";

/// Octets that are kept for what is known of the mail, which is written last: 100 recipients of 320
/// octets, each of them escaped in JSON, a reverse-path, and a trace. A mail of which more is known is copied.
const HEAD_ROOM: usize = 72 * 1024;

/// Octets that are copied at a time.
const COPY_BYTES: u32 = 1024 * 1024;

/// A mail that is coming in. It goes when it is dropped before it is sealed.
#[derive(Debug)]
pub struct Part<D: Disk> {
    disk: D,
    name: String,
    file: D::File,
    /// Octets before the content that are kept for the head.
    head_room: usize,
    content_bytes: u32,
    content_sum: u32,
    sealed: bool,
}

/// A file that is a whole segment with one mail, on disk for good under a name of its own.
#[derive(Debug)]
pub struct Sealed {
    /// Its name.
    pub name: String,
    /// Octets of the file.
    pub bytes: u64,
    /// Octets of the mail's entry in it.
    pub entry_bytes: u64,
}

/// Whether a file is one that no mail has come of.
#[must_use]
pub fn is_left_behind(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl<D: Disk + Clone> Part<D> {
    /// Makes a file for a mail.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(disk: D) -> io::Result<Self> {
        Self::with_room(disk, HEAD_ROOM)
    }

    fn with_room(disk: D, head_room: usize) -> io::Result<Self> {
        let name = part_name()?;
        let file = disk.create(&name)?;
        Ok(Self { disk, name, file, head_room, content_bytes: 0, content_sum: 0, sealed: false })
    }

    /// Where the content begins.
    fn content_at(&self) -> u64 {
        (FILE_HEADER_BYTES + MAIL_HEADER_BYTES + self.head_room) as u64
    }

    /// Appends to the content.
    ///
    /// # Errors
    /// What the system says, and `FileTooLarge` beyond 4 GiB.
    pub fn push(&mut self, part: &[u8]) -> io::Result<()> {
        let length = u32::try_from(part.len()).ok().and_then(|length| self.content_bytes.checked_add(length));
        let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_at(part, self.content_at() + u64::from(self.content_bytes))?;
        self.content_bytes = length;
        self.content_sum = crc32c::crc32c_append(self.content_sum, part);
        Ok(())
    }

    /// Octets of the content so far.
    #[must_use]
    pub fn content_bytes(&self) -> u32 {
        self.content_bytes
    }

    /// Reads the content again.
    ///
    /// # Errors
    /// What the system says.
    pub fn content(&self) -> io::Result<Vec<u8>> {
        exactly(&self.file, self.content_at(), self.content_bytes as usize)
    }

    /// Writes what is known of the mail, and makes sure that all of it stays after a loss of power.
    ///
    /// # Errors
    /// What the system says; then the file has gone.
    pub fn seal(self, head: &Head) -> io::Result<Sealed> {
        let head = serde_json::to_vec(head)?;
        let part = if head.len() > self.head_room { self.copy_with_room(head.len())? } else { self };
        part.seal_with(head)
    }

    fn copy_with_room(self, head_room: usize) -> io::Result<Self> {
        let mut copy = Self::with_room(self.disk.clone(), head_room)?;
        while copy.content_bytes < self.content_bytes {
            let bytes = (self.content_bytes - copy.content_bytes).min(COPY_BYTES);
            let at = self.content_at() + u64::from(copy.content_bytes);
            copy.push(&exactly(&self.file, at, bytes as usize)?)?;
        }
        if copy.content_sum != self.content_sum {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(copy)
    }

    fn seal_with(mut self, mut head: Vec<u8>) -> io::Result<Sealed> {
        // JSON may end in blanks.
        head.resize(self.head_room, b' ');
        let mark = Mark(random()?);
        let header = MailHeader::new(&head, self.content_bytes, self.content_sum);
        let header = header.ok_or(io::ErrorKind::FileTooLarge)?;
        let beginning = [&file_header(mark)[..], &header.to_bytes(mark), &head].concat();
        self.file.write_at(&beginning, 0)?;
        self.file.sync()?;
        self.sealed = true;
        let bytes = self.content_at() + u64::from(self.content_bytes);
        Ok(Sealed { name: std::mem::take(&mut self.name), bytes, entry_bytes: header.entry_bytes() })
    }
}

impl<D: Disk> Drop for Part<D> {
    fn drop(&mut self) {
        if !self.sealed {
            // One that stays is removed at the next start.
            let _ = self.disk.remove(&self.name);
        }
    }
}

/// A name for a file that is not part of the spool before it gets another: the next start removes what is left of it.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn part_name() -> io::Result<String> {
    Ok(random()?.iter().fold(PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}")))
}

/// 16 bytes that nobody can guess.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::faulty::FaultyDisk;
    use super::super::segment::{Location, load};
    use super::super::store::{Limits, Store};
    use super::*;

    #[test]
    fn a_mail_for_a_thousand_recipients_is_sealed_as_any_other() {
        let disk = FaultyDisk::default();
        let mut store = Store::open(
            disk.clone(),
            Limits { total_bytes: 10_000_000, segment_bytes: 100_000, outcome_bytes: 0 },
        )
        .unwrap();
        for recipients in [1, 1_000] {
            let mut head = Head::example("m");
            head.destinations[0].recipients =
                (0..recipients).map(|n| format!("{}+{n}@example.com", "a".repeat(100))).collect();
            let content: Vec<u8> = (0..2_500_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
            let mut part = Part::create(disk.clone()).unwrap();
            content.chunks(700_000).for_each(|chunk| part.push(chunk).unwrap());
            let sealed = part.seal(&head).unwrap();
            let Location { segment, offset } = store.adopt(&sealed, 1).unwrap();
            let loaded = load(&disk, Location { segment, offset }).unwrap();
            assert!(loaded.intact && loaded.content == content);
            assert_eq!(loaded.head, head);
        }
        let names = disk.list().unwrap().into_iter().map(|(name, _)| name);
        assert_eq!(names.filter(|name| is_left_behind(name)).count(), 0);
    }
}
