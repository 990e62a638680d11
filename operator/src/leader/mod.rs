//! Which of several operators leads, and that no other writes.
//!
//! [`lease`] decides from what was seen of the Lease, [`election`] asks for it, renews and releases it, [`fence`] makes the
//! client of a term, and [`rights`] asks whether one who stands by could read what a leader does.

pub mod election;
pub mod fence;
pub mod lease;
pub(crate) mod rights;
