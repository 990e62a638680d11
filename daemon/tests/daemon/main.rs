//! The real binary over real sockets: what it says on the wire, what the webhook gets, what it
//! logs, and how it ends.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod breaker;
mod configuration;
mod confirm;
mod delivery;
mod harness;
mod health;
mod limits;
mod proxy;
mod readme;
mod rfc3030;
mod rfc5321;
mod rfc6531;
mod shutdown;
mod tls;
