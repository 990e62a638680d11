//! The table that is looked up for each recipient.

use std::collections::HashMap;

use crate::address::Address;
use crate::pattern::{Pattern, wildcards};

/// The mailbox that every mail server has: RFC 5321 section 4.5.1.
const POSTMASTER: &str = "postmaster";

/// Patterns and what they lead to. The most specific one that fits a recipient counts.
#[derive(Debug, Clone)]
pub struct Table<R> {
    exact: HashMap<String, R>,
    /// Patterns with a star. A mailbox may have one in its name, which is none of these.
    wildcards: HashMap<String, R>,
    /// Where mail for the postmaster goes that nobody has claimed, by domain.
    postmaster: HashMap<String, R>,
}

impl<R: Clone> Table<R> {
    /// A table of the server's own patterns and of those of others; of one that comes twice, the first counts.
    ///
    /// The postmaster of each domain with a pattern, with and without the domain, is the server's (RFC 5321 section
    /// 4.5.1), unless a pattern says otherwise: it goes where the first of `own` does. Of a server without patterns of
    /// its own it is nobody's until it is claimed: to have a mailbox of a domain is no reason to get mail that can prove
    /// that one has the domain.
    pub fn new(
        own: impl IntoIterator<Item = (Pattern, R)>,
        others: impl IntoIterator<Item = (Pattern, R)>,
    ) -> Self {
        let mut table = Self::default();
        let mut own = own.into_iter().peekable();
        let postmaster = own.peek().map(|(_, route)| route.clone());
        for (pattern, route) in own.chain(others) {
            if let Some(postmaster) = &postmaster {
                table.postmaster.entry(POSTMASTER.to_owned()).or_insert_with(|| postmaster.clone());
                if !pattern.is_below() {
                    let of_domain = format!("{POSTMASTER}@{}", pattern.domain());
                    table.postmaster.entry(of_domain).or_insert_with(|| postmaster.clone());
                }
            }
            let patterns = if pattern.is_exact() { &mut table.exact } else { &mut table.wildcards };
            patterns.entry(String::from(pattern)).or_insert(route);
        }
        table
    }

    /// What a recipient belongs to, and by which pattern; `None` when mail for it is not taken.
    #[must_use]
    pub fn lookup(&self, recipient: &Address) -> Option<(&str, &R)> {
        let exact = self.exact.get_key_value(recipient.key());
        let found = exact
            .or_else(|| wildcards(recipient, |candidate| self.wildcards.get_key_value(candidate)))
            .or_else(|| self.postmaster.get_key_value(recipient.key()));
        found.map(|(pattern, route)| (pattern.as_str(), route))
    }

    /// Patterns in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }

    /// Whether there is no pattern, so that mail is taken for nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new(), postmaster: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[(&str, u32)]) -> Table<u32> {
        Table::new([], parsed(patterns))
    }

    fn parsed(patterns: &[(&str, u32)]) -> Vec<(Pattern, u32)> {
        patterns.iter().map(|(pattern, route)| (pattern.parse().unwrap(), *route)).collect()
    }

    fn lookup(table: &Table<u32>, recipient: &str) -> Option<u32> {
        table.lookup(&Address::parse_recipient(recipient).unwrap()).map(|(_, route)| *route)
    }

    #[test]
    fn the_most_specific_pattern_counts() {
        let table = table(&[
            ("*@*.example.com", 1),
            ("*@*.b.example.com", 2),
            ("*@x.b.example.com", 3),
            ("a+*@x.b.example.com", 4),
            ("a+b+*@x.b.example.com", 5),
            ("a+b@x.b.example.com", 6),
            ("a+b@x.b.example.com", 7),
        ]);
        for (recipient, route) in [
            ("a@example.com", None),
            ("a@y.example.com", Some(1)),
            ("a@b.example.com", Some(1)),
            ("a@z.y.b.example.com", Some(2)),
            ("b@X.B.example.com", Some(3)),
            ("a@x.b.example.com", Some(3)),
            ("A+@x.b.example.com", Some(4)),
            ("a+c@x.b.example.com", Some(4)),
            ("a+b+c+d@x.b.example.com", Some(5)),
            ("a+b@x.b.example.com", Some(6)),
            ("\"a+c\"@x.b.example.com", Some(4)),
            ("\"a +c\"@x.b.example.com", Some(3)),
            ("a@y.example.org", None),
        ] {
            assert_eq!(lookup(&table, recipient), route, "{recipient}");
        }
    }

    #[test]
    fn a_mailbox_with_a_star_in_its_name_is_one_mailbox() {
        let mailbox = Address::parse("*@example.com").unwrap();
        let table = Table::new([], [(Pattern::exact(&mailbox), 1)]);
        assert_eq!((lookup(&table, "*@example.com"), lookup(&table, "a@example.com")), (Some(1), None));
    }

    #[test]
    fn a_postmaster_is_the_servers_where_a_domain_is_served() {
        let own = parsed(&[("a@one.example", 1), ("b@one.example", 2)]);
        let others = parsed(&[
            ("b@one.example", 3),
            ("b@two.example", 3),
            ("*@*.three.example", 4),
            ("*@four.example", 5),
            ("postmaster@five.example", 6),
        ]);
        let both = Table::new(own, others.clone());
        assert_eq!(lookup(&both, "Postmaster@one.example"), Some(1));
        assert_eq!(
            lookup(&both, "postmaster@two.example"),
            Some(1),
            "it is not that of who has a mailbox there"
        );
        assert_eq!(lookup(&both, "postmaster@three.example"), None);
        assert_eq!(lookup(&both, "postmaster@x.three.example"), Some(4));
        assert_eq!(lookup(&both, "postmaster@four.example"), Some(5));
        assert_eq!(lookup(&both, "postmaster@five.example"), Some(6));
        assert_eq!(lookup(&both, "postmaster"), Some(1));
        let without_own = Table::new([], others);
        assert_eq!(lookup(&without_own, "postmaster@two.example"), None);
        assert_eq!(lookup(&without_own, "postmaster@five.example"), Some(6));
        assert_eq!(lookup(&without_own, "postmaster"), None);
        assert_eq!(lookup(&Table::default(), "postmaster"), None);
    }
}
