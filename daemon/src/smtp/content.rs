//! The content of a mail while it comes in, within the size limit, in memory or on disk.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::trace;
use crate::delivery::spool::{Spill, Spilled};
use crate::memory::{Buffer, Full, Reservation};
use crate::spool::store::AppendError;

/// Content of more octets goes to disk, where there is one: smaller mails are written together with
/// others once they are whole, which costs less.
const SPILL_BYTES: usize = 1024 * 1024;

/// Octets that are written to disk at once.
const WRITE_BYTES: usize = 256 * 1024;

/// Collects content; once it does not fit, what was collected is freed and the rest is ignored.
#[derive(Debug)]
pub(super) struct Content {
    kept: Result<Kept, Overflow>,
    bytes_max: usize,
    spill: Option<Arc<Spill>>,
    /// What was collected so far, where it is needed: spread over the reads, it holds up nobody.
    digest: Option<Sha256>,
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
    /// Collects up to `bytes_max` octets in memory that is taken from `memory`'s budget, or where
    /// `spill` says.
    pub(super) fn new(
        memory: Reservation,
        bytes_max: usize,
        digested: bool,
        spill: Option<Arc<Spill>>,
    ) -> Self {
        let kept = Ok(Kept::InMemory(Buffer::new(memory, bytes_max)));
        Self { kept, bytes_max, spill, digest: digested.then(Sha256::new) }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let Ok(kept) = &mut self.kept else { return };
        if let Err(overflow) = kept.push(part, self.bytes_max, self.spill.as_deref()) {
            self.kept = Err(overflow);
        } else if let Some(digest) = &mut self.digest {
            digest.update(part);
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
        Ok(Collected { content, hops, digest: self.digest.map(|digest| digest.finalize().into()) })
    }
}

impl Kept {
    fn push(&mut self, part: &[u8], bytes_max: usize, spill: Option<&Spill>) -> Result<(), Overflow> {
        match self {
            Self::InMemory(buffer) => {
                buffer.push(part)?;
                if let Some(spill) = spill.filter(|_| buffer.bytes().len() > SPILL_BYTES) {
                    *self = Self::spill(buffer, spill)?;
                }
            }
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

    fn spill(buffer: &mut Buffer, spill: &Spill) -> Result<Self, Overflow> {
        let mut spilled = spill.begin().map_err(Overflow::Disk)?;
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
            let mut content = Content::new(budget.try_reserve(0).unwrap(), bytes_max, true, None);
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
        let spill = Arc::new(Spill::new(disk, 6_000_000));
        let content = |bytes: usize, bytes_max: usize| {
            let memory = budget.try_reserve(0).unwrap();
            let mut content = Content::new(memory, bytes_max, false, Some(Arc::clone(&spill)));
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
}
