//! Rates of content: the least that a client must send at, and the latest that it sent at. Pure.

use std::time::Duration;

use super::limits::{CONTENT_BURST, CONTENT_RATE_MIN, CONTENT_WAIT_MAX};

/// Minimum rate of the content of one message, in every interval.
///
/// A bucket of time: waiting for the client spends it, bytes fill it at the minimum rate, and it never holds more than
/// [`CONTENT_BURST`], so that bytes sent early buy no silence later. Only the time that a session waits for the client
/// counts: a client is not slow because its bytes are not read. The longest wait is free: a client that pauses once, to
/// scan a message or because packets were lost, would otherwise be sent away at every try.
#[derive(Debug)]
pub struct MinimumRate {
    bytes: u64,
    credit: Duration,
    longest_wait: Duration,
    /// All waits but the longest one.
    counted: Duration,
}

impl Default for MinimumRate {
    fn default() -> Self {
        Self { bytes: 0, credit: CONTENT_BURST, longest_wait: Duration::ZERO, counted: Duration::ZERO }
    }
}

impl MinimumRate {
    /// Returns how long the client may be silent from now on, `idle_timeout` at most.
    #[must_use]
    pub fn patience(&self, idle_timeout: Duration) -> Duration {
        let credit = self.credit.min(CONTENT_WAIT_MAX.saturating_sub(self.counted));
        // A wait that becomes the longest one costs what the longest one before was.
        if self.longest_wait <= credit { idle_timeout } else { credit.min(idle_timeout) }
    }

    /// Counts a wait, and the bytes that ended it.
    pub fn record(&mut self, wait: Duration, bytes: usize) {
        let cost = wait.min(self.longest_wait);
        self.longest_wait = wait.max(self.longest_wait);
        self.counted = self.counted.saturating_add(cost);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let earned = (bytes as u64).saturating_mul(1_000_000_000) / required_rate(self.bytes);
        let credit = self.credit.saturating_sub(cost).saturating_add(Duration::from_nanos(earned));
        self.credit = credit.min(CONTENT_BURST);
    }
}

/// Bytes a second that a client must send which has sent `bytes`: enough to send as much again in [`CONTENT_WAIT_MAX`].
/// Otherwise a client could hold a large message for hours by sending the rest of it at the rate of a modem.
fn required_rate(bytes: u64) -> u64 {
    CONTENT_RATE_MIN.max(bytes / CONTENT_WAIT_MAX.as_secs())
}

/// Time in which [`RecentRate`] forgets half of what came before: a few lost packets cost less, and a client that stops
/// shows as slow within seconds.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// Rate of the last few seconds.
#[derive(Debug, Default)]
pub struct RecentRate {
    /// Bytes so far, halved for each [`HALF_LIFE`] that has passed since.
    bytes: u64,
    /// Time of the last halving.
    at: Duration,
}

impl RecentRate {
    /// Counts bytes that came at `now`, a time on a clock of the caller's choice.
    pub fn record(&mut self, now: Duration, bytes: usize) {
        let halvings = self.halvings(now);
        self.bytes = halved(self.bytes, halvings).saturating_add(bytes as u64);
        self.at += HALF_LIFE.saturating_mul(halvings);
    }

    /// Returns bytes a second at `now`: of a steady client, once to twice its rate.
    #[must_use]
    pub fn at(&self, now: Duration) -> u64 {
        halved(self.bytes, self.halvings(now)) / HALF_LIFE.as_secs()
    }

    fn halvings(&self, now: Duration) -> u32 {
        let passed = now.saturating_sub(self.at).as_nanos() / HALF_LIFE.as_nanos();
        u32::try_from(passed).unwrap_or(u32::MAX)
    }
}

