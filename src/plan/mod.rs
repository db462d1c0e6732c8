//! From what was found to what is done: pure decisions over [`Facts`].
//!
//! [`boot`] decides how a node comes to its data; [`authority`] decides who may be primary. Both
//! see only data, so every case is a line in a table.

pub mod authority;
mod boot;
mod facts;
mod memory;

pub use boot::{BootPlan, Provision, plan};
pub use facts::{Answer, ClusterFacts, Disk, Facts, Peer};
pub use memory::{Member, Memory};
