//! Which domains a namespace may claim recipients of.

use std::fmt;
use std::str::FromStr;

use crate::address::is_domain;
use crate::pattern::Pattern;

/// A domain, or with `*.` before it every domain below it, at whatever depth, and not itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainGrant {
    domain: String,
    below: bool,
}

/// A string is no domain and no `*.domain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither a domain nor a domain with *. before it")]
pub struct DomainGrantError;

impl DomainGrant {
    /// Whether every recipient of a pattern is of a domain that is granted.
    #[must_use]
    pub fn covers(&self, pattern: &Pattern) -> bool {
        let is_below =
            pattern.domain().strip_suffix(self.domain.as_str()).is_some_and(|above| above.ends_with('.'));
        match (self.below, pattern.is_below()) {
            (false, false) => pattern.domain() == self.domain,
            (false, true) => false,
            (true, false) => is_below,
            (true, true) => is_below || pattern.domain() == self.domain,
        }
    }
}

impl FromStr for DomainGrant {
    type Err = DomainGrantError;

    fn from_str(text: &str) -> Result<Self, DomainGrantError> {
        let (domain, below) = text.strip_prefix("*.").map_or((text, false), |domain| (domain, true));
        // By way of a pattern, so that both have one form.
        let pattern: Pattern = format!("*@{domain}").parse().map_err(|_| DomainGrantError)?;
        if pattern.is_below() || !is_domain(pattern.domain()) {
            return Err(DomainGrantError);
        }
        Ok(Self { domain: pattern.domain().to_owned(), below })
    }
}

impl fmt::Display for DomainGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_what_lies_in_it_as_a_whole() {
        for (grant, pattern, covers) in [
            ("example.com", "a@example.com", true),
            ("EXAMPLE.com", "a+*@Example.com", true),
            ("example.com", "*@example.com", true),
            ("example.com", "a@x.example.com", false),
            ("example.com", "*@*.example.com", false),
            ("*.example.com", "a@x.example.com", true),
            ("*.example.com", "*@y.x.example.com", true),
            ("*.example.com", "*@*.example.com", true),
            ("*.example.com", "*@*.x.example.com", true),
            ("*.example.com", "a@example.com", false),
            ("*.example.com", "a@notexample.com", false),
            ("*.example.com", "*@*.com", false),
            ("*.example.com", "a@example.com.evil.test", false),
            ("b\u{fc}cher.example", "a@xn--bcher-kva.example", true),
        ] {
            let grant: DomainGrant = grant.parse().unwrap();
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(grant.covers(&pattern), covers, "{grant} {pattern}");
        }
    }

    #[test]
    fn what_is_no_domain_is_no_grant() {
        for text in ["", "*", "*.", "*.*.example.com", "a@example.com", "[192.0.2.1]", "x.*.com", "-a.com"] {
            assert_eq!(text.parse::<DomainGrant>(), Err(DomainGrantError), "{text}");
        }
    }
}