fn halved(bytes: u64, times: u32) -> u64 {
    bytes.checked_shr(times).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
    const MEBIBYTE: usize = 1024 * 1024;

    type Waits = Box<dyn Iterator<Item = (Duration, usize)>>;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Waits as a client makes them; returns for how long it stayed, and whether it was cut off.
    fn stay(waits: impl IntoIterator<Item = (Duration, usize)>) -> (Duration, bool) {
        let (mut rate, mut stayed) = (MinimumRate::default(), Duration::ZERO);
        for (wait, bytes) in waits {
            let patience = rate.patience(IDLE_TIMEOUT);
            if wait > patience {
                return (stayed + patience, true);
            }
            stayed += wait;
            rate.record(wait, bytes);
        }
        (stayed, false)
    }

    /// A client that sends `bytes` each time after `wait`, `times` times.
    fn steady(wait: Duration, bytes: usize, times: usize) -> impl Iterator<Item = (Duration, usize)> {
        std::iter::repeat_n((wait, bytes), times)
    }

    #[test]
    fn clients_are_cut_off_by_their_rate_in_every_interval() {
        let fast = |mebibytes: usize| steady(Duration::ZERO, MEBIBYTE, mebibytes);
        let trickle = || steady(seconds(1), 1, 10_000);
        let cases: [(&str, Waits, Option<u64>); 12] = [
            ("a trickle from the start", Box::new(trickle()), Some(182)),
            ("17 MiB, then a trickle", Box::new(fast(17).chain(trickle())), Some(181)),
            (
                "17 MiB, then the rate of a modem",
                Box::new(fast(17).chain(steady(seconds(1), 100, 10_000))),
                Some(188),
            ),
            (
                "17 MiB, then one pause, and a trickle",
                Box::new(fast(17).chain(steady(seconds(299), 1, 1)).chain(trickle())),
                Some(299 + 180),
            ),
            (
                "17 MiB, then pauses over and over",
                Box::new(fast(17).chain(steady(seconds(290), 1_000, 100))),
                Some(290 + 180),
            ),
            ("one pause before the content", Box::new(steady(seconds(299), 1, 1).chain(fast(25))), None),
            (
                "one pause within the content",
                Box::new(fast(10).chain(steady(seconds(299), 1, 1)).chain(fast(15))),
                None,
            ),
            ("a modem", Box::new(steady(seconds(1), 100, 1_800)), None),
            ("a modem with TLS records of 16 KiB", Box::new(steady(seconds(163), 16 * 1024, 10)), None),
            ("a modem of half that rate", Box::new(steady(seconds(2), 100, 1_800)), Some(361)),
            (
                "25 MiB over a modem of 28,800 bit/s",
                Box::new(steady(seconds(1), 3_700, 25 * MEBIBYTE / 3_700)),
                None,
            ),
            ("content without an end", Box::new(steady(seconds(1), 10_000_000, 10_000)), Some(7_201)),
        ];
        for (name, waits, cut_off) in cases {
            let (stayed, was_cut_off) = stay(waits);
            assert_eq!(was_cut_off.then_some(stayed.as_secs()), cut_off, "{name}: {stayed:?}");
        }
    }

    /// How long a client may stay that sends `bytes` in all, whatever it does: far below two hours.
    fn longest_stay(bytes: u64) -> Duration {
        IDLE_TIMEOUT + (CONTENT_BURST + seconds(bytes / CONTENT_RATE_MIN + 1)).min(CONTENT_WAIT_MAX)
    }

    fn waits() -> impl Strategy<Value = Vec<(Duration, usize)>> {
        let wait = prop_oneof![Just(0), 0_u64..2_000, 0_u64..400_000];
        let bytes = prop_oneof![Just(1), 0_usize..20_000, 0_usize..2_000_000];
        proptest::collection::vec((wait.prop_map(Duration::from_millis), bytes), 0..200)
    }

    proptest! {
        #[test]
        fn no_client_stays_longer_than_its_bytes_allow(waits in waits()) {
            let bytes: usize = waits.iter().map(|(_, bytes)| bytes).sum();
            prop_assert!(stay(waits).0 <= longest_stay(bytes as u64));
        }

        /// What was sent before makes no later silence longer.
        #[test]
        fn a_client_that_stops_is_cut_off_soon_whatever_it_sent(waits in waits(), silence in waits()) {
            let mut rate = MinimumRate::default();
            for (wait, bytes) in waits {
                rate.record(wait.min(rate.patience(IDLE_TIMEOUT)), bytes);
            }
            let mut stayed = Duration::ZERO;
            for (wait, _) in silence {
                let patience = rate.patience(IDLE_TIMEOUT);
                stayed += wait.min(patience);
                if wait > patience {
                    break;
                }
                rate.record(wait, 0);
            }
            prop_assert!(stayed <= IDLE_TIMEOUT + CONTENT_BURST);
        }

        /// At the minimum rate or above, in pieces that come within half of the burst, with a pause anywhere.
        #[test]
        fn a_steady_client_is_never_cut_off(
            rate in CONTENT_RATE_MIN..100_000,
            gaps in proptest::collection::vec(1..=CONTENT_BURST.as_millis() as u64 / 2, 1..200),
            pause in (0_usize..200, 0..=IDLE_TIMEOUT.as_millis() as u64),
        ) {
            // So many bytes that their rate is the minimum for a message of this size.
            let bytes_max = rate.saturating_mul(CONTENT_WAIT_MAX.as_secs());
            let mut sent = 0;
            let mut waits: Vec<_> = gaps.into_iter().map_while(|gap| {
                let bytes = (rate * gap).div_ceil(1_000);
                sent += bytes;
                (sent <= bytes_max).then_some((Duration::from_millis(gap), bytes as usize))
            }).collect();
            if let Some((wait, _)) = waits.get_mut(pause.0) {
                *wait = Duration::from_millis(pause.1).max(*wait);
            }
            prop_assert!(!stay(waits).1);
        }
    }

    #[test]
    fn the_recent_rate_follows_what_comes() {
        let mut rate = RecentRate::default();
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            now += Duration::from_millis(100);
            rate.record(now, 1_000);
        }
        assert!((10_000..=20_000).contains(&rate.at(now)), "{}", rate.at(now));
        rate.record(now, 17 * MEBIBYTE);
        assert!(rate.at(now) > 17_000_000);
        assert!(rate.at(now + seconds(6)) < 300_000, "{}", rate.at(now + seconds(6)));
        assert_eq!((rate.at(now + seconds(60)), rate.at(Duration::MAX)), (0, 0));
    }
}
