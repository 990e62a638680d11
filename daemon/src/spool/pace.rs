//! When a delivery that failed is tried again, and how many run at once. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

/// The wait after the first failed delivery; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// The longest wait before jitter: with it, an hour.
const LAST_WAIT: Duration = Duration::from_secs(3_000);

/// The longest time that a webhook is left alone because it asks for it.
const RETRY_AFTER_MAX: Duration = WAIT_MAX;

/// The longest wait between two deliveries, for whatever reason.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

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

/// How many deliveries to one destination may run at once: one at first, and more with each success. A
/// webhook that comes back after an outage is not hit by all that waits for it.
///
/// It grows by one for each success until a delivery fails. From then on it grows by one only when as
/// many have succeeded as may run, and all have ended that had begun before it last changed: what is
/// too much for the webhook is too much by one, and is known before there is more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    size: u32,
    max: u32,
    careful: bool,
    /// Successes since it changed.
    successes: u32,
    /// The next ticket when it last changed.
    changed_at: u64,
    next: u64,
    under_way: BTreeSet<u64>,
}

impl Window {
    /// A window that grows up to `max`.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self {
            size: 1,
            max,
            careful: false,
            successes: 0,
            changed_at: 0,
            next: 0,
            under_way: BTreeSet::new(),
        }
    }

    /// Lets it grow up to another size.
    pub fn set_max(&mut self, max: u32) {
        (self.max, self.size) = (max, self.size.min(max));
    }

    /// Whether another delivery may begin.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.under_way.len() < self.size as usize
    }

    /// A delivery begins; what is returned names it.
    pub fn begin(&mut self) -> u64 {
        self.under_way.insert(self.next);
        self.next += 1;
        self.next - 1
    }

    /// A delivery has ended. `succeeded` says how; `None` when the webhook was not asked.
    pub fn end(&mut self, delivery: u64, succeeded: Option<bool>) {
        self.under_way.remove(&delivery);
        match succeeded {
            Some(true) => {
                self.successes += 1;
                let known = self.under_way.first().is_none_or(|oldest| *oldest >= self.changed_at);
                if !self.careful || (known && self.successes >= self.size) {
                    self.change_to((self.size + 1).min(self.max));
                }
            }
            Some(false) => {
                self.careful = true;
                self.change_to((self.size / 2).max(1));
            }
            None => {}
        }
    }

    fn change_to(&mut self, size: u32) {
        (self.size, self.successes, self.changed_at) = (size, 0, self.next);
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

    /// So many deliveries at once, all of which end like that; how many may run then.
    fn round(window: &mut Window, succeed: bool) -> usize {
        let deliveries: Vec<u64> = std::iter::from_fn(|| window.has_room().then(|| window.begin())).collect();
        deliveries.iter().for_each(|delivery| window.end(*delivery, Some(succeed)));
        window.size as usize
    }

    #[test]
    fn a_window_doubles_until_a_delivery_fails_and_grows_by_one_afterwards() {
        let mut window = Window::new(64);
        let sizes: Vec<usize> = (0..7).map(|_| round(&mut window, true)).collect();
        assert_eq!(sizes, [2, 4, 8, 16, 32, 64, 64]);
        let delivery = window.begin();
        window.end(delivery, Some(false));
        let sizes: Vec<usize> = (0..3).map(|_| round(&mut window, true)).collect();
        assert_eq!(sizes, [33, 34, 35]);
        assert_eq!(round(&mut window, false), 1);
    }

    #[test]
    fn a_careful_window_waits_for_the_slow_ones() {
        let mut window = Window::new(64);
        let failed = window.begin();
        window.end(failed, Some(false));
        round(&mut window, true);
        assert_eq!(window.size, 2);
        let slow = window.begin();
        for _ in 0..9 {
            let quick = window.begin();
            window.end(quick, Some(true));
        }
        assert_eq!(window.size, 3, "once, since the slow one began after the last change");
        window.end(slow, None);
        let quick = window.begin();
        window.end(quick, Some(true));
        assert_eq!(window.size, 4);
    }
}
