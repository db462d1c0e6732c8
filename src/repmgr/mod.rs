//! repmgr's commands: their arguments, and what their ends mean.

mod clone;
mod commands;
mod error;

pub use clone::{SourceFacts, clone, preflight};
pub use commands::{register_primary, register_standby, repmgrd};
pub use error::RepmgrError;
