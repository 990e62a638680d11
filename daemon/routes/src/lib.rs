//! Which recipient belongs to which route: addresses, patterns, who may claim what, where mail may be posted to, the
//! table that is looked up for each recipient, and the files in which the operator gives it to the daemon.
//!
//! All of it is pure: the operator and the daemon decide alike because they decide by the same code.

pub mod address;
pub mod claims;
pub mod files;
pub mod grant;
pub mod pattern;
pub mod reach;
pub mod roots;
pub mod table;

#[cfg(test)]
mod oracle;
