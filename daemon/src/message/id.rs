//! The identity of a mail.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32 in lower case: no letter that is taken for another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 26 characters that name one mail: 48 bits of time in milliseconds, then 80 random bits.
///
/// Ids sort by the time of arrival, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailId([u8; 26]);

impl MailId {
    /// The id of a mail that arrived at `now`.
    #[must_use]
    pub fn new(now: SystemTime, random: [u8; 10]) -> Self {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&since_epoch.as_millis().to_be_bytes()[10..]);
        bytes[6..].copy_from_slice(&random);
        let value = u128::from_be_bytes(bytes);
        Self(std::array::from_fn(|index| {
            let digit = (value >> (125 - 5 * index)) & 31;
            ALPHABET[digit as usize]
        }))
    }

    /// An id of now with bits from the operating system.
    #[must_use]
    pub fn generate(now: SystemTime) -> Self {
        let mut random = [0; 10];
        if getrandom::fill(&mut random).is_err() {
            // Without a source of randomness the nanoseconds still tell mails apart; a mail is
            // not refused for it.
            let nanos = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            random.copy_from_slice(&nanos.to_be_bytes()[6..]);
        }
        Self::new(now, random)
    }

    /// The 26 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_are_26_characters_that_sort_by_time() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(MailId::new(UNIX_EPOCH, [0; 10]).as_str(), "0".repeat(26));
        assert_eq!(MailId::new(at((1 << 48) - 1), [0xff; 10]).as_str(), format!("7{}", "z".repeat(25)));
        assert!(MailId::new(at(1_000), [0xff; 10]) < MailId::new(at(1_001), [0; 10]));
    }

    #[test]
    fn two_mails_of_one_instant_have_two_ids() {
        let now = SystemTime::now();
        assert_ne!(MailId::generate(now), MailId::generate(now));
    }
}
