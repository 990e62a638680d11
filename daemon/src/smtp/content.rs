//! The content of a mail while it comes in, within the size limit and the memory budget.

use sha2::{Digest, Sha256};

use crate::memory::{Buffer, Full, Reservation};

/// Collects content; once it does not fit, what was collected is freed and the rest is ignored.
#[derive(Debug)]
pub(super) struct Content {
    buffer: Result<Buffer, Full>,
    /// What was collected so far, where it is needed: spread over the reads, it holds up nobody.
    digest: Option<Sha256>,
}

/// Content that was collected whole.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    pub(super) memory: Reservation,
    /// SHA-256 of the bytes, if it was asked for.
    pub(super) digest: Option<[u8; 32]>,
}

impl Content {
    /// Collects up to `bytes_max` octets in memory that is taken from `memory`'s budget.
    pub(super) fn new(memory: Reservation, bytes_max: usize, digested: bool) -> Self {
        Self { buffer: Ok(Buffer::new(memory, bytes_max)), digest: digested.then(Sha256::new) }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let Ok(buffer) = &mut self.buffer else { return };
        if let Err(full) = buffer.push(part) {
            self.buffer = Err(full);
        } else if let Some(digest) = &mut self.digest {
            digest.update(part);
        }
    }

    /// Why what was collected so far is not kept.
    pub(super) fn overflow(&self) -> Option<Full> {
        self.buffer.as_ref().err().copied()
    }

    /// The content, or why it was not kept.
    pub(super) fn finish(self) -> Result<Collected, Full> {
        let (bytes, memory) = self.buffer?.into_parts();
        Ok(Collected { bytes, memory, digest: self.digest.map(|digest| digest.finalize().into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    #[test]
    fn what_does_not_fit_frees_everything() {
        let budget = MemoryBudget::new(6_000);
        for (bytes_max, overflow) in [(5_000, Full::Limit), (10_000, Full::Memory)] {
            let mut content = Content::new(budget.try_reserve(0).unwrap(), bytes_max, true);
            content.push(&[b'x'; 4_000]);
            content.push(&[b'x'; 4_000]);
            assert_eq!(budget.used_bytes(), 0);
            content.push(b"x");
            assert_eq!(content.finish().unwrap_err(), overflow);
        }
    }
}
