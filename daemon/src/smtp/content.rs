//! The content of a mail while it comes in, within the size limit and the memory budget.

use crate::memory::Reservation;

/// Octets that a growing mail takes at first.
const FIRST_BYTES: usize = 4 * 1024;

/// Why a mail's content is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is larger than a mail may be.
    TooLarge,
    /// There is no memory for it now.
    OutOfMemory,
}

/// Collects content; once it does not fit, what was collected is freed and the rest is ignored.
#[derive(Debug)]
pub(super) struct Content {
    bytes: Vec<u8>,
    memory: Reservation,
    bytes_max: usize,
    overflow: Option<Overflow>,
}

impl Content {
    /// Collects up to `bytes_max` octets in memory that is taken from `memory`'s budget.
    pub(super) fn new(memory: Reservation, bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), memory, bytes_max, overflow: None }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        if self.overflow.is_some() {
            return;
        }
        let length = self.bytes.len() + part.len();
        let overflow = if length > self.bytes_max {
            Some(Overflow::TooLarge)
        } else if !self.make_room(length) {
            Some(Overflow::OutOfMemory)
        } else {
            self.bytes.extend_from_slice(part);
            None
        };
        if overflow.is_some() {
            self.overflow = overflow;
            self.bytes = Vec::new();
            self.memory.shrink_to(0);
        }
    }

    /// The content and its memory, or why it was not kept.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Reservation), Overflow> {
        match self.overflow {
            Some(overflow) => Err(overflow),
            None => {
                self.memory.shrink_to(self.bytes.capacity());
                Ok((self.bytes, self.memory))
            }
        }
    }

    /// Doubles the room until `length` fits: each octet is copied about once.
    fn make_room(&mut self, length: usize) -> bool {
        let room = self.bytes.capacity();
        if length <= room {
            return true;
        }
        let wanted = length.max(room * 2).max(FIRST_BYTES).min(self.bytes_max);
        let fits = self.memory.try_grow(wanted - room);
        if fits {
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    #[test]
    fn content_is_kept_within_its_limit() {
        let budget = MemoryBudget::new(100_000);
        let mut content = Content::new(budget.try_reserve(0).unwrap(), 10_000);
        for _ in 0..100 {
            content.push(&[b'x'; 100]);
        }
        let (bytes, memory) = content.finish().unwrap();
        assert_eq!((bytes.len(), memory.bytes()), (10_000, 10_000));
    }

    #[test]
    fn what_does_not_fit_frees_everything() {
        let budget = MemoryBudget::new(6_000);
        for (bytes_max, overflow) in [(5_000, Overflow::TooLarge), (10_000, Overflow::OutOfMemory)] {
            let mut content = Content::new(budget.try_reserve(0).unwrap(), bytes_max);
            content.push(&[b'x'; 4_000]);
            content.push(&[b'x'; 4_000]);
            assert_eq!(budget.used_bytes(), 0);
            content.push(b"x");
            assert_eq!(content.finish().unwrap_err(), overflow);
        }
    }
}
