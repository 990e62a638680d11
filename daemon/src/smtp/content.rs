//! The content of a mail while it comes in, within the size limit, in memory or on disk.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::trace;
use super::transfers::Resource;
use crate::delivery::spool::{Spill, SpillRoom, Spilled};
use crate::memory::{Buffer, Full, Reservation};
use crate::quota::{ClientUsage, Division, Permit, Shortage};
use crate::spool::store::AppendError;

/// Content of more octets goes to disk, where there is one: smaller mails are written together with
/// others once they are whole, which costs less.
const SPILL_BYTES: usize = 1024 * 1024;

/// Octets that are written to disk at once.
const WRITE_BYTES: usize = 256 * 1024;

/// Octets that a decoder may hold back, and emit together with what comes next: `CR`, or `.` and `CR`.
const HELD_BACK_BYTES: usize = 2;

/// Collects content; once it does not fit, what was collected is freed and the rest is ignored.
#[derive(Debug)]
pub(super) struct Content {
    kept: Result<Kept, Overflow>,
    bytes_max: usize,
    /// Where large content goes, and its room there, which goes with it.
    spill: Option<(Arc<Spill>, Option<SpillRoom>)>,
    /// What was collected so far, where it is needed: spread over the reads, it holds up nobody.
    digest: Option<Sha256>,
    /// The memory, as a part of what the client may hold.
    permit: Permit,
}

#[derive(Debug)]
enum Kept {
    InMemory(Buffer),
    OnDisk { spilled: Spilled, gathered: Vec<u8>, hops: usize, memory: Reservation },
}

/// Why content is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is larger than a mail may be.
    TooLarge,
    /// There is no memory for it.
    Memory,
    /// There is no room for it on disk, or the disk fails.
    Disk(AppendError),
    /// Its client holds as much as it may.
    Quota,
    /// Nobody wants it.
    Unwanted,
}

/// What there is too little of for content, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    pub(super) resource: Resource,
    pub(super) shortage: Shortage,
}

impl NoRoom {
    fn of(resource: Resource) -> impl Fn(Shortage) -> Self {
        move |shortage| Self { resource, shortage }
    }
}

impl From<NoRoom> for Overflow {
    fn from(no_room: NoRoom) -> Self {
        match (no_room.shortage, no_room.resource) {
            (Shortage::Quota, _) => Self::Quota,
            (Shortage::Free(_), Resource::Memory) => Self::Memory,
            (Shortage::Free(_), Resource::Disk) => Self::Disk(AppendError::Full),
        }
    }
}

impl From<Full> for Overflow {
    fn from(full: Full) -> Self {
        match full {
            Full::Limit => Self::TooLarge,
            Full::Memory => Self::Memory,
        }
    }
}

/// Content that was collected whole.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) content: Whole,
    /// How many servers the mail has passed.
    pub(super) hops: usize,
    /// SHA-256 of the bytes, if it was asked for.
    pub(super) digest: Option<[u8; 32]>,
    /// The memory of the content, as a part of what the client may hold.
    pub(super) permit: Permit,
}

#[derive(Debug)]
pub(super) enum Whole {
    InMemory(Vec<u8>, Reservation),
    OnDisk(Spilled, Reservation),
}

impl Whole {
    /// Octets of the content.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::InMemory(bytes, _) => bytes.len(),
            Self::OnDisk(spilled, _) => spilled.bytes(),
        }
    }
}

impl Content {
    /// Collects up to `bytes_max` octets of this client in memory that is taken from `memory`'s budget, or where
    /// `spill` says.
    pub(super) fn new(
        memory: Reservation,
        bytes_max: usize,
        digested: bool,
        spill: Option<Arc<Spill>>,
        client: &ClientUsage,
    ) -> Self {
        let kept = Ok(Kept::InMemory(Buffer::new(memory, bytes_max)));
        let spill = spill.map(|spill| {
            let room = spill.room(client);
            (spill, room)
        });
        Self { kept, bytes_max, spill, digest: digested.then(Sha256::new), permit: client.memory.permit() }
    }

    /// Content that nobody wants.
    pub(super) fn unwanted(client: &ClientUsage) -> Self {
        let kept = Err(Overflow::Unwanted);
        Self { kept, bytes_max: 0, spill: None, digest: None, permit: client.memory.permit() }
    }

