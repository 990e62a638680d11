//! Which route gets a pattern that several claim.

use std::collections::BTreeMap;

use crate::pattern::Pattern;

/// A route that claims patterns. Of two, the older comes before the younger, then the order of their
/// namespaces and names decides: the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant {
    /// When it was made, in seconds since 1970. What belongs to the gateway itself beats every route:
    /// `None` is before all.
    pub created_s: Option<i64>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The outcome of all claims: for each pattern the route that has it. The others go without it.
#[derive(Debug, Default)]
pub struct Claims<'c> {
    winners: BTreeMap<&'c Pattern, &'c Claimant>,
}

impl<'c> Claims<'c> {
    /// Settles claims, which may come in any order.
    #[must_use]
    pub fn settle(claims: impl IntoIterator<Item = (&'c Claimant, &'c Pattern)>) -> Self {
        let mut winners: BTreeMap<&Pattern, &Claimant> = BTreeMap::new();
        for (claimant, pattern) in claims {
            let winner = winners.entry(pattern).or_insert(claimant);
            *winner = claimant.min(*winner);
        }
        Self { winners }
    }

    /// The route that has a pattern.
    #[must_use]
    pub fn winner(&self, pattern: &Pattern) -> Option<&'c Claimant> {
        self.winners.get(pattern).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(created_s: Option<i64>, namespace: &str, name: &str) -> Claimant {
        Claimant { created_s, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn the_gateway_then_the_older_then_the_name_wins() {
        let pattern: Pattern = "*@example.com".parse().unwrap();
        let other: Pattern = "a@example.com".parse().unwrap();
        let order = [
            claimant(None, "z", "gateway"),
            claimant(Some(1), "b", "b"),
            claimant(Some(2), "a", "b"),
            claimant(Some(2), "b", "a"),
            claimant(Some(2), "b", "b"),
        ];
        for first in 0..order.len() {
            let rest = order[first..].iter().rev();
            let claims =
                Claims::settle(rest.map(|claimant| (claimant, &pattern)).chain([(&order[4], &other)]));
            assert_eq!(claims.winner(&pattern), Some(&order[first]));
            assert_eq!(claims.winner(&other), Some(&order[4]), "another pattern is no conflict");
        }
    }
}
