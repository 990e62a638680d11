//! Quotas of client addresses: how much of a shared resource the unfinished messages of one client may hold.
//!
//! The bound follows what is free (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998), so it needs no setting:
//! one greedy client leaves half to the others, two leave a third, and no number of them takes the reserve.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::Reservation;

/// Part of the memory that large messages leave free: for new sessions, small messages, and what it takes to read a
/// message. By default 32 MiB, which is 2,048 sessions.
const MEMORY_RESERVE: usize = 8;

/// Part of the memory that small messages leave free, for new sessions alone: by default 16 MiB, or 1,024 sessions.
const MEMORY_RESERVE_OF_SMALL: usize = 16;

/// Bytes that a client may hold whatever others hold: most messages are smaller. In a small memory, [`SMALL_PART`] of it.
const SMALL_BYTES: usize = 256 * 1024;
const SMALL_PART: usize = 64;

/// What one client holds of the resources that all clients share. A clone counts the same.
#[derive(Debug, Clone, Default)]
pub struct ClientUsage {
    /// Memory of messages that are not answered yet.
    pub memory: Usage,
    /// Room on disk of messages that are not complete.
    pub disk: Usage,
}

impl ClientUsage {
    /// Usage of a client that can be told from others.
    #[must_use]
    pub fn limited() -> Self {
        Self { memory: Usage(Some(Arc::default())), disk: Usage(Some(Arc::default())) }
    }
}

/// What one client holds of one resource. By default that of clients which cannot be told apart, such as those behind a
/// load balancer: a quota would let one of them choke all others.
#[derive(Debug, Clone, Default)]
pub struct Usage(Option<Arc<AtomicUsize>>);

/// Why a client may not have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// It holds its quota.
    Quota,
    /// There are this many bytes too few for it, whoever asks.
    Free(usize),
}

/// How a resource is divided among clients.
#[derive(Debug, Clone, Copy)]
pub struct Division {
    reserve: usize,
    reserve_of_small: usize,
    small: usize,
    /// A client may hold `weight.0 / weight.1` of what it leaves free.
    weight: (usize, usize),
}

impl Division {
    /// Division of the memory.
    #[must_use]
    pub fn of_memory(limit_bytes: usize) -> Self {
        Self {
            reserve: limit_bytes / MEMORY_RESERVE,
            reserve_of_small: limit_bytes / MEMORY_RESERVE_OF_SMALL,
            small: SMALL_BYTES.min(limit_bytes / SMALL_PART),
            // A message is at most a fifth of the memory, so half of what others leave has room for the largest one.
            weight: (1, 1),
        }
    }

    /// Division of room for messages of up to `message_bytes_max`, the largest of which a client can bring that is alone.
    #[must_use]
    pub fn of_disk(limit_bytes: usize, message_bytes_max: usize) -> Self {
        let rest = limit_bytes.saturating_sub(message_bytes_max);
        Self { reserve: 0, reserve_of_small: 0, small: 0, weight: (message_bytes_max.max(rest), rest) }
    }

    /// Returns how much has to stay free when a client takes `bytes` of `free`, having held `held` before.
    fn check(&self, held: usize, is_limited: bool, free: usize, bytes: usize) -> Result<usize, Shortage> {
        let held = held.saturating_add(bytes);
        let reserve = if held <= self.small { self.reserve_of_small } else { self.reserve };
        let needed = bytes.saturating_add(reserve);
        let left = free.checked_sub(needed).ok_or_else(|| Shortage::Free(needed - free))?;
        let (weight, of) = (self.weight.0 as u128, self.weight.1 as u128);
        if is_limited && held > self.small && held as u128 * of > left as u128 * weight {
            return Err(Shortage::Quota);
        }
        Ok(reserve)
    }
}

/// What one message holds of its client's quota; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    usage: Usage,
    bytes: usize,
}

impl Usage {
    /// A permit for nothing yet.
    #[must_use]
    pub fn permit(&self) -> Permit {
        Permit { usage: self.clone(), bytes: 0 }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.load(Ordering::Acquire))
    }
}

impl Permit {
    /// Grows `reservation` by `bytes`, if `division` lets this client have them.
    ///
    /// # Errors
    /// Why not; nothing changed then.
    pub fn try_grow(
        &mut self,
        reservation: &mut Reservation,
        bytes: usize,
        division: &Division,
    ) -> Result<(), Shortage> {
        let free = reservation.free_bytes();
        let left = match &self.usage.0 {
            None => division.check(self.bytes, false, free, bytes)?,
            Some(usage) => {
                let mut held = usage.load(Ordering::Acquire);
                loop {
                    let left = division.check(held, true, free, bytes)?;
                    match usage.compare_exchange_weak(
                        held,
                        held.saturating_add(bytes),
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    ) {
                        Ok(_) => break left,
                        Err(changed) => held = changed,
                    }
                }
            }
        };
        self.bytes += bytes;
        if reservation.try_grow_leaving(bytes, left) {
            return Ok(());
        }
        // Somebody else took it meanwhile.
        self.shrink_to(self.bytes - bytes);
        Err(Shortage::Free(bytes))
    }

