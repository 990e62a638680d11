//! One bound on the memory that mail may take: sessions, queue and deliveries together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of all memory that deliveries leave to others.
const DELIVERIES_LEAVE: usize = 8;

/// A number of bytes that is handed out in [`Reservation`]s and never exceeded.
#[derive(Debug)]
pub struct MemoryBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl MemoryBudget {
    /// How much there is in all.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// What nobody has taken.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.limit_bytes.saturating_sub(self.used_bytes())
    }

    /// Bytes that deliveries may still take: they leave an eighth to sessions and to messages that come in, as those leave
    /// to each other.
    #[must_use]
    pub fn free_for_deliveries(&self) -> usize {
        self.free_bytes().saturating_sub(self.limit_bytes / DELIVERIES_LEAVE)
    }

    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicUsize::new(0) })
    }

    /// Takes `bytes` from the budget, or nothing when there is less left.
    #[must_use]
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.take(bytes, 0).then(|| Reservation { budget: Arc::clone(self), bytes })
    }

    /// Bytes that are handed out.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize, left: usize) -> bool {
        let limit = self.limit_bytes.saturating_sub(left);
        let within_limit = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within_limit).is_ok()
    }
}

/// A part of a [`MemoryBudget`]; dropping it gives it back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Reservation {
    /// Takes `bytes` more; `false`, and nothing changed, when there is less left.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        self.try_grow_leaving(bytes, 0)
    }

    /// Takes `bytes` more if `left` bytes stay free for others; `false`, and nothing changed, otherwise.
    #[must_use]
    pub fn try_grow_leaving(&mut self, bytes: usize, left: usize) -> bool {
        let grown = self.budget.take(bytes, left);
        if grown {
            self.bytes += bytes;
        }
        grown
    }

    /// Gives back what is held above `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.budget.used_bytes.fetch_sub(surplus, Ordering::Relaxed);
        self.bytes -= surplus;
    }

    /// Holds `bytes` from now on; `false`, and nothing changed, when there is less left.
    #[must_use]
    pub fn try_resize(&mut self, bytes: usize) -> bool {
        self.shrink_to(bytes);
        self.try_grow(bytes - self.bytes)
    }

    /// Holds `bytes` from now on, even beyond the limit: for memory that is in use already and cannot be refused. Others
    /// get nothing until there is less.
    pub fn force_resize(&mut self, bytes: usize) {
        self.shrink_to(bytes);
        self.budget.used_bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Takes up to `bytes` of what is held into a reservation of its own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    /// Bytes of the budget that deliveries may still take: see [`MemoryBudget::free_for_deliveries`].
    #[must_use]
    pub fn free_for_deliveries(&self) -> usize {
        self.budget.free_for_deliveries()
    }

    /// Bytes of the budget that nobody holds.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.budget.free_bytes()
    }

    /// Whether the budget as a whole has room for so many bytes, whoever holds them now.
    #[must_use]
    pub fn could_ever_be(&self, bytes: usize) -> bool {
        bytes <= self.budget.limit_bytes
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Octets that a growing buffer takes at first.
const BUFFER_BYTES_FIRST: usize = 4 * 1024;

/// Bytes that are taken from a budget before they are kept.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    memory: Reservation,
    bytes_max: usize,
}

/// Why a [`Buffer`] takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// It has its limit.
    Limit,
    /// The budget has no more.
    Memory,
}

