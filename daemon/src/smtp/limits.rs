//! What one session may ask for. Each number says where it comes from.

use std::time::Duration;

/// Octets of a command line, its CRLF included.
///
/// RFC 5321 section 4.5.3.1.4 asks for 512, plus what each extension's parameters add; 2,048 is
/// what widely used servers take.
pub const COMMAND_LINE_BYTES_MAX: usize = 2_048;

/// Octets that are thrown away after an over-long command line before the session is closed.
///
/// Enough for any client that merely forgot a line end; what sends more is not a mail client.
pub const DISCARDED_BYTES_MAX: usize = 64 * 1024;

/// Recipients of one mail.
///
/// RFC 5321 section 4.5.3.1.8 asks for at least 100; 1,000 is what widely used servers take.
pub const RECIPIENTS_MAX: usize = 1_000;

/// Commands without a mail in between that neither name a recipient nor carry a mail on
/// (`NOOP`, `RSET`, `VRFY`, `HELP`, a further `EHLO`, an empty chunk).
///
/// No client needs more than a few; 100 leaves room for one that keeps its connection alive.
pub const IDLE_COMMANDS_MAX: u32 = 100;

/// Commands answered with an error (`4xx` or `5xx`) without a mail in between.
///
/// A client's mistake shows after a few; what goes on after 20 is probing.
pub const ERRORS_MAX: u32 = 20;

/// Commands without an accepted mail in between: one for each recipient of the largest mail, and as
/// many again for what else a client may try.
pub const COMMANDS_MAX: u32 = 2_000;

/// Bytes that a session counts for in the memory budget besides its mail: its task, its read
/// buffer and its replies.
pub const SESSION_BYTES: usize = 16 * 1024;

/// Bytes that one read of commands asks for: room for the longest line and for nearly every batch
/// of pipelined ones.
pub const READ_BYTES: usize = 4 * 1024;

/// Bytes that one read of a mail's content asks for; within a session's share of the budget.
pub const CONTENT_READ_BYTES: usize = 12 * 1024;

/// How long a session may go on without an accepted mail: the sum of the time-outs that RFC 5321
/// section 4.5.3.2 gives the steps of one mail.
pub const MAIL_TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// How long a shutdown waits for the next command of a client that has begun a mail.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a load balancer may take for its PROXY header, which it sends first of all.
pub const PROXY_HEADER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take. It is four short messages.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long content may come as slowly as it likes.
const CONTENT_TIME_FREE: Duration = Duration::from_secs(60);

/// Bytes a second that content has to come at, on average, after that. A modem of 1990 was faster.
const CONTENT_RATE_MIN: u64 = 100;

/// How long the content of one mail, or one of its chunks, may take in all: what a modem of 28,800
/// bit/s needs for a mail of the default limit. RFC 5321 section 4.5.3.2.5 limits the wait for each
/// block alone, so that content without an end would hold its session for ever.
pub const CONTENT_TIME_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Whether `bytes` of content in `elapsed` are so few that the client only holds the session. The longest wait for a block
/// does not count: silence has a bound of its own, and a client that pauses once, to scan the mail or because packets were
/// lost, would be sent away at every try.
#[must_use]
pub fn is_too_slow(bytes: u64, elapsed: Duration, longest_wait: Duration) -> bool {
    let counted = elapsed.saturating_sub(longest_wait);
    elapsed > CONTENT_TIME_MAX
        || counted > CONTENT_TIME_FREE && bytes < counted.as_secs().saturating_mul(CONTENT_RATE_MIN)
}

/// `Received` headers of a mail: with more it goes round in circles (RFC 5321 section 6.3 asks for
/// at least 100).
pub const RECEIVED_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_that_trickles_is_too_slow() {
        let seconds = Duration::from_secs;
        assert!(!is_too_slow(0, seconds(70), seconds(10)));
        assert!(is_too_slow(6_099, seconds(71), seconds(10)));
        assert!(!is_too_slow(6_100, seconds(71), seconds(10)));
    }

    #[test]
    fn content_ends_some_time_however_fast_it_comes() {
        assert!(!is_too_slow(u64::MAX, CONTENT_TIME_MAX, Duration::ZERO));
        assert!(is_too_slow(u64::MAX, CONTENT_TIME_MAX + Duration::from_secs(1), CONTENT_TIME_MAX));
    }
}
