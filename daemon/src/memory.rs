//! One bound on the memory that mail may take: sessions, queue and deliveries together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that is handed out in [`Reservation`]s and never exceeded.
#[derive(Debug)]
pub struct MemoryBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicUsize::new(0) })
    }

    /// Takes `bytes` from the budget, or nothing when there is less left.
    #[must_use]
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.take(bytes).then(|| Reservation { budget: Arc::clone(self), bytes })
    }

    /// Bytes that are handed out.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let within_limit = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
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
        let grown = self.budget.take(bytes);
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

    /// Takes up to `bytes` of what is held into a reservation of its own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
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
        first.shrink_to(10);
        assert_eq!(first.bytes(), 6);
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_reservation_that_overflows_is_refused() {
        let budget = MemoryBudget::new(usize::MAX);
        let _one = budget.try_reserve(1).unwrap();
        assert!(budget.try_reserve(usize::MAX).is_none());
    }
}
