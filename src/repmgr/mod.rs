//! repmgr's commands: their arguments, and what their ends mean.

mod clone;
mod commands;
mod error;
mod witness;

pub use clone::{SourceFacts, clone, preflight};
pub use commands::{forget_cluster, record_primary, register_primary, register_standby, repmgrd};
pub use error::RepmgrError;
pub use witness::{Door, register_witness};
