//! What one destination holds of what all have together: places in the queue, memory, and disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much a destination holds of one thing. A clone counts the same.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<AtomicUsize>);

/// What a destination holds in memory of what all have together.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// Places in the queue.
    pub places: Held,
    /// Octets of its mails.
    pub bytes: Held,
}

impl Holdings {
    /// Whether anything is held.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.places.amount() > 0 || self.bytes.amount() > 0
    }
}

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

    /// Takes `amount`, whatever is held.
    #[must_use]
    pub fn hold(&self, amount: usize) -> Share {
        self.0.fetch_add(amount, Ordering::AcqRel);
        Share { held: self.clone(), amount }
    }

    /// How much is held.
    #[must_use]
    pub fn amount(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Notes how much the destination holds, where others keep account of it.
    pub fn set(&self, amount: usize) {
        self.0.store(amount, Ordering::Release);
    }

    /// Whether the destination holds less than `limit`.
    #[must_use]
    pub fn is_below(&self, limit: usize) -> bool {
        self.amount() < limit
    }
}

/// How often a destination may hold what is free of a disk: alone it gets eight ninths, since what it holds there is
/// there for days and costs nobody time. Of two each gets eight seventeenths.
const OF_DISK: usize = 8;

/// The part of what is kept for others that one of them may hold. Who is down and holds more already gets nothing of it,
/// which in the smallest spool holds for more than a hundred of them.
const OF_RESERVE: usize = 16;

/// How much of a disk a destination may hold when so much is free, of which `reserve` is kept for those that hold
/// little: the rule of [`Held::take`], by which no number of destinations can take all that there is.
#[must_use]
pub fn of_disk(free: usize, reserve: usize) -> usize {
    free.saturating_sub(reserve).saturating_mul(OF_DISK).saturating_add(free.min(reserve) / OF_RESERVE)
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

    /// So many destinations that are down take of a disk until none gets more; returns what is left.
    fn left_of_disk_by(down: usize, bytes: usize, reserve: usize) -> usize {
        const MAIL: usize = 1_000;
        let mut free = bytes;
        let held: Vec<Held> = (0..down).map(|_| Held::default()).collect();
        let mut amounts = vec![0; down];
        loop {
            let before = free;
            for (held, amount) in held.iter().zip(&mut amounts) {
                if held.is_below(of_disk(free, reserve)) {
                    *amount += MAIL;
                    free -= MAIL;
                    held.set(*amount);
                }
            }
            if free == before {
                return free;
            }
        }
    }

    #[test]
    fn of_a_disk_one_takes_nearly_all_and_none_takes_what_is_kept_for_others() {
        const MB: usize = 1_000_000;
        assert!((13 * MB..14 * MB).contains(&left_of_disk_by(1, 100 * MB, 3 * MB)));
        assert!((8 * MB..9 * MB).contains(&left_of_disk_by(2, 100 * MB, 3 * MB)));
        for down in [10, 100, 500] {
            let left = left_of_disk_by(down, 100 * MB, 3 * MB);
            assert!((29 * MB / 10..=45 * MB / 10).contains(&left), "{down} leave {left}");
        }
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
