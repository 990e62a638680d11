//! Segment headers, mails and outcomes as bytes: the format that [`super`] describes. Pure.

use serde::{Deserialize, Serialize};

/// The first bytes of every file of a spool, the version of the format among them.
const FILE_MAGIC: [u8; 8] = *b"MLSPOOL1";

/// Octets of a file's header.
pub const FILE_HEADER_BYTES: usize = 28;

/// Octets before a mail's head.
pub const MAIL_HEADER_BYTES: usize = 36;

/// Octets of a mail's head: 100 recipients of 320 octets, escaped, and a trace fit many times over.
pub const HEAD_BYTES_MAX: u32 = 1024 * 1024;

/// 16 random bytes that mark the entries of one segment.
///
/// Who sends a mail does not know them, so nothing in a mail is ever taken for an entry, not even
/// where a damaged one makes the reader look for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub [u8; 16]);

/// The header of both files of a segment.
#[must_use]
pub fn file_header(mark: Mark) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..24].copy_from_slice(&mark.0);
    let sum = crc32c::crc32c(&header[..24]);
    header[24..].copy_from_slice(&sum.to_le_bytes());
    header
}

/// The mark that a file's header names; `None` for what is no such file.
#[must_use]
pub fn mark_of(header: &[u8]) -> Option<Mark> {
    let header: &[u8; FILE_HEADER_BYTES] = header.get(..FILE_HEADER_BYTES)?.try_into().ok()?;
    let mark = Mark(header[8..24].try_into().ok()?);
    (*header == file_header(mark)).then_some(mark)
}

/// What is known of a mail beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The mail's id.
    pub id: String,
    /// When its content had been received, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// Its reverse-path; empty for the null one.
    pub reverse_path: String,
    /// The `Received` header that this server adds.
    pub trace: String,
    /// Where it goes; at least one.
    pub destinations: Vec<Target>,
    /// When a person sent it on its way again, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_at_ms: Option<u64>,
    /// When its lifetime began, where that is not the time above because the clock was corrected, in milliseconds since
    /// 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_began_ms: Option<u64>,
    /// Why it is a dead letter, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
}

impl Head {
    /// When its lifetime began, in milliseconds since 1970.
    #[must_use]
    pub fn since_ms(&self) -> u64 {
        self.lifetime_began_ms.or(self.replayed_at_ms).unwrap_or(self.received_at_ms)
    }
}

#[cfg(test)]
impl Head {
    /// A mail with one recipient of one destination, for tests.
    pub(crate) fn example(id: &str) -> Self {
        let target = Target {
            route: "default".to_owned(),
            recipients: vec!["support@example.com".to_owned()],
            progress: Progress::default(),
            history: Vec::new(),
        };
        Self {
            id: id.to_owned(),
            received_at_ms: 1_000_000,
            reverse_path: String::new(),
            trace: "from c".to_owned(),
            destinations: vec![target],
            replayed_at_ms: None,
            lifetime_began_ms: None,
            death: None,
        }
    }
}

/// Why a mail is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Since when, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
    /// Whether its content is not what was received, because the disk has damaged it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_damaged: bool,
}

/// One destination of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The name of its route.
    pub route: String,
    /// The recipients that belong to it, in the order of `RCPT`.
    pub recipients: Vec<String>,
    /// Where its delivery stood when the mail was copied from another segment.
    #[serde(default, skip_serializing_if = "Progress::is_none")]
    pub progress: Progress,
    /// Its failures before that one, the oldest first, as far as they are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Progress>,
}

/// Where a delivery that goes on stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Deliveries that failed.
    pub failures: u32,
    /// When the next is due, in milliseconds since 1970.
    pub due_ms: u64,
    /// When the last one failed, in milliseconds since 1970.
    pub at_ms: u64,
    /// Why the last one failed.
    pub reason: String,
}

impl Progress {
    /// Whether there was no delivery yet.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.failures == 0 && self.due_ms == 0
    }
}

/// How the delivery of a mail to one destination ends, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The webhook has it.
    Delivered,
    /// It goes on.
    Deferred(Progress),
    /// It is a dead letter, and stands in the store of those.
    Dead,
    /// A person has discarded it.
    Discarded,
    /// It goes on from a copy in a newer segment.
    Moved,
    /// What is known of it is damaged: its segment is set aside.
    Unreadable,
}

