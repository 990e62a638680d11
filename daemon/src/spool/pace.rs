//! When a delivery that failed is tried again, and how many run at once. Pure.

use std::time::Duration;

/// The wait after the first failed delivery; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// The longest wait before jitter: with it, an hour.
const LAST_WAIT: Duration = Duration::from_secs(3_000);

/// The longest time that a webhook is left alone because it asks for it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The shortest such time: a webhook that asks for none is not asked again in a loop.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// How long a delivery waits after it has failed `failures` times: what the webhook asked for, or
/// from one minute to one hour. `random` spreads deliveries that failed together over a fifth of
/// their wait.
#[must_use]
pub fn wait_after(failures: u32, retry_after: Option<Duration>, random: u16) -> Duration {
    if let Some(wanted) = retry_after {
        return wanted.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX);
    }
    // 2^6 minutes are more than the longest wait.
    let wait = (FIRST_WAIT * 2u32.pow(failures.saturating_sub(1).min(6))).min(LAST_WAIT);
    wait + wait * u32::from(random) / (5 * u32::from(u16::MAX))
}

/// How many deliveries to one destination may run at once: few after a failure, and with each success
/// more. A webhook that comes back after an outage is not hit by all that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    size: u32,
    max: u32,
}

impl Window {
    /// A window that grows up to `max`.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { size: 1, max }
    }

    /// Deliveries that may run at once.
    #[must_use]
    pub fn size(self) -> u32 {
        self.size
    }

    /// A delivery succeeded.
    pub fn widen(&mut self) {
        self.size = (self.size + 1).min(self.max);
    }

    /// A delivery failed.
    pub fn narrow(&mut self) {
        self.size = (self.size / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_minute_to_an_hour() {
        let waits: Vec<u64> = (1..9).map(|failures| wait_after(failures, None, 0).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1_920, 3_000, 3_000]);
        assert_eq!(wait_after(1, None, u16::MAX), Duration::from_secs(72));
        assert_eq!(wait_after(u32::MAX, None, u16::MAX), Duration::from_secs(3_600));
    }

    #[test]
    fn what_the_webhook_asks_for_is_heeded_within_bounds() {
        for (wanted, wait) in [(0, 1), (7, 7), (3_600, 3_600), (u64::MAX, 3_600)] {
            let wanted = Some(Duration::from_secs(wanted));
            assert_eq!(wait_after(5, wanted, u16::MAX), Duration::from_secs(wait));
        }
    }

    #[test]
    fn a_window_grows_by_success_and_halves_by_failure() {
        let mut window = Window::new(4);
        assert_eq!(window.size(), 1);
        (0..9).for_each(|_| window.widen());
        assert_eq!(window.size(), 4);
        window.narrow();
        assert_eq!(window.size(), 2);
        (0..9).for_each(|_| window.narrow());
        assert_eq!(window.size(), 1);
    }
}
