//! One record a minute about clients that were sent away because memory or room was short. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Networks that are counted, of which [`NETWORKS_SHOWN`] are in a record. More would only make it longer.
const NETWORKS_MAX: usize = 32;
const NETWORKS_SHOWN: usize = 3;

/// Who was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A connection that got no session.
    Refused,
    /// A message of a client that holds its quota.
    OverQuota,
    /// A transfer that was ended for others.
    Ended,
    /// A transfer below the minimum rate.
    TooSlow,
}

/// Counts since the last record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections that got no session.
    pub refused: u64,
    /// Messages of clients that held their quota.
    pub over_quota: u64,
    /// Transfers that were ended for others.
    pub ended: u64,
    /// Transfers below the minimum rate.
    pub too_slow: u64,
    networks: BTreeMap<IpAddr, u64>,
}

impl Report {
    /// Counts an event of a client in `network`.
    pub fn count(&mut self, event: Event, network: IpAddr) {
        let count = match event {
            // Who is refused is not who holds the memory.
            Event::Refused => {
                self.refused += 1;
                return;
            }
            Event::OverQuota => &mut self.over_quota,
            Event::Ended => &mut self.ended,
            Event::TooSlow => &mut self.too_slow,
        };
        *count += 1;
        if self.networks.len() < NETWORKS_MAX || self.networks.contains_key(&network) {
            *self.networks.entry(network).or_default() += 1;
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The networks with most events, as a record shows them.
    #[must_use]
    pub fn networks(&self) -> String {
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = networks.iter().take(NETWORKS_SHOWN).map(|(network, count)| match network {
            IpAddr::V4(address) => format!("{address} ({count})"),
            IpAddr::V6(network) => format!("{network}/64 ({count})"),
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_events_and_names_a_few_networks() {
        let mut report = Report::default();
        assert!(report.is_empty());
        report.count(Event::Refused, "192.0.2.200".parse().unwrap());
        for (address, times) in [("192.0.2.1", 2), ("192.0.2.2", 1), ("2001:db8::", 4), ("192.0.2.3", 3)] {
            (0..times).for_each(|_| report.count(Event::Ended, address.parse().unwrap()));
        }
        report.count(Event::OverQuota, "192.0.2.1".parse().unwrap());
        report.count(Event::TooSlow, "192.0.2.1".parse().unwrap());
        let counts = (report.refused, report.over_quota, report.ended, report.too_slow);
        assert_eq!(counts, (1, 1, 10, 1));
        assert_eq!(report.networks(), "192.0.2.1 (4), 2001:db8::/64 (4), 192.0.2.3 (3)");
        assert!(!report.is_empty());
    }

    #[test]
    fn any_number_of_networks_takes_bounded_memory() {
        let mut report = Report::default();
        for number in 0..10_000_u32 {
            report.count(Event::Ended, IpAddr::V4(number.into()));
        }
        assert_eq!((report.ended, report.networks.len()), (10_000, NETWORKS_MAX));
    }
}
