//! Routes of others at a gateway: which has which recipients, what the pods get of it, and what each is told.
//!
//! The reconciliation of a gateway evaluates all its routes and writes the table ([`program`]); what came of it wakes
//! the reconciliations of the routes, which write their statuses ([`controller`]). Decisions are pure: [`attach`],
//! [`webhook`], [`table`], [`files`], [`status`].

pub mod attach;
pub mod caches;
pub mod controller;
pub mod files;
mod maps;
pub(crate) mod program;
pub mod status;
pub mod table;
pub(crate) mod tables;
mod tell;
pub mod webhook;
