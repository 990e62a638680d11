//! Large mails go to disk while they come in, so that slow senders of large mails hold no memory.

use std::io;
use std::sync::Arc;

use tokio::task::block_in_place;

use crate::memory::{MemoryBudget, Reservation};
use crate::spool::disk::Directory;
use crate::spool::entry::Head;
use crate::spool::part::{Part, Sealed};
use crate::spool::store::AppendError;

/// Where large mails go.
#[derive(Debug)]
pub struct Spill {
    disk: Directory,
    /// Octets that mails may take that are not whole yet.
    room: Arc<MemoryBudget>,
}

/// A mail that goes to disk while it comes in. It goes when it is dropped.
#[derive(Debug)]
pub struct Spilled {
    part: Part<Directory>,
    room: Reservation,
}

impl Spill {
    /// Mails go to `disk`, and take no more than `bytes_max` there before they are whole.
    #[must_use]
    pub fn new(disk: Directory, bytes_max: u64) -> Self {
        Self { disk, room: MemoryBudget::new(usize::try_from(bytes_max).unwrap_or(usize::MAX)) }
    }

    /// Begins with a mail.
    ///
    /// # Errors
    /// When there is no room for it, or the disk fails.
    pub fn begin(&self) -> Result<Spilled, AppendError> {
        let room = self.room.try_reserve(0).ok_or(AppendError::Full)?;
        let part = block_in_place(|| Part::create(self.disk.clone()));
        Ok(Spilled { part: part.map_err(|error| AppendError::from(&error))?, room })
    }
}

impl Spilled {
    /// Appends to the mail. Other tasks of the thread go on elsewhere meanwhile.
    ///
    /// # Errors
    /// When there is no room for it, or the disk fails.
    pub fn push(&mut self, part: &[u8]) -> Result<(), AppendError> {
        if !self.room.try_grow(part.len()) {
            return Err(AppendError::Full);
        }
        block_in_place(|| self.part.push(part)).map_err(|error| AppendError::from(&error))
    }

    /// Octets of the mail so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.part.content_bytes() as usize
    }

    /// Reads the mail again, on a thread for blocking work.
    pub(super) fn content(&self) -> io::Result<Vec<u8>> {
        self.part.content()
    }

    /// Makes it whole, on a thread for blocking work.
    pub(super) fn seal(self, head: &Head) -> io::Result<Sealed> {
        self.part.seal(head)
    }
}
