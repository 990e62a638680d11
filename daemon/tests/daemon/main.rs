//! The real binary over real sockets: what it says on the wire, what the webhook gets, what it
//! logs, and how it ends.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod attacks;
mod breaker;
mod configuration;
mod confirm;
mod crash;
mod delivery;
mod documentation;
mod harness;
mod health;
mod log;
mod proxy;
mod rfc1870;
mod rfc2034;
mod rfc2920;
mod rfc3030;
mod rfc3207;
mod rfc5321;
mod rfc6531;
mod rfc8314;
mod routes;
mod shutdown;
mod spool;
mod tls;
mod tls_clients;
