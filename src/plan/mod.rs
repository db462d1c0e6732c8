//! From what was found to what is done: pure decisions over [`Facts`].
//!
//! [`boot`] decides how a node comes to its data; [`authority`] and [`vote`] decide who may be
//! primary. All see only data, so every case is a line in a table.

pub mod authority;
mod boot;
mod facts;
pub mod keeper;
mod memory;
pub mod rejoin;
pub mod synchronous;
pub mod vote;
pub mod witness;

pub use boot::{BootPlan, Provision, plan};
pub use facts::{Answer, ClusterFacts, Disk, Facts, Peer};
pub use memory::{Member, Memory};
