//! The protocol that checks that backups work from end to end (`pgnode doctor`), and drills: backups
//! restored to prove them (`pgnode drill`).
//!
//! What is seen is gathered at the edge ([`facts`] is data); what it means is judged by pure functions;
//! what is said comes from one table ([`ailments`]), which the document is made from as well.

pub mod ailments;
mod bucket;
mod cluster;
mod document;
pub mod drill;
mod examine;
pub mod facts;
mod finding;
mod full;
mod gather;
pub mod judge;
mod keeper;
mod marker;
mod passwords;
mod round;
mod ssh;

pub use cluster::UnknownServer;
pub use document::document;
pub use examine::{Doctor, Order, examine};
pub use finding::{Diagnosis, Finding, STEPS, Verdict};
