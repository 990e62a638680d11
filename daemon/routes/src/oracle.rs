//! The table against the rule in the fewest words: of all patterns that fit, the most specific.

use proptest::prelude::*;

use crate::address::Address;
use crate::grant::DomainGrant;
use crate::pattern::Pattern;
use crate::table::Table;

/// Whether a pattern fits, by going through its text.
fn fits(pattern: &str, recipient: &str) -> bool {
    let (local_part, domain) = recipient.rsplit_once('@').unwrap();
    let (wanted, wanted_domain) = pattern.rsplit_once('@').unwrap();
    let domain_fits = match wanted_domain.strip_prefix('*') {
        Some(above) => domain.len() > above.len() && domain.ends_with(above),
        None => domain == wanted_domain,
    };
    let local_fits = match wanted.strip_suffix('*') {
        Some(beginning) => local_part.starts_with(beginning),
        None => local_part == wanted,
    };
    domain_fits && local_fits
}

/// How specific a pattern is: an exact address is more so than any other, then the longer literal part.
fn rank(pattern: &str) -> (bool, usize) {
    let stars = pattern.matches('*').count();
    (stars == 0, pattern.len() - stars)
}

fn local_part() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "a+b", "a+b+c", "a+", "b+a"]).prop_map(str::to_owned)
}

fn domain() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["x", "y", "com"]), 1..5)
        .prop_map(|labels| labels.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    (local_part(), domain(), 0..4).prop_map(|(local_part, domain, kind)| match kind {
        0 => format!("{local_part}@{domain}"),
        1 => format!("{local_part}+*@{domain}"),
        2 => format!("*@{domain}"),
        _ => format!("*@*.{domain}"),
    })
}

proptest! {
    #[test]
    fn a_lookup_finds_what_the_rule_says(
        patterns in prop::collection::hash_set(pattern(), 0..30),
        local_part in local_part(),
        domain in domain(),
    ) {
        let recipient = format!("{local_part}@{domain}");
        let expected = patterns.iter().filter(|pattern| fits(pattern, &recipient)).max_by_key(|pattern| rank(pattern));
        let table = Table::new([], patterns.iter().map(|pattern| (pattern.parse().unwrap(), pattern.clone())));
        let found = table.lookup(&Address::parse(&recipient).unwrap());
        prop_assert_eq!(found.map(|(_, pattern)| pattern), expected);
        prop_assert!(found.is_none_or(|(pattern, route)| pattern == route));
    }

    /// No recipient that a granted pattern takes is of a domain that is not granted.
    #[test]
    fn a_grant_lets_nothing_else_through(
        pattern in pattern(),
        below in any::<bool>(),
        granted in domain(),
        local_part in local_part(),
        of in domain(),
    ) {
        let grant = if below { format!("*.{granted}") } else { granted.clone() };
        let parsed: Pattern = pattern.parse().unwrap();
        let recipient = format!("{local_part}@{of}");
        if grant.parse::<DomainGrant>().unwrap().covers(&parsed) && fits(&pattern, &recipient) {
            let allowed = if below { of.ends_with(&format!(".{granted}")) } else { of == granted };
            prop_assert!(allowed, "{} takes {} by {}", pattern, recipient, grant);
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in "\\PC{0,60}") {
        let _ = text.parse::<Pattern>();
        let _ = text.parse::<DomainGrant>();
    }
}
