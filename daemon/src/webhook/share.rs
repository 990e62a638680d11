//! What one destination holds of what all have together: places in the queue, and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much a destination holds of one thing. A clone counts the same.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<AtomicUsize>);

/// A part that is held; dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    held: Held,
    amount: usize,
}

impl Held {
    /// Takes `amount` of which `free` is free for all, unless the destination holds as much as that already.
    ///
    /// So one destination that hangs leaves half to the others, two leave a third: a bound that follows what there
    /// is, and that nobody has to set (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).
    #[must_use]
    pub fn take(&self, amount: usize, free: usize) -> Option<Share> {
        let more = |held: usize| (held < free).then_some(held.saturating_add(amount));
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Share { held: self.clone(), amount })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Destinations that hang take places until none gets a further one; returns how many are left.
    fn left_by(hanging: usize, places: usize) -> usize {
        let mut free = places;
        let mut all: Vec<(Held, Vec<Share>)> = Vec::new();
        all.resize_with(hanging, Default::default);
        loop {
            let mut taken = 0;
            for (held, shares) in &mut all {
                if let Some(share) = held.take(1, free) {
                    shares.push(share);
                    taken += 1;
                    free -= 1;
                }
            }
            if taken == 0 {
                return free;
            }
        }
    }

    #[test]
    fn those_that_hang_leave_as_much_to_the_others_as_each_has() {
        assert_eq!(left_by(1, 1_000), 500);
        assert_eq!(left_by(2, 999), 333);
        assert!((98..=100).contains(&left_by(100, 10_000)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let held = Held::default();
        let first = held.take(10, 10).unwrap();
        assert!(held.take(1, 10).is_none());
        drop(first);
        assert!(held.take(1, 1).is_some());
    }
}
