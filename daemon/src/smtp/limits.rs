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

/// Bytes a second that content has to come at. A modem of 1990 was faster.
pub const CONTENT_RATE_MIN: u64 = 100;

/// Waiting for content that costs a client nothing at first, and that bytes sent before make up for later: at the minimum
/// rate a TLS record of 16 KiB, which cannot be read before it is whole, takes 164 seconds.
pub const CONTENT_BURST: Duration = Duration::from_secs(180);

/// How long sessions wait for the content of one message, without the longest wait: what a modem of 28,800 bit/s needs for
/// a message of the default limit. RFC 5321 section 4.5.3.2.5 limits the wait for each block alone, so that content
/// without an end would hold its session for ever.
pub const CONTENT_WAIT_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// How long the content of one message may take in all, time in which it is not read included: content that comes
/// faster than it is read makes no session wait.
pub const CONTENT_TIME_MAX: Duration = Duration::from_secs(3 * 60 * 60);

/// How long a new connection, or content that comes in, waits for memory or room on disk before it is refused: slow
/// transfers that are ended for it give theirs back within milliseconds, and reading a large message takes a few hundred.
pub const ROOM_PATIENCE: Duration = Duration::from_millis(500);

/// `Received` headers of a mail: with more it goes round in circles (RFC 5321 section 6.3 asks for
/// at least 100).
pub const RECEIVED_MAX: usize = 100;
