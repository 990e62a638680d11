//! What one session may ask for. Each number says where it comes from.

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
/// (`NOOP`, `RSET`, `VRFY`, `HELP`, a further `EHLO`).
///
/// No client needs more than a few; 100 leaves room for one that keeps its connection alive.
pub const IDLE_COMMANDS_MAX: u32 = 100;

/// Commands answered with an error (`4xx` or `5xx`) without a mail in between.
///
/// A client's mistake shows after a few; what goes on after 20 is probing.
pub const ERRORS_MAX: u32 = 20;

/// Commands in one session.
///
/// At ten commands a mail, 100,000 mails: far beyond what a client sends before it reconnects,
/// and a bound on what one connection can ask for.
pub const COMMANDS_MAX: u32 = 1_000_000;

/// Bytes that a session counts for in the memory budget besides its mail: its task, its read
/// buffer and its replies.
pub const SESSION_BYTES: usize = 16 * 1024;

/// Bytes that one read of commands asks for: room for the longest line and for nearly every batch
/// of pipelined ones.
pub const READ_BYTES: usize = 4 * 1024;

/// Bytes that one read of a mail's content asks for; within a session's share of the budget.
pub const CONTENT_READ_BYTES: usize = 12 * 1024;