    /// Makes room for what a decoder emits of `bytes` octets, within what the client may hold.
    pub(super) fn reserve(&mut self, bytes: usize, division: &Division) -> Result<(), NoRoom> {
        let bytes = bytes.saturating_add(HELD_BACK_BYTES);
        match &mut self.kept {
            Ok(Kept::InMemory(buffer)) => {
                let length = buffer.bytes().len().saturating_add(bytes).min(self.bytes_max);
                let (room, in_memory) = match &mut self.spill {
                    Some((_, Some(room))) if length > SPILL_BYTES => (Some(room), SPILL_BYTES),
                    _ => (None, length),
                };
                if let Some(room) = room {
                    room.reserve(length).map_err(NoRoom::of(Resource::Disk))?;
                }
                let permit = &mut self.permit;
                let take = |memory: &mut Reservation, bytes| permit.try_grow(memory, bytes, division);
                buffer.reserve_with(in_memory, take).map_err(NoRoom::of(Resource::Memory))
            }
            Ok(Kept::OnDisk { spilled, gathered, .. }) => {
                let length = spilled.bytes().saturating_add(gathered.len()).saturating_add(bytes);
                spilled.room_mut().reserve(length.min(self.bytes_max)).map_err(NoRoom::of(Resource::Disk))
            }
            Err(_) => Ok(()),
        }
    }

    /// Keeps nothing of it.
    pub(super) fn give_up(&mut self, overflow: Overflow) {
        self.kept = Err(overflow);
        self.permit.shrink_to(0);
        if let Some((_, room)) = &mut self.spill {
            *room = None;
        }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let Ok(kept) = &mut self.kept else { return };
        if let Err(overflow) = kept.push(part, self.bytes_max, self.spill.as_mut()) {
            self.give_up(overflow);
            return;
        }
        if let Kept::OnDisk { memory, .. } = kept {
            self.permit.shrink_to(memory.bytes());
        }
        if let Some(digest) = &mut self.digest {
            digest.update(part);
        }
    }

    /// Bytes of memory, and of room on disk, that it holds.
    pub(super) fn held(&self) -> (usize, usize) {
        match &self.kept {
            Ok(Kept::InMemory(buffer)) => {
                let room = self.spill.as_ref().and_then(|(_, room)| room.as_ref());
                (buffer.capacity(), room.map_or(0, SpillRoom::bytes))
            }
            Ok(Kept::OnDisk { spilled, memory, .. }) => (memory.bytes(), spilled.room().bytes()),
            Err(_) => (0, 0),
        }
    }

    /// Whether what was collected so far is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_ok()
    }

    /// The content, or why it was not kept.
    pub(super) fn finish(self) -> Result<Collected, Overflow> {
        let (content, hops) = match self.kept? {
            Kept::InMemory(buffer) => {
                let (bytes, memory) = buffer.into_parts();
                let hops = trace::hops(&bytes);
                (Whole::InMemory(bytes, memory), hops)
            }
            Kept::OnDisk { mut spilled, gathered, hops, mut memory } => {
                spilled.push(&gathered).map_err(Overflow::Disk)?;
                drop(gathered);
                memory.shrink_to(0);
                (Whole::OnDisk(spilled, memory), hops)
            }
        };
        let digest = self.digest.map(|digest| digest.finalize().into());
        Ok(Collected { content, hops, digest, permit: self.permit })
    }
}

impl Kept {
    fn push(
        &mut self,
        part: &[u8],
        bytes_max: usize,
        spill: Option<&mut (Arc<Spill>, Option<SpillRoom>)>,
    ) -> Result<(), Overflow> {
        if let (Self::InMemory(buffer), Some((spill, room))) = (&mut *self, spill)
            && let length = buffer.bytes().len() + part.len()
            && length > SPILL_BYTES
            && length <= bytes_max
        {
            let room = room.take().ok_or(Overflow::Disk(AppendError::Full))?;
            *self = Self::spill(buffer, spill, room)?;
        }
        match self {
            Self::InMemory(buffer) => buffer.push(part)?,
            Self::OnDisk { spilled, gathered, .. } => {
                if spilled.bytes() + gathered.len() + part.len() > bytes_max {
                    return Err(Overflow::TooLarge);
                }
                gathered.extend_from_slice(part);
                if gathered.len() >= WRITE_BYTES {
                    spilled.push(gathered).map_err(Overflow::Disk)?;
                    gathered.clear();
                }
            }
        }
        Ok(())
    }

