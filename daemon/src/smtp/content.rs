//! The content of a mail while it comes in, within the size limit and the memory budget.

use crate::memory::{Buffer, Full, Reservation};

/// Collects content; once it does not fit, what was collected is freed and the rest is ignored.
#[derive(Debug)]
pub(super) struct Content(Result<Buffer, Full>);

impl Content {
    /// Collects up to `bytes_max` octets in memory that is taken from `memory`'s budget.
    pub(super) fn new(memory: Reservation, bytes_max: usize) -> Self {
        Self(Ok(Buffer::new(memory, bytes_max)))
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        if let Ok(buffer) = &mut self.0
            && let Err(full) = buffer.push(part)
        {
            self.0 = Err(full);
        }
    }

    /// Why what was collected so far is not kept.
    pub(super) fn overflow(&self) -> Option<Full> {
        self.0.as_ref().err().copied()
    }

    /// The content and its memory, or why it was not kept.
    pub(super) fn finish(self) -> Result<(Vec<u8>, Reservation), Full> {
        self.0.map(Buffer::into_parts)
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
            let mut content = Content::new(budget.try_reserve(0).unwrap(), bytes_max);
            content.push(&[b'x'; 4_000]);
            content.push(&[b'x'; 4_000]);
            assert_eq!(budget.used_bytes(), 0);
            content.push(b"x");
            assert_eq!(content.finish().unwrap_err(), overflow);
        }
    }
}
