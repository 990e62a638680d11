//! The identity of a mail.

use std::cell::RefCell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// Crockford's base 32 in lower case: no letter that is taken for another.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 26 characters that name one mail.
///
/// Those of [`Self::new`] hold 48 bits of time in milliseconds, then 80 random bits, and sort by the
/// time of arrival. Those of [`Self::derived`] are the same whenever a mail is sent again.
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
        Self::from_number(value)
    }

    /// The id of a mail with this reverse-path, these recipients in whatever order, and content of
    /// this SHA-256, `Message-ID` included.
    #[must_use]
    pub fn derived(reverse_path: &str, recipients: &[&str], content: &[u8; 32]) -> Self {
        let mut recipients = recipients.to_vec();
        recipients.sort_unstable();
        let mut digest = Sha256::new();
        // Neither holds a NUL, so no two envelopes are written alike.
        for part in std::iter::once(reverse_path).chain(recipients) {
            digest.update(part);
            digest.update([0]);
        }
        digest.update(content);
        let digest: [u8; 32] = digest.finalize().into();
        let value = digest.iter().take(16).fold(0, |value, byte| value << 8 | u128::from(*byte));
        Self::from_number(value)
    }

    fn from_number(value: u128) -> Self {
        Self(std::array::from_fn(|index| {
            let digit = (value >> (125 - 5 * index)) & 31;
            ALPHABET[digit as usize]
        }))
    }

    /// An id of now with bits from the operating system.
    #[must_use]
    pub fn generate(now: SystemTime) -> Self {
        let random = RANDOM.with_borrow_mut(Random::take).unwrap_or_else(|| {
            // Without a source of randomness the nanoseconds still tell mails apart; a mail is
            // not refused for it.
            let nanos = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_be_bytes();
            std::array::from_fn(|index| nanos[6 + index])
        });
        Self::new(now, random)
    }

    /// The id that is written like that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 26] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(bytes))
    }

    /// The 26 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Random bytes for ids of one thread. They are asked for together: the system takes as long for
/// ten as for many.
struct Random {
    bytes: [u8; 640],
    used: usize,
}

thread_local! {
    static RANDOM: RefCell<Random> = const { RefCell::new(Random { bytes: [0; 640], used: 640 }) };
}

impl Random {
    /// The next ten; `None` when the system has none.
    fn take(&mut self) -> Option<[u8; 10]> {
        if self.used == self.bytes.len() {
            getrandom::fill(&mut self.bytes).ok()?;
            self.used = 0;
        }
        let taken = self.bytes[self.used..].first_chunk().copied();
        self.used += 10;
        taken
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
    fn derived_ids_tell_mails_apart_and_nothing_else() {
        let id = |reverse_path: &str, recipients: &[&str], content: u8| {
            MailId::derived(reverse_path, recipients, &[content; 32])
        };
        let first = id("a@example.org", &["b@example.com", "c@example.com"], 1);
        assert_eq!(first, id("a@example.org", &["c@example.com", "b@example.com"], 1));
        for other in [
            id("", &["b@example.com", "c@example.com"], 1),
            id("a@example.org", &["b@example.com"], 1),
            id("a@example.org", &["b@example.comc@example.com"], 1),
            id("a@example.org", &["b@example.com", "c@example.com"], 2),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn two_mails_of_one_instant_have_two_ids() {
        let now = SystemTime::now();
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| MailId::generate(now)).collect();
        assert_eq!(ids.len(), 1_000);
    }
}
