//! Mailboxes as RFC 5321 section 4.1.2 writes them. Pure.

use std::fmt;

/// Octets of a local part: RFC 5321 section 4.5.3.1.1.
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Octets of a domain: RFC 5321 section 4.5.3.1.2.
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Octets of a domain's label: RFC 1035 section 2.3.4.
pub const LABEL_BYTES_MAX: usize = 63;

/// One mailbox, `local-part@domain`, internationalised (RFC 6531) or not.
///
/// It prints as it was written. Two addresses are the same mailbox when their [`key`](Self::key)s
/// are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    key: String,
}

/// Why a string is not an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has characters outside ASCII, which need SMTPUTF8 (RFC 6531).
    #[error("has characters outside ASCII")]
    NotAscii,
    /// There is no `@`, or nothing on one side of it.
    #[error("is not of the form local-part@domain")]
    NotAMailbox,
    /// The part before the `@` is not a dot-string or a quoted string.
    #[error("has a local part that is neither a dot-string nor a quoted string")]
    LocalPart,
    /// The part after the `@` is neither a domain nor an address literal.
    #[error("has a domain that is neither a host name nor an address literal")]
    Domain,
    /// A part is longer than RFC 5321 section 4.5.3.1 allows.
    #[error("is longer than 64 octets before the @ or 255 after it")]
    TooLong,
}

impl Address {
    /// Parses `local-part@domain`, without angle brackets.
    ///
    /// # Errors
    /// [`AddressError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Self::bounded(text, LOCAL_PART_BYTES_MAX)
    }

    fn bounded(text: &str, local_part_bytes_max: usize) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::NotAMailbox)?;
        let (local_part, domain) = (&text[..at], &text[at + 1..]);
        if local_part.is_empty() || domain.is_empty() {
            return Err(AddressError::NotAMailbox);
        }
        if local_part.len() > local_part_bytes_max || domain.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let mailbox = canonical_local_part(local_part).ok_or(AddressError::LocalPart)?;
        let domain = canonical_domain(domain).ok_or(AddressError::Domain)?;
        let key = format!("{}@{domain}", mailbox.to_lowercase());
        Ok(Self { text: text.to_owned(), key })
    }

    /// Parses a forward-path: a mailbox, or `postmaster` without a domain (RFC 5321 section 4.1.1.3).
    ///
    /// # Errors
    /// [`AddressError`] names the part that is wrong.
    pub fn parse_recipient(text: &str) -> Result<Self, AddressError> {
        if text.eq_ignore_ascii_case("postmaster") {
            return Ok(Self { text: text.to_owned(), key: text.to_ascii_lowercase() });
        }
        Self::parse(text)
    }

    /// The form that is compared: lower case, without quotes that are not needed, the domain in
    /// A-labels (RFC 5890).
    ///
    /// RFC 5321 section 2.4 leaves the case of a local part to the receiver; this one ignores it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can be used without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The domain in the form that is compared.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.key.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The reverse-path of a mail: who is told when it cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReversePath {
    /// `<>`: a notification, which must not cause another (RFC 5321 section 4.5.5).
    Null,
    /// A mailbox.
    Mailbox(Address),
}

impl ReversePath {
    /// Parses a reverse-path without its angle brackets. Its local part may be longer than that of a recipient, as where
    /// forwarders keep the original address in theirs: it is only looked at, and RFC 5321 section 4.5.3.1 asks for no
    /// limit where there need not be one.
    ///
    /// # Errors
    /// [`AddressError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { Address::bounded(text, usize::MAX).map(Self::Mailbox) }
    }

    /// The address, or the empty string for the null reverse-path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Mailbox(address) => address.as_str(),
        }
    }
}

