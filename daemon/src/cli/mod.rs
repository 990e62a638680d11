//! Commands that are more than a call of the library.

pub(crate) mod route;
pub(crate) mod spool;