impl Buffer {
    /// A buffer of up to `bytes_max` in memory that is taken from the budget of `memory`.
    #[must_use]
    pub fn new(memory: Reservation, bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), memory, bytes_max }
    }

    /// Makes room for `bytes` in all, so that up to so many are kept without being moved; `false`, and
    /// nothing changed, when the budget has less.
    #[must_use]
    pub fn try_reserve(&mut self, bytes: usize) -> bool {
        self.grow_to(bytes, bytes)
    }

    /// Makes room for `length` bytes in all, in memory that `take` takes into the reservation.
    ///
    /// # Errors
    /// Those of `take`; nothing changed then.
    pub fn reserve_with<E>(
        &mut self,
        length: usize,
        mut take: impl FnMut(&mut Reservation, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let room = self.bytes.capacity();
        if length <= room {
            return Ok(());
        }
        let doubled = self.doubled(length).max(length);
        // Doubling copies each byte about once. When there is not that much, an eighth more may do: to grow by no more
        // than is needed now would copy all of it for every few kilobytes that come.
        let more = length.saturating_add(length / 8).min(self.bytes_max).max(length);
        let mut grow = |capacity: usize| take(&mut self.memory, capacity - room).map(|()| capacity);
        let capacity = grow(doubled).or_else(|_| grow(more))?;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }

    /// Appends `part`.
    ///
    /// # Errors
    /// What is full; nothing is appended then.
    pub fn push(&mut self, part: &[u8]) -> Result<(), Full> {
        let length = self.bytes.len().saturating_add(part.len());
        if length > self.bytes_max {
            return Err(Full::Limit);
        }
        if length > self.bytes.capacity() && !self.grow(length) {
            return Err(Full::Memory);
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Makes room for `length` bytes, and more where there is memory for it.
    fn grow(&mut self, length: usize) -> bool {
        // Doubling copies each byte about once; when there is not that much, what is needed may do.
        self.grow_to(length, self.doubled(length)) || self.grow_to(length, length)
    }

    /// Room for `length` bytes by powers of two, so that the last doubling does not depend on the size of the first part.
    fn doubled(&self, length: usize) -> usize {
        length.checked_next_power_of_two().unwrap_or(length).max(BUFFER_BYTES_FIRST).min(self.bytes_max)
    }

    /// Octets that it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes, and the memory that they take.
    #[must_use]
    pub fn into_parts(mut self) -> (Vec<u8>, Reservation) {
        self.memory.shrink_to(self.bytes.capacity());
        (self.bytes, self.memory)
    }

    /// What was pushed so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory that is taken.
    pub fn memory_mut(&mut self) -> &mut Reservation {
        &mut self.memory
    }

    fn grow_to(&mut self, length: usize, capacity: usize) -> bool {
        let room = self.bytes.capacity();
        if length <= room {
            return true;
        }
        let fits = self.memory.try_grow(capacity - room);
        if fits {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_exceeded_and_gets_everything_back() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.try_reserve(60).unwrap();
        assert!(budget.try_reserve(41).is_none());
        let second = budget.try_reserve(40).unwrap();
        assert!(!first.try_grow(1));
        drop(second);
        assert!(first.try_grow(40));
        first.shrink_to(10);
        drop(first.split(4));
        assert_eq!(budget.used_bytes(), 6);
        assert!(!first.try_resize(101) && first.try_resize(100) && first.try_resize(6));
        assert_eq!(budget.used_bytes(), 6);
        first.shrink_to(10);
        assert_eq!(first.bytes(), 6);
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_buffer_takes_memory_before_it_keeps_bytes() {
        let budget = MemoryBudget::new(10_000);
        let mut buffer = Buffer::new(budget.try_reserve(0).unwrap(), 9_000);
        buffer.push(&[b'x'; 100]).unwrap();
        assert_eq!(budget.used_bytes(), BUFFER_BYTES_FIRST);
        let other = budget.try_reserve(4_000).unwrap();
        buffer.push(&[b'x'; 5_000]).unwrap();
        assert_eq!(budget.used_bytes(), 4_000 + 5_100, "not doubled, for want of memory");
        assert_eq!(buffer.push(&[b'x'; 1_000]), Err(Full::Memory));
        assert_eq!(buffer.push(&[b'x'; 4_000]), Err(Full::Limit));
        drop(other);
        buffer.push(&[b'x'; 3_900]).unwrap();
        let (bytes, memory) = buffer.into_parts();
        assert_eq!((bytes.len(), memory.bytes()), (9_000, 9_000));
    }

    #[test]
    fn room_that_is_made_beforehand_is_taken_beforehand() {
        let budget = MemoryBudget::new(10_000);
        let mut buffer = Buffer::new(budget.try_reserve(0).unwrap(), usize::MAX);
        assert!(!buffer.try_reserve(10_001));
        assert_eq!(budget.used_bytes(), 0);
        assert!(buffer.try_reserve(6_000));
        assert_eq!(budget.used_bytes(), 6_000);
        buffer.push(&[b'x'; 6_000]).unwrap();
        assert_eq!(budget.used_bytes(), 6_000, "nothing grew");
    }

    #[test]
    fn a_reservation_that_overflows_is_refused() {
        let budget = MemoryBudget::new(usize::MAX);
        let _one = budget.try_reserve(1).unwrap();
        assert!(budget.try_reserve(usize::MAX).is_none());
    }
}