/// The numbers before a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailHeader {
    /// Octets of the head.
    pub head_bytes: u32,
    /// Octets of the content.
    pub content_bytes: u32,
    head_sum: u32,
    content_sum: u32,
}

impl MailHeader {
    /// The header of a mail.
    #[must_use]
    pub fn of(head: &[u8], content: &[u8]) -> Option<Self> {
        Self::new(head, u32::try_from(content.len()).ok()?, crc32c::crc32c(content))
    }

    /// The header of a mail whose content is known by its length and its sum.
    #[must_use]
    pub fn new(head: &[u8], content_bytes: u32, content_sum: u32) -> Option<Self> {
        let head_bytes = u32::try_from(head.len()).ok().filter(|bytes| *bytes <= HEAD_BYTES_MAX)?;
        Some(Self { head_bytes, content_bytes, head_sum: crc32c::crc32c(head), content_sum })
    }

    /// The header as it is written.
    #[must_use]
    pub fn to_bytes(&self, mark: Mark) -> [u8; MAIL_HEADER_BYTES] {
        let mut bytes = [0; MAIL_HEADER_BYTES];
        bytes[..16].copy_from_slice(&mark.0);
        let numbers = [self.head_bytes, self.content_bytes, self.head_sum, self.content_sum];
        for (number, place) in numbers.iter().zip(bytes[16..32].chunks_exact_mut(4)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32c::crc32c(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` when there is none of this segment.
    #[must_use]
    pub fn read(bytes: &[u8], mark: Mark) -> Option<Self> {
        let bytes: &[u8; MAIL_HEADER_BYTES] = bytes.get(..MAIL_HEADER_BYTES)?.try_into().ok()?;
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let header = Self {
            head_bytes: number(16)?,
            content_bytes: number(20)?,
            head_sum: number(24)?,
            content_sum: number(28)?,
        };
        (header.to_bytes(mark) == *bytes && header.head_bytes <= HEAD_BYTES_MAX).then_some(header)
    }

    /// The head, unless its bytes are damaged.
    #[must_use]
    pub fn head(&self, bytes: &[u8]) -> Option<Head> {
        let intact = bytes.len() == self.head_bytes as usize && crc32c::crc32c(bytes) == self.head_sum;
        intact.then(|| serde_json::from_slice(bytes).ok()).flatten()
    }

    /// Whether these are the bytes of the content, undamaged.
    #[must_use]
    pub fn fits_content(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.content_bytes as usize && crc32c::crc32c(bytes) == self.content_sum
    }

    /// Octets of the whole entry.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        MAIL_HEADER_BYTES as u64 + u64::from(self.head_bytes) + u64::from(self.content_bytes)
    }
}

/// What an outcome belongs to: a mail by its place in the segment, and one of its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Where the mail's entry begins.
    pub offset: u64,
    /// Which of its destinations, in the order of its head.
    pub destination: u16,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK: Mark = Mark(*b"0123456789abcdef");

    #[test]
    fn a_file_says_what_it_is() {
        let header = file_header(MARK);
        assert_eq!(mark_of(&header), Some(MARK));
        assert_eq!(mark_of(&header[1..]), None);
        for bit in 0..header.len() * 8 {
            let mut damaged = header;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(mark_of(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn a_mail_comes_back_and_damage_is_seen() {
        let mut head = Head::example("01hf");
        head.replayed_at_ms = Some(3);
        head.death = Some(Death { at_ms: 4, reason: "refused".to_owned(), is_damaged: true });
        head.destinations[0].history =
            vec![Progress { failures: 1, due_ms: 2, at_ms: 1, reason: "why".to_owned() }];
        let json = serde_json::to_vec(&head).unwrap();
        let header = MailHeader::of(&json, b"content").unwrap();
        let bytes = header.to_bytes(MARK);
        assert_eq!(MailHeader::read(&bytes, MARK), Some(header));
        assert_eq!(MailHeader::read(&bytes, Mark([0; 16])), None, "of another segment");
        assert_eq!(header.head(&json), Some(head));
        assert_eq!(header.head(&json[1..]), None);
        assert!(header.fits_content(b"content") && !header.fits_content(b"Content"));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(MailHeader::read(&damaged, MARK), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = MailHeader::read(&bytes, MARK);
        }
    }
}
