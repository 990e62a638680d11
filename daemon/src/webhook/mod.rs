//! Mail to HTTP: what the request says, when it is tried again, and when it is not tried at all.
//!
//! Everything that decides is pure: [`payload`], [`outcome`], [`problem`], [`retry`] and [`breaker`]. The
//! [`client`] makes one attempt; a [`destination`] puts them together.

mod allowance;
pub mod breaker;
pub mod client;
mod connector;
pub mod connectors;
pub mod destination;
pub mod outcome;
pub mod payload;
mod pool;
pub mod problem;
mod resolver;
pub mod retry;
pub mod share;
mod signature;
mod timely;

pub use connector::TlsError;

/// The target of every log record about deliveries.
pub const LOG_TARGET: &str = "mail_laser::webhook";