    fn spill(buffer: &mut Buffer, spill: &Spill, room: SpillRoom) -> Result<Self, Overflow> {
        let mut spilled = spill.begin(room).map_err(Overflow::Disk)?;
        spilled.push(buffer.bytes()).map_err(Overflow::Disk)?;
        // Who writes a header of more than this has lost count of it himself.
        let hops = trace::hops(buffer.bytes());
        let memory = buffer.memory_mut().split(2 * WRITE_BYTES);
        Ok(Self::OnDisk { spilled, gathered: Vec::with_capacity(WRITE_BYTES), hops, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use crate::spool::disk::Directory;

    #[test]
    fn what_does_not_fit_frees_everything() {
        let budget = MemoryBudget::new(6_000);
        for (bytes_max, overflow) in [(5_000, Overflow::TooLarge), (10_000, Overflow::Memory)] {
            let mut content =
                Content::new(budget.try_reserve(0).unwrap(), bytes_max, true, None, &ClientUsage::default());
            content.push(&[b'x'; 4_000]);
            content.push(&[b'x'; 4_000]);
            assert_eq!(budget.used_bytes(), 0);
            content.push(b"x");
            assert_eq!(content.finish().unwrap_err(), overflow);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_large_goes_to_disk_and_holds_little_memory() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Directory::new(directory.path().to_owned());
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let budget = MemoryBudget::new(4 * 1024 * 1024);
        let spill = Arc::new(Spill::new(disk, 6_000_000, 5_500_000));
        let content = |bytes: usize, bytes_max: usize| {
            let memory = budget.try_reserve(0).unwrap();
            let spill = Some(Arc::clone(&spill));
            let mut content = Content::new(memory, bytes_max, false, spill, &ClientUsage::default());
            content.push(b"Received: a\r\nReceived: b\r\n\r\n");
            let rest = vec![b'x'; 10_000];
            rest.chunks(10_000).cycle().take(bytes / 10_000).for_each(|part| content.push(part));
            content
        };
        let large = content(5_000_000, 10_000_000);
        assert_eq!((files(), budget.used_bytes()), (1, 2 * WRITE_BYTES));
        let collected = large.finish().unwrap();
        assert_eq!((collected.content.len(), collected.hops), (5_000_028, 2));
        let full = content(2_000_000, 10_000_000);
        assert_eq!(full.kept.as_ref().err(), Some(&Overflow::Disk(AppendError::Full)));
        drop((collected, full));
        assert_eq!((files(), budget.used_bytes()), (0, 0), "what is not taken leaves nothing behind");
        assert_eq!(content(5_000_000, 4_000_000).kept.err(), Some(Overflow::TooLarge));
        assert!(content(5_000_000, 10_000_000).finish().is_ok(), "there is room again");
    }

    /// Large messages of one client leave room on disk to others, and take it before they are written.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_holds_no_more_room_on_disk_than_it_leaves() {
        const MEBIBYTE: usize = 1024 * 1024;
        let directory = tempfile::tempdir().unwrap();
        let budget = MemoryBudget::new(64 * MEBIBYTE);
        let division = Division::of_memory(64 * MEBIBYTE);
        let spill = Arc::new(Spill::new(
            Directory::new(directory.path().to_owned()),
            24 * MEBIBYTE as u64,
            4 * MEBIBYTE,
        ));
        let receive = |client: &ClientUsage, bytes: usize| {
            let (memory, spill) = (budget.try_reserve(0).unwrap(), Some(Arc::clone(&spill)));
            let mut content = Content::new(memory, 4 * MEBIBYTE, false, spill, client);
            for part in vec![b'x'; bytes].chunks(12_000) {
                if let Err(no_room) = content.reserve(part.len(), &division) {
                    content.give_up(Overflow::from(no_room));
                }
                content.push(part);
            }
            content
        };
        let greedy = ClientUsage::limited();
        let held: Vec<Content> = (0..6).map(|_| receive(&greedy, 3 * MEBIBYTE)).collect();
        let kept = held.iter().filter(|content| content.is_kept()).count();
        assert_eq!((kept, held[5].kept.as_ref().err()), (3, Some(&Overflow::Quota)));
        assert_eq!(held[0].held(), (2 * WRITE_BYTES, 3 * MEBIBYTE + WRITE_BYTES));
        assert_eq!(greedy.memory.bytes(), 3 * 2 * WRITE_BYTES);
        assert!(receive(&ClientUsage::limited(), 4 * MEBIBYTE).finish().is_ok(), "another client");
        drop(held);
        assert_eq!((greedy.memory.bytes(), greedy.disk.bytes(), budget.used_bytes()), (0, 0, 0));
    }
}
