//! Mail on disk: what was written stays until it has met its end, whatever happens to the process or
//! to the power.
//!
//! # Guarantees
//!
//! - A mail that [`store::Store::append`] gives a location for survives a loss of power. It is found
//!   again until an outcome that ends it is written at each of its destinations.
//! - An outcome survives a loss of power once [`store::Store::write_outcomes`] was told to make it
//!   durable. One that is lost before costs a second delivery, with the same id: at least once,
//!   never zero times.
//! - A damaged entry costs that entry alone.
//! - A file whose sync failed is not written to again.
//!
//! # Files
//!
//! The spool is cut into segments. A segment with the number `N`, 16 hexadecimal digits, has these files:
//!
//! - `N.mails`: appended to, synced before a mail is acknowledged, and never changed.
//! - `N.outcomes-<n>`: what became of those mails, appended to the one with the highest number. There is none while
//!   nothing did. Once they have grown much, all before the highest are merged into the last of those, which is replaced
//!   in one step: one record for each mail and destination, with the last failures. Their order says nothing, so a crash
//!   in between does no harm.
//! - `N.damaged`: the mails of a segment that was set aside, because some that were acknowledged cannot be read. It stays
//!   until a person removes it, and is otherwise left alone.
//!
//! A segment goes, `N.mails` first, when all of its mails have met their end at all destinations.
//! Numbers are never used twice. After a restart mails go into a new segment, so nothing is ever
//! written behind what a crash cut off.
//!
//! `clock` has the corrections of the clock, in JSON: the times in a segment's files are those of the clock as it was when
//! the segment was begun. See [`clock`].
//!
//! A large mail is written to disk while it comes in, to a file `incoming-` and a random number. Once it
//! is whole and synced, it becomes a segment with one mail by being renamed. Such files are removed at
//! the start.
//!
//! All numbers are little-endian; sums are CRC-32C. Both files begin with a header:
//!
//! | octets | |
//! | --- | --- |
//! | 8 | `MLSPOOL1` |
//! | 16 | the mark: random bytes, the same in both files |
//! | 4 | sum of the above |
//!
//! A mail is:
//!
//! | octets | |
//! | --- | --- |
//! | 16 | the mark |
//! | 4, 4 | octets of head and content |
//! | 4, 4 | sums of head and content |
//! | 4 | sum of the above |
//! | | the head: JSON, see [`entry::Head`]; blanks may follow |
//! | | the content as it was received |
//!
//! An outcome is:
//!
//! | octets | |
//! | --- | --- |
//! | 4 | the first bytes of the mark |
//! | 4 | octets of what it says |
//! | 4 | sum of that number and of what it says |
//! | 1 | kind: 1 delivered, 2 deferred, 3 dead, 4 discarded, 5 moved, 6 unreadable |
//! | 8, 2 | where the mail begins in `N.mails`, and which of its destinations |
//! | 8 | of a deferred one: when it is due, in milliseconds since 1970 |
//! | 4, 8, 2, rest | of each failure, the newest first: how many there were by then; when, in milliseconds since 1970; octets of the reason, or 65,535 for that of the failure before; the reason |
//!
//! Where an entry is damaged the reader goes on at the next mark. The mark is random so that no mail
//! can hold one: nothing that was sent is ever taken for an entry.

pub mod backlog;
pub mod bulk;
pub mod clock;
pub mod control;
pub mod dead;
pub mod disk;
pub mod entry;
pub mod lane;
pub mod outcomes;
pub mod pace;
pub mod part;
pub mod segment;
pub mod selector;
pub mod store;
pub mod survey;
pub mod writer;

/// Where the log says what happens to the files of a spool.
pub const LOG_TARGET: &str = "mail_laser::spool";

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod model;