    /// Gives back what is held above `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if let Some(usage) = &self.usage.0 {
            usage.fetch_sub(surplus, Ordering::AcqRel);
        }
        self.bytes -= surplus;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryBudget;

    const MEBIBYTE: usize = 1024 * 1024;

    struct Divided {
        budget: Arc<MemoryBudget>,
        division: Division,
    }

    struct Greedy {
        usage: Usage,
        held: Vec<(Permit, Reservation)>,
    }

    impl Greedy {
        fn new(is_limited: bool) -> Self {
            let usage = if is_limited { ClientUsage::limited() } else { ClientUsage::default() };
            Self { usage: usage.memory, held: Vec::new() }
        }

        fn take(&mut self, divided: &Divided, bytes: usize) -> Result<(), Shortage> {
            let mut held = (self.usage.permit(), divided.budget.try_reserve(0).unwrap());
            held.0.try_grow(&mut held.1, bytes, &divided.division)?;
            self.held.push(held);
            Ok(())
        }
    }

    fn memory(limit_bytes: usize) -> Divided {
        Divided { budget: MemoryBudget::new(limit_bytes), division: Division::of_memory(limit_bytes) }
    }

    /// So many clients take `bytes` at a time until none gets more; returns what is free then.
    fn left_by(clients: usize, divided: &Divided, bytes: usize) -> (usize, Vec<Greedy>) {
        let mut clients: Vec<Greedy> = (0..clients).map(|_| Greedy::new(true)).collect();
        while clients.iter_mut().map(|it| it.take(divided, bytes).is_ok()).fold(false, |any, it| any | it) {}
        (divided.budget.free_bytes(), clients)
    }

    #[test]
    fn greedy_clients_leave_as_much_above_the_reserve_as_each_holds() {
        for (clients, free_min) in [(1, 143), (2, 106), (20, 42), (200, 33)] {
            let divided = memory(256 * MEBIBYTE);
            let (free, _clients) = left_by(clients, &divided, 64 * 1024);
            assert!(free >= free_min * MEBIBYTE, "{clients} leave {free}");
            assert_eq!(Greedy::new(true).take(&divided, 512 * 1024), Ok(()), "{clients}: another client");
        }
        let divided = memory(256 * MEBIBYTE);
        let (free, _clients) = left_by(5_000, &divided, 64 * 1024);
        assert_eq!(free, 16 * MEBIBYTE, "new sessions find room, whatever the number of clients");
    }

    #[test]
    fn a_client_that_is_alone_can_bring_the_largest_message() {
        for limit in [MEBIBYTE, 16 * MEBIBYTE, 256 * MEBIBYTE] {
            let divided = memory(limit);
            assert_eq!(Greedy::new(true).take(&divided, limit / 5), Ok(()), "{limit}");
        }
        for (limit, largest) in [(25, 25), (26, 25), (49, 25), (50, 25), (128, 25)] {
            let budget = MemoryBudget::new(limit * MEBIBYTE);
            let division = Division::of_disk(limit * MEBIBYTE, largest * MEBIBYTE);
            let divided = Divided { budget, division };
            let mut client = Greedy::new(true);
            for _ in 0..largest {
                assert_eq!(client.take(&divided, MEBIBYTE), Ok(()), "{limit}");
            }
        }
    }

    #[test]
    fn clients_that_cannot_be_told_apart_have_no_quota_and_leave_the_reserve() {
        let divided = memory(256 * MEBIBYTE);
        let mut all = Greedy::new(false);
        while all.take(&divided, MEBIBYTE).is_ok() {}
        assert_eq!(divided.budget.free_bytes(), 32 * MEBIBYTE);
        assert_eq!(all.take(&divided, MEBIBYTE), Err(Shortage::Free(MEBIBYTE)));
        assert_eq!(all.take(&divided, 64 * 1024), Ok(()), "small messages go on");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let divided = memory(16 * MEBIBYTE);
        let mut client = Greedy::new(true);
        while client.take(&divided, MEBIBYTE).is_ok() {}
        assert_eq!(
            (client.take(&divided, MEBIBYTE), client.usage.bytes()),
            (Err(Shortage::Quota), 7 * MEBIBYTE)
        );
        client.held.pop();
        assert_eq!(client.take(&divided, MEBIBYTE), Ok(()));
        client.held.clear();
        assert_eq!((client.usage.bytes(), divided.budget.used_bytes()), (0, 0));
    }

    proptest! {
        /// Whatever clients take and give back, in whatever order.
        #[test]
        fn no_number_of_clients_takes_the_reserve(
            steps in proptest::collection::vec((0_usize..40, 0_usize..4 * MEBIBYTE, any::<bool>()), 0..300),
        ) {
            let divided = memory(32 * MEBIBYTE);
            let mut clients: Vec<Greedy> = (0..40).map(|number| Greedy::new(number % 4 != 0)).collect();
            for (client, bytes, gives_back) in steps {
                let client = &mut clients[client];
                if gives_back {
                    client.held.pop();
                } else {
                    let _ = client.take(&divided, bytes);
                }
                let held: usize = client.held.iter().map(|(permit, _)| permit.bytes).sum();
                let free = divided.budget.free_bytes();
                prop_assert!(free >= 2 * MEBIBYTE, "new sessions find room");
                prop_assert!(client.usage.0.is_none() || client.usage.bytes() == held);
            }
            clients.clear();
            prop_assert_eq!(divided.budget.used_bytes(), 0);
        }
    }
}
