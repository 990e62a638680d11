//! How many sessions there are, in all and of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::quota::ClientUsage;

/// Counts sessions against their limits.
#[derive(Debug)]
pub struct Connections {
    total_max: u32,
    per_address_max: Option<NonZeroU32>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_address: HashMap<IpAddr, OfAddress>,
}

#[derive(Debug)]
struct OfAddress {
    sessions: u32,
    usage: ClientUsage,
}

/// Why a connection gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are too many sessions.
    TooMany,
    /// There are too many sessions of its address.
    TooManyFromAddress,
}

/// A place for one session; dropping it makes room for another.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
    usage: ClientUsage,
}

impl Connections {
    /// Limits in all and for one address; `None` is no limit.
    #[must_use]
    pub fn new(total_max: NonZeroU32, per_address_max: Option<NonZeroU32>) -> Arc<Self> {
        Arc::new(Self { total_max: total_max.get(), per_address_max, counts: Mutex::default() })
    }

    /// A place for a session of a client whose address is not known yet.
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub fn enter(self: &Arc<Self>) -> Result<Place, Refusal> {
        let mut counts = self.counts();
        if counts.total >= self.total_max {
            return Err(Refusal::TooMany);
        }
        counts.total += 1;
        drop(counts);
        Ok(Place { connections: Arc::clone(self), address: None, usage: ClientUsage::default() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the session for the client that it turns out to be of.
    ///
    /// # Errors
    /// [`Refusal::TooManyFromAddress`].
    pub fn identify(&mut self, peer: IpAddr) -> Result<(), Refusal> {
        let Some(max) = self.connections.per_address_max else { return Ok(()) };
        let address = network(peer);
        let mut counts = self.connections.counts();
        let of_address = counts
            .by_address
            .entry(address)
            .or_insert_with(|| OfAddress { sessions: 0, usage: ClientUsage::limited() });
        if of_address.sessions >= max.get() {
            return Err(Refusal::TooManyFromAddress);
        }
        of_address.sessions += 1;
        self.usage = of_address.usage.clone();
        drop(counts);
        self.address = Some(address);
        Ok(())
    }

    /// What the client holds, in all of its sessions. Without a limit for each address, addresses do not tell clients
    /// apart: a load balancer's would be that of all.
    #[must_use]
    pub fn usage(&self) -> &ClientUsage {
        &self.usage
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.total -= 1;
        if let Some(address) = self.address
            && let Some(of_address) = counts.by_address.get_mut(&address)
        {
            of_address.sessions -= 1;
            if of_address.sessions == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, mapped into IPv6 or not, or an IPv6 network of 64
/// bits, which is what one subscriber gets (RFC 6177).
#[must_use]
pub fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total: u32, per_address: u32) -> Arc<Connections> {
        Connections::new(NonZeroU32::new(total).unwrap(), NonZeroU32::new(per_address))
    }

    fn enter(connections: &Arc<Connections>, peer: &str) -> Result<Place, Refusal> {
        let mut place = connections.enter()?;
        place.identify(peer.parse().unwrap())?;
        Ok(place)
    }

    #[test]
    fn one_address_has_its_own_limit() {
        let connections = connections(100, 2);
        let _first = enter(&connections, "192.0.2.1").unwrap();
        let second = enter(&connections, "::ffff:192.0.2.1").unwrap();
        assert_eq!(enter(&connections, "192.0.2.1").unwrap_err(), Refusal::TooManyFromAddress);
        let _other = enter(&connections, "192.0.2.2").unwrap();
        drop(second);
        let _again = enter(&connections, "192.0.2.1").unwrap();
        let _v6: Vec<_> = (1..=2).map(|n| enter(&connections, &format!("2001:db8::{n}")).unwrap()).collect();
        assert_eq!(enter(&connections, "2001:db8::ffff:1:2:3").unwrap_err(), Refusal::TooManyFromAddress);
        let _network = enter(&connections, "2001:db8:0:1::1").unwrap();
    }

    #[test]
    fn sessions_of_one_network_share_a_quota_where_addresses_tell_clients_apart() {
        let connections = connections(100, 10);
        let memory = crate::memory::MemoryBudget::new(1_000_000);
        let division = crate::quota::Division::of_memory(1_000_000);
        let [first, second] = ["2001:db8::1", "2001:db8::2"].map(|peer| enter(&connections, peer).unwrap());
        let other = enter(&connections, "2001:db8:0:1::1").unwrap();
        let (mut permit, mut reservation) = (first.usage().memory.permit(), memory.try_reserve(0).unwrap());
        permit.try_grow(&mut reservation, 100_000, &division).unwrap();
        let held = |place: &Place| place.usage().memory.bytes();
        assert_eq!((held(&first), held(&second), held(&other)), (100_000, 100_000, 0));

        let connections = super::tests::connections(100, 0);
        let place = enter(&connections, "192.0.2.1").unwrap();
        let mut permit = place.usage().memory.permit();
        permit.try_grow(&mut reservation, 100_000, &division).unwrap();
        assert_eq!(held(&place), 0);
    }

    #[test]
    fn all_together_have_a_limit_and_nothing_is_left_behind() {
        let connections = connections(3, 0);
        let places: Vec<_> = (0..3).map(|_| enter(&connections, "192.0.2.1").unwrap()).collect();
        assert_eq!(enter(&connections, "192.0.2.2").unwrap_err(), Refusal::TooMany);
        drop(places);
        assert_eq!(connections.counts().total, 0);
        assert!(connections.counts().by_address.is_empty());
    }
}
