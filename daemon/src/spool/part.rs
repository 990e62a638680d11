//! A large mail that is written to disk while it comes in: a segment of its own, which the writer takes
//! into the spool once the mail is whole.

use std::io;

use super::disk::{Disk, DiskFile};
use super::entry::{FILE_HEADER_BYTES, Head, MAIL_HEADER_BYTES, MailHeader, Mark, file_header};
use super::segment::exactly;

/// What the names of such files begin with.
const PREFIX: &str = "incoming-";

/// Octets that are kept for what is known of the mail, which is written last: 100 recipients of 320
/// octets, each of them escaped in JSON, a reverse-path, and a trace.
const HEAD_ROOM: usize = 72 * 1024;

/// Where the content begins.
const CONTENT_AT: u64 = (FILE_HEADER_BYTES + MAIL_HEADER_BYTES + HEAD_ROOM) as u64;

/// A mail that is coming in. It goes when it is dropped before it is sealed.
#[derive(Debug)]
pub struct Part<D: Disk> {
    disk: D,
    name: String,
    file: D::File,
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

impl<D: Disk> Part<D> {
    /// Makes a file for a mail.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(disk: D) -> io::Result<Self> {
        let name = random()?.iter().fold(PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"));
        let file = disk.create(&name)?;
        Ok(Self { disk, name, file, content_bytes: 0, content_sum: 0, sealed: false })
    }

    /// Appends to the content.
    ///
    /// # Errors
    /// What the system says, and `FileTooLarge` beyond 4 GiB.
    pub fn push(&mut self, part: &[u8]) -> io::Result<()> {
        let length = u32::try_from(part.len()).ok().and_then(|length| self.content_bytes.checked_add(length));
        let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_at(part, CONTENT_AT + u64::from(self.content_bytes))?;
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
        exactly(&self.file, CONTENT_AT, self.content_bytes as usize)
    }

    /// Writes what is known of the mail, and makes sure that all of it stays after a loss of power.
    ///
    /// # Errors
    /// What the system says; then the file has gone.
    pub fn seal(mut self, head: &Head) -> io::Result<Sealed> {
        let mut head = serde_json::to_vec(head)?;
        if head.len() > HEAD_ROOM {
            return Err(io::Error::other("the envelope is too large"));
        }
        // JSON may end in blanks.
        head.resize(HEAD_ROOM, b' ');
        let mark = Mark(random()?);
        let header = MailHeader::new(&head, self.content_bytes, self.content_sum);
        let header = header.ok_or(io::ErrorKind::FileTooLarge)?;
        let beginning = [&file_header(mark)[..], &header.to_bytes(mark), &head].concat();
        self.file.write_at(&beginning, 0)?;
        self.file.sync()?;
        self.sealed = true;
        let bytes = CONTENT_AT + u64::from(self.content_bytes);
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

/// 16 bytes that nobody can guess.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
