//! Large mails go to disk while they come in, so that slow senders of large mails hold no memory.

use std::io;
use std::sync::Arc;

use tokio::task::block_in_place;

use crate::memory::{MemoryBudget, Reservation};
use crate::quota::{ClientUsage, Division, Permit, Shortage};
use crate::spool::disk::Directory;
use crate::spool::entry::Head;
use crate::spool::part::{Part, Sealed};
use crate::spool::store::AppendError;

/// Octets of room that a mail takes at a time: what is written at once.
const ROOM_BYTES: usize = 256 * 1024;

/// Where large mails go.
#[derive(Debug)]
pub struct Spill {
    disk: Directory,
    /// Octets that mails may take that are not whole yet.
    room: Arc<MemoryBudget>,
    /// How they are divided among clients.
    division: Division,
}

/// Room for one mail; dropping it gives it back.
#[derive(Debug)]
pub struct Room {
    reservation: Reservation,
    permit: Permit,
    division: Division,
}

/// A mail that goes to disk while it comes in. It goes when it is dropped.
#[derive(Debug)]
pub struct Spilled {
    part: Part<Directory>,
    room: Room,
}

impl Spill {
    /// Mails go to `disk`, and take no more than `bytes_max` there before they are whole. The largest one has
    /// `message_bytes_max`.
    #[must_use]
    pub fn new(disk: Directory, bytes_max: u64, message_bytes_max: usize) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let division = Division::of_disk(bytes_max, message_bytes_max);
        Self { disk, room: MemoryBudget::new(bytes_max), division }
    }

    /// Room for a mail of this client; none yet. `None` where there is none for anybody.
    #[must_use]
    pub fn room(&self, client: &ClientUsage) -> Option<Room> {
        let reservation = self.room.try_reserve(0)?;
        Some(Room { reservation, permit: client.disk.permit(), division: self.division })
    }

    /// Begins with a mail.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn begin(&self, room: Room) -> Result<Spilled, AppendError> {
        let part = block_in_place(|| Part::create(self.disk.clone()));
        Ok(Spilled { part: part.map_err(|error| AppendError::from(&error))?, room })
    }
}

impl Room {
    /// Octets that there is room for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.reservation.bytes()
    }

    /// Makes room for `bytes` octets in all, and some more where there is more.
    ///
    /// # Errors
    /// What is short; nothing changed then.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Shortage> {
        let missing = bytes.saturating_sub(self.bytes());
        if missing == 0 {
            return Ok(());
        }
        let Self { reservation, permit, division } = self;
        permit
            .try_grow(reservation, missing.next_multiple_of(ROOM_BYTES), division)
            .or_else(|_| permit.try_grow(reservation, missing, division))
    }
}

impl Spilled {
    /// Appends to the mail. Other tasks of the thread go on elsewhere meanwhile.
    ///
    /// # Errors
    /// When there is no room for it, or the disk fails.
    pub fn push(&mut self, part: &[u8]) -> Result<(), AppendError> {
        let bytes = self.bytes().saturating_add(part.len());
        self.room.reserve(bytes).map_err(|_| AppendError::Full)?;
        block_in_place(|| self.part.push(part)).map_err(|error| AppendError::from(&error))
    }

    /// Its room on disk.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Its room on disk, to be grown.
    pub fn room_mut(&mut self) -> &mut Room {
        &mut self.room
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
