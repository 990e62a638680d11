//! MailLaser's daemon: mail comes in over SMTP, a webhook gets it as JSON.
//!
//! [`config`] parses the environment once. [`server::Daemon`] binds the ports and serves them
//! until it is told to stop. Between them, [`smtp`] receives a mail, [`routes`] knows where its
//! recipients belong, [`delivery`] decides when its sender is answered, and [`webhook`] posts it.
//! `smtp` and `webhook` do not know each other.

pub use mail_laser_routes::address;

pub mod config;
pub mod crypto;
pub mod delivery;
pub mod health;
mod http;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod quota;
pub mod routes;
pub mod runtime;
pub mod server;
pub mod smtp;
pub mod spool;
mod supervise;
pub mod tls;
mod turn;
pub mod webhook;