/// The local part with quotes and escapes removed where it means the same without them.
fn canonical_local_part(local_part: &str) -> Option<String> {
    let Some(quoted) = local_part.strip_prefix('"') else {
        return is_dot_string(local_part).then(|| local_part.to_owned());
    };
    let quoted = quoted.strip_suffix('"')?;
    let mut plain = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(characters.next().filter(|c| !c.is_control())?),
            '"' => return None,
            _ if character.is_control() => return None,
            _ => plain.push(character),
        }
    }
    Some(if is_dot_string(&plain) { plain } else { local_part.to_owned() })
}

fn is_dot_string(text: &str) -> bool {
    // RFC 6531 section 3.3 adds every character outside ASCII.
    let is_atext = |c: char| {
        c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
    };
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// The domain in lower case and A-labels, or an address literal; `None` when it is neither.
fn canonical_domain(domain: &str) -> Option<String> {
    if is_address_literal(domain) {
        return Some(domain.to_ascii_lowercase());
    }
    let ascii =
        if domain.is_ascii() { domain.to_ascii_lowercase() } else { idna::domain_to_ascii(domain).ok()? };
    is_domain(&ascii).then_some(ascii)
}

/// A host name. Underscores are let through: names with them are in use.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= DOMAIN_BYTES_MAX && text.split('.').all(is_label)
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]`: RFC 5321 section 4.1.3.
#[must_use]
pub fn is_address_literal(text: &str) -> bool {
    let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return false;
    };
    match literal.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => literal[5..].parse::<std::net::Ipv6Addr>().is_ok(),
        _ => literal.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_of_rfc_5321_are_accepted() {
        for text in [
            "a@b",
            "support@example.com",
            "o'brien+tag@mail.example.com",
            "\"two words\"@example.com",
            "\"quoted\\\"mark\"@example.com",
            "\"at@sign\"@example.com",
            "user@[192.0.2.1]",
            "user@[IPv6:2001:db8::1]",
            "user@under_score.example",
            "\u{fc}ser@b\u{fc}cher.example",
        ] {
            assert_eq!(Address::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_reverse_path_may_have_a_long_local_part() {
        let text = format!("{}@example.com", "a".repeat(200));
        assert_eq!(ReversePath::parse(&text).unwrap().as_str(), text);
        assert_eq!(ReversePath::parse(""), Ok(ReversePath::Null));
        assert_eq!(ReversePath::parse("a"), Err(AddressError::NotAMailbox));
    }

    #[test]
    fn what_is_no_mailbox_is_refused_with_its_part() {
        use AddressError::*;
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_domain = format!("a@{}.com", "a.".repeat(130));
        for (text, error) in [
            ("", NotAMailbox),
            ("postmaster", NotAMailbox),
            ("@example.com", NotAMailbox),
            ("a@", NotAMailbox),
            ("a..b@example.com", LocalPart),
            (".a@example.com", LocalPart),
            ("a b@example.com", LocalPart),
            ("\"a@example.com", LocalPart),
            ("\"a\r\nb\"@example.com", LocalPart),
            ("a@-example.com", Domain),
            ("a@example..com", Domain),
            ("a@[300.1.1.1]", Domain),
            ("a@exa\r\nmple.com", Domain),
            ("a\u{85}b@example.com", LocalPart),
            ("a@\u{fc}..example", Domain),
            (long_local.as_str(), TooLong),
            (long_domain.as_str(), TooLong),
        ] {
            assert_eq!(Address::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn case_and_needless_quotes_do_not_make_another_mailbox() {
        let key = |text: &str| Address::parse(text).unwrap().key().to_owned();
        assert_eq!(key("Support@EXAMPLE.com"), key("support@example.com"));
        assert_eq!(key("\"support\"@example.com"), key("support@example.com"));
        assert_eq!(key("\"s\\upport\"@example.com"), key("support@example.com"));
        assert_eq!(key("\u{dc}ser@B\u{fc}cher.example"), key("\u{fc}ser@xn--bcher-kva.example"));
        assert_eq!(Address::parse("a@B\u{dc}CHER.example").unwrap().domain(), "xn--bcher-kva.example");
        assert_ne!(key("\"a b\"@example.com"), key("\"a  b\"@example.com"));
    }
}
