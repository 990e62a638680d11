//! Memory for messages that are read from disk. Large ones wait for theirs in a queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::config::MEMORY_PER_MAIL;
use crate::memory::{MemoryBudget, Reservation};
use crate::spool::lane::Pair;

/// Bytes of a message that is large: it is not in memory when it was accepted, and seldom finds as much memory free as
/// it needs while thousands of smaller ones come and go.
const LARGE_BYTES: usize = 1024 * 1024;

/// How long a large message collects memory before it gives it back: less than any webhook takes for a request.
const COLLECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How often memory that has become free is looked for.
const COLLECT_INTERVAL: Duration = Duration::from_millis(20);

/// The part of all memory that is left to others while memory is collected: what comes in goes on. The largest message
/// that the default allows needs as much.
const LEFT_TO_OTHERS: usize = 2;

/// The wait after the first time that there was no memory; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait: as long as after the first failure of a webhook.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How often it is logged that messages wait for memory.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Messages that are remembered as waiting for memory, some 40 bytes each: as many as there are in memory.
const WAITING_MAX: usize = 65_536;

/// The budget as messages from disk see it.
#[derive(Debug)]
pub(super) struct MemoryQueue {
    budget: Arc<MemoryBudget>,
    /// Held by the large message that collects memory and is read: the one that waits longest is next.
    turn: Mutex<()>,
}

impl MemoryQueue {
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self { budget, turn: Mutex::new(()) }
    }

    /// Takes the memory that it takes to read a message of `bytes` and turn it into a request; `None` when there is not
    /// enough now. A large message gets the `turn`, too, which it holds until it is a request.
    pub(super) async fn reserve<'q>(
        &'q self,
        bytes: usize,
        turn: &mut Option<MutexGuard<'q, ()>>,
    ) -> Option<Reservation> {
        let needed = bytes.saturating_mul(MEMORY_PER_MAIL);
        if bytes <= LARGE_BYTES {
            return (needed <= self.budget.free_for_deliveries()).then(|| self.budget.try_reserve(needed))?;
        }
        *turn = Some(timeout(COLLECT_TIME_MAX, self.turn.lock()).await.ok()?);
        timeout(COLLECT_TIME_MAX, self.collect(needed)).await.ok()
    }

    /// Collects what becomes free, beyond what is left to others.
    async fn collect(&self, needed: usize) -> Reservation {
        let limit = self.budget.limit_bytes();
        // The largest message that the configuration allows needs all of it.
        let left_to_others = (limit / LEFT_TO_OTHERS).min(limit.saturating_sub(needed));
        loop {
            if let Some(mut collected) = self.budget.try_reserve(0) {
                while collected.bytes() < needed {
                    let free = self.budget.free_bytes().saturating_sub(left_to_others);
                    let more = free.min(needed - collected.bytes());
                    if more == 0 || !collected.try_grow(more) {
                        sleep(COLLECT_INTERVAL).await;
                    }
                }
                return collected;
            }
            sleep(COLLECT_INTERVAL).await;
        }
    }
}

/// Messages that were due and found no memory.
#[derive(Debug, Default)]
pub(super) struct MemoryWaits {
    /// How often each of them found none.
    tries: HashMap<Pair, u32>,
    logged_at: Option<Instant>,
}

impl MemoryWaits {
    /// Notes that a message found no memory; returns how long it waits, and whether to log that messages wait.
    pub(super) fn note(&mut self, pair: Pair, now: Instant) -> (Duration, bool) {
        let mut wait = FIRST_WAIT;
        if self.tries.len() < WAITING_MAX || self.tries.contains_key(&pair) {
            let tries = self.tries.entry(pair).or_default();
            // 2^6 seconds are more than the longest wait.
            wait = (FIRST_WAIT * 2u32.pow((*tries).min(6))).min(LAST_WAIT);
            *tries += 1;
        }
        let is_logged = self.logged_at.is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL);
        if is_logged {
            self.logged_at = Some(now);
        }
        (wait, is_logged)
    }

    /// Notes that a message found memory, or needs none any more.
    pub(super) fn end(&mut self, pair: Pair) {
        self.tries.remove(&pair);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.tries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::segment::Location;

    const MIB: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn large_message_collects_memory_that_others_give_back() {
        let budget = MemoryBudget::new(64 * MIB);
        let queue = MemoryQueue::new(Arc::clone(&budget));
        let mut turn = None;
        // Others take whatever is free, and give it back in small pieces.
        let mut others: Vec<Reservation> = (0..60).map(|_| budget.try_reserve(MIB).unwrap()).collect();
        let (large, ()) = tokio::join!(queue.reserve(4 * MIB, &mut turn), async {
            while others.pop().is_some() && others.len() > 8 {
                sleep(COLLECT_INTERVAL * 2).await;
                // A session comes meanwhile, and is let in.
                assert!(budget.try_reserve(16 * 1024).is_some());
            }
        });
        assert_eq!(large.unwrap().bytes(), 4 * MIB * MEMORY_PER_MAIL);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_that_does_not_become_free_is_given_back_in_time() {
        let budget = MemoryBudget::new(64 * MIB);
        let queue = MemoryQueue::new(Arc::clone(&budget));
        let held = budget.try_reserve(50 * MIB).unwrap();
        let begun = Instant::now();
        let (mut one, mut other) = (None, None);
        let (first, second) =
            tokio::join!(queue.reserve(4 * MIB, &mut one), queue.reserve(4 * MIB, &mut other));
        assert!(first.is_none() && second.is_none());
        assert!(begun.elapsed() <= COLLECT_TIME_MAX * 2);
        assert_eq!(budget.used_bytes(), 50 * MIB);
        drop((held, one, other));
        assert!(queue.reserve(4 * MIB, &mut None).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_are_logged_now_and_then() {
        let pair = |offset| Pair { mail: Location { segment: 1, offset }, destination: 0 };
        let mut waits = MemoryWaits::default();
        let now = Instant::now();
        let all: Vec<(u64, bool)> = (0..9)
            .map(|_| waits.note(pair(1), now))
            .map(|(wait, is_logged)| (wait.as_secs(), is_logged))
            .collect();
        assert_eq!(all.iter().map(|(wait, _)| *wait).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(all.iter().filter(|(_, is_logged)| *is_logged).count(), 1);
        assert!(waits.note(pair(2), now + LOG_INTERVAL).1);
        assert_eq!(waits.len(), 2);
        waits.end(pair(1));
        assert_eq!(waits.note(pair(1), now).0, FIRST_WAIT);
    }
}
