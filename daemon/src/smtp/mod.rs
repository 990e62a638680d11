//! The SMTP side: it receives mail for known recipients, and does nothing else.
//!
//! # Standards
//! RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 2920 (PIPELINING), RFC 6152 (8BITMIME), RFC 3030
//! (CHUNKING, BINARYMIME), RFC 6531 (SMTPUTF8), RFC 3207 (STARTTLS), RFC 8314 (TLS from the first
//! byte), RFC 2034 and RFC 3463 (enhanced status codes). Lines end with CRLF and nothing else (RFC 5321 section
//! 2.3.8): a bare CR or LF never ends a command, a line of content or a mail.
//!
//! # Trust
//! Nothing that a client sends is trusted. [`limits`] bounds what a session may ask for,
//! [`connections`] how many there are, and the memory budget what they hold together. A quota bounds what the transfers
//! of one client hold, [`rate`] for how long, and [`transfers`] ends the slowest ones when there is too little for others.
//! A panic in a session ends that session alone.
//!
//! # Shape
//! [`mod@line`], [`data`], [`command`], [`reply`] and [`protocol`] are pure; `session` moves bytes
//! between them and a socket, and `listener` makes sessions of connections.

pub mod command;
pub mod connections;
mod content;
pub mod data;
pub mod limits;
pub mod line;
pub mod listener;
pub mod protocol;
pub mod proxy;
pub mod rate;
pub mod reply;
pub mod session;
pub mod trace;
pub mod transfers;
