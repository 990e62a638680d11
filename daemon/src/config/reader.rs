//! Typed reads of the environment that collect what is wrong instead of stopping at it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::problem::Problem;
use super::variables::Variable;

/// Reads variables and remembers the problems.
#[derive(Debug)]
pub(super) struct Reader<'e> {
    variables: &'e BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
}

impl<'e> Reader<'e> {
    pub(super) fn new(variables: &'e BTreeMap<String, String>) -> Self {
        Self { variables, problems: Vec::new() }
    }

    /// The value, or the default; empty counts as unset.
    pub(super) fn text(&self, variable: &Variable) -> &'e str {
        variable.value(self.variables)
    }

    /// A number within `range`.
    pub(super) fn number<T: FromStr + PartialOrd + Default + Copy>(
        &mut self,
        variable: &Variable,
        range: impl std::ops::RangeBounds<T>,
    ) -> T {
        let text = self.text(variable);
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problems.push(Problem::invalid(variable, text));
                T::default()
            }
        }
    }

    /// Seconds, at least 1.
    pub(super) fn seconds(&mut self, variable: &Variable) -> Duration {
        Duration::from_secs(self.number::<u32>(variable, 1..).into())
    }

    /// A number for which 0 means that there is no limit.
    pub(super) fn limit(&mut self, variable: &Variable) -> Option<NonZeroU32> {
        NonZeroU32::new(self.number(variable, ..))
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, variable: &Variable) -> bool {
        let text = self.text(variable);
        match text.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.problems.push(Problem::invalid(variable, text));
                false
            }
        }
    }

    /// An address and a port. An IPv4 address mapped into IPv6 is IPv4.
    pub(super) fn socket(&mut self, address: &Variable, port: &Variable) -> SocketAddr {
        let text = self.text(address);
        let ip = text.parse::<IpAddr>().unwrap_or_else(|_| {
            self.problems.push(Problem::invalid(address, text));
            IpAddr::from([0, 0, 0, 0])
        });
        SocketAddr::new(ip.to_canonical(), self.number(port, ..))
    }

    /// The parts of a comma-separated list, without empty ones.
    pub(super) fn list(&self, variable: &Variable) -> impl Iterator<Item = &'e str> + use<'e> {
        self.text(variable).split(',').map(str::trim).filter(|part| !part.is_empty())
    }
}
