//! Which transfers end when memory or room on disk is short. Pure.

use std::cmp::Reverse;
use std::time::Duration;

/// A transfer as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Bytes that it holds of what is short.
    pub held: usize,
    /// Bytes a second that it has sent lately.
    pub rate: u64,
    /// Whether it was chosen before, so that what it holds comes back already.
    pub is_ending: bool,
}

impl Candidate {
    /// Seconds that it would take at its recent rate to send what it holds: its cost to others, and how far it is from
    /// making progress.
    fn slowness(&self) -> u64 {
        self.held as u64 / self.rate.max(1)
    }
}

/// Chooses the slowest transfers, until what they hold makes `missing` bytes or no slow one is left. A transfer that
/// sends what it holds within `slow_after` makes progress, and is not chosen. Returns their indices, and the bytes that
/// come back, those of transfers that were chosen before included.
#[must_use]
pub fn choose(candidates: &[Candidate], missing: usize, slow_after: Duration) -> (Vec<usize>, usize) {
    let mut coming: usize =
        candidates.iter().filter(|it| it.is_ending).fold(0, |sum, it| sum.saturating_add(it.held));
    let is_slow = |it: &Candidate| !it.is_ending && it.held > 0 && it.slowness() > slow_after.as_secs();
    let mut slow: Vec<(usize, &Candidate)> =
        candidates.iter().enumerate().filter(|(_, it)| is_slow(it)).collect();
    // Of several that stand still, the largest one goes: the fewest clients have to come again.
    slow.sort_unstable_by_key(|(index, it)| (Reverse(it.slowness()), Reverse(it.held), *index));
    let mut chosen = Vec::new();
    for (index, candidate) in slow {
        if coming >= missing {
            break;
        }
        coming = coming.saturating_add(candidate.held);
        chosen.push(index);
    }
    (chosen, coming)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn candidate(held: usize, rate: u64) -> Candidate {
        Candidate { held, rate, is_ending: false }
    }

    #[test]
    fn the_slowest_goes_first() {
        const MIB: usize = 1024 * 1024;
        let stalled = candidate(25 * MIB, 1);
        let modem = candidate(MIB / 8, 100);
        let dsl = candidate(20 * MIB, 500_000);
        let ending = Candidate { is_ending: true, ..stalled };
        for (candidates, missing, expected) in [
            (vec![], 1, (vec![], 0)),
            (vec![dsl, dsl], 1, (vec![], 0)),
            (vec![modem, stalled, dsl], 1, (vec![1], 25 * MIB)),
            (vec![modem, stalled, dsl], 26 * MIB, (vec![1, 0], 25 * MIB + MIB / 8)),
            (vec![candidate(MIB, 0), stalled], 1, (vec![1], 25 * MIB)),
            (vec![candidate(MIB, 0), candidate(2 * MIB, 0)], 1, (vec![1], 2 * MIB)),
            (vec![ending, stalled], 25 * MIB, (vec![], 25 * MIB)),
            (vec![ending, stalled], 25 * MIB + 1, (vec![1], 50 * MIB)),
            (vec![candidate(0, 0)], 1, (vec![], 0)),
        ] {
            assert_eq!(choose(&candidates, missing, MINUTE), expected, "{candidates:?}, {missing}");
        }
    }

    proptest! {
        #[test]
        fn none_that_makes_progress_is_chosen_and_none_slower_is_left(
            candidates in proptest::collection::vec(
                (0_usize..30_000_000, prop_oneof![0_u64..1_000, 0_u64..10_000_000], any::<bool>())
                    .prop_map(|(held, rate, is_ending)| Candidate { held, rate, is_ending }), 0..50),
            missing in 0_usize..300_000_000,
        ) {
            let (chosen, coming) = choose(&candidates, missing, MINUTE);
            let slowest_left = candidates.iter().enumerate()
                .filter(|(index, it)| !chosen.contains(index) && !it.is_ending)
                .map(|(_, it)| it.slowness()).max().unwrap_or(0);
            for index in &chosen {
                let it = candidates[*index];
                prop_assert!(!it.is_ending && it.rate.saturating_mul(60) < it.held as u64);
                prop_assert!(it.slowness() >= slowest_left);
            }
            prop_assert!(coming >= missing || slowest_left <= 60, "all slow ones go when they are needed");
            if let Some((last, before)) = chosen.split_last() {
                let without = coming - candidates[*last].held;
                prop_assert!(without < missing, "no more go than are needed: {before:?}");
            }
        }
    }
}
