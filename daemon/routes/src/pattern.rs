//! What a route says of the recipients that it is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::{self, Address, AddressError};

/// A recipient, or recipients that have something in common. Compared without regard to case, with
/// internationalised domains as A-labels (RFC 5890).
///
/// | written | meant |
/// | --- | --- |
/// | `user@domain` | this mailbox |
/// | `user+*@domain` | its subaddresses (RFC 5233), whatever follows the plus |
/// | `*@domain` | every mailbox of the domain |
/// | `*@*.domain` | every mailbox of every domain below it, at whatever depth, and not of itself |
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    /// The pattern in the form that is compared.
    key: String,
    /// Where the domain begins in it, a `*.` aside.
    domain_at: usize,
    below: bool,
    exact: bool,
}

/// Why a string is no [`Pattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It has a star where none may be.
    #[error("may have a star only as *@domain, user+*@domain or *@*.domain")]
    Star,
    /// It is no address otherwise.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Pattern {
    /// The pattern of one mailbox, whatever characters it has.
    #[must_use]
    pub fn exact(mailbox: &Address) -> Self {
        let key = mailbox.key().to_owned();
        Self { domain_at: key.len() - mailbox.domain().len(), key, below: false, exact: true }
    }

    /// Whether it is for one mailbox.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// The pattern in the form that is compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The domain, or of `*@*.domain` the one that the others are below.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.key[self.domain_at..]
    }

    /// Whether it is for domains below [`Self::domain`].
    #[must_use]
    pub fn is_below(&self) -> bool {
        self.below
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (local_part, domain) = text.rsplit_once('@').ok_or(AddressError::NotAMailbox)?;
        let (domain, below) = domain.strip_prefix("*.").map_or((domain, false), |domain| (domain, true));
        let any = local_part == "*";
        let user = local_part.strip_suffix("+*");
        let stars = |part: &str| part.contains('*');
        if stars(domain) || (below && !any) || (!any && stars(user.unwrap_or(local_part))) {
            return Err(PatternError::Star);
        }
        // What stands in for the stars makes an address of it.
        let address = match user {
            Some(user) => Address::parse(&format!("{user}@{domain}"))?,
            None if any => Address::parse(&format!("x@{domain}"))?,
            None => Address::parse(text)?,
        };
        if below && !address::is_domain(address.domain()) {
            return Err(AddressError::Domain.into());
        }
        let mailbox = &address.key()[..address.key().len() - address.domain().len() - 1];
        if user.is_some() && mailbox.starts_with('"') {
            return Err(AddressError::LocalPart.into());
        }
        let key = match (any, user, below) {
            (true, _, true) => format!("*@*.{}", address.domain()),
            (true, _, false) => format!("*@{}", address.domain()),
            (false, Some(_), _) => format!("{mailbox}+*@{}", address.domain()),
            (false, None, _) => return Ok(Self::exact(&address)),
        };
        Ok(Self { domain_at: key.len() - address.domain().len(), key, below, exact: false })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.key
    }
}

/// Gives `visit` every pattern with a star that may fit a recipient, by its key, the most specific
/// first: its subaddresses from the longest, its domain, the domains above from the nearest. Returns the
/// first thing that `visit` finds.
///
/// There are at most as many as the address has plus signs and dots, so the cost does not depend on
/// how many patterns there are.
pub fn wildcards<T>(recipient: &Address, mut visit: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let (key, domain) = (recipient.key(), recipient.domain());
    let local_part = key.strip_suffix(domain)?.strip_suffix('@')?;
    let mut candidate = String::with_capacity(key.len() + 4);
    if !local_part.starts_with('"') {
        for (plus, _) in local_part.rmatch_indices('+') {
            candidate.clear();
            candidate.push_str(&local_part[..=plus]);
            candidate.push_str("*@");
            candidate.push_str(domain);
            if let Some(found) = visit(&candidate) {
                return Some(found);
            }
        }
    }
    candidate.clear();
    candidate.push_str("*@");
    candidate.push_str(domain);
    if let Some(found) = visit(&candidate) {
        return Some(found);
    }
    for (dot, _) in domain.match_indices('.') {
        candidate.clear();
        candidate.push_str("*@*");
        candidate.push_str(&domain[dot..]);
        if let Some(found) = visit(&candidate) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_one_form() {
        for (text, key, domain, below) in [
            ("Billing@Example.COM", "billing@example.com", "example.com", false),
            ("\"billing\"@example.com", "billing@example.com", "example.com", false),
            ("\"two words\"@example.com", "\"two words\"@example.com", "example.com", false),
            ("billing+*@example.com", "billing+*@example.com", "example.com", false),
            ("A+b+*@example.com", "a+b+*@example.com", "example.com", false),
            ("*@B\u{fc}cher.example", "*@xn--bcher-kva.example", "xn--bcher-kva.example", false),
            ("*@*.Team-B.example.com", "*@*.team-b.example.com", "team-b.example.com", true),
            ("*@*.com", "*@*.com", "com", true),
            ("*@[192.0.2.1]", "*@[192.0.2.1]", "[192.0.2.1]", false),
        ] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!((pattern.as_str(), pattern.domain(), pattern.is_below()), (key, domain, below));
            assert_eq!(pattern.as_str().parse::<Pattern>().unwrap(), pattern, "it is its own form");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        use PatternError::*;
        for (text, error) in [
            ("example.com", Address(AddressError::NotAMailbox)),
            ("*", Address(AddressError::NotAMailbox)),
            ("*@*", Star),
            ("*@", Address(AddressError::NotAMailbox)),
            ("a*@example.com", Star),
            ("*a@example.com", Star),
            ("*+a@example.com", Star),
            ("+*@example.com", Address(AddressError::NotAMailbox)),
            ("a+*b@example.com", Star),
            ("a+*@*.example.com", Star),
            ("a@*.example.com", Star),
            ("*@example.*", Star),
            ("*@*.*.example.com", Star),
            ("*@*.[192.0.2.1]", Address(AddressError::Domain)),
            ("\"a b\"+*@example.com", Address(AddressError::LocalPart)),
            ("a b@example.com", Address(AddressError::LocalPart)),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn wildcards_come_from_the_most_specific_to_the_least() {
        let recipient = Address::parse("A+b+c@X.example.com").unwrap();
        let mut seen = Vec::new();
        wildcards(&recipient, |candidate| {
            seen.push(candidate.to_owned());
            None::<()>
        });
        assert_eq!(
            seen,
            ["a+b+*@x.example.com", "a+*@x.example.com", "*@x.example.com", "*@*.example.com", "*@*.com",]
        );
        for candidate in &seen {
            assert!(candidate.parse::<Pattern>().is_ok(), "{candidate}");
        }
        assert_eq!(wildcards(&recipient, |candidate| (candidate.len() < 15).then_some(1)), Some(1));
    }
}
